//! Process managers and their timers.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    missing_docs,
    reason = "a test that fails shall stop, and its domain explains itself"
)]

mod domain;
mod facade;
mod kit;
mod steps;
mod timers;
