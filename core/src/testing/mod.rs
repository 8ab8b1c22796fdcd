//! The conformance kit: one test a law, run by every backend.
//!
//! A backend writes a [`Harness`] (and a [`PersistentHarness`] when its data outlives its handles)
//! and lists the contracts that it has:
//!
//! ```
//! # mod example {
//! # use tidelog_core::testing::{Harness, Settings};
//! # use tidelog_core::DynEventStore;
//! # use std::sync::Arc;
//! # struct MyHarness;
//! # impl Harness for MyHarness {
//! #     type Store = Arc<dyn DynEventStore>;
//! #     fn open(&mut self, _: Settings) -> Self::Store { unimplemented!() }
//! #     fn close(&mut self, _: Self::Store) {}
//! # }
//! tidelog_core::conformance_tests!(my_store, MyHarness; store);
//! # }
//! ```
//!
//! | group | wants of the store | laws |
//! |---|---|---|
//! | `store` | [`EventStore`](crate::EventStore) | 1–6, 8–10 |
//! | `multi_stream` | [`MultiStreamStore`](crate::MultiStreamStore) | 2–4 over several streams |
//! | `log` | [`EventLog`](crate::EventLog) | 1, 6, 7 |
//! | `snapshots` | [`SnapshotStore`](crate::SnapshotStore) | 12 |
//! | `superseding` | [`Supersede`](crate::Supersede), several streams, snapshots | 17 |
//! | `rows` | [`RowStore`](crate::RowStore) | 13–16 |
//! | `checkpoints` | [`CheckpointStore`](crate::CheckpointStore) | its own |
//! | `persistence`, `multi_stream_persistence`, `log_persistence`, `snapshot_persistence`, `row_persistence`, `checkpoint_persistence`, `superseding_persistence` | the same, of a [`PersistentHarness`] | all of it after a reopen |
//!
//! A group that is not listed is not there; one that is listed without its contract does not
//! compile:
//!
//! ```compile_fail,E0277
//! # use tidelog_core::testing::{Harness, Settings};
//! # use tidelog_core::DynEventStore;
//! # use std::sync::Arc;
//! # struct MyHarness;
//! # impl Harness for MyHarness {
//! #     type Store = Arc<dyn DynEventStore>;
//! #     fn open(&mut self, _: Settings) -> Self::Store { unimplemented!() }
//! #     fn close(&mut self, _: Self::Store) {}
//! # }
//! tidelog_core::testing::log::positions_are_dense_in_append_order(&mut MyHarness);
//! ```
//!
//! Laws panic when they do not hold. They wait with generous bounds, only so as not to hang, and
//! assert nothing about time. Law 11 (failure) needs faults that only a backend can cause.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::missing_panics_doc,
    clippy::wildcard_imports,
    reason = "these are tests: a panic is how a law reports that it does not hold"
)]

mod harness;
mod macros;
mod tools;

pub mod cancellation;
pub mod checkpoints;
pub mod limits;
pub mod log;
pub mod multi_stream;
pub mod persistence;
#[cfg(feature = "proptest")]
pub mod properties;
pub mod racing;
pub mod reads;
pub mod retry;
pub mod row_stores;
pub mod scenario;
pub mod snapshots;
pub mod store;
pub mod subscriptions;
pub mod superseding;

pub use self::harness::{Harness, PersistentHarness, Settings};
