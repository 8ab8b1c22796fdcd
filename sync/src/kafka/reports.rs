//! What follows from each report, and from the end of a generation.

use tidelog_core::Error;

use super::broker::{Broker, Fatal, Outcome, Place, Report, Trouble};
use super::lane::LaneState;
use super::sink::KafkaSink;
use super::state::Keeper;
use super::topic_gates::Shut;
use crate::replicate::sink::Stop;

impl<B: Broker> KafkaSink<B> {
    pub(super) fn heard(&mut self, report: Report, keeper: &mut Keeper) -> Result<(), Stop> {
        if report.tag.generation != self.generation {
            return Ok(());
        }
        let id = report.tag.lane;
        let Some(link) = &mut self.link else {
            return Ok(());
        };
        let Some(lane) = link.lanes.get_mut(id) else {
            return Ok(());
        };
        let LaneState::Flying { cost, since } = lane.state else {
            return Ok(());
        };
        let at = lane.topic;
        lane.state = LaneState::Idle;
        let span = std::mem::replace(&mut lane.span, tracing::Span::none());
        span.record("outcome", report.outcome.name());
        link.flying.landed(cost, since);
        if let Some(topic) = self.topics.get_mut(at) {
            topic.flying = topic.flying.saturating_sub(1);
        }
        match report.outcome {
            Outcome::Delivered { partition, offset } => {
                self.delivered(id, at, (partition, offset), keeper);
                Ok(())
            }
            Outcome::Refused(refusal) => {
                self.counts.refused += 1;
                lane.refusal = Some(refusal);
                lane.state = LaneState::Suspect;
                if let Some(topic) = self.topics.get_mut(at) {
                    if topic.suspects.is_in_round() {
                        topic.suspects.refused(id);
                    } else {
                        topic.suspects.accuse(id);
                    }
                }
                Ok(())
            }
            Outcome::Purged => {
                self.again(id, at);
                Ok(())
            }
            Outcome::Failed(trouble) => self.failed(id, at, trouble),
        }
    }

    fn delivered(
        &mut self,
        id: u32,
        at: usize,
        (partition, offset): (i32, i64),
        keeper: &mut Keeper,
    ) {
        let Some(link) = &mut self.link else {
            return;
        };
        link.has_delivered = true;
        self.denials.end();
        self.counts.delivered += 1;
        let mut began_again = None;
        if let Some(topic) = self.topics.get_mut(at) {
            topic.suspects.delivered();
            if !topic.note_offset(partition, offset) {
                began_again = Some(topic.name.clone());
            }
        }
        if let Some(lane) = link.lanes.get_mut(id)
            && let Some(item) = lane.pop()
        {
            if item.position <= link.sent_before {
                self.counts.again += 1;
            }
            if item.is_counted {
                link.progress.done(item.position);
            }
        }
        link.queue(id, &mut self.topics);
        if let Some(topic) = began_again {
            let place = Place { topic, partition };
            self.began_again(&place, offset, keeper);
        }
    }

    /// A place has less than it had: what was published last is published again, and the rest is for a
    /// person to ask for. That it is to be is kept by the same save as what shows it no more, and before
    /// anything else is sent.
    pub(super) fn began_again(&mut self, place: &Place, newest: i64, keeper: &mut Keeper) {
        let topic = &place.topic;
        tracing::warn!(
            %topic, partition = place.partition,
            "the topic began again, or lost what it had acknowledged: what was published last is published \
             again; `republish` refills the rest"
        );
        metrics::counter!("tidelog_sink_topics_restarted_total", "sink" => "kafka").increment(1);
        let state = keeper.change();
        state.note_place(place.clone(), newest);
        state.note_restarted(topic);
        self.lost(keeper);
    }

    /// What was published last is published again, on another connection.
    fn lost(&mut self, keeper: &mut Keeper) {
        keeper.change().want_again(self.options.overlap);
        if let Some(link) = &mut self.link {
            (link.has_lost, link.is_again_wanted) = (true, true);
        }
    }

    /// Nothing is known of a message: it is sent again.
    fn again(&mut self, id: u32, at: usize) {
        if let Some(topic) = self.topics.get_mut(at)
            && topic.suspects.is_in_round()
        {
            topic.suspects.again(id);
            if let Some(lane) = self.link.as_mut().and_then(|link| link.lanes.get_mut(id)) {
                lane.state = LaneState::Suspect;
            }
        } else if let Some(link) = &mut self.link {
            link.queue(id, &mut self.topics);
        }
    }

    fn failed(&mut self, id: u32, at: usize, trouble: Trouble) -> Result<(), Stop> {
        let now = self.options.env.ticks.now();
        let Some(topic) = self.topics.get_mut(at) else {
            return Ok(());
        };
        let was_open = topic.next_look().is_none();
        let name = topic.name.clone();
        if was_open {
            let why = match &trouble {
                Trouble::NoTopic => Shut::Missing,
                _ => Shut::Failing,
            };
            topic.shut(why, now);
        }
        self.again(id, at);
        if !was_open {
            return Ok(());
        }
        match trouble {
            Trouble::NoTopic => self.tell_missing(&name),
            Trouble::Clock => self.tell(Error::ServerRefused {
                server: self.options.server.clone(),
                action: format!("publish to {name}").into(),
                reason: format!(
                    "this machine's clock is ahead of the broker's, and the topic takes the sender's time: set \
                     message.timestamp.type=LogAppendTime on {name}, or the clock right"
                )
                .into(),
            }),
            Trouble::Denied(reason) => match self.denied(&format!("publish to {name}"), reason) {
                // Other topics go on.
                Stop::Trouble(error) => self.tell(error),
                stop => return Err(stop),
            },
            Trouble::Passing(reason) => self.tell(Error::Unreachable {
                server: self.options.server.clone(),
                action: format!("publish to {name}").into(),
                reason,
            }),
        }
        Ok(())
    }

    /// The generation gave up.
    pub(super) fn over(&mut self, fatal: Fatal, keeper: &mut Keeper) -> Result<(), Stop> {
        self.counts.fatals += 1;
        tracing::warn!(
            reason = %fatal.reason, lost_data = fatal.lost_data,
            "the producer gave up; another one goes on"
        );
        let has_delivered = self.link.as_ref().is_some_and(|link| link.has_delivered);
        if fatal.lost_data {
            self.lost(keeper);
        }
        if !has_delivered {
            return Err(Stop::Trouble(Error::Unreachable {
                server: self.options.server.clone(),
                action: "publish".into(),
                reason: fatal.reason,
            }));
        }
        if fatal.lost_data {
            return Ok(());
        }
        self.renew()
    }

    /// Begins a new generation under the same connection: what was in flight is sent again.
    pub(super) fn renew(&mut self) -> Result<(), Stop> {
        self.begin_generation()?;
        let Some(link) = &mut self.link else {
            return Ok(());
        };
        link.has_delivered = false;
        link.flying = super::window::Flying::default();
        let flying: Vec<u32> = link.lanes.flying().collect();
        for id in flying {
            let Some(lane) = self.link.as_mut().and_then(|link| link.lanes.get_mut(id)) else {
                continue;
            };
            lane.state = LaneState::Idle;
            let at = lane.topic;
            if let Some(topic) = self.topics.get_mut(at) {
                topic.flying = 0;
            }
            self.again(id, at);
        }
        Ok(())
    }
}
