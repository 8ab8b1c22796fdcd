//! The embedded store: the log is the truth, sled finds and remembers.
//!
//! ```text
//!  append ─▶ queue ─▶ commit ─▶ log/*.seg ──sealed──▶ indexer ─▶ index (runs in sled)
//!                       │                                            │
//!                       ├─▶ heads (versions, ids)                    │
//!  read   ◀── pages ◀───┴── streams: tails in memory + runs ◀────────┘
//!  follow ◀── subscription ◀── live (newest commits)
//! ```

mod backup;
mod branches;
mod checkpoints;
mod commit;
pub(crate) mod commits;
mod control;
mod copy;
mod format;
mod frame;
mod frame_reader;
#[cfg(feature = "fuzzing")]
pub(crate) mod fuzzing;
mod gate;
mod group;
mod handle;
mod hash;
mod heads;
pub(crate) mod index;
mod index_copy;
mod indexer;
mod info;
#[cfg(feature = "internals")]
pub(crate) mod internals;
mod live;
mod lock;
mod log;
mod log_pages;
mod log_reader;
mod losses;
mod mark;
mod mend;
#[cfg(test)]
#[cfg(feature = "shuttle")]
mod models;
mod open;
mod options;
mod pages;
mod panics;
mod preparer;
mod queue;
mod read_ahead;
mod read_models;
mod recent_ids;
mod record;
mod recover;
mod repair;
mod replay;
mod request;
mod retry;
mod sealed_file;
mod segment;
mod shared;
mod signal;
mod snapshots;
mod spin;
mod state;
mod store;
mod streams;
mod subscription;
mod supersede;
mod varint;
mod verify;
mod walk;
mod workers;

pub use backup::{BackupReport, restore_backup, restore_backup_told};
pub use copy::LogCopy;
pub use index_copy::{IndexCopy, ModelState, StoredModel, StoredSnapshot};
pub use info::StoreInfo;
pub use log_reader::{LogInfo, LogReader, LogRecords, SavedState, StoreKind};
pub use losses::{Losses, LostEvents, LostRange};
pub use mend::SegmentMend;
pub use options::{Phase, Progress, ProgressCallback, SledStoreBuilder};
pub use repair::{RepairReport, repair, repair_told};
pub use store::SledStore;
pub use verify::VerifyReport;

use index::IndexError;
use tidelog_core::Error;

/// What the user sees of an index error that could not be healed.
fn index_failed(error: IndexError) -> Error {
    match error {
        IndexError::Failed(error) => error,
        IndexError::Damaged(what) => Error::damaged(
            "index",
            what,
            "reopen the store: the index is made again from the log",
        ),
    }
}
