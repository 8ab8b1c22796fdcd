//! Streams that are set aside: durable on this machine first, then they hold.

use tidelog_core::{EventId, Halt, StreamId};

use super::broker::{Broker, Refusal};
use super::lane::Item;
use super::link::Hold;
use super::sink::KafkaSink;
use super::state::Keeper;
use crate::replicate::ParkedReason;
use crate::replicate::outbox::LocalEvent;
use crate::replicate::sink::Stop;
pub(crate) use crate::sinks::publishing::ParkedEntry;

/// Most streams that are set aside at once. However many are refused, each is parked: what a person
/// corrects for one of them is as soon corrected for all.
const MAX_PARKED: usize = 10_000;

/// A stream that publishing has set aside: nothing of it is sent from one event on, so that no consumer
/// meets a gap.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct PublishingParked {
    /// The stream.
    pub stream: StreamId,
    /// Why. [`ParkedReason::NotReplicated`] ends by itself once the replica has accepted the stream;
    /// the others are for [`Publishing::retry_stream`](crate::Publishing::retry_stream).
    pub reason: ParkedReason,
    /// Sequence of the first event that is held.
    pub first_sequence: u64,
    /// Its position.
    pub first_position: u64,
    /// Its id.
    pub event_id: EventId,
}

impl From<&ParkedEntry> for PublishingParked {
    fn from(entry: &ParkedEntry) -> Self {
        Self {
            stream: entry.stream.clone(),
            reason: entry.reason.clone(),
            first_sequence: entry.first_sequence,
            first_position: entry.first_position,
            event_id: entry.event_id,
        }
    }
}

impl ParkedEntry {
    pub(super) fn local(&self) -> LocalEvent {
        LocalEvent {
            sequence: self.first_sequence,
            event_id: self.event_id,
            position: self.first_position,
            batch: tidelog_core::Batch {
                first: self.first_position,
                count: 1,
            },
        }
    }
}

impl<B: Broker> KafkaSink<B> {
    /// The message of a lane was refused with nothing beside it: its stream is parked.
    pub(super) fn park_lane(&mut self, id: u32, keeper: &mut Keeper) -> Result<(), Stop> {
        let link = self.link.as_mut();
        let refusal = link.and_then(|link| link.lanes.get_mut(id)?.refusal.take());
        let reason = match refusal {
            Some(Refusal::Other(text)) => ParkedReason::Refused(text),
            Some(Refusal::TooLarge) | None => ParkedReason::TooLarge,
        };
        let Some(link) = &mut self.link else {
            return Ok(());
        };
        let Some(lane) = link.lanes.remove(id) else {
            return Ok(());
        };
        let counted = lane.queue.iter().filter(|item| item.is_counted);
        let positions = counted.map(|item| item.position).collect();
        link.reopening.remove(&lane.stream);
        let Some(first) = lane.queue.front().map(Item::local) else {
            return Ok(());
        };
        self.set_aside(&lane.stream, first, reason, positions, keeper)
    }

    /// Holds a stream from `first` on; `positions` settle when that is durable.
    pub(super) fn set_aside(
        &mut self,
        stream: &StreamId,
        first: LocalEvent,
        reason: ParkedReason,
        positions: Vec<u64>,
        keeper: &mut Keeper,
    ) -> Result<(), Stop> {
        let Some(link) = &mut self.link else {
            return Ok(());
        };
        let parked = &keeper.state().parked;
        if parked.len() >= MAX_PARKED && !parked.contains_key(stream) {
            let count = parked.len();
            return Err(Halt::TooManyParked { count }.into());
        }
        if reason == ParkedReason::NotReplicated {
            tracing::debug!(%stream, sequence = first.sequence, "a stream waits for the replica");
        } else {
            tracing::warn!(%stream, sequence = first.sequence, %reason, "a stream is parked");
        }
        let entry = ParkedEntry {
            stream: stream.clone(),
            reason,
            first_sequence: first.sequence,
            first_position: first.position,
            event_id: first.event_id,
            since_position: link.taken,
        };
        let revision = keeper.change_now(|state| {
            state.parked.insert(stream.clone(), entry);
        });
        let hold = link
            .holds
            .entry(stream.clone())
            .or_insert_with(Hold::default);
        hold.revision = revision;
        hold.positions.extend(positions);
        link.held.push_back((revision, stream.clone()));
        Ok(())
    }

    /// Settles what waited for a state that is saved now.
    pub(super) fn settle_held(&mut self, keeper: &Keeper) -> bool {
        let Some(link) = &mut self.link else {
            return false;
        };
        let mut has_moved = false;
        while let Some((revision, stream)) = link.held.front()
            && keeper.is_saved(*revision)
        {
            let is_newest = |hold: &Hold| hold.revision == *revision;
            if link.holds.get(stream).is_some_and(is_newest)
                && let Some(hold) = link.holds.remove(stream)
            {
                for position in hold.positions {
                    link.progress.done(position);
                }
            }
            link.held.pop_front();
            has_moved = true;
        }
        has_moved
    }
}
