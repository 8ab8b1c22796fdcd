//! The name of a stream: aggregate type and aggregate id.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use arrayvec::ArrayString;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::error::Error;

/// Aggregate type and aggregate id: the name of one stream, shown `BankAccount/acc-1`.
///
/// The type has 1 to 64 bytes, the id 1 to 256 bytes of UTF-8; no control characters, no `/` in the
/// type (the id may hold some). Names are compared as bytes and never normalized: two names that
/// look alike are two streams. Types that begin with `$` are the library's own. Cloning is cheap:
/// names of up to [`MAX_INLINE_BYTES`](Self::MAX_INLINE_BYTES) are copied, longer ones are shared.
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
pub struct StreamId(Name);

// Reading a log meets another stream with nearly every record. A shared name there costs a search
// for it and two visits to its count, each a miss of the processor's cache.
#[derive(Clone)]
enum Name {
    Inline {
        type_len: u8,
        text: ArrayString<{ StreamId::MAX_INLINE_BYTES }>,
    },
    Shared {
        type_len: u8,
        text: Arc<str>,
    },
}

impl StreamId {
    /// Most bytes of an aggregate type.
    pub const MAX_TYPE_BYTES: usize = 64;
    /// Most bytes of an aggregate id.
    pub const MAX_ID_BYTES: usize = 256;
    /// Most bytes of type, `/` and id that stand in the `StreamId` itself: room for a type of 19
    /// bytes and a UUID. Longer names are allocated and shared.
    pub const MAX_INLINE_BYTES: usize = 56;

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
        Ok(Self::joined(aggregate_type, aggregate_id))
    }

    /// The stream of another aggregate of the same type.
    ///
    /// # Errors
    /// As [`new`](Self::new), for the id.
    ///
    /// ```
    /// use tidelog_core::StreamId;
    /// let stream = StreamId::new("BankAccount", "acc-1")?;
    /// assert_eq!(stream.sibling("acc-2")?.as_str(), "BankAccount/acc-2");
    /// assert!(stream.sibling("").is_err());
    /// # Ok::<(), tidelog_core::Error>(())
    /// ```
    #[inline]
    pub fn sibling(&self, aggregate_id: &str) -> Result<Self, Error> {
        let mut sibling = self.clone();
        sibling.set_aggregate_id(aggregate_id)?;
        Ok(sibling)
    }

    /// Makes it the stream of another aggregate of the same type, in place; unchanged on an error.
    ///
    /// # Errors
    /// As [`new`](Self::new), for the id.
    ///
    /// ```
    /// use tidelog_core::StreamId;
    /// let mut stream = StreamId::new("BankAccount", "acc-1")?;
    /// stream.set_aggregate_id("acc-2")?;
    /// assert_eq!(stream.as_str(), "BankAccount/acc-2");
    /// assert!(stream.set_aggregate_id("").is_err());
    /// # Ok::<(), tidelog_core::Error>(())
    /// ```
    #[inline]
    pub fn set_aggregate_id(&mut self, aggregate_id: &str) -> Result<(), Error> {
        check_part("aggregate id", aggregate_id, Self::MAX_ID_BYTES)?;
        if let Name::Inline { type_len, text } = &mut self.0
            && usize::from(*type_len) + 1 + aggregate_id.len() <= Self::MAX_INLINE_BYTES
        {
            text.truncate(usize::from(*type_len) + 1);
            text.push_str(aggregate_id);
            return Ok(());
        }
        *self = Self::joined(self.aggregate_type(), aggregate_id);
        Ok(())
    }

    /// What the stream is called in an index since its events gave way to others at position `at`:
    /// no stream of a user has such a name, since ids hold no control characters.
    #[doc(hidden)]
    pub fn branch(&self, at: u64) -> Self {
        let id = format!("{}\u{1}{at}", self.aggregate_id());
        Self::joined(self.aggregate_type(), &id)
    }

    #[inline]
    fn joined(aggregate_type: &str, aggregate_id: &str) -> Self {
        #[allow(
            clippy::cast_possible_truncation,
            reason = "types have at most 64 bytes"
        )]
        let type_len = aggregate_type.len() as u8;
        let mut text = ArrayString::new();
        let inline = text
            .try_push_str(aggregate_type)
            .and_then(|()| text.try_push_str("/"))
            .and_then(|()| text.try_push_str(aggregate_id));
        Self(match inline {
            Ok(()) => Name::Inline { type_len, text },
            Err(_) => Name::Shared {
                type_len,
                text: format!("{aggregate_type}/{aggregate_id}").into(),
            },
        })
    }

    /// The aggregate type, `BankAccount`.
    #[inline]
    pub fn aggregate_type(&self) -> &str {
        self.as_str().get(..self.type_len()).unwrap_or_default()
    }

    /// The aggregate id, `acc-1`.
    #[inline]
    pub fn aggregate_id(&self) -> &str {
        self.as_str().get(self.type_len() + 1..).unwrap_or_default()
    }

    /// Type, `/` and id in one text.
    #[inline]
    pub fn as_str(&self) -> &str {
        match &self.0 {
            Name::Inline { text, .. } => text,
            Name::Shared { text, .. } => text,
        }
    }

    #[inline]
    fn type_len(&self) -> usize {
        match self.0 {
            Name::Inline { type_len, .. } | Name::Shared { type_len, .. } => type_len.into(),
        }
    }

    /// Whether the library itself writes this stream (its type begins with `$`).
    pub fn is_reserved(&self) -> bool {
        self.as_str().starts_with('$')
    }
}

#[inline]
fn check_part(what: &'static str, part: &str, limit: usize) -> Result<(), Error> {
    // Most names are short and ASCII, and every record that is read has one.
    if (1..=limit).contains(&part.len()) && is_plain(part.as_bytes()) {
        return Ok(());
    }
    check_unusual(what, part, limit)
}

/// Whether all bytes are from ' ' to '~': eight at a time, the last ones twice.
#[inline]
fn is_plain(bytes: &[u8]) -> bool {
    const ONES: u64 = 0x0101_0101_0101_0101;
    const HIGH: u64 = ONES * 0x80;
    let plain = |word: [u8; 8]| {
        let word = u64::from_le_bytes(word);
        // Without a high bit in any byte no sum carries into the next one.
        word & HIGH == 0 && (word + ONES * 0x60) & HIGH == HIGH && (word + ONES) & HIGH == 0
    };
    match bytes.last_chunk() {
        Some(last) => plain(*last) && bytes.as_chunks().0.iter().all(|word| plain(*word)),
        None => bytes.iter().all(|byte| matches!(byte, b' '..=b'~')),
    }
}

#[cold]
fn check_unusual(what: &'static str, part: &str, limit: usize) -> Result<(), Error> {
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
        self.as_str() == other.as_str()
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
        self.as_str().cmp(other.as_str())
    }
}

impl std::hash::Hash for StreamId {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.as_str().hash(state);
    }
}

impl fmt::Display for StreamId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for StreamId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
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
        serializer.serialize_str(self.as_str())
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_alike_whether_they_stand_inside_or_are_shared() {
        for len in [1, 36, 54, 55, 56, 256] {
            let id = "é".repeat(len / 2) + &"x".repeat(len % 2);
            let stream = StreamId::new("T", &id).unwrap();
            let shared = 2 + len > StreamId::MAX_INLINE_BYTES;
            assert_eq!(matches!(stream.0, Name::Shared { .. }), shared, "{len}");
            assert_eq!(
                (stream.aggregate_type(), stream.aggregate_id()),
                ("T", &*id)
            );
            assert_eq!(stream.to_string(), format!("T/{id}"));
            assert_eq!(stream.to_string().parse::<StreamId>().unwrap(), stream);
            assert_eq!(
                StreamId::new("T", "other").unwrap().sibling(&id).unwrap(),
                stream
            );
        }
    }

    #[test]
    fn a_stream_takes_the_id_of_another_in_place_or_stays_as_it_was() {
        for (from, to) in [(1, 54), (54, 1), (54, 55), (55, 54), (256, 1), (1, 256)] {
            let (from, to) = ("x".repeat(from), "y".repeat(to));
            let mut stream = StreamId::new("T", &from).unwrap();
            stream.set_aggregate_id(&to).unwrap();
            assert_eq!(stream, StreamId::new("T", &to).unwrap());
            for bad in ["", "a\u{7f}", &"z".repeat(257)] {
                assert!(stream.set_aggregate_id(bad).is_err());
                assert_eq!(stream.aggregate_id(), to);
            }
        }
    }

    #[test]
    fn a_control_character_is_found_wherever_it_stands() {
        for len in 1..20 {
            for at in 0..len {
                for (found, good) in [
                    ('\0', false),
                    ('\u{1f}', false),
                    (' ', true),
                    ('~', true),
                    ('\u{7f}', false),
                    ('\u{80}', false),
                    ('\u{9f}', false),
                    ('\u{a0}', true),
                    ('é', true),
                    ('\u{10ffff}', true),
                ] {
                    let before = "a".repeat(at);
                    let id = format!("{before}{found}{}", "b".repeat(len - at - 1));
                    assert_eq!(StreamId::new("T", &id).is_ok(), good, "{id:?}");
                }
            }
        }
    }
}
