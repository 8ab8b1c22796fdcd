//! The index against a simple model, and against everything that can go wrong below it.

mod answers;
mod faults;
mod pages;
mod reuse;

use std::collections::BTreeMap;
use std::fs;
use std::ops::RangeInclusive;
use std::path::Path;
use std::time::Duration;

use proptest::prelude::*;
use tempfile::TempDir;
use tidelog_core::{Direction, StreamId};

use super::*;

/// What the index must answer.
#[derive(Clone, Default)]
struct Model {
    streams: BTreeMap<String, Vec<(u64, Posting)>>,
    segments: u64,
}

/// Turns names into hashes; with `Colliding`, different names share them.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Hashing {
    Plain,
    Colliding,
}

impl Hashing {
    fn hash(self, name: &str) -> u64 {
        let hash = blake3::hash(name.as_bytes());
        let hash = u64::from_le_bytes(*hash.as_bytes().first_chunk().unwrap());
        if self == Self::Plain { hash } else { hash % 3 }
    }
}

impl Model {
    /// Makes the next segment out of (stream number, events there, gap before it).
    fn segment(&mut self, hashing: Hashing, parts: &[(u16, u8, bool)]) -> SegmentIndex {
        self.segments += 1;
        let mut segment = SegmentIndex::new(self.segments);
        let mut offset = 4096_u32;
        for &(stream, events, gap) in parts {
            let id = stream_id(stream);
            let postings = self.streams.entry(id.to_string()).or_default();
            for event in 0..events {
                let last = postings.last().map_or(0, |(sequence, _)| *sequence);
                let sequence = last + 1 + if gap && event == 0 { 7 } else { 0 };
                let len = 60 + u32::from(stream) + u32::from(event);
                let fingerprint = offset.wrapping_mul(2_654_435_761);
                let hash = hashing.hash(id.as_str());
                segment
                    .push(hash, &id, sequence, offset, len, fingerprint)
                    .unwrap();
                let posting = Posting {
                    segment: self.segments,
                    offset,
                    len,
                    fingerprint,
                };
                postings.push((sequence, posting));
                offset += len;
            }
        }
        segment
    }

    fn expect(
        &self,
        stream: &StreamId,
        range: RangeInclusive<u64>,
        direction: Direction,
        limit: usize,
    ) -> Vec<(u64, Posting)> {
        let all = self
            .streams
            .get(stream.as_str())
            .cloned()
            .unwrap_or_default();
        let mut wanted: Vec<_> = all.into_iter().filter(|(s, _)| range.contains(s)).collect();
        if direction == Direction::Backward {
            wanted.reverse();
        }
        wanted.truncate(limit);
        wanted
    }

    /// Asks the index about every stream and one that is not there. Right or `Damaged`, never
    /// wrong; returns how many questions were answered by `Damaged`.
    fn check(&self, index: &Index, hashing: Hashing, spread: u64) -> usize {
        let mut damaged = 0;
        let mut refused = |error| match error {
            IndexError::Damaged(_) => damaged += 1,
            IndexError::Failed(error) => panic!("{error}"),
        };
        let names = self
            .streams
            .keys()
            .map(String::as_str)
            .chain(["T/never", "T/0000"]);
        for name in names {
            let stream: StreamId = name.parse().unwrap();
            let hash = hashing.hash(name);
            let newest = self.expect(&stream, 0..=u64::MAX, Direction::Backward, usize::MAX);
            match index.head(hash, &stream) {
                Ok(head) => assert_eq!(head, newest.first().copied(), "head of {name}"),
                Err(error) => refused(error),
            }
            let mut prints = Vec::new();
            match index.fingerprints(hash, &stream, 5, &mut prints) {
                Ok(()) => {
                    let expected = newest.iter().take(5).map(|(s, p)| (*s, p.fingerprint));
                    assert_eq!(prints, expected.collect::<Vec<_>>());
                }
                Err(error) => refused(error),
            }
            let last = newest.first().map_or(0, |(sequence, _)| *sequence);
            for (from, to, limit) in [
                (0, u64::MAX, usize::MAX),
                (1, last, 3),
                (spread % (last + 2), u64::MAX, 40),
                (0, spread % (last + 2), 7),
                (spread % (last + 2), (spread / 7) % (last + 2), 1000),
            ] {
                for direction in [Direction::Forward, Direction::Backward] {
                    let mut out = Vec::new();
                    match index.postings(hash, &stream, from, to, direction, limit, &mut out) {
                        Ok(()) => assert_eq!(
                            out,
                            self.expect(&stream, from..=to, direction, limit),
                            "{name} {from}..={to} {direction:?} at most {limit}"
                        ),
                        Err(error) => refused(error),
                    }
                }
            }
        }
        damaged
    }
}

fn stream_id(number: u16) -> StreamId {
    // Some names are as long as names can be.
    let width = if number % 50 == 7 { 256 } else { 4 };
    StreamId::new("T", &format!("{number:0width$}")).unwrap()
}

fn chain(segment: u64) -> [u8; 32] {
    *blake3::hash(&segment.to_le_bytes()).as_bytes()
}

fn options() -> IndexOptions {
    IndexOptions {
        merge_fan_in: 3,
        ..IndexOptions::default()
    }
}

fn open(root: &Path, segments: u64) -> Opened {
    Index::open(root, options(), (segments > 0).then_some(1..=segments)).unwrap()
}

/// Why the index was not believed when it was opened.
fn rebuilt(opened: &Opened) -> Option<String> {
    opened.index.stats().unwrap().rebuilt
}

fn merge_all(index: &Index) {
    while index.merge_step().unwrap() {}
}

fn segments() -> impl Strategy<Value = Vec<Vec<(u16, u8, bool)>>> {
    let part = (0..120_u16, 0..40_u8, prop::bool::weighted(0.05));
    let long = (0..3_u16, 200..=255_u8, Just(false));
    let segment = prop::collection::vec(prop_oneof![6 => part, 1 => long], 0..40);
    prop::collection::vec(segment, 1..12)
}

fn all_keys(kv: &dyn kv::Kv) -> Vec<Vec<u8>> {
    let mut keys = Vec::new();
    let mut from = Vec::new();
    while let Some(key) = kv.next_key(&from).unwrap() {
        from = [key.as_slice(), &[0]].concat();
        keys.push(key);
    }
    keys
}

/// Those of them that are read.
fn page_keys(kv: &dyn kv::Kv) -> Vec<Vec<u8>> {
    let mut keys = all_keys(kv);
    keys.retain(|key| !kv.get(key).unwrap().unwrap().is_empty());
    keys
}

/// A store with some segments, closed.
fn closed_store(segments: u64) -> (TempDir, Model) {
    let root = TempDir::new().unwrap();
    let mut model = Model::default();
    let index = open(root.path(), 0).index;
    for number in 0..segments {
        let base = u16::try_from(number).unwrap();
        let parts = [(base, 5, false), (base + 1, 30, false), (0, 200, false)];
        let segment = model.segment(Hashing::Plain, &parts);
        index
            .add_segment(&segment, chain(segment.segment()))
            .unwrap();
    }
    index.close().unwrap();
    (root, model)
}

fn copy_dir(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy_dir(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}

#[track_caller]
fn is_rebuilt(opened: &Opened, reason: &str) {
    let found = rebuilt(opened).unwrap_or_else(|| "not rebuilt".into());
    assert!(found.contains(reason), "{found:?} instead of {reason:?}");
    assert_eq!(opened.covered, None);
    assert_eq!(Model::default().check(&opened.index, Hashing::Plain, 0), 0);
}
