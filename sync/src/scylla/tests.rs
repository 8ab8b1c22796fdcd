//! The replicator with the sink on the server in memory.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use tidelog_backends::fake::{FakeServer, FakeWire, Fault, Table};
use tidelog_backends::wire::{Bucket, MetaRow, Reply, Request};
use tidelog_backends::{SledStore, SledStoreBuilder};
use tidelog_core::{
    AppendBatch, BoxFuture, CheckpointStore, ContentType, Error, EventId, EventLog, EventStore,
    ExpectedVersion, Halt, ManualClock, ManualSleeper, NewEvent, StreamId, StreamQuery, Supersede,
    Supersession, SystemIds, Ticks,
};

use uuid::Uuid;

use super::sink::{ScyllaOptions, ScyllaSink};
use crate::replicate::embedded::Embedded;
use crate::replicate::mailbox::{Mailbox, Message};
use crate::replicate::replicator::{Env, Pace, Replicator};
use crate::scylla::sink::SinkMessage;
use crate::scylla::state::SinkState;
use crate::scylla::status::StatusCell;
use crate::scylla::{ReplicationParked, ReplicationState, ReplicationStatus};

pub(super) fn meta() -> MetaRow {
    MetaRow {
        keyspace_id: Uuid::from_u128(7),
        schema_version: 1,
        bucket_events: 10,
        chunk_records: 8,
        arbitration_dc: None,
    }
}

pub(super) struct Node {
    pub clock: Arc<ManualClock>,
    pub status: Arc<StatusCell>,
    pub mailbox: Arc<Mailbox<SinkMessage>>,
    pub sleeper: ManualSleeper,
    /// Microseconds that the machine has slept.
    pub slept: Arc<AtomicU64>,
}

struct SleepingTicks {
    clock: Arc<ManualClock>,
    slept: Arc<AtomicU64>,
}

impl Ticks for SleepingTicks {
    fn now(&self) -> Duration {
        Ticks::now(&*self.clock)
    }

    fn slept(&self) -> Duration {
        Duration::from_micros(self.slept.load(Ordering::SeqCst))
    }
}

pub(super) fn replicator(store: &SledStore, wire: &FakeWire) -> (Node, Replicator<ScyllaSink>) {
    replicator_that_overlaps(store, wire, 2_000)
}

fn replicator_that_overlaps(
    store: &SledStore,
    wire: &FakeWire,
    overlap: u64,
) -> (Node, Replicator<ScyllaSink>) {
    let clock = Arc::new(ManualClock::default());
    let sleeper = ManualSleeper::new(clock.clone());
    let slept = Arc::<AtomicU64>::default();
    let env = Env {
        ticks: Arc::new(SleepingTicks {
            clock: clock.clone(),
            slept: slept.clone(),
        }),
        sleeper: Arc::new(sleeper.clone()),
        ids: Arc::new(SystemIds),
    };
    let options = ScyllaOptions {
        server: "memory".into(),
        name: "till".into(),
        lanes: 64,
        parked: super::park::MAX_PARKED,
        overlap,
        ids: env.ids.clone(),
        ticks: env.ticks.clone(),
    };
    let status = Arc::new(StatusCell::new(store.identity().epoch));
    let mailbox = Arc::<Mailbox<SinkMessage>>::default();
    let replicator = Replicator {
        sink: ScyllaSink::new(Arc::new(wire.clone()), options),
        outbox: Arc::new(Embedded::new(store).unwrap()),
        env,
        pace: Pace::default(),
        mailbox: mailbox.clone(),
        status: status.clone(),
    };
    (
        Node {
            clock,
            status,
            mailbox,
            sleeper,
            slept,
        },
        replicator,
    )
}

/// A store with its replicator, which runs while it is driven.
pub(super) struct Till {
    _dir: tempfile::TempDir,
    pub store: SledStore,
    pub wire: FakeWire,
    pub node: Node,
    work: Option<BoxFuture<'static, ()>>,
}

impl Till {
    pub(super) fn new(wire: FakeWire) -> Self {
        Self::with(wire, 64, |store| store)
    }

    /// The same with a store of other settings, which writes to so many streams at once.
    pub(super) fn with(
        wire: FakeWire,
        lanes: usize,
        settings: impl FnOnce(SledStoreBuilder) -> SledStoreBuilder,
    ) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let builder = SledStore::builder(dir.path().join("events")).sparse_segments();
        let store = settings(builder).open().unwrap();
        let (node, mut replicator) = replicator(&store, &wire);
        replicator.sink.options.lanes = lanes;
        Self {
            _dir: dir,
            store,
            wire,
            node,
            work: Some(Box::pin(replicator.run())),
        }
    }

    /// The same, with so many streams parked at most and so many records under way.
    pub(super) fn narrow(wire: FakeWire, parked: usize, records: usize) -> Self {
        let mut till = Self::new(wire);
        let (node, mut replicator) = replicator(&till.store, &till.wire);
        replicator.sink.options.parked = parked;
        replicator.pace.window_records = records;
        replicator.pace.read_bytes = 1;
        till.node = node;
        till.work = Some(Box::pin(replicator.run()));
        till
    }

    /// The same with a sink made by `sink`.
    pub(super) fn on(wire: FakeWire, sink: impl FnOnce(ScyllaOptions) -> ScyllaSink) -> Self {
        let mut till = Self::new(wire);
        let (node, mut replicator) = replicator(&till.store, &till.wire);
        replicator.sink = sink(replicator.sink.options.clone());
        till.node = node;
        till.work = Some(Box::pin(replicator.run()));
        till
    }

    /// The same with another replicator.
    pub(super) fn runs(&mut self, node: Node, work: Replicator<ScyllaSink>) {
        self.node = node;
        self.work = Some(Box::pin(work.run()));
    }

    /// Ends the replicator where it stands, as a crash would, and starts another.
    pub(super) fn crash(&mut self) {
        self.crash_to(&self.wire.clone());
    }

    /// The same with another server.
    pub(super) fn crash_to(&mut self, wire: &FakeWire) {
        self.work = None;
        self.wire = wire.clone();
        let (node, replicator) = replicator(&self.store, &self.wire);
        self.node = node;
        self.work = Some(Box::pin(replicator.run()));
    }

    /// The same with another that finds `state` on its disk, and begins just where that says.
    pub(super) fn crash_and_find(&mut self, state: &Bytes) {
        self.work = None;
        pollster::block_on(self.store.save("sink.scylla", 0, state.clone())).unwrap();
        let (node, replicator) = replicator_that_overlaps(&self.store, &self.wire, 0);
        self.node = node;
        self.work = Some(Box::pin(replicator.run()));
    }

    pub(super) fn state(&self) -> Bytes {
        let saved = pollster::block_on(self.store.load("sink.scylla"));
        saved.unwrap().unwrap()
    }

    /// Has everything sent again, and waits until that is over.
    fn resync(&mut self) {
        let before = self.node.status.status().already;
        self.ask(SinkMessage::Resync).unwrap();
        let last = self.store.last_position();
        self.run_until(|status| {
            status.already > before && status.settled == last && status.watermark == last
        });
    }

    /// Lets time pass until `done`.
    pub(super) fn run_until(&mut self, done: impl Fn(&ReplicationStatus) -> bool) {
        let cx = &mut Context::from_waker(Waker::noop());
        for _ in 0..50_000 {
            let status = self.node.status.status();
            if done(&status) {
                return;
            }
            let work = self.work.as_mut().unwrap();
            assert!(work.as_mut().poll(cx).is_pending(), "it ended");
            self.node.clock.advance_micros(5_000);
            std::thread::sleep(Duration::from_micros(50));
        }
        panic!("it does not come to that: {:?}", self.node.status.status());
    }

    pub(super) fn settle(&mut self) {
        let last = self.store.last_position();
        self.run_until(|status| status.settled == last && status.watermark == last);
    }

    /// Asks what a user would, and lets time pass until there is an answer.
    pub(super) fn ask(&mut self, message: SinkMessage) -> Result<(), Error> {
        let mailbox = self.node.mailbox.clone();
        let mut asked =
            Box::pin(async move { mailbox.ask(|reply| Message::Sink(message, reply)).await });
        let cx = &mut Context::from_waker(Waker::noop());
        for _ in 0..10_000 {
            if let Poll::Ready(answer) = asked.as_mut().poll(cx) {
                return answer;
            }
            let work = self.work.as_mut().unwrap();
            assert!(work.as_mut().poll(cx).is_pending(), "it ended");
            self.node.clock.advance_micros(1_000);
            std::thread::sleep(Duration::from_micros(50));
        }
        panic!("there is no answer");
    }

    /// Closes it in order, while no more than `time` passes.
    fn close_within(&mut self, time: Duration) {
        let cx = &mut Context::from_waker(Waker::noop());
        let until = Ticks::now(&*self.node.clock) + time;
        self.node.mailbox.send(Message::Close);
        let mut work = self.work.take().unwrap();
        for _ in 0..200_000 {
            if work.as_mut().poll(cx).is_ready() {
                return;
            }
            if Ticks::now(&*self.node.clock) < until {
                self.node.clock.advance_micros(10_000);
            }
            // Its state is saved by another thread.
            std::thread::sleep(Duration::from_micros(50));
        }
        panic!("it is not closed");
    }

    /// How far the server knows its log.
    fn watermark(&self) -> u64 {
        let request = Request::Origins(self.store.identity().origin);
        let reply = self
            .wire
            .with_server(|server| server.execute(&request, &mut |_| true));
        let Ok(Reply::Origins(rows)) = reply else {
            panic!("no origins")
        };
        rows[0].watermark.position
    }

    pub(super) fn parked(&self) -> Vec<(String, &'static str, u64, bool)> {
        let parked = self.node.status.parked();
        let of = |parked: &ReplicationParked| {
            let stream = parked.stream.to_string();
            let (sequence, accepted) = (parked.first_sequence, parked.accepted);
            (stream, parked.reason.code(), sequence, accepted)
        };
        parked.iter().map(of).collect()
    }

    /// Ids of a stream's events here.
    pub(super) fn local(&self, stream: &str) -> Vec<EventId> {
        let query = StreamQuery::new(stream.parse().unwrap());
        let events = self.store.blocking().read_stream(query);
        events.map(|event| event.unwrap().event_id).collect()
    }

    /// Ids of a stream's events at the server.
    pub(super) fn remote(&self, stream: &str) -> Vec<EventId> {
        let stream: StreamId = stream.parse().unwrap();
        let mut rows = Vec::new();
        for number in 0..20 {
            let bucket = Bucket {
                stream: stream.clone(),
                number,
            };
            let (from, to, serial) = (1, u64::MAX, true);
            let request = Request::Ids {
                bucket,
                from,
                to,
                serial,
            };
            let reply = self
                .wire
                .with_server(|server| server.execute(&request, &mut |_| true));
            let Ok(Reply::Ids(ids)) = reply else {
                panic!("no ids")
            };
            rows.extend(ids);
        }
        rows.sort_by_key(|row| row.sequence);
        rows.into_iter().map(|row| row.event_id).collect()
    }

    pub(super) fn append(&self, stream: &str, count: usize) -> u64 {
        append(&self.store, stream, count)
    }

    pub(super) fn append_both(&self, first: &str, second: &str) {
        let part = |stream: &str| {
            let event = NewEvent::new("E", 1, ContentType::Json, "0");
            AppendBatch::new(stream.parse().unwrap(), ExpectedVersion::Any, vec![event])
        };
        let parts = vec![part(first), part(second)];
        self.store.blocking().append_streams(parts).unwrap();
    }
}

pub(super) fn append(store: &SledStore, stream: &str, count: usize) -> u64 {
    let stream: StreamId = stream.parse().unwrap();
    let event = |at: usize| NewEvent::new("E", 1, ContentType::Json, format!("{at}"));
    let events = (0..count).map(event).collect();
    let batch = AppendBatch::new(stream, ExpectedVersion::Any, events);
    let receipt = store.blocking().append(batch).unwrap();
    receipt.last_position.unwrap()
}

pub(super) fn server() -> FakeWire {
    FakeWire::new(FakeServer::new(meta()))
}

/// A till at a server where another has written `T/a` before.
pub(super) fn after_another() -> Till {
    let wire = server();
    let mut first = Till::new(wire.another());
    first.append("T/a", 1);
    first.settle();
    Till::new(wire)
}

#[test]
fn what_is_appended_is_settled_and_stands_there() {
    let mut till = Till::new(server());
    for at in 0..100 {
        till.append(&format!("T/{}", at % 5), 1);
    }
    till.settle();
    let status = till.node.status.status();
    assert_eq!(
        (status.accepted, status.already, status.parked),
        (100, 0, 0)
    );
    for stream in ["T/0", "T/4"] {
        assert_eq!(till.remote(stream), till.local(stream));
    }
}

#[test]
fn a_store_that_is_closed_tells_how_far_it_is() {
    let mut till = Till::new(server());
    till.append("T/a", 3);
    till.settle();
    let last = till.append("T/a", 2);
    till.run_until(|status| status.settled == last);
    assert_eq!(till.watermark(), 3, "it is told once a second");
    till.close_within(Duration::ZERO);
    assert_eq!(till.watermark(), last);
}

#[test]
fn a_server_that_does_not_answer_holds_up_no_close_for_longer_than_a_second() {
    let mut till = Till::new(server());
    till.append("T/a", 3);
    till.settle();
    let last = till.append("T/a", 2);
    till.run_until(|status| status.settled == last);
    till.wire.set_faults(|_| Fault::Silence);
    till.close_within(Duration::from_secs(1));
    // One that is away is not waited for at all.
    let mut away = Till::new(server());
    away.wire.set_faults(|_| Fault::NotSent);
    away.run_until(|status| matches!(status.state, ReplicationState::Waiting { .. }));
    away.close_within(Duration::ZERO);
}

#[test]
fn two_writers_of_one_stream_apart_park_the_later_one_once_and_others_go_on() {
    let wire = server();
    let (mut first, mut second) = (Till::new(wire.another()), Till::new(wire));
    first.append("T/shared", 3);
    second.append("T/shared", 2);
    second.append("T/own", 15);
    first.settle();
    second.settle();
    second.append("T/shared", 1);
    second.append("T/own", 1);
    second.settle();
    assert_eq!(second.parked(), [("T/shared".into(), "diverged", 1, false)]);
    assert_eq!(second.remote("T/shared"), first.local("T/shared"));
    assert_eq!(second.remote("T/own"), second.local("T/own"));
    second.crash();
    second.settle();
    assert_eq!(second.parked().len(), 1);
    let waited = second.node.status.wait_for(1);
    assert_eq!(pollster::block_on(waited).unwrap_err().code(), "parked");
}

#[test]
fn a_conflict_tears_the_append_it_is_in_and_what_hangs_on_that() {
    let mut second = after_another();
    // Both parts are sent at once: the one is accepted before the other is known to diverge.
    second.append_both("T/a", "T/b");
    second.settle();
    // From now on it is known.
    second.append_both("T/c", "T/a");
    second.append_both("T/c", "T/d");
    second.append("T/e", 1);
    second.settle();
    let expected = [
        ("T/a".into(), "diverged", 1, false),
        ("T/b".into(), "torn_batch", 1, true),
        ("T/c".into(), "torn_batch", 1, false),
        ("T/d".into(), "torn_batch", 1, false),
    ];
    assert_eq!(second.parked(), expected);
    for (stream, count) in [("T/b", 1), ("T/c", 0), ("T/d", 0), ("T/e", 1)] {
        assert_eq!(second.remote(stream).len(), count, "{stream}");
    }
    second.crash();
    second.settle();
    assert_eq!(second.parked(), expected);
    let torn = SinkMessage::Retry("T/d".parse().unwrap());
    let refused = second.ask(torn).unwrap_err().to_string();
    assert!(refused.contains("T/c"), "{refused}");
}

#[test]
fn what_was_accepted_of_a_torn_append_is_not_held_when_it_is_sent_again() {
    let mut second = after_another();
    second.append("T/own", 1);
    second.settle();
    let before = second.state();
    second.append_both("T/b", "T/a");
    second.settle();
    let expected = [
        ("T/a".into(), "diverged", 1, false),
        ("T/b".into(), "torn_batch", 1, true),
    ];
    assert_eq!(second.parked(), expected);
    second.resync();
    assert_eq!(second.parked(), expected);
    // Neither side knows how far it was.
    second.wire.with_server(|server| {
        server.truncate(Table::Origins);
        server.truncate(Table::Parked);
    });
    second.crash_and_find(&before);
    second.run_until(|status| status.parked > 0 && status.settled == 3 && status.watermark == 3);
    assert_eq!(second.parked(), expected);
}

#[test]
fn an_old_state_takes_back_what_the_server_lists_as_parked() {
    let wire = server();
    let (mut first, mut second) = (Till::new(wire.another()), Till::new(wire));
    first.append("T/a", 1);
    first.settle();
    second.append("T/own", 1);
    second.settle();
    let old = second.state();
    second.append_both("T/b", "T/a");
    second.settle();
    let expected = [
        ("T/a".into(), "diverged", 1, false),
        ("T/b".into(), "torn_batch", 1, true),
    ];
    assert_eq!(second.parked(), expected);
    second.crash_and_find(&old);
    second.append("T/a", 1);
    second.append("T/own", 1);
    second.run_until(|status| status.watermark == 5);
    assert_eq!(second.parked(), expected);
    assert_eq!(second.remote("T/a"), first.local("T/a"));
    assert_eq!(second.remote("T/own"), second.local("T/own"));
}

/// An image of the disk made between two writes: the one part is held, and of the other it is not known
/// yet that it was accepted.
#[test]
fn an_old_state_that_holds_one_part_of_an_append_lists_the_other_that_was_accepted() {
    let wire = server();
    let (mut first, mut second) = (Till::new(wire.another()), Till::new(wire));
    first.append("T/a", 1);
    first.settle();
    second.append("T/own", 1);
    second.settle();
    let before = SinkState::decode(&second.state()).unwrap();
    second.append_both("T/b", "T/a");
    second.settle();
    let expected = [
        ("T/a".into(), "diverged", 1, false),
        ("T/b".into(), "torn_batch", 1, true),
    ];
    assert_eq!(second.parked(), expected);
    let mut old = SinkState::decode(&second.state()).unwrap();
    old.parked.retain(|_, entry| !entry.accepted);
    assert_eq!(old.parked.len(), 1);
    old.settled = before.settled;
    second.crash_and_find(&old.encode().unwrap());
    second.append("T/own", 1);
    second.settle();
    assert_eq!(second.parked(), expected);
}

#[test]
fn a_parked_stream_may_give_way_twice_before_the_server_is_told_once() {
    let mut second = after_another();
    second.append("T/a", 2);
    second.settle();
    for _ in 0..2 {
        let stream: StreamId = "T/a".parse().unwrap();
        let head = pollster::block_on(second.store.head(&stream)).unwrap();
        let event = NewEvent::new("E", 1, ContentType::Json, "1");
        let mut what = Supersession::new(stream, head.unwrap(), 1);
        what.reissued = vec![event];
        pollster::block_on(second.store.supersede(what)).unwrap();
    }
    second.settle();
    assert_eq!(second.parked(), [("T/a".into(), "diverged", 1, false)]);
    let held = second.local("T/a");
    assert_eq!(second.node.status.parked()[0].local_event, held[0]);
}

#[test]
fn what_is_held_is_tried_again_and_taken_when_nothing_is_in_its_way_any_more() {
    let mut second = after_another();
    second.append("T/a", 30);
    second.settle();
    second.append("T/a", 2);
    second.settle();
    let retry = || SinkMessage::Retry("T/a".parse().unwrap());
    second.ask(retry()).unwrap();
    second.append("T/a", 1);
    second.settle();
    assert_eq!(second.parked(), [("T/a".into(), "diverged", 1, false)]);
    let bucket = Bucket {
        stream: "T/a".parse().unwrap(),
        number: 0,
    };
    second
        .wire
        .with_server(|server| server.lose_bucket(&bucket));
    second.ask(retry()).unwrap();
    second.run_until(|status| status.parked == 0);
    assert_eq!(second.remote("T/a"), second.local("T/a"));
    let refused = second.ask(retry()).unwrap_err();
    assert!(refused.to_string().contains("not parked"), "{refused}");
    second.append("T/a", 1);
    second.settle();
    assert_eq!(second.remote("T/a"), second.local("T/a"));
}

#[test]
fn a_truncated_server_has_everything_again() {
    for table in [Table::Events, Table::Log, Table::Origins, Table::Meta] {
        let mut till = Till::new(server());
        for at in 0..60 {
            till.append(&format!("T/{}", at % 3), 1);
        }
        till.settle();
        till.wire.with_server(|server| server.truncate(table));
        till.append("T/0", 1);
        till.settle();
        if table != Table::Events {
            // It is not met by appending; it is by the next look.
            till.crash();
            till.settle();
        }
        for stream in ["T/0", "T/1", "T/2"] {
            assert_eq!(till.remote(stream), till.local(stream), "{table:?}");
        }
        assert_eq!(till.parked(), [], "{table:?}");
    }
}

#[test]
fn what_is_lost_before_a_connection_looks_for_the_first_time_is_missed() {
    for table in [Table::Events, Table::Log] {
        let mut till = Till::new(server());
        let (node, mut replicator) = replicator(&till.store, &till.wire);
        replicator.pace.probe_every = Duration::from_secs(1);
        till.node = node;
        till.work = Some(Box::pin(replicator.run()));
        let last = till.append("T/0", 5);
        till.run_until(|status| status.settled >= last);
        till.wire.with_server(|server| server.truncate(table));
        // Nothing that goes on where something is gone: no stream, no commit.
        till.append("T/1", 1);
        till.settle();
        till.run_until(|status| status.already > 0 || status.remote_lost > 0);
        till.settle();
        assert_eq!(till.remote("T/0"), till.local("T/0"), "{table:?}");
        assert_eq!(till.parked(), [], "{table:?}");
    }
}

#[test]
fn a_crash_at_any_request_ends_in_the_same_rows_and_no_conflict() {
    for at in 0..40 {
        let mut till = Till::new(server());
        for round in 0..12 {
            till.append(&format!("T/{}", round % 2), 2);
        }
        let mut asked = 0;
        till.wire.set_faults(move |_| {
            asked += 1;
            match asked {
                now if now == at => Fault::LostReply,
                now if now > at => Fault::Silence,
                _ => Fault::None,
            }
        });
        let wire = till.wire.clone();
        let mut polls = 0;
        while polls < 200 {
            polls += 1;
            let cx = &mut Context::from_waker(Waker::noop());
            let _ = till.work.as_mut().unwrap().as_mut().poll(cx);
            till.node.clock.advance_micros(5_000);
        }
        wire.set_faults(|_| Fault::None);
        till.crash();
        till.settle();
        assert_eq!(till.parked(), [], "{at}");
        for stream in ["T/0", "T/1"] {
            assert_eq!(till.remote(stream), till.local(stream), "{at}");
        }
    }
}

#[test]
fn an_event_that_the_server_refuses_is_parked_if_it_takes_others() {
    let mut till = Till::new(server());
    till.append("T/good", 1);
    till.append("T/bad", 3);
    till.append("T/good", 1);
    till.wire.set_faults(|request| match request {
        Request::Append(rows) if rows.bucket.stream.aggregate_id() == "bad" => Fault::Refused,
        _ => Fault::None,
    });
    till.settle();
    assert_eq!(till.parked(), [("T/bad".into(), "refused", 1, false)]);
    assert_eq!(till.remote("T/good").len(), 2);
    till.wire.set_faults(|_| Fault::None);
    till.ask(SinkMessage::Retry("T/bad".parse().unwrap()))
        .unwrap();
    till.run_until(|status| status.parked == 0);
    assert_eq!(till.remote("T/bad"), till.local("T/bad"));
}

#[test]
fn a_server_that_refuses_everything_is_a_halt_and_parks_nothing() {
    let mut till = Till::new(server());
    till.append("T/a", 2);
    till.append("T/b", 2);
    till.wire.set_faults(|request| match request {
        Request::Append(_) => Fault::Refused,
        _ => Fault::None,
    });
    till.run_until(|status| matches!(status.state, ReplicationState::Halted(Halt::Refused { .. })));
    assert_eq!(till.parked(), []);
    till.wire.set_faults(|_| Fault::None);
    till.node
        .mailbox
        .send(Message::Retry(oneshot::async_channel().0));
    till.settle();
    assert_eq!(till.remote("T/a"), till.local("T/a"));
}

#[test]
fn after_a_sleep_of_the_machine_it_connects_anew_within_seconds() {
    let mut till = Till::new(server());
    till.append("T/a", 1);
    till.settle();
    till.wire.set_faults(|_| Fault::Silence);
    let last = till.append("T/a", 1);
    let turns = std::cell::Cell::new(0);
    till.run_until(|_| turns.replace(turns.get() + 1) > 1_000);
    assert_eq!(till.remote("T/a").len(), 1);
    till.wire.set_faults(|_| Fault::None);
    till.node.slept.store(3_600_000_000, Ordering::SeqCst);
    // Without that it would wait for answers that never come.
    till.run_until(|status| status.settled == last);
    assert_eq!(till.remote("T/a"), till.local("T/a"));
}

#[test]
fn waits_grow_to_the_ceiling_and_end_when_the_server_is_back() {
    let mut till = Till::new(server());
    till.wire.set_faults(|_| Fault::NotSent);
    let last = till.append("T/a", 1);
    till.run_until(|status| matches!(status.state, ReplicationState::Waiting { failures: 12, .. }));
    let status = till.node.status.status();
    assert_eq!(status.retries, 12);
    let ReplicationState::Waiting { next_in, .. } = status.state else {
        panic!("{:?}", status.state);
    };
    assert!(next_in > Duration::from_secs(2) && next_in <= Duration::from_secs(5));
    assert_eq!(status.last_error.unwrap().code(), "unreachable");
    till.wire.set_faults(|_| Fault::None);
    till.run_until(|status| status.settled == last);
    assert_eq!(till.node.status.status().retries, 12);
}

#[test]
fn it_is_at_rest_when_all_is_settled() {
    let mut till = Till::new(server());
    till.append("T/a", 30);
    till.settle();
    till.run_until(|status| status.state == ReplicationState::Live);
    till.wire.take_asked();
    let clock = till.node.clock.clone();
    let before = Ticks::now(&*clock);
    till.run_until(|_| Ticks::now(&*clock) > before + Duration::from_secs(3));
    assert_eq!(till.wire.take_asked().len(), 0);
    let wake = till.node.sleeper.next_wake();
    assert!(
        wake.is_some_and(|wake| wake > Duration::from_secs(200)),
        "{wake:?}"
    );
}
