//! Streams that are set aside: on this machine first, then at the server, then they hold.

use std::collections::BTreeSet;
use std::sync::Arc;

use tidelog_backends::wire::{ParkedKey, ParkedRow, Request, Wire, WireError};
use tidelog_core::StreamId;
use uuid::Uuid;

use super::ask::applied;
use crate::scylla::parked::ParkedEntry;
use crate::scylla::state::Keeper;
use crate::scylla::state::SinkState;

/// Most streams that are parked at once.
pub(crate) const MAX_PARKED: usize = 10_000;

/// Which entry of a state.
pub(super) type EntryKey = (StreamId, u64);

/// A change of an entry that waits for the state to be saved, and is then told to the server.
pub(super) struct Pending {
    pub key: EntryKey,
    /// What must be saved before.
    pub revision: u64,
    pub change: Change,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Change {
    Park,
    /// It is resolved up to this position, which something waits for.
    Unpark {
        until: u64,
    },
}

/// How an entry stands at the server.
pub(super) fn row(state: &SinkState, entry: &ParkedEntry) -> ParkedRow {
    ParkedRow {
        key: key(state.origin, state.epoch, entry),
        first_sequence: entry.first_sequence,
        until_position: None,
        reason: entry.reason.code().into(),
        local_event: entry.local_event,
        remote: entry.remote,
    }
}

fn key(origin: Uuid, epoch: Uuid, entry: &ParkedEntry) -> ParkedKey {
    ParkedKey {
        origin,
        epoch,
        stream: entry.stream.clone(),
        first_position: entry.first_position,
    }
}

/// What the server is to be told of one entry.
pub(super) fn request(state: &SinkState, entry: &ParkedEntry, change: Change) -> Request {
    match change {
        Change::Park => Request::Park(Box::new(row(state, entry))),
        Change::Unpark { until } => Request::Unpark {
            key: key(state.origin, state.epoch, entry),
            until_position: until,
        },
    }
}

/// Tells the server of an entry; whether it was noted there before makes no difference.
pub(super) async fn tell(wire: Arc<dyn Wire>, request: Request) -> Result<(), WireError> {
    applied(&*wire, request).await.map(drop)
}

/// Makes the server, which lists `rows`, list what is parked here: what it has lost, or was not told
/// before a crash.
pub(super) async fn put_again(
    wire: &dyn Wire,
    rows: &[ParkedRow],
    keeper: &mut Keeper,
) -> Result<(), WireError> {
    let state = keeper.state();
    let there: BTreeSet<&ParkedKey> = rows.iter().map(|row| &row.key).collect();
    let mut resolved = Vec::new();
    let mut requests = Vec::new();
    // What is held still is listed before anything is said to be resolved: who reads what is parked
    // never takes an event for seen that another entry holds from now on.
    let mut unpark = Vec::new();
    for (at, entry) in &state.parked {
        let is_there = there.contains(&key(state.origin, state.epoch, entry));
        if entry.accepted {
            continue;
        }
        if !is_there {
            requests.push(request(state, entry, Change::Park));
        }
        if entry.resolved_at > 0 {
            let until = entry.resolved_at;
            unpark.push(request(state, entry, Change::Unpark { until }));
            resolved.push(at.clone());
        }
    }
    for request in requests.into_iter().chain(unpark) {
        applied(wire, request).await?;
    }
    if !resolved.is_empty() {
        let state = keeper.change_parked();
        for key in resolved {
            state.parked.remove(&key);
        }
    }
    Ok(())
}
