//! What the paths of Google's endpoints say of a request.

/// What the paths of Google's endpoints say that the bodies of the others do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InPath {
    /// The model, decoded.
    pub model: String,
    /// Whether the answer is to be streamed.
    pub is_stream: bool,
}
