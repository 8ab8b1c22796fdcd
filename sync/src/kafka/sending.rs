//! What is sent next, and to which topics nothing is.

use std::time::Duration;

use tidelog_core::{Error, TRACEPARENT};
use tracing::field::Empty;

use super::broker::{Broker, NotSent, Refusal, Tag};
use super::lane::LaneState;
use super::sink::KafkaSink;
use super::state::Keeper;
use super::suspects::RoundEnd;
use super::topic_gates::Shut;
use crate::replicate::outbox::Outbox;
use crate::replicate::sink::Stop;
use crate::replicate::trace::trace_of;

/// Most bytes in flight, by what each message takes in memory.
const FLYING_BYTES: usize = 16 << 20;

/// What came of one try.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sent {
    Yes,
    /// There is nothing to be sent.
    Nothing,
    /// There is no room, or not known well enough whose place it is.
    Full,
    /// Its topic is not there.
    NoTopic,
    /// It will never be taken.
    TooLarge,
    /// The generation is over.
    Over,
}

impl<B: Broker> KafkaSink<B> {
    /// Sends what may be sent.
    pub(super) fn send(&mut self, outbox: &dyn Outbox, keeper: &mut Keeper) -> Result<(), Stop> {
        for topic in 0..self.topics.len() {
            self.send_suspects(topic, outbox, keeper)?;
        }
        while let Some(id) = self.link.as_mut().and_then(|link| link.ready.pop_front()) {
            let Some(link) = &mut self.link else {
                return Ok(());
            };
            let Some(lane) = link.lanes.get_mut(id) else {
                continue;
            };
            if lane.state != LaneState::Queued {
                continue;
            }
            let at = lane.topic;
            if let Some(topic) = self.topics.get_mut(at)
                && !topic.is_open()
            {
                topic.waiting.push_back(id);
                continue;
            }
            match self.send_lane(id, outbox)? {
                Sent::Yes | Sent::Nothing => {}
                Sent::Full | Sent::Over => {
                    if let Some(link) = &mut self.link {
                        link.ready.push_front(id);
                    }
                    return Ok(());
                }
                Sent::NoTopic => self.wait_for_topic(id, at),
                Sent::TooLarge => self.park_too_large(id, keeper)?,
            }
        }
        Ok(())
    }

    fn wait_for_topic(&mut self, id: u32, at: usize) {
        let now = self.options.env.ticks.now();
        if let Some(topic) = self.topics.get_mut(at) {
            topic.waiting.push_back(id);
            topic.shut(Shut::Missing, now);
            let name = topic.name.clone();
            self.tell_missing(&name);
        }
    }

    pub(super) fn tell_missing(&mut self, topic: &str) {
        self.tell(Error::NoTopic {
            topic: topic.into(),
            remedy: "call `Publishing::ensure_topics`, or let an operator make it",
        });
    }

    fn park_too_large(&mut self, id: u32, keeper: &mut Keeper) -> Result<(), Stop> {
        self.counts.refused += 1;
        if let Some(lane) = self.link.as_mut().and_then(|link| link.lanes.get_mut(id)) {
            lane.refusal = Some(Refusal::TooLarge);
        }
        self.park_lane(id, keeper)
    }

    /// Sends what is next of the round in which the guilty of a topic are found, and ends it.
    fn send_suspects(
        &mut self,
        at: usize,
        outbox: &dyn Outbox,
        keeper: &mut Keeper,
    ) -> Result<(), Stop> {
        loop {
            let Some(topic) = self.topics.get_mut(at) else {
                return Ok(());
            };
            if topic.suspects.is_empty() || topic.next_look().is_some() {
                return Ok(());
            }
            if !topic.suspects.is_in_round() {
                if topic.flying > 0 {
                    return Ok(());
                }
                topic.suspects.begin();
            }
            while let Some(id) = self
                .topics
                .get_mut(at)
                .and_then(|topic| topic.suspects.next())
            {
                let sent = self.send_lane(id, outbox)?;
                let Some(topic) = self.topics.get_mut(at) else {
                    return Ok(());
                };
                match sent {
                    Sent::Yes => topic.suspects.sent(),
                    Sent::Nothing => topic.suspects.skipped(),
                    Sent::Full | Sent::Over => return Ok(()),
                    Sent::NoTopic => {
                        topic.shut(Shut::Missing, self.options.env.ticks.now());
                        // So that somebody looks for it.
                        let name = topic.name.clone();
                        self.tell_missing(&name);
                        return Ok(());
                    }
                    Sent::TooLarge => {
                        topic.suspects.skipped();
                        self.park_too_large(id, keeper)?;
                    }
                }
            }
            let Some(topic) = self.topics.get_mut(at) else {
                return Ok(());
            };
            match topic.suspects.end() {
                None => return Ok(()),
                Some(RoundEnd::GoOn) => {}
                Some(RoundEnd::Guilty(id)) => self.park_lane(id, keeper)?,
            }
            if let Some(link) = &mut self.link {
                link.open(at, &mut self.topics);
            }
        }
    }

    fn send_lane(&mut self, id: u32, outbox: &dyn Outbox) -> Result<Sent, Stop> {
        let holds_its_place = self.holds_its_place();
        let Some(link) = &mut self.link else {
            return Ok(Sent::Nothing);
        };
        if link.flying.bytes() >= FLYING_BYTES {
            return Ok(Sent::Full);
        }
        loop {
            let Some(lane) = link.lanes.get(id) else {
                return Ok(Sent::Nothing);
            };
            if matches!(lane.state, LaneState::Flying { .. }) {
                return Ok(Sent::Nothing);
            }
            let Some(item) = lane.queue.front() else {
                link.lanes.remove(id);
                return Ok(Sent::Nothing);
            };
            if outbox.is_superseded(&lane.stream, item.sequence, item.position) {
                let Some(lane) = link.lanes.get_mut(id) else {
                    return Ok(Sent::Nothing);
                };
                if let Some(item) = lane.pop()
                    && item.is_counted
                {
                    link.progress.done(item.position);
                }
                if lane.state == LaneState::Suspect {
                    // What comes next is no suspect.
                    lane.state = LaneState::Idle;
                    link.queue(id, &mut self.topics);
                    return Ok(Sent::Nothing);
                }
                continue;
            }
            let Some(topic) = self.topics.get_mut(lane.topic) else {
                return Ok(Sent::Nothing);
            };
            if !holds_its_place {
                link.is_proof_wanted = true;
                return Ok(Sent::Full);
            }
            let envelope = item.envelope(&mut link.envelopes).map_err(Stop::local)?;
            let message = self.encoder.message(&envelope, &topic.name);
            let (cost, tag) = (
                message.cost(),
                Tag {
                    generation: self.generation,
                    lane: id,
                },
            );
            match self.broker.send(&message, tag) {
                Ok(()) => {}
                Err(NotSent::Full) => return Ok(Sent::Full),
                Err(NotSent::TooLarge) => return Ok(Sent::TooLarge),
                Err(NotSent::NoTopic) => return Ok(Sent::NoTopic),
                Err(NotSent::Fatal) => return Ok(Sent::Over),
            }
            let now = self.options.env.ticks.now();
            link.flying.sent(cost, now);
            topic.flying += 1;
            self.has_sent = true;
            if let Some(lane) = link.lanes.get_mut(id) {
                lane.state = LaneState::Flying { cost, since: now };
                lane.span = tracing::debug_span!(
                    "publish", stream = %envelope.stream, sequence = envelope.sequence,
                    position = envelope.position, trace = trace_of(&envelope),
                    traceparent = envelope.metadata.get(TRACEPARENT), outcome = Empty,
                );
            }
            return Ok(Sent::Yes);
        }
    }

    /// When it is time to look for topics, wakes whoever polls.
    pub(super) fn set_alarm(&mut self) {
        let now = self.options.env.ticks.now();
        let Some(link) = &mut self.link else {
            return;
        };
        if link.looking.is_some() {
            return;
        }
        let wanted = self.topics.next_look();
        if link.alarm.as_ref().map(|(at, _)| *at) != wanted {
            link.alarm = wanted.map(|at| {
                let left = at.saturating_sub(now).max(Duration::from_millis(1));
                (at, self.options.env.sleeper.sleep(left))
            });
        }
    }
}
