//! Keys of rows, as bytes that sort as the keys do.

use uuid::Uuid;

use crate::clock::Timestamp;
use crate::id::EventId;
use crate::stream_id::StreamId;

/// A key whose encoded bytes sort as it does, so that ranges of keys are ranges of bytes.
///
/// Implemented for texts, whole numbers, `bool`, `()`, [`Timestamp`], [`StreamId`], [`EventId`],
/// [`Uuid`], and for tuples and `Option`s of such. An encoded key has at most 1 KiB.
///
/// A type of one's own encodes its parts one after the other:
///
/// ```
/// use tidelog_core::RowKey;
///
/// #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
/// struct Month { year: u16, month: u8 }
///
/// impl RowKey for Month {
///     fn encode(&self, out: &mut Vec<u8>) {
///         (self.year, self.month).encode(out);
///     }
///     fn decode(bytes: &mut &[u8]) -> Option<Self> {
///         let (year, month) = RowKey::decode(bytes)?;
///         Some(Self { year, month })
///     }
/// }
///
/// let mut bytes = Vec::new();
/// Month { year: 1997, month: 3 }.encode(&mut bytes);
/// assert_eq!(Month::decode(&mut &bytes[..]), Some(Month { year: 1997, month: 3 }));
/// ```
pub trait RowKey: Ord + Clone + Send + Sync + 'static {
    /// Appends the bytes of this key to `out`.
    ///
    /// They must sort as keys do, be equal only for equal keys, and end by themselves: no key's
    /// bytes may be the beginning of another's.
    fn encode(&self, out: &mut Vec<u8>);

    /// Takes one key off the front of `bytes`; `None` when there is none.
    fn decode(bytes: &mut &[u8]) -> Option<Self>;
}

/// Most bytes of an encoded key.
pub(crate) const MAX_KEY_BYTES: usize = 1 << 10;

/// The bytes of `key`.
pub(crate) fn encoded<K: RowKey>(key: &K) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(32);
    key.encode(&mut bytes);
    bytes
}

/// The key that is all of `bytes`.
pub(crate) fn decoded<K: RowKey>(mut bytes: &[u8]) -> Option<K> {
    let key = K::decode(&mut bytes)?;
    bytes.is_empty().then_some(key)
}

/// The smallest bytes above all that begin with `prefix`; `None` when there are none.
pub(crate) fn after_prefix(mut prefix: Vec<u8>) -> Option<Vec<u8>> {
    while let Some(last) = prefix.pop() {
        if last < u8::MAX {
            prefix.push(last + 1);
            return Some(prefix);
        }
    }
    None
}

/// Unsigned numbers, the highest byte first.
macro_rules! unsigned {
    ($($number:ty),*) => {$(
        impl RowKey for $number {
            fn encode(&self, out: &mut Vec<u8>) {
                out.extend_from_slice(&self.to_be_bytes());
            }

            fn decode(bytes: &mut &[u8]) -> Option<Self> {
                let (number, rest) = bytes.split_first_chunk()?;
                *bytes = rest;
                Some(Self::from_be_bytes(*number))
            }
        }
    )*};
}

/// Signed numbers, with the sign turned, so that negative ones come first.
macro_rules! signed {
    ($($signed:ty as $unsigned:ty),*) => {$(
        impl RowKey for $signed {
            fn encode(&self, out: &mut Vec<u8>) {
                (self.cast_unsigned() ^ (1 << (<$unsigned>::BITS - 1))).encode(out);
            }

            fn decode(bytes: &mut &[u8]) -> Option<Self> {
                let turned = <$unsigned>::decode(bytes)?;
                Some((turned ^ (1 << (<$unsigned>::BITS - 1))).cast_signed())
            }
        }
    )*};
}

unsigned!(u8, u16, u32, u64, u128);
signed!(i8 as u8, i16 as u16, i32 as u32, i64 as u64, i128 as u128);

impl RowKey for () {
    fn encode(&self, _: &mut Vec<u8>) {}

    fn decode(_: &mut &[u8]) -> Option<Self> {
        Some(())
    }
}

impl RowKey for bool {
    fn encode(&self, out: &mut Vec<u8>) {
        out.push(u8::from(*self));
    }

    fn decode(bytes: &mut &[u8]) -> Option<Self> {
        match u8::decode(bytes)? {
            0 => Some(false),
            1 => Some(true),
            _ => None,
        }
    }
}

/// What stands for a zero byte inside a text, and what ends one.
const ZERO: [u8; 2] = [0, 0xff];
const END: [u8; 2] = [0, 0];

fn encode_text(text: &str, out: &mut Vec<u8>) {
    for byte in text.bytes() {
        match byte {
            0 => out.extend_from_slice(&ZERO),
            other => out.push(other),
        }
    }
    out.extend_from_slice(&END);
}

fn decode_text(bytes: &mut &[u8]) -> Option<String> {
    let mut text = Vec::new();
    loop {
        let zero = bytes.iter().position(|byte| *byte == 0)?;
        let (before, rest) = bytes.split_at_checked(zero)?;
        let (mark, rest) = rest.split_first_chunk::<2>()?;
        text.extend_from_slice(before);
        *bytes = rest;
        match *mark {
            END => return String::from_utf8(text).ok(),
            ZERO => text.push(0),
            _ => return None,
        }
    }
}

impl RowKey for String {
    fn encode(&self, out: &mut Vec<u8>) {
        encode_text(self, out);
    }

    fn decode(bytes: &mut &[u8]) -> Option<Self> {
        decode_text(bytes)
    }
}

impl RowKey for StreamId {
    fn encode(&self, out: &mut Vec<u8>) {
        encode_text(self.as_str(), out);
    }

    fn decode(bytes: &mut &[u8]) -> Option<Self> {
        let text = decode_text(bytes)?;
        let (aggregate_type, aggregate_id) = text.split_once('/')?;
        Self::new_reserved(aggregate_type, aggregate_id).ok()
    }
}

impl RowKey for Timestamp {
    fn encode(&self, out: &mut Vec<u8>) {
        self.as_micros().encode(out);
    }

    fn decode(bytes: &mut &[u8]) -> Option<Self> {
        i64::decode(bytes).map(Self::from_micros)
    }
}

impl RowKey for Uuid {
    fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(self.as_bytes());
    }

    fn decode(bytes: &mut &[u8]) -> Option<Self> {
        let (uuid, rest) = bytes.split_first_chunk()?;
        *bytes = rest;
        Some(Self::from_bytes(*uuid))
    }
}

impl RowKey for EventId {
    fn encode(&self, out: &mut Vec<u8>) {
        self.as_uuid().encode(out);
    }

    fn decode(bytes: &mut &[u8]) -> Option<Self> {
        Uuid::decode(bytes).map(Self::from_uuid)
    }
}

impl<K: RowKey> RowKey for Option<K> {
    fn encode(&self, out: &mut Vec<u8>) {
        match self {
            None => out.push(0),
            Some(key) => {
                out.push(1);
                key.encode(out);
            }
        }
    }

    fn decode(bytes: &mut &[u8]) -> Option<Self> {
        match u8::decode(bytes)? {
            0 => Some(None),
            1 => K::decode(bytes).map(Some),
            _ => None,
        }
    }
}

impl<A: RowKey, B: RowKey> RowKey for (A, B) {
    fn encode(&self, out: &mut Vec<u8>) {
        self.0.encode(out);
        self.1.encode(out);
    }

    fn decode(bytes: &mut &[u8]) -> Option<Self> {
        Some((A::decode(bytes)?, B::decode(bytes)?))
    }
}

impl<A: RowKey, B: RowKey, C: RowKey> RowKey for (A, B, C) {
    fn encode(&self, out: &mut Vec<u8>) {
        self.0.encode(out);
        self.1.encode(out);
        self.2.encode(out);
    }

    fn decode(bytes: &mut &[u8]) -> Option<Self> {
        Some((A::decode(bytes)?, B::decode(bytes)?, C::decode(bytes)?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_comes_after_a_prefix_is_above_all_that_begin_with_it() {
        assert_eq!(after_prefix(vec![1, 2]), Some(vec![1, 3]));
        assert_eq!(after_prefix(vec![1, 0xff, 0xff]), Some(vec![2]));
        assert_eq!(after_prefix(vec![0xff]), None);
    }

    #[test]
    fn a_key_is_all_of_its_bytes() {
        let mut bytes = encoded(&7_u32);
        assert_eq!(decoded::<u32>(&bytes), Some(7));
        bytes.push(0);
        assert_eq!(decoded::<u32>(&bytes), None);
        assert_eq!(decoded::<String>(b"no end"), None);
        assert_eq!(decoded::<String>(&[b'a', 0, 1]), None);
        assert_eq!(decoded::<bool>(&[2]), None);
        assert_eq!(decoded::<Option<u8>>(&[2, 1]), None);
    }
}
