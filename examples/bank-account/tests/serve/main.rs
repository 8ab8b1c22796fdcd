//! The bank as a service, met as its users meet it: a process, over sockets.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]
#![allow(
    clippy::cast_precision_loss,
    reason = "figures to look at, far below 2^52"
)]

mod attacks;
mod described;
mod ending;
mod events;
mod hostile;
mod http;
mod load;
mod readers;
mod repeated;
mod routes;
mod service;
