//! One projection's fold into one slot, without a thread, a stream or time.

use std::collections::BTreeMap;
use std::fmt;
use std::mem;
use std::ops::Bound;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use super::key::encoded;
use super::prepared::Prepared;
use super::row_store::{Change, Checkpoint, RowStore, RowsError, Slot, Space};
use super::rows::{FeedError, fold, redo};
use super::{Projection, Redo};
use crate::clock::Timestamp;
use crate::envelope::{EventEnvelope, RecordKind};
use crate::error::Error;
use crate::failure::HandlerError;
use crate::parked::ParkedStream;
use crate::read::Direction;
use crate::stream_id::StreamId;
use crate::superseded::Superseded;

/// Changes, and bytes of them, that are committed together before the next append is begun.
const BATCH_CHANGES: usize = 1_024;
const BATCH_BYTES: usize = 256 << 10;
/// What is committed even in the middle of an append.
const MOST_BYTES: usize = 16 << 20;
/// Events of an append whose rows appear in one step.
const WHOLE_APPEND: u32 = 1_000;
/// Most streams that may be parked.
const MAX_PARKED: usize = 10_000;

/// Folds events into the rows of one slot, batch by batch: what runners are made of.
///
/// Events are [taken](Feed::take) in the order of the log; what they change is kept back until
/// [`commit`](Feed::commit), which makes rows and checkpoint one step. An event that fails leaves
/// nothing behind.
pub struct Feed<P: Projection, S> {
    of: Arc<Prepared<P>>,
    store: S,
    slot: Slot,
    /// What has been taken, committed or not.
    taken: Checkpoint,
    /// Everything up to it is committed, or changed nothing.
    settled: u64,
    /// Where the stored checkpoint stands.
    stored: u64,
    pending: BTreeMap<(Space, Vec<u8>), Option<Vec<u8>>>,
    pending_bytes: usize,
    /// Position of the last record of the append that was entered last, when it is to appear whole.
    append_end: u64,
    parked: BTreeMap<StreamId, ParkedStream>,
}

/// The streams that are parked in a slot, in the order of their names.
///
/// # Errors
/// [`RowsError`].
pub fn parked_streams<S: RowStore>(store: &S, slot: &Slot) -> Result<Vec<ParkedStream>, RowsError> {
    let all = (Bound::Unbounded, Bound::Unbounded);
    let entries = store.scan(slot, Space::Parked, all, Direction::Forward, usize::MAX)?;
    let parked = entries.iter().map(|(_, bytes)| {
        postcard::from_bytes(bytes)
            .map_err(|error| RowsError::Lost(format!("a parked stream: {error}").into()))
    });
    parked.collect()
}

impl<P: Projection, S: RowStore> Feed<P, S> {
    /// Goes on with a slot that stands at `checkpoint`.
    ///
    /// # Errors
    /// [`RowsError`].
    pub fn open(
        of: Arc<Prepared<P>>,
        store: S,
        slot: Slot,
        checkpoint: Checkpoint,
    ) -> Result<Self, RowsError> {
        let parked = parked_streams(&store, &slot)?.into_iter();
        let parked = parked
            .map(|parked| (parked.stream.clone(), parked))
            .collect();
        Ok(Self {
            of,
            store,
            slot,
            taken: checkpoint,
            settled: checkpoint.position,
            stored: checkpoint.position,
            pending: BTreeMap::new(),
            pending_bytes: 0,
            append_end: 0,
            parked,
        })
    }

    /// Begins with an empty slot for `model`, the one being built from now on.
    ///
    /// # Errors
    /// [`RowsError`].
    pub fn create(of: Arc<Prepared<P>>, store: S, model: &str) -> Result<Self, RowsError> {
        let start = of.start();
        let slot = store.create_slot(model, &start)?;
        Self::open(of, store, slot, start)
    }

    /// The slot it feeds.
    pub fn slot(&self) -> Slot {
        self.slot
    }

    /// Everything up to here has been taken; the next event is above.
    pub fn position(&self) -> u64 {
        self.taken.position
    }

    /// Everything up to here is in the rows that others see.
    pub fn settled(&self) -> u64 {
        self.settled
    }

    /// How many rows were there after the last commit.
    pub fn rows(&self) -> u64 {
        self.taken.rows
    }

    /// The streams that are parked, in the order of their names.
    pub fn parked(&self) -> impl ExactSizeIterator<Item = &ParkedStream> {
        self.parked.values()
    }

    /// The parked stream of this name.
    pub fn parked_stream(&self, stream: &StreamId) -> Option<&ParkedStream> {
        self.parked.get(stream)
    }

    /// Takes the next event in, or holds it when its stream is parked.
    ///
    /// # Errors
    /// [`FeedError::Event`] when the projection does not take it, panics included; nothing is
    /// changed then, and the event can be tried again. [`FeedError::Rows`].
    pub fn take(&mut self, event: &EventEnvelope) -> Result<(), FeedError> {
        if event.kind != RecordKind::Control {
            if let Some(parked) = self.parked.get_mut(&event.stream) {
                parked.last_sequence = parked.last_sequence.max(event.sequence);
                let entry = parked.clone();
                self.put_parked(&entry)?;
            } else {
                let folded = self.fold(event)?;
                self.keep(folded);
            }
        }
        self.pass(event);
        Ok(())
    }

    /// Passes over an event that gave way to another origin's.
    pub fn pass_over(&mut self, event: &EventEnvelope) {
        self.pass(event);
    }

    /// Takes in that events gave way to another origin's, of which `event` is the record: whether the
    /// projection has undone them, or the rows are to be made anew. What is held of the stream is
    /// forgotten as far as it gave way. Before they are made anew it stays where it is: the record is
    /// to be [passed over](Feed::pass_over) once other rows are begun.
    ///
    /// # Errors
    /// [`FeedError::Rows`]; nothing is changed then.
    pub fn take_superseded(
        &mut self,
        event: &EventEnvelope,
        what: &Superseded,
    ) -> Result<Redo, FeedError> {
        let base = |key: &[u8]| self.row(key);
        let (projection, lookups) = (&self.of.projection, &self.of.lookups);
        let asked = || redo(projection, lookups, what, &base);
        let answer = catch_unwind(AssertUnwindSafe(asked))
            .unwrap_or_else(|panic| Err(FeedError::Event(HandlerError::panicked(&*panic))));
        let answer = match answer {
            Err(FeedError::Event(error)) => {
                tracing::warn!(of = P::NAME, stream = %what.stream, %error, "rows are made anew");
                Redo::Rebuild
            }
            Err(error) => return Err(error),
            Ok((answer, changes)) => {
                self.keep(changes);
                answer
            }
        };
        if let Some(parked) = self.parked.get_mut(&what.stream) {
            if parked.sequence >= what.from {
                self.unpark(&what.stream);
            } else {
                parked.last_sequence = parked.last_sequence.min(what.from - 1);
                let entry = parked.clone();
                self.put_parked(&entry)?;
            }
        }
        if answer == Redo::Done {
            self.pass(event);
        }
        Ok(answer)
    }

    /// Sets the stream of `event` aside: this event, and all that follow it there.
    ///
    /// # Errors
    /// [`FeedError::Event`] with [`Error::TooLarge`] when too many streams are parked already.
    pub fn park(
        &mut self,
        event: &EventEnvelope,
        attempts: u32,
        reason: &HandlerError,
        now: Timestamp,
    ) -> Result<(), FeedError> {
        if self.parked.len() >= MAX_PARKED {
            let (size, limit) = (self.parked.len() + 1, MAX_PARKED);
            let full = Error::too_large("number of parked streams", size, limit);
            return Err(FeedError::Event(full.into()));
        }
        self.park_at(event, event.sequence, attempts, reason, now)?;
        self.pass(event);
        Ok(())
    }

    /// Takes in an event of a parked stream, the one that could not be taken or the next one held.
    /// With the last one the stream is as any other again.
    ///
    /// # Errors
    /// As [`take`](Feed::take).
    pub fn take_held(&mut self, event: &EventEnvelope) -> Result<(), FeedError> {
        let folded = self.fold(event)?;
        let Some(parked) = self.parked.get_mut(&event.stream) else {
            return Ok(());
        };
        if event.sequence >= parked.last_sequence {
            self.unpark(&event.stream);
        } else {
            parked.sequence = event.sequence + 1;
            let entry = parked.clone();
            self.put_parked(&entry)?;
        }
        self.keep(folded);
        Ok(())
    }

    /// Notes that `event`, which is held, could not be taken.
    ///
    /// # Errors
    /// [`FeedError::Event`] when the note cannot be encoded.
    pub fn park_again(
        &mut self,
        event: &EventEnvelope,
        reason: &HandlerError,
        now: Timestamp,
    ) -> Result<(), FeedError> {
        let Some(parked) = self.parked.get(&event.stream) else {
            return Ok(());
        };
        let same = parked.event_id == event.event_id;
        let attempts = if same { parked.attempts } else { 0 };
        let last = parked.last_sequence.max(event.sequence);
        self.park_at(event, last, attempts.saturating_add(1), reason, now)
    }

    /// Forgets that `stream` was parked; nothing of it is held any more.
    pub fn unpark(&mut self, stream: &StreamId) {
        if self.parked.remove(stream).is_some() {
            self.change((Space::Parked, encoded(stream)), None);
        }
    }

    /// Whether so much has gathered that it is to be committed. Not in the middle of an append of
    /// ordinary size: its rows appear in one step.
    pub fn is_due(&self) -> bool {
        let much = self.pending.len() >= BATCH_CHANGES || self.pending_bytes >= BATCH_BYTES;
        (much && self.is_whole()) || self.pending_bytes >= MOST_BYTES
    }

    /// Whether it does not stand in the middle of an append.
    pub fn is_whole(&self) -> bool {
        self.taken.position >= self.append_end
    }

    /// Whether there is something to commit.
    pub fn is_dirty(&self) -> bool {
        !self.pending.is_empty()
    }

    /// Writes what has gathered with the checkpoint, in one step. A place that moved alone is not
    /// written.
    ///
    /// # Errors
    /// [`RowsError`]; what has gathered is kept then.
    pub fn commit(&mut self) -> Result<(), RowsError> {
        if self.is_dirty() {
            self.write()?;
        }
        self.settled = self.taken.position;
        Ok(())
    }

    /// [`commit`](Feed::commit), and writes the place too when it moved alone.
    ///
    /// # Errors
    /// As there.
    pub fn commit_place(&mut self) -> Result<(), RowsError> {
        if self.is_whole() && self.stored != self.taken.position {
            self.write()?;
            self.settled = self.taken.position;
        }
        Ok(())
    }

    fn write(&mut self) -> Result<(), RowsError> {
        let pending = mem::take(&mut self.pending);
        let change = |((space, key), value)| Change { space, key, value };
        let changes: Vec<_> = pending.into_iter().map(change).collect();
        match self.store.commit(&self.slot, &changes, &self.taken) {
            Ok(rows) => self.taken.rows = rows,
            Err(error) => {
                let pending = changes.into_iter();
                self.pending = pending.map(|c| ((c.space, c.key), c.value)).collect();
                return Err(error);
            }
        }
        self.pending_bytes = 0;
        self.stored = self.taken.position;
        Ok(())
    }

    fn fold(&self, event: &EventEnvelope) -> Result<Vec<Change>, FeedError> {
        let base = |key: &[u8]| self.row(key);
        let (projection, lookups) = (&self.of.projection, &self.of.lookups);
        // What a panic leaves half done is dropped with the event's own changes; the projection
        // itself has no state that is behind a lock of ours.
        catch_unwind(AssertUnwindSafe(|| fold(projection, lookups, event, &base)))
            .unwrap_or_else(|panic| Err(FeedError::Event(HandlerError::panicked(&*panic))))
    }

    /// The bytes of a row, with what is not committed yet.
    fn row(&self, key: &[u8]) -> Result<Option<Vec<u8>>, RowsError> {
        // The map is asked by an owned key; rows are looked up once an event.
        match self.pending.get(&(Space::Rows, key.to_vec())) {
            Some(value) => Ok(value.clone()),
            None => self.store.get(&self.slot, Space::Rows, key),
        }
    }

    fn keep(&mut self, folded: Vec<Change>) {
        for change in folded {
            self.change((change.space, change.key), change.value);
        }
    }

    fn change(&mut self, at: (Space, Vec<u8>), value: Option<Vec<u8>>) {
        self.pending_bytes += at.1.len() + value.as_ref().map_or(0, Vec::len);
        self.pending.insert(at, value);
    }

    /// Moves the place behind `event`.
    fn pass(&mut self, event: &EventEnvelope) {
        self.taken.position = event.position.unwrap_or(self.taken.position);
        self.taken.event_id = event.event_id;
        self.taken.recorded_time = event.recorded_time;
        let batch = event.batch;
        self.append_end = if batch.count <= WHOLE_APPEND && event.kind != RecordKind::Control {
            (batch.first + u64::from(batch.count)).saturating_sub(1)
        } else {
            0
        };
    }

    fn park_at(
        &mut self,
        event: &EventEnvelope,
        last_sequence: u64,
        attempts: u32,
        reason: &HandlerError,
        now: Timestamp,
    ) -> Result<(), FeedError> {
        let entry = ParkedStream {
            stream: event.stream.clone(),
            event_id: event.event_id,
            position: event.position.unwrap_or(self.taken.position),
            sequence: event.sequence,
            last_sequence,
            attempts,
            since: now,
            reason: ParkedStream::reason_of(reason),
        };
        self.put_parked(&entry)?;
        self.parked.insert(entry.stream.clone(), entry);
        Ok(())
    }

    fn put_parked(&mut self, entry: &ParkedStream) -> Result<(), FeedError> {
        let bytes = postcard::to_stdvec(entry);
        let bytes = bytes.map_err(|error| FeedError::Event(HandlerError::permanent(error)))?;
        self.change((Space::Parked, encoded(&entry.stream)), Some(bytes));
        Ok(())
    }
}

impl<P: Projection, S> fmt::Debug for Feed<P, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Feed")
            .field("of", &P::NAME)
            .field("slot", &self.slot)
            .field("position", &self.taken.position)
            .field("pending", &self.pending.len())
            .finish_non_exhaustive()
    }
}
