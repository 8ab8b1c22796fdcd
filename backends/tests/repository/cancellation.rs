//! Dropping a command at any moment leaves it recorded whole or not at all, and the cache true.

use std::sync::atomic::Ordering;
use std::task::{Context as Task, Poll, Waker};

use tidelog_core::{AggregateRepository, SnapshotStrategy};

use crate::bank::{Account, Do, What, on};
use crate::probe::Probe;
use crate::{cents, events, opened, uncached, with_id};

type Async = AggregateRepository<Account, Probe>;

/// Polls the command `polls` times, then drops it; whether it was done by then.
fn poll_then_drop(accounts: &Async, command: Do, id: &str, polls: usize) -> bool {
    let mut cx = Task::from_waker(Waker::noop());
    let mut executing = std::pin::pin!(accounts.execute_with(command, with_id(id)));
    (0..polls).any(|_| match executing.as_mut().poll(&mut cx) {
        Poll::Ready(done) => {
            done.unwrap();
            true
        }
        Poll::Pending => false,
    })
}

/// Drops a command of two events after every number of polls, on a store whose every call pends
/// before and after its work; `meanwhile` acts on the store before the command starts.
fn drop_everywhere(cache: u64, meanwhile: fn(&Probe)) {
    let mut recorded_but_unanswered = 0;
    for polls in 0.. {
        let store = opened();
        let accounts = Async::new(store.clone())
            .with_cache(cache)
            .with_snapshots(store.clone(), SnapshotStrategy::EveryEvents(1));
        accounts
            .clone()
            .blocking()
            .execute(on("a", What::Deposit(1)))
            .unwrap();
        meanwhile(&store);
        let before = events(&store).len();

        let command = on("a", What::Split(vec![10, 20]));
        store.seen.slow.store(true, Ordering::SeqCst);
        let done = poll_then_drop(&accounts, command.clone(), "the command", polls);
        store.seen.slow.store(false, Ordering::SeqCst);

        let added = events(&store).len() - before;
        assert!(
            added == 0 || added == 2,
            "{added} of 2 events after {polls} polls"
        );
        assert!(!done || added == 2);
        recorded_but_unanswered += usize::from(added == 2 && !done);

        let blocking = accounts.blocking();
        let truth = cents(&uncached(&store));
        assert_eq!(cents(&blocking), truth, "after {polls} polls");
        let again = blocking
            .execute_with(command, with_id("the command"))
            .unwrap();
        assert_eq!(again.already_executed, added == 2);
        assert_eq!(again.events, 2);
        blocking.execute(on("a", What::Deposit(1))).unwrap();
        let truth = cents(&uncached(&store));
        assert_eq!(cents(&blocking), truth);
        if done {
            assert!(polls > 4, "it was dropped at {polls} places only");
            assert!(recorded_but_unanswered > 0);
            return;
        }
    }
}

#[test]
fn without_a_cache() {
    drop_everywhere(0, |_| ());
}

#[test]
fn with_a_cache() {
    drop_everywhere(1 << 20, |_| ());
}

#[test]
fn with_a_cache_that_is_old() {
    drop_everywhere(1 << 20, |store| {
        uncached(store).execute(on("a", What::Deposit(1))).unwrap();
    });
}

#[test]
fn a_command_never_polled_does_nothing() {
    let store = opened();
    let accounts = Async::new(store.clone());
    drop(accounts.execute(on("a", What::Deposit(1))));
    assert_eq!(events(&store).len(), 1);
}
