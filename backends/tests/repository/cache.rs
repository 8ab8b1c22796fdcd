//! What a cached state may be used for, and when it must be looked at again.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use tidelog_core::AggregateRepository;

use crate::bank::{Account, What, on};
use crate::{cached, cents, opened, uncached};

#[test]
fn a_command_on_a_cached_state_reads_nothing() {
    let store = opened();
    let accounts = cached(&store);
    accounts.execute(on("a", What::Deposit(1))).unwrap();
    assert_eq!(store.reads(), [1], "the first time");
    for _ in 0..3 {
        accounts.execute(on("a", What::Deposit(1))).unwrap();
    }
    assert!(store.reads().is_empty());
    assert_eq!(store.seen.heads.load(Ordering::SeqCst), 0);
    assert_eq!(cents(&accounts), 4);
    assert_eq!(
        store.seen.heads.load(Ordering::SeqCst),
        1,
        "a load asks for the head alone"
    );
    assert!(store.reads().is_empty());
}

#[test]
fn the_cache_is_shared_by_clones() {
    let store = opened();
    let accounts = cached(&store);
    accounts.load("a").unwrap();
    store.reads();
    accounts.clone().execute(on("a", What::Deposit(1))).unwrap();
    assert!(store.reads().is_empty());
}

#[test]
fn without_a_budget_everything_is_read_anew() {
    let store = opened();
    let accounts = AggregateRepository::<Account, _>::new(store.clone())
        .with_cache(0)
        .blocking();
    accounts.execute(on("a", What::Deposit(1))).unwrap();
    accounts.execute(on("a", What::Deposit(1))).unwrap();
    assert_eq!(store.reads(), [1, 1]);
}

#[test]
fn a_write_of_another_handle_is_found_out_by_the_append() {
    let store = opened();
    let accounts = cached(&store);
    accounts.load("a").unwrap();
    uncached(&store)
        .execute(on("a", What::Deposit(10)))
        .unwrap();
    store.reads();
    let deposit = on("a", What::Deposit(1));
    let done = accounts.execute(deposit.clone()).unwrap();
    assert_eq!((done.sequence, deposit.decisions.count()), (3, 2));
    assert_eq!(
        store.reads(),
        [1],
        "the event it ends with, and what follows"
    );
    assert_eq!(cents(&accounts), 11);
}

#[test]
fn no_command_is_rejected_for_an_old_state() {
    let store = opened();
    let accounts = cached(&store);
    accounts.load("a").unwrap();
    uncached(&store)
        .execute(on("a", What::Deposit(10)))
        .unwrap();
    let withdraw = on("a", What::Withdraw(10));
    accounts.execute(withdraw.clone()).unwrap();
    assert_eq!(withdraw.decisions.count(), 2);
    assert_eq!(cents(&accounts), 0);
}

#[test]
fn a_rejection_on_a_cached_state_asks_for_the_head_and_is_decided_once() {
    let store = opened();
    let accounts = cached(&store);
    accounts.load("a").unwrap();
    store.reads();
    let withdraw = on("a", What::Withdraw(10));
    accounts.execute(withdraw.clone()).unwrap_err();
    assert_eq!(withdraw.decisions.count(), 1);
    assert_eq!(store.seen.heads.load(Ordering::SeqCst), 1);
    assert!(store.reads().is_empty());
}

#[test]
fn nothing_to_do_is_never_answered_for_an_old_state() {
    let store = opened();
    let accounts = cached(&store);
    accounts.load("a").unwrap();
    uncached(&store)
        .execute(on("a", What::Deposit(10)))
        .unwrap();
    assert_eq!(
        accounts.execute(on("a", What::Nothing)).unwrap().sequence,
        2
    );
}

#[test]
fn a_load_sees_what_another_handle_wrote() {
    let store = opened();
    let accounts = cached(&store);
    let before = accounts.load("a").unwrap().unwrap();
    uncached(&store)
        .execute(on("a", What::Deposit(10)))
        .unwrap();
    store.reads();
    let after = accounts.load("a").unwrap().unwrap();
    assert_eq!(store.reads(), [1]);
    assert_eq!(
        (before.state.cents, after.state.cents),
        (0, 10),
        "what was handed out stays"
    );
}

#[test]
fn a_load_without_news_shares_the_cached_state() {
    let store = opened();
    let accounts = cached(&store);
    let one = accounts.load("a").unwrap().unwrap();
    let other = accounts.load("a").unwrap().unwrap();
    assert!(Arc::ptr_eq(&one.state, &other.state));
}

#[test]
fn more_aggregates_than_fit_are_still_answered() {
    let store = opened();
    let accounts = AggregateRepository::<Account, _>::new(store.clone())
        .with_cache(4_096)
        .blocking();
    for round in 0..3 {
        for n in 0..100 {
            let what = if round == 0 {
                What::Open
            } else {
                What::Deposit(1)
            };
            accounts.execute(on(&format!("n{n}"), what)).unwrap();
        }
    }
    let sum: u64 = (0..100)
        .map(|n| {
            accounts
                .load(&format!("n{n}"))
                .unwrap()
                .unwrap()
                .state
                .cents
        })
        .sum();
    assert_eq!(sum, 200);
}
