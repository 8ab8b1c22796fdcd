//! The frame being built: which appends it takes, and what it adds to each stream.

use std::collections::HashSet;

use bytes::Bytes;
use hashbrown::HashTable;
use tidelog_core::{
    AppendBatch, AppendOutcome, AppendReceipt, Batch, ContentType, Direction, Error, EventId,
    Metadata, RecordKind, StreamId, Tags, Timestamp,
};

use super::frame;
use super::frame_reader::for_each_record;
use super::hash::{StreamKey, in_time_order};
use super::heads::Heads;
use super::recent_ids::{KnownIds, RecentIds};
use super::record::{self, Names, Record};
use super::request::Request;
use super::retry::{Found, Standing, answer_known, judge};
use super::shared::Shared;

/// From here on, looking things up in a table is cheaper than comparing.
const MANY: usize = 64;
/// The frame buffer is given back when it grew above this.
const KEEP_BUFFER: usize = 4 << 20;
/// No earlier record of the stream; no stream.
const NONE: u32 = u32::MAX;

/// Notes on the frame being built.
pub(crate) struct Group {
    /// Room for the frame's header, then the records.
    pub frame: Vec<u8>,
    pub records: Vec<NewRecord>,
    pub recorded: Timestamp,
    /// The highest id of version 7 in it, 0 without one.
    pub newest_id: u128,
    /// The highest one of all that is published, where it is known.
    newest_published: Option<u128>,
    /// Position of the first record.
    first_position: u64,
    /// The streams that requests asked for; records name them by their place.
    streams: Vec<Pending>,
    /// Places in `streams`.
    by_name: HashTable<u32>,
    /// Of the request at hand: the stream of each part, the fingerprint of each event.
    slots: Vec<u32>,
    fingerprints: Vec<u32>,
    /// Of the part at hand: places of events, and sequences whose events may be the same.
    suspects: Vec<(usize, u64)>,
}

/// What this group adds to one stream.
struct Pending {
    stream: StreamId,
    key: StreamKey,
    /// It has been given ids that had to be looked for, and may be so again.
    by_ids: bool,
    published: u64,
    /// The highest sequence that was ever given; above `published` only after a repair.
    floor: u64,
    added: u32,
    /// Its newest record in the frame.
    newest: u32,
}

impl Pending {
    fn head(&self) -> u64 {
        match self.added {
            0 => self.published,
            added => self.floor + u64::from(added),
        }
    }

    /// Sequence of the next event.
    fn next(&self) -> u64 {
        self.floor + u64::from(self.added) + 1
    }
}

/// One record of the frame.
pub(crate) struct NewRecord {
    /// Place of its stream; `NONE` for a control record.
    slot: u32,
    /// The record of the same stream before it in the frame.
    previous: u32,
    pub sequence: u64,
    pub at: usize,
    pub len: usize,
    pub fingerprint: u32,
}

impl NewRecord {
    fn control(at: usize, len: usize) -> Self {
        Self {
            slot: NONE,
            previous: NONE,
            sequence: 0,
            at,
            len,
            fingerprint: 0,
        }
    }
}

impl Group {
    pub(crate) fn new() -> Self {
        Self {
            frame: vec![0; frame::HEADER],
            records: Vec::new(),
            recorded: Timestamp::default(),
            newest_id: 0,
            newest_published: None,
            first_position: 0,
            streams: Vec::new(),
            by_name: HashTable::new(),
            slots: Vec::new(),
            fingerprints: Vec::new(),
            suspects: Vec::new(),
        }
    }

    /// Begins anew: what is taken from now on is recorded at `recorded`, from `first_position` on, and
    /// no id of version 7 that is published is above `newest_published`.
    pub(crate) fn begin(
        &mut self,
        first_position: u64,
        recorded: Timestamp,
        newest_published: Option<u128>,
    ) {
        if self.frame.capacity() > KEEP_BUFFER {
            *self = Self::new();
        }
        self.frame.clear();
        self.frame.resize(frame::HEADER, 0);
        self.records.clear();
        self.streams.clear();
        self.by_name.clear();
        self.newest_id = 0;
        self.newest_published = newest_published;
        self.first_position = first_position;
        self.recorded = recorded;
    }

    /// The records' bytes.
    pub(crate) fn body(&self) -> &[u8] {
        self.frame.get(frame::HEADER..).unwrap_or_default()
    }

    /// The stream of a record, with its keyed hash; `None` for a control record.
    pub(crate) fn stream_of(&self, record: &NewRecord) -> Option<(&StreamId, u64)> {
        let pending = self.streams.get(record.slot as usize)?;
        Some((&pending.stream, pending.key.hash))
    }

    /// Tells the caches what the group adds to each stream.
    pub(crate) fn publish(&mut self, heads: &Heads, recent_ids: &RecentIds) {
        let added = || self.streams.iter().filter(|pending| pending.added > 0);
        let mut publishing = heads.publishing();
        for pending in added() {
            publishing.note(&pending.key, pending.published, pending.head());
        }
        drop(publishing);
        if !added().any(|pending| pending.by_ids) {
            return;
        }
        let mut publishing = recent_ids.publishing();
        let fingerprints = &mut self.fingerprints;
        for pending in added().filter(|pending| pending.by_ids) {
            fingerprints.clear();
            let records = chain(&self.records, pending.newest);
            fingerprints.extend(records.map(|record| record.fingerprint));
            fingerprints.reverse();
            let (before, first) = (pending.published, pending.floor + 1);
            publishing.note(&pending.key, before, first, fingerprints);
        }
    }

    /// Checks one request against the log and the group; encodes it when it is new.
    pub(crate) fn admit(
        &mut self,
        shared: &Shared,
        request: &Request,
    ) -> Result<Vec<AppendReceipt>, Error> {
        self.slots.clear();
        self.fingerprints.clear();
        // Empty as long as every part is new.
        let mut standings = Vec::new();
        for (at, (part, key)) in request.parts.iter().zip(&request.keys).enumerate() {
            let standing = self.look(shared, part, *key)?;
            if standing != Standing::New || !standings.is_empty() {
                standings.resize_with(at, || Standing::New);
                standings.push(standing);
            }
        }
        if !standings.is_empty() {
            return answer_known(&request.parts, &standings);
        }
        for (part, slot) in request.parts.iter().zip(&self.slots) {
            if let Some(refusal) = shared.log.losses.refusal(&part.stream) {
                return Err(refusal);
            }
            let actual = self.streams.get(*slot as usize).map_or(0, Pending::head);
            if !part.expected.holds(actual) {
                let (stream, expected) = (part.stream.clone(), part.expected);
                return Err(Error::WrongVersion {
                    stream,
                    expected,
                    actual,
                });
            }
        }
        Ok(self.encode(request))
    }

    /// Notes the part's stream and the fingerprints of its events; says whether it is a retry.
    fn look(
        &mut self,
        shared: &Shared,
        part: &AppendBatch,
        key: StreamKey,
    ) -> Result<Standing, Error> {
        let first_print = self.fingerprints.len();
        let of = |event: &tidelog_core::NewEvent| shared.hash.fingerprint(&event.event_id);
        self.fingerprints.extend(part.events.iter().map(of));
        // An id of another version, `None`, is below all.
        let ids = part
            .events
            .iter()
            .map(|event| in_time_order(&event.event_id));
        let oldest_id = ids.min().flatten();
        let published = self.newest_published;
        let is_newest = oldest_id > published && published.is_some();
        let known_slot = self.find(&part.stream, &key);
        let prints = self.fingerprints.get(first_print..).unwrap_or_default();
        self.suspects.clear();
        let seen = match known_slot.and_then(|slot| self.streams.get(slot as usize)) {
            Some(pending) if pending.published == 0 => Seen::default(),
            Some(pending) if is_newest => Seen::all(pending.published, pending.floor),
            None if is_newest => see_head(shared, part, &key)?,
            _ => see(shared, part, &key, oldest_id, prints, &mut self.suspects)?,
        };
        let slot = match known_slot {
            Some(slot) => slot,
            None => self.insert(Pending {
                stream: part.stream.clone(),
                key,
                by_ids: false,
                published: seen.head,
                floor: seen.floor,
                added: 0,
                newest: NONE,
            }),
        };
        self.slots.push(slot);
        let prints = self.fingerprints.get(first_print..).unwrap_or_default();
        if let Some(pending) = self.streams.get_mut(slot as usize) {
            pending.by_ids |= !is_newest;
        }
        let Some(pending) = self.streams.get(slot as usize) else {
            return Ok(Standing::New);
        };
        let suspects = &mut self.suspects;
        let implied = part.expected.implied_head();
        suspect_implied(shared, part, pending, &seen, prints, suspects)?;
        if suspects.is_empty() && pending.added == 0 {
            return Ok(Standing::New);
        }
        let mut found: Vec<Option<Found>> = Vec::new();
        // An id may stand twice, once out of the window: the place that is implied counts first.
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
        suspects.sort_unstable();
        suspects.dedup();
        for (at, sequence) in suspects.iter().copied() {
            let Some(event) = part.events.get(at) else {
                continue;
            };
            if let Some(known) = shared.read_event(&part.stream, key.hash, sequence)?
                && known.event_id == event.event_id
            {
                note(at, Found::new(&known, event));
            }
        }
        if self.knows_any(pending, prints) {
            for (at, (event, print)) in part.events.iter().zip(prints).enumerate() {
                let records = chain(&self.records, pending.newest);
                for record in records.filter(|record| record.fingerprint == *print) {
                    let bytes = self.frame.get(record.at..record.at + record.len);
                    let bytes = Bytes::copy_from_slice(bytes.unwrap_or_default());
                    let known = record::parse(&bytes)
                        .ok()
                        .and_then(|parsed| Names::new().envelope(parsed, &bytes));
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

    fn find(&self, stream: &StreamId, key: &StreamKey) -> Option<u32> {
        let is_it = |slot: &u32| {
            let pending = self.streams.get(*slot as usize);
            pending.is_some_and(|pending| pending.key == *key && pending.stream == *stream)
        };
        self.by_name.find(key.hash, is_it).copied()
    }

    fn insert(&mut self, pending: Pending) -> u32 {
        // A frame holds fewer streams than a u32 counts.
        let slot = u32::try_from(self.streams.len()).unwrap_or(NONE);
        let hash = pending.key.hash;
        self.streams.push(pending);
        let streams = &self.streams;
        let rehash = |slot: &u32| {
            streams
                .get(*slot as usize)
                .map_or(0, |known| known.key.hash)
        };
        self.by_name.insert_unique(hash, slot, rehash);
        slot
    }

    /// Whether one of `prints` is among the stream's records in the frame. Many on both sides are not
    /// compared each with each.
    fn knows_any(&self, pending: &Pending, prints: &[u32]) -> bool {
        let mut records = chain(&self.records, pending.newest);
        if (pending.added as usize) < MANY || prints.len() < MANY {
            return records.any(|record| prints.contains(&record.fingerprint));
        }
        let known: HashSet<u32> = records.map(|record| record.fingerprint).collect();
        prints.iter().any(|print| known.contains(print))
    }

    /// Adds the request's records to the frame.
    fn encode(&mut self, request: &Request) -> Vec<AppendReceipt> {
        let first = self.first_position + self.records.len() as u64;
        let count: usize = request.parts.iter().map(|part| part.events.len()).sum();
        // `check_append` keeps a batch at 1,000,000 events or fewer.
        let batch = Batch {
            first,
            count: u32::try_from(count).unwrap_or(u32::MAX),
        };
        let recorded_time = self.recorded;
        let mut position = first;
        let mut prints = self.fingerprints.iter();
        let mut receipts = Vec::with_capacity(request.parts.len());
        for (part, slot) in request.parts.iter().zip(&self.slots) {
            let Some(pending) = self.streams.get_mut(*slot as usize) else {
                continue;
            };
            let (first_sequence, first_position) = (pending.next(), position);
            for (event, fingerprint) in part.events.iter().zip(prints.by_ref()) {
                let sequence = pending.next();
                if let Some(id) = in_time_order(&event.event_id) {
                    self.newest_id = self.newest_id.max(id);
                }
                let at = self.frame.len();
                let len = Record {
                    kind: match event.birth {
                        None => RecordKind::Event,
                        Some(_) => RecordKind::Adopted,
                    },
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
                    birth: event.birth.as_deref(),
                    payload: &event.payload,
                }
                .encode(&mut self.frame);
                self.records.push(NewRecord {
                    slot: *slot,
                    previous: pending.newest,
                    sequence,
                    at,
                    len,
                    fingerprint: *fingerprint,
                });
                // A frame holds fewer records than a u32 counts.
                pending.newest = u32::try_from(self.records.len() - 1).unwrap_or(NONE);
                pending.added += 1;
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

    /// Takes the records of another log's commit as they stand; says why when it cannot.
    pub(crate) fn copy(&mut self, shared: &Shared, body: &[u8]) -> Result<(), &'static str> {
        const UNORDERED: &str = "its sequences do not follow";
        self.frame.extend_from_slice(body);
        let mut wrong = None;
        let read = for_each_record(body, |at, len, parsed| {
            let at = frame::HEADER + at;
            let (sequence, id) = (parsed.sequence, parsed.event_id);
            let stream = match parsed.stream() {
                _ if parsed.kind == RecordKind::Control => None,
                None => {
                    wrong = Some("a record's stream can be none");
                    return Ok(());
                }
                stream => stream,
            };
            let Some(stream) = stream else {
                self.records.push(NewRecord::control(at, len));
                return Ok(());
            };
            let key = shared.hash.key(&stream);
            let slot = match self.find(&stream, &key) {
                Some(slot) => slot,
                None => self.insert(Pending {
                    stream,
                    key,
                    by_ids: false,
                    published: sequence.saturating_sub(1),
                    floor: 0,
                    added: 0,
                    newest: NONE,
                }),
            };
            if let Some(id) = in_time_order(&id) {
                self.newest_id = self.newest_id.max(id);
            }
            let newest = u32::try_from(self.records.len()).unwrap_or(NONE);
            if let Some(pending) = self.streams.get_mut(slot as usize) {
                pending.added += 1;
                match sequence.checked_sub(u64::from(pending.added)) {
                    // Where sequences jump, the newest one counts.
                    Some(floor) if floor >= pending.floor => pending.floor = floor,
                    _ => wrong = Some(UNORDERED),
                }
                self.records.push(NewRecord {
                    slot,
                    previous: pending.newest,
                    sequence,
                    at,
                    len,
                    fingerprint: shared.hash.fingerprint(&id),
                });
                pending.newest = newest;
            }
            Ok(())
        });
        match read {
            Ok(Ok(_)) => wrong.map_or(Ok(()), Err),
            Ok(Err(why)) => Err(why),
            Err(_) => Err(UNORDERED),
        }
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
            birth: None,
            payload,
        }
        .encode(&mut self.frame);
        self.records.push(NewRecord::control(at, len));
    }
}

/// What is published of a stream.
#[derive(Default)]
struct Seen {
    head: u64,
    floor: u64,
    /// The oldest event that is known by its fingerprint, as all newer ones are.
    oldest_known: u64,
}

impl Seen {
    /// All of the stream's events are known not to be meant.
    fn all(head: u64, floor: u64) -> Self {
        Self {
            head,
            floor,
            oldest_known: 0,
        }
    }
}

/// Looks at the head of a stream, none of whose events can have the ids of the part.
fn see_head(shared: &Shared, part: &AppendBatch, key: &StreamKey) -> Result<Seen, Error> {
    if let Some(head) = shared.heads.get(key) {
        return Ok(Seen::all(head, head));
    }
    let newest = shared.streams.head(key.hash, &part.stream)?;
    let head = newest.map_or(0, |(sequence, _)| sequence);
    let floor = remember_head(shared, part, key, head)?;
    Ok(Seen::all(head, floor))
}

/// Looks at the stream's head, and for events that may have one of these fingerprints.
fn see(
    shared: &Shared,
    part: &AppendBatch,
    key: &StreamKey,
    oldest_id: Option<u128>,
    prints: &[u32],
    suspects: &mut Vec<(usize, u64)>,
) -> Result<Seen, Error> {
    let mut look = |recent: &KnownIds| {
        for (at, print) in prints.iter().enumerate() {
            suspects.extend(recent.candidates(*print).map(|sequence| (at, sequence)));
        }
        recent.oldest()
    };
    if let Some(head) = shared.heads.get(key) {
        let seen = |oldest_known| Seen {
            head,
            floor: head,
            oldest_known,
        };
        let known = shared.recent_ids.with(key, head, |recent| {
            let all = recent.is_whole();
            all.then(|| look(recent))
        });
        match known {
            Some(Some(oldest)) => return Ok(seen(oldest)),
            Some(None) if shared.streams.is_newer_than_runs(oldest_id)? => {
                if let Some(oldest) = shared.recent_ids.with(key, head, &mut look) {
                    return Ok(seen(oldest));
                }
            }
            _ => {}
        }
    }
    let limit = shared.limits.retry_window();
    let stream = &part.stream;
    let recent = shared.streams.recent(key.hash, stream, limit, oldest_id)?;
    let head = recent.head;
    let recent = KnownIds::new(head, &recent.newest, recent.whole);
    let oldest_known = look(&recent);
    let floor = remember_head(shared, part, key, head)?;
    if head > 0 {
        shared.recent_ids.insert(*key, recent);
    }
    Ok(Seen {
        head,
        floor,
        oldest_known,
    })
}

/// Remembers a head that was read, unless it says less than the highest sequence that the stream may
/// have been given, which this answers.
fn remember_head(
    shared: &Shared,
    part: &AppendBatch,
    key: &StreamKey,
    head: u64,
) -> Result<u64, Error> {
    let losses = &shared.log.losses;
    let floor = if losses.is_none() {
        head
    } else {
        let newest = shared.streams.head(key.hash, &part.stream)?;
        let segment = newest.map_or(0, |(_, place)| place.segment);
        losses.floor(&part.stream, head, segment)
    };
    if head == floor {
        shared.heads.insert(key, head);
    }
    Ok(floor)
}

/// Below the window, only the sequences that the expectation implies are looked at.
fn suspect_implied(
    shared: &Shared,
    part: &AppendBatch,
    pending: &Pending,
    seen: &Seen,
    prints: &[u32],
    suspects: &mut Vec<(usize, u64)>,
) -> Result<(), Error> {
    let oldest_known = seen.oldest_known;
    let Some(first) = part
        .expected
        .implied_head()
        .map(|head| head.saturating_add(1))
    else {
        return Ok(());
    };
    if first >= oldest_known {
        return Ok(());
    }
    let limit = part.events.len();
    // Not by adding up: after a repair, what follows the implied head may have left places out.
    let range = (first, oldest_known - 1);
    let forward = Direction::Forward;
    let streams = &shared.streams;
    let places = streams.postings(pending.key.hash, &part.stream, range, forward, limit)?;
    // At whichever of them: a batch that was cut or turned around is no new one.
    let mut known: Vec<(u32, usize)> = prints.iter().copied().zip(0..).collect();
    known.sort_unstable();
    for (sequence, place) in places {
        let from = known.partition_point(|(print, _)| *print < place.fingerprint);
        let equal = known.iter().skip(from);
        let equal = equal.take_while(|(print, _)| *print == place.fingerprint);
        suspects.extend(equal.map(|(_, at)| (*at, sequence)));
    }
    Ok(())
}

/// Records of one stream, from one of them on, newest first.
fn chain(records: &[NewRecord], newest: u32) -> impl Iterator<Item = &NewRecord> {
    let at = |place: u32| records.get(place as usize);
    std::iter::successors(at(newest), move |record| at(record.previous))
}
