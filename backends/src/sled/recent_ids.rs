//! The ids of streams' newest events, where they may be asked for: a cache, bounded in bytes.
//!
//! Ids of version 7 above all published ones are new without a look, so a stream that is given no
//! others does not stand here. What is published alone does; a group being committed keeps its own
//! notes. An entry may lag behind its stream: it counts only where it ends at the stream's head.

use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasherDefault, Hasher};

use crate::primitives::{Mutex, MutexGuard};
use quick_cache::Weighter;
use quick_cache::unsync::Cache;

use super::hash::StreamKey;

/// Above this many events, looking through fingerprints one by one costs more than a table.
const TABLE_FROM: usize = 192;

/// What is known of one stream.
pub(crate) struct KnownIds {
    /// Sequence of its newest event; 0 when it has none.
    sequence: u64,
    ring: Ring,
    /// Whether no event of the window is missing in it.
    whole: bool,
}

impl KnownIds {
    /// A stream whose newest event is `sequence`; `newest` are sequence and fingerprint of its newest
    /// events, newest first. `whole` when they are all of the window's, and not only those that are
    /// in no run.
    pub(crate) fn new(sequence: u64, newest: &[(u64, u32)], whole: bool) -> Self {
        let mut ring = Ring::default();
        for (sequence, fingerprint) in newest.iter().rev() {
            ring.push(*sequence, *fingerprint);
        }
        ring.tabulate();
        Self {
            sequence,
            ring,
            whole,
        }
    }

    /// Whether any id of the window can be looked for; otherwise only one that is in no run.
    pub(crate) fn is_whole(&self) -> bool {
        self.whole || self.ring.prints.len() as u64 >= self.sequence
    }

    /// Sequences, among the newest, whose events may have this fingerprint.
    pub(crate) fn candidates(&self, fingerprint: u32) -> impl Iterator<Item = u64> + '_ {
        let absent = match &self.ring.table {
            Some(table) => !table.contains_key(&fingerprint),
            None => !self.ring.prints.contains(&fingerprint),
        };
        let ring = if absent { None } else { Some(&self.ring) };
        ring.into_iter()
            .flat_map(Ring::iter)
            .filter_map(move |(sequence, known)| (known == fingerprint).then_some(sequence))
    }

    /// The oldest event that is known by its fingerprint; above the newest when none is.
    pub(crate) fn oldest(&self) -> u64 {
        let oldest = self.ring.iter().next();
        oldest.map_or(self.sequence + 1, |(sequence, _)| sequence)
    }

    fn extend(&mut self, first: u64, fingerprints: &[u32], window: usize) {
        for (sequence, fingerprint) in (first..).zip(fingerprints) {
            if self.ring.prints.len() >= window {
                self.ring.pop();
            }
            self.ring.push(sequence, *fingerprint);
        }
        self.ring.tabulate();
        self.sequence = first + fingerprints.len() as u64 - 1;
        self.whole |= self.ring.prints.len() >= window;
    }

    fn bytes(&self) -> usize {
        let Ring {
            prints,
            sequences,
            table,
            ..
        } = &self.ring;
        let table = table.as_ref().map_or(0, |table| table.capacity() * 9);
        let sequences = sequences.as_ref().map_or(0, VecDeque::capacity);
        prints.capacity() * 4 + sequences * 8 + table
    }
}

/// Fingerprints of a stream's newest events, oldest first.
#[derive(Default)]
struct Ring {
    prints: VecDeque<u32>,
    /// Sequence of the newest.
    newest: u64,
    /// The sequence of each, once they are not dense: a repair has left some out.
    sequences: Option<VecDeque<u64>>,
    table: Option<HashMap<u32, u32, BuildHasherDefault<Identity>>>,
}

impl Ring {
    fn iter(&self) -> impl Iterator<Item = (u64, u32)> + '_ {
        let oldest = self.newest + 1 - self.prints.len() as u64;
        let sequence = move |at: usize| match &self.sequences {
            Some(sequences) => sequences.get(at).copied().unwrap_or_default(),
            None => oldest + at as u64,
        };
        let prints = self.prints.iter().enumerate();
        prints.map(move |(at, print)| (sequence(at), *print))
    }

    fn push(&mut self, sequence: u64, fingerprint: u32) {
        if !self.prints.is_empty() && sequence != self.newest + 1 && self.sequences.is_none() {
            self.sequences = Some(self.iter().map(|(sequence, _)| sequence).collect());
        }
        if let Some(sequences) = &mut self.sequences {
            sequences.push_back(sequence);
        }
        self.newest = sequence;
        self.prints.push_back(fingerprint);
        if let Some(table) = &mut self.table {
            *table.entry(fingerprint).or_default() += 1;
        }
    }

    /// Forgets the oldest.
    fn pop(&mut self) {
        if let Some(sequences) = &mut self.sequences {
            sequences.pop_front();
        }
        if let Some(oldest) = self.prints.pop_front()
            && let Some(table) = &mut self.table
            && let Some(count) = table.get_mut(&oldest)
        {
            *count -= 1;
            if *count == 0 {
                table.remove(&oldest);
            }
        }
    }

    fn tabulate(&mut self) {
        if self.table.is_none() && self.prints.len() >= TABLE_FROM {
            let mut table = HashMap::with_capacity_and_hasher(
                self.prints.len() * 2,
                BuildHasherDefault::default(),
            );
            for fingerprint in &self.prints {
                *table.entry(*fingerprint).or_default() += 1;
            }
            self.table = Some(table);
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

impl Weighter<StreamKey, KnownIds> for ByBytes {
    fn weight(&self, _: &StreamKey, recent: &KnownIds) -> u64 {
        (112 + recent.bytes()) as u64
    }
}

/// The cache.
pub(crate) struct RecentIds {
    window: usize,
    cache: Mutex<Cache<StreamKey, KnownIds, ByBytes>>,
}

impl RecentIds {
    /// A cache of at most `bytes`, remembering the ids of `window` events a stream.
    pub(crate) fn new(bytes: usize, window: usize) -> Self {
        let cache = Cache::with_weighter(bytes / 192, bytes as u64, ByBytes);
        Self {
            window,
            cache: Mutex::new(cache),
        }
    }

    /// What `look` makes of the stream, whose head is `head`, when its ids are known up to there.
    pub(crate) fn with<T>(
        &self,
        key: &StreamKey,
        head: u64,
        look: impl FnOnce(&KnownIds) -> T,
    ) -> Option<T> {
        let cache = self.cache.lock();
        let recent = cache.get(key)?;
        (recent.sequence == head).then(|| look(recent))
    }

    /// Remembers what was read from the index.
    pub(crate) fn insert(&self, key: StreamKey, recent: KnownIds) {
        self.cache.lock().insert(key, recent);
    }

    /// To note what is published, under one lock.
    pub(crate) fn publishing(&self) -> Publishing<'_> {
        Publishing {
            window: self.window,
            cache: self.cache.lock(),
        }
    }
}

/// Notes published events; see [`RecentIds::publishing`].
pub(crate) struct Publishing<'a> {
    window: usize,
    cache: MutexGuard<'a, Cache<StreamKey, KnownIds, ByBytes>>,
}

impl Publishing<'_> {
    /// The stream, whose head was `before`, has events with these fingerprints now, from sequence
    /// `first` on.
    pub(crate) fn note(&mut self, key: &StreamKey, before: u64, first: u64, fingerprints: &[u32]) {
        if let Some(mut recent) = self.cache.get_mut(key) {
            if recent.sequence == before {
                recent.extend(first, fingerprints, self.window);
                return;
            }
        } else if before == 0 {
            let mut recent = KnownIds::new(0, &[], true);
            recent.extend(first, fingerprints, self.window);
            // The tail indexes know it as well: nothing is put out for it.
            let room = self.cache.capacity().saturating_sub(self.cache.weight());
            if ByBytes.weight(key, &recent) <= room {
                self.cache.insert(*key, recent);
            }
            return;
        } else {
            return;
        }
        // Whatever stands there is not the stream's past: it is read again when it is needed.
        self.cache.remove(key);
    }
}

#[cfg(test)]
#[cfg(not(feature = "shuttle"))]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn key(number: u64) -> StreamKey {
        StreamKey {
            hash: number,
            check: 0,
        }
    }

    fn is_whole(ids: &RecentIds, stream: u64, head: u64) -> Option<bool> {
        ids.with(&key(stream), head, KnownIds::is_whole)
    }

    #[test]
    fn ids_that_lack_older_ones_are_whole_once_the_window_is_full() {
        let ids = RecentIds::new(1 << 20, 4);
        ids.insert(key(1), KnownIds::new(10, &[(10, 7)], false));
        assert_eq!(is_whole(&ids, 1, 10), Some(false));
        ids.publishing().note(&key(1), 10, 11, &[8, 9]);
        assert_eq!(is_whole(&ids, 1, 12), Some(false));
        ids.publishing().note(&key(1), 12, 13, &[10]);
        assert_eq!(is_whole(&ids, 1, 13), Some(true));
        ids.insert(key(1), KnownIds::new(2, &[(2, 8), (1, 7)], false));
        assert_eq!(is_whole(&ids, 1, 2), Some(true), "it has all of two");
    }

    #[test]
    fn ids_that_lag_behind_their_stream_count_for_nothing() {
        let ids = RecentIds::new(1 << 20, 4);
        ids.insert(key(1), KnownIds::new(2, &[(2, 8), (1, 7)], true));
        assert_eq!(is_whole(&ids, 1, 3), None);
        ids.publishing().note(&key(1), 3, 4, &[9]);
        assert_eq!(is_whole(&ids, 1, 2), None, "it is gone");
        assert_eq!(is_whole(&ids, 1, 4), None);
    }

    #[test]
    fn new_streams_put_nothing_out() {
        let ids = RecentIds::new(2_000, 4);
        ids.insert(key(0), KnownIds::new(1, &[(1, 7)], true));
        for n in 1..100 {
            ids.publishing().note(&key(n), 0, 1, &[7]);
        }
        assert_eq!(is_whole(&ids, 0, 1), Some(true));
    }

    #[test]
    fn sequences_that_were_left_out_take_no_room_in_the_window() {
        let ids = RecentIds::new(1 << 20, 4);
        ids.insert(key(1), KnownIds::new(5, &[(5, 15), (4, 14), (1, 11)], true));
        ids.publishing().note(&key(1), 5, 100_000, &[16]);
        let candidates = |print: u32| {
            let look = |known: &KnownIds| known.candidates(print).collect::<Vec<_>>();
            ids.with(&key(1), 100_000, look).unwrap()
        };
        assert_eq!(candidates(11), [1]);
        assert_eq!(candidates(15), [5]);
        assert_eq!(candidates(16), [100_000]);
        assert_eq!(ids.with(&key(1), 100_000, KnownIds::oldest), Some(1));
        ids.publishing().note(&key(1), 100_000, 100_001, &[17]);
        assert_eq!(ids.with(&key(1), 100_001, KnownIds::oldest), Some(4));
    }

    proptest! {
        #[test]
        fn candidates_are_the_sequences_of_equal_fingerprints_in_the_window(
            batches in proptest::collection::vec(proptest::collection::vec(0_u32..40, 1..120), 1..12),
            window in 1_usize..400,
        ) {
            let ids = RecentIds::new(1 << 20, window);
            let mut all: Vec<u32> = Vec::new();
            for batch in &batches {
                let before = all.len() as u64;
                ids.publishing().note(&key(1), before, before + 1, batch);
                all.extend(batch);
            }
            let from = all.len().saturating_sub(window);
            for fingerprint in 0..40 {
                let expected: Vec<u64> = (from..all.len())
                    .filter(|at| all[*at] == fingerprint)
                    .map(|at| at as u64 + 1)
                    .collect();
                let look = |recent: &KnownIds| recent.candidates(fingerprint).collect::<Vec<_>>();
                let found = ids.with(&key(1), all.len() as u64, look).unwrap();
                prop_assert_eq!(found, expected);
            }
        }
    }
}
