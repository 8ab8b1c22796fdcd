//! The frame being built: which appends it takes, and what it adds to each stream.

use std::collections::HashSet;

use bytes::Bytes;
use hashbrown::HashMap;
use tidelog_core::{
    AppendBatch, AppendOutcome, AppendReceipt, Batch, ContentType, Direction, Error, EventId,
    Metadata, RecordKind, StreamId, Tags, Timestamp,
};

use super::frame;
use super::heads::Head;
use super::record::{self, Record};
use super::request::Request;
use super::retry::{Found, Standing, answer_known, judge};
use super::shared::Shared;

/// From here on, looking things up in a table is cheaper than comparing.
const MANY: usize = 64;
/// The frame buffer is given back when it grew above this.
const KEEP_BUFFER: usize = 4 << 20;

/// Notes on the frame being built.
pub(crate) struct Group {
    /// Room for the frame's header, then the records.
    pub frame: Vec<u8>,
    pub records: Vec<NewRecord>,
    /// Streams of the records with their hashes, in order of first appearance.
    pub order: Vec<(StreamId, u64)>,
    pub recorded: Timestamp,
    /// Position of the first record.
    first_position: u64,
    streams: HashMap<StreamId, Pending>,
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

    /// Whether one of `prints` is among its own. Many on both sides are not compared each with each.
    fn knows_any(&self, prints: &[u32]) -> bool {
        if self.fingerprints.len() < MANY || prints.len() < MANY {
            return prints.iter().any(|print| self.fingerprints.contains(print));
        }
        let known: HashSet<u32> = self.fingerprints.iter().copied().collect();
        prints.iter().any(|print| known.contains(print))
    }
}

/// One record of the frame.
pub(crate) struct NewRecord {
    /// Its place in `order`; `u32::MAX` for a control record.
    pub slot: u32,
    pub sequence: u64,
    pub at: usize,
    pub len: usize,
    pub fingerprint: u32,
}

impl Group {
    pub(crate) fn new() -> Self {
        Self {
            frame: vec![0; frame::HEADER],
            records: Vec::new(),
            order: Vec::new(),
            recorded: Timestamp::default(),
            first_position: 0,
            streams: HashMap::new(),
        }
    }

    /// Begins anew: what is taken from now on is recorded at `recorded`, from `first_position` on.
    pub(crate) fn begin(&mut self, first_position: u64, recorded: Timestamp) {
        if self.frame.capacity() > KEEP_BUFFER {
            self.frame = Vec::new();
        }
        self.frame.clear();
        self.frame.resize(frame::HEADER, 0);
        self.records.clear();
        self.order.clear();
        self.streams.clear();
        self.first_position = first_position;
        self.recorded = recorded;
    }

    /// The records' bytes.
    pub(crate) fn body(&self) -> &[u8] {
        self.frame.get(frame::HEADER..).unwrap_or_default()
    }

    /// What the group adds: each stream, its head before, the fingerprints of its new events.
    pub(crate) fn additions(&self) -> impl Iterator<Item = (&StreamId, u64, &[u32])> {
        self.order.iter().filter_map(|(stream, _)| {
            let pending = self.streams.get(stream)?;
            Some((stream, pending.published, &pending.fingerprints[..]))
        })
    }

    /// Checks one request against the log and the group; encodes it when it is new.
    pub(crate) fn admit(
        &mut self,
        shared: &Shared,
        request: &Request,
    ) -> Result<Vec<AppendReceipt>, Error> {
        let mut standings = Vec::with_capacity(request.parts.len());
        let mut fingerprints = Vec::new();
        for (part, hash) in request.parts.iter().zip(&request.hashes) {
            self.load(shared, &part.stream, *hash)?;
            let from = fingerprints.len();
            let of = |id: &EventId| shared.hash.fingerprint(id);
            fingerprints.extend(part.events.iter().map(|event| of(&event.event_id)));
            let prints = fingerprints.get(from..).unwrap_or_default();
            standings.push(self.standing(shared, part, *hash, prints)?);
        }
        if standings.iter().any(|standing| *standing != Standing::New) {
            return answer_known(&request.parts, &standings);
        }
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

    /// Makes the stream's head known to the heads cache and to the group.
    fn load(&mut self, shared: &Shared, stream: &StreamId, hash: u64) -> Result<(), Error> {
        if self.streams.contains_key(stream) {
            return Ok(());
        }
        let published = match shared.heads.with(stream, |head| head.sequence) {
            Some(sequence) => sequence,
            None => {
                let window = shared.limits.retry_window();
                let (sequence, prints) = shared.streams.recent(hash, stream, window)?;
                if sequence > 0 {
                    shared
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
        self.streams.insert(stream.clone(), pending);
        Ok(())
    }

    fn head_of(&self, stream: &StreamId) -> u64 {
        self.streams.get(stream).map_or(0, Pending::head)
    }

    fn standing(
        &self,
        shared: &Shared,
        part: &AppendBatch,
        hash: u64,
        prints: &[u32],
    ) -> Result<Standing, Error> {
        let Some(pending) = self.streams.get(&part.stream) else {
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
            let looked = shared.heads.with(&part.stream, |head| {
                for (at, print) in prints.iter().enumerate() {
                    suspects.extend(head.candidates(*print).map(|sequence| (at, sequence)));
                }
                head.window()
            });
            window = match looked {
                Some(window) => window,
                // Evicted since it was loaded: look again without the cache.
                None => {
                    let limit = shared.limits.retry_window();
                    let (sequence, known) = shared.streams.recent(hash, &part.stream, limit)?;
                    let head = Head::new(sequence, known);
                    for (at, print) in prints.iter().enumerate() {
                        suspects.extend(head.candidates(*print).map(|sequence| (at, sequence)));
                    }
                    head.window()
                }
            };
        }
        // Below the window, only the sequences that the expectation implies are looked at.
        let oldest_known = pending.published + 1 - window;
        if let Some(first) = implied.map(|head| head.saturating_add(1))
            && first < oldest_known
        {
            let last = (first + part.events.len() as u64 - 1).min(oldest_known - 1);
            let range = (first, last);
            let limit = part.events.len();
            let places =
                shared
                    .streams
                    .postings(hash, &part.stream, range, Direction::Forward, limit)?;
            let equal = places.iter().zip(prints).enumerate();
            let equal = equal.filter(|(_, ((_, place), print))| place.fingerprint == **print);
            suspects.extend(equal.map(|(at, ((sequence, _), _))| (at, *sequence)));
        }
        suspects.sort_unstable();
        suspects.dedup();
        for (at, sequence) in suspects {
            let Some(event) = part.events.get(at) else {
                continue;
            };
            if let Some(known) = shared.read_event(&part.stream, hash, sequence)?
                && known.event_id == event.event_id
            {
                note(at, Found::new(&known, event));
            }
        }
        if pending.knows_any(prints) {
            for (at, (event, print)) in part.events.iter().zip(prints).enumerate() {
                let suspects = pending.fingerprints.iter().zip(&pending.places);
                for (_, (start, len)) in suspects.filter(|(known, _)| *known == print) {
                    let bytes = Bytes::copy_from_slice(
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
        let first = self.first_position + self.records.len() as u64;
        let count: usize = request.parts.iter().map(|part| part.events.len()).sum();
        // `check_append` keeps a batch at 1,000,000 events or fewer.
        let batch = Batch {
            first,
            count: u32::try_from(count).unwrap_or(u32::MAX),
        };
        let recorded_time = self.recorded;
        let mut position = first;
        let mut prints = fingerprints.iter();
        let mut receipts = Vec::with_capacity(request.parts.len());
        for (part, hash) in request.parts.iter().zip(&request.hashes) {
            let Some(pending) = self.streams.get_mut(&part.stream) else {
                continue;
            };
            let slot = *pending.slot.get_or_insert_with(|| {
                self.order.push((part.stream.clone(), *hash));
                // A frame holds fewer records than a u32 counts.
                u32::try_from(self.order.len() - 1).unwrap_or(u32::MAX)
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
                self.records.push(NewRecord {
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

    /// Adds a record of the library itself.
    pub(crate) fn encode_control(
        &mut self,
        stream: &StreamId,
        id: EventId,
        event_type: &str,
        payload: &[u8],
    ) {
        let position = self.first_position + self.records.len() as u64;
        let at = self.frame.len();
        let len = Record {
            kind: RecordKind::Control,
            event_id: id,
            recorded_time: self.recorded,
            event_time: self.recorded,
            position,
            sequence: 0,
            revision: 1,
            batch: Batch {
                first: position,
                count: 1,
            },
            stream,
            event_type,
            content_type: &ContentType::Postcard,
            metadata: &Metadata::new(),
            tags: &Tags::none(),
            payload,
        }
        .encode(&mut self.frame);
        self.records.push(NewRecord {
            slot: u32::MAX,
            sequence: 0,
            at,
            len,
            fingerprint: 0,
        });
    }
}
