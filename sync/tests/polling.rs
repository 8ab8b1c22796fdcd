//! No call of the async handle does file I/O on the thread that polls it, aggregates and long
//! operations included.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test that fails shall stop"
)]

#[path = "../../backends/tests/tools/mod.rs"]
mod tools;

use std::convert::Infallible;

use serde::{Deserialize, Serialize};
use tidelog::{
    Aggregate, Command, CommandId, Context, Decide, Event, ExpectedVersion, LogQuery,
    SnapshotStrategy, StreamId, Subscribe, Tidelog,
};
use tools::strace::{self, polled};

const CHILD: &str = "TIDELOG_TEST_POLL";
const OPERATIONS: [&str; 16] = [
    "execute",
    "execute cold",
    "execute with an id",
    "execute again",
    "load",
    "load without a cache",
    "persist events",
    "read events",
    "look up a head",
    "read the log",
    "subscribe",
    "info",
    "verify",
    "backup",
    "rebuild the index",
    "close",
];
const PAGES: u64 = 50;

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Visited(String);

impl Event for Visited {
    fn event_type(&self) -> &'static str {
        "Visited"
    }
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Page(u64);

impl Aggregate for Page {
    const TYPE: &'static str = "Page";
    type Event = Visited;
    type Error = Infallible;
    fn apply(page: Option<Self>, _: &Visited) -> Result<Self, Infallible> {
        Ok(Self(page.map_or(1, |page| page.0 + 1)))
    }
}

struct Visit(u64);

impl Command for Visit {
    type Aggregate = Page;
    fn target_aggregate_identifier(&self) -> Option<&str> {
        ["a", "b", "c"]
            .get(usize::try_from(self.0 % 3).ok()?)
            .copied()
    }
}

impl Decide<Visit> for Page {
    type Rejection = Infallible;
    fn decide(_: Option<&Self>, _: &Visit, _: &Context) -> Result<Vec<Visited>, Infallible> {
        Ok(vec![Visited("x".repeat(2_000))])
    }
}

/// Not a test by itself: what runs under `strace`.
#[test]
fn child_polls() {
    if std::env::var_os(CHILD).is_none() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let open = |cache_bytes| {
        Tidelog::builder(dir.path().join("store"))
            .segment_size(64 << 10)
            .aggregate_cache(cache_bytes)
            .snapshots(SnapshotStrategy::EveryEvents(2))
            .open()
            .unwrap()
    };
    let log = open(1 << 20);
    for n in 0..PAGES {
        log.blocking().execute(Visit(n)).unwrap();
    }
    log.blocking().close().unwrap();
    drop(log);

    // Opened anew: nothing is in memory.
    let log = open(1 << 20);
    polled("execute cold", log.execute(Visit(0))).unwrap();
    polled("execute", log.execute(Visit(0))).unwrap();
    let context = Context::new().with_command_id(CommandId::new("visit-1").unwrap());
    for name in ["execute with an id", "execute again"] {
        polled(name, log.execute_with(Visit(0), context.clone())).unwrap();
    }
    let page = polled("load", log.load::<Page>("b")).unwrap().unwrap();
    assert_eq!(page.state.0, 17);
    log.blocking().close().unwrap();
    drop(log);

    let log = open(0);
    let page = polled("load without a cache", log.load::<Page>("a")).unwrap();
    assert_eq!(page.unwrap().state.0, 20);
    let note = StreamId::new("Note", "1").unwrap();
    let events = vec![Visited("note".into())];
    let context = Context::new();
    polled(
        "persist events",
        log.persist_events(&note, ExpectedVersion::NoStream, events, &context),
    )
    .unwrap();
    let visits = StreamId::new("Page", "c").unwrap();
    let visits = polled("read events", log.read_events::<Visited>(&visits)).unwrap();
    assert_eq!(visits.len(), 16);
    polled("look up a head", log.head(&note)).unwrap().unwrap();
    let last = log.last_position();
    let read = polled("read the log", async {
        let mut events = log.read_all(LogQuery::all());
        let mut count = 0;
        while let Some(page) = events.next_page().await {
            count += page.unwrap().len() as u64;
        }
        count
    });
    assert_eq!(read, last);
    polled("subscribe", async {
        let mut news = log.subscribe(Subscribe::All { after: 0 });
        for _ in 0..last {
            news.next().await.unwrap().unwrap();
        }
    });
    polled("info", log.info()).unwrap();
    polled("verify", log.verify()).unwrap();
    polled("backup", log.backup(dir.path().join("backup"))).unwrap();
    polled("rebuild the index", log.rebuild_index()).unwrap();
    polled("close", log.close()).unwrap();
}

#[test]
fn no_file_io_is_done_on_the_thread_that_polls() {
    let Some(calls) = strace::run("child_polls", (CHILD, "yes"), "%file,%desc") else {
        return;
    };
    strace::assert_no_io_inside_poll(&calls, &OPERATIONS);
}
