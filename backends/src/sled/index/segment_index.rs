//! The index of one segment, in memory: what is not in a run yet.

use std::hint::black_box;

use hashbrown::HashTable;
use tidelog_core::{Direction, StreamId};

use super::{IndexError, Posting};

/// No earlier event of the stream.
const NONE: u32 = u32::MAX;

/// Streams that [`SegmentIndex::visit_sorted`] looks at before it visits them.
const TOUCHED_AT_ONCE: usize = 64;

/// The postings of one segment by stream; append-only.
///
/// Takes 24 bytes an event, and 45 bytes and its name a stream.
pub(crate) struct SegmentIndex {
    segment: u64,
    /// Ordinals into `streams`.
    by_name: HashTable<u32>,
    streams: Vec<StreamEntry>,
    names: Vec<u8>,
    events: Vec<EventEntry>,
    /// No id of version 7 in it is above this one.
    newest_id: u128,
}

struct StreamEntry {
    hash: u64,
    first_sequence: u64,
    name_start: u32,
    name_len: u16,
    newest: u32,
}

/// One event, linked to earlier ones of its stream as in Myers' skew-binary random-access lists: a
/// sequence is found in logarithmic time without an array a stream.
struct EventEntry {
    /// Above the stream's `first_sequence`.
    sequence: u32,
    offset: u32,
    len: u32,
    fingerprint: u32,
    previous: u32,
    jump: u32,
}

impl SegmentIndex {
    pub(crate) fn new(segment: u64) -> Self {
        Self {
            segment,
            by_name: HashTable::new(),
            streams: Vec::new(),
            names: Vec::new(),
            events: Vec::new(),
            newest_id: 0,
        }
    }

    /// Gives back the room that was meant for more.
    pub(crate) fn shrink(&mut self) {
        self.streams.shrink_to_fit();
        self.names.shrink_to_fit();
        self.events.shrink_to_fit();
    }

    /// Notes the id of an event pushed, as a number.
    pub(crate) fn note_id(&mut self, id: u128) {
        self.newest_id = self.newest_id.max(id);
    }

    /// No id of version 7 in it is above this one.
    pub(crate) fn newest_id(&self) -> u128 {
        self.newest_id
    }

    /// Number of the segment.
    pub(crate) fn segment(&self) -> u64 {
        self.segment
    }

    /// Events pushed.
    pub(crate) fn events(&self) -> usize {
        self.events.len()
    }

    /// Takes the next event of the segment; `hash` is the keyed hash of the stream's name.
    ///
    /// # Errors
    /// `Damaged` when it does not stand behind the stream's event before it: nothing was taken.
    pub(crate) fn push(
        &mut self,
        hash: u64,
        stream: &StreamId,
        sequence: u64,
        offset: u32,
        len: u32,
        fingerprint: u32,
    ) -> Result<(), IndexError> {
        let unordered = || {
            IndexError::damaged(format!(
                "sequence {sequence} of {stream} at byte {offset} of segment {} is out of order",
                self.segment
            ))
        };
        let event = u32::try_from(self.events.len()).map_err(|_| unordered())?;
        let name = stream.as_str().as_bytes();
        let known = self.find_ordinal(hash, name);
        let known_stream = known.and_then(|at| self.streams.get(at as usize));
        let (entry_sequence, previous, jump) = match known_stream {
            Some(found) => {
                let previous = self.event(found.newest);
                let step = sequence
                    .checked_sub(found.first_sequence)
                    .and_then(|step| u32::try_from(step).ok())
                    .filter(|step| *step > previous.sequence)
                    .ok_or_else(unordered)?;
                if previous
                    .offset
                    .checked_add(previous.len)
                    .is_none_or(|end| offset < end)
                {
                    return Err(unordered());
                }
                (step, found.newest, self.jump_of(found.newest))
            }
            None => (0, NONE, NONE),
        };
        if previous == NONE {
            let ordinal = u32::try_from(self.streams.len()).map_err(|_| unordered())?;
            let entry = StreamEntry {
                hash,
                first_sequence: sequence,
                name_start: u32::try_from(self.names.len()).map_err(|_| unordered())?,
                name_len: u16::try_from(name.len()).map_err(|_| unordered())?,
                newest: event,
            };
            self.names.extend_from_slice(name);
            self.streams.push(entry);
            let streams = &self.streams;
            self.by_name.insert_unique(hash, ordinal, |&at| {
                streams.get(at as usize).map_or(0, |stream| stream.hash)
            });
        } else if let Some(stream) = known.and_then(|at| self.streams.get_mut(at as usize)) {
            stream.newest = event;
        }
        self.events.push(EventEntry {
            sequence: entry_sequence,
            offset,
            len,
            fingerprint,
            previous,
            jump,
        });
        Ok(())
    }

    /// The newest event of the stream in this segment.
    pub(crate) fn head(&self, hash: u64, stream: &StreamId) -> Option<(u64, Posting)> {
        let found = self.find(hash, stream.as_str().as_bytes())?;
        Some(self.posting(found, found.newest))
    }

    /// Appends the postings of the sequences `from..=to`, at most `limit`, in `direction`.
    #[allow(
        clippy::too_many_arguments,
        reason = "the same question as `Index::postings`"
    )]
    pub(crate) fn postings(
        &self,
        hash: u64,
        stream: &StreamId,
        from: u64,
        to: u64,
        direction: Direction,
        limit: usize,
        out: &mut Vec<(u64, Posting)>,
    ) {
        let Some(found) = self.find(hash, stream.as_str().as_bytes()) else {
            return;
        };
        let first = from.max(found.first_sequence);
        match direction {
            Direction::Backward => self.backward(found, first, to, limit, out),
            Direction::Forward => {
                let begin = out.len();
                // Dense sequences let a page end be computed; after a declared gap all are walked.
                let page_end = first.saturating_add(limit as u64).saturating_sub(1).min(to);
                self.backward(found, first, page_end, limit, out);
                if out.len() - begin < limit && page_end < to {
                    out.truncate(begin);
                    self.backward(found, first, to, usize::MAX, out);
                }
                if let Some(added) = out.get_mut(begin..) {
                    added.reverse();
                }
                out.truncate(begin.saturating_add(limit));
            }
        }
    }

    /// Appends sequence and fingerprint of the stream's newest `limit` events, newest first.
    pub(crate) fn fingerprints(
        &self,
        hash: u64,
        stream: &StreamId,
        limit: usize,
        out: &mut Vec<(u64, u32)>,
    ) {
        let Some(found) = self.find(hash, stream.as_str().as_bytes()) else {
            return;
        };
        let newest = Chain {
            index: self,
            at: found.newest,
        };
        let sequence = |entry: &EventEntry| found.first_sequence + u64::from(entry.sequence);
        out.extend(
            newest
                .take(limit)
                .map(|(_, entry)| (sequence(entry), entry.fingerprint)),
        );
    }

    /// Visits every stream, ordered by hash and name: hash, name, and its postings, oldest first.
    pub(super) fn visit_sorted<E>(
        &self,
        mut visit: impl FnMut(u64, &[u8], &[(u64, Posting)]) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut sorted: Vec<&StreamEntry> = self.streams.iter().collect();
        sorted.sort_unstable_by_key(|stream| (stream.hash, self.name(stream)));
        let mut postings = Vec::new();
        for some in sorted.chunks(TOUCHED_AT_ONCE) {
            // Each stands where no cache of the processor expects it. Looked at in a loop of its own,
            // they are waited for together, not one by one between the visits.
            let touched = some.iter().fold(0, |sum, stream| {
                let first = self.name(stream).first().copied().unwrap_or_default();
                sum ^ self.event(stream.newest).sequence ^ u32::from(first)
            });
            black_box(touched);
            for stream in some {
                postings.clear();
                self.backward(stream, 0, u64::MAX, usize::MAX, &mut postings);
                postings.reverse();
                visit(stream.hash, self.name(stream), &postings)?;
            }
        }
        Ok(())
    }

    fn backward(
        &self,
        stream: &StreamEntry,
        from: u64,
        to: u64,
        limit: usize,
        out: &mut Vec<(u64, Posting)>,
    ) {
        let Some(to) = to.checked_sub(stream.first_sequence) else {
            return;
        };
        let from = from.saturating_sub(stream.first_sequence);
        let mut at = stream.newest;
        while at != NONE && u64::from(self.event(at).sequence) > to {
            let entry = self.event(at);
            let beyond = entry.jump != NONE && u64::from(self.event(entry.jump).sequence) >= to;
            at = if beyond { entry.jump } else { entry.previous };
        }
        let wanted = Chain { index: self, at }
            .take_while(|(_, entry)| u64::from(entry.sequence) >= from)
            .take(limit);
        out.extend(wanted.map(|(at, _)| self.posting(stream, at)));
    }

    fn posting(&self, stream: &StreamEntry, at: u32) -> (u64, Posting) {
        let entry = self.event(at);
        let posting = Posting {
            segment: self.segment,
            offset: entry.offset,
            len: entry.len,
            fingerprint: entry.fingerprint,
        };
        (stream.first_sequence + u64::from(entry.sequence), posting)
    }

    /// Where the event that follows `previous` jumps to.
    fn jump_of(&self, previous: u32) -> u32 {
        let entry = self.event(previous);
        if entry.jump == NONE {
            return previous;
        }
        let jumped = self.event(entry.jump);
        if jumped.jump == NONE {
            return previous;
        }
        let over = self.event(jumped.jump);
        let equal_leaps = entry.sequence - jumped.sequence == jumped.sequence - over.sequence;
        if equal_leaps { jumped.jump } else { previous }
    }

    fn event(&self, at: u32) -> &EventEntry {
        // Links and heads are indices of entries pushed before, and nothing is ever removed.
        &self.events[at as usize]
    }

    fn name(&self, stream: &StreamEntry) -> &[u8] {
        let start = stream.name_start as usize;
        self.names
            .get(start..start + usize::from(stream.name_len))
            .unwrap_or_default()
    }

    fn find_ordinal(&self, hash: u64, name: &[u8]) -> Option<u32> {
        let matches = |&at: &u32| {
            self.streams
                .get(at as usize)
                .is_some_and(|stream| stream.hash == hash && self.name(stream) == name)
        };
        self.by_name.find(hash, matches).copied()
    }

    fn find(&self, hash: u64, name: &[u8]) -> Option<&StreamEntry> {
        self.streams.get(self.find_ordinal(hash, name)? as usize)
    }
}

/// The events of a stream from one of them on, newest first.
struct Chain<'a> {
    index: &'a SegmentIndex,
    at: u32,
}

impl<'a> Iterator for Chain<'a> {
    type Item = (u32, &'a EventEntry);

    fn next(&mut self) -> Option<Self::Item> {
        if self.at == NONE {
            return None;
        }
        let at = self.at;
        let entry = self.index.event(at);
        self.at = entry.previous;
        Some((at, entry))
    }
}
