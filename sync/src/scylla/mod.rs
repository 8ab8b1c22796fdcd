//! The replica at ScyllaDB or Cassandra: the sink that makes it, and what reads it.

#![allow(dead_code, reason = "the replica lands in steps")]

mod ask;
mod copy_target;
pub(crate) mod judge;
mod lineage;
mod log_reader;
mod log_rows_window;
mod patient;
mod restore;
#[cfg(test)]
mod test_log;

pub use restore::{RestoreOptions, RestoreReport};
