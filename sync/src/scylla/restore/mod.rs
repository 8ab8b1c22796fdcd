//! A store made anew from what the replica has of its log.

mod call;
mod chosen;
mod sled_copy;

pub(super) use call::connect;
pub use call::{restore, restore_blocking};

use std::fmt;
use std::ops::{ControlFlow, RangeInclusive};

use tidelog_backends::commits::CommitEnd;
use tidelog_backends::wire::{ForkRows, MetaRow, OriginRow, ParkedRow, Watermark, Wire};
use tidelog_backends::{Phase, Progress, ProgressCallback};
use tidelog_core::{Error, Halt, IdSource};
use uuid::Uuid;

use self::chosen::{chosen, find, find_epoch, nothing_there, origins, own};
use super::ask::{self, trouble};
use super::connect::replica_of;
use super::copy_target::{Claim, Restorable};
use super::lineage::Lineage;
use super::log_reader::{LogReader, Next, declared_hole};

/// What is copied between two syncs, in bytes.
const SYNC_EVERY: usize = 16 << 20;
/// The old store may go on replicating meanwhile: so often its newest events are fetched.
const MOST_ROUNDS: u32 = 20;

/// Which store to restore, and how; see [`restore`](crate::restore).
///
/// ```
/// use tidelog::RestoreOptions;
/// // The only store that the keyspace has; its old copy will be refused from now on.
/// let options = RestoreOptions::new();
/// # drop(options);
/// ```
#[derive(Clone, Default)]
pub struct RestoreOptions {
    pub(super) origin: Option<Uuid>,
    pub(super) epoch: Option<Uuid>,
    pub(super) keep_old_epoch: bool,
    pub(super) name: Box<str>,
    pub(super) progress: Option<ProgressCallback>,
}

impl RestoreOptions {
    /// The only store of the keyspace, in the only epoch that it lives in.
    pub fn new() -> Self {
        Self::default()
    }

    /// The store with this origin.
    pub fn origin(mut self, origin: Uuid) -> Self {
        self.origin = Some(origin);
        self
    }

    /// The store as it went on in this epoch, where there is more than one: after a `fork` that let
    /// both live. One that was given up can be had, too.
    pub fn epoch(mut self, epoch: Uuid) -> Self {
        self.epoch = Some(epoch);
        self
    }

    /// Lets the old copy of the store live on beside the new one. Without this it is given up: if it
    /// still runs somewhere, its replication stands still with
    /// [`Halt::EpochRetired`](tidelog_core::Halt).
    pub fn keep_old_epoch(mut self) -> Self {
        self.keep_old_epoch = true;
        self
    }

    /// What the new store calls itself, for people; the old one's name if this is not called.
    pub fn name(mut self, name: &str) -> Self {
        self.name = name.into();
        self
    }

    /// Called now and then with [`Phase::Restore`], in positions of the log; may cancel, and what was
    /// copied stays for the next call.
    pub fn progress(
        mut self,
        callback: impl Fn(Progress) -> ControlFlow<()> + Send + Sync + 'static,
    ) -> Self {
        self.progress = Some(std::sync::Arc::new(callback));
        self
    }
}

impl fmt::Debug for RestoreOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RestoreOptions")
            .field("origin", &self.origin)
            .field("epoch", &self.epoch)
            .field("keep_old_epoch", &self.keep_old_epoch)
            .finish_non_exhaustive()
    }
}

/// What a restore has done.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct RestoreReport {
    /// The store.
    pub origin: Uuid,
    /// The epoch that it was restored from.
    pub from_epoch: Uuid,
    /// The epoch that it is in now.
    pub epoch: Uuid,
    /// The position up to which it is the store that it was.
    pub position: u64,
    /// Commits fetched by this call; those of an earlier one that did not end are not among them.
    pub commits: u64,
    /// How many positions of it the server had not yet counted as settled.
    pub beyond_watermark: u64,
    /// Positions that the log itself declares lost, since a repair.
    pub lost: Vec<RangeInclusive<u64>>,
    /// Rows of another copy of the store, which were left out.
    pub left_out: u64,
    /// Where the log was cut because two copies of the store had sent different events and nothing
    /// says which is right.
    pub undecided: Option<u64>,
    /// Streams that were parked, and are again.
    pub parked: usize,
}

/// Copies what `wire` has to what `open` opens, and makes it known there as a new epoch.
///
/// `open` is given the store's origin and first epoch, and whether to make the copy if there is none.
/// Dropped at any place and called again with the same copy, it goes on.
pub(in crate::scylla) async fn restore_to<W, T>(
    wire: &W,
    options: &RestoreOptions,
    ids: &dyn IdSource,
    mut open: impl FnMut(Uuid, Uuid, bool) -> Result<Option<T>, Error>,
) -> Result<RestoreReport, Error>
where
    W: Wire + ?Sized,
    T: Restorable,
{
    let found = find(wire, options).await?;
    let Some(first) = found.rows.first().map(|row| row.first_epoch) else {
        return Err(nothing_there(options));
    };
    // What an earlier call has made known counts, whatever else lives.
    if let Some(mut copy) = open(found.origin, first, false)?
        && let Some(claim) = copy.claimed()?
        && let Some(row) = own(&found.rows, &claim)
    {
        return settle(&mut copy, claim, row).and_then(|report| {
            copy.finish(report.epoch)?;
            Ok(report)
        });
    }
    let chosen = chosen(&found.rows, options)?;
    let (epoch, first, given_up) = (chosen.epoch, chosen.first_epoch, chosen.successor);
    let Some(mut copy) = open(found.origin, first, true)? else {
        return Err(nothing_there(options));
    };
    let mut work = Work {
        wire,
        options,
        meta: found.meta,
        report: RestoreReport::new(found.origin, epoch),
    };
    let mut rows = found.rows;
    for _ in 0..MOST_ROUNDS {
        let row = find_epoch(&rows, epoch)?;
        let claim = work.copy(&rows, row, ids, &mut copy).await?;
        work.make_known(row, &claim).await?;
        rows = origins(wire, found.origin).await?;
        if let Some(row) = own(&rows, &claim) {
            work.report.epoch = settle(&mut copy, claim, row)?.epoch;
            copy.finish(work.report.epoch)?;
            return Ok(work.report);
        }
        let now = find_epoch(&rows, epoch)?;
        if let Some(successor) = now.successor.filter(|_| given_up.is_none()) {
            return Err(Error::Halted(Box::new(Halt::EpochRetired {
                epoch,
                successor,
            })));
        }
    }
    let reason = "the old copy of the store goes on replicating: stop it first, or let both live by \
                  `keep_old_epoch`";
    Err(Error::invalid("epoch to restore", epoch, reason))
}

/// Keeps what the server knows of the claim, which may be an earlier try with an earlier end.
fn settle<T: Restorable>(
    copy: &mut T,
    mut claim: Claim,
    row: &OriginRow,
) -> Result<RestoreReport, Error> {
    let settled = end_of(&row.watermark);
    let mut report = RestoreReport::new(claim.origin, claim.epoch);
    if let Some((parent, position, hash)) = row.parent {
        report.from_epoch = parent;
        if (claim.end, claim.settled) != ((position, hash), settled) {
            (claim.end, claim.settled) = ((position, hash), settled);
            if let Some(last) = claim.lineage.last_mut() {
                last.1 = position + 1;
            }
            copy.claim(&claim)?;
        }
    }
    report.epoch = claim.epoch;
    report.position = claim.end.0;
    report.parked = claim.parked.len();
    Ok(report)
}

pub(in crate::scylla) fn end_of(watermark: &Watermark) -> CommitEnd {
    CommitEnd {
        number: watermark.commit_number,
        position: watermark.position,
        hash: watermark.hash,
    }
}

impl RestoreReport {
    fn new(origin: Uuid, from_epoch: Uuid) -> Self {
        Self {
            origin,
            from_epoch,
            epoch: from_epoch,
            position: 0,
            commits: 0,
            beyond_watermark: 0,
            lost: Vec::new(),
            left_out: 0,
            undecided: None,
            parked: 0,
        }
    }
}

/// Fails unless what was restored so far is of this log. It may go further than the watermark did then;
/// another copy of the store, or an old image of its disk, may have settled something else there since.
fn is_of<T: Restorable>(lineage: &Lineage, goal: CommitEnd, copy: &T) -> Result<(), Error> {
    let reached = copy.end().position;
    let known = lineage.epochs().filter_map(|s| Some((s.to, s.hash?)));
    for (position, hash) in known.chain([(goal.position, goal.hash)]) {
        if (1..=reached).contains(&position) && !copy.has(position, &hash)? {
            let what =
                format!("at position {position} it is another history than what was restored");
            return Err(damaged(lineage.origin, what));
        }
    }
    Ok(())
}

struct Work<'a, W: ?Sized> {
    wire: &'a W,
    options: &'a RestoreOptions,
    meta: MetaRow,
    report: RestoreReport,
}

impl<W: Wire + ?Sized> Work<'_, W> {
    /// Copies all that there is of the epoch, and keeps what is to be made known.
    async fn copy<T: Restorable>(
        &mut self,
        rows: &[OriginRow],
        row: &OriginRow,
        ids: &dyn IdSource,
        copy: &mut T,
    ) -> Result<Claim, Error> {
        let lineage = Lineage::of(rows, row.epoch).map_err(|missing| {
            let what = format!("the row of its epoch {missing} in `origins` is missing");
            damaged(row.origin, what)
        })?;
        let goal = end_of(&row.watermark);
        is_of(&lineage, goal, copy)?;
        self.fetch(lineage.clone(), goal, copy).await?;
        let parked = ask::parked(self.wire, row.origin, row.epoch).await;
        let parked = parked.map_err(|error| trouble("read what is parked", &error))?;
        let (epoch, session) = match copy.claimed()? {
            Some(claim) => (claim.epoch, claim.session),
            None => (ids.next_uuid(), ids.next_uuid()),
        };
        let end = copy.end();
        let stretches = lineage.epochs().map(|s| (s.epoch, s.from));
        let mut lineage: Vec<_> = stretches
            .filter(|(_, from)| *from <= end.position)
            .collect();
        lineage.push((epoch, end.position + 1));
        let under = |mut row: ParkedRow| {
            row.key.epoch = epoch;
            row.until_position = None;
            row
        };
        // What was resolved by commits that are not there is not resolved.
        let open = parked.into_iter().filter(|row| {
            let resolved = row
                .until_position
                .is_some_and(|until| until <= end.position);
            !resolved && row.key.first_position <= end.position
        });
        let claim = Claim {
            keyspace: replica_of(&self.meta),
            origin: row.origin,
            epoch,
            session,
            end: (end.position, end.hash),
            settled: if goal.position <= end.position {
                goal
            } else {
                end
            },
            lineage,
            parked: open.map(under).collect(),
        };
        copy.claim(&claim)?;
        copy.published(&claim, row.published.min(end.position))?;
        self.report.parked = claim.parked.len();
        self.report.position = end.position;
        self.report.beyond_watermark = end.position.saturating_sub(row.watermark.position);
        Ok(claim)
    }

    async fn fetch<T: Restorable>(
        &mut self,
        lineage: Lineage,
        goal: CommitEnd,
        copy: &mut T,
    ) -> Result<(), Error> {
        let (origin, chunk_records) = (lineage.origin, self.meta.chunk_records);
        let mut reader = LogReader::new(lineage, chunk_records, copy.end(), goal);
        let mut unsynced = 0;
        self.tell(&reader, goal)?;
        let asked = |error| trouble("read a log", &error);
        loop {
            let next = reader.next(self.wire, u64::MAX).await.map_err(asked)?;
            let end = reader.end();
            match next {
                Next::Commit(commit) => {
                    copy.push(&commit)?;
                    self.report.commits += 1;
                    unsynced += commit.body.len();
                    if unsynced >= SYNC_EVERY {
                        copy.sync()?;
                        unsynced = 0;
                        self.tell(&reader, goal)?;
                    }
                }
                Next::Missing if end.position >= goal.position => break,
                Next::Missing if reader.widen() => {}
                Next::Missing => {
                    let hole = declared_hole(self.wire, &reader).await.map_err(asked)?;
                    let Some(hole) = hole else {
                        let first = end.position + 1;
                        let what = format!(
                            "rows of `log_by_origin` from position {first} on are missing or not \
                             those that were sent, and its watermark is at {}",
                            goal.position
                        );
                        return Err(damaged(origin, what));
                    };
                    copy.skip(&hole)?;
                    reader.skip(&hole);
                    let lost = hole.first_position..=hole.last_position;
                    self.report.lost.push(lost);
                }
                Next::Undecided if end.position >= goal.position => {
                    self.report.undecided = Some(end.position + 1);
                    break;
                }
                Next::Undecided | Next::Mismatch(_) => {
                    let position = end.position;
                    let what =
                        format!("what was sent up to position {position} is another history's");
                    return Err(damaged(origin, what));
                }
            }
        }
        self.report.left_out += reader.left_out();
        copy.sync()?;
        self.tell(&reader, goal)
    }

    fn tell(&self, reader: &LogReader, goal: CommitEnd) -> Result<(), Error> {
        let done = reader.end().position;
        let total = goal.position.max(done);
        #[allow(clippy::cast_precision_loss, reason = "gauges are floats")]
        metrics::gauge!("tidelog_restore_position").set(done as f64);
        let phase = Phase::Restore;
        let progress = Progress { phase, done, total };
        match &self.options.progress {
            Some(callback) if callback(progress).is_break() => Err(Error::Cancelled {
                what: "restoring the store",
            }),
            _ => Ok(()),
        }
    }

    /// Tells the server of the new epoch; what came of it is for `origins` to say.
    async fn make_known(&self, from: &OriginRow, claim: &Claim) -> Result<(), Error> {
        for row in &claim.parked {
            let parked = ask::park(self.wire, row.clone()).await;
            parked.map_err(|error| trouble("note what is parked", &error))?;
        }
        let ((position, hash), settled) = (claim.end, claim.settled);
        let name = match &*self.options.name {
            "" => from.name.clone(),
            name => name.into(),
        };
        let row = OriginRow {
            origin: claim.origin,
            epoch: claim.epoch,
            first_epoch: from.first_epoch,
            parent: Some((from.epoch, position, hash)),
            watermark: Watermark {
                session: claim.session,
                position: settled.position,
                hash: settled.hash,
                commit_number: settled.number,
            },
            published: from.published.min(position),
            successor: None,
            name,
        };
        let lives = self.options.keep_old_epoch || from.successor.is_some();
        let retires = (!lives).then_some((from.epoch, from.watermark));
        let known = ask::fork(self.wire, ForkRows { row, retires }).await;
        match known {
            Err(error) if error.class != tidelog_backends::wire::ErrorClass::Unclear => {
                Err(trouble("make the restored store known", &error))
            }
            // Read next, whatever it was.
            _ => Ok(()),
        }
    }
}

fn damaged(origin: Uuid, what: String) -> Error {
    let remedy = "the store itself can send everything again: `resync` there; and remove what was \
                  restored so far";
    Error::damaged(format!("the replica of {origin}"), what, remedy)
}

#[cfg(test)]
mod lossy_tests;
#[cfg(test)]
mod tests;
