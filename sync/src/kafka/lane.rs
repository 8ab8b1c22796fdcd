//! Events of one stream on their way: one message of a lane is in flight at a time.
//!
//! The next is sent after the report that the one before stands there, in whatever generation: so a
//! topic has a stream's events in order, whatever is refused, lost or sent twice. librdkafka promises the
//! same of all that is handed in at once, and does not hold it (`a_gapless_producer_leaves_a_gap`).

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use bytes::Bytes;
use tidelog_backends::commits::{CommitRecord, Envelopes};
use tidelog_core::{Batch, Error, EventEnvelope, EventId, StreamId};

use super::broker::Refusal;
use crate::replicate::outbox::LocalEvent;

/// An event that waits to be sent.
pub(super) struct Item {
    pub position: u64,
    pub sequence: u64,
    pub event_id: EventId,
    pub batch: Batch,
    /// A commit waits for it to settle; of what was read again from its stream none does.
    pub is_counted: bool,
    content: Content,
}

enum Content {
    Record(Bytes),
    Event(Box<EventEnvelope>),
}

impl Item {
    pub(super) fn of_record(record: &CommitRecord<'_>) -> Self {
        Self {
            position: record.position,
            sequence: record.sequence,
            event_id: record.event_id,
            batch: record.batch,
            is_counted: true,
            content: Content::Record(record.bytes()),
        }
    }

    /// An event that was read again from its stream.
    pub(super) fn of_event(event: EventEnvelope) -> Self {
        Self {
            position: event.position.unwrap_or(0),
            sequence: event.sequence,
            event_id: event.event_id,
            batch: event.batch,
            is_counted: false,
            content: Content::Event(Box::new(event)),
        }
    }

    pub(super) fn envelope(&self, made: &mut Envelopes) -> Result<EventEnvelope, Error> {
        match &self.content {
            Content::Record(bytes) => made.read(bytes),
            Content::Event(event) => Ok(EventEnvelope::clone(event)),
        }
    }

    pub(super) fn local(&self) -> LocalEvent {
        LocalEvent {
            sequence: self.sequence,
            event_id: self.event_id,
            position: self.position,
            batch: self.batch,
        }
    }
}

/// One stream's.
pub(super) struct Lane {
    pub stream: StreamId,
    /// Which topic it goes to.
    pub topic: usize,
    /// What is sent next, or in flight, and what follows.
    pub queue: VecDeque<Item>,
    /// How many of them no commit waits for.
    pub uncounted: usize,
    pub state: LaneState,
    /// What was said of its message last.
    pub refusal: Option<Refusal>,
    /// Open while its message is in flight.
    pub span: tracing::Span,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LaneState {
    /// In no list.
    Idle,
    /// In a list of those that send when their turn comes.
    Queued,
    /// In flight, with what it weighs, since when.
    Flying { cost: usize, since: Duration },
    /// Its message was refused; who is guilty is being found out.
    Suspect,
}

/// All lanes that have something.
#[derive(Default)]
pub(super) struct Lanes {
    slots: Vec<Option<Lane>>,
    free: Vec<u32>,
    /// Looked up for each event, and never gone through: that would be in another order each run.
    streams: HashMap<StreamId, u32>,
}

impl Lanes {
    /// The lane of `stream`, made if there is none; `topic` is asked for then.
    pub(super) fn of(&mut self, stream: &StreamId, topic: usize) -> u32 {
        if let Some(id) = self.streams.get(stream) {
            return *id;
        }
        let lane = Lane {
            stream: stream.clone(),
            topic,
            queue: VecDeque::new(),
            uncounted: 0,
            state: LaneState::Idle,
            refusal: None,
            span: tracing::Span::none(),
        };
        let id = match self.free.pop() {
            Some(id) => id,
            None => {
                self.slots.push(None);
                // A window holds far fewer.
                u32::try_from(self.slots.len() - 1).unwrap_or(u32::MAX)
            }
        };
        if let Some(slot) = self.slots.get_mut(id as usize) {
            *slot = Some(lane);
        }
        self.streams.insert(stream.clone(), id);
        id
    }

    pub(super) fn find(&self, stream: &StreamId) -> Option<u32> {
        self.streams.get(stream).copied()
    }

    pub(super) fn get(&self, id: u32) -> Option<&Lane> {
        self.slots.get(id as usize)?.as_ref()
    }

    pub(super) fn get_mut(&mut self, id: u32) -> Option<&mut Lane> {
        self.slots.get_mut(id as usize)?.as_mut()
    }

    pub(super) fn remove(&mut self, id: u32) -> Option<Lane> {
        let lane = self.slots.get_mut(id as usize)?.take()?;
        self.streams.remove(&lane.stream);
        self.free.push(id);
        Some(lane)
    }

    /// Those whose message is in flight.
    pub(super) fn flying(&self) -> impl Iterator<Item = u32> {
        let is_flying = |(id, slot): (usize, &Option<Lane>)| {
            let lane = slot.as_ref()?;
            let is_flying = matches!(lane.state, LaneState::Flying { .. });
            is_flying.then(|| u32::try_from(id).ok()).flatten()
        };
        self.slots.iter().enumerate().filter_map(is_flying)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.streams.is_empty()
    }
}

impl Lane {
    pub(super) fn push(&mut self, item: Item) {
        self.uncounted += usize::from(!item.is_counted);
        self.queue.push_back(item);
    }

    /// What was sent next or in flight, which is over.
    pub(super) fn pop(&mut self) -> Option<Item> {
        let item = self.queue.pop_front()?;
        self.uncounted -= usize::from(!item.is_counted);
        Some(item)
    }
}
