//! Others writing to the same stream.

use std::sync::atomic::Ordering;

use tidelog_core::{AggregateRepository, Error, ExecuteError};

use crate::bank::{Account, What, on};
use crate::{cached, cents, events, now, opened, uncached};

#[test]
fn racing_threads_each_get_their_command_executed_once() {
    const THREADS: u64 = 8;
    const EACH: u64 = 25;
    for shared in [true, false] {
        let store = opened();
        let one = AggregateRepository::<Account, _>::new(store.clone())
            .with_cache(1 << 20)
            .with_max_attempts(u32::MAX)
            .blocking();
        std::thread::scope(|scope| {
            for _ in 0..THREADS {
                let accounts = if shared {
                    one.clone()
                } else {
                    AggregateRepository::new(store.clone())
                        .with_cache(1 << 20)
                        .with_max_attempts(u32::MAX)
                        .blocking()
                };
                scope.spawn(move || {
                    for _ in 0..EACH {
                        accounts.execute(on("a", What::Deposit(1))).unwrap();
                    }
                });
            }
        });
        let all = THREADS * EACH;
        let loaded = one.load("a").unwrap().unwrap();
        assert_eq!((loaded.state.cents, loaded.sequence), (all, all + 1));
        assert_eq!(cents(&uncached(&store)), all, "and so does a replay say");
    }
}

#[test]
fn after_a_conflict_only_the_new_events_are_read_and_it_is_decided_anew() {
    let store = opened();
    uncached(&store)
        .execute(on("a", What::Deposit(100)))
        .unwrap();
    let accounts = cached(&store);
    accounts.load("a").unwrap();

    // Another withdraws first, so that the rest is too little.
    let mut others = Some(on("a", What::Withdraw(80)));
    let other = AggregateRepository::<Account, _>::new(store.memory.clone());
    store.before_append(move |_| {
        if let Some(command) = others.take() {
            now(other.execute(command)).unwrap();
        }
    });
    store.reads();
    let withdraw = on("a", What::Withdraw(50));
    let error = accounts.execute(withdraw.clone()).unwrap_err();
    assert_eq!(error.code(), "rejected");
    assert_eq!(withdraw.decisions.count(), 2);
    assert_eq!(
        store.reads(),
        [2],
        "the event it ends with, then the tail alone"
    );
    assert_eq!(cents(&accounts), 20);
}

#[test]
fn a_command_gives_up_after_the_attempts_it_has() {
    for (accounts, attempts) in [(true, 3), (false, 3), (true, 1)] {
        let store = opened();
        let mut repository =
            AggregateRepository::<Account, _>::new(store.clone()).with_max_attempts(attempts);
        if accounts {
            repository = repository.with_cache(1 << 20);
        }
        let accounts = repository.blocking();
        let other = AggregateRepository::<Account, _>::new(store.memory.clone());
        store.before_append(move |_| {
            now(other.execute(on("a", What::Deposit(1)))).unwrap();
        });
        let command = on("a", What::Deposit(1_000));
        let error = accounts.execute(command.clone()).unwrap_err();
        let ExecuteError::Conflict {
            attempts: tried,
            last: Error::WrongVersion { .. },
        } = error
        else {
            panic!("{error}");
        };
        assert_eq!(tried, attempts);
        assert_eq!(command.decisions.count(), attempts as usize);
        assert_eq!(
            events(&store).len(),
            1 + attempts as usize,
            "the other's alone"
        );
    }
}

#[test]
fn the_backoff_is_waited_for_and_told_how_many_attempts_have_failed() {
    use std::sync::{Arc, Mutex};
    let store = opened();
    let told = Arc::new(Mutex::new(Vec::new()));
    let telling = Arc::clone(&told);
    let accounts = AggregateRepository::<Account, _>::new(store.clone())
        .with_max_attempts(4)
        .with_backoff(move |failed| {
            telling.lock().unwrap().push(failed);
            Box::pin(std::future::ready(()))
        })
        .blocking();
    let other = AggregateRepository::<Account, _>::new(store.memory.clone());
    let mut left = 2;
    store.before_append(move |_| {
        if left > 0 {
            left -= 1;
            now(other.execute(on("a", What::Deposit(1)))).unwrap();
        }
    });
    accounts.execute(on("a", What::Deposit(1))).unwrap();
    assert_eq!(*told.lock().unwrap(), [1, 2]);
    assert_eq!(
        store.seen.appends.load(Ordering::SeqCst),
        4,
        "opened, and three attempts"
    );
}
