//! Stores whose events gave way to others, damaged: each branch is read right or its damage is named,
//! before and after a repair.

use std::fs;
use std::path::{Path, PathBuf};

use tempfile::TempDir;
use tidelog_backends::{SledStore, repair};
use tidelog_core::*;
use uuid::Uuid;

use crate::image::{FIRST_FRAME, open};
use crate::sweep::{self, Random, Tally};
use crate::tools::{self, event, make_writable, read_all, segment, segments, stream};

/// A store with many branches, and all that was recorded.
pub struct Image {
    root: TempDir,
    pub events: Vec<EventEnvelope>,
    is_closed: bool,
}

impl Image {
    pub fn new(seed: u64, is_closed: bool) -> Self {
        let root = tempfile::tempdir().unwrap();
        let dir = root.path().join("store");
        let store = open(&dir).unwrap();
        let mut random = Random(seed);
        let mut next = 0;
        let mut events = |count: usize, bytes: usize| -> Vec<NewEvent> {
            let made = (0..count).map(|_| {
                next += 1;
                event(next, bytes)
            });
            made.collect()
        };
        for step in 0..240 {
            let to = stream(&random.below(4).to_string());
            let face = store.blocking();
            if step % 9 != 8 {
                let count = 1 + random.below(3);
                let events = events(count, 60 + random.below(900));
                let batch = AppendBatch::new(to, ExpectedVersion::Any, events);
                face.append(batch).unwrap();
                continue;
            }
            let Some(head) = face.head(&to).unwrap() else {
                continue;
            };
            let gone = (random.below(5) as u64).min(head.sequence);
            let birth = Birth {
                origin: Uuid::from_u128(1),
                epoch: Uuid::from_u128(2),
                position: head.sequence,
                recorded_time: Timestamp::from_micros(3),
            };
            let adopted = events(random.below(3), 80).into_iter();
            let adopted = adopted.map(|event| event.with_birth(birth)).collect();
            let what = Supersession::new(to, head, head.sequence + 1 - gone)
                .with_adopted(adopted)
                .with_reissued(events(random.below(3), 80));
            face.supersede(what).unwrap();
        }
        store.drain().unwrap();
        let events = read_all(&store).unwrap();
        let files = root.path().join("files");
        if is_closed {
            store.close_blocking().unwrap();
            tools::copy_tree(&dir, &files);
        } else {
            tools::copy_tree(&dir, &files);
            store.crash();
        }
        let _ = fs::remove_file(files.join("LOCK"));
        Self {
            root,
            events,
            is_closed,
        }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.root.path().join(name)
    }

    /// A copy of the files, with something done to one segment; what that was.
    pub fn damaged(&self, random: &mut Random) -> (PathBuf, &'static str) {
        let dir = self.path("store");
        tools::put_back(&self.path("files"), &dir);
        let numbers = segments(&dir);
        let path = segment(&dir, *random.pick(&numbers));
        make_writable(&path);
        let mut bytes = fs::read(&path).unwrap();
        let used = bytes.iter().rposition(|byte| *byte != 0).unwrap_or(0) + 1;
        let at = random.below(used);
        let what = match random.below(7) {
            0 => {
                fs::remove_file(&path).unwrap();
                return (dir, "segment deleted");
            }
            1 => {
                bytes.truncate(at);
                "cut"
            }
            2 => {
                let end = (at + 600).min(used);
                bytes[at..end].fill(0);
                "zeroed"
            }
            // The record by which events give way stands first in its segment.
            3 | 4 if used > FIRST_FRAME + 200 => {
                bytes[FIRST_FRAME + random.below(200)] ^= 1 << random.below(8);
                "first frame"
            }
            5 => {
                bytes[random.below(256)] ^= 1 << random.below(8);
                "header"
            }
            _ => {
                bytes[at] ^= 1 << random.below(8);
                "bit flipped"
            }
        };
        fs::write(path, bytes).unwrap();
        (dir, what)
    }
}

/// What is read until an error, which is a typed damage.
fn read_until_damage(
    read: impl Iterator<Item = Result<EventEnvelope, Error>>,
) -> (Vec<EventEnvelope>, bool) {
    let mut found = Vec::new();
    for event in read {
        match event {
            Ok(event) => found.push(event),
            Err(Error::Damaged { .. }) => return (found, true),
            Err(error) => panic!("not a typed damage: {error:?}"),
        }
    }
    (found, false)
}

/// Reads everything; whether damage was named.
pub fn check_opened(image: &Image, store: &SledStore) -> &'static str {
    let face = store.blocking();
    let (all, mut damaged) = read_until_damage(face.read_all(LogQuery::all()));
    assert!(image.events.starts_with(&all), "the log is another one");
    let there = face.last_position() as usize;
    assert!(!image.is_closed || there == image.events.len());
    for (stream, expected) in tools::newest_branches(&image.events[..there]) {
        let read = face.read_stream(StreamQuery::new(stream.clone()));
        let (found, ends_early) = read_until_damage(read);
        assert!(expected.starts_with(&found), "{stream} is another one");
        assert!(ends_early || found.len() == expected.len(), "{stream}");
        damaged |= ends_early;
    }
    match store.verify() {
        Ok(_) => {
            assert!(!damaged, "a read found damage, verify none");
            "whole"
        }
        Err(Error::Damaged { .. }) => "found later",
        Err(error) => panic!("not a typed damage: {error:?}"),
    }
}

fn check_repaired(image: &Image, dir: &Path) -> &'static str {
    let to = image.path("repaired");
    let _ = fs::remove_dir_all(&to);
    let report = match repair(dir, &to) {
        Ok(report) => report,
        Err(Error::Damaged { .. }) => return "not repaired, and said so",
        Err(error) => panic!("repair: {error:?}"),
    };
    let store = open(&to).unwrap();
    store.verify().unwrap();
    let mut there = Vec::new();
    let mut from = 1;
    while let Some(last) = {
        let mut gap = None;
        for found in store.blocking().read_all(LogQuery::from(from)) {
            match found {
                Ok(found) => there.push(found),
                Err(Error::Gap { last, .. }) => gap = Some(last),
                Err(error) => panic!("{error:?}"),
            }
        }
        gap
    } {
        from = last + 1;
    }
    for found in &there {
        let as_it_was = image.events.get(found.position.unwrap() as usize - 1);
        let is_own = found.kind == RecordKind::Control && as_it_was != Some(found);
        assert!(is_own || as_it_was == Some(found), "{:?}", found.position);
    }
    // What of it the repair knows of: kept, or declared to be gone.
    let is_known = |position: u64| {
        let is_there = |event: &EventEnvelope| event.position == Some(position);
        let mut ranges = report.losses.ranges.iter();
        there.iter().any(is_there) || ranges.any(|range| range.positions.contains(&position))
    };
    let known = image.events.iter();
    let known = known.take_while(|event| is_known(event.position.unwrap()));
    let known: Vec<_> = known.cloned().collect();
    assert!(!image.is_closed || known.len() == image.events.len());
    store.accept_all_losses().unwrap();
    let face = store.blocking();
    for (n, (stream, before)) in (1 << 40..).zip(tools::newest_branches(&known)) {
        let batch = AppendBatch::new(stream.clone(), ExpectedVersion::Any, vec![event(n, 50)]);
        let receipt = face.append(batch).unwrap();
        let head = before.last().map_or(0, |event| event.sequence);
        let first = receipt.first_sequence;
        assert!(first > head, "{stream} goes on at {first} below {head}");
        let read = face.read_stream(StreamQuery::new(stream.clone()));
        let read: Vec<_> = read.collect::<Result<_, _>>().unwrap();
        let ascends = |pair: &[EventEnvelope]| pair[0].sequence < pair[1].sequence;
        assert!(read.windows(2).all(ascends), "{stream} does not ascend");
        assert_eq!(read.last().unwrap().event_id, tools::id(n));
    }
    store.verify().unwrap();
    store.rebuild_index().unwrap();
    store.verify().unwrap();
    store.close_blocking().unwrap();
    "repaired"
}

#[test]
fn branches_of_a_damaged_store_are_right_or_their_damage_is_named() {
    let (seed, cases) = (sweep::seed(), if sweep::is_full() { 2_000 } else { 60 });
    eprintln!("TIDELOG_SEED={seed}, {cases} cases");
    let mut random = Random(seed);
    let mut tally = Tally::default();
    for case in 0..cases / 20 {
        let image = Image::new(random.next(), case % 2 == 0);
        for _ in 0..20 {
            let (dir, what) = image.damaged(&mut random);
            let as_damaged = image.path("as-damaged");
            tools::put_back(&dir, &as_damaged);
            let outcome = match open(&dir) {
                Ok(store) => check_opened(&image, &store),
                Err(Error::Damaged { .. }) => "refused",
                Err(error) => panic!("not a typed damage: {error:?}"),
            };
            if outcome == "whole" {
                tally.count(what, outcome);
            } else {
                let repaired = check_repaired(&image, &as_damaged);
                tally.count(what, format!("{outcome}, {repaired}"));
            }
        }
    }
    eprintln!("{}{}", tally.table(), tally.totals());
}
