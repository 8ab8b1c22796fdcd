//! What is sent when, and what follows from each answer.

use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use tidelog_backends::wire::{LogPlace, Request, WireError};
use tidelog_core::{Error, EventEnvelope, Halt, StreamId, TRACEPARENT};

use super::arbitrate::Turn;
use super::link::{Answer, Then};
use super::log_rows::Unsent;
use super::probe::Probed;
use super::sink::ScyllaSink;
use super::turns::Formed;
use super::watermark::{Advance, Noted, watermark};
use crate::replicate::outbox::Outbox;
use crate::replicate::sink::{Sink, Stop};
use crate::replicate::trace::trace_of;
use crate::scylla::state::Keeper;

/// A connection that was silent for so long is asked whether it lives before it is used.
const SILENT: Duration = Duration::from_secs(5);

impl ScyllaSink {
    /// Sends what may be sent.
    pub(super) fn send(
        &mut self,
        now: Duration,
        outbox: &Arc<dyn Outbox>,
        keeper: &mut Keeper,
    ) -> Result<(), Stop> {
        if self.pings(now) {
            return Ok(());
        }
        self.tell_of_parked(keeper);
        let Some(link) = &mut self.link else {
            return Ok(());
        };
        while let Some(batch) = link.log.next() {
            let sent = batch.send(Arc::clone(&self.wire));
            link.running
                .push(Box::pin(async move { Answer::Log(sent.await) }));
        }
        while let Some(stream) = self
            .link
            .as_mut()
            .and_then(|link| link.lanes.next(self.options.lanes))
        {
            self.send_lane(&stream, outbox, keeper)?;
        }
        let Some(link) = &mut self.link else {
            return Ok(());
        };
        if std::mem::take(&mut link.is_note_wanted) && link.noting.is_none() {
            let settled = link.settled();
            let seen = link.greeting.watermark;
            let published = self.published.get().unwrap_or(link.greeting.published);
            if settled.position != seen.position || published != link.greeting.published {
                let advance = Advance {
                    wire: Arc::clone(&self.wire),
                    origin: link.greeting.identity.origin,
                    epoch: link.greeting.identity.epoch,
                    seen,
                    to: watermark(seen.session, settled),
                    published,
                };
                link.telling = published;
                link.noting = Some(Box::pin(advance.run()));
            }
        }
        Ok(())
    }

    /// Whether it waits for an answer to be sure that there is still somebody who gives one.
    fn pings(&mut self, now: Duration) -> bool {
        let Some(link) = &mut self.link else {
            return false;
        };
        let is_silent = link.running.is_empty() && link.noting.is_none();
        let is_wanted = link.log.is_waiting()
            || link.is_note_wanted
            || !link.lanes.is_empty()
            || !link.pending.is_empty();
        if is_silent && is_wanted && now.saturating_sub(link.heard) >= SILENT {
            link.is_pinging = true;
            let wire = Arc::clone(&self.wire);
            link.running.push(Box::pin(async move {
                Answer::Pinged(wire.ask(Request::Ping).await)
            }));
        }
        link.is_pinging
    }

    pub(super) fn poll_noting(&mut self, cx: &mut Context<'_>) -> Poll<Result<Noted, WireError>> {
        let Some(noting) = self.link.as_mut().and_then(|link| link.noting.as_mut()) else {
            return Poll::Pending;
        };
        noting.as_mut().poll(cx)
    }

    pub(super) fn noted(
        &mut self,
        noted: Result<Noted, WireError>,
        keeper: &mut Keeper,
    ) -> Result<(), Stop> {
        if let Some(link) = &mut self.link {
            link.noting = None;
        }
        match noted.map_err(|error| self.stop(error, "note how far this store is"))? {
            Noted::At(mark) => {
                self.counts.watermark = mark.position;
                if let Some(link) = &mut self.link {
                    link.greeting.watermark = mark;
                    link.greeting.published = link.telling;
                }
                keeper.change();
                Ok(())
            }
            Noted::Lower(mark) => {
                tracing::warn!(
                    watermark = mark.position,
                    "the server lost how far this store was; everything is sent again"
                );
                self.rewind();
                Ok(())
            }
            Noted::Gone => Err(Stop::Trouble(Error::Unreachable {
                server: self.options.server.clone(),
                action: "note how far this store is".into(),
                reason: "it does not know this store any more".into(),
            })),
            Noted::Taken(halt) => Err(halt.into()),
        }
    }

    pub(super) fn answered(
        &mut self,
        answer: Answer,
        outbox: &Arc<dyn Outbox>,
        keeper: &mut Keeper,
    ) -> Result<(), Stop> {
        match answer {
            Answer::Log(arrived) => {
                let positions = arrived.map_err(|unsent| match unsent {
                    Unsent::TooLarge(halt) => halt.into(),
                    Unsent::Failed(error) => self.stop(error, "write to its log"),
                })?;
                self.arrived(&positions, &**outbox, keeper)
            }
            Answer::Lane(stream, done) => self.lane_answered(&stream, *done, outbox, keeper),
            Answer::Told(key, change, told) => {
                told.map_err(|error| self.stop(error, "list what is parked"))?;
                self.told(&key, change, keeper);
                Ok(())
            }
            Answer::Held(stream, events) => self.held_read(&stream, events, outbox, keeper),
            Answer::Retried(stream, done) => self.retried(&stream, *done, outbox, keeper),
            Answer::Pinged(pinged) => {
                if let Some(link) = &mut self.link {
                    link.is_pinging = false;
                }
                if let Err(error) = pinged {
                    self.is_fresh_wanted = true;
                    return Err(self.stop(error, "answer"));
                }
                Ok(())
            }
            Answer::LetGo(done) => {
                if let Err(error) = done {
                    // The next look tries again.
                    tracing::debug!(%error, "what another copy has parked is not resolved");
                }
                Ok(())
            }
            Answer::Probed(probed) => {
                if let Some(link) = &mut self.link {
                    link.is_probing = false;
                }
                match probed.map_err(|error| self.stop(error, "look at what it has"))? {
                    Probed::Fine(rows) if rows.is_empty() => {}
                    Probed::Fine(rows) => self.look_at_others(rows, outbox),
                    Probed::Lost => {
                        tracing::warn!("the server lost what it had; everything is sent again");
                        self.rewind();
                    }
                    Probed::Unknown => {
                        if let Some(link) = &mut self.link {
                            link.is_again_wanted = true;
                        }
                    }
                    Probed::Taken(halt) => return Err(halt.into()),
                }
                Ok(())
            }
        }
    }

    /// Rows of the log are there: what waited for them goes on, in the order of the log.
    fn arrived(
        &mut self,
        positions: &[u64],
        outbox: &dyn Outbox,
        keeper: &mut Keeper,
    ) -> Result<(), Stop> {
        let Some(link) = &mut self.link else {
            return Ok(());
        };
        link.log.arrived();
        for position in positions {
            let at = link
                .commits
                .partition_point(|commit| commit.first <= *position);
            if let Some(commit) = at.checked_sub(1).and_then(|at| link.commits.get_mut(at)) {
                commit.rows_left = commit.rows_left.saturating_sub(1);
            }
            link.progress.done(*position);
        }
        while let Some(link) = &mut self.link
            && link
                .commits
                .front()
                .is_some_and(|commit| commit.rows_left == 0)
            && let Some(commit) = link.commits.pop_front()
        {
            for then in commit.then {
                match then {
                    Then::Send(stream, item) => {
                        if item.is_of_several {
                            self.tear_held(&stream, &item, outbox, keeper)?;
                        }
                        if let Some(link) = &mut self.link {
                            link.lanes.push(&stream, item);
                        }
                    }
                    Then::Supersede(what) => self.supersede(&what, keeper),
                }
            }
        }
        Ok(())
    }

    /// Sends what a lane has next.
    fn send_lane(
        &mut self,
        stream: &StreamId,
        outbox: &Arc<dyn Outbox>,
        keeper: &mut Keeper,
    ) -> Result<(), Stop> {
        let Some(formed) = self.form(stream, &**outbox, keeper)? else {
            if let Some(link) = &mut self.link {
                link.lanes.make_ready(stream);
            }
            return Ok(());
        };
        let Some(link) = &mut self.link else {
            return Ok(());
        };
        let Formed {
            items,
            before,
            only_looks,
        } = formed;
        let origin = link.greeting.identity.origin;
        let rows = items.iter().map(|item| {
            let epoch = keeper.state().epoch_of(item.position);
            item.row(origin, epoch)
        });
        let rows = rows.collect::<Result<Vec<_>, _>>().map_err(Stop::local)?;
        let verify_below = link.greeting.verify_below;
        let verify = items
            .first()
            .is_some_and(|item| item.position <= verify_below);
        let turn = Turn {
            wire: Arc::clone(&self.wire),
            outbox: Arc::clone(outbox),
            origin,
            bucket_events: link.greeting.replica.bucket_events,
            stream: stream.clone(),
            before: before.map(|(place, _)| place),
            is_sealed: before.is_some_and(|(_, is_sealed)| is_sealed),
            rows,
            verify,
            only_looks,
        };
        // One for each event: those of a turn may have come of different requests.
        let spans = turn.rows.iter().map(|row| span(&row.event, row.place));
        let spans: Vec<_> = spans.filter(|span| !span.is_disabled()).collect();
        link.lanes.sent(stream, items);
        let stream = stream.clone();
        link.running.push(Box::pin(async move {
            let done = turn.run().await;
            drop(spans);
            Answer::Lane(stream, Box::new(done))
        }));
        Ok(())
    }

    /// Everything is to be sent again.
    pub(super) fn rewind(&mut self) {
        if let Some(link) = &mut self.link {
            link.is_rewind_wanted = true;
        }
    }

    pub(super) fn keep_settled(&mut self, keeper: &mut Keeper) {
        let settled = self.settled();
        if keeper.state().settled != settled && self.link.is_some() {
            keeper.change().settled = settled;
        }
    }

    /// Fails when the server has taken nothing, and there is nothing left that it may take.
    pub(super) fn judge_suspects(&mut self) -> Result<(), Stop> {
        let Some(link) = &self.link else {
            return Ok(());
        };
        match link.suspects.first() {
            Some((stream, reason)) if !link.may_append() => Err(Halt::Refused {
                action: format!("append to {stream}").into(),
                reason: reason.clone(),
            }
            .into()),
            _ => Ok(()),
        }
    }
}

/// Open while the event is with the server.
fn span(event: &EventEnvelope, place: Option<LogPlace>) -> tracing::Span {
    tracing::debug_span!(
        "replicate", stream = %event.stream, sequence = event.sequence,
        position = place.map(|place| place.position), trace = trace_of(event),
        traceparent = event.metadata.get(TRACEPARENT),
    )
}
