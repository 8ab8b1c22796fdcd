//! The server's place, taken by one in memory: for the simulation and for tests of what asks.
//!
//! | file | subject |
//! |---|---|
//! | `tables` | the tables, and what a request reads there |
//! | `writes` | what a conditional write changes, if its condition holds |
//! | `server` | one server: requests in, answers out; what a Paxos round leaves behind |
//! | `losses` | what a server may lose, on purpose |
//! | `wire` | the server behind a [`Wire`](super::request::Wire) that answers at once |
//!
//! It keeps the meaning that CQL has for the requests of `request/` and for no other.
//! `backends/tests/wire` asks it and a real server the same and wants the same answers.

mod losses;
mod server;
mod tables;
#[cfg(test)]
mod tests;
mod wire;
mod writes;

pub use losses::Table;
pub use server::{Chance, FakeServer, Limits};
pub use tables::{EventPartition, Tables};
pub use wire::{FakeWire, Fault};
