//! A seeded simulation: machines with logs of real commits, whose real publishers speak to a Kafka in
//! memory that refuses batches, loses reports, gives up, and is away.
//!
//! | file | subject |
//! |---|---|
//! | `node` | what runs on a machine |
//! | `world` | all of it, one action at a time |
//! | `human` | what people, and replicas, do |
//! | `plan` | random schedules |
//! | `scripts` | scripted schedules, broken off at every await |
//! | `rest` | how both end |
//! | `oracle` | what must be true |
//! | `mutants` | what is wrong on purpose, for the oracle to find |
//!
//! A seed that fails prints itself; how it is run alone, and more of them, says `sim::runs`.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "these are tests"
)]

mod human;
mod mutants;
mod node;
mod oracle;
mod plan;
mod rest;
mod scripts;
mod tests;
mod world;
