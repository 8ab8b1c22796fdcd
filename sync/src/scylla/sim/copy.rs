//! A disk onto which a store is restored.

use std::sync::Arc;

use parking_lot::Mutex;
use tidelog_backends::commits::{Commit, CommitEnd, DeclaredHole};
use tidelog_core::{BoxFuture, Clock, Error, EventId, IdSource, ManualSleeper, RetryPolicy};
use uuid::Uuid;

use super::super::copy_target::{Claim, CopyTarget, Restorable};
use super::super::parked_rows::{AcceptedParts, Recorded, entry};
use super::super::patient::Patient;
use super::super::restore::{RestoreOptions, restore_to};
use super::net::{SharedNet, SimWire};
use crate::scylla::state::{SinkState, Stretch};
use crate::sim::disk::Disk;
use crate::sim::log::SimLog;

/// How a restore ended.
pub(super) type Ended = Arc<Mutex<Option<Result<(), Error>>>>;

/// Restores onto the disk of `log`, whose origin is named by `origin`.
pub(super) fn restore(
    log: &SimLog,
    net: &SharedNet,
    origin: Uuid,
    epoch: Uuid,
) -> (BoxFuture<'static, ()>, Ended) {
    let ended = Ended::default();
    let tell = ended.clone();
    let (log, net) = (log.clone(), net.clone());
    let future = async move {
        let wire = Patient::new(
            SimWire {
                net: net.clone(),
                node: log.node,
            },
            RetryPolicy::default(),
            Arc::new(ManualSleeper::new(log.clock.clone())),
            Arc::new(log.ids.clone()),
        );
        let options = RestoreOptions::new().origin(origin).epoch(epoch);
        let open = |origin, first, create: bool| {
            let mut disk = log.disk.lock();
            if disk.commits().is_empty() && disk.claim.is_none() {
                if !create {
                    return Ok(None);
                }
                *disk = Disk::new(origin, first);
                disk.is_copy = true;
            }
            Ok(Some(SimCopy(log.clone())))
        };
        let done = restore_to(&wire, &options, &log.ids, open).await;
        *tell.lock() = Some(done.map(|_| ()));
    };
    (Box::pin(future), ended)
}

struct SimCopy(SimLog);

impl CopyTarget for SimCopy {
    fn end(&self) -> CommitEnd {
        self.0.disk.lock().end()
    }

    fn push(&mut self, commit: &Commit) -> Result<(), Error> {
        let mut disk = self.0.disk.lock();
        let again = Commit::new(&disk.end(), commit.body.clone())?;
        if again != *commit {
            return Err(Error::invalid(
                "commit",
                commit.number,
                "it does not follow",
            ));
        }
        disk.push(Arc::new(again));
        Ok(())
    }

    fn skip(&mut self, hole: &DeclaredHole) -> Result<(), Error> {
        let reason = "no log here declares a hole";
        Err(Error::invalid("hole", hole.first_commit, reason))
    }

    fn sync(&mut self) -> Result<(), Error> {
        self.0.disk.lock().make_durable();
        Ok(())
    }
}

impl Restorable for SimCopy {
    fn has(&self, position: u64, hash: &[u8; 32]) -> Result<bool, Error> {
        let end = self.0.disk.lock().commit_end(position);
        Ok(end.is_some_and(|end| end.hash == *hash))
    }

    fn claimed(&self) -> Result<Option<Claim>, Error> {
        Ok(self.0.disk.lock().claim.clone())
    }

    fn claim(&mut self, claim: &Claim) -> Result<(), Error> {
        let mut disk = self.0.disk.lock();
        disk.claim = Some(claim.clone());
        let state = state_of(claim, &disk)?;
        disk.saved.insert("sink.scylla".into(), state.encode()?);
        Ok(())
    }

    fn finish(self, epoch: Uuid) -> Result<(), Error> {
        let event_id = EventId::from_uuid(self.0.ids.next_uuid());
        let mut disk = self.0.disk.lock();
        disk.begin_epoch(epoch, event_id, self.0.clock.now());
        disk.is_copy = false;
        Ok(())
    }
}

fn state_of(claim: &Claim, disk: &Disk) -> Result<SinkState, Error> {
    let mut state = SinkState::new(claim.origin, claim.epoch, claim.settled);
    state.replica = Some(claim.keyspace.clone());
    state.session = claim.session;
    let lineage = claim.lineage.iter();
    state.lineage = lineage
        .map(|(epoch, first_position)| Stretch {
            epoch: *epoch,
            first_position: *first_position,
        })
        .collect();
    let commit_of = |position| disk.read(position - 1, 1).into_iter().next();
    for row in &claim.parked {
        let first = row.key.first_position;
        let recorded = commit_of(first).map(|commit| Recorded::of(&commit, first, row.local_event));
        if let Some(recorded) = recorded.transpose()?.flatten() {
            let entry = entry(row, recorded, claim.end.0);
            let key = (entry.stream.clone(), entry.first_position);
            state.parked.insert(key, entry);
        }
    }
    let mut parts = AcceptedParts::of(&state);
    let begins = parts.begins().unwrap_or(u64::MAX);
    let settled = claim.settled.position;
    for commit in disk.commits() {
        if commit.last_position() >= begins && commit.last_position() <= settled {
            parts.take(commit)?;
        }
    }
    parts.note(&mut state);
    Ok(state)
}
