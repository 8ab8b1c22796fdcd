//! Backends of the tidelog event store.
//!
//! | backend | what it is for |
//! |---|---|
//! | [`SledStore`] | one machine, one process, durable: the embedded store |
//! | [`MemoryStore`] | tests and models: the same laws, nothing kept |

mod claims;
#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub mod fuzzing;
#[cfg(feature = "internals")]
#[doc(hidden)]
pub mod internals;
mod memory;
mod platform;
mod primitives;
#[cfg(any(feature = "scylla", feature = "fakes"))]
mod scylla;
mod sled;

/// The driver below, whose own types some settings take.
#[cfg(feature = "scylla")]
pub use ::scylla as scylla_driver;
pub use memory::{MemoryRepository, MemoryStore};
/// What replication asks the machine; no part of the API.
#[doc(hidden)]
pub mod machine {
    /// How long this machine has slept since it was started, as far as the system tells.
    pub fn slept() -> std::time::Duration {
        crate::platform::slept()
    }

    /// The name of this machine in its network.
    pub fn host_name() -> String {
        crate::platform::host_name()
    }
}
/// The log commit by commit, as replication sends it; no part of the API.
#[doc(hidden)]
pub mod commits {
    pub use crate::sled::commits::{
        Commit, CommitEnd, CommitRecord, Commits, DeclaredHole, Envelopes, EpochInfo,
    };
    pub use crate::sled::{LogCopy, SegmentMend};
}
/// What replication asks the server, and by what; no part of the API.
#[cfg(any(feature = "scylla", feature = "fakes"))]
#[doc(hidden)]
pub mod wire {
    #[cfg(feature = "scylla")]
    pub use crate::scylla::Cql;
    pub use crate::scylla::bucket::{Buckets, Search};
    pub use crate::scylla::oversized::Oversized;
    pub use crate::scylla::request::*;
    pub use crate::scylla::store::{Direct, DirectSettings, Pages};
}
/// The server's place taken by one in memory; no part of the API.
#[cfg(feature = "fakes")]
#[doc(hidden)]
pub mod fake {
    pub use crate::scylla::fake::*;
}
#[cfg(feature = "scylla")]
pub use crate::scylla::{
    Consistency, KeyspaceReplication, MigrateReport, SCHEMA_VERSION, ScyllaConfig, ScyllaStore, Tls,
};
pub use sled::{
    BackupReport, IndexCopy, LogInfo, LogReader, LogRecords, Losses, LostEvents, LostRange,
    ModelState, Phase, Progress, ProgressCallback, RepairReport, SavedState, SledStore,
    SledStoreBuilder, StoreInfo, StoreKind, StoredModel, StoredSnapshot, VerifyReport, repair,
    repair_told, restore_backup, restore_backup_told,
};
#[cfg(feature = "scylla")]
pub use tidelog_core::Secret;
