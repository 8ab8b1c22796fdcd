//! Tries what is held of a parked stream as it is: reads it from the log again, page by page, and
//! sends it, while what comes waits in its lane.

use std::sync::Arc;

use tidelog_core::{Error, EventEnvelope, StreamId};

use super::arbitrate::{Done, End, Turn};
use super::lane::Item;
use super::link::Answer;
use super::park::{Change, EntryKey, Pending};
use super::parking::Held;
use super::sink::ScyllaSink;
use super::turns::{BATCH_BYTES, MAX_EVENT_BYTES};
use crate::replicate::ParkedReason;
use crate::replicate::outbox::Outbox;
use crate::replicate::sink::Stop;
use crate::scylla::parked::ParkedEntry;
use crate::scylla::state::Keeper;

/// A stream that is being tried.
pub(super) struct Retrying {
    /// The next sequence to be read.
    next: u64,
    /// What was read and not sent.
    items: Vec<Item>,
    in_flight: Vec<Item>,
    goes_alone: bool,
}

impl ScyllaSink {
    /// Begins to try what is held of `stream`.
    pub(super) fn retry(
        &mut self,
        stream: &StreamId,
        outbox: &Arc<dyn Outbox>,
        keeper: &Keeper,
    ) -> Result<(), Error> {
        let state = keeper.state();
        let refuse = |reason: String| Err(Error::invalid("stream", stream, reason));
        let Some(entry) = state.held(stream) else {
            return refuse("it is not parked".to_owned());
        };
        if let ParkedReason::TornBatch { sibling } = &entry.reason {
            let end = entry.batch.first + u64::from(entry.batch.count);
            let holds_it = |held: &ParkedEntry| held.first_position < end;
            if state.held(sibling).is_some_and(holds_it) {
                return refuse(format!(
                    "it was recorded together with events of {sibling}, which is parked: resolve that first"
                ));
            }
        }
        let next = entry.first_sequence;
        let Some(link) = &mut self.link else {
            return Err(Error::Unreachable {
                server: self.options.server.clone(),
                action: format!("try {stream} again").into(),
                reason: "there is no connection now: try again when replication is live".into(),
            });
        };
        if link.retrying.contains_key(stream) {
            return Ok(());
        }
        link.lanes.of(stream).parks += 1;
        link.retrying.insert(
            stream.clone(),
            Retrying {
                next,
                items: Vec::new(),
                in_flight: Vec::new(),
                goes_alone: false,
            },
        );
        self.read_held(stream, outbox);
        Ok(())
    }

    fn read_held(&mut self, stream: &StreamId, outbox: &Arc<dyn Outbox>) {
        let Some(link) = &mut self.link else {
            return;
        };
        let Some(retrying) = link.retrying.get(stream) else {
            return;
        };
        let events = outbox.events(stream, retrying.next, u64::MAX, BATCH_BYTES);
        let stream = stream.clone();
        link.running
            .push(Box::pin(async move { Answer::Held(stream, events.await) }));
    }

    /// A page of what is held was read; when there is none, the stream is no longer parked.
    pub(super) fn held_read(
        &mut self,
        stream: &StreamId,
        events: Result<Vec<EventEnvelope>, Error>,
        outbox: &Arc<dyn Outbox>,
        keeper: &mut Keeper,
    ) -> Result<(), Stop> {
        let events = events.map_err(Stop::local)?;
        let Some(retrying) = self.retrying(stream) else {
            return Ok(());
        };
        let Some(last) = events.last() else {
            self.end_retry(stream, keeper);
            return Ok(());
        };
        retrying.next = last.sequence + 1;
        retrying.items = events.into_iter().map(Item::of_event).collect();
        self.send_held(stream, outbox, keeper)
    }

    fn retrying(&mut self, stream: &StreamId) -> Option<&mut Retrying> {
        self.link.as_mut()?.retrying.get_mut(stream)
    }

    fn send_held(
        &mut self,
        stream: &StreamId,
        outbox: &Arc<dyn Outbox>,
        keeper: &mut Keeper,
    ) -> Result<(), Stop> {
        let Some(retrying) = self.retrying(stream) else {
            return Ok(());
        };
        let Some(first) = retrying.items.first() else {
            self.read_held(stream, outbox);
            return Ok(());
        };
        if first.bytes() > MAX_EVENT_BYTES {
            let held = Held::of(first);
            return self.park_again(
                stream,
                ParkedReason::TooLarge,
                held,
                None,
                &**outbox,
                keeper,
            );
        }
        let before = outbox.event_before(stream, first.sequence);
        let before = before.map_err(Stop::local)?;
        let place = before.map(|here| (here.sequence, here.event_id));
        let goes_alone = retrying.goes_alone;
        let Some(link) = &mut self.link else {
            return Ok(());
        };
        let size = link.greeting.replica.bucket_events;
        let origin = link.greeting.identity.origin;
        let Some(retrying) = link.retrying.get_mut(stream) else {
            return Ok(());
        };
        let border = size.saturating_mul(place.map_or(0, |(sequence, _)| sequence) / size + 1);
        let fits = retrying.items.iter().enumerate();
        let count = fits
            .take_while(|(at, item)| {
                *at == 0
                    || !goes_alone && item.sequence <= border && item.bytes() <= MAX_EVENT_BYTES
            })
            .count();
        let left = retrying.items.split_off(count);
        let items = std::mem::replace(&mut retrying.items, left);
        let rows = items.iter().map(|item| {
            let epoch = keeper.state().epoch_of(item.position);
            item.row(origin, epoch)
        });
        let turn = Turn {
            wire: Arc::clone(&self.wire),
            outbox: Arc::clone(outbox),
            origin,
            bucket_events: size,
            stream: stream.clone(),
            before: place,
            is_sealed: false,
            rows: rows.collect::<Result<_, _>>().map_err(Stop::local)?,
            verify: false,
            only_looks: false,
        };
        retrying.in_flight = items;
        let stream = stream.clone();
        link.running.push(Box::pin(async move {
            let done = turn.run().await;
            Answer::Retried(stream, Box::new(done))
        }));
        Ok(())
    }

    /// What came of a turn of what is held.
    pub(super) fn retried(
        &mut self,
        stream: &StreamId,
        done: Done,
        outbox: &Arc<dyn Outbox>,
        keeper: &mut Keeper,
    ) -> Result<(), Stop> {
        self.counts.accepted += done.appended;
        self.counts.already += done.already;
        let Some(retrying) = self.retrying(stream) else {
            return Ok(());
        };
        let mut left = std::mem::take(&mut retrying.in_flight).split_off(done.standing);
        let several = left.len() > 1;
        left.append(&mut retrying.items);
        retrying.items = left;
        let front = retrying.items.first().map(Held::of);
        let again = |reason| front.map(|held| (reason, held, None));
        let parks = match done.end {
            End::Whole => return self.send_held(stream, outbox, keeper),
            End::Lower => {
                self.rewind();
                return Ok(());
            }
            End::Refused(_) if several && !retrying.goes_alone => {
                retrying.goes_alone = true;
                return self.send_held(stream, outbox, keeper);
            }
            End::Refused(reason) => again(ParkedReason::Refused(reason)),
            // Nothing is only looked for here.
            End::Absent => None,
            End::Gap => again(ParkedReason::Gap),
            End::Diverged { at, remote } => {
                let mut items = retrying.items.iter();
                let held = items.find(|item| item.sequence >= at).map(Held::of);
                held.map(|held| (ParkedReason::Diverged, held, remote))
            }
            End::Trouble(error) => {
                return Err(self.stop(error, &format!("append to {stream}")));
            }
            End::Local(error) => return Err(Stop::local(error)),
        };
        match parks {
            Some((reason, held, remote)) => {
                self.park_again(stream, reason, held, remote, &**outbox, keeper)
            }
            None => {
                self.stop_retry(stream);
                Ok(())
            }
        }
    }

    /// It goes no further than to this event: what was held before it is not any more.
    fn park_again(
        &mut self,
        stream: &StreamId,
        reason: ParkedReason,
        held: Held,
        remote: Option<super::judge::Place>,
        outbox: &dyn Outbox,
        keeper: &mut Keeper,
    ) -> Result<(), Stop> {
        let key = (stream.clone(), held.position);
        let known = keeper.state().parked.contains_key(&key);
        if known {
            keeper.change_now(|state| {
                if let Some(entry) = state.parked.get_mut(&key) {
                    (entry.reason, entry.remote) = (reason, remote);
                }
            });
        } else {
            self.park(stream, reason, held, remote, outbox, keeper)?;
        }
        self.resolve_below(stream, held.position, keeper);
        self.stop_retry(stream);
        Ok(())
    }

    /// All that was held is there.
    fn end_retry(&mut self, stream: &StreamId, keeper: &mut Keeper) {
        tracing::info!(%stream, "the stream is no longer parked: the server has all of it");
        self.resolve_below(stream, u64::MAX, keeper);
        self.stop_retry(stream);
    }

    /// Entries that begin below `position` hold nothing any more, nor did they for those who follow.
    fn resolve_below(&mut self, stream: &StreamId, position: u64, keeper: &mut Keeper) {
        let of_stream = keeper.state().of(stream);
        let resolved: Vec<EntryKey> = of_stream
            .filter(|entry| entry.holds() && entry.first_position < position)
            .map(|entry| (entry.stream.clone(), entry.first_position))
            .collect();
        let Some(link) = &mut self.link else {
            return;
        };
        for key in resolved {
            let until = key.1;
            let revision = keeper.change_now(|state| {
                if let Some(entry) = state.parked.get_mut(&key) {
                    entry.resolved_at = until;
                }
            });
            let change = Change::Unpark { until };
            link.pending.push_back(Pending {
                key,
                revision,
                change,
            });
        }
    }

    /// What waited in the lane meanwhile goes on, or is held.
    fn stop_retry(&mut self, stream: &StreamId) {
        let Some(link) = &mut self.link else {
            return;
        };
        if link.retrying.remove(stream).is_some() {
            link.lanes.of(stream).parks -= 1;
            link.lanes.forget_tip(stream);
            link.lanes.make_ready(stream);
        }
    }
}
