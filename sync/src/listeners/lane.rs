//! Lanes: the events of each stream, waiting in order, one at a time.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use bytes::Bytes;
use tidelog_core::{EventEnvelope, StreamId, Timestamp};

/// A payload up to this size is copied when it is queued: it must not keep the whole read alive
/// that it came with.
const COPIED_BYTES: usize = 4 << 10;
/// What an envelope takes beside its payload, roughly.
const ENVELOPE_BYTES: usize = 512;

/// All lanes that hold something.
#[derive(Default)]
pub(super) struct Lanes {
    by_stream: HashMap<StreamId, Lane>,
    ready: VecDeque<StreamId>,
    /// The streams an event of which is being handled, and since when: as many as handlers run.
    running: HashMap<StreamId, Timestamp>,
    bytes: usize,
}

struct Lane {
    /// The first is the one that is handled; it stays until it is settled.
    queue: VecDeque<Arc<EventEnvelope>>,
    attempts: u32,
    /// Whether it takes what is held of a parked stream, not what comes from the log.
    held: bool,
}

impl Lanes {
    /// Bytes of all that waits or is handled.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// When the longest-running attempt began.
    pub(super) fn oldest(&self) -> Option<Timestamp> {
        self.running.values().min().copied()
    }

    /// Whether the lane of `stream` takes what is held of it.
    pub(super) fn is_held(&self, stream: &StreamId) -> bool {
        self.by_stream.get(stream).is_some_and(|lane| lane.held)
    }

    /// An event from the log.
    pub(super) fn push(&mut self, event: EventEnvelope) {
        self.queue(event, false);
    }

    /// Opens the lane of a parked stream, with nothing in it yet.
    pub(super) fn open_held(&mut self, stream: &StreamId) {
        self.by_stream.insert(stream.clone(), Lane::new(true));
    }

    /// An event that is held of a parked stream.
    pub(super) fn push_held(&mut self, event: EventEnvelope) {
        self.queue(event, true);
    }

    fn queue(&mut self, mut event: EventEnvelope, held: bool) {
        if event.event.len() <= COPIED_BYTES {
            event.event = Bytes::copy_from_slice(&event.event);
        }
        self.bytes += size(&event);
        let stream = event.stream.clone();
        let lane = self
            .by_stream
            .entry(stream.clone())
            .or_insert_with(|| Lane::new(held));
        lane.queue.push_back(Arc::new(event));
        if lane.queue.len() == 1 {
            self.ready.push_back(stream);
        }
    }

    /// The next event whose turn it is.
    pub(super) fn begin(&mut self, now: Timestamp) -> Option<Arc<EventEnvelope>> {
        loop {
            let stream = self.ready.pop_front()?;
            if self.running.contains_key(&stream) {
                continue;
            }
            let lane = self.by_stream.get(&stream);
            if let Some(event) = lane.and_then(|lane| lane.queue.front()) {
                let event = Arc::clone(event);
                self.running.insert(stream, now);
                return Some(event);
            }
        }
    }

    /// The attempt failed: which one it was.
    pub(super) fn failed(&mut self, stream: &StreamId) -> u32 {
        self.running.remove(stream);
        let Some(lane) = self.by_stream.get_mut(stream) else {
            return 0;
        };
        lane.attempts = lane.attempts.saturating_add(1);
        lane.attempts
    }

    /// The event that failed may be tried again.
    pub(super) fn again(&mut self, stream: StreamId) {
        if self.by_stream.contains_key(&stream) {
            self.ready.push_back(stream);
        }
    }

    /// The event was handled. A lane that is empty by that is gone, unless it takes what is held.
    pub(super) fn done(&mut self, stream: &StreamId) -> Next {
        self.running.remove(stream);
        let Some(lane) = self.by_stream.get_mut(stream) else {
            return Next::Empty;
        };
        lane.attempts = 0;
        if let Some(event) = lane.queue.pop_front() {
            self.bytes -= size(&event);
        }
        if !lane.queue.is_empty() {
            self.ready.push_back(stream.clone());
            return Next::Ready;
        }
        if lane.held {
            return Next::Read;
        }
        self.by_stream.remove(stream);
        Next::Empty
    }

    /// Ends the lane: what was in it, in order.
    pub(super) fn close(&mut self, stream: &StreamId) -> VecDeque<Arc<EventEnvelope>> {
        self.running.remove(stream);
        let lane = self.by_stream.remove(stream);
        let queue = lane.map(|lane| lane.queue).unwrap_or_default();
        self.bytes -= queue.iter().map(|event| size(event)).sum::<usize>();
        queue
    }
}

/// What follows when an event was handled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// The next one of its stream waits.
    Ready,
    /// More of what is held has to be read.
    Read,
    /// Nothing of the stream waits.
    Empty,
}

impl Lane {
    fn new(held: bool) -> Self {
        Self {
            queue: VecDeque::new(),
            attempts: 0,
            held,
        }
    }
}

fn size(event: &EventEnvelope) -> usize {
    ENVELOPE_BYTES + event.event.len()
}
