//! What is asked of the cluster while messages go: topics, offsets, whether it is there at all.

use std::task::{Context, Poll};

use tidelog_core::{Error, Halt};

use super::broker::{Broker, BrokerError, Offsets, Place};
use super::link::{Looking, Probing};
use super::sink::KafkaSink;
use super::state::Keeper;
use super::topic_gates::{Gate, Shut, Topic};
use super::window::Stillness;
use crate::replicate::sink::Stop;

impl<B: Broker> KafkaSink<B> {
    /// What a failed request means for the connection.
    pub(super) fn stop(&mut self, error: BrokerError, action: &str) -> Stop {
        match error {
            BrokerError::Denied(reason) => self.denied(action, reason),
            BrokerError::NoTopic(topic) => Stop::Trouble(Error::NoTopic {
                topic,
                remedy: "call `Publishing::ensure_topics`, or let an operator make it",
            }),
            BrokerError::Passing(error) => Stop::Trouble(error),
            BrokerError::Fenced => Stop::Trouble(Error::Unreachable {
                server: self.options.server.clone(),
                action: action.into(),
                reason: "another copy of this store came in between".into(),
            }),
        }
    }

    /// What a refusal means: nothing yet, a few times in a row.
    pub(super) fn denied(&mut self, action: &str, reason: Box<str>) -> Stop {
        let action = action.into();
        if self.denials.count(self.options.env.ticks.now()) {
            return Halt::Refused { action, reason }.into();
        }
        Stop::Trouble(Error::ServerRefused {
            server: self.options.server.clone(),
            action,
            reason,
        })
    }

    /// Looks for topics that something waits for, when it is time.
    pub(super) fn look_for_topics(&mut self, cx: &mut Context<'_>) {
        let now = self.options.env.ticks.now();
        self.set_alarm();
        let Some(link) = &mut self.link else {
            return;
        };
        if link.looking.is_some() {
            return;
        }
        if let Some((_, alarm)) = &mut link.alarm
            && alarm.as_mut().poll(cx).is_ready()
        {
            link.alarm = None;
        }
        let due = self.topics.due(now);
        if due.is_empty() {
            return;
        }
        let (topics, names) = due.into_iter().unzip();
        link.alarm = None;
        link.looking = Some(Looking {
            topics,
            answer: self.broker.cluster(names),
        });
        // So that it is polled.
        cx.waker().wake_by_ref();
    }

    pub(super) fn poll_looking(&mut self, cx: &mut Context<'_>) -> Result<bool, Stop> {
        let now = self.options.env.ticks.now();
        let Some(looking) = self.link.as_mut().and_then(|link| link.looking.as_mut()) else {
            return Ok(false);
        };
        let Poll::Ready(answer) = looking.answer.as_mut().poll(cx) else {
            return Ok(false);
        };
        let asked = std::mem::take(&mut looking.topics);
        if let Some(link) = &mut self.link {
            link.looking = None;
        }
        match answer {
            Ok(cluster) => {
                for (at, partitions) in asked.into_iter().zip(cluster.topics) {
                    let Some(topic) = self.topics.get_mut(at) else {
                        continue;
                    };
                    if partitions.is_some() {
                        topic.gate = Gate::Open;
                        if let Some(link) = &mut self.link {
                            link.open(at, &mut self.topics);
                        }
                    } else {
                        topic.shut(Shut::Missing, now);
                        let name = topic.name.clone();
                        self.tell_missing(&name);
                    }
                }
            }
            Err(error) => {
                for at in asked {
                    if let Some(topic) = self.topics.get_mut(at) {
                        topic.shut(Shut::Failing, now);
                    }
                }
                match self.stop(error, "look for topics") {
                    // Other topics go on.
                    Stop::Trouble(error) => self.tell(error),
                    stop => return Err(stop),
                }
            }
        }
        Ok(true)
    }

    /// Every place that something was written to, and the newest offset there.
    pub(super) fn places(&self) -> Vec<(Place, i64)> {
        let of = |topic: &Topic| {
            let place = |partition| Place {
                topic: topic.name.clone(),
                partition,
            };
            let offsets = topic.offsets();
            let known: Vec<_> = offsets.map(|(at, offset)| (place(at), offset)).collect();
            known
        };
        self.topics.iter().flat_map(of).collect()
    }

    /// Looks whether places still have what they had.
    pub(super) fn begin_probing(&mut self) {
        let places = self.places();
        let Some(link) = &mut self.link else {
            return;
        };
        if link.probing.is_some() || places.is_empty() {
            return;
        }
        let asked = places.iter().map(|(place, _)| place.clone()).collect();
        link.probing = Some(Probing {
            places,
            answer: self.broker.offsets(asked),
        });
    }

    pub(super) fn poll_probing(
        &mut self,
        cx: &mut Context<'_>,
        keeper: &mut Keeper,
    ) -> Result<bool, Stop> {
        let Some(probing) = self.link.as_mut().and_then(|link| link.probing.as_mut()) else {
            return Ok(false);
        };
        let Poll::Ready(answer) = probing.answer.as_mut().poll(cx) else {
            return Ok(false);
        };
        let places = std::mem::take(&mut probing.places);
        if let Some(link) = &mut self.link {
            link.probing = None;
        }
        match answer {
            Ok(offsets) => self.compare(&places, &offsets, keeper),
            // It is looked again some time.
            Err(BrokerError::Passing(_) | BrokerError::NoTopic(_)) => {}
            Err(error) => return Err(self.stop(error, "look at topics")),
        }
        Ok(true)
    }

    /// Finds places that have less than they had.
    pub(super) fn compare(
        &mut self,
        places: &[(Place, i64)],
        offsets: &[Offsets],
        keeper: &mut Keeper,
    ) {
        for ((place, known), found) in places.iter().zip(offsets) {
            if let Offsets::There { high, .. } = found
                && high <= known
            {
                self.topics.restart(&place.topic, place.partition, high - 1);
                self.began_again(place, high - 1, keeper);
            }
        }
    }

    /// Whether reports stand still: then another generation goes on.
    pub(super) fn watch(&mut self, cx: &mut Context<'_>) -> Result<bool, Stop> {
        let now = self.options.env.ticks.now();
        let Some(link) = &mut self.link else {
            return Ok(false);
        };
        let is_lost = match (&mut link.asking, self.watchdog.look(&link.flying, now)) {
            (Some(asking), _) => {
                let Poll::Ready(answer) = asking.as_mut().poll(cx) else {
                    return Ok(false);
                };
                link.asking = None;
                // Where nobody answers, reports cannot come.
                if answer.is_err() {
                    self.watchdog.renewed(now);
                }
                answer.is_ok()
            }
            (None, Stillness::None) => false,
            (None, Stillness::Lost) => true,
            (None, Stillness::Maybe) => {
                link.asking = Some(self.broker.cluster(Vec::new()));
                cx.waker().wake_by_ref();
                false
            }
        };
        if !is_lost {
            return Ok(false);
        }
        self.watchdog.renewed(now);
        self.tell(Error::Unreachable {
            server: self.options.server.clone(),
            action: "publish".into(),
            reason: "reports stand still; another producer goes on".into(),
        });
        self.renew()?;
        Ok(true)
    }
}
