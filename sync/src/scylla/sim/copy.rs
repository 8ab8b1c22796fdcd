//! A disk onto which a store is restored.

use std::sync::Arc;

use parking_lot::Mutex;
use tidelog_backends::commits::{Commit, CommitEnd, DeclaredHole};
use tidelog_backends::wire::ParkedRow;
use tidelog_core::{Batch, BoxFuture, Clock, Error, EventId, IdSource, ManualSleeper, RetryPolicy};
use uuid::Uuid;

use super::super::copy_target::{Claim, CopyTarget, Restorable};
use super::super::patient::Patient;
use super::super::restore::{RestoreOptions, restore_to};
use super::disk::Disk;
use super::net::SimWire;
use super::outbox::SimLog;
use crate::replicate::parked::{ParkedEntry, ParkedReason};
use crate::replicate::state::{SinkState, Stretch};

/// How a restore ended.
pub(super) type Ended = Arc<Mutex<Option<Result<(), Error>>>>;

/// Restores onto the disk of `log`, whose origin is named by `origin`.
pub(super) fn restore(log: &SimLog, origin: Uuid, epoch: Uuid) -> (BoxFuture<'static, ()>, Ended) {
    let ended = Ended::default();
    let tell = ended.clone();
    let log = log.clone();
    let future = async move {
        let wire = Patient::new(
            SimWire {
                net: log.net.clone(),
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
    fn claimed(&self) -> Result<Option<Claim>, Error> {
        Ok(self.0.disk.lock().claim.clone())
    }

    fn claim(&mut self, claim: &Claim) -> Result<(), Error> {
        let mut disk = self.0.disk.lock();
        disk.claim = Some(claim.clone());
        disk.saved
            .insert("sink.scylla".into(), state_of(claim).encode()?);
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

fn state_of(claim: &Claim) -> SinkState {
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
    for row in &claim.parked {
        let key = (row.key.stream.clone(), row.key.first_position);
        state.parked.insert(key, entry_of(row, claim.end.0));
    }
    state
}

fn entry_of(row: &ParkedRow, since_position: u64) -> ParkedEntry {
    ParkedEntry {
        stream: row.key.stream.clone(),
        reason: ParkedReason::Diverged,
        first_sequence: row.first_sequence,
        first_position: row.key.first_position,
        local_event: row.local_event,
        remote: row.remote,
        batch: Batch {
            first: row.key.first_position,
            count: 1,
        },
        accepted: false,
        resolved_at: 0,
        since_position,
    }
}
