//! Headers of a message, one after the other in one buffer.

use std::fmt::{self, Write};

use uuid::Uuid;

/// The headers of one message, in the order in which they were put in. Cleared and filled again, it
/// allocates nothing.
///
/// ```
/// use tidelog_core::cloudevents::Headers;
/// let mut headers = Headers::default();
/// headers.put("ce_specversion", b"1.0");
/// headers.write("ce_sequence", 7);
/// assert_eq!(headers.iter().last(), Some(("ce_sequence", &b"7"[..])));
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Headers {
    bytes: Vec<u8>,
    ends: Vec<(&'static str, usize)>,
}

impl Headers {
    /// Adds one as it is.
    pub fn put(&mut self, name: &'static str, value: &[u8]) {
        self.bytes.extend_from_slice(value);
        self.ends.push((name, self.bytes.len()));
    }

    /// Adds one by its text.
    pub fn write(&mut self, name: &'static str, value: impl fmt::Display) {
        struct Text<'a>(&'a mut Vec<u8>);
        impl Write for Text<'_> {
            fn write_str(&mut self, text: &str) -> fmt::Result {
                self.0.extend_from_slice(text.as_bytes());
                Ok(())
            }
        }
        // Writing into memory does not fail; a `Display` that does leaves what it wrote.
        let _ = write!(Text(&mut self.bytes), "{value}");
        self.ends.push((name, self.bytes.len()));
    }

    /// Adds a number by its digits.
    pub(super) fn number(&mut self, name: &'static str, number: impl itoa::Integer) {
        let mut digits = itoa::Buffer::new();
        self.put(name, digits.format(number).as_bytes());
    }

    /// Adds a UUID by its text, with `before` in front of it.
    pub(super) fn uuid(&mut self, name: &'static str, before: &str, uuid: &Uuid) {
        self.bytes.extend_from_slice(before.as_bytes());
        let mut text = Uuid::encode_buffer();
        self.put(name, uuid.hyphenated().encode_lower(&mut text).as_bytes());
    }

    /// Takes all out, and keeps the room.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.ends.clear();
    }

    /// All of them, in order.
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, &[u8])> {
        let begins = std::iter::once(0).chain(self.ends.iter().map(|&(_, end)| end));
        begins
            .zip(&self.ends)
            .map(|(begin, &(name, end))| (name, &self.bytes[begin..end]))
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// Bytes of all names and values.
    pub fn bytes(&self) -> usize {
        self.bytes.len() + self.ends.iter().map(|(name, _)| name.len()).sum::<usize>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_come_out_as_they_went_in_and_again_after_clearing() {
        let mut headers = Headers::default();
        headers.put("a", b"\xff\0");
        headers.put("b", b"");
        headers.write("a", format_args!("{}-{}", 1, "x"));
        let all: Vec<_> = headers.iter().collect();
        assert_eq!(all, [("a", &b"\xff\0"[..]), ("b", b""), ("a", b"1-x")]);
        assert_eq!((headers.len(), headers.bytes()), (3, 8));

        headers.clear();
        assert!(headers.is_empty());
        let uuid = Uuid::from_u128(0xab << 120);
        headers.uuid("u", "urn:uuid:", &uuid);
        headers.number("n", -17_i64);
        let all: Vec<_> = headers.iter().collect();
        let urn = format!("urn:uuid:{uuid}");
        assert_eq!(all, [("u", urn.as_bytes()), ("n", &b"-17"[..])]);

        headers.clear();
        headers.put("c", b"3");
        assert_eq!(headers.iter().collect::<Vec<_>>(), [("c", &b"3"[..])]);
    }
}
