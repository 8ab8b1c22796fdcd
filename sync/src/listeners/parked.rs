//! What a session sets aside, and how it is taken in again.

use std::collections::BTreeMap;
use std::sync::Arc;

use tidelog_core::{
    CheckpointStore, Error, EventEnvelope, EventId, EventLog, HandlerError, ParkedStream, Poison,
    RecordKind, StreamId, StreamQuery, Superseded,
};

use super::control::Reply;
use super::session::{End, HeldPage, MAX_SPAN, Session, ready_to_wait};
use super::unit::answer;

/// Events of a parked stream that are read at once.
const HELD_PAGE: u64 = 64;
/// The reason of a stream none of whose events has failed since it is being taken in again.
const TAKEN_IN: &str = "it is being taken in again";

/// The last of a parked stream's events that is settled.
#[derive(Clone, Copy, Default)]
pub(super) struct Passed {
    pub(super) sequence: u64,
    pub(super) position: Option<u64>,
    pub(super) event_id: Option<EventId>,
}

impl Passed {
    pub(super) fn event(event: &EventEnvelope) -> Self {
        Self {
            sequence: event.sequence,
            position: event.position,
            event_id: Some(event.event_id),
        }
    }
}

impl<S: EventLog + CheckpointStore> Session<'_, S> {
    pub(super) fn resume(&mut self, stream: &StreamId, skip: bool, reply: Reply) {
        if self.ending.is_some() {
            return answer(reply, Err(self.unit.shared.was_told_to_stop()));
        }
        if let Some(replies) = self.resuming.get_mut(stream) {
            if skip {
                let reason = "it is being resumed; skip its event if that fails";
                answer(reply, Err(Error::invalid("stream", stream, reason)));
            } else {
                replies.push(reply);
            }
            return;
        }
        {
            let mut view = self.unit.shared.view();
            match view
                .parked
                .get_mut(stream)
                .filter(|parked| parked.held() > 0)
            {
                // Where none has failed since it is being taken in, none is skipped.
                Some(parked) if skip && parked.attempts > 0 => {
                    parked.sequence += 1;
                    parked.attempts = 0;
                    parked.reason = TAKEN_IN.into();
                }
                Some(_) => {}
                None => {
                    let reason = "nothing of it is parked";
                    return answer(reply, Err(Error::invalid("stream", stream, reason)));
                }
            }
        }
        self.dirty |= skip;
        self.resuming.insert(stream.clone(), vec![reply]);
        self.lanes.open_held(stream);
        self.read_held(stream);
    }

    /// Reads on what is held of `stream`; takes it in as before when that was all.
    pub(super) fn read_held(&mut self, stream: &StreamId) {
        let range = {
            let view = self.unit.shared.view();
            let parked = view.parked.get(stream);
            parked.map(|parked| (parked.sequence, parked.last_sequence))
        };
        let Some((from, to)) = range.filter(|(from, to)| from <= to) else {
            self.lanes.close(stream);
            self.passed_until = passed_until(&self.unit.shared.view().parked);
            self.dirty = true;
            self.forget_passed();
            let replies = self.resuming.remove(stream).unwrap_or_default();
            self.after_saving.extend(replies);
            return;
        };
        let query = StreamQuery::new(stream.clone())
            .from(from)
            .to(to)
            .limit(HELD_PAGE);
        let events = self.unit.store.read_stream(query);
        let stream = stream.clone();
        self.reads.push(Box::pin(async move {
            let events = events.collect().await;
            HeldPage { stream, events }
        }));
    }

    pub(super) fn read(&mut self, page: HeldPage) {
        let HeldPage { stream, events } = page;
        let events = match events {
            Ok(events) => events,
            Err(Error::Closed) => return self.fail(Error::Closed),
            Err(error) => {
                self.lanes.close(&stream);
                for reply in self.resuming.remove(&stream).unwrap_or_default() {
                    answer(reply, Err(error.clone()));
                }
                return;
            }
        };
        let Some(last) = events.last() else {
            // What was held is gone, and its loss was accepted.
            let last = self
                .unit
                .shared
                .view()
                .parked
                .get(&stream)
                .map(|p| p.last_sequence);
            self.pass_held(
                &stream,
                Passed {
                    sequence: last.unwrap_or(0),
                    ..Passed::default()
                },
            );
            return self.read_held(&stream);
        };
        let last = Passed::event(last);
        let mut any = false;
        for event in events {
            if event.kind != RecordKind::Control && self.unit.handler.takes(&event) {
                any = true;
                self.lanes
                    .push_held(event.stream.clone(), ready_to_wait(event));
            }
        }
        if !any {
            self.pass_held(&stream, last);
            self.read_held(&stream);
        }
    }

    /// Events of a stream gave way: hands `record`, which says so, to its lane, unless all that may have
    /// been handled of it stands below.
    pub(super) fn take_superseded(&mut self, mut record: EventEnvelope, what: &Superseded) {
        // What a repair found out stands further on than what it speaks of.
        let position = record.position.unwrap_or(what.at);
        let may_be_handled = {
            let mut view = self.unit.shared.view();
            match view.parked.get_mut(&what.stream) {
                None => true,
                // It was set aside behind this record, in a session before.
                Some(parked) if parked.position > what.at => false,
                Some(parked) if parked.sequence >= what.from => {
                    // What failed gave way, too: nothing is held any more, nor known to be handled.
                    parked.sequence = what.from;
                    parked.last_sequence = what.from - 1;
                    parked.position = what.at;
                    parked.attempts = 0;
                    parked.reason = Box::default();
                    true
                }
                Some(parked) => {
                    let held = parked.held() > 0;
                    parked.last_sequence = parked.last_sequence.min(what.from - 1);
                    !held
                }
            }
        };
        self.passed_until = passed_until(&self.unit.shared.view().parked);
        self.dirty = true;
        if may_be_handled {
            record.stream = what.stream.clone();
            self.lanes
                .push(record.stream.clone(), ready_to_wait(record));
        } else {
            self.settle(position);
        }
    }

    /// The held events of `stream` up to this one are settled. None has failed since.
    pub(super) fn pass_held(&mut self, stream: &StreamId, passed: Passed) {
        self.dirty = true;
        if let Some(parked) = self.unit.shared.view().parked.get_mut(stream) {
            parked.sequence = passed.sequence + 1;
            parked.position = passed.position.unwrap_or(parked.position);
            parked.event_id = passed.event_id.unwrap_or(parked.event_id);
            parked.attempts = 0;
            parked.reason = TAKEN_IN.into();
        }
    }

    pub(super) fn give_up(&mut self, event: &EventEnvelope, error: &HandlerError, attempts: u32) {
        let (stream, position) = (&event.stream, event.position.unwrap_or(0));
        let name = self.unit.shared.name();
        let options = &self.unit.options;
        if self.lanes.is_held(stream) {
            self.lanes.close(stream);
            self.dirty = true;
            let parked_again = {
                let mut view = self.unit.shared.view();
                let parked = view.parked.get_mut(stream);
                parked.map(|parked| {
                    parked.event_id = event.event_id;
                    parked.position = position;
                    parked.sequence = event.sequence;
                    parked.attempts = attempts;
                    parked.since = self.unit.tools.clock.now();
                    parked.reason = ParkedStream::reason_of(error);
                    parked.reason.clone()
                })
            };
            for reply in self.resuming.remove(stream).unwrap_or_default() {
                let refused = Error::Parked {
                    what: self.unit.shared.what(),
                    stream: stream.clone(),
                    position,
                    reason: parked_again.clone().unwrap_or_default(),
                };
                answer(reply, Err(refused));
            }
            return;
        }
        let is_full = {
            let view = self.unit.shared.view();
            let held = view.parked.values().filter(|parked| parked.held() > 0);
            held.count() >= options.max_parked
        };
        let is_record = event.kind == RecordKind::Control;
        if options.poison != Poison::Park || is_full || is_record {
            let source = if options.poison == Poison::Park && !is_record {
                let most = options.max_parked;
                let reason = format!(
                    "{error}; its stream is not parked, since {most} are: raise `max_parked` if their cause stays"
                );
                Arc::clone(HandlerError::permanent(reason).cause())
            } else {
                Arc::clone(error.cause())
            };
            return self.end(End::Failed(Error::Stopped {
                what: self.unit.shared.what(),
                position,
                source,
            }));
        }
        tracing::warn!(
            listener = name, %stream, position, attempts, %error,
            "an event cannot be handled; its stream is parked"
        );
        let queue = self.lanes.close(stream);
        let stands = |event: &&Arc<EventEnvelope>| {
            event.kind != RecordKind::Control && !self.unit.store.is_superseded(event)
        };
        let last = queue.iter().filter(stands).map(|event| event.sequence);
        let last = last.max().unwrap_or(event.sequence);
        let parked = ParkedStream {
            stream: stream.clone(),
            event_id: event.event_id,
            position,
            sequence: event.sequence,
            last_sequence: last,
            attempts,
            since: self.unit.tools.clock.now(),
            reason: ParkedStream::reason_of(error),
        };
        self.dirty = true;
        self.unit
            .shared
            .view()
            .parked
            .insert(stream.clone(), parked);
        for event in queue {
            self.settle(event.position.unwrap_or(0));
        }
    }

    /// What stands only so that events above the mark are not handled again is dropped once the mark
    /// has passed it.
    pub(super) fn forget_passed(&mut self) {
        let mark = self.settled.mark().position;
        if self.passed_until.is_some_and(|until| until <= mark) {
            let mut view = self.unit.shared.view();
            view.parked
                .retain(|_, stream| stream.held() > 0 || stream.position > mark);
            self.passed_until = passed_until(&view.parked);
        }
        if self.settled.span() == 0 {
            self.ahead.clear();
        } else if self.ahead.len() > 2 * MAX_SPAN {
            self.ahead.retain(|_, ahead| ahead.position > mark);
        }
    }

    /// Where it is stopped in order, what was handled above the mark does not come again, either.
    pub(super) fn note_ahead(&mut self) {
        let mark = self.settled.mark().position;
        let now = self.unit.tools.clock.now();
        let mut view = self.unit.shared.view();
        // So many that what is saved stays far below its limit.
        let room = MAX_SPAN.saturating_sub(view.parked.len());
        let ahead = self.ahead.drain();
        for (stream, ahead) in ahead.filter(|(_, ahead)| ahead.position > mark).take(room) {
            // One that was parked, and skipped or resumed since, is further than what was handled before.
            let is_news = view
                .parked
                .get(&stream)
                .is_none_or(|parked| parked.held() == 0 && parked.sequence <= ahead.sequence);
            if is_news {
                let passed = ParkedStream {
                    stream: stream.clone(),
                    event_id: ahead.event_id,
                    position: ahead.position,
                    sequence: ahead.sequence + 1,
                    last_sequence: ahead.sequence,
                    attempts: 0,
                    since: now,
                    reason: Box::default(),
                };
                view.parked.insert(stream, passed);
                self.dirty = true;
            }
        }
    }
}

/// Position of the last entry that holds nothing, if there is one.
pub(super) fn passed_until(parked: &BTreeMap<StreamId, ParkedStream>) -> Option<u64> {
    let passed = parked.values().filter(|stream| stream.held() == 0);
    passed.map(|stream| stream.position).max()
}
