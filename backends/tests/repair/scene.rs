//! A store with a known history, damaged and repaired, and what must hold of any repair.

use std::fs;
use std::path::{Path, PathBuf};

use tempfile::TempDir;
use tidelog_backends::{RepairReport, SledStore, repair};
use tidelog_core::*;

use crate::tools::{self, event, read_all, segment, stream};

/// Where the first frame of a segment stands.
pub(crate) const FIRST_FRAME: usize = 4096;

pub(crate) fn open(dir: &Path) -> SledStore {
    SledStore::builder(dir)
        .segment_size(64 << 10)
        .open()
        .unwrap()
}

/// A store of one event a commit and five streams, as files, and its history.
pub(crate) struct Scene {
    pub(crate) root: TempDir,
    pub(crate) events: Vec<EventEnvelope>,
}

impl Scene {
    pub(crate) fn new(commits: u64, closed: bool) -> Self {
        let root = tempfile::tempdir().unwrap();
        let store = open(&root.path().join("store"));
        for n in 0..commits {
            let to = stream(&(n % 5).to_string());
            let batch = AppendBatch::new(to, ExpectedVersion::Any, vec![event(n, 700)]);
            store.blocking().append(batch).unwrap();
        }
        store.drain().unwrap();
        let events = read_all(&store).unwrap();
        if closed {
            store.close_blocking().unwrap();
        } else {
            store.crash();
        }
        Self { root, events }
    }

    pub(crate) fn store(&self) -> PathBuf {
        self.root.path().join("store")
    }

    pub(crate) fn to(&self) -> PathBuf {
        self.root.path().join("repaired")
    }

    pub(crate) fn damage(&self, number: u64, damage: impl FnOnce(&mut Vec<u8>)) {
        let path = segment(&self.store(), number);
        tools::make_writable(&path);
        let mut bytes = fs::read(&path).unwrap();
        damage(&mut bytes);
        fs::write(path, bytes).unwrap();
    }

    /// Repairs, holds that the source is as it was, and that all that was whole is there.
    pub(crate) fn repair(&self) -> (RepairReport, SledStore) {
        let before = tools::tree(&self.store());
        let report = repair(self.store(), self.to()).unwrap();
        assert!(
            before == tools::tree(&self.store()),
            "the source was changed"
        );
        let store = open(&self.to());
        check(&store, &self.events, &report);
        (report, store)
    }

    /// The same where only the first `there` events are left, and the others are cleanly gone.
    pub(crate) fn repair_to_less(&self, there: usize) -> (RepairReport, SledStore) {
        let report = repair(self.store(), self.to()).unwrap();
        let store = open(&self.to());
        check(&store, &self.events[..there], &report);
        (report, store)
    }
}

/// Where frames begin and end in a segment, by their stated lengths.
pub(crate) fn frames(bytes: &[u8]) -> Vec<std::ops::Range<usize>> {
    let mut frames = Vec::new();
    let mut at = FIRST_FRAME;
    while bytes.get(at..at + 4) == Some(b"TLF1") {
        let len = u32::from_le_bytes(bytes[at + 4..at + 8].try_into().unwrap()) as usize;
        let end = (at + 88 + len).next_multiple_of(8);
        frames.push(at..end);
        at = end;
    }
    frames
}

/// All records, going over every gap on purpose.
pub(crate) fn read_over(store: &SledStore) -> Vec<EventEnvelope> {
    let mut all = Vec::new();
    let mut from = 1;
    'over: loop {
        for found in store.blocking().read_all(LogQuery::from(from)) {
            match found {
                Ok(found) => all.push(found),
                Err(Error::Gap {
                    stream: None,
                    first,
                    last,
                }) => {
                    assert!(from <= last && first <= last);
                    from = last + 1;
                    continue 'over;
                }
                Err(error) => panic!("{error}"),
            }
        }
        return all;
    }
}

pub(crate) fn is_lost(report: &RepairReport, position: u64) -> bool {
    let ranges = &report.losses.ranges;
    ranges
        .iter()
        .any(|range| range.positions.contains(&position))
}

/// Whatever is not said to be lost is there byte for byte, and every part of the store agrees.
pub(crate) fn check(store: &SledStore, events: &[EventEnvelope], report: &RepairReport) {
    let there = read_over(store);
    let whole: Vec<_> = events
        .iter()
        .filter(|event| !is_lost(report, event.position.unwrap()))
        .collect();
    assert_eq!(whole.len() as u64, report.records);
    assert!(there.iter().take(whole.len()).eq(whole.iter().copied()));
    let own = &there[whole.len()..];
    assert!(own.iter().all(|own| own.kind == RecordKind::Control));
    assert_eq!(&*own[0].event_type, "Epoch");
    let verified = store.verify().unwrap();
    assert_eq!(verified.records, there.len() as u64);
    let lost = report.losses.ranges.iter();
    let lost: u64 = lost
        .map(|range| range.positions.end() - range.positions.start() + 1)
        .sum();
    assert_eq!(verified.lost, lost);
    store.rebuild_index().unwrap();
    assert_eq!(store.verify().unwrap(), verified);
}

/// Appends one event to a stream.
pub(crate) fn append(store: &SledStore, to: &StreamId, n: u64) -> Result<AppendReceipt, Error> {
    let batch = AppendBatch::new(to.clone(), ExpectedVersion::Any, vec![event(n, 50)]);
    store.blocking().append(batch)
}
