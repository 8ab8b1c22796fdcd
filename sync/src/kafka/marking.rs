//! Whose place it is, and how long that counts.
//!
//! A record in Kafka says how far a store is. Only one of its copies can write it: whoever claims the
//! store takes the fence, and from then on Kafka refuses what the others write. So each record written
//! is a proof that no copy had taken the place when that began, and it counts for [`HELD_FOR`]: nothing
//! is sent later than that without another. While something is sent or in flight one is written every
//! second anyway, also when it says nothing new, and once more after the last message; a store that rests
//! writes none. Whoever begins again after a rest writes one first.
//!
//! Who is refused one ends its producer with all that is queued, and the record tells who it was. So two
//! copies never publish for long, and never unnoticed. What stays possible: messages of the last ten
//! seconds before that, and what librdkafka had on its way (one message of a stream). And one thing is
//! not noticed: a machine that is doubled with its memory, as a hypervisor does it, has one fence twice.

use std::task::{Context, Poll};
use std::time::Duration;

use tidelog_core::Error;

use super::broker::{Broker, BrokerError};
use super::claim::to_tell;
use super::link::Marking;
use super::sink::KafkaSink;
use super::state::Keeper;
use crate::replicate::outbox::Outbox;
use crate::replicate::sink::Stop;

/// How long it counts that no copy had taken the place: so long two may send beside each other.
const HELD_FOR: Duration = Duration::from_secs(10);

impl<B: Broker> KafkaSink<B> {
    /// Whether it is known well enough that no copy has taken the place of this store.
    pub(super) fn holds_its_place(&self) -> bool {
        let is_held = |since: Duration| {
            let now = self.options.env.ticks.now();
            now.saturating_sub(since) < HELD_FOR
        };
        !self.options.is_alone || self.greeted.is_some() && is_held(self.held_at)
    }

    /// Writes a record, where there is news or a proof is due; whether it does.
    pub(super) fn begin_marking(
        &mut self,
        outbox: &dyn Outbox,
        keeper: &Keeper,
    ) -> Result<bool, Stop> {
        let Some(link) = &mut self.link else {
            return Ok(false);
        };
        link.is_note_wanted = false;
        if !self.options.is_alone || link.marking.is_some() || self.greeted.is_none() {
            return Ok(false);
        }
        let settled = link.settled();
        let told = to_tell(settled, outbox, keeper)?;
        link.noted = Some(settled.position);
        let is_due = self.has_sent || link.flying.count() > 0 || link.is_proof_wanted;
        if told == link.marked && !is_due {
            return Ok(false);
        }
        // What is sent from now on is for the next one.
        self.has_sent = false;
        let (identity, session) = (link.identity, keeper.state().session);
        let record = self.record_of(identity, session, told, self.greeted.as_ref());
        let begun = self.options.env.ticks.now();
        let marking = self.broker.mark(record);
        if let Some(link) = &mut self.link {
            link.marking = Some(Marking {
                at: told,
                begun,
                answer: marking,
            });
        }
        Ok(true)
    }

    pub(super) fn poll_marking(&mut self, cx: &mut Context<'_>) -> Result<bool, Stop> {
        let Some(link) = &mut self.link else {
            return Ok(false);
        };
        let Some(marking) = &mut link.marking else {
            return Ok(false);
        };
        let Poll::Ready(done) = marking.answer.as_mut().poll(cx) else {
            return Ok(false);
        };
        let (at, begun) = (marking.at, marking.begun);
        link.marking = None;
        link.is_proof_wanted = false;
        match done {
            Ok(()) => {
                link.marked = at;
                self.held_at = begun;
                self.denials.end();
                if let Some(record) = &mut self.greeted {
                    (record.position, record.commit, record.hash) =
                        (at.position, at.number, at.hash);
                }
                if !self.holds_its_place() {
                    self.tell(Error::Unreachable {
                        server: self.options.server.clone(),
                        action: "note how far this store is".into(),
                        reason: "the answer takes so long that nobody knows whose place it is; \
                                 nothing is sent meanwhile"
                            .into(),
                    });
                }
            }
            // Who it was, the record tells.
            Err(BrokerError::Fenced) => {
                self.greeted = None;
                link.is_again_wanted = true;
            }
            Err(error) => {
                self.has_sent = true;
                return Err(self.stop(error, "note how far this store is"));
            }
        }
        Ok(true)
    }
}
