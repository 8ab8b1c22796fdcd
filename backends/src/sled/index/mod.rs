//! The stream index: where each event of each stream stands in the log.
//!
//! ```text
//!   log segment ──sealed──▶ SegmentIndex ──add_segment──▶ run of level 0 ──merge_step──▶ level 1 …
//!                            (memory)                      (pages in sled, named in `manifest`)
//! ```
//!
//! All of it can be made again from the log, and it never answers wrongly: a page that is missing,
//! changed, or of another run than the manifest names is [`IndexError::Damaged`], and the store
//! then calls [`Index::reset`] and adds its segments anew.

mod block;
mod filter;
#[cfg(feature = "fuzzing")]
pub(crate) mod fuzzing;
mod generation;
mod kv;
mod manifest;
mod memory_kv;
mod merge;
mod opening;
mod page;
mod run;
mod run_writer;
mod segment_index;
mod snapshots;
mod store;
#[cfg(test)]
#[cfg(not(feature = "shuttle"))]
mod tests;
mod view;

use std::fmt;
use std::time::Duration;

use tidelog_core::Error;

pub(crate) use kv::{RowChange, RowKv};
pub(crate) use manifest::FILE as MANIFEST;
pub(crate) use opening::promised;
pub(crate) use segment_index::SegmentIndex;
pub(crate) use store::{Index, Opened};

/// The folder that sled stands in, inside the store's.
pub(crate) const DIR: &str = "index";

/// The place of one record in the log, and what tells its event id from most others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Posting {
    /// Number of the segment.
    pub segment: u64,
    /// Where the record begins in it, in bytes.
    pub offset: u32,
    /// Its length, in bytes.
    pub len: u32,
    /// 32 bits of a keyed hash of its event id.
    pub fingerprint: u32,
}

/// Takes (hash, stream name, sequence, posting) of each entry that [`Index::verify`] walks over.
pub(crate) type VisitPosting<'a> =
    dyn FnMut(u64, &str, u64, Posting) -> Result<(), IndexError> + 'a;

/// What keeps the pages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Engine {
    #[default]
    Sled,
    /// Gone when the store is closed: the index is then made again from the log.
    #[cfg(any(feature = "fuzzing", all(test, feature = "shuttle")))]
    Memory,
}

/// How the index is opened.
#[derive(Clone, Debug)]
pub(crate) struct IndexOptions {
    pub engine: Engine,
    /// Whatever the index belongs to and depends on (origin, key of the name hashes), hashed. An
    /// index made under another identity is not believed.
    pub identity: [u8; 16],
    /// Whether the store was closed cleanly. Without it, sled is not believed where the filesystem
    /// cannot write it through.
    pub clean_stop: bool,
    /// Most bytes of blocks and fences kept in memory.
    pub cache_bytes: u64,
    /// Most bytes that sled may keep in memory.
    pub sled_cache_bytes: u64,
    /// Most bytes of filters kept in memory.
    pub filter_bytes: usize,
    /// How long opening sled may take before its generation is abandoned.
    pub open_timeout: Duration,
    /// How many runs of one level become one of the next; at least 2.
    pub merge_fan_in: usize,
}

impl Default for IndexOptions {
    fn default() -> Self {
        Self {
            engine: Engine::Sled,
            identity: [0; 16],
            clean_stop: true,
            cache_bytes: 16 << 20,
            sled_cache_bytes: 16 << 20,
            filter_bytes: 32 << 20,
            open_timeout: Duration::from_secs(30),
            merge_fan_in: 8,
        }
    }
}

/// The segments that the index answers for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Covered {
    /// Every segment up to this one, itself included.
    pub segment: u64,
    /// The chain hash at its end, as [`Index::add_segment`] was told. When the log says otherwise
    /// the index is another history's: reset it.
    pub chain: [u8; 32],
}

/// What stands on disk, for `info()` and tests.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct IndexStats {
    /// The directory under `index/` in use.
    pub generation: u64,
    /// Runs named by the manifest.
    pub runs: usize,
    /// Events in them.
    pub events: u64,
    /// Streams in them, counted once a run.
    pub streams: u64,
    /// Blocks in them.
    pub blocks: u64,
    /// Bytes that sled takes on disk.
    pub disk_bytes: u64,
    /// Bytes of filters in memory.
    pub filter_bytes: usize,
    /// Bytes of blocks and fences in memory.
    pub cached_bytes: u64,
    /// Whether the filesystem writes sled's files through to the disk.
    pub sync_flag: bool,
    /// Whether sled spilled nothing to its `blobs/`, which it never syncs.
    pub blobs_empty: bool,
    /// Why this generation was begun anew, when this process did so.
    pub rebuilt: Option<String>,
}

/// Why the index gave no answer.
#[derive(Clone, Debug)]
pub(crate) enum IndexError {
    /// What stands in sled is not what was written: reset and rebuild.
    Damaged(String),
    /// The system or the engine refused an operation.
    Failed(Error),
}

impl IndexError {
    pub(crate) fn damaged(what: impl Into<String>) -> Self {
        Self::Damaged(what.into())
    }
}

impl fmt::Display for IndexError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Damaged(what) => write!(f, "the stream index is damaged: {what}"),
            Self::Failed(error) => error.fmt(f),
        }
    }
}

impl From<Error> for IndexError {
    fn from(error: Error) -> Self {
        Self::Failed(error)
    }
}
