//! Group commit: everything that waits becomes one frame, one write, one sync.
//!
//! One [`Committer`] stands behind a lock; whoever holds it commits: the writer's thread for async
//! callers, the caller's own for blocking ones. At most one commit is not yet synced.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use tidelog_core::{
    AppendBatch, AppendOutcome, AppendReceipt, Batch, Durability, Error, EventId, RecordKind,
    StreamId, Timestamp,
};

use super::control;
use super::frame::{self, FrameHeader};
use super::frame_reader::Expect;
use super::gate::Permit;
use super::heads::Head;
use super::index::SegmentIndex;
use super::log::{Hop, SegmentInfo};
use super::record::{self, Record};
use super::recover::Active;
use super::retry::{Found, Standing, judge};
use super::segment::{self, Epoch, Prepared, SegmentHeader};
use super::shared::Shared;
use super::state::CleanMark;
use super::streams::{SegmentEnd, Tail};
use crate::platform;

/// A group is closed when it has this many bytes; one larger batch makes a group alone.
const GROUP_BYTES: usize = 32 << 20;
/// The frame buffer is given back when it grew above this.
const KEEP_BUFFER: usize = 4 << 20;
/// Bytes of a record beside names, texts and payload, at most.
const RECORD_OVERHEAD: usize = 112;

pub(crate) type Reply = oneshot::Sender<Result<Vec<AppendReceipt>, Error>>;

/// One append that waits to be committed.
pub(crate) struct Request {
    pub parts: Vec<AppendBatch>,
    pub hashes: Vec<u64>,
    pub durability: Durability,
    /// What it takes in a frame, at most.
    pub bytes: usize,
    pub reply: Reply,
    /// Gives its room in the queue back when the request is answered.
    pub permit: Option<Permit>,
}

impl Request {
    pub(crate) fn size(parts: &[AppendBatch]) -> usize {
        let mut bytes = 0;
        for part in parts {
            for event in &part.events {
                bytes += RECORD_OVERHEAD + part.stream.as_str().len() + event.event_type.len();
                bytes += event.content_type.as_str().len() + event.payload.len();
                bytes += event.metadata.size() + event.metadata.len() * 20;
                bytes += event.tags.size() + event.tags.as_slice().len() * 10;
            }
        }
        bytes
    }
}

/// Writes the log. All of its state is behind the store's commit lock.
pub(crate) struct Committer {
    shared: Arc<Shared>,
    active: Active,
    tail: Arc<Tail>,
    next: Expect,
    last_recorded: Timestamp,
    epoch: Epoch,
    known_synced: u64,
    frame: Vec<u8>,
    group: Group,
    closed: bool,
}

/// Notes on the frame being built.
#[derive(Default)]
struct Group {
    streams: HashMap<StreamId, Pending>,
    /// Streams of the records, in order of first appearance.
    order: Vec<(StreamId, u64)>,
    records: Vec<NewRecord>,
    recorded: Timestamp,
}

/// What this group adds to one stream.
struct Pending {
    published: u64,
    slot: Option<u32>,
    fingerprints: Vec<u32>,
    /// Where its records stand in the frame.
    places: Vec<(usize, usize)>,
}

impl Pending {
    fn head(&self) -> u64 {
        self.published + self.places.len() as u64
    }
}

struct NewRecord {
    slot: u32,
    sequence: u64,
    at: usize,
    len: usize,
    fingerprint: u32,
}

impl Committer {
    pub(crate) fn new(
        shared: Arc<Shared>,
        active: Active,
        tail: Arc<Tail>,
        next: Expect,
        last_recorded: Timestamp,
        epoch: Epoch,
    ) -> Self {
        let known_synced = next.commit - 1;
        let frame = vec![0; frame::HEADER];
        let group = Group::default();
        Self {
            shared,
            active,
            tail,
            next,
            last_recorded,
            epoch,
            known_synced,
            frame,
            group,
            closed: false,
        }
    }

    pub(crate) fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// Number, last position and chain hash of the newest commit.
    pub(crate) fn mark(&self) -> CleanMark {
        CleanMark {
            commit: self.next.commit - 1,
            position: self.next.position - 1,
            hash: self.next.previous,
        }
    }

    /// The newest segment and where its last frame ends.
    pub(crate) fn end(&self) -> (u64, u64) {
        (self.active.number, self.active.offset)
    }

    /// Commits `first` and everything that waits, group by group until nothing waits.
    pub(crate) fn run(&mut self, first: Option<Request>) {
        let mut carried = first;
        loop {
            let mut waiting = Vec::new();
            let mut bytes = 0;
            while let Some(request) = carried.take().or_else(|| self.shared.queue.take()) {
                if bytes > 0 && bytes + request.bytes > GROUP_BYTES {
                    carried = Some(request);
                    break;
                }
                bytes += request.bytes;
                waiting.push(request);
            }
            if waiting.is_empty() {
                return;
            }
            self.commit_group(waiting);
            if carried.is_none() {
                return;
            }
        }
    }

    fn commit_group(&mut self, waiting: Vec<Request>) {
        if self.closed {
            for request in waiting {
                answer(request, Err(Error::Closed));
            }
            return;
        }
        if let Some(cause) = self.shared.refusal() {
            for request in waiting {
                answer(request, Err(cause.clone()));
            }
            return;
        }
        self.group.recorded = self.shared.clock.now().max(self.last_recorded);
        let mut durability = Durability::Process;
        let answers: Vec<_> = waiting
            .into_iter()
            .map(|request| {
                let answer = self.admit(&request);
                if answer.is_ok() {
                    durability = durability.max(request.durability);
                }
                (request, answer)
            })
            .collect();
        let done = self.write(durability);
        self.reset_group();
        for (request, result) in answers {
            // Even a refusal may rest on what this group was to write.
            let result = match &done {
                Ok(()) => result,
                Err(error) => Err(error.clone()),
            };
            answer(request, result);
        }
    }

    /// Checks one request against the log and the group; encodes it when it is new.
    fn admit(&mut self, request: &Request) -> Result<Vec<AppendReceipt>, Error> {
        let mut standings = Vec::with_capacity(request.parts.len());
        let mut fingerprints = Vec::new();
        for (part, hash) in request.parts.iter().zip(&request.hashes) {
            self.load(&part.stream, *hash)?;
            let from = fingerprints.len();
            let of = |id: &EventId| self.shared.hash.fingerprint(id);
            fingerprints.extend(part.events.iter().map(|event| of(&event.event_id)));
            let prints = fingerprints.get(from..).unwrap_or_default();
            standings.push(self.standing(part, *hash, prints)?);
        }
        let known = standings
            .iter()
            .position(|standing| !matches!(standing, Standing::New));
        match known {
            None => {
                for part in &request.parts {
                    let actual = self.head_of(&part.stream);
                    if !part.expected.holds(actual) {
                        let (stream, expected) = (part.stream.clone(), part.expected);
                        return Err(Error::WrongVersion {
                            stream,
                            expected,
                            actual,
                        });
                    }
                }
                Ok(self.encode(request, &fingerprints))
            }
            Some(known) => self.answer_retry(request, standings, known),
        }
    }

    fn answer_retry(
        &self,
        request: &Request,
        standings: Vec<Standing>,
        known: usize,
    ) -> Result<Vec<AppendReceipt>, Error> {
        let mut receipts = Vec::with_capacity(standings.len());
        let conflict = |at: usize, event_id, reason| {
            let stream = request
                .parts
                .get(at)
                .map_or_else(|| self.shared.control.clone(), |part| part.stream.clone());
            Err(Error::IdConflict {
                stream,
                event_id,
                reason,
            })
        };
        let partly = standings
            .iter()
            .any(|standing| matches!(standing, Standing::New));
        for (at, (standing, part)) in standings.into_iter().zip(&request.parts).enumerate() {
            match standing {
                Standing::Conflict(event_id, reason) => return conflict(at, event_id, reason),
                Standing::Already { first, last } if !partly => receipts.push(AppendReceipt {
                    stream: part.stream.clone(),
                    first_sequence: first.sequence,
                    last_sequence: last.sequence,
                    first_position: Some(first.position),
                    last_position: Some(last.position),
                    recorded_time: first.recorded_time,
                    outcome: AppendOutcome::AlreadyAppended,
                }),
                Standing::Already { .. } | Standing::New => {}
            }
        }
        if partly {
            let id = request
                .parts
                .get(known)
                .and_then(|part| part.events.first());
            let id = id.map_or(EventId::from_bytes([0; 16]), |event| event.event_id);
            return conflict(
                known,
                id,
                "some streams of the batch have their events already, others have not",
            );
        }
        Ok(receipts)
    }

    /// Makes the stream's head known to the heads cache and to the group.
    fn load(&mut self, stream: &StreamId, hash: u64) -> Result<(), Error> {
        if self.group.streams.contains_key(stream) {
            return Ok(());
        }
        let published = match self.shared.heads.with(stream, |head| head.sequence) {
            Some(sequence) => sequence,
            None => {
                let window = self.shared.limits.retry_window();
                let (sequence, prints) = self.shared.streams.recent(hash, stream, window)?;
                if sequence > 0 {
                    self.shared
                        .heads
                        .insert(stream.clone(), Head::new(sequence, prints));
                }
                sequence
            }
        };
        let pending = Pending {
            published,
            slot: None,
            fingerprints: Vec::new(),
            places: Vec::new(),
        };
        self.group.streams.insert(stream.clone(), pending);
        Ok(())
    }

    fn head_of(&self, stream: &StreamId) -> u64 {
        self.group.streams.get(stream).map_or(0, Pending::head)
    }

    fn standing(&self, part: &AppendBatch, hash: u64, prints: &[u32]) -> Result<Standing, Error> {
        let Some(pending) = self.group.streams.get(&part.stream) else {
            return Ok(Standing::New);
        };
        let mut found: Vec<Option<Found>> = Vec::new();
        // An id may stand twice, once out of the window: the place that is implied counts first.
        let implied = part.expected.implied_head();
        let mut note = |at: usize, candidate: Found| {
            found.resize(part.events.len(), None);
            let is_implied = |found: &Found| {
                implied.is_some_and(|head| head.saturating_add(1 + at as u64) == found.sequence)
            };
            if let Some(slot) = found.get_mut(at)
                && !slot.as_ref().is_some_and(is_implied)
            {
                *slot = Some(candidate);
            }
        };
        let mut suspects: Vec<(usize, u64)> = Vec::new();
        let mut window = 0;
        if pending.published > 0 {
            let looked = self.shared.heads.with(&part.stream, |head| {
                for (at, print) in prints.iter().enumerate() {
                    suspects.extend(head.candidates(*print).map(|sequence| (at, sequence)));
                }
                head.window()
            });
            window = match looked {
                Some(window) => window,
                // Evicted since it was loaded: look again without the cache.
                None => {
                    let limit = self.shared.limits.retry_window();
                    let (sequence, known) =
                        self.shared.streams.recent(hash, &part.stream, limit)?;
                    let head = Head::new(sequence, known);
                    for (at, print) in prints.iter().enumerate() {
                        suspects.extend(head.candidates(*print).map(|sequence| (at, sequence)));
                    }
                    head.window()
                }
            };
        }
        // Below the window, only the sequences that the expectation implies are looked at.
        if let Some(implied) = implied {
            let oldest_known = pending.published + 1 - window;
            let sequences = (implied.saturating_add(1)..oldest_known).take(part.events.len());
            suspects.extend((0..).zip(sequences));
        }
        suspects.sort_unstable();
        suspects.dedup();
        for (at, sequence) in suspects {
            let Some(event) = part.events.get(at) else {
                continue;
            };
            if let Some(known) = self.shared.read_event(&part.stream, hash, sequence)?
                && known.event_id == event.event_id
            {
                note(at, Found::new(&known, event));
            }
        }
        if !pending.places.is_empty() {
            for (at, (event, print)) in part.events.iter().zip(prints).enumerate() {
                let suspects = pending.fingerprints.iter().zip(&pending.places);
                for (_, (start, len)) in suspects.filter(|(known, _)| *known == print) {
                    let bytes = bytes::Bytes::copy_from_slice(
                        self.frame.get(*start..start + len).unwrap_or_default(),
                    );
                    let known = record::parse(&bytes).ok().and_then(|parsed| {
                        parsed.to_envelope(&bytes, part.stream.clone(), parsed.event_type.into())
                    });
                    if let Some(known) = known
                        && known.event_id == event.event_id
                    {
                        note(at, Found::new(&known, event));
                    }
                }
            }
        }
        Ok(judge(&part.events, &found))
    }

    /// Adds the request's records to the frame.
    fn encode(&mut self, request: &Request, fingerprints: &[u32]) -> Vec<AppendReceipt> {
        let first = self.next.position + self.group.records.len() as u64;
        let count: usize = request.parts.iter().map(|part| part.events.len()).sum();
        // `check_append` keeps a batch at 1,000,000 events or fewer.
        let batch = Batch {
            first,
            count: u32::try_from(count).unwrap_or(u32::MAX),
        };
        let recorded_time = self.group.recorded;
        let mut position = first;
        let mut prints = fingerprints.iter();
        let mut receipts = Vec::with_capacity(request.parts.len());
        for (part, hash) in request.parts.iter().zip(&request.hashes) {
            let Some(pending) = self.group.streams.get_mut(&part.stream) else {
                continue;
            };
            let slot = *pending.slot.get_or_insert_with(|| {
                self.group.order.push((part.stream.clone(), *hash));
                // A frame holds fewer records than a u32 counts.
                u32::try_from(self.group.order.len() - 1).unwrap_or(u32::MAX)
            });
            let (first_sequence, first_position) = (pending.head() + 1, position);
            for (event, fingerprint) in part.events.iter().zip(prints.by_ref()) {
                let sequence = pending.head() + 1;
                let at = self.frame.len();
                let len = Record {
                    kind: RecordKind::Event,
                    event_id: event.event_id,
                    recorded_time,
                    event_time: event.event_time.unwrap_or(recorded_time),
                    position,
                    sequence,
                    revision: event.revision,
                    batch,
                    stream: &part.stream,
                    event_type: &event.event_type,
                    content_type: &event.content_type,
                    metadata: &event.metadata,
                    tags: &event.tags,
                    payload: &event.payload,
                }
                .encode(&mut self.frame);
                pending.fingerprints.push(*fingerprint);
                pending.places.push((at, len));
                let fingerprint = *fingerprint;
                self.group.records.push(NewRecord {
                    slot,
                    sequence,
                    at,
                    len,
                    fingerprint,
                });
                position += 1;
            }
            receipts.push(AppendReceipt {
                stream: part.stream.clone(),
                first_sequence,
                last_sequence: pending.head(),
                first_position: Some(first_position),
                last_position: Some(position - 1),
                recorded_time,
                outcome: AppendOutcome::Appended,
            });
        }
        receipts
    }

    /// Begins a new epoch by a record of its own; durable when this returns.
    pub(crate) fn begin_epoch(&mut self, id: uuid::Uuid) -> Result<(), Error> {
        let mark = self.mark();
        let epoch = Epoch {
            id,
            parent: self.epoch.id,
            parent_position: mark.position,
            parent_hash: mark.hash,
        };
        let payload = control::encode_epoch(&epoch)?;
        let position = self.next.position;
        let recorded_time = self.shared.clock.now().max(self.last_recorded);
        self.group.recorded = recorded_time;
        let at = self.frame.len();
        let len = Record {
            kind: RecordKind::Control,
            event_id: EventId::from_uuid(id),
            recorded_time,
            event_time: recorded_time,
            position,
            sequence: 0,
            revision: 1,
            batch: Batch {
                first: position,
                count: 1,
            },
            stream: &self.shared.control,
            event_type: control::EPOCH,
            content_type: &tidelog_core::ContentType::Postcard,
            metadata: &tidelog_core::Metadata::new(),
            tags: &tidelog_core::Tags::none(),
            payload: &payload,
        }
        .encode(&mut self.frame);
        self.group.records.push(NewRecord {
            slot: u32::MAX,
            sequence: 0,
            at,
            len,
            fingerprint: 0,
        });
        let done = self.write(Durability::Power);
        self.reset_group();
        if done.is_ok() {
            self.epoch = epoch;
        }
        done
    }

    /// Writes the frame, syncs as asked, and publishes it.
    fn write(&mut self, durability: Durability) -> Result<(), Error> {
        let result = if self.group.records.is_empty() {
            // An answer for good may rest on commits that were not synced yet.
            if durability == Durability::Power {
                self.sync()
            } else {
                Ok(())
            }
        } else {
            self.write_frame(durability)
        };
        if let Err(error) = &result {
            self.shared.refuse(error);
        }
        result
    }

    fn write_frame(&mut self, durability: Durability) -> Result<(), Error> {
        let body_len = self.frame.len() - frame::HEADER;
        let frame_len = frame::frame_len(body_len as u64);
        let began = if self.active.offset + frame_len > self.active.capacity {
            Some(self.begin_segment(frame_len)?)
        } else {
            None
        };
        let body = self.frame.get(frame::HEADER..).unwrap_or_default();
        let previous = frame::chain(&self.next.previous, body);
        let header = FrameHeader {
            // A group has at most 32 MiB, a batch at most 256 MiB and a little.
            body_len: u32::try_from(body_len).unwrap_or(u32::MAX),
            salt: self.next.salt,
            commit: self.next.commit,
            known_synced: self.known_synced,
            previous: self.next.previous,
            first_position: self.next.position,
            records: u32::try_from(self.group.records.len()).unwrap_or(u32::MAX),
            trailer_len: 0,
            body_crc: crc32c::crc32c(body),
        };
        if let Some(place) = self.frame.first_chunk_mut::<{ frame::HEADER }>() {
            *place = header.encode();
        }
        self.frame
            .resize(usize::try_from(frame_len).unwrap_or(self.frame.len()), 0);
        let at = self.active.offset;
        fail::fail_point!("log_write", |_| Err(self.failed("write", injected())));
        platform::write_all_at(&self.active.file, &self.frame, at)
            .map_err(|error| self.failed("write", error))?;
        self.active.offset += frame_len;
        self.next = Expect {
            salt: header.salt,
            commit: header.commit + 1,
            position: header.first_position + u64::from(header.records),
            previous,
        };
        self.last_recorded = self.group.recorded;
        if durability == Durability::Power || began.is_some() {
            self.sync()?;
        }
        self.publish(at, &header)?;
        if let Some(sealed) = began {
            self.shared.indexer.seal(sealed);
        }
        Ok(())
    }

    fn sync(&mut self) -> Result<(), Error> {
        let newest = self.next.commit - 1;
        if self.known_synced == newest {
            return Ok(());
        }
        fail::fail_point!("log_sync", |_| Err(self.failed("sync", injected())));
        self.active
            .file
            .sync_data()
            .map_err(|error| self.failed("sync", error))?;
        self.known_synced = newest;
        Ok(())
    }

    /// Makes the group visible to readers.
    fn publish(&mut self, at: u64, header: &FrameHeader) -> Result<(), Error> {
        let shared = &self.shared;
        {
            let mut index = self.tail.index.write();
            for record in &self.group.records {
                let Some((stream, hash)) = self.group.order.get(record.slot as usize) else {
                    continue;
                };
                let offset = at + record.at as u64;
                // A segment is at most 1 GiB, or one batch.
                let offset = u32::try_from(offset).unwrap_or(u32::MAX);
                let len = u32::try_from(record.len).unwrap_or(u32::MAX);
                index
                    .push(
                        *hash,
                        stream,
                        record.sequence,
                        offset,
                        len,
                        record.fingerprint,
                    )
                    .map_err(super::index_failed)?;
            }
        }
        let streams = self.group.order.iter().filter_map(|(stream, _)| {
            let pending = self.group.streams.get(stream)?;
            Some((stream, pending.published, &pending.fingerprints[..]))
        });
        shared.heads.publish(streams);
        shared.log.passed(Hop {
            position: header.first_position,
            offset: at,
        });
        let last = self.next.position - 1;
        shared.live.publish(last, || {
            self.frame
                .get(frame::HEADER..frame::HEADER + header.body_len as usize)
        });
        if self.known_synced == header.commit {
            shared.durable_position.store(last, Ordering::Release);
        }
        Ok(())
    }

    fn reset_group(&mut self) {
        if self.frame.capacity() > KEEP_BUFFER {
            self.frame = Vec::new();
        }
        self.frame.clear();
        self.frame.resize(frame::HEADER, 0);
        self.group.streams.clear();
        self.group.order.clear();
        self.group.records.clear();
    }

    /// Goes on in the next segment; answers the tail that is sealed once the new segment's first
    /// frame is synced.
    fn begin_segment(&mut self, frame_len: u64) -> Result<Arc<Tail>, Error> {
        // A header vouches for everything before it.
        self.sync()?;
        self.shared.indexer.wait_for_room()?;
        let needed = segment::DATA + frame_len;
        let Prepared {
            number,
            file,
            mut capacity,
        } = self
            .shared
            .preparer
            .take(self.active.number + 1, self.active.capacity)?;
        if needed > capacity {
            let failed = |error| Error::io("fill", self.shared.log.path(number), error);
            platform::zero_fill(&file, capacity, needed).map_err(failed)?;
            file.sync_all().map_err(failed)?;
            capacity = needed;
        }
        let header = SegmentHeader {
            origin: self.shared.format.origin,
            salt: self.next.salt,
            number,
            first_commit: self.next.commit,
            first_position: self.next.position,
            previous: self.next.previous,
            epoch: self.epoch,
            capacity,
        };
        platform::write_all_at(&file, &header.encode(), 0)
            .map_err(|error| Error::io("write", self.shared.log.path(number), error))?;
        let sealed = Arc::clone(&self.tail);
        *sealed.end.lock() = Some(SegmentEnd {
            offset: self.active.offset,
            hash: self.next.previous,
        });
        self.tail = Tail::new(SegmentIndex::new(number), None);
        self.shared.streams.begin(&self.tail);
        self.shared.log.begin(SegmentInfo {
            number,
            first_commit: self.next.commit,
            first_position: self.next.position,
        });
        self.active = Active {
            number,
            file,
            offset: segment::DATA,
            capacity,
        };
        Ok(sealed)
    }

    /// Asks for the next segment ahead of time, once this one is half full.
    pub(crate) fn prepare_ahead(&self) {
        if self.active.offset > self.active.capacity / 2 {
            self.shared
                .preparer
                .ask(self.active.number + 1, self.active.capacity);
        }
    }

    /// Syncs what is not yet, and takes nothing more. Answers the mark of a clean close unless a
    /// write failed.
    pub(crate) fn close(&mut self) -> Result<Option<CleanMark>, Error> {
        self.closed = true;
        if self.shared.refusal().is_some() {
            return Ok(None);
        }
        self.sync()?;
        Ok(Some(self.mark()))
    }

    /// Takes nothing more and leaves everything as it is, as a crash would.
    pub(crate) fn abandon(&mut self) {
        self.closed = true;
    }

    /// Makes everything written so far survive a power cut.
    pub(crate) fn sync_now(&mut self) -> Result<(), Error> {
        if let Some(cause) = self.shared.refusal() {
            return Err(cause);
        }
        let synced = self.sync();
        if let Err(error) = &synced {
            self.shared.refuse(error);
        }
        synced
    }

    fn failed(&self, action: &'static str, error: std::io::Error) -> Error {
        Error::io(action, self.shared.log.path(self.active.number), error)
    }
}

#[cfg(feature = "failpoints")]
fn injected() -> std::io::Error {
    std::io::Error::other("injected by a test")
}

fn answer(request: Request, result: Result<Vec<AppendReceipt>, Error>) {
    drop(request.permit);
    // Nobody may be waiting any more; the events stand all the same.
    let _ = request.reply.send(result);
}
