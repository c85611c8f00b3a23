//! The first-party plugins.
