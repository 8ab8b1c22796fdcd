//! The newest sequence of each stream: a cache, bounded in bytes, of 16 bytes a stream.
//!
//! A table of sets of eight places, as caches of processors are built: a stream stands in the emptier
//! of two sets (Azar et al., STOC '94), and its place there moves to the front when it is asked for.
//! What comes in does not begin at the front, so that many streams met once do not put out those met
//! again and again (insertion policies: Qureshi et al., ISCA '07). The table is cut into shards that
//! grow one by one: no growth holds up an append for long, and hardly more than the bound is ever
//! allocated.
//!
//! Streams are told apart by 64 bits of a keyed hash and 24 of another one.

use super::hash::StreamKey;
use crate::primitives::{Mutex, MutexGuard};

/// Places a set.
const WAYS: usize = 8;
/// Shards, a power of two.
const SHARD_BITS: u32 = 6;
/// Above this, the head of a stream is not remembered.
const MAX_SEQUENCE: u64 = (1 << 40) - 1;

/// The cache. What is published stands here; a group being committed keeps its own notes.
pub(crate) struct Heads {
    shards: Mutex<Box<[Shard]>>,
}

impl Heads {
    /// A cache of at most `bytes`, empty.
    pub(crate) fn new(bytes: usize) -> Self {
        let most_sets = (bytes >> SHARD_BITS) / size_of::<Set>();
        let shard = || Shard {
            sets: Vec::new(),
            used: 0,
            most_sets: most_sets.max(1),
        };
        let shards = (0..1 << SHARD_BITS).map(|_| shard()).collect();
        Self {
            shards: Mutex::new(shards),
        }
    }

    /// The newest sequence of the stream, when it is known.
    pub(crate) fn get(&self, key: &StreamKey) -> Option<u64> {
        self.publishing().get(key)
    }

    /// Remembers what was read from the index.
    pub(crate) fn insert(&self, key: &StreamKey, sequence: u64) {
        let mut heads = self.publishing();
        heads.shard(key).insert(key, sequence, WAYS / 2);
    }

    /// To note what is published, under one lock.
    pub(crate) fn publishing(&self) -> Publishing<'_> {
        Publishing(self.shards.lock())
    }
}

/// Notes published events; see [`Heads::publishing`].
pub(crate) struct Publishing<'a>(MutexGuard<'a, Box<[Shard]>>);

impl Publishing<'_> {
    fn shard(&mut self, key: &StreamKey) -> &mut Shard {
        // There are as many shards as these bits count.
        &mut self.0[(spread(key.hash) >> (u64::BITS - SHARD_BITS)) as usize]
    }

    fn get(&mut self, key: &StreamKey) -> Option<u64> {
        let place = self.shard(key).find(key)?;
        Some(place.sequence())
    }

    /// The stream, whose newest sequence was `before`, ends at `now`.
    pub(crate) fn note(&mut self, key: &StreamKey, before: u64, now: u64) {
        let shard = self.shard(key);
        match shard.find(key) {
            Some(place) if place.sequence() == before && now <= MAX_SEQUENCE => {
                *place = Place::new(key, now);
            }
            // Whatever stands there is not the stream's past: it is read again when it is needed.
            Some(_) => shard.remove(key),
            None if before == 0 => shard.insert(key, now, WAYS - 1),
            None => {}
        }
    }
}

/// A stream and its newest sequence.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Place {
    hash: u64,
    /// 24 bits of the other hash, then the sequence; sequence 0 when there is none.
    rest: u64,
}

impl Place {
    const EMPTY: Self = Self { hash: 0, rest: 0 };

    fn new(key: &StreamKey, sequence: u64) -> Self {
        Self {
            hash: key.hash,
            rest: key.check << 40 | sequence,
        }
    }

    fn sequence(&self) -> u64 {
        self.rest & MAX_SEQUENCE
    }

    fn is_of(&self, key: &StreamKey) -> bool {
        self.hash == key.hash && (self.rest ^ key.check << 40) >> 40 == 0 && self.sequence() > 0
    }
}

/// The places of the streams that fall together, most recently asked for first.
type Set = [Place; WAYS];

struct Shard {
    sets: Vec<Set>,
    used: usize,
    most_sets: usize,
}

impl Shard {
    /// The two sets that a stream may stand in.
    fn sets_of(&self, hash: u64) -> [usize; 2] {
        let count = self.sets.len() as u128;
        // The bits below those of the shard, over however many sets there are.
        [spread(hash) << SHARD_BITS, respread(hash)].map(|bits| {
            let share = u128::from(bits) * count;
            usize::try_from(share >> u64::BITS).unwrap_or(usize::MAX)
        })
    }

    fn find(&mut self, key: &StreamKey) -> Option<&mut Place> {
        let of_key = |set: &Set| set.iter().position(|place| place.is_of(key));
        let (set, at) = self
            .sets_of(key.hash)
            .into_iter()
            .find_map(|set| Some((set, of_key(self.sets.get(set)?)?)))?;
        let set = self.sets.get_mut(set)?;
        if let Some(before) = set.get_mut(..=at) {
            before.rotate_right(1);
        }
        set.first_mut()
    }

    fn remove(&mut self, key: &StreamKey) {
        if let Some(place) = self.find(key) {
            *place = Place::EMPTY;
            self.used -= 1;
        }
    }

    /// Puts a stream behind `ahead` others of its set, if there are as many.
    fn insert(&mut self, key: &StreamKey, sequence: u64, ahead: usize) {
        if sequence == 0 || sequence > MAX_SEQUENCE {
            return;
        }
        if let Some(place) = self.find(key) {
            *place = Place::new(key, sequence);
            return;
        }
        let mut free = self.emptier(key.hash);
        while free.is_none_or(|(_, free)| free == 0) && self.grow() {
            free = self.emptier(key.hash);
        }
        let Some((set, free)) = free else { return };
        let Some(set) = self.sets.get_mut(set) else {
            return;
        };
        let empty = set.iter().position(|place| *place == Place::EMPTY);
        let last = empty.unwrap_or(WAYS - 1);
        if let Some(behind) = set.get_mut(ahead.min(last)..=last) {
            behind.rotate_right(1);
            if let Some(place) = behind.first_mut() {
                *place = Place::new(key, sequence);
            }
        }
        if free > 0 {
            self.used += 1;
        }
    }

    /// Of the two sets the one with more free places, and how many it has.
    fn emptier(&self, hash: u64) -> Option<(usize, usize)> {
        let free = |set: &usize| {
            let places = self.sets.get(*set).into_iter().flatten();
            places.filter(|place| **place == Place::EMPTY).count()
        };
        let [one, other] = self.sets_of(hash).map(|set| (set, free(&set)));
        let emptier = if other.1 > one.1 { other } else { one };
        (!self.sets.is_empty()).then_some(emptier)
    }

    /// Makes the shard larger where it is half full; `false` when it is to stay as it is.
    fn grow(&mut self) -> bool {
        let sets = self.sets.len();
        if sets == self.most_sets || self.used * 2 < sets * WAYS {
            return false;
        }
        let more = (sets * 2).clamp(1, self.most_sets);
        let before = std::mem::replace(&mut self.sets, vec![[Place::EMPTY; WAYS]; more]);
        self.used = 0;
        for place in before.as_flattened() {
            let set = self
                .emptier(place.hash)
                .and_then(|(set, _)| self.sets.get_mut(set));
            let free = set.and_then(|set| set.iter_mut().find(|place| **place == Place::EMPTY));
            if let (Some(free), true) = (free, *place != Place::EMPTY) {
                *free = *place;
                self.used += 1;
            }
        }
        true
    }
}

/// Hashes that tests cut short differ in their lowest bits alone.
fn spread(hash: u64) -> u64 {
    hash.wrapping_mul(0x9E37_79B9_7F4A_7C15)
}

/// The same in another way.
fn respread(hash: u64) -> u64 {
    (hash ^ hash >> 32).wrapping_mul(0xD6E8_FEB8_6659_FD93)
}

#[cfg(test)]
#[cfg(not(feature = "shuttle"))]
mod tests {
    use std::collections::HashMap;

    use super::*;
    use proptest::prelude::*;

    fn key(number: u64) -> StreamKey {
        StreamKey {
            hash: number,
            check: number,
        }
    }

    fn known(heads: &Heads, streams: u64) -> usize {
        (1..=streams)
            .filter(|number| heads.get(&key(*number)) == Some(*number))
            .count()
    }

    #[test]
    fn as_many_streams_as_the_bytes_allow_are_remembered() {
        let bytes: usize = 1 << 20;
        let places = (bytes / 16) as u64;
        let heads = Heads::new(bytes);
        for number in 1..=places {
            heads.publishing().note(&key(number), 0, number);
        }
        let shards = heads.shards.lock();
        let sets: usize = shards.iter().map(|shard| shard.sets.len()).sum();
        drop(shards);
        assert!(sets * size_of::<Set>() <= bytes);
        assert!(known(&heads, places) > bytes / 16 / 100 * 95);
    }

    #[test]
    fn streams_that_are_asked_for_outlive_many_that_are_not() {
        let heads = Heads::new(1 << 14);
        for number in 1..=128 {
            heads.insert(&key(number), number);
        }
        for number in 1..=128 {
            heads.get(&key(number));
        }
        let before = known(&heads, 128);
        for number in 1_000..100_000 {
            heads.publishing().note(&key(number), 0, number);
        }
        assert!(known(&heads, 128) * 10 > before * 8);
    }

    #[test]
    fn streams_of_equal_hash_are_told_apart() {
        let heads = Heads::new(1 << 14);
        let (one, other) = (
            StreamKey { hash: 1, check: 1 },
            StreamKey { hash: 1, check: 2 },
        );
        heads.insert(&one, 10);
        assert_eq!(heads.get(&other), None);
        heads.insert(&other, 20);
        assert_eq!((heads.get(&one), heads.get(&other)), (Some(10), Some(20)));
    }

    #[test]
    fn a_sequence_that_does_not_fit_is_not_remembered() {
        let heads = Heads::new(1 << 14);
        heads.insert(&key(1), MAX_SEQUENCE + 1);
        assert_eq!(heads.get(&key(1)), None);
        heads.insert(&key(1), MAX_SEQUENCE);
        assert_eq!(heads.get(&key(1)), Some(MAX_SEQUENCE));
        heads
            .publishing()
            .note(&key(1), MAX_SEQUENCE, MAX_SEQUENCE + 1);
        assert_eq!(heads.get(&key(1)), None);
        heads.publishing().note(&key(2), 0, MAX_SEQUENCE + 1);
        assert_eq!(heads.get(&key(2)), None);
    }

    proptest! {
        /// However small the cache, it knows the newest sequence or nothing.
        #[test]
        fn what_is_remembered_is_the_newest(
            bytes in 0_usize..40_000,
            steps in proptest::collection::vec((0_u64..400, 0_u8..4), 1..2_000),
        ) {
            let heads = Heads::new(bytes);
            let mut newest: HashMap<u64, u64> = HashMap::new();
            for (number, step) in steps {
                let stream = key(number.wrapping_mul(0x1234_5678_9abc_def1));
                let now = newest.entry(number).or_default();
                match step {
                    0 => heads.insert(&stream, *now),
                    1 => {
                        heads.publishing().note(&stream, *now, *now + 1);
                        *now += 1;
                    }
                    // An entry that is not of now is no past.
                    2 => {
                        heads.publishing().note(&stream, *now + 1, *now + 2);
                        if *now > 0 {
                            prop_assert_eq!(heads.get(&stream), None);
                        } else {
                            *now = heads.get(&stream).unwrap_or_default();
                        }
                    }
                    _ => {}
                }
                if let Some(known) = heads.get(&stream) {
                    prop_assert_eq!(known, *now);
                }
            }
        }
    }
}
