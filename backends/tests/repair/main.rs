//! Repair keeps every whole commit as it stands, says what is gone, and gives nothing out twice.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::cast_possible_truncation,
    clippy::range_plus_one,
    reason = "a test that fails shall stop, and its numbers are small"
)]

mod after;
mod damaged;
mod scene;
#[path = "../tools/mod.rs"]
mod tools;
mod whole;
