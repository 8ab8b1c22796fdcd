//! What was decided or kept on events that gave way to another origin's counts for nothing.

use std::sync::atomic::Ordering;

use tidelog_backends::MemoryStore;
use tidelog_core::{
    AggregateRepository, Birth, CommandId, Context, EventId, EventStore, NewEvent, SnapshotStore,
    SnapshotStrategy, Supersede, Supersession, Timestamp, TypedEventStore,
};

use crate::bank::{Account, AccountEvent, What, on};
use crate::{cached, cents, events, now, opened, stream, uncached};

/// Another origin's deposits of these amounts take the place of all from `from` on.
fn supersede(store: &MemoryStore, from: u64, amounts: &[u64]) {
    let head = now(EventStore::head(store, &stream()));
    let birth = Birth {
        origin: uuid::Uuid::from_u128(1),
        epoch: uuid::Uuid::from_u128(2),
        position: 3,
        recorded_time: Timestamp::from_micros(4),
    };
    let deposit = |cents: &u64| {
        let event = AccountEvent::Deposited { cents: *cents };
        let event = NewEvent::encode(&event, EventId::generate()).unwrap();
        event.with_birth(birth)
    };
    let adopted = amounts.iter().map(deposit).collect();
    let what = Supersession::new(stream(), head.unwrap().unwrap(), from).with_adopted(adopted);
    now(store.supersede(what)).unwrap();
}

#[test]
fn a_cached_state_of_as_many_events_is_loaded_anew() {
    let store = opened();
    let accounts = cached(&store);
    accounts.execute(on("a", What::Deposit(5))).unwrap();
    assert_eq!(cents(&accounts), 5);
    for (from, amounts, expected) in [
        (2, &[70][..], 70),
        (2, &[1, 2, 3], 6),
        (3, &[20, 30, 40], 91),
        (2, &[], 0),
    ] {
        supersede(&store.memory, from, amounts);
        assert_eq!(cents(&accounts), expected, "{amounts:?}");
        assert_eq!(cents(&uncached(&store)), expected);
        let done = accounts.execute(on("a", What::Deposit(1000))).unwrap();
        assert_eq!(done.sequence, from + amounts.len() as u64);
        assert_eq!(cents(&accounts), expected + 1000);
        supersede(&store.memory, done.sequence, &[]);
        assert_eq!(cents(&accounts), expected);
    }
}

#[test]
fn what_was_decided_on_events_that_gave_way_is_decided_again() {
    for caches in [true, false] {
        let store = opened();
        let accounts = if caches {
            cached(&store)
        } else {
            uncached(&store)
        };
        accounts.execute(on("a", What::Deposit(100))).unwrap();
        let mut once = Some(());
        store.before_append(move |memory| {
            if once.take().is_some() {
                supersede(memory, 2, &[10]);
            }
        });
        let withdraw = on("a", What::Withdraw(60));
        let error = accounts.execute(withdraw.clone()).unwrap_err();
        assert_eq!(error.code(), "rejected", "there are 10 now");
        assert_eq!(withdraw.decisions.count(), 2);
        assert_eq!(events(&store).len(), 2);
        assert_eq!(cents(&accounts), 10);
    }
}

#[test]
fn no_command_is_rejected_for_events_that_gave_way() {
    let store = opened();
    let accounts = cached(&store);
    accounts.execute(on("a", What::Deposit(1))).unwrap();
    supersede(&store.memory, 2, &[50]);
    let withdraw = on("a", What::Withdraw(40));
    accounts.execute(withdraw.clone()).unwrap();
    assert_eq!(withdraw.decisions.count(), 2);
    assert_eq!(cents(&accounts), 10);
}

#[test]
fn a_command_whose_events_gave_way_is_refused_and_not_executed_twice() {
    let store = opened();
    let accounts = cached(&store);
    let context = || Context::new().with_command_id(CommandId::new("once").unwrap());
    let deposit = || on("a", What::Deposit(7));
    accounts.execute_with(deposit(), context()).unwrap();
    supersede(&store.memory, 2, &[1]);
    let error = accounts.execute_with(deposit(), context()).unwrap_err();
    assert_eq!(error.code(), "id_conflict");
    assert_eq!(cents(&accounts), 1);
}

#[test]
fn a_snapshot_of_events_that_gave_way_is_passed_over() {
    let store = opened();
    let strategy = SnapshotStrategy::EveryEvents(3);
    let accounts = AggregateRepository::<Account, _>::new(store.clone())
        .with_snapshots(store.clone(), strategy)
        .blocking();
    accounts.execute(on("a", What::Split(vec![1, 2]))).unwrap();
    let kept = || now(SnapshotStore::read(&store.memory, &stream())).unwrap();
    assert_eq!(kept().unwrap().sequence, 3);
    supersede(&store.memory, 3, &[40]);
    assert_eq!(kept(), None);
    assert_eq!(cents(&accounts), 41);
    assert_eq!(
        now(store.memory.read_events::<AccountEvent>(&stream()))
            .unwrap()
            .len(),
        3
    );
    assert_eq!(store.seen.appends.load(Ordering::SeqCst), 2);
}
