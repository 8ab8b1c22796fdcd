//! Projections at work: following, failing, rebuilding, being asked.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "tests fail by panicking"
)]

mod common;
mod inline;
mod poison;
mod reading;
mod rebuild;
