//! Listeners and the container that runs them.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test that fails shall stop"
)]

mod anything;
mod delivery;
mod embedded;
mod failing;
mod kit;
mod parking;
mod superseded;
