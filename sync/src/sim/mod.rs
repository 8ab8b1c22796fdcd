//! What simulations share: chance, disks with logs of real commits, and writes that are done when
//! somebody chooses.
//!
//! | file | subject |
//! |---|---|
//! | `rng` | chance and ids, from a seed |
//! | `disk` | what a machine has on its disk |
//! | `log` | a disk as its replicators see it |
//! | `jobs` | writes to disks under way |
//! | `outcome` | what came of a schedule |
//! | `runs` | many of them, and what is said of those that fail |

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "these are tests"
)]
#![cfg_attr(not(feature = "scylla"), allow(dead_code))]

pub(crate) mod disk;
pub(crate) mod jobs;
pub(crate) mod log;
pub(crate) mod outcome;
pub(crate) mod rng;
pub(crate) mod runs;
