//! Events as CloudEvents: as lines of files, and as messages of Kafka.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod binding;
mod kit;
mod line;
