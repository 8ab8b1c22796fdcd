//! The name of a stream: aggregate type and aggregate id.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::error::Error;

/// Aggregate type and aggregate id: the name of one stream, shown `BankAccount/acc-1`.
///
/// The type has 1 to 64 bytes, the id 1 to 256 bytes of UTF-8; no control characters, no `/` in the
/// type (the id may hold some). Names are compared as bytes and never normalized: two names that
/// look alike are two streams. Types that begin with `$` are the library's own. Cloning is cheap.
///
/// ```
/// use tidelog_core::StreamId;
/// let stream = StreamId::new("BankAccount", "acc-1")?;
/// assert_eq!(stream.to_string(), "BankAccount/acc-1");
/// assert_eq!("BankAccount/acc-1".parse::<StreamId>()?, stream);
/// assert!(StreamId::new("Bank/Account", "1").is_err());
/// # Ok::<(), tidelog_core::Error>(())
/// ```
#[derive(Clone)]
pub struct StreamId {
    text: Arc<str>,
    type_len: u8,
}

impl StreamId {
    /// Most bytes of an aggregate type.
    pub const MAX_TYPE_BYTES: usize = 64;
    /// Most bytes of an aggregate id.
    pub const MAX_ID_BYTES: usize = 256;

    /// The stream of the aggregate `aggregate_id` of type `aggregate_type`.
    ///
    /// # Errors
    /// [`Error::InvalidInput`] when a part is empty or holds a forbidden character,
    /// [`Error::TooLarge`] when it is too long.
    pub fn new(aggregate_type: &str, aggregate_id: &str) -> Result<Self, Error> {
        if aggregate_type.starts_with('$') {
            return Err(Error::InvalidInput {
                what: "aggregate type",
                value: aggregate_type.into(),
                reason: "types beginning with '$' are reserved; choose another name".into(),
            });
        }
        Self::new_reserved(aggregate_type, aggregate_id)
    }

    /// Like [`new`](Self::new), but also for the library's own types, which begin with `$`: for
    /// backends that read them back.
    pub fn new_reserved(aggregate_type: &str, aggregate_id: &str) -> Result<Self, Error> {
        check_part("aggregate type", aggregate_type, Self::MAX_TYPE_BYTES)?;
        check_part("aggregate id", aggregate_id, Self::MAX_ID_BYTES)?;
        if aggregate_type.contains('/') {
            return Err(Error::InvalidInput {
                what: "aggregate type",
                value: aggregate_type.into(),
                reason: "it holds '/', which separates type and id".into(),
            });
        }
        let mut text = String::with_capacity(aggregate_type.len() + 1 + aggregate_id.len());
        text.push_str(aggregate_type);
        text.push('/');
        text.push_str(aggregate_id);
        #[allow(clippy::cast_possible_truncation, reason = "checked above: at most 64")]
        Ok(Self {
            text: text.into(),
            type_len: aggregate_type.len() as u8,
        })
    }

    /// The aggregate type, `BankAccount`.
    pub fn aggregate_type(&self) -> &str {
        self.text
            .get(..usize::from(self.type_len))
            .unwrap_or_default()
    }

    /// The aggregate id, `acc-1`.
    pub fn aggregate_id(&self) -> &str {
        self.text
            .get(usize::from(self.type_len) + 1..)
            .unwrap_or_default()
    }

    /// Type, `/` and id in one text.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Whether the library itself writes this stream (its type begins with `$`).
    pub fn is_reserved(&self) -> bool {
        self.text.starts_with('$')
    }
}

fn check_part(what: &'static str, part: &str, limit: usize) -> Result<(), Error> {
    if part.is_empty() {
        let reason = "it is empty".into();
        return Err(Error::InvalidInput {
            what,
            value: part.into(),
            reason,
        });
    }
    if part.len() > limit {
        return Err(Error::too_large(what, part.len(), limit));
    }
    if let Some(found) = part.chars().find(|c| c.is_control()) {
        let reason = format!("it holds the control character {}", found.escape_unicode()).into();
        return Err(Error::InvalidInput {
            what,
            value: part.escape_debug().to_string().into(),
            reason,
        });
    }
    Ok(())
}

// The first '/' ends the type, so equal texts have equal parts: comparing the text is enough.
impl PartialEq for StreamId {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.text, &other.text) || self.text == other.text
    }
}

impl Eq for StreamId {}

impl PartialOrd for StreamId {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for StreamId {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.text.as_bytes().cmp(other.text.as_bytes())
    }
}

impl std::hash::Hash for StreamId {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.text.hash(state);
    }
}

impl fmt::Display for StreamId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Debug for StreamId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&*self.text, f)
    }
}

impl FromStr for StreamId {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let (aggregate_type, aggregate_id) =
            text.split_once('/').ok_or_else(|| Error::InvalidInput {
                what: "stream",
                value: text.into(),
                reason: "it must be written type/id".into(),
            })?;
        Self::new(aggregate_type, aggregate_id)
    }
}

impl Serialize for StreamId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.text)
    }
}

impl<'de> Deserialize<'de> for StreamId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        // Envelopes of the library's own records must read back as well.
        let parts = text.split_once('/').ok_or_else(|| {
            serde::de::Error::custom(format!("stream {text:?} must be written type/id"))
        })?;
        Self::new_reserved(parts.0, parts.1).map_err(serde::de::Error::custom)
    }
}
