//! How a payload is encoded.

use std::fmt;
use std::sync::Arc;

use crate::error::Error;

/// The encoding of one payload, kept in its envelope, so that reading never guesses.
///
/// ```
/// use tidelog_core::ContentType;
/// assert_eq!(ContentType::Json.as_str(), "application/json");
/// assert_eq!(ContentType::parse("application/json")?, ContentType::Json);
/// # Ok::<(), tidelog_core::Error>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ContentType {
    /// `application/postcard`: compact and fast, not self-describing; the default.
    #[default]
    Postcard,
    /// `application/json`: readable by anything.
    Json,
    /// `application/octet-stream`: bytes that only the caller understands.
    Bytes,
    /// Anything else, by its media type; made by [`ContentType::parse`].
    Other(Arc<str>),
}

impl ContentType {
    /// Most bytes of a media type.
    pub const MAX_BYTES: usize = 128;

    /// The content type with this media type.
    ///
    /// # Errors
    /// [`Error::InvalidInput`] when it is empty or holds a control character, [`Error::TooLarge`]
    /// above 128 bytes.
    pub fn parse(media_type: &str) -> Result<Self, Error> {
        if media_type.is_empty() || media_type.chars().any(char::is_control) {
            let reason = "it must be a media type such as application/json";
            return Err(Error::invalid(
                "content type",
                media_type.escape_debug(),
                reason,
            ));
        }
        if media_type.len() > Self::MAX_BYTES {
            return Err(Error::too_large(
                "content type",
                media_type.len(),
                Self::MAX_BYTES,
            ));
        }
        Ok([Self::Postcard, Self::Json, Self::Bytes]
            .into_iter()
            .find(|known| known.as_str() == media_type)
            .unwrap_or_else(|| Self::Other(media_type.into())))
    }

    /// The media type.
    pub fn as_str(&self) -> &str {
        match self {
            Self::Postcard => "application/postcard",
            Self::Json => "application/json",
            Self::Bytes => "application/octet-stream",
            Self::Other(media_type) => media_type,
        }
    }
}

impl fmt::Display for ContentType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
