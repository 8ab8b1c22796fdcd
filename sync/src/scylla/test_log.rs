//! For tests: a log, its rows at the fake server, and a copy in memory.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::{Context, Poll, Waker};

use parking_lot::Mutex;
use tidelog_backends::commits::{Commit, CommitEnd, DeclaredHole};
use tidelog_backends::fake::{FakeServer, FakeWire};
use tidelog_backends::wire::{
    AppendRows, Bucket, Chunk, EventRow, Expected, HeadRow, LogRow, MetaRow, OriginRow, ParkedKey,
    ParkedRow, Reply, Request, Watermark, Wire, WireError,
};
use tidelog_core::{
    Batch, BoxFuture, ContentType, Error, EventEnvelope, EventId, IdSource, Metadata, RecordKind,
    StreamHead, StreamId, Superseded, Supersession, Tags, Timestamp,
};
use uuid::Uuid;

use super::copy_target::{Claim, CopyTarget, Restorable};

pub(super) const CHUNK: u64 = 8;

pub(super) fn id(number: u8) -> Uuid {
    Uuid::from_bytes([number; 16])
}

pub(super) fn stream(name: &str) -> StreamId {
    StreamId::new("Till", name).unwrap()
}

/// A server with small chunks and buckets.
pub(super) fn server() -> FakeWire {
    FakeWire::new(FakeServer::new(MetaRow {
        keyspace_id: id(77),
        schema_version: 1,
        bucket_events: 10,
        chunk_records: CHUNK,
        arbitration_dc: None,
    }))
}

pub(super) fn ask(wire: &FakeWire, request: Request) -> Reply {
    pollster::block_on(wire.ask(request)).unwrap()
}

/// Ids that count up.
#[derive(Default)]
pub(super) struct Ids(AtomicUsize);

impl IdSource for Ids {
    fn next_uuid(&self) -> Uuid {
        let next = self.0.fetch_add(1, Ordering::Relaxed) as u128 + 1;
        Uuid::from_u128(0xabcd << 112 | next)
    }
}

/// A log that is written by hand.
#[derive(Clone)]
pub(super) struct TestLog {
    pub origin: Uuid,
    pub first_epoch: Uuid,
    pub commits: Vec<Commit>,
    pub end: CommitEnd,
    /// Goes into the ids, so that clones differ.
    pub writer: u8,
    sequences: BTreeMap<StreamId, u64>,
}

impl TestLog {
    pub(super) fn new(origin: u8, first_epoch: u8) -> Self {
        let (origin, first_epoch) = (id(origin), id(first_epoch));
        Self {
            origin,
            first_epoch,
            commits: Vec::new(),
            end: CommitEnd::genesis(origin, first_epoch),
            writer: 0,
            sequences: BTreeMap::new(),
        }
    }

    /// One commit with an event for each name of a stream.
    pub(super) fn append(&mut self, streams: &[&str]) -> &mut Self {
        let events: Vec<_> = streams.iter().map(|name| stream(name)).collect();
        let first = self.end.position + 1;
        let envelopes = events.into_iter().zip(first..).map(|(stream, position)| {
            let sequence = self.sequences.entry(stream.clone()).or_default();
            *sequence += 1;
            envelope(self.origin, self.writer, stream, (position, *sequence))
        });
        let mut envelopes: Vec<_> = envelopes.collect();
        let batch = Batch {
            first,
            count: u32::try_from(streams.len()).unwrap(),
        };
        for envelope in &mut envelopes {
            envelope.batch = batch;
        }
        self.commit(&envelopes)
    }

    /// `count` commits of one event each.
    pub(super) fn append_times(&mut self, count: usize, stream: &str) -> &mut Self {
        for _ in 0..count {
            self.append(&[stream]);
        }
        self
    }

    /// One commit with one record of the library itself.
    pub(super) fn control(&mut self, event_type: &str, payload: Vec<u8>) -> &mut Self {
        let stream = StreamId::new_reserved("$tidelog", "control").unwrap();
        let place = (self.end.position + 1, 0);
        let mut record = envelope(self.origin, self.writer, stream, place);
        record.kind = RecordKind::Control;
        record.event_type = event_type.into();
        record.event = payload.into();
        self.commit(&[record])
    }

    /// One commit that says that a stream gives way from a sequence on.
    pub(super) fn supersede(&mut self, name: &str, from: u64) -> &mut Self {
        let head = StreamHead {
            sequence: from + 5,
            event_id: EventId::from_bytes([1; 16]),
        };
        let what = Supersession::new(stream(name), head, from);
        let what = Superseded::new(&what, self.end.position + 1);
        self.control("Supersede", what.encode().unwrap())
    }

    fn commit(&mut self, envelopes: &[EventEnvelope]) -> &mut Self {
        let commit = Commit::of(&self.end, envelopes).unwrap();
        self.end = commit.end();
        self.commits.push(commit);
        self
    }

    /// Takes the newest `commits` away, as a repair does, and declares them lost.
    pub(super) fn lose(&mut self, commits: usize) -> &mut Self {
        let gone = self.commits.split_off(self.commits.len() - commits);
        let (first, last) = (gone.first().unwrap(), gone.last().unwrap());
        let mut payload = vec![1];
        for number in [
            first.number,
            last.number,
            first.first_position,
            last.last_position(),
        ] {
            payload.push(u8::try_from(number).unwrap());
        }
        payload.extend(first.previous);
        payload.extend(first.previous);
        payload.extend([0, 0, 0]);
        self.end = CommitEnd {
            hash: first.previous,
            ..last.end()
        };
        self.control("Gap", payload)
    }

    /// Every record, oldest first.
    pub(super) fn envelopes(&self) -> Vec<EventEnvelope> {
        let records = self.commits.iter().flat_map(Commit::each);
        records.map(|r| r.unwrap().envelope().unwrap()).collect()
    }

    /// The end of the commit that ends at `position`.
    pub(super) fn end_at(&self, position: u64) -> CommitEnd {
        let mut ends = self.commits.iter().map(Commit::end);
        ends.find(|end| end.position == position)
            .unwrap_or(CommitEnd::genesis(self.origin, self.first_epoch))
    }

    /// Sends the rows of positions `from` to `to` under `epoch`.
    pub(super) fn send(&self, wire: &FakeWire, epoch: Uuid, from: u64, to: u64) {
        for commit in &self.commits {
            for row in rows_of(commit) {
                if (from..=to).contains(&row.position) {
                    let chunk = Chunk {
                        origin: self.origin,
                        epoch,
                        number: row.position / CHUNK,
                    };
                    let rows = vec![row];
                    ask(wire, Request::PutLog { chunk, rows });
                }
            }
        }
    }

    /// The row of an epoch whose watermark is at `position`.
    pub(super) fn row(&self, epoch: Uuid, parent: Option<(Uuid, u64)>, position: u64) -> OriginRow {
        let end = self.end_at(position);
        OriginRow {
            origin: self.origin,
            epoch,
            first_epoch: self.first_epoch,
            parent: parent.map(|(parent, at)| (parent, at, self.end_at(at).hash)),
            watermark: Watermark {
                session: id(200),
                position: end.position,
                hash: end.hash,
                commit_number: end.number,
            },
            published: 0,
            successor: None,
            name: "till".into(),
        }
    }

    /// Everything of it, under its first epoch, settled.
    pub(super) fn send_all(&self, wire: &FakeWire) {
        let last = self.end.position;
        self.send(wire, self.first_epoch, 1, last);
        let row = self.row(self.first_epoch, None, last);
        assert_eq!(
            ask(wire, Request::Register(Box::new(row))),
            Reply::Applied(true)
        );
    }
}

pub(super) fn rows_of(commit: &Commit) -> Vec<LogRow> {
    let records = commit.each().map(Result::unwrap);
    let rows = records.map(|record| LogRow {
        position: record.position,
        event_id: record.event_id,
        commit_number: commit.number,
        commit_first: commit.first_position,
        commit_count: commit.records,
        commit_hash: commit.hash,
        record: record.bytes(),
    });
    rows.collect()
}

fn envelope(origin: Uuid, writer: u8, stream: StreamId, at: (u64, u64)) -> EventEnvelope {
    let (position, sequence) = at;
    let number = position << 16 | u64::from(origin.as_bytes()[0]) << 8 | u64::from(writer);
    EventEnvelope {
        event_id: EventId::from_bytes(Uuid::from_u64_pair(7, number).into_bytes()),
        stream,
        sequence,
        position: Some(position),
        birth: None,
        kind: RecordKind::Event,
        event_type: "Sold".into(),
        revision: 1,
        content_type: ContentType::Json,
        event_time: Timestamp::from_micros(1),
        recorded_time: Timestamp::from_micros(2),
        metadata: Metadata::new(),
        tags: Tags::none(),
        batch: Batch {
            first: position,
            count: 1,
        },
        event: format!("{{\"by\":{writer}}}").into(),
    }
}

/// A wire that falls silent at its `at`th request, before it is executed or after it.
pub(super) struct Silenced {
    pub wire: FakeWire,
    pub at: usize,
    pub executed: bool,
    /// It has fallen silent.
    pub silent: Arc<AtomicBool>,
    asked: AtomicUsize,
}

impl Silenced {
    pub(super) fn new(wire: FakeWire, at: usize, executed: bool) -> Self {
        let asked = AtomicUsize::new(0);
        Self {
            wire,
            at,
            executed,
            silent: Arc::default(),
            asked,
        }
    }
}

impl Wire for Silenced {
    fn ask(&self, request: Request) -> BoxFuture<'_, Result<Reply, WireError>> {
        let now = self.asked.fetch_add(1, Ordering::Relaxed);
        Box::pin(async move {
            if now == self.at {
                if self.executed {
                    let _ = self.wire.ask(request).await;
                }
                self.silent.store(true, Ordering::Relaxed);
                return std::future::pending().await;
            }
            self.wire.ask(request).await
        })
    }

    fn renew(&self) -> BoxFuture<'_, Result<(), WireError>> {
        self.wire.renew()
    }
}

/// What `future` answers without ever waiting; `None` when it waits, which ends it.
pub(super) fn now_or_never<F: Future>(future: F) -> Option<F::Output> {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(output) => Some(output),
        Poll::Pending => None,
    }
}

/// What `future` answers; `None` when the wire falls silent before that, which ends it.
pub(super) fn unless_silent<F: Future>(future: F, silent: &AtomicBool) -> Option<F::Output> {
    let mut future = pin!(future);
    loop {
        if let Poll::Ready(output) = future
            .as_mut()
            .poll(&mut Context::from_waker(Waker::noop()))
        {
            return Some(output);
        }
        if silent.swap(false, Ordering::Relaxed) {
            return None;
        }
        // Files are read and written on other threads.
        std::thread::yield_now();
    }
}

/// A copy in memory; clones are the same one.
#[derive(Clone)]
pub(super) struct MemoryCopy(pub Arc<Mutex<CopyState>>);

pub(super) struct CopyState {
    pub end: CommitEnd,
    pub commits: Vec<Commit>,
    pub holes: Vec<DeclaredHole>,
    pub claim: Option<Claim>,
    pub epoch: Option<Uuid>,
    /// Only this much survives a power cut.
    pub synced: usize,
}

impl MemoryCopy {
    pub(super) fn new(origin: Uuid, first_epoch: Uuid) -> Self {
        Self(Arc::new(Mutex::new(CopyState {
            end: CommitEnd::genesis(origin, first_epoch),
            commits: Vec::new(),
            holes: Vec::new(),
            claim: None,
            epoch: None,
            synced: 0,
        })))
    }
}

impl CopyTarget for MemoryCopy {
    fn end(&self) -> CommitEnd {
        self.0.lock().end
    }

    fn push(&mut self, commit: &Commit) -> Result<(), Error> {
        let mut state = self.0.lock();
        assert_eq!(Commit::new(&state.end, commit.body.clone())?, *commit);
        state.end = commit.end();
        state.commits.push(commit.clone());
        Ok(())
    }

    fn skip(&mut self, hole: &DeclaredHole) -> Result<(), Error> {
        let mut state = self.0.lock();
        assert_eq!(hole.first_position, state.end.position + 1);
        state.end = CommitEnd {
            number: hole.last_commit,
            position: hole.last_position,
            hash: hole.hash_after,
        };
        state.holes.push(*hole);
        Ok(())
    }

    fn sync(&mut self) -> Result<(), Error> {
        let mut state = self.0.lock();
        state.synced = state.commits.len();
        Ok(())
    }
}

impl Restorable for MemoryCopy {
    fn has(&self, position: u64, hash: &[u8; 32]) -> Result<bool, Error> {
        let state = self.0.lock();
        let mut ends = state.commits.iter().map(Commit::end);
        let is_it = |end: CommitEnd| (end.position, &end.hash) == (position, hash);
        let is_lost =
            |hole: &DeclaredHole| (hole.first_position..=hole.last_position).contains(&position);
        Ok(ends.any(is_it) || state.holes.iter().any(is_lost))
    }

    fn claimed(&self) -> Result<Option<Claim>, Error> {
        Ok(self.0.lock().claim.clone())
    }

    fn claim(&mut self, claim: &Claim) -> Result<(), Error> {
        let mut state = self.0.lock();
        assert_eq!(state.synced, state.commits.len(), "the log comes first");
        state.claim = Some(claim.clone());
        Ok(())
    }

    fn finish(self, epoch: Uuid) -> Result<(), Error> {
        self.0.lock().epoch = Some(epoch);
        Ok(())
    }
}

/// A log of three streams: one append, one to three at once, six to one.
pub(super) fn log(origin: u8) -> TestLog {
    let mut log = TestLog::new(origin, origin);
    log.append(&["a"]).append(&["a", "b", "c"]);
    log.append_times(6, "b");
    log
}

/// The server accepts these events of one stream, of which it has `before`.
pub(super) fn accept(wire: &FakeWire, before: Option<&EventEnvelope>, events: &[EventEnvelope]) {
    let mut before = before.map(|event| (event.sequence, event.event_id));
    for event in events {
        let head = HeadRow {
            sequence: event.sequence,
            event_id: event.event_id,
            recorded: event.recorded_time,
        };
        let append = AppendRows {
            bucket: Bucket {
                stream: event.stream.clone(),
                number: 0,
            },
            expected: before.map_or(Expected::Nothing, |(sequence, id)| {
                Expected::Event(sequence, id)
            }),
            rows: vec![EventRow {
                event: event.clone(),
                place: None,
            }],
            head,
        };
        let appended = ask(wire, Request::Append(Box::new(append)));
        assert_eq!(appended, Reply::Applied(true));
        before = Some((event.sequence, event.event_id));
    }
}

/// What `log` lists where it has parked a stream, and nobody has resolved it.
pub(super) fn parked(log: &TestLog, name: &str, position: u64, sequence: u64) -> ParkedRow {
    let envelopes = log.envelopes();
    let held = envelopes
        .iter()
        .find(|event| event.position == Some(position));
    let held = held.unwrap();
    assert_eq!((&held.stream, held.sequence), (&stream(name), sequence));
    ParkedRow {
        key: ParkedKey {
            origin: log.origin,
            epoch: log.first_epoch,
            stream: stream(name),
            first_position: position,
        },
        first_sequence: sequence,
        until_position: None,
        reason: "diverged".into(),
        local_event: held.event_id,
        remote: None,
    }
}
