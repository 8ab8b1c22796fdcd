//! Projections at work: following, failing, rebuilding, being asked.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "tests fail by panicking"
)]

mod common;
mod counting;
mod cursors;
mod inline;
mod poison;
mod progress;
mod reading;
mod rebuild;
mod superseded;
