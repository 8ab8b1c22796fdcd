//! The frame being built: which appends it takes, and what it adds to each stream.

use std::collections::HashSet;

use bytes::Bytes;
use hashbrown::HashTable;
use tidelog_core::{
    AppendBatch, AppendOutcome, AppendReceipt, Batch, ContentType, Direction, Error, EventId,
    ExpectedVersion, Metadata, NewEvent, RecordKind, StreamId, Superseded, Supersession, Tags,
    Timestamp,
};

use super::branches::{Lineage, Piece};
use super::control;
use super::frame;
use super::frame_reader::for_each_record;
use super::hash::{StreamKey, in_time_order};
use super::heads::Heads;
use super::index::Posting;
use super::pages::read_places;
use super::recent_ids::{KnownIds, RecentIds};
use super::record::{self, Names, Record};
use super::request::Request;
use super::retry::{Found, Standing, answer_known, judge};
use super::shared::Shared;

/// From here on, looking things up in a table is cheaper than comparing.
const MANY: usize = 64;
/// The frame buffer is given back when it grew above this.
const KEEP_BUFFER: usize = 4 << 20;
/// Why an id is refused that stands among events that gave way to others.
const SUPERSEDED: &str = "it was superseded by another origin's event";
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
    /// The branches that the frame begins.
    begins: Vec<Superseded>,
}

/// What this group adds to one stream.
struct Pending {
    stream: StreamId,
    /// Its name in the index, where that is another one: rare, so it shall not make this larger.
    name: Option<Box<StreamId>>,
    /// Of its name in the index.
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
            begins: Vec::new(),
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
        self.begins.clear();
        self.newest_id = 0;
        self.newest_published = newest_published;
        self.first_position = first_position;
        self.recorded = recorded;
    }

    /// The records' bytes.
    pub(crate) fn body(&self) -> &[u8] {
        self.frame.get(frame::HEADER..).unwrap_or_default()
    }

    /// The name that a record's stream has in the index, with its keyed hash; `None` for a control
    /// record.
    pub(crate) fn stream_of(&self, record: &NewRecord) -> Option<(&StreamId, u64)> {
        let pending = self.streams.get(record.slot as usize)?;
        let name = pending.name.as_deref().unwrap_or(&pending.stream);
        Some((name, pending.key.hash))
    }

    /// The branches that the frame begins.
    pub(crate) fn begins(&self) -> &[Superseded] {
        &self.begins
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
            let pending = self.streams.get(*slot as usize);
            let actual = pending.map_or(0, Pending::head);
            if !part.expected.holds(actual) || !self.is_behind(shared, part, pending)? {
                let (stream, expected) = (part.stream.clone(), part.expected);
                return Err(Error::WrongVersion {
                    stream,
                    expected,
                    actual,
                });
            }
        }
        Ok(self.encode(&request.parts))
    }

    /// Whether the stream's newest event is the one that the part is to follow. Only where events have
    /// given way to others, an equal sequence may mean another event.
    fn is_behind(
        &self,
        shared: &Shared,
        part: &AppendBatch,
        pending: Option<&Pending>,
    ) -> Result<bool, Error> {
        let (Some(after), Some(pending)) = (part.after, pending) else {
            return Ok(true);
        };
        if pending.name.is_none() {
            return Ok(true);
        }
        if let Some(newest) = self.records.get(pending.newest as usize) {
            let bytes = self.frame.get(newest.at..newest.at + newest.len);
            let parsed = record::parse(bytes.unwrap_or_default());
            return Ok(parsed.is_ok_and(|parsed| parsed.event_id == after));
        }
        let (hash, head) = (pending.key.hash, pending.published);
        let newest = shared.read_event(&part.stream, hash, head, u64::MAX)?;
        Ok(newest.is_some_and(|newest| newest.event_id == after))
    }

    /// Notes the part's stream and the fingerprints of its events; says whether it is a retry.
    fn look(
        &mut self,
        shared: &Shared,
        part: &AppendBatch,
        key: StreamKey,
    ) -> Result<Standing, Error> {
        let lineage = shared.log.branches.of(&part.stream);
        let name = lineage.as_ref().and_then(|all| all.name_at(u64::MAX));
        // The request may be older than the branch.
        let key = name.as_ref().map_or(key, |name| shared.hash.key(name));
        let first_print = self.fingerprints.len();
        let of = |event: &NewEvent| shared.hash.fingerprint(&event.event_id);
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
            Some(pending) if pending.published == 0 && lineage.is_none() => Seen::default(),
            Some(pending) if is_newest => Seen::all(pending.published, pending.floor),
            None if is_newest => see_head(shared, part, &key)?,
            _ if lineage.is_some() => see_branched(shared, part, &key, prints, &mut self.suspects)?,
            _ => see(shared, part, &key, oldest_id, prints, &mut self.suspects)?,
        };
        let slot = match known_slot {
            Some(slot) => slot,
            None => self.insert(Pending {
                stream: part.stream.clone(),
                name: name.map(Box::new),
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
            // Ids of a stream with branches are looked for in the index alone.
            pending.by_ids |= !is_newest && lineage.is_none();
        }
        let Some(pending) = self.streams.get(slot as usize) else {
            return Ok(Standing::New);
        };
        let suspects = &mut self.suspects;
        let mut superseded = None;
        let implied = part.expected.implied_head();
        suspect_implied(shared, part, pending, &seen, prints, suspects)?;
        if let Some(lineage) = lineage.filter(|_| !is_newest) {
            let known = is_superseded(shared, part, &lineage, prints)?;
            if let Some(event_id) = known {
                superseded = Some(Standing::Conflict(event_id, SUPERSEDED));
            }
        }
        if suspects.is_empty() && pending.added == 0 {
            return Ok(superseded.unwrap_or(Standing::New));
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
            if let Some(known) = shared.read_event(&part.stream, key.hash, sequence, u64::MAX)?
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
        Ok(match judge(&part.events, &found) {
            Standing::New => superseded.unwrap_or(Standing::New),
            known => known,
        })
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

    /// Adds the records of the parts that were looked at to the frame.
    fn encode(&mut self, parts: &[AppendBatch]) -> Vec<AppendReceipt> {
        let first = self.first_position + self.records.len() as u64;
        let count: usize = parts.iter().map(|part| part.events.len()).sum();
        // `check_append` keeps a batch at 1,000,000 events or fewer.
        let batch = Batch {
            first,
            count: u32::try_from(count).unwrap_or(u32::MAX),
        };
        let recorded_time = self.recorded;
        let mut position = first;
        let mut prints = self.fingerprints.iter();
        let mut receipts = Vec::with_capacity(parts.len());
        for (part, slot) in parts.iter().zip(&self.slots) {
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

    /// Refuses a branch whose own events have ids that the stream knows.
    pub(crate) fn refuse_known(
        &mut self,
        shared: &Shared,
        what: &Supersession,
    ) -> Result<(), Error> {
        if what.reissued.is_empty() {
            return Ok(());
        }
        self.slots.clear();
        self.fingerprints.clear();
        let (stream, events) = (what.stream.clone(), what.reissued.clone());
        let part = AppendBatch::new(stream, ExpectedVersion::Any, events);
        let key = shared.hash.key(&what.stream);
        let event_id = match (self.look(shared, &part, key)?, what.reissued.first()) {
            (Standing::Conflict(event_id, _), _) => event_id,
            (Standing::Already { .. }, Some(first)) => first.event_id,
            _ => return Ok(()),
        };
        Err(Error::IdConflict {
            stream: part.stream,
            event_id,
            reason: "it stands there already, and gives way now or has before",
        })
    }

    /// Adds the record of a branch and its first events, after the caller has looked whether they may
    /// begin it.
    pub(crate) fn begin_branch(
        &mut self,
        shared: &Shared,
        what: &Supersession,
    ) -> Result<AppendReceipt, Error> {
        let at = self.first_position + self.records.len() as u64;
        let begun = Superseded::new(what, at);
        let (id, payload) = (begun.record_id()?, begun.encode()?);
        self.encode_control(&shared.control, id, control::SUPERSEDE, &payload);
        let events = what.events();
        let name = what.stream.branch(at);
        let key = shared.hash.key(&name);
        self.fingerprints.clear();
        let print = |event: &NewEvent| shared.hash.fingerprint(&event.event_id);
        self.fingerprints.extend(events.iter().map(print));
        let slot = self.insert(Pending {
            stream: what.stream.clone(),
            name: Some(Box::new(name)),
            key,
            by_ids: false,
            published: what.from - 1,
            floor: what.from - 1,
            added: 0,
            newest: NONE,
        });
        self.slots = vec![slot];
        self.begins.push(begun);
        let is_empty = events.is_empty();
        let part = AppendBatch::new(what.stream.clone(), ExpectedVersion::Any, events);
        let nothing = AppendReceipt {
            stream: what.stream.clone(),
            first_sequence: what.from,
            last_sequence: what.from - 1,
            first_position: Some(at),
            last_position: Some(at),
            recorded_time: self.recorded,
            outcome: AppendOutcome::Appended,
        };
        let mut receipts = if is_empty {
            Vec::new()
        } else {
            self.encode(&[part])
        };
        Ok(receipts.pop().unwrap_or(nothing))
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
                self.begins.extend(control::superseded_by(&parsed));
                self.records.push(NewRecord::control(at, len));
                return Ok(());
            };
            let begun = self.begins.iter().rfind(|begun| begun.stream == stream);
            let name = match begun {
                Some(begun) => Some(stream.branch(begun.at)),
                None => shared.log.branches.name_at(&stream, u64::MAX),
            };
            let key = shared.hash.key(name.as_ref().unwrap_or(&stream));
            let slot = match self.find(&stream, &key) {
                Some(slot) => slot,
                None => self.insert(Pending {
                    stream,
                    name: name.map(Box::new),
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
    let newest = shared.streams.head(key.hash, &part.stream, u64::MAX)?;
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
        let newest = shared.streams.head(key.hash, &part.stream, u64::MAX)?;
        let segment = newest.map_or(0, |(_, place)| place.segment);
        // What was lost was of another branch, if this one began after that.
        let lineage = shared.log.branches.of(&part.stream);
        let newest = lineage.and_then(|all| all.newest());
        let began = newest.map_or(0, |branch| shared.log.segment_of(branch.at));
        let segment = segment.max(began);
        // Below a branch that has no events yet, the newest ones may be lost.
        let base = newest.map_or(0, |branch| branch.from - 1);
        losses.floor(&part.stream, head, segment).max(base)
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
    let places = streams.postings(
        pending.key.hash,
        &part.stream,
        range,
        forward,
        limit,
        u64::MAX,
    )?;
    // At whichever of them: a batch that was cut or turned around is no new one.
    let equal = equal_prints(prints, &places);
    suspects.extend(equal.map(|(at, sequence, _)| (at, sequence)));
    Ok(())
}

/// Which of `prints` the events at `places` have: at which of them, sequence and place.
fn equal_prints<'a>(
    prints: &[u32],
    places: &'a [(u64, Posting)],
) -> impl Iterator<Item = (usize, u64, Posting)> + use<'a> {
    let mut known: Vec<(u32, usize)> = prints.iter().copied().zip(0..).collect();
    known.sort_unstable();
    places.iter().flat_map(move |(sequence, place)| {
        let from = known.partition_point(|(print, _)| *print < place.fingerprint);
        let equal = known.iter().skip(from);
        let equal = equal.take_while(|(print, _)| *print == place.fingerprint);
        let equal = equal.map(|(_, at)| (*at, *sequence, *place));
        equal.collect::<Vec<_>>()
    })
}

/// Looks at the head of a stream with branches, and for events that may have one of these
/// fingerprints: past the caches, which know nothing of what stands below a branch.
fn see_branched(
    shared: &Shared,
    part: &AppendBatch,
    key: &StreamKey,
    prints: &[u32],
    suspects: &mut Vec<(usize, u64)>,
) -> Result<Seen, Error> {
    let limit = shared.limits.retry_window();
    let recent = (shared.streams).recent(key.hash, &part.stream, limit, None)?;
    let known = KnownIds::new(recent.head, &recent.newest, recent.whole);
    for (at, print) in prints.iter().enumerate() {
        suspects.extend(known.candidates(*print).map(|sequence| (at, sequence)));
    }
    let floor = remember_head(shared, part, key, recent.head)?;
    Ok(Seen {
        head: recent.head,
        floor,
        oldest_known: known.oldest(),
    })
}

/// An event of the part that stands among those that gave way to others: in the newest of each time,
/// or where the expectation implies.
fn is_superseded(
    shared: &Shared,
    part: &AppendBatch,
    lineage: &Lineage,
    prints: &[u32],
) -> Result<Option<EventId>, Error> {
    let limit = shared.limits.retry_window();
    let implied = part.expected.implied_head();
    for run in lineage.superseded() {
        let mut places = (shared.streams).postings_in(&run, Direction::Backward, limit)?;
        if let Some(first) = implied.map(|head| head.saturating_add(1)) {
            let last = first.saturating_add(part.events.len() as u64 - 1);
            let pieces = run.into_iter().filter_map(|piece| {
                let (from, to) = (piece.from.max(first), piece.to.min(last));
                (from <= to).then_some(Piece { from, to, ..piece })
            });
            let pieces: Vec<_> = pieces.collect();
            let forward = Direction::Forward;
            places.extend((shared.streams).postings_in(&pieces, forward, part.events.len())?);
        }
        let mut known = None;
        for (at, sequence, place) in equal_prints(prints, &places) {
            let Some(event) = part.events.get(at) else {
                continue;
            };
            let read = read_places(&shared.log, &part.stream, &[(sequence, place)])?;
            if read.iter().any(|read| read.event_id == event.event_id) {
                known = Some(known.map_or(at, |known: usize| known.min(at)));
            }
        }
        if let Some(event) = known.and_then(|at| part.events.get(at)) {
            return Ok(Some(event.event_id));
        }
    }
    Ok(None)
}

/// Records of one stream, from one of them on, newest first.
fn chain(records: &[NewRecord], newest: u32) -> impl Iterator<Item = &NewRecord> {
    let at = |place: u32| records.get(place as usize);
    std::iter::successors(at(newest), move |record| at(record.previous))
}
