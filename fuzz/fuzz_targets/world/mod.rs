//! Both stores, and what a step does to them.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;

use tempfile::TempDir;
use tidelog_backends::{MemoryStore, SledStore, fuzzing};
use tidelog_core::*;

use crate::answers::{Checked, expect_eq, said, same, text};
use crate::{Change, Expect, Part, Place, Shape, Step};

const STREAMS: usize = 4;

pub struct World {
    root: TempDir,
    blocking: bool,
    hash_bits: u32,
    fan_in: usize,
    clock: Arc<ManualClock>,
    /// `None` only while it is being reopened.
    store: Option<SledStore>,
    model: Blocking<MemoryStore>,
    /// All that was acknowledged.
    sent: Vec<Vec<AppendBatch>>,
    ids: Vec<EventId>,
    /// Snapshots are gone with the pages in memory when the store is reopened.
    snapshots: HashMap<StreamId, SnapshotEnvelope>,
}

impl World {
    pub fn new(blocking: bool, hash_bits: u32, fan_in: usize) -> Self {
        let start = Timestamp::from_micros(1_700_000_000_000_000);
        let clock = Arc::new(ManualClock::new(start));
        let model = MemoryStore::new().with_clock(clock.clone());
        let mut world = Self {
            root: tempfile::tempdir().expect("a directory"),
            blocking,
            hash_bits,
            fan_in,
            clock,
            store: None,
            model: model.blocking(),
            sent: Vec::new(),
            ids: Vec::new(),
            snapshots: HashMap::new(),
        };
        world.store = Some(world.open().expect("a new store opens"));
        world
    }

    pub fn take(&mut self, step: &Step) -> Checked {
        match step {
            Step::Append(part) => {
                let part = self.part(part);
                self.append(vec![part])
            }
            Step::AppendStreams(parts) => {
                let parts = parts.iter().take(4).map(|part| self.part(part)).collect();
                self.append(parts)
            }
            Step::Retry { which, change } => {
                let Some(parts) = pick(&self.sent, *which).cloned() else {
                    return Ok(());
                };
                let parts = match change {
                    Some(change) => self.changed(parts, *change),
                    None => parts,
                };
                self.append(parts)
            }
            Step::ReadStream {
                stream,
                range,
                backward,
                limit,
            } => {
                let stream = stream_of(*stream);
                let head = self.head(&stream);
                let mut query = StreamQuery::new(stream)
                    .from(place(range.0, head))
                    .to(place(range.1, head));
                query.limit = limit.map(u64::from);
                if *backward {
                    query = query.backward();
                }
                same(
                    all(self.sled().read_stream(query.clone())),
                    all(self.model.read_stream(query)),
                )
            }
            Step::ReadAll { range, limit } => {
                let last = self.model.last_position();
                let mut query = LogQuery::from(place(range.0, last)).to(place(range.1, last));
                query.limit = limit.map(u64::from);
                same(
                    all(self.sled().read_all(query)),
                    all(self.model.read_all(query)),
                )
            }
            Step::Find { stream, which } => {
                let Some(id) = pick(&self.ids, *which).copied() else {
                    return Ok(());
                };
                let stream = stream_of(*stream);
                same(
                    self.sled().find_event(&stream, id),
                    self.model.find_event(&stream, id),
                )
            }
            Step::Snapshot {
                stream,
                at,
                revision,
                wrong_id,
                bytes,
            } => self.snapshot(
                stream_of(*stream),
                *at,
                u32::from(*revision),
                *wrong_id,
                *bytes,
            ),
            Step::Clock(micros) => {
                self.clock.advance_micros(i64::from(*micros));
                Ok(())
            }
            Step::Reopen { cleanly } => self.reopen(*cleanly),
            Step::Drain => said(self.store().drain()),
            Step::RebuildIndex => {
                // Snapshots stand in the pages that are made again.
                self.snapshots.clear();
                said(self.store().rebuild_index())?;
                self.compare_all()
            }
            Step::Verify => self.verify(),
        }
    }

    /// The last look at everything.
    pub fn end(&mut self) -> Checked {
        self.verify()?;
        self.compare_all()?;
        self.reopen(true)
    }

    fn dir(&self) -> PathBuf {
        self.root.path().join("store")
    }

    fn store(&self) -> &SledStore {
        self.store.as_ref().expect("it is open")
    }

    fn sled(&self) -> Blocking<SledStore> {
        if self.blocking {
            self.store().blocking()
        } else {
            Blocking::new(self.store().clone())
        }
    }

    fn open(&self) -> Result<SledStore, Error> {
        let builder = SledStore::builder(self.dir())
            .durability(Durability::Process)
            .segment_size(64 << 10)
            .stress_index(self.hash_bits, self.fan_in)
            .memory_budget(8 << 20)
            .clock(self.clock.clone());
        fuzzing::without_sled(builder).open()
    }

    fn reopen(&mut self, cleanly: bool) -> Checked {
        let store = self.store.take().expect("it is open");
        if cleanly {
            said(store.close_blocking())?;
        } else {
            store.crash();
        }
        drop(store);
        self.snapshots.clear();
        let store = self.open().map_err(|error| format!("opening: {error}"))?;
        self.store = Some(store);
        self.compare_all()
    }

    fn verify(&self) -> Checked {
        let report = self.store().verify().map_err(text)?;
        let last = self.model.last_position();
        expect_eq("records verified", report.records, last)?;
        expect_eq("records indexed", report.indexed, last)
    }

    fn compare_all(&self) -> Checked {
        let face = self.sled();
        expect_eq(
            "last position",
            face.last_position(),
            self.model.last_position(),
        )?;
        same(
            all(face.read_all(LogQuery::all())),
            all(self.model.read_all(LogQuery::all())),
        )?;
        for stream in (0..STREAMS as u8).map(stream_of) {
            let query = StreamQuery::new(stream.clone());
            same(
                all(face.read_stream(query.clone())),
                all(self.model.read_stream(query)),
            )?;
            same(face.head(&stream), self.model.head(&stream))?;
        }
        Ok(())
    }

    fn head(&self, stream: &StreamId) -> u64 {
        let head = self.model.head(stream).expect("the model answers");
        head.map_or(0, |head| head.sequence)
    }

    fn append(&mut self, parts: Vec<AppendBatch>) -> Checked {
        let done = if let [part] = &parts[..] {
            let ours = self.sled().append(part.clone());
            let done = ours.is_ok();
            same(ours, self.model.append(part.clone()))?;
            done
        } else {
            let ours = self.sled().append_streams(parts.clone());
            let done = ours.is_ok();
            same(ours, self.model.append_streams(parts.clone()))?;
            done
        };
        for part in &parts {
            same(
                self.sled().head(&part.stream),
                self.model.head(&part.stream),
            )?;
        }
        if done {
            self.sent.push(parts);
        }
        Ok(())
    }

    fn part(&mut self, part: &Part) -> AppendBatch {
        let stream = stream_of(part.stream);
        let expected = match part.expect {
            Expect::Any => ExpectedVersion::Any,
            Expect::NoStream => ExpectedVersion::NoStream,
            Expect::Exists => ExpectedVersion::StreamExists,
            Expect::Head(beside) => {
                let head = self.head(&stream);
                ExpectedVersion::Exact(head.saturating_add_signed(i64::from(beside)))
            }
            Expect::Exact(sequence) => ExpectedVersion::Exact(sequence),
        };
        let shapes = part.events.iter().take(20);
        let events = shapes.map(|shape| self.event(shape)).collect();
        AppendBatch::new(stream, expected, events)
    }

    fn event(&mut self, shape: &Shape) -> NewEvent {
        let n = self.ids.len() as u64;
        let known = shape
            .id_of
            .and_then(|which| pick(&self.ids, which).copied());
        let id = known.unwrap_or_else(|| {
            let id = EventId::from_bytes((u128::from(n) << 64 | 7).to_be_bytes());
            self.ids.push(id);
            id
        });
        let payload = vec![n as u8; usize::from(shape.payload)];
        let mut event = NewEvent::new("Noted", 1, ContentType::Bytes, payload).with_id(id);
        for at in 0..shape.metadata % 4 {
            event.metadata.insert(format!("key-{at}"), "value");
        }
        if shape.tagged {
            event.tags = Tags::new(["tag:1"]).expect("a tag");
        }
        event.event_time = shape.dated.map(Timestamp::from_micros);
        event
    }

    fn changed(&mut self, mut parts: Vec<AppendBatch>, change: Change) -> Vec<AppendBatch> {
        let one_more = self.event(&Shape {
            payload: 3,
            metadata: 0,
            tagged: false,
            dated: None,
            id_of: None,
        });
        let Some(part) = parts.first_mut().filter(|part| !part.events.is_empty()) else {
            return parts;
        };
        match change {
            Change::Metadata => part.events[0].metadata.insert("retried", "yes"),
            Change::Payload => part.events[0].payload = b"other".to_vec().into(),
            Change::Reversed => part.events.reverse(),
            Change::WithoutFirst => drop(part.events.remove(0)),
            Change::WithOneMore => part.events.push(one_more),
            Change::FirstPartOnly => parts.truncate(1),
            Change::OtherStream => part.stream = stream_of(one_more.event_id.as_bytes()[7]),
            Change::NowExpected => part.expected = ExpectedVersion::Exact(self.head(&part.stream)),
        }
        parts
    }

    fn snapshot(
        &mut self,
        stream: StreamId,
        at: Place,
        revision: u32,
        wrong_id: bool,
        bytes: u16,
    ) -> Checked {
        let kept = self.snapshots.get(&stream).cloned();
        same(self.sled().read_snapshot(&stream), Ok(kept.clone()))?;
        let sequence = place(at, self.head(&stream));
        let query = StreamQuery::new(stream.clone()).from(sequence).to(sequence);
        let there = all(self.model.read_stream(query)).map_err(text)?;
        let there = there.first().filter(|event| event.sequence == sequence);
        let event_id = match there {
            Some(event) if !wrong_id => event.event_id,
            _ => EventId::from_bytes([0xff; 16]),
        };
        let snapshot = SnapshotEnvelope {
            stream: stream.clone(),
            sequence,
            event_id,
            revision,
            content_type: ContentType::Bytes,
            taken_time: tidelog_core::Clock::now(&*self.clock),
            state: vec![revision as u8; usize::from(bytes)].into(),
        };
        let ours = self.sled().persist_snapshot(snapshot.clone());
        if there.is_none() || wrong_id {
            // In which words is free.
            let code = |done: Result<_, Error>| done.map_err(|error| error.code());
            let model = self.model.persist_snapshot(snapshot);
            return expect_eq("a snapshot of nothing", code(ours), code(model));
        }
        let newer = kept.is_some_and(|k| k.sequence >= sequence && k.revision >= revision);
        let expected = if newer {
            PersistOutcome::Superseded
        } else {
            PersistOutcome::Persisted
        };
        expect_eq("outcome", ours.map_err(text)?, expected)?;
        if !newer {
            self.snapshots.insert(stream.clone(), snapshot);
        }
        same(
            self.sled().read_snapshot(&stream),
            Ok(self.snapshots.get(&stream).cloned()),
        )
    }
}

fn all(
    events: impl Iterator<Item = Result<EventEnvelope, Error>>,
) -> Result<Vec<EventEnvelope>, Error> {
    events.collect()
}

fn stream_of(n: u8) -> StreamId {
    let name = ["a", "b", "a/b", "ä"][usize::from(n) % STREAMS];
    StreamId::new("T", name).expect("a name")
}

fn pick<T>(from: &[T], which: u8) -> Option<&T> {
    from.get(usize::from(which) % from.len().max(1))
}

fn place(place: Place, last: u64) -> u64 {
    match place {
        Place::FromStart(at) => u64::from(at),
        Place::FromEnd(beside) => last.saturating_add_signed(i64::from(beside)),
        Place::Exact(at) => at,
    }
}
