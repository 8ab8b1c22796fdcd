//! What repair makes of a damaged store: every whole commit, nothing else, and all that is gone said.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::path::Path;

use tidelog_backends::{Losses, SledStore, repair};
use tidelog_core::*;

use crate::image::{End, Image, open};
use crate::look::Kept;
use crate::tools::{differences, event, tree};

/// Repairs the store in `dir` and holds all that repair promises. What came of it, for the table.
pub fn check_repair(image: &Image, dir: &Path, kept: &Kept, state_is_gone: bool) -> &'static str {
    let to = dir.with_file_name("repaired");
    let _ = fs::remove_dir_all(&to);
    let before = tree(dir);
    let done = repair(dir, &to);
    let changed = differences(&before, &tree(dir));
    assert!(changed.is_empty(), "repair changed {changed:?}");
    let report = match done {
        Ok(report) => report,
        Err(Error::Damaged { path, .. }) => {
            // Nothing to repair, or the file that says what is of this store is another's.
            let format = path.ends_with("format");
            assert!(format || !kept.any(), "{} was not repaired", path.display());
            assert!(!to.exists() || open(&to).is_err(), "half a repair opens");
            return "repair refused, too";
        }
        Err(Error::NotAStore { .. }) => {
            assert!(!dir.join("log").is_dir(), "not even looked at");
            return "no log to repair";
        }
        Err(error) => panic!("repair: {error:?}"),
    };
    let store = open(&to).unwrap();
    assert_eq!(store.losses().unwrap(), report.losses);
    let there = read_over(&store);
    let known: HashMap<u64, &EventEnvelope> = image
        .events
        .iter()
        .map(|event| (event.position.unwrap(), event))
        .collect();
    let (events, own): (Vec<_>, Vec<_>) = there
        .iter()
        .partition(|event| event.kind == RecordKind::Event);
    for found in &events {
        let as_it_was = known.get(&found.position.unwrap()) == Some(found);
        assert!(as_it_was, "position {:?} is wrong", found.position);
    }
    assert_eq!(report.records, events.len() as u64);
    assert!(!own.is_empty() && own.iter().all(|own| own.kind == RecordKind::Control));
    let positions: Vec<u64> = events.iter().map(|event| event.position.unwrap()).collect();
    for last in kept.whole() {
        assert!(
            positions.binary_search(&last).is_ok(),
            "position {last} stood in a whole commit"
        );
    }
    check_named(image, &report.losses, &positions, state_is_gone);
    let verified = store.verify().unwrap();
    assert_eq!(verified.records, there.len() as u64);
    go_on(&store, image, &report.losses, &positions);
    store.close_blocking().unwrap();
    drop(store);
    let store = open(&to).unwrap();
    store.verify().unwrap();
    store.rebuild_index().unwrap();
    store.verify().unwrap();
    store.close_blocking().unwrap();
    drop(store);
    fs::remove_dir_all(&to).unwrap();
    match (report.lost.is_empty(), report.losses.unnamed) {
        (true, _) => "repaired whole",
        (_, 0) => "repaired, all named",
        _ => "repaired, not all named",
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
                Err(Error::Gap { last, .. }) => gap = Some(last),
                Err(error) => panic!("{error:?}"),
            }
        }
        match gap {
            Some(last) => from = last + 1,
            None => return all,
        }
    }
}

/// Whatever is not there is said to be gone, and of which stream, unless that is said not to be known.
fn check_named(image: &Image, losses: &Losses, positions: &[u64], state_is_gone: bool) {
    let mut silent = 0;
    for event in &image.events {
        let position = event.position.unwrap();
        if positions.binary_search(&position).is_ok() {
            continue;
        }
        let declared = losses
            .ranges
            .iter()
            .any(|range| range.positions.contains(&position));
        if !declared {
            // As when a store is opened: the very last commits may be cleanly gone.
            let tail = positions.last().is_none_or(|last| *last < position);
            assert!(tail, "position {position} is gone unsaid");
            silent += 1;
            continue;
        }
        let named = losses.streams.iter().any(|lost| {
            let mut sequences = lost.sequences.iter();
            lost.stream == event.stream && sequences.any(|range| range.contains(&event.sequence))
        });
        assert!(
            named || losses.unnamed > 0,
            "{} {} at {position} is gone, and nobody says so: {losses:?}",
            event.stream,
            event.sequence
        );
    }
    assert!(
        silent == 0 || image.end != End::Closed || state_is_gone,
        "a closed store lost {silent} events unsaid"
    );
}

/// Streams that lost events wait for an answer; then all go on above all that was ever given.
fn go_on(store: &SledStore, image: &Image, losses: &Losses, positions: &[u64]) {
    let face = store.blocking();
    let mut heads: BTreeMap<StreamId, u64> = BTreeMap::new();
    for event in &image.events {
        let position = event.position.unwrap();
        let is_there = positions.binary_search(&position).is_ok();
        let is_declared = losses
            .ranges
            .iter()
            .any(|range| range.positions.contains(&position));
        let head = heads.entry(event.stream.clone()).or_default();
        if is_there || is_declared {
            *head = event.sequence;
        }
    }
    let batch =
        |to: &StreamId, n| AppendBatch::new(to.clone(), ExpectedVersion::Any, vec![event(n, 100)]);
    for (at, to) in heads.keys().enumerate() {
        let waits = losses.unnamed > 0 || losses.streams.iter().any(|lost| lost.stream == *to);
        match face.append(batch(to, (1 << 41) + at as u64)) {
            Ok(receipt) => assert!(!waits && receipt.first_sequence == heads[to] + 1),
            Err(error) => assert!(waits && error.code() == "lost_events", "{error:?}"),
        }
    }
    store.accept_all_losses().unwrap();
    let last = positions.last().copied().unwrap_or(0);
    for (at, to) in heads.keys().enumerate() {
        let n = (1 << 42) + at as u64;
        let receipt = face.append(batch(to, n)).unwrap();
        assert!(
            receipt.first_sequence > heads[to],
            "a sequence is used twice"
        );
        assert!(receipt.first_position.unwrap() > last);
        let again = face.append(batch(to, n)).unwrap();
        assert_eq!(again.outcome, AppendOutcome::AlreadyAppended);
        assert_eq!(again.first_sequence, receipt.first_sequence);
        let read = face.read_stream(StreamQuery::new(to.clone()));
        let read: Vec<EventEnvelope> = read.collect::<Result<_, _>>().unwrap();
        assert!(
            read.windows(2)
                .all(|pair| pair[0].sequence < pair[1].sequence)
        );
        assert_eq!(read.last().unwrap().sequence, receipt.last_sequence);
    }
}
