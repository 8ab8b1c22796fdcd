//! What a lane sends in its turn, and what follows from what came of it.

use std::sync::Arc;

use tidelog_core::{Batch, Error, EventId, StreamId};

use super::arbitrate::{Done, End};
use super::judge::Place;
use super::lane::Item;
use super::link::Link;
use super::parking::{Held, note_accepted};
use super::sink::ScyllaSink;
use crate::replicate::ParkedReason;
use crate::replicate::outbox::{LocalEvent, Outbox};
use crate::replicate::sink::Stop;
use crate::scylla::state::Keeper;
use crate::scylla::state::SinkState;

/// Most bytes of events written at once, unless one alone has more.
pub(super) const BATCH_BYTES: usize = 100 << 10;
/// An event above this is parked: servers take a mutation of half a commit log's segment, and a
/// conditional one is written twice.
pub(super) const MAX_EVENT_BYTES: usize = 8 << 20;

/// What a lane sends in its turn.
pub(super) struct Formed {
    pub items: Vec<Item>,
    /// The event before them, and whether it is known to end its bucket.
    pub before: Option<(Place, bool)>,
    /// They are looked for only.
    pub only_looks: bool,
}

impl ScyllaSink {
    /// Takes what `stream` sends next out of its queue; `None` when nothing can be sent now.
    pub(super) fn form(
        &mut self,
        stream: &StreamId,
        outbox: &dyn Outbox,
        keeper: &mut Keeper,
    ) -> Result<Option<Formed>, Stop> {
        let mut items: Vec<Item> = Vec::new();
        let mut before: Option<(Place, bool)> = None;
        let (mut bytes, mut border) = (0, u64::MAX);
        let mut only_looks = false;
        loop {
            let Some(link) = &mut self.link else {
                return Ok(None);
            };
            let size = link.greeting.replica.bucket_events;
            let most = usize::try_from(size).unwrap_or(usize::MAX);
            let verify_below = link.greeting.verify_below;
            let Some(lane) = link.lanes.get_mut(stream) else {
                break;
            };
            if lane.parks > 0 || !lane.in_flight.is_empty() {
                return Ok(None);
            }
            let Some(item) = lane.queue.front() else {
                break;
            };
            let is_first = items.is_empty();
            if !is_first {
                let first_is_verified = items
                    .first()
                    .is_some_and(|item| item.position <= verify_below);
                let is_full = bytes + item.bytes() > BATCH_BYTES
                    || items.len() >= most
                    || lane.goes_alone
                    || item.sequence > border
                    || first_is_verified != (item.position <= verify_below)
                    || only_looks && items.first().is_some_and(|first| first.batch != item.batch);
                if is_full {
                    break;
                }
            }
            if outbox.is_superseded(stream, item.sequence, item.position) {
                if let Some(item) = lane.queue.pop_front() {
                    link.pass_superseded(stream, &item);
                }
                continue;
            }
            let is_held = keeper
                .state()
                .held(stream)
                .is_some_and(|entry| entry.first_position <= item.position);
            let torn_by = if item.is_of_several {
                link.several.torn_by(item.batch.first).cloned()
            } else {
                None
            };
            let mut tears = torn_by
                .filter(|by| by != stream)
                .filter(|_| !is_known_there(keeper.state(), verify_below, stream, item));
            // A connection before this one may have had it accepted: that is looked at before it is held.
            let may_be_there = tears.is_some() && item.position <= link.last_at_connect;
            if may_be_there && !is_held && (is_first || only_looks) {
                tears = None;
                only_looks = true;
            }
            let is_too_large = item.bytes() > MAX_EVENT_BYTES;
            if is_held || tears.is_some() || is_too_large {
                if !is_first {
                    break;
                }
                if is_held {
                    if let Some(item) = lane.queue.pop_front() {
                        // One whose parking tears nothing yet: its stream was retried, or its part in flight.
                        if item.is_of_several {
                            self.tear_held(stream, &item, outbox, keeper)?;
                        }
                        self.hold(stream, &item);
                    }
                    continue;
                }
                let held = Held::of(item);
                let reason = match tears {
                    Some(sibling) => ParkedReason::TornBatch { sibling },
                    None => ParkedReason::TooLarge,
                };
                self.park(stream, reason, held, None, outbox, keeper)?;
                return Ok(None);
            }
            if is_first {
                before = match lane.tip {
                    Some((tip, is_sealed)) if tip.0 + 1 == item.sequence => Some((tip, is_sealed)),
                    _ => {
                        let here = outbox.event_before(stream, item.sequence);
                        let here = here.map_err(Stop::local)?;
                        here.map(|here| ((here.sequence, here.event_id), false))
                    }
                };
                // Looked at again: what stands before it may be of the branch that took its place.
                if outbox.is_superseded(stream, item.sequence, item.position) {
                    continue;
                }
                let bucket = before.map_or(0, |((sequence, _), _)| sequence) / size;
                border = size.saturating_mul(bucket + 1);
            }
            bytes += item.bytes();
            items.extend(lane.queue.pop_front());
        }
        Ok((!items.is_empty()).then_some(Formed {
            items,
            before,
            only_looks,
        }))
    }

    /// What came of a lane's turn.
    pub(super) fn lane_answered(
        &mut self,
        stream: &StreamId,
        done: Done,
        outbox: &Arc<dyn Outbox>,
        keeper: &mut Keeper,
    ) -> Result<(), Stop> {
        let Some(link) = &mut self.link else {
            return Ok(());
        };
        let mut items = link.lanes.answered(stream);
        let left = items.split_off(done.standing.min(items.len()));
        let verified = items
            .first()
            .is_some_and(|item| item.position <= link.greeting.verify_below);
        let refound = if verified { done.appended } else { 0 };
        self.counts.accepted += done.appended - refound;
        self.counts.already += done.already;
        self.counts.refilled += done.refilled;
        self.counts.remote_lost += refound + done.refilled;
        if let Some(lost) = done.first_lost {
            let item = items.get(lost).or_else(|| left.get(lost - items.len()));
            if let Some(position) = item.map(|item| item.position) {
                link.lost(position);
            }
        }
        if let Some(item) = items.last() {
            link.accepted(stream, item.place());
        }
        if done.appended > 0 {
            link.has_appended = true;
        }
        let lane = link.lanes.of(stream);
        lane.tip = done.tip.map(|tip| (tip, done.is_sealed));
        for item in left.into_iter().rev() {
            lane.queue.push_front(item);
        }
        for item in &items {
            self.stands(stream, item, keeper);
        }
        if done.appended > 0 {
            self.park_suspects(&**outbox, keeper)?;
        }
        self.ended(stream, done.end, &**outbox, keeper)?;
        if let Some(link) = &mut self.link {
            link.lanes.make_ready(stream);
        }
        Ok(())
    }

    /// An event stands at the server.
    fn stands(&mut self, stream: &StreamId, item: &Item, keeper: &mut Keeper) {
        let Some(link) = &mut self.link else {
            return;
        };
        let torn = if item.is_of_several {
            let by = link.several.torn_by(item.batch.first).cloned();
            let part = link.several.accepted(item.batch.first, stream);
            by.zip(part)
        } else {
            None
        };
        let noted = torn.map(|(by, part)| note_accepted(stream, &part, item.batch, &by, keeper));
        match noted {
            // After a crash nobody would know that it stands there, and it would be held.
            Some(revision) if item.is_counted => {
                link.noted.push_back((revision, item.position));
            }
            _ => link.settle(item),
        }
    }

    fn ended(
        &mut self,
        stream: &StreamId,
        end: End,
        outbox: &dyn Outbox,
        keeper: &mut Keeper,
    ) -> Result<(), Stop> {
        match end {
            End::Whole => Ok(()),
            End::Lower => {
                tracing::warn!(%stream, "the server lost events; everything is sent again");
                self.rewind();
                Ok(())
            }
            End::Diverged { at, remote } => self.diverged(stream, at, remote, outbox, keeper),
            End::Gap => {
                let Some(held) = self.front(stream) else {
                    return Ok(());
                };
                self.park(stream, ParkedReason::Gap, held, None, outbox, keeper)
            }
            End::Absent => {
                let Some(held) = self.front(stream) else {
                    return Ok(());
                };
                if outbox.is_superseded(stream, held.sequence, held.position) {
                    return Ok(());
                }
                let link = self.link.as_ref();
                let by = link.and_then(|link| link.several.torn_by(held.batch.first));
                let Some(sibling) = by.cloned() else {
                    return Ok(());
                };
                let reason = ParkedReason::TornBatch { sibling };
                self.park(stream, reason, held, None, outbox, keeper)
            }
            End::Refused(reason) => self.refused(stream, reason, outbox, keeper),
            End::Trouble(error) => Err(self.stop(error, &format!("append to {stream}"))),
            End::Local(error) => Err(Stop::local(error)),
        }
    }

    /// The first event that waits in a lane.
    fn front(&mut self, stream: &StreamId) -> Option<Held> {
        let lane = self.link.as_mut()?.lanes.get_mut(stream)?;
        lane.queue.front().map(Held::of)
    }

    /// Another event stands at `at`: the stream is held from there on.
    fn diverged(
        &mut self,
        stream: &StreamId,
        at: u64,
        remote: Option<(u64, EventId)>,
        outbox: &dyn Outbox,
        keeper: &mut Keeper,
    ) -> Result<(), Stop> {
        let Some(link) = &mut self.link else {
            return Ok(());
        };
        let lane = link.lanes.of(stream);
        // Superseded meanwhile: it is no conflict any more.
        let is_over = lane
            .queue
            .front()
            .is_some_and(|item| outbox.is_superseded(stream, item.sequence, item.position));
        if is_over {
            return Ok(());
        }
        let waits = lane.queue.iter().find(|item| item.sequence >= at);
        let in_queue = lane.queue.front().is_some_and(|front| front.sequence <= at);
        let held = match waits {
            Some(item) if in_queue => Some(Held::of(item)),
            _ => {
                let here = first_from(outbox, stream, at).map_err(Stop::local)?;
                here.map(Held::of_local)
            }
        };
        match held {
            Some(held) => self.park(stream, ParkedReason::Diverged, held, remote, outbox, keeper),
            None => Ok(()),
        }
    }

    /// The server refuses what was sent: one event is parked for it, if the server takes others.
    fn refused(
        &mut self,
        stream: &StreamId,
        reason: Box<str>,
        outbox: &dyn Outbox,
        keeper: &mut Keeper,
    ) -> Result<(), Stop> {
        let Some(link) = &mut self.link else {
            return Ok(());
        };
        let has_appended = link.has_appended;
        let lane = link.lanes.of(stream);
        if !std::mem::replace(&mut lane.goes_alone, true) && lane.queue.len() > 1 {
            return Ok(());
        }
        let Some(held) = lane.queue.front().map(Held::of) else {
            return Ok(());
        };
        if has_appended {
            let reason = ParkedReason::Refused(reason);
            return self.park(stream, reason, held, None, outbox, keeper);
        }
        lane.parks += 1;
        link.suspects.push((stream.clone(), reason));
        Ok(())
    }

    /// The server takes events, so those that it refused are refused for themselves.
    fn park_suspects(&mut self, outbox: &dyn Outbox, keeper: &mut Keeper) -> Result<(), Stop> {
        let Some(link) = &mut self.link else {
            return Ok(());
        };
        for (stream, reason) in std::mem::take(&mut link.suspects) {
            let held = self.front(&stream);
            if let Some(lane) = self
                .link
                .as_mut()
                .and_then(|link| link.lanes.get_mut(&stream))
            {
                lane.parks -= 1;
            }
            if let Some(held) = held {
                let reason = ParkedReason::Refused(reason);
                self.park(&stream, reason, held, None, outbox, keeper)?;
            }
            if let Some(link) = &mut self.link {
                link.lanes.make_ready(&stream);
            }
        }
        Ok(())
    }
}

/// Whether an event of a torn append was accepted before this connection: what was settled and is not
/// held was.
fn is_known_there(state: &SinkState, settled: u64, stream: &StreamId, item: &Item) -> bool {
    let mut entries = state.of(stream);
    item.position <= settled
        || entries.any(|entry| entry.accepted && entry.batch.first == item.batch.first)
}

/// The first event of a stream from a sequence on.
fn first_from(
    outbox: &dyn Outbox,
    stream: &StreamId,
    from: u64,
) -> Result<Option<LocalEvent>, Error> {
    // A sequence is missing only where a repair has lost it.
    if let Some(here) = outbox.event_at(stream, from)? {
        return Ok(Some(here));
    }
    outbox.event_from(stream, from)
}

impl Link {
    /// Nothing more is to be done about an event.
    pub(super) fn settle(&mut self, item: &Item) {
        if item.is_counted {
            self.progress.done(item.position);
        }
    }

    fn pass_superseded(&mut self, stream: &StreamId, item: &Item) {
        if item.is_of_several {
            self.several.superseded(item.batch.first, stream);
        }
        self.settle(item);
    }
}

impl Held {
    fn of_local(here: LocalEvent) -> Self {
        let batch: Batch = here.batch;
        Self {
            sequence: here.sequence,
            position: here.position,
            event_id: here.event_id,
            batch,
        }
    }
}
