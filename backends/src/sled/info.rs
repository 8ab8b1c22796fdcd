//! What a store says of itself.

use std::path::PathBuf;

use tidelog_core::{Error, Timestamp};
use uuid::Uuid;

use super::store::SledStore;

/// Facts about an open store; see [`SledStore::info`].
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct StoreInfo {
    /// Where it is.
    pub path: PathBuf,
    /// Version of its on-disk format.
    pub format_version: u32,
    /// Flags of later versions that this one may ignore.
    pub compatible_flags: u32,
    /// Flags that forbid writing to versions that do not know them.
    pub read_only_flags: u32,
    /// Flags that forbid opening to versions that do not know them.
    pub incompatible_flags: u32,
    /// The store's identity.
    pub origin: Uuid,
    /// The stretch of history it is in; new after it was restored or repaired.
    pub epoch: Uuid,
    /// When it was made.
    pub created: Timestamp,
    /// Position of the oldest record.
    pub first_position: u64,
    /// Position of the newest visible record.
    pub last_position: u64,
    /// Position of the newest record that survives a power cut.
    pub durable_position: u64,
    /// Number of the newest commit.
    pub commits: u64,
    /// Chain hash after the newest commit: kept elsewhere, it proves later that nothing before it
    /// was changed.
    pub chain_hash: [u8; 32],
    /// Segment files.
    pub segments: u64,
    /// Bytes of the segment files.
    pub log_bytes: u64,
    /// Bytes of the sled folder.
    pub index_bytes: u64,
    /// Sealed segments that are not in the stream index yet.
    pub unindexed_segments: u64,
    /// Runs of the stream index.
    pub index_runs: u64,
    /// Number of the sled folder in use.
    pub index_generation: u64,
    /// Why the index was made again since the store was opened, when it was.
    pub index_rebuilt: Option<String>,
    /// Whether the filesystem writes sled's files through. Where it cannot, the index is made again
    /// after every unclean stop; nothing is lost either way.
    pub write_through: bool,
    /// Why the store refuses writes, when it does.
    pub refused: Option<String>,
}

impl SledStore {
    /// Facts about the store. Waits for a commit under way.
    ///
    /// # Errors
    /// [`Error::Closed`], and [`Error::Io`] when files cannot be looked at.
    pub fn info(&self) -> Result<StoreInfo, Error> {
        self.ensure_open()?;
        let shared = self.shared();
        let (epoch, mark) = {
            let committer = self.handle().lock();
            (committer.epoch(), committer.mark())
        };
        let stats = shared
            .streams
            .index()
            .stats()
            .map_err(super::index_failed)?;
        let mut log_bytes = 0;
        for segment in shared.log.segments().iter() {
            let path = shared.log.path(segment.number);
            let found =
                std::fs::metadata(&path).map_err(|error| Error::io("inspect", path, error))?;
            log_bytes += found.len();
        }
        Ok(StoreInfo {
            path: shared.dir.clone(),
            format_version: shared.format.version,
            compatible_flags: shared.format.compatible,
            read_only_flags: shared.format.read_only,
            incompatible_flags: shared.format_now().incompatible,
            origin: shared.format.origin,
            epoch: epoch.id,
            created: shared.format.created,
            first_position: shared.log.first_position(),
            last_position: shared.live.last(),
            durable_position: shared.durable(),
            commits: mark.commit,
            chain_hash: mark.hash,
            segments: shared.log.segments().len() as u64,
            log_bytes,
            index_bytes: stats.disk_bytes,
            unindexed_segments: shared.indexer.backlog() as u64,
            index_runs: stats.runs as u64,
            index_generation: stats.generation,
            index_rebuilt: stats.rebuilt,
            write_through: stats.sync_flag,
            refused: shared.refused.get().map(ToString::to_string),
        })
    }

    /// Waits until every full segment is in the stream index and nothing is left to merge, and notes
    /// on disk that the newest commit was synced, if it is.
    ///
    /// # Errors
    /// What the indexer met; [`Error::Io`] when the note cannot be written.
    pub fn drain(&self) -> Result<(), Error> {
        self.ensure_open()?;
        self.shared().indexer.drain()?;
        self.handle().lock().leave_mark()
    }

    /// Makes the stream index again from the log; reads and appends wait.
    ///
    /// # Errors
    /// [`Error::Damaged`] when the log is, [`Error::Cancelled`], [`Error::Io`]. After one the store
    /// must be reopened. [`Error::UnsupportedFormat`] when this version may only read the store.
    pub fn rebuild_index(&self) -> Result<(), Error> {
        self.ensure_open()?;
        let shared = self.shared();
        shared.format.ensure_writable(&shared.dir)?;
        shared.streams.rebuild("it was asked for", None)
    }
}
