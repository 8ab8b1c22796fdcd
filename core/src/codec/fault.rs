//! Why a value could not be encoded or decoded, with the words that serde hands over.

use std::fmt;

/// How deeply one payload may be nested: more than any sane event, less than what a damaged one
/// needs to exhaust the stack.
pub(super) const MAX_DEPTH: u8 = 127;

/// The error of this module's serializers. postcard's own drops all messages.
#[derive(Debug)]
pub(super) struct Fault(String);

impl Fault {
    pub(super) fn new(reason: impl fmt::Display) -> Self {
        Self(reason.to_string())
    }

    pub(super) fn too_deep() -> Self {
        Self(format!(
            "it is nested more than {MAX_DEPTH} deep; make it flatter"
        ))
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Fault {}

impl serde::ser::Error for Fault {
    fn custom<T: fmt::Display>(reason: T) -> Self {
        Self::new(reason)
    }
}

impl serde::de::Error for Fault {
    fn custom<T: fmt::Display>(reason: T) -> Self {
        Self::new(reason)
    }
}

impl From<postcard::Error> for Fault {
    fn from(error: postcard::Error) -> Self {
        Self::new(error)
    }
}

impl From<serde_json::Error> for Fault {
    fn from(error: serde_json::Error) -> Self {
        Self::new(error)
    }
}
