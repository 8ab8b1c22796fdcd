//! Events of one stream on their way: one batch of a lane is in flight at a time, and what comes
//! meanwhile goes together with the next.

use std::collections::{HashMap, VecDeque};

use bytes::Bytes;
use tidelog_backends::commits::CommitRecord;
use tidelog_backends::wire::{EventRow, LogPlace};
use tidelog_core::{Batch, Error, EventEnvelope, EventId, StreamId};
use uuid::Uuid;

use super::judge::Place;

/// An event that waits to be sent.
pub(super) struct Item {
    pub position: u64,
    pub sequence: u64,
    pub event_id: EventId,
    /// The append that wrote it.
    pub batch: Batch,
    /// Events of other streams were recorded in the same append.
    pub is_of_several: bool,
    /// Something waits for it to settle.
    pub is_counted: bool,
    content: Content,
}

enum Content {
    Record(Bytes),
    Event(Box<EventEnvelope>),
}

impl Item {
    pub(super) fn of_record(record: &CommitRecord<'_>, is_of_several: bool) -> Self {
        Self {
            position: record.position,
            sequence: record.sequence,
            event_id: record.event_id,
            batch: record.batch,
            is_of_several,
            is_counted: true,
            content: Content::Record(record.bytes()),
        }
    }

    /// An event that was read again from its stream; nothing waits for it.
    pub(super) fn of_event(event: EventEnvelope) -> Self {
        Self {
            position: event.position.unwrap_or(0),
            sequence: event.sequence,
            event_id: event.event_id,
            batch: event.batch,
            is_of_several: false,
            is_counted: false,
            content: Content::Event(Box::new(event)),
        }
    }

    pub(super) fn bytes(&self) -> usize {
        match &self.content {
            Content::Record(bytes) => bytes.len(),
            Content::Event(event) => event.event.len() + event.metadata.size() + 128,
        }
    }

    /// The event's row.
    pub(super) fn row(&self, origin: Uuid, epoch: Uuid) -> Result<EventRow, Error> {
        let mut event = match &self.content {
            Content::Record(bytes) => CommitRecord::read(bytes)?.envelope()?,
            Content::Event(event) => EventEnvelope::clone(event),
        };
        event.position = None;
        Ok(EventRow {
            event,
            place: Some(LogPlace {
                origin,
                epoch,
                position: self.position,
            }),
        })
    }

    pub(super) fn place(&self) -> Place {
        (self.sequence, self.event_id)
    }
}

/// One stream's.
#[derive(Default)]
pub(super) struct Lane {
    pub queue: VecDeque<Item>,
    /// Sent, not answered.
    pub in_flight: Vec<Item>,
    /// The last event that is known to stand there, and whether it ends its bucket.
    pub tip: Option<(Place, bool)>,
    /// The server refused several together: they go one by one.
    pub goes_alone: bool,
    /// It waits for its stream to be parked.
    pub parks: usize,
    is_ready: bool,
}

/// The last events of so many streams are remembered, of twice as many at most.
const TIPS: usize = 2_048;

/// What lanes that are gone knew of their streams: the next event of one would have to be looked up in
/// the log else, and most streams that are written to are written to again. The older half goes when
/// the newer one is full.
#[derive(Default)]
struct Tips {
    newer: HashMap<StreamId, Place>,
    older: HashMap<StreamId, Place>,
}

impl Tips {
    fn keep(&mut self, stream: StreamId, tip: Place) {
        if self.newer.len() >= TIPS {
            self.older = std::mem::take(&mut self.newer);
        }
        self.newer.insert(stream, tip);
    }

    fn take(&mut self, stream: &StreamId) -> Option<Place> {
        let older = self.older.remove(stream);
        self.newer.remove(stream).or(older)
    }
}

/// All lanes that have something.
#[derive(Default)]
pub(super) struct Lanes {
    /// Looked up many times an event, and never gone through: that would be in another order each run.
    streams: HashMap<StreamId, Lane>,
    tips: Tips,
    /// Those that may send, whoever has waited longest first.
    ready: VecDeque<StreamId>,
    in_flight: usize,
}

impl Lanes {
    pub(super) fn push(&mut self, stream: &StreamId, item: Item) {
        self.of(stream).queue.push_back(item);
        self.make_ready(stream);
    }

    pub(super) fn of(&mut self, stream: &StreamId) -> &mut Lane {
        let tips = &mut self.tips;
        self.streams.entry(stream.clone()).or_insert_with(|| Lane {
            // A bucket that it ends is looked at again: the server may have lost it since.
            tip: tips.take(stream).map(|tip| (tip, false)),
            ..Lane::default()
        })
    }

    pub(super) fn get_mut(&mut self, stream: &StreamId) -> Option<&mut Lane> {
        self.streams.get_mut(stream)
    }

    /// Lets the lane send when its turn comes, if it has anything and waits for nothing.
    pub(super) fn make_ready(&mut self, stream: &StreamId) {
        let Some(lane) = self.streams.get_mut(stream) else {
            return;
        };
        let is_free = lane.in_flight.is_empty() && lane.parks == 0;
        if is_free && lane.queue.is_empty() {
            if let Some((stream, lane)) = self.streams.remove_entry(stream)
                && let Some((tip, _)) = lane.tip
            {
                self.tips.keep(stream, tip);
            }
        } else if is_free && !lane.is_ready {
            lane.is_ready = true;
            self.ready.push_back(stream.clone());
        }
    }

    /// What stands before the stream's next event is looked up in the log again.
    pub(super) fn forget_tip(&mut self, stream: &StreamId) {
        self.tips.take(stream);
        if let Some(lane) = self.streams.get_mut(stream) {
            lane.tip = None;
        }
    }

    /// Whose turn it is, while fewer than `most` are in flight.
    pub(super) fn next(&mut self, most: usize) -> Option<StreamId> {
        if self.in_flight >= most {
            return None;
        }
        let stream = self.ready.pop_front()?;
        if let Some(lane) = self.streams.get_mut(&stream) {
            lane.is_ready = false;
        }
        Some(stream)
    }

    pub(super) fn sent(&mut self, stream: &StreamId, items: Vec<Item>) {
        self.of(stream).in_flight = items;
        self.in_flight += 1;
    }

    /// What was in flight, answered now.
    pub(super) fn answered(&mut self, stream: &StreamId) -> Vec<Item> {
        self.in_flight -= 1;
        std::mem::take(&mut self.of(stream).in_flight)
    }

    /// How many are in flight.
    pub(super) fn in_flight(&self) -> usize {
        self.in_flight
    }

    /// Whether one waits for its turn.
    pub(super) fn is_ready(&self) -> bool {
        !self.ready.is_empty()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.streams.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stream(number: usize) -> StreamId {
        StreamId::new("Test", &number.to_string()).unwrap()
    }

    fn place(number: usize) -> Place {
        (number as u64, EventId::from_bytes([7; 16]))
    }

    /// As a lane that comes again has it: whether a bucket ends with it is to be looked at.
    fn tip(number: usize) -> (Place, bool) {
        (place(number), false)
    }

    /// A lane that comes, learns its tip and goes.
    fn passes(lanes: &mut Lanes, number: usize) {
        lanes.of(&stream(number)).tip = Some((place(number), true));
        lanes.make_ready(&stream(number));
        assert!(lanes.is_empty());
    }

    #[test]
    fn a_lane_that_comes_again_knows_where_its_stream_ended() {
        let mut lanes = Lanes::default();
        passes(&mut lanes, 1);
        assert_eq!(lanes.of(&stream(1)).tip, Some(tip(1)));
        assert_eq!(lanes.of(&stream(2)).tip, None);
    }

    #[test]
    fn a_tip_that_is_forgotten_does_not_come_back() {
        let mut lanes = Lanes::default();
        passes(&mut lanes, 1);
        lanes.forget_tip(&stream(1));
        assert_eq!(lanes.of(&stream(1)).tip, None);
        lanes.of(&stream(1)).tip = Some(tip(1));
        lanes.forget_tip(&stream(1));
        assert_eq!(lanes.of(&stream(1)).tip, None);
    }

    #[test]
    fn of_many_streams_the_newest_are_remembered() {
        let mut lanes = Lanes::default();
        for number in 0..10 * TIPS {
            passes(&mut lanes, number);
        }
        assert!(lanes.tips.newer.len() + lanes.tips.older.len() <= 2 * TIPS);
        for number in 9 * TIPS..10 * TIPS {
            assert_eq!(lanes.of(&stream(number)).tip, Some(tip(number)));
        }
        assert_eq!(lanes.of(&stream(0)).tip, None);
    }
}
