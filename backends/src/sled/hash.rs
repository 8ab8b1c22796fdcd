//! Hashes of stream names and event ids, keyed by a secret of the store so that nobody outside can
//! aim for collisions. SipHash-1-3 (Aumasson and Bernstein, 2012).

use std::hash::Hasher;

use siphasher::sip::SipHasher13;
use tidelog_core::{EventId, StreamId};

/// An id of version 7 as a number: ids made later are above those made before, as far as the clocks
/// that made them agree. `None` for any other id.
pub(crate) fn in_time_order(id: &EventId) -> Option<u128> {
    let number = u128::from_be_bytes(*id.as_bytes());
    (number >> 76 & 0xf == 7).then_some(number)
}

/// What a stream is known by in memory: two hashes of its name, so that the name need not stand there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct StreamKey {
    /// As on disk.
    pub hash: u64,
    pub check: u64,
}

/// The store's keyed hash.
#[derive(Clone, Copy)]
pub(crate) struct NameHash {
    hasher: SipHasher13,
    checker: SipHasher13,
    mask: u64,
}

impl NameHash {
    /// `bits` below 64 cuts stream hashes short, for tests that want collisions.
    pub(crate) fn new(key: &[u8; 16], bits: u32) -> Self {
        let mask = if bits >= 64 {
            u64::MAX
        } else {
            (1 << bits) - 1
        };
        Self {
            hasher: SipHasher13::new_with_key(key),
            checker: SipHasher13::new_with_key(&key.map(|byte| !byte)),
            mask,
        }
    }

    pub(crate) fn key(&self, stream: &StreamId) -> StreamKey {
        let mut checker = self.checker;
        checker.write(stream.as_str().as_bytes());
        StreamKey {
            hash: self.stream(stream),
            check: checker.finish(),
        }
    }

    pub(crate) fn stream(&self, stream: &StreamId) -> u64 {
        let mut hasher = self.hasher;
        hasher.write(stream.as_str().as_bytes());
        hasher.finish() & self.mask
    }

    pub(crate) fn fingerprint(&self, id: &EventId) -> u32 {
        let mut hasher = self.hasher;
        hasher.write(id.as_bytes());
        #[allow(clippy::cast_possible_truncation, reason = "the low half is meant")]
        {
            hasher.finish() as u32
        }
    }
}
