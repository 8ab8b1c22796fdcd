//! Kafka against a real broker: that of Maven, or what `TIDELOG_TEST_KAFKA` names.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::cast_possible_truncation,
    reason = "a test that fails shall stop, and its numbers are small"
)]

mod brokers;
mod checking;
mod child;
#[cfg(feature = "scylla")]
mod conflicts;
#[allow(dead_code, reason = "shared with other tests")]
#[path = "../tools/consumer.rs"]
mod consumer;
mod copies;
mod ensure;
mod figures;
#[path = "../../../backends/tests/tools/folder.rs"]
mod folder;
#[cfg(feature = "scylla")]
mod gated;
#[path = "../tools/heard.rs"]
mod heard;
#[path = "../tools/java.rs"]
mod java;
mod kill;
mod listen;
mod memory;
mod oversize;
mod partitioner;
#[cfg(feature = "scylla")]
#[allow(dead_code, reason = "shared with the tests against Cassandra")]
#[path = "../tools/plain.rs"]
mod plain;
#[cfg(feature = "scylla")]
#[allow(dead_code, reason = "shared with the tests against Cassandra")]
#[path = "../tools/proxy.rs"]
mod proxy;
mod publish;
#[path = "../tools/python.rs"]
mod python;
mod read_by_others;
#[cfg(feature = "scylla")]
mod readme;
#[allow(dead_code, reason = "shared with the tests against Cassandra")]
#[path = "../tools/recorder.rs"]
mod recorder;
mod recreated;
mod secrets;
#[allow(dead_code, reason = "shared with the tests against Cassandra")]
#[path = "../tools/services.rs"]
mod services;
mod settings;
mod stages;
mod stores;
mod structured;
#[path = "../../../backends/tests/tools/sweep.rs"]
mod sweep;
#[cfg(feature = "scylla")]
#[allow(dead_code, reason = "shared with the tests against Cassandra")]
#[path = "../tools/till.rs"]
mod till;
#[cfg(feature = "kafka-tls")]
mod tls;
#[allow(dead_code, reason = "shared with other tests")]
#[path = "../tools/topics.rs"]
mod topics;
#[path = "../tools/working.rs"]
mod working;

use std::io::Write as _;

/// Not a test by itself: what tests that kill an application start.
#[test]
fn child_appends_until_it_is_killed() {
    child::run_if_told();
}

/// Not by `eprintln`, which a test that passes keeps to itself: the counts are the result.
fn say(text: &str) {
    let _ = writeln!(std::io::stderr(), "{text}");
}
