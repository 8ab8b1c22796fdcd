//! Backends of the tidelog event store.
//!
//! | backend | what it is for |
//! |---|---|
//! | [`SledStore`] | one machine, one process, durable: the embedded store |
//! | [`MemoryStore`] | tests and models: the same laws, nothing kept |

#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub mod fuzzing;
mod memory;
mod platform;
mod primitives;
mod sled;

pub use memory::{MemoryRepository, MemoryStore};
pub use sled::{
    BackupReport, Phase, Progress, ProgressCallback, SledStore, SledStoreBuilder, StoreInfo,
    VerifyReport, restore_backup,
};
