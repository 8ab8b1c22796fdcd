//! A command with an id is executed once, however often it is sent.

use std::sync::atomic::Ordering;

use tidelog_core::{
    AggregateRepository, AppendBatch, Context, EventId, ExpectedVersion, MultiStreamStore,
    NewEvent, StreamId,
};

use crate::bank::{Account, AccountEvent, Do, What, on};
use crate::probe::Probe;
use crate::{cached, cents, events, now, opened, stream, uncached, with_id};

#[test]
fn repeated_it_is_answered_as_the_first_time_without_deciding() {
    for accounts in [cached, uncached] {
        let store = opened();
        let accounts = accounts(&store);
        let first = accounts
            .execute_with(on("a", What::Deposit(5)), with_id("d1"))
            .unwrap();
        assert!(!first.already_executed);
        accounts.execute(on("a", What::Deposit(1))).unwrap();

        let again = on("a", What::Deposit(5));
        let second = accounts.execute_with(again.clone(), with_id("d1")).unwrap();
        assert!(second.already_executed);
        assert_eq!(
            (second.sequence, second.position, second.events),
            (2, Some(2), 1)
        );
        assert_eq!(again.decisions.count(), 0);
        assert_eq!(cents(&accounts), 6);
        assert_eq!(events(&store).len(), 3);
    }
}

#[test]
fn it_is_answered_even_if_it_would_be_rejected_now() {
    for accounts in [cached, uncached] {
        let store = opened();
        let accounts = accounts(&store);
        accounts.execute(on("a", What::Deposit(10))).unwrap();
        let withdraw = || on("a", What::Withdraw(10));
        accounts.execute_with(withdraw(), with_id("w1")).unwrap();
        let again = accounts.execute_with(withdraw(), with_id("w1")).unwrap();
        assert!(again.already_executed);
        assert_eq!(again.sequence, 3);
        let other = accounts
            .execute_with(withdraw(), with_id("w2"))
            .unwrap_err();
        assert_eq!(other.code(), "rejected");
    }
}

#[test]
fn with_several_events_the_last_one_is_answered() {
    let store = opened();
    let accounts = uncached(&store);
    let split = || on("a", What::Split(vec![1, 2, 3]));
    let first = accounts.execute_with(split(), with_id("s1")).unwrap();
    accounts.execute(on("a", What::Split(vec![4, 5]))).unwrap();
    let again = accounts.execute_with(split(), with_id("s1")).unwrap();
    assert_eq!(
        (again.sequence, again.position, again.events),
        (4, Some(4), 3)
    );
    assert_eq!(
        tidelog_core::CommandResponse {
            already_executed: true,
            ..first
        },
        again
    );
    assert_eq!(cents(&accounts), 15);
}

#[test]
fn recorded_in_a_batch_over_several_streams_its_own_last_event_is_answered() {
    let store = opened();
    let context = with_id("both");
    let deposit =
        |id: EventId| NewEvent::encode(&AccountEvent::Deposited { cents: 1 }, id).unwrap();
    let other = StreamId::new("Account", "b").unwrap();
    let parts = vec![
        AppendBatch::new(
            stream(),
            ExpectedVersion::Any,
            vec![deposit(context.event_id(0)), deposit(context.event_id(1))],
        ),
        AppendBatch::new(
            other,
            ExpectedVersion::Any,
            vec![deposit(EventId::generate()), deposit(EventId::generate())],
        ),
    ];
    now(store.memory.append_streams(parts)).unwrap();
    let accounts = uncached(&store);
    accounts
        .execute(on("a", What::Split(vec![1, 1, 1])))
        .unwrap();
    let again = accounts
        .execute_with(on("a", What::Deposit(1)), context)
        .unwrap();
    assert_eq!(
        (again.sequence, again.position, again.events),
        (3, Some(3), 2)
    );
}

#[test]
fn creating_an_aggregate_it_makes_the_same_one() {
    let store = Probe::default();
    let accounts = cached(&store);
    let open = || Do {
        id: None,
        ..on("", What::Open)
    };
    let first = accounts.execute_with(open(), with_id("o1")).unwrap();
    let again = accounts.execute_with(open(), with_id("o1")).unwrap();
    assert_eq!(first.aggregate_id, again.aggregate_id);
    assert!(again.already_executed);
    let other = accounts.execute_with(open(), with_id("o2")).unwrap();
    assert_ne!(first.aggregate_id, other.aggregate_id);
}

#[test]
fn sent_by_many_at_once_it_is_executed_by_one_and_answered_to_all() {
    for what in [What::Deposit(7), What::Split(vec![3, 4])] {
        let count = if matches!(what, What::Deposit(_)) {
            1
        } else {
            2
        };
        for round in 0..20 {
            let store = opened();
            let shared = cached(&store);
            let answers: Vec<_> = std::thread::scope(|scope| {
                let sent: Vec<_> = (0..8)
                    .map(|n| {
                        let accounts = if n % 2 == 0 {
                            shared.clone()
                        } else {
                            uncached(&store)
                        };
                        let command = on("a", what.clone());
                        let id = with_id(&format!("round {round}"));
                        scope.spawn(move || accounts.execute_with(command, id).unwrap())
                    })
                    .collect();
                sent.into_iter()
                    .map(|thread| thread.join().unwrap())
                    .collect()
            });
            let executed = answers
                .iter()
                .filter(|answer| !answer.already_executed)
                .count();
            assert_eq!(executed, 1);
            assert!(answers.iter().all(|answer| answer.sequence == 1 + count));
            assert!(
                answers
                    .iter()
                    .all(|answer| u64::from(answer.events) == count)
            );
            assert_eq!(cents(&shared), 7);
        }
    }
}

#[test]
fn sent_by_many_at_once_none_is_rejected_because_another_has_executed_it() {
    for round in 0..50 {
        let store = Probe::default();
        std::thread::scope(|scope| {
            for n in 0..6 {
                let accounts = if n % 2 == 0 {
                    cached(&store)
                } else {
                    uncached(&store)
                };
                let id = with_id(&format!("open {round}"));
                scope.spawn(move || accounts.execute_with(on("a", What::Open), id).unwrap());
            }
        });
        assert_eq!(events(&store).len(), 1);
    }
}

/// Lets another handle execute `command` under `id` as soon as this one has looked for it.
fn another_is_faster(store: &Probe, command: Do, id: &'static str) {
    let other = AggregateRepository::<Account, _>::new(store.memory.clone());
    let mut command = Some(command);
    store.after_find(move |_| {
        if let Some(command) = command.take() {
            now(other.execute_with(command, with_id(id))).unwrap();
        }
    });
}

#[test]
fn executed_by_another_after_it_was_looked_for_it_is_not_rejected() {
    let store = opened();
    let accounts = uncached(&store);
    accounts.execute(on("a", What::Deposit(10))).unwrap();
    let withdraw = on("a", What::Withdraw(10));
    another_is_faster(&store, withdraw.clone(), "w");
    let done = accounts.execute_with(withdraw, with_id("w")).unwrap();
    assert!(
        done.already_executed,
        "although nothing is left to withdraw"
    );
    assert_eq!((done.sequence, cents(&accounts)), (3, 0));
}

#[test]
fn executed_by_another_after_it_was_looked_for_it_is_not_counted_twice() {
    let store = opened();
    let accounts = cached(&store);
    let deposit = on("a", What::Deposit(5));
    another_is_faster(&store, deposit.clone(), "d");
    let done = accounts.execute_with(deposit, with_id("d")).unwrap();
    assert_eq!((done.already_executed, done.sequence), (true, 2));
    // As long as the stream is where a state that counts twice would be.
    uncached(&store).execute(on("a", What::Deposit(1))).unwrap();
    assert_eq!(cents(&accounts), 6, "nor in the cache");
}

#[test]
fn executed_by_another_on_another_state_the_others_execution_is_answered() {
    let store = opened();
    let accounts = uncached(&store);
    accounts.execute(on("a", What::Deposit(10))).unwrap();
    another_is_faster(&store, on("a", What::Withdraw(3)), "w");
    let done = accounts
        .execute_with(on("a", What::Withdraw(4)), with_id("w"))
        .unwrap();
    assert!(done.already_executed, "the id is what counts");
    assert_eq!((done.sequence, cents(&accounts)), (3, 7));
}

#[test]
fn with_other_content_under_the_same_id_the_first_execution_is_answered() {
    let store = opened();
    let accounts = uncached(&store);
    accounts
        .execute_with(on("a", What::Deposit(5)), with_id("d"))
        .unwrap();
    let other = accounts
        .execute_with(on("a", What::Deposit(6)), with_id("d"))
        .unwrap();
    assert!(other.already_executed);
    assert_eq!(cents(&accounts), 5);
}

#[test]
fn rejected_at_first_it_may_be_executed_later() {
    let store = opened();
    let accounts = cached(&store);
    let withdraw = || on("a", What::Withdraw(5));
    accounts.execute_with(withdraw(), with_id("w")).unwrap_err();
    accounts.execute(on("a", What::Deposit(5))).unwrap();
    let done = accounts.execute_with(withdraw(), with_id("w")).unwrap();
    assert!(!done.already_executed);
}

#[test]
fn a_context_without_a_command_id_is_one_intention_too() {
    let store = opened();
    let accounts = cached(&store);
    let context = Context::new();
    let deposit = || on("a", What::Deposit(5));
    let first = accounts.execute_with(deposit(), context.clone()).unwrap();
    let again = accounts.execute_with(deposit(), context).unwrap();
    assert_eq!(
        (first.already_executed, again.already_executed),
        (false, true)
    );
    assert_eq!(first.sequence, again.sequence);
    assert_eq!(cents(&accounts), 5);
    accounts.execute(on("a", What::Deposit(1))).unwrap();
    assert_eq!(cents(&accounts), 6);
}

#[test]
fn a_command_without_an_id_looks_for_nothing() {
    let store = opened();
    cached(&store).execute(on("a", What::Deposit(5))).unwrap();
    assert_eq!(store.seen.finds.load(Ordering::SeqCst), 0);
}
