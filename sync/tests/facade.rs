//! The facade: every call on both faces, one store under all handles.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use tidelog::{
    Aggregate, AppendBatch, BlockingTidelog, Command, CommandError, CommandHandler, CommandId,
    ContentType, Context, Decide, Error, Event, EventLog, ExecuteError, ExpectedVersion, FullStore,
    LogQuery, ManualClock, NewEvent, PayloadCodec, PayloadCodecError, PayloadContext, SledStore,
    SnapshotStore, SnapshotStrategy, StreamId, StreamQuery, Subscribe, Tidelog, TidelogBuilder,
    Timestamp, restore_backup,
};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
enum CounterEvent {
    Raised { by: u64 },
}

impl Event for CounterEvent {
    fn event_type(&self) -> &'static str {
        "Raised"
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Counter {
    value: u64,
}

impl Aggregate for Counter {
    const TYPE: &'static str = "Counter";
    type Event = CounterEvent;
    type Error = std::convert::Infallible;

    fn apply(state: Option<Self>, event: &CounterEvent) -> Result<Self, Self::Error> {
        let CounterEvent::Raised { by } = event;
        Ok(Self {
            value: state.map_or(0, |counter| counter.value) + by,
        })
    }
}

struct Raise(&'static str, u64);

impl Command for Raise {
    type Aggregate = Counter;

    fn target_aggregate_identifier(&self) -> Option<&str> {
        Some(self.0)
    }
}

#[derive(Debug, PartialEq, thiserror::Error)]
#[error("a counter is raised by at least 1")]
struct ByNothing;

impl Decide<Raise> for Counter {
    type Rejection = ByNothing;

    fn decide(
        _: Option<&Self>,
        raise: &Raise,
        _: &Context,
    ) -> Result<Vec<CounterEvent>, ByNothing> {
        if raise.1 == 0 {
            Err(ByNothing)
        } else {
            Ok(vec![CounterEvent::Raised { by: raise.1 }])
        }
    }
}

/// A second aggregate type, with the same ids.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Tally(u64);

impl Aggregate for Tally {
    const TYPE: &'static str = "Tally";
    type Event = CounterEvent;
    type Error = std::convert::Infallible;

    fn apply(state: Option<Self>, _: &CounterEvent) -> Result<Self, Self::Error> {
        Ok(Self(state.map_or(0, |tally| tally.0) + 1))
    }
}

struct Make;

impl Command for Make {
    type Aggregate = Tally;

    fn target_aggregate_identifier(&self) -> Option<&str> {
        None
    }
}

impl Decide<Make> for Tally {
    type Rejection = std::convert::Infallible;

    fn decide(
        _: Option<&Self>,
        _: &Make,
        _: &Context,
    ) -> Result<Vec<CounterEvent>, Self::Rejection> {
        Ok(vec![CounterEvent::Raised { by: 1 }])
    }
}

fn counter() -> StreamId {
    StreamId::new("Counter", "c").unwrap()
}

fn value(log: &BlockingTidelog) -> (u64, u64) {
    log.load::<Counter>("c")
        .unwrap()
        .map_or((0, 0), |found| (found.state.value, found.sequence))
}

#[test]
fn handles_go_anywhere() {
    fn anywhere<T: Clone + Send + Sync + 'static>() {}
    fn a_store<T: FullStore>() {}
    fn handles<C, T: CommandHandler<C>>() {}
    fn is_send<T: Send>(_: &T) {}
    anywhere::<Tidelog>();
    anywhere::<BlockingTidelog>();
    anywhere::<SledStore>();
    a_store::<SledStore>();
    handles::<Raise, Tidelog>();
    let dir = tempfile::tempdir().unwrap();
    let log = Tidelog::open(dir.path().join("store")).unwrap();
    is_send(&log.execute(Raise("c", 1)));
    is_send(&log.load::<Counter>("c"));
    is_send(&log.verify());
}

#[tokio::test]
async fn commands_are_executed_and_the_state_is_loaded() {
    let dir = tempfile::tempdir().unwrap();
    let log = Tidelog::open(dir.path().join("store")).unwrap();
    assert!(log.load::<Counter>("c").await.unwrap().is_none());
    let done = log.execute(Raise("c", 2)).await.unwrap();
    assert_eq!((done.sequence, done.position, done.events), (1, Some(1), 1));
    log.handle(Raise("c", 3)).await.unwrap();
    let found = log.load::<Counter>("c").await.unwrap().unwrap();
    assert_eq!((found.state.value, found.sequence), (5, 2));
    let refused: Result<_, CommandError<Raise>> = log.execute(Raise("c", 0)).await;
    assert!(matches!(refused, Err(ExecuteError::Rejected(ByNothing))));
    let made = log.execute(Make).await.unwrap();
    assert!(
        log.load::<Tally>(&made.aggregate_id)
            .await
            .unwrap()
            .is_some()
    );
    assert!(
        log.load::<Tally>("c").await.unwrap().is_none(),
        "types do not share ids"
    );
    let handled = log
        .repository::<Counter>()
        .load("c")
        .await
        .unwrap()
        .unwrap();
    assert_eq!(handled.state.value, 5);
}

#[tokio::test]
async fn a_command_with_an_id_is_executed_once() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("store");
    let context = || Context::new().with_command_id(CommandId::new("orders.csv:1").unwrap());
    for reopened in 0..3 {
        let log = Tidelog::open(&path).unwrap();
        for again in 0..2 {
            let done = log.execute_with(Raise("c", 2), context()).await.unwrap();
            assert_eq!(done.already_executed, (reopened, again) != (0, 0));
            assert_eq!((done.sequence, done.position), (1, Some(1)));
        }
        log.close().await.unwrap();
    }
}

#[test]
fn both_faces_see_each_others_commands_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let log = Tidelog::open(dir.path().join("store")).unwrap();
    let face = log.blocking();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    for n in 1..=20 {
        face.execute(Raise("c", 1)).unwrap();
        runtime.block_on(log.execute(Raise("c", 1))).unwrap();
        assert_eq!(value(&face), (2 * n, 2 * n));
        let found = runtime.block_on(log.load::<Counter>("c")).unwrap().unwrap();
        assert_eq!(found.state.value, 2 * n);
    }
}

#[test]
fn a_store_is_there_again_after_reopening() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("store");
    for n in 1..=3 {
        let log = Tidelog::open(&path).unwrap().blocking();
        log.execute(Raise("c", 1)).unwrap();
        assert_eq!(value(&log), (n, n));
        // Dropping the last handle closes the store as well as closing it does.
        if n == 2 {
            log.close().unwrap();
            assert!(matches!(
                log.execute(Raise("c", 1)),
                Err(ExecuteError::Store(Error::Closed))
            ));
            assert!(matches!(log.info(), Err(Error::Closed)));
        }
    }
}

#[test]
fn a_cached_state_costs_no_replay_and_is_never_too_old() {
    let dir = tempfile::tempdir().unwrap();
    let log = Tidelog::open(dir.path().join("store")).unwrap().blocking();
    log.execute(Raise("c", 1)).unwrap();
    // Behind the repository's back.
    let event = CounterEvent::Raised { by: 10 };
    let context = Context::new();
    log.persist_events(&counter(), ExpectedVersion::Exact(1), vec![event], &context)
        .unwrap();
    assert_eq!(value(&log), (11, 2));
    log.persist_events(
        &counter(),
        ExpectedVersion::Any,
        vec![CounterEvent::Raised { by: 5 }],
        &Context::new(),
    )
    .unwrap();
    log.execute(Raise("c", 1)).unwrap();
    assert_eq!(value(&log), (17, 4));
}

#[test]
fn snapshots_are_taken_as_configured_for_each_type() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("store");
    let builder = || {
        Tidelog::builder(&path)
            .snapshots(SnapshotStrategy::EveryEvents(5))
            .snapshots_of::<Tally>(SnapshotStrategy::Never)
    };
    let log = builder().open().unwrap().blocking();
    for _ in 0..13 {
        log.execute(Raise("c", 1)).unwrap();
    }
    let tally = log.execute(Make).unwrap();
    let snapshot = log.store().read_snapshot(&counter()).unwrap().unwrap();
    assert_eq!(snapshot.sequence, 10);
    let tally = StreamId::new("Tally", &tally.aggregate_id).unwrap();
    assert_eq!(log.store().read_snapshot(&tally).unwrap(), None);
    log.close().unwrap();
    drop(log);

    let log = builder().aggregate_cache(0).open().unwrap().blocking();
    assert_eq!(value(&log), (13, 13));
    log.execute(Raise("c", 7)).unwrap();
    assert_eq!(value(&log), (20, 14));
}

#[tokio::test]
async fn bytes_and_typed_events_go_in_and_out() {
    let dir = tempfile::tempdir().unwrap();
    let log = Tidelog::open(dir.path().join("store")).unwrap();
    let raised = |by| CounterEvent::Raised { by };
    let events = vec![raised(1), raised(2), raised(3)];
    log.persist_events(
        &counter(),
        ExpectedVersion::NoStream,
        events,
        &Context::new(),
    )
    .await
    .unwrap();
    let tail = log
        .read_events_from::<CounterEvent>(&counter(), 2)
        .await
        .unwrap();
    assert_eq!(
        tail.iter()
            .map(|found| found.event.clone())
            .collect::<Vec<_>>(),
        [raised(2), raised(3)]
    );
    assert_eq!(
        log.read_events::<CounterEvent>(&counter())
            .await
            .unwrap()
            .len(),
        3
    );

    let till = StreamId::new("Till", "1").unwrap();
    let sold = || NewEvent::new("Sold", 1, ContentType::Json, "{}");
    let parts = vec![
        AppendBatch::new(till.clone(), ExpectedVersion::NoStream, vec![sold()]),
        AppendBatch::new(counter(), ExpectedVersion::Exact(3), vec![sold()]),
    ];
    assert_eq!(log.append_streams(parts).await.unwrap().len(), 2);
    let receipt = log
        .append(AppendBatch::new(
            till.clone(),
            ExpectedVersion::Exact(1),
            vec![sold()],
        ))
        .await;
    assert_eq!(receipt.unwrap().last_position, Some(6));
    assert_eq!(
        log.read_stream(StreamQuery::new(till.clone()))
            .collect()
            .await
            .unwrap()
            .len(),
        2
    );
    assert_eq!(log.head(&till).await.unwrap().unwrap().sequence, 2);
    assert_eq!(
        log.read_all(LogQuery::all()).collect().await.unwrap().len(),
        6
    );
    let mut after = log.subscribe(Subscribe::All { after: 5 });
    assert_eq!(after.next().await.unwrap().unwrap().position, Some(6));
    assert_eq!(log.last_position(), 6);
}

#[tokio::test]
async fn checks_and_backups_work_on_both_faces() {
    let dir = tempfile::tempdir().unwrap();
    let log = Tidelog::open(dir.path().join("store")).unwrap();
    for _ in 0..10 {
        log.execute(Raise("c", 1)).await.unwrap();
    }
    assert_eq!(log.info().await.unwrap().last_position, 10);
    assert_eq!(log.verify().await.unwrap().records, 10);
    log.rebuild_index().await.unwrap();
    assert_eq!(
        log.backup(dir.path().join("one"))
            .await
            .unwrap()
            .last_position,
        10
    );
    let other = dir.path().join("two");
    let (face, to) = (log.blocking(), other.clone());
    let report = tokio::task::spawn_blocking(move || {
        assert_eq!(face.info().unwrap().last_position, 10);
        assert_eq!(face.verify().unwrap().records, 10);
        face.backup(to)
    });
    assert_eq!(report.await.unwrap().unwrap().last_position, 10);
    log.close().await.unwrap();

    let restored = dir.path().join("restored");
    restore_backup(&other, &restored).unwrap();
    let log = Tidelog::open(&restored).unwrap();
    assert_eq!(
        log.load::<Counter>("c").await.unwrap().unwrap().state.value,
        10
    );
}

/// A toy: hides payloads from nobody.
struct Xor(u8);

impl PayloadCodec for Xor {
    fn encode(
        &self,
        payload: bytes::Bytes,
        _: &PayloadContext<'_>,
    ) -> Result<bytes::Bytes, PayloadCodecError> {
        Ok(payload.iter().map(|byte| byte ^ self.0).collect())
    }

    fn decode(
        &self,
        stored: bytes::Bytes,
        about: &PayloadContext<'_>,
    ) -> Result<bytes::Bytes, PayloadCodecError> {
        self.encode(stored, about)
    }
}

#[test]
fn payloads_pass_through_the_codec_both_ways() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("store");
    let builder = || Tidelog::builder(&path).codec(Arc::new(Xor(0x5a)));
    let log = builder().open().unwrap().blocking();
    log.execute(Raise("c", 5)).unwrap();
    log.execute(Raise("c", 6)).unwrap();
    assert_eq!(value(&log), (11, 2));
    assert_eq!(
        log.read_all(LogQuery::all()).next().unwrap().unwrap().event,
        [5][..]
    );
    drop(log);
    let below = Tidelog::open(&path).unwrap().blocking();
    assert_eq!(
        below
            .read_all(LogQuery::all())
            .next()
            .unwrap()
            .unwrap()
            .event,
        [5 ^ 0x5a][..]
    );
    drop(below);
    let log = builder().aggregate_cache(0).open().unwrap().blocking();
    assert_eq!(value(&log), (11, 2));
}

#[test]
fn time_comes_from_the_clock_given() {
    let dir = tempfile::tempdir().unwrap();
    let clock = Arc::new(ManualClock::new(Timestamp::from_micros(7_000_000)));
    let builder: TidelogBuilder = Tidelog::builder(dir.path().join("store")).clock(clock);
    let log = builder.open().unwrap().blocking();
    log.execute(Raise("c", 1)).unwrap();
    let event = log
        .read_stream(StreamQuery::new(counter()))
        .next()
        .unwrap()
        .unwrap();
    assert_eq!(event.event_time, Timestamp::from_micros(7_000_000));
    assert_eq!(event.recorded_time, Timestamp::from_micros(7_000_000));
}

#[test]
fn a_second_handle_by_path_is_refused_and_says_who_holds_it() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("store");
    let log = Tidelog::open(&path).unwrap();
    let clone = log.clone();
    drop(log);
    assert!(matches!(Tidelog::open(&path), Err(Error::Locked { .. })));
    drop(clone);
    Tidelog::open(&path).unwrap();
}

#[test]
fn the_store_is_one_for_generic_code() {
    fn count(store: &(impl EventLog + SnapshotStore)) -> (u64, usize) {
        (store.last_position(), store.limits().batch_events)
    }
    let dir = tempfile::tempdir().unwrap();
    let log = Tidelog::open(dir.path().join("store")).unwrap();
    assert_eq!(count(log.store()), (0, 10_000));
}
