//! The newest event of each stream, and the ids of its newest events: a cache, bounded in bytes.
//!
//! Only what is published stands here; a group being committed keeps its own notes.

use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasherDefault, Hasher};

use crate::primitives::{Mutex, MutexGuard};
use quick_cache::Weighter;
use quick_cache::unsync::Cache;
use tidelog_core::StreamId;

/// Above this many events, looking through fingerprints one by one costs more than a table.
const TABLE_FROM: usize = 192;

/// In place of an event that is gone. That an event's own fingerprint may be the same costs a read.
pub(crate) const GONE: u32 = 0;

/// What is known of one stream.
pub(crate) struct Head {
    /// Sequence of its newest event; 0 when it has none.
    pub sequence: u64,
    /// The highest sequence that was ever given; above `sequence` only after a repair.
    pub floor: u64,
    recent: Recent,
    /// Whether no event of the window is missing in it.
    whole: bool,
}

impl Head {
    /// A stream whose newest events have these fingerprints, oldest first; `whole` when they are all
    /// of the window's, and not only those that are in no run.
    pub(crate) fn new(sequence: u64, fingerprints: Vec<u32>, whole: bool) -> Self {
        let mut recent = Recent {
            ring: fingerprints.into(),
            table: None,
        };
        recent.tabulate();
        Self {
            sequence,
            floor: sequence,
            recent,
            whole,
        }
    }

    /// The same stream, which may have given sequences up to `floor`.
    pub(crate) fn with_floor(mut self, floor: u64) -> Self {
        self.floor = floor;
        self
    }

    /// Whether any id of the window can be looked for; otherwise only one that is in no run.
    pub(crate) fn is_whole(&self) -> bool {
        self.whole || self.window() >= self.sequence
    }

    /// Sequences, among the newest, whose events may have this fingerprint.
    pub(crate) fn candidates(&self, fingerprint: u32) -> impl Iterator<Item = u64> + '_ {
        let oldest = self.sequence + 1 - self.recent.ring.len() as u64;
        let absent = match &self.recent.table {
            Some(table) => !table.contains_key(&fingerprint),
            None => !self.recent.ring.contains(&fingerprint),
        };
        let ring = if absent {
            None
        } else {
            Some(&self.recent.ring)
        };
        ring.into_iter()
            .flatten()
            .zip(oldest..)
            .filter_map(move |(known, sequence)| (*known == fingerprint).then_some(sequence))
    }

    /// How many of the newest events are known by their fingerprints.
    pub(crate) fn window(&self) -> u64 {
        self.recent.ring.len() as u64
    }

    fn extend(&mut self, first: u64, fingerprints: &[u32], window: usize) {
        // Sequences that were left out keep their places.
        let gone = first.saturating_sub(self.sequence + 1);
        let gone = usize::try_from(gone).unwrap_or(usize::MAX).min(window);
        if gone > 0 {
            self.recent.extend(&vec![GONE; gone], window);
        }
        self.sequence = first + fingerprints.len() as u64 - 1;
        self.floor = self.sequence;
        self.recent.extend(fingerprints, window);
        self.whole |= self.recent.ring.len() >= window;
    }

    fn bytes(&self) -> usize {
        let table = self
            .recent
            .table
            .as_ref()
            .map_or(0, |table| table.capacity() * 9);
        self.recent.ring.capacity() * 4 + table
    }
}

/// Fingerprints of a stream's newest events, oldest first.
struct Recent {
    ring: VecDeque<u32>,
    table: Option<HashMap<u32, u16, BuildHasherDefault<Identity>>>,
}

impl Recent {
    fn extend(&mut self, fingerprints: &[u32], window: usize) {
        for fingerprint in fingerprints {
            if self.ring.len() >= window
                && let Some(oldest) = self.ring.pop_front()
            {
                self.forget(oldest);
            }
            self.ring.push_back(*fingerprint);
            if let Some(table) = &mut self.table {
                *table.entry(*fingerprint).or_default() += 1;
            }
        }
        self.tabulate();
    }

    fn tabulate(&mut self) {
        if self.table.is_none() && self.ring.len() >= TABLE_FROM {
            let mut table = HashMap::with_capacity_and_hasher(
                self.ring.len() * 2,
                BuildHasherDefault::default(),
            );
            for fingerprint in &self.ring {
                *table.entry(*fingerprint).or_default() += 1;
            }
            self.table = Some(table);
        }
    }

    fn forget(&mut self, fingerprint: u32) {
        if let Some(table) = &mut self.table
            && let Some(count) = table.get_mut(&fingerprint)
        {
            *count -= 1;
            if *count == 0 {
                table.remove(&fingerprint);
            }
        }
    }
}

/// Fingerprints are hashes already.
#[derive(Default)]
struct Identity(u64);

impl Hasher for Identity {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = self.0 << 8 | u64::from(*byte);
        }
    }

    fn write_u32(&mut self, value: u32) {
        // The table takes its control bits from the top.
        self.0 = u64::from(value).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    }
}

#[derive(Clone)]
struct ByBytes;

impl Weighter<StreamId, Head> for ByBytes {
    fn weight(&self, stream: &StreamId, head: &Head) -> u64 {
        (160 + stream.as_str().len() + head.bytes()) as u64
    }
}

/// The cache.
pub(crate) struct Heads {
    window: usize,
    cache: Mutex<Cache<StreamId, Head, ByBytes>>,
}

impl Heads {
    /// A cache of at most `bytes`, remembering the ids of `window` events a stream.
    pub(crate) fn new(bytes: usize, window: usize) -> Self {
        let cache = Cache::with_weighter(bytes / 256, bytes as u64, ByBytes);
        Self {
            window,
            cache: Mutex::new(cache),
        }
    }

    /// What `look` makes of the stream's head, when it is cached.
    pub(crate) fn with<T>(&self, stream: &StreamId, look: impl FnOnce(&Head) -> T) -> Option<T> {
        self.cache.lock().get(stream).map(look)
    }

    /// Remembers what was read from the index.
    pub(crate) fn insert(&self, stream: StreamId, head: Head) {
        self.cache.lock().insert(stream, head);
    }

    /// To note what is published, under one lock.
    pub(crate) fn publishing(&self) -> Publishing<'_> {
        Publishing {
            window: self.window,
            cache: self.cache.lock(),
        }
    }
}

/// Notes published events; see [`Heads::publishing`].
pub(crate) struct Publishing<'a> {
    window: usize,
    cache: MutexGuard<'a, Cache<StreamId, Head, ByBytes>>,
}

impl Publishing<'_> {
    /// `stream`, whose head was `before`, has events with these fingerprints now, from sequence
    /// `first` on.
    pub(crate) fn note(
        &mut self,
        stream: &StreamId,
        before: u64,
        first: u64,
        fingerprints: &[u32],
    ) {
        if let Some(mut head) = self.cache.get_mut(stream) {
            if head.sequence == before {
                head.extend(first, fingerprints, self.window);
                return;
            }
        } else if before == 0 {
            let from = fingerprints.len().saturating_sub(self.window);
            let newest = fingerprints.get(from..).unwrap_or_default().to_vec();
            let head = Head::new(first + fingerprints.len() as u64 - 1, newest, true);
            // The tail indexes know it as well: nothing is put out for it.
            let room = self.cache.capacity().saturating_sub(self.cache.weight());
            if ByBytes.weight(stream, &head) <= room {
                self.cache.insert(stream.clone(), head);
            }
            return;
        } else {
            return;
        }
        // Whatever stands there is not the stream's past: read it again when it is needed.
        self.cache.remove(stream);
    }
}

#[cfg(test)]
#[cfg(not(feature = "shuttle"))]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn is_whole(heads: &Heads, stream: &StreamId) -> Option<bool> {
        heads.with(stream, Head::is_whole)
    }

    #[test]
    fn a_head_that_lacks_older_events_is_whole_once_the_window_is_full() {
        let stream = StreamId::new("T", "1").unwrap();
        let heads = Heads::new(1 << 20, 4);
        heads.insert(stream.clone(), Head::new(10, vec![7], false));
        assert_eq!(is_whole(&heads, &stream), Some(false));
        heads.publishing().note(&stream, 10, 11, &[8, 9]);
        assert_eq!(is_whole(&heads, &stream), Some(false));
        heads.publishing().note(&stream, 12, 13, &[10]);
        assert_eq!(is_whole(&heads, &stream), Some(true));
        heads.insert(stream.clone(), Head::new(2, vec![7, 8], false));
        assert_eq!(is_whole(&heads, &stream), Some(true), "it has all of two");
    }

    #[test]
    fn new_streams_put_nothing_out() {
        let known = StreamId::new("T", "known").unwrap();
        let heads = Heads::new(2_000, 4);
        heads.insert(known.clone(), Head::new(1, vec![7], true));
        for n in 0..100 {
            let stream = StreamId::new("T", &n.to_string()).unwrap();
            heads.publishing().note(&stream, 0, 1, &[n]);
        }
        assert_eq!(is_whole(&heads, &known), Some(true));
    }

    proptest! {
        #[test]
        fn candidates_are_the_sequences_of_equal_fingerprints_in_the_window(
            batches in proptest::collection::vec(proptest::collection::vec(0_u32..40, 1..120), 1..12),
            window in 1_usize..400,
        ) {
            let stream = StreamId::new("T", "1").unwrap();
            let heads = Heads::new(1 << 20, window);
            let mut all: Vec<u32> = Vec::new();
            for batch in &batches {
                let before = all.len() as u64;
                heads.publishing().note(&stream, before, before + 1, batch);
                all.extend(batch);
            }
            let from = all.len().saturating_sub(window);
            for fingerprint in 0..40 {
                let expected: Vec<u64> = (from..all.len())
                    .filter(|at| all[*at] == fingerprint)
                    .map(|at| at as u64 + 1)
                    .collect();
                let found: Vec<u64> =
                    heads.with(&stream, |head| head.candidates(fingerprint).collect()).unwrap();
                prop_assert_eq!(found, expected);
            }
        }
    }
}
