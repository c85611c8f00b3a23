//! Where a value stands in its document.

use std::fmt;

use crate::error::{Error, ErrorKind};

/// Where a value stands in its document; written, as `messages[3].content`, only when something is wrong there.
#[derive(Clone, Copy, Debug, Default)]
pub(super) enum Place<'p> {
    /// The document itself.
    #[default]
    Document,
    /// A member of an object.
    Member(&'p Self, &'p str),
    /// An element of a list.
    Element(&'p Self, usize),
    /// An element of a list that is a member.
    ElementOf(&'p Self, &'p str, usize),
}

impl Place<'_> {
    /// An error about what stands here, which goes on after its name: `must be …`.
    pub(super) fn error(&self, message: &str) -> Error {
        match self {
            Self::Document => Error::new(ErrorKind::InvalidRequest, format!("request {message}")),
            _ => {
                let place = self.to_string();
                let message = format!("`{place}` {message}");
                Error::invalid(place, message)
            }
        }
    }
}

impl fmt::Display for Place<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Document => Ok(()),
            Self::Member(Place::Document, name) => formatter.write_str(name),
            Self::Member(above, name) => write!(formatter, "{above}.{name}"),
            Self::Element(above, index) => write!(formatter, "{above}[{index}]"),
            Self::ElementOf(Place::Document, name, index) => write!(formatter, "{name}[{index}]"),
            Self::ElementOf(above, name, index) => write!(formatter, "{above}.{name}[{index}]"),
        }
    }
}
