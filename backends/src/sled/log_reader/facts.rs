//! What a log says of itself.

use std::path::{Path, PathBuf};

use tidelog_core::{Error, Timestamp};
use uuid::Uuid;

use super::super::lock;
use super::super::state::State;
use super::super::{backup, index};
use super::LogReader;
use crate::platform;

/// What a directory with a log is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum StoreKind {
    /// A store.
    Store,
    /// A backup, or a store that was restored from one and not opened since.
    Backup,
    /// A copy of another store's log.
    Copy,
}

/// Facts about a log; see [`LogReader::info`].
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct LogInfo {
    /// Where it is.
    pub path: PathBuf,
    /// What it is.
    pub kind: StoreKind,
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
    /// The stretch of history that its newest durable commit is of.
    pub epoch: Uuid,
    /// When it was made.
    pub created: Timestamp,
    /// Position of the oldest record.
    pub first_position: u64,
    /// Position of the newest record that survives a power cut; 0 when there is none.
    pub last_position: u64,
    /// Number of the newest commit that does.
    pub commits: u64,
    /// Chain hash after that commit: kept elsewhere, it proves later that nothing before it was changed.
    pub chain_hash: [u8; 32],
    /// Whole commits behind it, of which nothing says yet that they are on the disk.
    pub pending_commits: u64,
    /// Segment files that were begun.
    pub segments: u64,
    /// Bytes of these files.
    pub log_bytes: u64,
    /// The newest segment that the index covers, as its manifest says; `None` when there is no manifest
    /// that can be read.
    pub indexed_segments: Option<u64>,
    /// Whether the store was closed in order after its newest commit.
    pub closed: bool,
    /// Whether a process has the store open, as far as the system tells.
    pub in_use: Option<bool>,
    /// Who opened it last, by its own account: process, host and time.
    pub last_opened: Option<String>,
    /// What was found to be damaged at the end of the log; [`LogReader::verify`] looks at all of it.
    pub damage: Option<String>,
}

impl LogReader {
    /// Facts about the log, as of when it was opened or last refreshed.
    ///
    /// # Errors
    /// [`Error::Io`] when files cannot be looked at.
    pub fn info(&self) -> Result<LogInfo, Error> {
        let (durable, format) = (self.tail.durable(), &self.format);
        let segments = self.log.segments();
        let mut log_bytes = 0;
        for segment in segments.iter() {
            let path = self.log.path(segment.number);
            let found =
                std::fs::metadata(&path).map_err(|error| Error::io("inspect", path, error))?;
            log_bytes += found.len();
        }
        let clean = State::read(&self.dir).ok().and_then(|state| state.clean());
        let identity = super::super::open::index_identity(64, format);
        let lock = self.dir.join(lock::FILE);
        Ok(LogInfo {
            path: self.dir.clone(),
            kind: kind(&self.dir, format.is_copy()),
            format_version: format.version,
            compatible_flags: format.compatible,
            read_only_flags: format.read_only,
            incompatible_flags: format.incompatible,
            origin: format.origin,
            epoch: self.tail.durable_epoch(),
            created: format.created,
            first_position: self.first_position(),
            last_position: durable.position,
            commits: durable.number,
            chain_hash: durable.hash,
            pending_commits: self.pending_commits(),
            segments: segments.len() as u64,
            log_bytes,
            indexed_segments: index::promised(&self.dir, &identity).ok().flatten(),
            closed: clean.is_some_and(|mark| mark.commit == durable.number),
            in_use: platform::is_locked(&lock),
            last_opened: lock::noted(&lock),
            damage: self.tail.damage().map(ToString::to_string),
        })
    }
}

fn kind(dir: &Path, is_copy: bool) -> StoreKind {
    match is_copy {
        true => StoreKind::Copy,
        false if backup::is_backup(dir) => StoreKind::Backup,
        false => StoreKind::Store,
    }
}
