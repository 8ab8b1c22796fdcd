//! The backend on a real server: the one that `TIDELOG_TEST_SCYLLA` names.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    reason = "these are tests"
)]

mod buckets;
mod closing;
mod conformance;
mod keyspaces;
mod kit;
mod memory;
mod policies;
mod schema;
mod secrets;
mod tls;
