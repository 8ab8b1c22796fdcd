//! Parks streams: from an event on, with those that were recorded in one append with it.

use std::collections::VecDeque;
use std::sync::Arc;

use tidelog_core::{Batch, EventId, Halt, StreamId, Superseded};

use super::lane::{Item, Lane};
use super::link::{Answer, Link};
use super::park::{Change, EntryKey, Pending, request, tell};
use super::sink::ScyllaSink;
use super::torn::Part;
use crate::replicate::ParkedReason;
use crate::replicate::outbox::Outbox;
use crate::replicate::sink::Stop;
use crate::scylla::parked::ParkedEntry;
use crate::scylla::state::Keeper;

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
    /// Parks `stream` from an event on, and what was recorded in one append with what it holds. It holds
    /// once that is durable here and at the server.
    pub(super) fn park(
        &mut self,
        stream: &StreamId,
        reason: ParkedReason,
        held: Held,
        remote: Option<(u64, EventId)>,
        outbox: &dyn Outbox,
        keeper: &mut Keeper,
    ) -> Result<(), Stop> {
        self.park_one(stream, reason, held, remote, outbox, keeper)?;
        let mut torn = self.batches_from(stream, held, outbox);
        while let Some((stream, batch)) = torn.pop_front() {
            self.tear(&stream, batch, &mut torn, outbox, keeper)?;
        }
        Ok(())
    }

    fn park_one(
        &mut self,
        stream: &StreamId,
        reason: ParkedReason,
        held: Held,
        remote: Option<(u64, EventId)>,
        outbox: &dyn Outbox,
        keeper: &mut Keeper,
    ) -> Result<(), Stop> {
        let most = self.options.parked;
        if keeper.state().parked.len() >= most {
            // Those that gave way here are resolved; that the log says so may be read after this.
            let entries = keeper.state().parked.values();
            let holds = |entry: &&ParkedEntry| {
                let (sequence, position) = (entry.first_sequence, entry.first_position);
                !outbox.is_superseded(&entry.stream, sequence, position)
            };
            let count = entries.filter(holds).count();
            if count >= most {
                return Err(Halt::TooManyParked { count }.into());
            }
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
        link.pending.push_back(Pending {
            key,
            revision,
            change: Change::Park,
        });
        Ok(())
    }

    /// The appends that a stream takes part in from an event on, of what waits in its lane.
    fn batches_from(
        &mut self,
        stream: &StreamId,
        held: Held,
        outbox: &dyn Outbox,
    ) -> VecDeque<(StreamId, Batch)> {
        let mut batches = VecDeque::from([(stream.clone(), held.batch)]);
        let lane = self
            .link
            .as_mut()
            .and_then(|link| link.lanes.get_mut(stream));
        let waiting = lane.iter().flat_map(|lane| lane.queue.iter());
        let later = waiting.filter(|item| item.is_of_several && item.position > held.position);
        for item in later {
            let is_known = batches
                .back()
                .is_some_and(|(_, batch)| batch.first == item.batch.first);
            let is_gone = outbox.is_superseded(stream, item.sequence, item.position);
            if !is_known && !is_gone {
                batches.push_back((stream.clone(), item.batch));
            }
        }
        batches
    }

    /// One part of an append is parked: so are those that are not accepted, and of which that is sure now.
    fn tear(
        &mut self,
        stream: &StreamId,
        batch: Batch,
        torn: &mut VecDeque<(StreamId, Batch)>,
        outbox: &dyn Outbox,
        keeper: &mut Keeper,
    ) -> Result<(), Stop> {
        let Some(link) = &mut self.link else {
            return Ok(());
        };
        let parts = link.several.tear(batch.first, stream);
        for (sibling, part) in parts.accepted {
            note_accepted(&sibling, &part, batch, stream, keeper);
        }
        for (sibling, part) in parts.waiting {
            let lane = self
                .link
                .as_mut()
                .and_then(|link| link.lanes.get_mut(&sibling));
            let mut in_flight = lane.iter().flat_map(|lane| lane.in_flight.iter());
            let is_being_decided = in_flight.any(|item| item.batch.first == batch.first);
            let state = keeper.state();
            let is_held = state
                .held(&sibling)
                .is_some_and(|entry| entry.first_position <= part.first_position);
            let (sequence, position) = (part.first_sequence, part.first_position);
            // A connection before this one may have sent it: its turn finds out.
            let may_be_there = self
                .link
                .as_ref()
                .is_some_and(|link| position <= link.last_at_connect);
            if is_being_decided
                || is_held
                || may_be_there
                || outbox.is_superseded(&sibling, sequence, position)
            {
                continue;
            }
            let held = Held {
                sequence,
                position,
                event_id: part.first_event,
                batch,
            };
            let reason = ParkedReason::TornBatch {
                sibling: stream.clone(),
            };
            self.park_one(&sibling, reason, held, None, outbox, keeper)?;
            torn.extend(self.batches_from(&sibling, held, outbox));
        }
        Ok(())
    }

    /// An event is about to wait in its lane: where that holds already, its append is torn before any
    /// part of it is sent.
    pub(super) fn tear_held(
        &mut self,
        stream: &StreamId,
        item: &Item,
        outbox: &dyn Outbox,
        keeper: &mut Keeper,
    ) -> Result<(), Stop> {
        let is_held = keeper
            .state()
            .held(stream)
            .is_some_and(|entry| entry.first_position <= item.position);
        if !is_held || outbox.is_superseded(stream, item.sequence, item.position) {
            return Ok(());
        }
        let mut torn = VecDeque::from([(stream.clone(), item.batch)]);
        while let Some((stream, batch)) = torn.pop_front() {
            self.tear(&stream, batch, &mut torn, outbox, keeper)?;
        }
        Ok(())
    }

    /// An event of a parked stream stays where it is.
    pub(super) fn hold(&mut self, stream: &StreamId, item: &Item) {
        if let Some(link) = &mut self.link {
            if item.is_of_several {
                link.several.held(item.batch.first, stream);
            }
            link.settle(item);
        }
    }

    /// Tells the server of entries that are saved here, one after the other.
    pub(super) fn tell_of_parked(&mut self, keeper: &mut Keeper) {
        let Some(link) = &mut self.link else {
            return;
        };
        while let Some((revision, position)) = link.noted.front()
            && keeper.is_saved(*revision)
        {
            link.progress.done(*position);
            link.noted.pop_front();
        }
        while let Some(Pending { key, change, .. }) = link.next_to_tell(keeper) {
            let Some(entry) = keeper.state().parked.get(&key) else {
                continue;
            };
            let told = tell(
                Arc::clone(&self.wire),
                request(keeper.state(), entry, change),
            );
            link.is_telling = true;
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
        link.is_telling = false;
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
        link.lanes.forget_tip(&what.stream);
        if let Some(lane) = link.lanes.get_mut(&what.stream) {
            lane.goes_alone = false;
        }
        let of_stream = keeper.state().of(&what.stream);
        // What another one resolved before is on its way.
        let resolved: Vec<(EntryKey, bool)> = of_stream
            .filter(|entry| entry.first_position < what.at && entry.first_sequence >= what.from)
            .filter(|entry| entry.resolved_at == 0)
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
            link.pending.push_back(Pending {
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

impl Link {
    /// What the server is to be told of next, if it is told of nothing now.
    fn next_to_tell(&mut self, keeper: &Keeper) -> Option<Pending> {
        if self.is_telling {
            return None;
        }
        let (lanes, mut pending) = (&mut self.lanes, self.pending.iter());
        let at = pending.position(|pending| {
            // What is held still of a stream is listed before it is said that other of it is not: who
            // reads the list in between would take all for accepted.
            let parks = |lane: &mut Lane| lane.parks > 0;
            let is_early = matches!(pending.change, Change::Unpark { .. })
                && lanes.get_mut(&pending.key.0).is_some_and(parks);
            !is_early && keeper.is_saved(pending.revision)
        });
        self.pending.remove(at?)
    }
}

/// Lists a part that stands at the server while others of its append do not; answers what must be
/// saved before that is durable.
pub(super) fn note_accepted(
    stream: &StreamId,
    part: &Part,
    batch: Batch,
    torn_by: &StreamId,
    keeper: &mut Keeper,
) -> u64 {
    let key = (stream.clone(), part.first_position);
    if keeper.state().parked.contains_key(&key) {
        return 0;
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
    })
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
