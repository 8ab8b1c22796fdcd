//! Parks streams: from an event on, with those that were recorded in one append with it.

use std::sync::Arc;

use tidelog_core::{Batch, EventId, Halt, StreamId, Superseded};

use super::lane::Item;
use super::park::{Change, EntryKey, MAX_PARKED, Pending, request, tell};
use super::sink::{Answer, Link, ScyllaSink};
use super::torn::Part;
use crate::replicate::keeper::Keeper;
use crate::replicate::outbox::Outbox;
use crate::replicate::parked::{ParkedEntry, ParkedReason};
use crate::replicate::sink::Stop;

/// The first event of a stream that is held.
#[derive(Clone, Copy, Debug)]
pub(super) struct Held {
    pub sequence: u64,
    pub position: u64,
    pub event_id: EventId,
    pub batch: Batch,
}

impl Held {
    pub(super) fn of(item: &Item) -> Self {
        Self {
            sequence: item.sequence,
            position: item.position,
            event_id: item.event_id,
            batch: item.batch,
        }
    }
}

impl ScyllaSink {
    /// Parks `stream` from an event on. It holds once that is durable here and at the server.
    pub(super) fn park(
        &mut self,
        stream: &StreamId,
        reason: ParkedReason,
        held: Held,
        remote: Option<(u64, EventId)>,
        outbox: &dyn Outbox,
        keeper: &mut Keeper,
    ) -> Result<(), Stop> {
        let count = keeper.state().parked.len();
        if count >= MAX_PARKED {
            return Err(Halt::TooManyParked { count }.into());
        }
        let Some(link) = &mut self.link else {
            return Ok(());
        };
        tracing::warn!(
            %stream, sequence = held.sequence, position = held.position, %reason,
            "the stream is parked: replication goes on without it"
        );
        let key = (stream.clone(), held.position);
        let entry = ParkedEntry {
            stream: stream.clone(),
            reason,
            first_sequence: held.sequence,
            first_position: held.position,
            local_event: held.event_id,
            remote,
            batch: held.batch,
            accepted: false,
            resolved_at: 0,
            since_position: outbox.last(),
        };
        let revision = keeper.change_now(|state| {
            state.parked.insert(key.clone(), entry);
        });
        link.lanes.of(stream).parks += 1;
        link.pending.push(Pending {
            key,
            revision,
            change: Change::Park,
        });
        Ok(())
    }

    /// An event of a parked stream stays where it is; so do those of its append that are not accepted.
    pub(super) fn hold(&mut self, stream: &StreamId, item: &Item, keeper: &mut Keeper) {
        let Some(link) = &mut self.link else {
            return;
        };
        let batch = item.batch.first;
        let accepted = if item.is_of_several {
            let accepted = link.several.tear(batch, stream);
            link.several.held(batch, stream);
            accepted
        } else {
            Vec::new()
        };
        link.settle(item);
        for (sibling, part) in accepted {
            note_accepted(&sibling, &part, item.batch, stream, keeper);
        }
    }

    /// Tells the server of entries that are saved here.
    pub(super) fn tell_of_parked(&mut self, keeper: &mut Keeper) {
        let Some(link) = &mut self.link else {
            return;
        };
        let mut at = 0;
        while let Some(pending) = link.pending.get(at) {
            if !keeper.is_saved(pending.revision) {
                at += 1;
                continue;
            }
            let Pending { key, change, .. } = link.pending.remove(at);
            let Some(entry) = keeper.state().parked.get(&key) else {
                continue;
            };
            let told = tell(
                Arc::clone(&self.wire),
                request(keeper.state(), entry, change),
            );
            link.running.push(Box::pin(async move {
                let told = told.await;
                Answer::Told(key, change, told)
            }));
        }
    }

    /// The server has noted an entry.
    pub(super) fn told(&mut self, key: &EntryKey, change: Change, keeper: &mut Keeper) {
        let Some(link) = &mut self.link else {
            return;
        };
        match change {
            Change::Park => {
                link.lanes.of(&key.0).parks -= 1;
                link.lanes.make_ready(&key.0);
            }
            Change::Unpark { until } => {
                forget(key, keeper);
                if let Some(waits) = link.unparking.get_mut(&until) {
                    *waits -= 1;
                    if *waits == 0 {
                        link.unparking.remove(&until);
                        link.progress.done(until);
                    }
                }
            }
        }
    }

    /// The log says that events of a stream gave way: what held them is resolved.
    pub(super) fn supersede(&mut self, what: &Superseded, keeper: &mut Keeper) {
        let Some(link) = &mut self.link else {
            return;
        };
        if let Some(lane) = link.lanes.get_mut(&what.stream) {
            lane.tip = None;
            lane.goes_alone = false;
        }
        let of_stream = keeper.state().of(&what.stream);
        let resolved: Vec<(EntryKey, bool)> = of_stream
            .filter(|entry| entry.first_position < what.at)
            .map(|entry| ((entry.stream.clone(), entry.first_position), entry.accepted))
            .collect();
        let mut waits = 0;
        for (key, accepted) in resolved {
            if accepted {
                forget(&key, keeper);
                continue;
            }
            let revision = keeper.change_now(|state| {
                if let Some(entry) = state.parked.get_mut(&key) {
                    entry.resolved_at = what.at;
                }
            });
            waits += 1;
            let change = Change::Unpark { until: what.at };
            link.pending.push(Pending {
                key,
                revision,
                change,
            });
        }
        if waits == 0 {
            link.progress.done(what.at);
        } else {
            link.unparking.insert(what.at, waits);
        }
    }
}

/// Lists a part that stands at the server while others of its append do not.
pub(super) fn note_accepted(
    stream: &StreamId,
    part: &Part,
    batch: Batch,
    torn_by: &StreamId,
    keeper: &mut Keeper,
) {
    let key = (stream.clone(), part.first_position);
    if keeper.state().parked.contains_key(&key) {
        return;
    }
    let entry = ParkedEntry {
        stream: stream.clone(),
        reason: ParkedReason::TornBatch {
            sibling: torn_by.clone(),
        },
        first_sequence: part.first_sequence,
        first_position: part.first_position,
        local_event: part.first_event,
        remote: None,
        batch,
        accepted: true,
        resolved_at: 0,
        since_position: part.first_position,
    };
    keeper.change_now(|state| {
        state.parked.insert(key, entry);
    });
}

/// Takes an entry away, and what was listed only because of it.
fn forget(key: &EntryKey, keeper: &mut Keeper) {
    let state = keeper.change_parked();
    let Some(gone) = state.parked.remove(key) else {
        return;
    };
    let batch = gone.batch.first;
    let of_batch = |entry: &ParkedEntry| entry.batch.first == batch;
    let is_torn_still = state
        .parked
        .values()
        .any(|entry| of_batch(entry) && entry.holds());
    if !is_torn_still {
        state
            .parked
            .retain(|_, entry| !(of_batch(entry) && entry.accepted));
    }
}

impl Link {
    /// Whether an entry waits to be told to the server.
    pub(super) fn is_parking(&self) -> bool {
        !self.pending.is_empty()
    }
}
