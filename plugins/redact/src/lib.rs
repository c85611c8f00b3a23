//! Masks or refuses personal data and secrets.
mod masker;
mod pattern;
mod regex;
mod window;
