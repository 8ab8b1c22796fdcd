//! What replication asks an open store.

use std::fs::File;
use std::future::Future;
use std::sync::Arc;

use tidelog_core::{Error, StreamId};
use uuid::Uuid;

use super::super::control;
use super::super::frame_reader::{FrameReader, Step, for_each_record};
use super::super::log::Log;
use super::super::segment::{Epoch, SegmentHeader};
use super::super::store::SledStore;
use super::super::walk::{expect_of, header};
use super::walk::{commit_at, header_at};
use super::{CommitEnd, Commits, EpochInfo};

#[doc(hidden)]
impl SledStore {
    /// The commits from the one on that holds position `after + 1`; durable ones only.
    pub fn commits(&self, after: u64) -> Commits {
        Commits::new(Arc::clone(self.shared()), after)
    }

    /// The commit that ends at `position`; `None` when none does. 0 is where the log begins. Blocks
    /// for file I/O.
    ///
    /// # Errors
    /// [`Error::Damaged`], [`Error::Io`], [`Error::Closed`].
    pub fn commit_end(&self, position: u64) -> Result<Option<CommitEnd>, Error> {
        self.ensure_open()?;
        let shared = self.shared();
        let log = &shared.log;
        if position > shared.live.last() || log.hole_at(position).is_some() {
            return Ok(None);
        }
        if position < log.first_position() {
            let first = header(log, 1)?;
            let begins = position + 1 == first.first_position && first.gap.is_none();
            return Ok(begins.then(|| CommitEnd {
                number: first.first_commit - 1,
                position,
                hash: first.previous,
            }));
        }
        let cursor = log.locate(position)?;
        let Some(found) = header_at(log, cursor)? else {
            return Err(log.damaged(cursor.segment, cursor.offset, "no commit can be read"));
        };
        if found.first_position + u64::from(found.records) - 1 != position {
            return Ok(None);
        }
        commit_at(log, cursor, &found).map(|commit| Some(commit.end()))
    }

    /// Whether the event of this stream, sequence and position has given way to another branch.
    pub fn has_given_way(&self, stream: &StreamId, sequence: u64, position: u64) -> bool {
        let branches = &self.shared().log.branches;
        branches.superseded_at(stream, sequence, position).is_some()
    }

    /// The newest position that survives a power cut.
    pub fn durable_position(&self) -> u64 {
        self.shared().durable()
    }

    /// Resolves at the next commit after this call, or when the store is closed. It does not keep the
    /// store open. [`durable_position`](Self::durable_position) is asked after it was made, so that
    /// nothing is missed.
    pub fn news(&self) -> impl Future<Output = ()> + Send + use<> {
        let live = Arc::clone(&self.shared().live);
        let listener = live.listen();
        async move {
            if !live.is_closed() {
                listener.await;
            }
        }
    }

    /// All epochs of this log, oldest first. Reads the segments in which one begins. Blocks for file
    /// I/O.
    ///
    /// # Errors
    /// [`Error::Damaged`], [`Error::Io`], [`Error::Closed`].
    pub fn epochs(&self) -> Result<Vec<EpochInfo>, Error> {
        self.ensure_open()?;
        let (current, last) = {
            let committer = self.handle().lock();
            (committer.epoch(), committer.mark().position)
        };
        let log = &self.shared().log;
        let segments = log.segments();
        let mut epochs: Vec<EpochInfo> = Vec::new();
        for (at, info) in segments.iter().enumerate() {
            let here = header(log, info.number)?;
            if epochs.last().is_none_or(|known| known.id != here.epoch.id) {
                // The first one has no record; a repair may have lost another one's.
                let first = here.first_position;
                epochs.push(EpochInfo::new(&here.epoch, first));
            }
            let next: Epoch = match segments.get(at + 1) {
                Some(next) => header(log, next.number)?.epoch,
                None => current,
            };
            if next.id != here.epoch.id {
                epochs.extend(begun_in(log, &here, last)?);
            }
        }
        Ok(epochs)
    }

    /// Begins a new epoch, durable when this returns; answers its id. Blocks for file I/O.
    ///
    /// # Errors
    /// [`Error::Refused`], [`Error::Closed`], [`Error::Io`].
    pub fn begin_epoch(&self) -> Result<Uuid, Error> {
        self.ensure_open()?;
        self.shared().ensure_own()?;
        let epoch = self.shared().ids.next_uuid();
        let begun = {
            let mut committer = self.handle().lock();
            let begun = committer.refusal().map_or(Ok(()), Err);
            begun
                .and_then(|()| committer.begin_epoch(epoch))
                .and_then(|()| committer.leave_mark())
        };
        // Wakers are foreign code: not under the lock.
        self.shared().live.notify();
        begun.map(|()| epoch)
    }
}

/// The epochs whose records stand in one segment, up to position `last`.
fn begun_in(log: &Log, header: &SegmentHeader, last: u64) -> Result<Vec<EpochInfo>, Error> {
    let number = header.number;
    let file: Arc<File> = log.file(number)?;
    let mut reader = FrameReader::new(&file, log.path(number))?;
    let mut next = expect_of(header);
    let mut begun = Vec::new();
    while next.position <= last {
        let offset = reader.offset();
        match reader.step(&next)? {
            Step::Commit { next: after, .. } => next = after,
            Step::End => break,
            Step::Bad(why) => return Err(log.damaged(number, offset, why)),
        }
        let read = for_each_record(reader.body(), |_, _, parsed| {
            if let Some(epoch) = control::epoch_of(&parsed) {
                begun.push(EpochInfo::new(&epoch, parsed.position));
            }
            Ok(())
        })?;
        read.map_err(|why| log.damaged(number, offset, why))?;
    }
    Ok(begun)
}
