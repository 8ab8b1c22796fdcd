//! A store that is damaged and repaired again and again: whatever was acknowledged is there or said to
//! be gone, and no sequence and no position is ever given twice.
//!
//! `TIDELOG_SEED` repeats a run; `TIDELOG_SWEEP=full` makes more of them.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::cast_possible_truncation,
    reason = "a test that fails shall stop, and its numbers are small"
)]

#[path = "tools/sweep.rs"]
mod sweep;
mod tools;

use std::collections::{HashMap, HashSet};
use std::fs;
use std::path::Path;

use tidelog_backends::{Losses, SledStore, repair};
use tidelog_core::*;
use tools::{event, segment, segments, stream};

/// Where the first frame of a segment stands.
const FIRST_FRAME: usize = 4096;

fn open(dir: &Path) -> SledStore {
    SledStore::builder(dir)
        .segment_size(64 << 10)
        .stress_index(64, 2)
        .open()
        .unwrap()
}

/// All that was ever acknowledged.
#[derive(Default)]
struct Given {
    events: HashMap<EventId, (StreamId, u64, u64)>,
    sequences: HashSet<(StreamId, u64)>,
    positions: HashSet<u64>,
}

impl Given {
    fn note(&mut self, event: EventId, to: &StreamId, sequence: u64, position: u64) {
        assert!(
            self.sequences.insert((to.clone(), sequence)),
            "{to} {sequence} is given twice"
        );
        assert!(
            self.positions.insert(position),
            "position {position} is given twice"
        );
        self.events.insert(event, (to.clone(), sequence, position));
    }

    /// Everything is there where it was, or said to be gone.
    fn check(&self, store: &SledStore, losses: &Losses) {
        let there = read_over(store);
        let events = there.iter().filter(|found| found.kind == RecordKind::Event);
        let there: HashMap<EventId, &EventEnvelope> =
            events.map(|found| (found.event_id, found)).collect();
        for (id, (of, sequence, position)) in &self.events {
            if let Some(found) = there.get(id) {
                assert_eq!(
                    (&found.stream, found.sequence, found.position),
                    (of, *sequence, Some(*position))
                );
                continue;
            }
            let mut ranges = losses.ranges.iter();
            assert!(
                ranges.any(|range| range.positions.contains(position)),
                "{of} {sequence} at {position} is gone unsaid: {losses:?}"
            );
            let named = losses.streams.iter().any(|lost| {
                let mut each = lost.sequences.iter();
                lost.stream == *of && each.any(|range| range.contains(sequence))
            });
            assert!(
                named || losses.unnamed > 0,
                "{of} {sequence} at {position} is nobody's: {losses:?}"
            );
        }
        assert!(there.keys().all(|id| self.events.contains_key(id)));
        store.verify().unwrap();
    }
}

/// Everything, going over each gap on purpose.
fn read_over(store: &SledStore) -> Vec<EventEnvelope> {
    let mut all: Vec<EventEnvelope> = Vec::new();
    let mut from = 1;
    loop {
        let mut gap = None;
        for found in store.blocking().read_all(LogQuery::from(from)) {
            match found {
                Ok(found) => all.push(found),
                Err(error) => {
                    let Error::Gap { last, .. } = error else {
                        unreachable!("{error}")
                    };
                    gap = Some(last);
                }
            }
        }
        match gap {
            Some(last) => from = last + 1,
            None => return all,
        }
    }
}

/// Damages a store: bits in frames, whole segments, their ends, their headers.
fn damage(dir: &Path, random: &mut sweep::Random) {
    for _ in 0..=random.below(3) {
        let there = segments(dir);
        if there.is_empty() {
            return;
        }
        let path = segment(dir, *random.pick(&there));
        tools::make_writable(&path);
        let mut bytes = fs::read(&path).unwrap();
        let used = bytes.iter().rposition(|byte| *byte != 0).unwrap_or(0) + 1;
        match random.below(10) {
            0 if there.len() > 2 => {
                fs::remove_file(&path).unwrap();
                continue;
            }
            1 if used > FIRST_FRAME => {
                bytes.truncate(FIRST_FRAME + random.below(used - FIRST_FRAME));
            }
            2 => bytes[..200].fill(0),
            3 => {
                let from = used.saturating_sub(random.below(3_000));
                bytes[from..].fill(0);
            }
            _ if used > FIRST_FRAME => {
                let at = FIRST_FRAME + random.below(used - FIRST_FRAME);
                bytes[at] ^= 1 << random.below(8);
            }
            _ => {}
        }
        fs::write(&path, bytes).unwrap();
    }
}

/// Some appends, acknowledged or refused as the losses say.
fn append(store: &SledStore, given: &mut Given, next: &mut u64, random: &mut sweep::Random) {
    let losses = store.losses().unwrap();
    for _ in 0..20 + random.below(60) {
        let mut first = random.below(6);
        let parts: Vec<_> = (0..=random.below(3))
            .map(|_| {
                first += 1;
                let events = (0..=random.below(3)).map(|_| {
                    *next += 1;
                    event(*next, 100 + random.below(900))
                });
                let to = stream(&(first % 9).to_string());
                AppendBatch::new(to, ExpectedVersion::Any, events.collect())
            })
            .collect();
        let waits = parts.iter().any(|part| {
            let unnamed = losses.unnamed > 0 && !losses.accepted;
            let mut lost = losses.streams.iter();
            unnamed || lost.any(|lost| lost.stream == part.stream && !lost.accepted)
        });
        match store.blocking().append_streams(parts.clone()) {
            Ok(receipts) => {
                assert!(!waits, "{losses:?}");
                for (part, receipt) in parts.iter().zip(receipts) {
                    let places = receipt.first_sequence..;
                    let positions = receipt.first_position.unwrap()..;
                    for ((event, sequence), position) in
                        part.events.iter().zip(places).zip(positions)
                    {
                        given.note(event.event_id, &part.stream, sequence, position);
                    }
                }
            }
            Err(error) => assert!(waits && error.code() == "lost_events", "{error}"),
        }
    }
}

#[test]
fn a_store_repaired_again_and_again_says_all_that_is_gone_and_gives_nothing_twice() {
    let lives = if sweep::is_full() { 120 } else { 8 };
    let seed = sweep::seed();
    eprintln!("TIDELOG_SEED={seed}, {lives} lives");
    let (mut repairs, mut gone) = (0, 0);
    for life in 0..lives {
        let mut random = sweep::Random(seed ^ (life << 32));
        let root = tempfile::tempdir().unwrap();
        let mut dir = root.path().join("0");
        let (mut given, mut next) = (Given::default(), 0);
        for round in 1..=4 {
            let store = open(&dir);
            append(&store, &mut given, &mut next, &mut random);
            if random.one_in(2) {
                store.accept_all_losses().unwrap();
            } else {
                for lost in store.losses().unwrap().streams.iter().take(2) {
                    let _ = store.accept_loss(&lost.stream);
                }
            }
            append(&store, &mut given, &mut next, &mut random);
            let losses = store.losses().unwrap();
            given.check(&store, &losses);
            // Closed: what is gone from its end is vouched for.
            store.close_blocking().unwrap();
            drop(store);
            damage(&dir, &mut random);
            let to = root.path().join(round.to_string());
            match repair(&dir, &to) {
                Ok(report) => {
                    repairs += 1;
                    let before: HashSet<_> =
                        losses.ranges.iter().map(|old| format!("{old:?}")).collect();
                    gone += report.lost.len();
                    let all: HashSet<_> = report
                        .losses
                        .ranges
                        .iter()
                        .map(|new| format!("{new:?}"))
                        .collect();
                    assert!(report.lost.len() + before.len() >= all.len());
                    given.check(&open(&to), &report.losses);
                    dir = to;
                }
                Err(error) => {
                    assert!(
                        error.to_string().contains("no commit in it is whole"),
                        "{error}"
                    );
                    break;
                }
            }
        }
    }
    eprintln!("{repairs} repairs, {gone} new gaps");
    assert!(gone > 0);
}
