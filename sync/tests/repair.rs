//! Aggregates of a repaired store: refused until the loss is accepted, and then right.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::convert::Infallible;
use std::fs;
use std::path::Path;

use serde::{Deserialize, Serialize};
use tidelog::{
    Aggregate, Command, Context, Decide, Error, ErrorKind, Event, ExecuteError, StreamId, Tidelog,
    repair,
};

#[derive(Clone, Serialize, Deserialize)]
struct Raised(u64);

impl Event for Raised {
    fn event_type(&self) -> &'static str {
        "Raised"
    }
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Counter(u64);

impl Aggregate for Counter {
    const TYPE: &'static str = "Counter";
    type Event = Raised;
    type Error = Infallible;

    fn apply(state: Option<Self>, raised: &Raised) -> Result<Self, Infallible> {
        Ok(Self(state.map_or(0, |counter| counter.0) + raised.0))
    }
}

struct Raise(&'static str, u64);

impl Command for Raise {
    type Aggregate = Counter;

    fn target_aggregate_identifier(&self) -> Option<&str> {
        Some(self.0)
    }
}

impl Decide<Raise> for Counter {
    type Rejection = Infallible;

    fn decide(_: Option<&Self>, raise: &Raise, _: &Context) -> Result<Vec<Raised>, Infallible> {
        Ok(vec![Raised(raise.1)])
    }
}

/// Flips a bit in the commit with this number, in a store of one segment.
fn damage(store: &Path, commit: u64) {
    let path = store.join("log/00000001.seg");
    let mut bytes = fs::read(&path).unwrap();
    let mut at = 4096;
    while bytes[at + 16..at + 24] != commit.to_le_bytes() {
        let len = u32::from_le_bytes(bytes[at + 4..at + 8].try_into().unwrap());
        at = (at + 88 + len as usize).next_multiple_of(8);
    }
    bytes[at + 100] ^= 1;
    fs::write(path, bytes).unwrap();
}

#[test]
fn an_aggregate_goes_on_after_its_loss_is_accepted_and_applies_each_event_once() {
    let dir = tempfile::tempdir().unwrap();
    let (from, to) = (dir.path().join("a"), dir.path().join("b"));
    let log = Tidelog::open(&from).unwrap().blocking();
    for by in [1, 10, 100] {
        log.execute(Raise("x", by)).unwrap();
    }
    log.execute(Raise("y", 7)).unwrap();
    log.close().unwrap();
    drop(log);
    // The newest event of one stream, with one of another stream behind it.
    damage(&from, 3);
    let refused = Tidelog::open(&from).map(drop).unwrap_err();
    assert!(refused.to_string().contains("`repair`"), "{refused}");
    let report = repair(&from, &to).unwrap();
    assert_eq!(report.losses.unnamed, 1);

    let log = Tidelog::open(&to).unwrap().blocking();
    assert_eq!(log.losses().unwrap(), report.losses);
    let refused = log.execute(Raise("x", 1_000)).unwrap_err();
    let ExecuteError::Store(refused) = refused else {
        unreachable!("nothing is rejected")
    };
    assert_eq!(
        (refused.code(), refused.kind()),
        ("lost_events", ErrorKind::Repair)
    );
    let stream = StreamId::new("Counter", "x").unwrap();
    assert!(matches!(
        log.accept_loss(&stream),
        Err(Error::LostEvents { .. })
    ));
    log.accept_all_losses().unwrap();
    for (by, sum, sequence) in [(1_000, 1_011, 4), (10_000, 11_011, 5), (5, 11_016, 6)] {
        let done = log.execute(Raise("x", by)).unwrap();
        assert_eq!(done.sequence, sequence);
        let loaded = log.load::<Counter>("x").unwrap().unwrap();
        assert_eq!((loaded.state.0, loaded.sequence), (sum, sequence));
    }
    assert_eq!(log.execute(Raise("new", 1)).unwrap().sequence, 2);
    log.verify().unwrap();
}
