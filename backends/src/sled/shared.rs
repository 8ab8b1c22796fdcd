//! What the store's handles, threads and streams share.

use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

use tidelog_core::{BoxFuture, Clock, Direction, Error, EventEnvelope, IdSource, Limits, StreamId};

use uuid::Uuid;

use super::checkpoints;
use super::format::{self, Format};
use super::gate::ByteGate;
use super::hash::NameHash;
use super::heads::Heads;
use super::indexer::Indexer;
use super::live::Live;
use super::log::Log;
use super::options::ProgressCallback;
use super::pages::read_places;
use super::preparer::Preparer;
use super::queue::Queue;
use super::read_models::ReadModels;
use super::recent_ids::RecentIds;
use super::request::Request;
use super::streams::Streams;
use super::workers::Workers;
use crate::claims::Claims;
use crate::primitives::Mutex;
use crate::primitives::atomic::{AtomicU64, Ordering};

pub(crate) struct Shared {
    pub dir: PathBuf,
    /// As it was when the store was opened; see [`format_now`](Self::format_now).
    pub format: Format,
    /// The incompatible flags on disk, which an open store may add to.
    pub flags: Mutex<u32>,
    pub limits: Limits,
    pub clock: Arc<dyn Clock>,
    pub ids: Arc<dyn IdSource>,
    pub progress: Option<ProgressCallback>,
    pub hash: NameHash,
    pub control: StreamId,
    /// The epoch in force.
    pub epoch: Mutex<Uuid>,
    pub log: Arc<Log>,
    pub streams: Arc<Streams>,
    pub live: Arc<Live>,
    pub heads: Heads,
    pub recent_ids: RecentIds,
    pub queue: Queue<Request>,
    /// Bounds the bytes in the queue.
    pub gate: Arc<ByteGate>,
    pub workers: Workers,
    pub preparer: Arc<Preparer>,
    pub indexer: Indexer,
    pub durable_position: AtomicU64,
    /// One snapshot at a time is compared and put.
    pub snapshots: Mutex<()>,
    /// One listener's checkpoint at a time is written.
    pub checkpoints: Mutex<checkpoints::Folder>,
    pub read_models: ReadModels,
    /// Names of the listeners at work.
    pub claims: Claims,
    pub refused: OnceLock<Error>,
    /// Who else writes a stream that is new here.
    pub foreign: OnceLock<Arc<Foreign>>,
}

/// Answers the origin that writes a stream, if another one is known to.
pub type Foreign = dyn Fn(StreamId) -> BoxFuture<'static, Option<Uuid>> + Send + Sync;

impl Shared {
    /// The `format` file as it is now.
    pub(crate) fn format_now(&self) -> Format {
        Format {
            incompatible: *self.flags.lock(),
            ..self.format
        }
    }

    /// Keeps builds away that do not know what is written next; durable when this returns.
    pub(crate) fn add_flag(&self, flag: u32) -> Result<(), Error> {
        self.set_flags(|flags| flags | flag)
    }

    /// The copy is a store of its own from here on.
    pub(crate) fn end_copy(&self) -> Result<(), Error> {
        self.set_flags(|flags| flags & !format::COPY)
    }

    fn set_flags(&self, change: impl FnOnce(u32) -> u32) -> Result<(), Error> {
        let mut flags = self.flags.lock();
        let changed = change(*flags);
        if changed != *flags {
            let format = Format {
                incompatible: changed,
                ..self.format
            };
            format.write(&self.dir)?;
            *flags = changed;
        }
        Ok(())
    }

    /// Refuses what only a store of its own may do.
    pub(crate) fn ensure_own(&self) -> Result<(), Error> {
        if self.format.is_copy() {
            let reason = "it is a copy of another store's log, which is only read";
            return Err(Error::NotAStore {
                path: self.dir.clone(),
                reason: reason.into(),
            });
        }
        Ok(())
    }

    /// From now on writes are refused; the first cause stays.
    pub(crate) fn refuse(&self, cause: &Error) {
        if self.refused.set(cause.clone()).is_ok() {
            tracing::error!(%cause, "the store takes no more writes until it is reopened");
            self.indexer.wake();
        }
    }

    /// Why writes are refused, when they are.
    pub(crate) fn refusal(&self) -> Option<Error> {
        self.refused.get().map(|cause| match cause {
            // Nothing has failed, and reopening does not help.
            Error::UnsupportedFormat { .. } => cause.clone(),
            cause => Error::Refused {
                cause: Box::new(cause.clone()),
            },
        })
    }

    pub(crate) fn durable(&self) -> u64 {
        self.durable_position.load(Ordering::Acquire)
    }

    /// One event of a stream, published ones only, in the branch that was its newest at position
    /// `pin`. `hash` is that of its name.
    pub(crate) fn read_event(
        &self,
        stream: &StreamId,
        hash: u64,
        sequence: u64,
        pin: u64,
    ) -> Result<Option<EventEnvelope>, Error> {
        let range = (sequence, sequence);
        let places = self
            .streams
            .postings(hash, stream, range, Direction::Forward, 1, pin)?;
        let mut events = read_places(&self.log, stream, &places)?;
        Ok(events.pop())
    }
}
