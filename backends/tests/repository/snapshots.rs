//! Snapshots help when they can and never stand in the way.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use tidelog_core::{
    AggregateRepository, ContentType, EventId, PersistOutcome, SnapshotEnvelope, SnapshotStore,
    SnapshotStrategy, Timestamp,
};

use crate::bank::{Account, What, on};
use crate::probe::Probe;
use crate::{Accounts, cents, events, now, opened, stream};

fn snapshotting(store: &Probe, strategy: SnapshotStrategy, cache: bool) -> Accounts {
    let accounts = AggregateRepository::new(store.clone()).with_snapshots(store.clone(), strategy);
    let budget = if cache { 1 << 20 } else { 0 };
    accounts.with_cache(budget).blocking()
}

fn kept(store: &Probe) -> Option<SnapshotEnvelope> {
    now(SnapshotStore::read(&store.memory, &stream())).unwrap()
}

/// At which sequences snapshots were taken while 10 events came, one a command.
fn taken_at(strategy: SnapshotStrategy, cache: bool) -> Vec<u64> {
    let store = opened();
    let accounts = snapshotting(&store, strategy, cache);
    let mut taken = Vec::new();
    for _ in 0..10 {
        accounts.execute(on("a", What::Deposit(1))).unwrap();
        taken.extend(kept(&store).map(|snapshot| snapshot.sequence));
        taken.dedup();
    }
    assert_eq!(cents(&accounts), 10);
    taken
}

#[test]
fn each_strategy_takes_them_when_it_says() {
    for cache in [true, false] {
        assert!(taken_at(SnapshotStrategy::Never, cache).is_empty());
        assert_eq!(taken_at(SnapshotStrategy::EveryEvents(4), cache), [4, 8]);
        assert_eq!(taken_at(SnapshotStrategy::EveryEvents(1), cache).len(), 10);
        // `Opened` takes 2 bytes, every deposit one.
        assert_eq!(taken_at(SnapshotStrategy::AfterBytes(5), cache), [4, 9]);
        let primes = SnapshotStrategy::Custom(Arc::new(|p| matches!(p.sequence, 3 | 5 | 7)));
        assert_eq!(taken_at(primes, cache), [3, 5, 7]);
        let by_count = SnapshotStrategy::Custom(Arc::new(|p| p.events == 3 && p.bytes >= 3));
        assert_eq!(taken_at(by_count, cache), [3, 6, 9]);
    }
}

#[test]
fn a_snapshot_says_what_it_is_and_saves_the_events_before_it() {
    let store = opened();
    let accounts = snapshotting(&store, SnapshotStrategy::EveryEvents(3), false);
    accounts.execute(on("a", What::Split(vec![1, 2]))).unwrap();
    accounts.execute(on("a", What::Deposit(4))).unwrap();

    let snapshot = kept(&store).unwrap();
    assert_eq!((snapshot.sequence, snapshot.revision), (3, 2));
    assert_eq!(snapshot.content_type, ContentType::Postcard);
    assert_eq!(snapshot.event_id, events(&store)[2].event_id);
    assert_eq!(snapshot.decode::<Account>().unwrap().state.cents, 3);

    store.reads();
    assert_eq!(cents(&accounts), 7);
    assert_eq!(
        store.reads(),
        [3],
        "the event it ends with, and those after it"
    );
}

/// Puts `snapshot` where one is read from, without asking whether it is true.
fn load_with(snapshot: SnapshotEnvelope) -> (u64, Vec<u64>) {
    let store = opened();
    let accounts = snapshotting(&store, SnapshotStrategy::Never, false);
    accounts
        .execute(on("a", What::Split(vec![1, 2, 3])))
        .unwrap();
    let accounts = AggregateRepository::<Account, _>::new(store.clone())
        .with_snapshots(One(snapshot), SnapshotStrategy::Never)
        .blocking();
    store.reads();
    (cents(&accounts), store.reads())
}

#[derive(Clone)]
struct One(SnapshotEnvelope);

impl SnapshotStore for One {
    async fn read(
        &self,
        _: &tidelog_core::StreamId,
    ) -> Result<Option<SnapshotEnvelope>, tidelog_core::Error> {
        Ok(Some(self.0.clone()))
    }

    async fn persist(&self, _: SnapshotEnvelope) -> Result<PersistOutcome, tidelog_core::Error> {
        Ok(PersistOutcome::Superseded)
    }
}

fn untrue() -> SnapshotEnvelope {
    SnapshotEnvelope {
        stream: stream(),
        sequence: 2,
        event_id: EventId::from_bytes([9; 16]),
        revision: 2,
        content_type: ContentType::Postcard,
        taken_time: Timestamp::from_micros(0),
        state: Account {
            id_seen: "a".into(),
            cents: 1_000_000,
            events: 2,
        },
    }
    .encode()
    .unwrap()
}

#[test]
fn a_snapshot_of_another_history_is_passed_over() {
    let (cents, reads) = load_with(untrue());
    assert_eq!((cents, reads), (6, vec![2, 1]));
}

#[test]
fn a_snapshot_ahead_of_its_stream_is_passed_over() {
    let (cents, reads) = load_with(SnapshotEnvelope {
        sequence: 99,
        ..untrue()
    });
    assert_eq!((cents, reads), (6, vec![99, 1]));
}

#[test]
fn a_damaged_snapshot_is_passed_over() {
    for state in [vec![], vec![0xff; 30], [&untrue().state[..], &[0]].concat()] {
        let (cents, reads) = load_with(SnapshotEnvelope {
            state: state.into(),
            ..untrue()
        });
        assert_eq!((cents, reads), (6, vec![1]));
    }
}

#[test]
fn a_snapshot_of_another_revision_or_encoding_is_passed_over() {
    for revision in [1, 3] {
        let (cents, reads) = load_with(SnapshotEnvelope {
            revision,
            ..untrue()
        });
        assert_eq!((cents, reads), (6, vec![1]));
    }
    let (cents, _) = load_with(SnapshotEnvelope {
        content_type: ContentType::Json,
        ..untrue()
    });
    assert_eq!(cents, 6);
}

#[test]
fn a_failing_snapshot_store_fails_no_command_and_no_load() {
    for cache in [true, false] {
        let store = opened();
        store.seen.snapshots_fail.store(true, Ordering::SeqCst);
        let accounts = snapshotting(&store, SnapshotStrategy::EveryEvents(1), cache);
        for _ in 0..3 {
            accounts.execute(on("a", What::Deposit(1))).unwrap();
        }
        assert_eq!(cents(&accounts), 3);
        store.seen.snapshots_fail.store(false, Ordering::SeqCst);
        accounts.execute(on("a", What::Deposit(1))).unwrap();
        assert_eq!(kept(&store).unwrap().sequence, 5);
    }
}
