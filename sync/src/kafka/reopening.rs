//! Streams that were set aside, published again: from the first event held up to where the log is taken.
//!
//! The entry of such a stream stands until all of that is delivered, so that a crash in between leaves it
//! set aside, and what is taken meanwhile is found when its turn comes.

use std::task::{Context, Poll};

use tidelog_core::{BoxFuture, Error, EventEnvelope, StreamId, Superseded};

use super::broker::Broker;
use super::lane::{Item, LaneState};
use super::sink::KafkaSink;
use super::state::Keeper;
use super::topic_gates::Topic;
use crate::replicate::ParkedReason;
use crate::replicate::outbox::{LocalEvent, Outbox, Pass};
use crate::replicate::sink::Stop;

/// Bytes read of a stream at once.
const PAGE_BYTES: usize = 256 << 10;

/// One stream on its way back.
pub(super) struct Reopening {
    /// The sequence that is read next.
    next: u64,
    /// Something of the stream was taken since it was read.
    missed: bool,
    /// Its newest events gave way: it is read again from this sequence on.
    back_to: Option<u64>,
    /// A person asked for it: its first event goes alone.
    goes_alone: bool,
    stage: Stage,
}

enum Stage {
    /// For its turn.
    Waits,
    /// What was taken when it began to be read.
    Reads(u64, BoxFuture<'static, Result<Vec<EventEnvelope>, Error>>),
    /// What was read is on its way, and this follows.
    Sends(Option<LocalEvent>),
}

impl Reopening {
    pub(super) fn from(sequence: u64, goes_alone: bool) -> Self {
        Self {
            next: sequence,
            missed: false,
            back_to: None,
            goes_alone,
            stage: Stage::Waits,
        }
    }

    pub(super) fn goes_alone(&self) -> bool {
        self.goes_alone
    }

    /// Something of its stream was taken, which its entry holds.
    pub(super) fn miss(&mut self) {
        self.missed = true;
    }
}

impl<B: Broker> KafkaSink<B> {
    /// Publishes what is held of a stream; nothing if it is under way, or nothing is.
    pub(super) fn reopen(&mut self, stream: &StreamId, goes_alone: bool, keeper: &Keeper) {
        let topic = self
            .topics
            .of_type(stream.aggregate_type(), &mut self.encoder);
        let Some(link) = &mut self.link else {
            return;
        };
        if let Some(entry) = keeper.state().parked.get(stream)
            && !link.reopening.contains(stream)
        {
            let reopening = Reopening::from(entry.first_sequence, goes_alone);
            // Those without one are no topic's.
            let topic = topic.unwrap_or(usize::MAX);
            link.reopening.insert(stream.clone(), topic, reopening);
        }
    }

    /// Publishes what the gate held and does not any more.
    pub(super) fn reopen_gate(&mut self, outbox: &dyn Outbox, keeper: &Keeper) {
        let held = keeper.state().parked.values();
        let withheld = held.filter(|entry| entry.reason == ParkedReason::NotReplicated);
        let free: Vec<StreamId> = withheld
            .filter(|entry| outbox.passes(&entry.stream, &entry.local()) != Pass::Held)
            .map(|entry| entry.stream.clone())
            .collect();
        for stream in free {
            self.reopen(&stream, false, keeper);
        }
    }

    /// The log says that events of a stream gave way: what held them holds what took their place, and
    /// that is published.
    pub(super) fn supersede(&mut self, what: &Superseded, keeper: &mut Keeper) {
        let Some(entry) = keeper.state().parked.get(&what.stream) else {
            return;
        };
        if entry.first_sequence < what.from || entry.first_position >= what.at {
            return;
        }
        keeper.change_now(|state| {
            if let Some(entry) = state.parked.get_mut(&what.stream) {
                entry.first_sequence = what.from;
            }
        });
        let reopening = self
            .link
            .as_mut()
            .and_then(|link| link.reopening.get_mut(&what.stream));
        match reopening {
            Some(reopening) => reopening.back_to = Some(what.from),
            None => self.reopen(&what.stream, false, keeper),
        }
    }

    /// Goes on with every stream on its way back; whether anything has moved.
    pub(super) fn poll_reopening(
        &mut self,
        cx: &mut Context<'_>,
        outbox: &dyn Outbox,
        keeper: &mut Keeper,
    ) -> Result<bool, Stop> {
        let Some(link) = &mut self.link else {
            return Ok(false);
        };
        if link.reopening.is_empty() || link.pass.is_some() {
            return Ok(false);
        }
        let topics = &self.topics;
        let is_shut = |topic| topics.get(topic).is_some_and(Topic::is_shut);
        let streams = link.reopening.turns(is_shut);
        let mut has_moved = false;
        for stream in streams {
            while self.step_reopening(&stream, cx, outbox, keeper)? {
                has_moved = true;
                let reopening = self.link.as_ref().map(|link| &link.reopening);
                if reopening.is_none_or(|reopening| !reopening.has_turn(&stream)) {
                    break;
                }
            }
        }
        Ok(has_moved)
    }

    fn step_reopening(
        &mut self,
        stream: &StreamId,
        cx: &mut Context<'_>,
        outbox: &dyn Outbox,
        keeper: &mut Keeper,
    ) -> Result<bool, Stop> {
        let Some(link) = &mut self.link else {
            return Ok(false);
        };
        let Some(reopening) = link.reopening.get_mut(stream) else {
            return Ok(false);
        };
        match &mut reopening.stage {
            Stage::Waits => {
                if link.holds.contains_key(stream) {
                    return Ok(false);
                }
                if let Some(sequence) = reopening.back_to.take() {
                    reopening.next = reopening.next.min(sequence);
                }
                reopening.missed = false;
                let page = outbox.events(stream, reopening.next, u64::MAX, PAGE_BYTES);
                reopening.stage = Stage::Reads(link.taken, page);
                Ok(true)
            }
            Stage::Reads(taken, page) => {
                let Poll::Ready(page) = page.as_mut().poll(cx) else {
                    return Ok(false);
                };
                let taken = *taken;
                let page = page.map_err(Stop::local)?;
                self.read_again(stream, taken, page, outbox, keeper)?;
                Ok(true)
            }
            Stage::Sends(then) => {
                let lane = link.lanes.find(stream).and_then(|id| link.lanes.get(id));
                if lane.is_some_and(|lane| lane.uncounted > 0) {
                    return Ok(false);
                }
                let then = *then;
                match then {
                    // It may have been let go since it was read, and nobody says so twice.
                    Some(held)
                        if reopening.back_to.is_none()
                            && outbox.passes(stream, &held) == Pass::Held =>
                    {
                        link.reopening.remove(stream);
                        let reason = ParkedReason::NotReplicated;
                        self.set_aside(stream, held, reason, Vec::new(), keeper)?;
                    }
                    _ => {
                        reopening.stage = Stage::Waits;
                        link.reopening.has_had_its_turn(stream);
                        return Ok(true);
                    }
                }
                Ok(true)
            }
        }
    }

    fn read_again(
        &mut self,
        stream: &StreamId,
        taken: u64,
        page: Vec<EventEnvelope>,
        outbox: &dyn Outbox,
        keeper: &mut Keeper,
    ) -> Result<(), Stop> {
        let mut items: Vec<Item> = Vec::new();
        let mut held = None;
        for event in page {
            let item = Item::of_event(event);
            if item.position > taken {
                break;
            }
            match outbox.passes(stream, &item.local()) {
                Pass::Yes => items.push(item),
                Pass::Superseded => {}
                Pass::Held => {
                    held = Some(item.local());
                    break;
                }
            }
        }
        let topic = self
            .topics
            .of_type(stream.aggregate_type(), &mut self.encoder);
        let Some(link) = &mut self.link else {
            return Ok(());
        };
        let Some(reopening) = link.reopening.get_mut(stream) else {
            return Ok(());
        };
        if let (Some(first), Err(reason)) = (items.first(), &topic) {
            let (first, reason) = (first.local(), ParkedReason::Refused(reason.clone()));
            link.reopening.remove(stream);
            return self.set_aside(stream, first, reason, Vec::new(), keeper);
        }
        let (Some(last), Ok(topic)) = (items.last(), topic) else {
            let is_done = held.is_none() && !reopening.missed && reopening.back_to.is_none();
            if is_done {
                link.reopening.remove(stream);
                keeper.change_parked().parked.remove(stream);
                link.noted = None;
                tracing::info!(%stream, "a stream that was set aside is published");
            } else {
                reopening.stage = Stage::Sends(held);
            }
            return Ok(());
        };
        reopening.next = last.sequence + 1;
        reopening.stage = Stage::Sends(held);
        let goes_alone = std::mem::take(&mut reopening.goes_alone);
        let id = link.lanes.of(stream, topic);
        let Some(lane) = link.lanes.get_mut(id) else {
            return Ok(());
        };
        let is_free = lane.state == LaneState::Idle && lane.queue.is_empty();
        for item in items {
            lane.push(item);
        }
        if goes_alone
            && is_free
            && let Some(topic) = self.topics.get_mut(topic)
        {
            lane.state = LaneState::Suspect;
            topic.suspects.accuse(id);
        } else {
            link.queue(id, &mut self.topics);
        }
        Ok(())
    }
}
