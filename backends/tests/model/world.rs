//! Both stores, and what a step does to them.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::path::PathBuf;
use std::sync::Arc;

use tempfile::TempDir;
use tidelog_backends::{MemoryStore, SledStore, restore_backup};
use tidelog_core::*;

use crate::answers::{Checked, expect_eq, said, same, text};
use crate::steps::{
    After, Change, End, EventShape, Expect, MAX_BATCH_BYTES, MAX_BATCH_EVENTS, MAX_METADATA,
    MAX_PAYLOAD, Part, Place, STREAMS, Step,
};
use crate::tools;

/// How the store under test is built.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    pub hash_bits: u32,
    pub fan_in: usize,
}

pub struct World {
    shape: Shape,
    blocking: bool,
    branches: bool,
    /// Records that are no events.
    controls: u64,
    root: TempDir,
    clock: Arc<ManualClock>,
    /// `None` only while it is being reopened.
    store: Option<SledStore>,
    model: Blocking<MemoryStore>,
    streams: Vec<StreamId>,
    /// All that was acknowledged.
    sent: Vec<Vec<AppendBatch>>,
    ids: Vec<EventId>,
    saved_index: bool,
    /// Snapshots are a cache: where they may have been lost, or an older one come back.
    unsure: HashSet<StreamId>,
    persisted: HashMap<StreamId, Vec<SnapshotEnvelope>>,
    generation: u64,
}

impl World {
    pub fn new(shape: Shape, blocking: bool, branches: bool) -> Self {
        let clock = Arc::new(ManualClock::new(Timestamp::from_micros(
            1_700_000_000_000_000,
        )));
        let names = ["a", "b", "a/b", "ä", "a\u{308}", "0", &"long ".repeat(51)];
        let model = MemoryStore::with_limits(limits()).with_clock(clock.clone());
        let mut world = Self {
            shape,
            blocking,
            branches,
            controls: 0,
            root: TempDir::new().unwrap(),
            clock,
            store: None,
            model: model.blocking(),
            streams: names.iter().map(|name| tools::stream(name)).collect(),
            sent: Vec::new(),
            ids: Vec::new(),
            saved_index: false,
            unsure: HashSet::new(),
            persisted: HashMap::new(),
            generation: 0,
        };
        assert_eq!(world.streams.len(), STREAMS);
        world.open().unwrap();
        world
    }

    pub fn take(&mut self, step: &Step) -> Checked {
        match step {
            Step::Append(parts) => {
                let parts = parts.iter().map(|part| self.part(part)).collect();
                self.append(parts)
            }
            Step::Retry {
                which,
                change,
                expect,
            } => {
                if self.sent.is_empty() {
                    return Ok(());
                }
                let parts = which.get(&self.sent).clone();
                let parts = self.changed(parts, *change, *expect);
                self.append(parts)
            }
            Step::Supersede { .. } if !self.branches => Ok(()),
            Step::Supersede {
                stream,
                from,
                adopted,
                reissued,
                wrong_head,
            } => {
                let stream = self.streams[*stream].clone();
                let adopted = adopted.iter().map(|shape| self.adopted(shape)).collect();
                let reissued = reissued.iter().map(|shape| self.event(shape)).collect();
                self.supersede(stream, *from, adopted, reissued, *wrong_head)
            }
            Step::ReadStream {
                stream,
                from,
                to,
                backward,
                limit,
            } => {
                let stream = self.streams[*stream].clone();
                let head = self.head(&stream);
                let mut query = StreamQuery::new(stream)
                    .from(place(*from, head))
                    .to(place(*to, head));
                query.limit = *limit;
                if *backward {
                    query = query.backward();
                }
                same(
                    self.sled()
                        .read_stream(query.clone())
                        .collect::<Result<Vec<_>, _>>(),
                    self.model.read_stream(query).collect::<Result<Vec<_>, _>>(),
                )
            }
            Step::ReadAll { from, to, limit } => {
                let last = self.model.last_position();
                let mut query = LogQuery::from(place(*from, last)).to(place(*to, last));
                query.limit = *limit;
                same(
                    self.sled().read_all(query).collect::<Result<Vec<_>, _>>(),
                    self.model.read_all(query).collect::<Result<Vec<_>, _>>(),
                )
            }
            Step::Head(stream) => {
                let stream = &self.streams[*stream];
                same(self.sled().head(stream), self.model.head(stream))
            }
            Step::Find { stream, which } => {
                if self.ids.is_empty() {
                    return Ok(());
                }
                let (stream, id) = (&self.streams[*stream], *which.get(&self.ids));
                same(
                    self.sled().find_event(stream, id),
                    self.model.find_event(stream, id),
                )
            }
            Step::PersistSnapshot {
                stream,
                at,
                revision,
                wrong_id,
                bytes,
            } => self.persist(*stream, *at, *revision, *wrong_id, *bytes),
            Step::ReadSnapshot(stream) => self.read_snapshot(*stream).map(drop),
            Step::Drain => said(self.store().drain()),
            Step::RebuildIndex => {
                said(self.store().rebuild_index())?;
                self.compare_all()
            }
            Step::Verify => self.verify(),
            Step::Clock(micros) => {
                self.clock.advance_micros(*micros);
                Ok(())
            }
            Step::Reopen(end) => self.reopen(*end, |_| ()),
            Step::LoseIndex { end, with_manifest } => self.reopen(*end, |world| {
                fs::remove_dir_all(world.dir().join("index")).unwrap();
                if *with_manifest {
                    fs::remove_file(world.dir().join("manifest")).unwrap();
                }
            }),
            Step::SaveIndex { closed: false } => {
                self.save_index();
                Ok(())
            }
            Step::SaveIndex { closed: true } => self.reopen(End::Clean, Self::save_index),
            Step::RollBackIndex { end, with_manifest } => {
                if !self.saved_index {
                    return Ok(());
                }
                self.reopen(*end, |world| world.roll_back(*with_manifest))
            }
            Step::Restore => self.restore(),
        }
    }

    /// The last look at everything.
    pub fn end(&mut self) -> Checked {
        self.verify()?;
        self.compare_all()?;
        self.reopen(End::Clean, |_| ())?;
        self.verify()
    }

    fn dir(&self) -> PathBuf {
        self.root.path().join("store")
    }

    fn store(&self) -> &SledStore {
        self.store.as_ref().unwrap()
    }

    fn sled(&self) -> Blocking<SledStore> {
        self.face(self.store())
    }

    fn face(&self, store: &SledStore) -> Blocking<SledStore> {
        if self.blocking {
            store.blocking()
        } else {
            Blocking::new(store.clone())
        }
    }

    fn open(&mut self) -> Checked {
        let store = self
            .open_at(self.dir())
            .map_err(|error| format!("opening: {error}"))?;
        self.store = Some(store);
        Ok(())
    }

    fn open_at(&self, dir: PathBuf) -> Result<SledStore, Error> {
        SledStore::builder(dir)
            .limits(limits())
            .durability(Durability::Process)
            .segment_size(64 << 10)
            .stress_index(self.shape.hash_bits, self.shape.fan_in)
            .memory_budget(8 << 20)
            .clock(self.clock.clone())
            .open()
    }

    /// Ends the store, does something to its files, opens it, and looks at everything.
    fn reopen(&mut self, end: End, meanwhile: impl FnOnce(&mut Self)) -> Checked {
        let store = self.store.take().unwrap();
        match end {
            End::Clean => said(store.close_blocking())?,
            End::Crash => store.crash(),
        }
        drop(store);
        meanwhile(self);
        // What was put since the index was last flushed may be gone.
        self.unsure.extend(self.streams.iter().cloned());
        self.open()?;
        self.compare_all()
    }

    fn save_index(&mut self) {
        let copy = self.root.path().join("saved");
        let _ = fs::remove_dir_all(&copy);
        tools::copy_tree(&self.dir().join("index"), &copy.join("index"));
        fs::copy(self.dir().join("manifest"), copy.join("manifest")).unwrap();
        self.saved_index = true;
    }

    fn roll_back(&mut self, with_manifest: bool) {
        let copy = self.root.path().join("saved");
        tools::put_back(&copy.join("index"), &self.dir().join("index"));
        if with_manifest {
            fs::copy(copy.join("manifest"), self.dir().join("manifest")).unwrap();
        }
    }

    fn restore(&mut self) -> Checked {
        let (to, back) = (
            self.root.path().join("backup"),
            self.root.path().join("back"),
        );
        let report = self
            .store()
            .backup(&to)
            .map_err(|error| format!("backup: {error}"))?;
        let last = self.model.last_position();
        expect_eq("position of the backup", report.last_position, last)?;
        said(restore_backup(&to, &back))?;
        let store = self
            .open_at(back.clone())
            .map_err(|error| format!("restored: {error}"))?;
        let face = self.face(&store);
        same(
            face.read_all(LogQuery::all().to(last))
                .collect::<Result<Vec<_>, _>>(),
            self.model
                .read_all(LogQuery::all())
                .collect::<Result<Vec<_>, _>>(),
        )?;
        for stream in &self.streams {
            same(face.head(stream), self.model.head(stream))?;
        }
        let after = face
            .read_all(LogQuery::from(last + 1))
            .collect::<Result<Vec<_>, _>>();
        let kinds: Vec<_> = after.map_err(text)?.iter().map(|e| e.kind).collect();
        expect_eq(
            "records after the backup's",
            kinds,
            vec![RecordKind::Control],
        )?;
        said(store.verify().map(drop))?;
        said(store.close_blocking())?;
        fs::remove_dir_all(back).unwrap();
        Ok(())
    }

    fn verify(&self) -> Checked {
        let report = self
            .store()
            .verify()
            .map_err(|error| format!("verify: {error}"))?;
        let last = self.model.last_position();
        expect_eq("records verified", report.records, last)?;
        expect_eq("records indexed", report.indexed, last - self.controls)
    }

    fn compare_all(&self) -> Checked {
        let face = self.sled();
        expect_eq(
            "last position",
            face.last_position(),
            self.model.last_position(),
        )?;
        same(
            face.read_all(LogQuery::all())
                .collect::<Result<Vec<_>, _>>(),
            self.model
                .read_all(LogQuery::all())
                .collect::<Result<Vec<_>, _>>(),
        )?;
        for event in self.model.read_all(LogQuery::all()) {
            let event = event.map_err(text)?;
            let ours = face.inner().superseded_at(&event);
            let model = self.model.inner().superseded_at(&event);
            expect_eq("where it gave way", ours, model)?;
        }
        for stream in &self.streams {
            let query = StreamQuery::new(stream.clone());
            same(
                face.read_stream(query.clone())
                    .collect::<Result<Vec<_>, _>>(),
                self.model.read_stream(query).collect::<Result<Vec<_>, _>>(),
            )?;
            same(face.head(stream), self.model.head(stream))?;
        }
        Ok(())
    }

    fn head(&self, stream: &StreamId) -> u64 {
        self.model
            .head(stream)
            .unwrap()
            .map_or(0, |head| head.sequence)
    }

    fn append(&mut self, parts: Vec<AppendBatch>) -> Checked {
        let done = if let [part] = &parts[..] {
            let (ours, model) = (
                self.sled().append(part.clone()),
                self.model.append(part.clone()),
            );
            let done = ours.is_ok();
            same(ours, model)?;
            done
        } else {
            let ours = self.sled().append_streams(parts.clone());
            let done = ours.is_ok();
            same(ours, self.model.append_streams(parts.clone()))?;
            done
        };
        if done {
            self.sent.push(parts);
        }
        for part in self.sent.last().filter(|_| done).into_iter().flatten() {
            let (face, head) = (self.sled(), self.model.head(&part.stream));
            same(face.head(&part.stream), head)?;
        }
        Ok(())
    }

    fn supersede(
        &mut self,
        stream: StreamId,
        from: Place,
        adopted: Vec<NewEvent>,
        reissued: Vec<NewEvent>,
        wrong_head: bool,
    ) -> Checked {
        let head = self.model.head(&stream).unwrap();
        let mut head = head.unwrap_or(StreamHead {
            sequence: 1,
            event_id: tools::id(u64::MAX),
        });
        head.sequence += u64::from(wrong_head);
        let from = place(from, head.sequence).min(head.sequence + 2);
        let what = Supersession::new(stream, head, from)
            .with_adopted(adopted)
            .with_reissued(reissued);
        let ours = self.sled().supersede(what.clone());
        let done = ours.is_ok();
        same(ours, self.model.supersede(what))?;
        self.controls += u64::from(done);
        Ok(())
    }

    fn adopted(&mut self, shape: &EventShape) -> NewEvent {
        let position = self.ids.len() as u64;
        self.event(shape).with_birth(Birth {
            origin: uuid::Uuid::from_u128(1),
            epoch: uuid::Uuid::from_u128(2),
            position,
            recorded_time: Timestamp::from_micros(3),
        })
    }

    fn part(&mut self, part: &Part) -> AppendBatch {
        let stream = self.streams[part.stream].clone();
        let expected = self.expected(&stream, part.expect);
        let events = part.events.iter().map(|shape| self.event(shape)).collect();
        let head = self.model.head(&stream).unwrap();
        let mut batch = AppendBatch::new(stream, expected, events);
        batch.after = match part.after {
            After::Unsaid => None,
            After::Head => head.map(|head| head.event_id),
            After::Another(_) if self.ids.is_empty() => None,
            After::Another(which) => Some(*which.get(&self.ids)),
        };
        if part.durable {
            batch.with_durability(Durability::Power)
        } else {
            batch
        }
    }

    fn expected(&self, stream: &StreamId, expect: Expect) -> ExpectedVersion {
        match expect {
            Expect::Any => ExpectedVersion::Any,
            Expect::NoStream => ExpectedVersion::NoStream,
            Expect::Exists => ExpectedVersion::StreamExists,
            Expect::Head(beside) => {
                ExpectedVersion::Exact(self.head(stream).saturating_add_signed(beside))
            }
            Expect::Exact(sequence) => ExpectedVersion::Exact(sequence),
        }
    }

    fn event(&mut self, shape: &EventShape) -> NewEvent {
        let n = self.ids.len() as u64;
        let known = shape
            .id_of
            .filter(|_| n > 0)
            .map(|which| *which.get(&self.ids));
        let id = known.unwrap_or_else(|| tools::id(n));
        if known.is_none() {
            self.ids.push(id);
        }
        let kinds = [
            ("Noted", 1, ContentType::Bytes),
            ("Noted", 2, ContentType::Json),
            ("Changed", 1, ContentType::Postcard),
            (
                "Ünusual",
                u32::MAX,
                ContentType::parse("text/plain").unwrap(),
            ),
        ];
        let (name, revision, content) = kinds[usize::from(shape.kind)].clone();
        let payload: Vec<u8> = (0..shape.payload).map(|at| (at as u64 ^ n) as u8).collect();
        let mut event = NewEvent::new(name, revision, content, payload).with_id(id);
        for at in 0..shape.metadata {
            event
                .metadata
                .insert(format!("key-{at}"), "value ".repeat(at));
        }
        event.tags = Tags::new((0..shape.tags).map(|at| format!("tag:{at}"))).unwrap();
        event.event_time = shape.dated.map(Timestamp::from_micros);
        event
    }

    fn changed(
        &mut self,
        mut parts: Vec<AppendBatch>,
        change: Change,
        expect: Option<Expect>,
    ) -> Vec<AppendBatch> {
        let one_more = self.event(&EventShape {
            payload: 3,
            metadata: 0,
            tags: 0,
            kind: 0,
            dated: None,
            id_of: None,
        });
        let other = (self.ids.len() + parts.len()) % STREAMS;
        match change {
            Change::Nothing => {}
            Change::FirstPartOnly => parts.truncate(1),
            Change::OtherStream => parts[0].stream = self.streams[other].clone(),
            Change::Reversed => parts[0].events.reverse(),
            Change::WithoutFirst => drop(parts[0].events.remove(0)),
            Change::WithoutLast => drop(parts[0].events.pop()),
            Change::WithOneMore => parts[0].events.push(one_more),
            Change::Metadata => parts[0].events[0].metadata.insert("retried", "yes"),
            Change::Payload => parts[0].events[0].payload = b"other".to_vec().into(),
            Change::Tags => parts[0].events[0].tags = Tags::new(["other:tag"]).unwrap(),
            Change::Revision => parts[0].events[0].revision ^= 4,
        }
        if let Some(expect) = expect {
            for part in &mut parts {
                part.expected = self.expected(&part.stream, expect);
            }
        }
        parts
    }

    fn persist(
        &mut self,
        stream: usize,
        at: Place,
        revision: u32,
        wrong_id: bool,
        bytes: usize,
    ) -> Checked {
        let kept = self.read_snapshot(stream)?;
        let stream = self.streams[stream].clone();
        let sequence = place(at, self.head(&stream));
        let there = self
            .model
            .read_stream(StreamQuery::new(stream.clone()).from(sequence).to(sequence))
            .next();
        let there = there
            .map(Result::unwrap)
            .filter(|event| event.sequence == sequence);
        let event_id = match &there {
            Some(event) if !wrong_id => event.event_id,
            _ => tools::id(u64::MAX),
        };
        let snapshot = SnapshotEnvelope {
            stream: stream.clone(),
            sequence,
            event_id,
            revision,
            content_type: ContentType::Bytes,
            taken_time: Clock::now(&*self.clock),
            state: vec![revision as u8; bytes].into(),
        };
        let ours = self.sled().persist_snapshot(snapshot.clone());
        let model = self.model.persist_snapshot(snapshot.clone());
        if there.is_none() || wrong_id {
            return match (ours, model) {
                (Err(ours), Err(model)) if ours.code() == model.code() => Ok(()),
                other => Err(format!("a snapshot of nothing: {other:?}")),
            };
        }
        let newer = kept.is_some_and(|k| k.sequence >= sequence && k.revision >= revision);
        let expected = if newer {
            PersistOutcome::Superseded
        } else {
            PersistOutcome::Persisted
        };
        expect_eq("outcome", ours.map_err(text)?, expected)?;
        if !self.unsure.contains(&stream) {
            expect_eq("the model's outcome", model.map_err(text)?, expected)?;
        }
        if !newer {
            self.persisted.entry(stream).or_default().push(snapshot);
        }
        Ok(())
    }

    fn read_snapshot(&mut self, stream: usize) -> Result<Option<SnapshotEnvelope>, String> {
        let generation = self.store().info().map_err(text)?.index_generation;
        if generation != self.generation {
            self.generation = generation;
            self.unsure.extend(self.streams.iter().cloned());
        }
        let stream = self.streams[stream].clone();
        let ours = self.sled().read_snapshot(&stream).map_err(text)?;
        let model = self.model.read_snapshot(&stream).map_err(text)?;
        if ours == model {
            self.unsure.remove(&stream);
            return Ok(ours);
        }
        let known = self.persisted.get(&stream).into_iter().flatten();
        let was_there = ours.is_none() || known.into_iter().any(|k| Some(k) == ours.as_ref());
        if self.unsure.contains(&stream) && was_there {
            return Ok(ours);
        }
        Err(format!("the snapshot is {ours:?}, the model's {model:?}"))
    }
}

fn limits() -> Limits {
    Limits {
        payload_bytes: MAX_PAYLOAD,
        metadata_bytes: MAX_METADATA,
        batch_events: MAX_BATCH_EVENTS,
        batch_bytes: MAX_BATCH_BYTES,
    }
}

fn place(place: Place, last: u64) -> u64 {
    match place {
        Place::FromStart(at) => at,
        Place::FromEnd(beside) => last.saturating_add_signed(beside),
        Place::Max => u64::MAX,
    }
}
