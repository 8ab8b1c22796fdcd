//! A seeded simulation: machines with logs of real commits, whose real replicators speak to a server
//! in memory over a net that loses, delays, doubles and reorders.
//!
//! | file | subject |
//! |---|---|
//! | `copy` | a machine that a store is restored onto |
//! | `net` | requests, answers and writes to disks under way |
//! | `node` | what runs on a machine |
//! | `follower` | who follows all the others' logs |
//! | `puller` | who keeps all the others' logs in files |
//! | `sleep` | machines that sleep, and connections that are dead |
//! | `world` | all of it, one action at a time |
//! | `human` | what people do |
//! | `plan` | random schedules |
//! | `scripts` | scripted schedules, broken off at every await |
//! | `rest` | how both end |
//! | `oracle`, `oracle_follow` | what must be true; of those who follow |
//! | `mutants` | what is wrong on purpose, for the oracle to find |
//!
//! A seed that fails prints itself; how it is run alone, and more of them, says `sim::runs`.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "these are tests"
)]

mod copy;
mod follower;
mod human;
mod mutants;
mod net;
mod node;
mod oracle;
mod oracle_follow;
mod plan;
mod puller;
mod rest;
mod scripts;
mod sleep;
mod tests;
mod world;
