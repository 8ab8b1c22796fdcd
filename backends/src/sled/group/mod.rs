//! The frame being built: which appends it takes, and what it adds to each stream.

mod admitting;
mod branching;
mod copying;
mod encoding;
mod seen;

use hashbrown::HashTable;
use tidelog_core::{StreamId, Superseded, Timestamp};

use super::frame;
use super::hash::StreamKey;
use super::heads::Heads;
use super::recent_ids::RecentIds;

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
}

/// Records of one stream, from one of them on, newest first.
fn chain(records: &[NewRecord], newest: u32) -> impl Iterator<Item = &NewRecord> {
    let at = |place: u32| records.get(place as usize);
    std::iter::successors(at(newest), move |record| at(record.previous))
}
