//! What a repository promises: conflicts, command ids, caching, snapshots and cancellation.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "tests fail by panicking"
)]

mod bank;
mod cache;
mod cancellation;
mod command_ids;
mod conflicts;
mod execute;
mod probe;
mod snapshots;
mod superseded;
mod upcasting;

use tidelog_core::{
    AggregateRepository, BlockingRepository, CommandId, Context, EventEnvelope, EventStore,
    StreamId, StreamQuery, TypedEventStore,
};

use bank::{Account, AccountEvent, What, on};
use probe::Probe;

type Accounts = BlockingRepository<Account, Probe>;

/// A repository over `store` that caches.
fn cached(store: &Probe) -> Accounts {
    AggregateRepository::new(store.clone())
        .with_cache(1 << 20)
        .blocking()
}

/// A repository over `store` that reads everything anew.
fn uncached(store: &Probe) -> Accounts {
    AggregateRepository::new(store.clone()).blocking()
}

fn with_id(id: &str) -> Context {
    Context::new().with_command_id(CommandId::new(id).unwrap())
}

/// A store with account `a`, opened.
fn opened() -> Probe {
    let store = Probe::default();
    uncached(&store).execute(on("a", What::Open)).unwrap();
    store.reads();
    store
}

fn stream() -> StreamId {
    StreamId::new("Account", "a").unwrap()
}

fn events(store: &Probe) -> Vec<EventEnvelope<AccountEvent>> {
    now(store.memory.read_events(&stream())).unwrap()
}

fn envelopes(store: &Probe) -> Vec<EventEnvelope> {
    now(store
        .memory
        .read_stream(StreamQuery::new(stream()))
        .collect())
    .unwrap()
}

fn cents(accounts: &Accounts) -> u64 {
    accounts.load("a").unwrap().unwrap().state.cents
}

/// The output of a future that is ready at once, as all of the store in memory are.
fn now<F: Future>(future: F) -> F::Output {
    let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
    match std::pin::pin!(future).as_mut().poll(&mut cx) {
        std::task::Poll::Ready(output) => output,
        std::task::Poll::Pending => panic!("it is not ready"),
    }
}
