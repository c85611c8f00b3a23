//! What is said on the wire: the dialects, their endpoints, and how requests and answers are read and edited.

pub mod json;
