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
mod sled;

pub use memory::{MemoryRepository, MemoryStore};
pub use sled::{
    BackupReport, Losses, LostEvents, LostRange, Phase, Progress, ProgressCallback, RepairReport,
    SledStore, SledStoreBuilder, StoreInfo, VerifyReport, repair, restore_backup,
};
