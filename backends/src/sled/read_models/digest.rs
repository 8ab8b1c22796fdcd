//! One number over all entries of a slot, in whatever order they come and go.

use crate::sled::index::RowChange;

/// What one entry adds to the digest of its slot: 128 bits of a BLAKE3 hash of it.
fn term(key: &[u8], value: &[u8]) -> u128 {
    let mut hasher = blake3::Hasher::new();
    // Keys have at most 2 KiB and a few bytes.
    hasher.update(&u32::try_from(key.len()).unwrap_or(u32::MAX).to_le_bytes());
    hasher.update(key);
    hasher.update(value);
    let hash = hasher.finalize();
    hash.as_bytes()
        .first_chunk()
        .map_or(0, |low| u128::from_le_bytes(*low))
}

/// The sum of the terms of some entries, and of what they begin with, which is the store's and the
/// model's own: what another store or model has written adds up there alone. It guards against accidents; who may write to the store can make any
/// sum.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Digest(pub u128);

impl Digest {
    /// Of an empty slot of `model`, where this is the store's own number. No entry has an empty key.
    pub(super) fn of(mut self, model: &str) -> Self {
        self.add(&[], model.as_bytes());
        self
    }

    pub(super) fn add(&mut self, key: &[u8], value: &[u8]) {
        self.0 = self.0.wrapping_add(term(key, value));
    }

    pub(super) fn remove(&mut self, key: &[u8], value: &[u8]) {
        self.0 = self.0.wrapping_sub(term(key, value));
    }

    pub(super) fn add_all(&mut self, put: &[RowChange]) {
        for (key, value) in put {
            if let Some(value) = value {
                self.add(key, value);
            }
        }
    }
}
