//! A log made from another log's commits, byte for byte: what a restore makes, and what a peer is read
//! from.

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use tidelog_core::{Error, EventLog};
use uuid::Uuid;

use super::commits::{Commit, CommitEnd, DeclaredHole};
use super::format;
use super::open::Opening;
use super::options::SledStoreBuilder;
use super::store::SledStore;
use super::walk::header;

/// A copy of the log of another store, or of a store that is lost; no part of the API.
///
/// It is a store that takes commits in place of appends. What was pushed and synced is there when it
/// is opened again, so whoever makes it needs to remember nothing: [`next`](Self::next) says how far
/// it is. Dropping it closes it. All calls block for file I/O.
pub struct LogCopy {
    store: SledStore,
    options: SledStoreBuilder,
}

impl LogCopy {
    /// Begins the copy in `dir`, or goes on with it, of the log that `origin` began in `first_epoch`.
    ///
    /// # Errors
    /// [`Error::NotAStore`] when something else stands there: a store of its own, also one that this
    /// copy has become, or another log's copy. As [`SledStoreBuilder::open`].
    pub fn open(
        dir: &Path,
        origin: Uuid,
        first_epoch: Uuid,
        options: &SledStoreBuilder,
    ) -> Result<Self, Error> {
        let mut options = options.clone();
        options.path = dir.into();
        options.check()?;
        let opening = Opening::Copy {
            origin,
            first_epoch,
        };
        let store = SledStore::open_with(&options, opening)?;
        let began = header(&store.shared().log, 1)?.epoch.id;
        if began != first_epoch {
            let reason =
                format!("it is the copy of a log that began in {began}, not {first_epoch}");
            return Err(Error::NotAStore {
                path: dir.into(),
                reason: reason.into(),
            });
        }
        Ok(Self { store, options })
    }

    /// What the next commit must follow.
    pub fn next(&self) -> CommitEnd {
        self.store.handle().lock().next()
    }

    /// The epoch that the copied log is in, or the one that [`finish`](Self::finish) has begun before
    /// it was interrupted.
    pub fn epoch(&self) -> Uuid {
        self.store.identity().epoch
    }

    /// Takes the commit `number`: `body` are its records, `hash` is the chain hash after it. Visible to
    /// readers when this returns; survives a power cut after the next [`sync`](Self::sync).
    ///
    /// # Errors
    /// [`Error::InvalidInput`] when it does not follow, is not whole, or is not what `hash` says;
    /// [`Error::Damaged`] when one of its streams goes back and the record of that was lost by a repair
    /// of the log: nothing was taken. [`Error::Refused`], [`Error::Closed`], [`Error::Io`].
    pub fn push(&mut self, number: u64, body: &[u8], hash: [u8; 32]) -> Result<(), Error> {
        let next = self.next();
        if number != next.number + 1 {
            let reason = format!("the copy goes on with commit {}", next.number + 1);
            return Err(Error::invalid("commit", number, reason));
        }
        let commit = Commit::new(&next, Bytes::copy_from_slice(body))?;
        if commit.hash != hash {
            let reason = "its records do not have the chain hash that it was sent with";
            return Err(Error::invalid("commit", number, reason));
        }
        let done = {
            let mut committer = self.store.handle().lock();
            let done = committer.push_copied(&commit);
            committer.prepare_ahead();
            done
        };
        // Wakers are foreign code: not under the lock.
        self.store.shared().live.notify();
        done
    }

    /// Passes over commits that the log itself declares lost; the next one stands behind them.
    ///
    /// Nothing on disk says so before that one is there: a copy that is opened again is before the hole.
    ///
    /// # Errors
    /// [`Error::InvalidInput`] when the hole does not begin where the copy ends; [`Error::Io`].
    pub fn skip(&mut self, hole: &DeclaredHole) -> Result<(), Error> {
        let next = self.next();
        let begins = CommitEnd {
            number: hole.first_commit.saturating_sub(1),
            position: hole.first_position.saturating_sub(1),
            hash: hole.hash_before,
        };
        let leads_on = hole.first_commit <= hole.last_commit
            && hole.first_position <= hole.last_position
            && hole.last_commit - hole.first_commit <= hole.last_position - hole.first_position;
        if begins != next || !leads_on {
            let reason = format!("it does not follow commit {}", next.number);
            return Err(Error::invalid("hole", hole.first_commit, reason));
        }
        // Builds that know no holes must not meet one.
        self.store.shared().add_flag(format::GAPS)?;
        self.store.handle().lock().skip(hole);
        Ok(())
    }

    /// Makes all that was pushed survive a power cut.
    ///
    /// # Errors
    /// [`Error::Refused`], [`Error::Closed`], [`Error::Io`].
    pub fn sync(&mut self) -> Result<(), Error> {
        self.store.handle().lock().sync_now()
    }

    /// Makes it a store of its own, which begins `epoch`, and opens that. Interrupted, it is still a
    /// copy, in the old epoch or in the new one: the same call goes on. Handles of
    /// [`store`](Self::store) are closed.
    ///
    /// # Errors
    /// [`Error::Damaged`] when it has a hole that no record declares, or ends in one. As
    /// [`sync`](Self::sync) and [`SledStoreBuilder::open`].
    pub fn finish(self, epoch: Uuid) -> Result<SledStore, Error> {
        let shared = Arc::clone(self.store.shared());
        let undeclared = shared.format_now().has_gaps() && shared.log.losses.is_none();
        {
            let mut committer = self.store.handle().lock();
            if undeclared || committer.is_in_hole() {
                let what = "commits are missing that no record of the log declares lost";
                return Err(Error::damaged(&shared.dir, what, "copy the log to its end"));
            }
            if committer.epoch().id != epoch {
                committer.begin_epoch(epoch)?;
            }
            committer.sync_now()?;
        }
        shared.live.notify();
        fail::fail_point!("copy_finish", |_| Err(Error::Closed));
        shared.end_copy()?;
        self.store.close_blocking()?;
        SledStore::open_with(&self.options, Opening::Store)
    }

    /// To read it meanwhile; appends answer [`Error::ForeignStream`].
    pub fn store(&self) -> &SledStore {
        &self.store
    }
}
