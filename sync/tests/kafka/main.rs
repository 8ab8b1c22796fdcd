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
#[allow(dead_code, reason = "shared with other tests")]
#[path = "../tools/consumer.rs"]
mod consumer;
mod ensure;
#[path = "../tools/heard.rs"]
mod heard;
#[path = "../tools/java.rs"]
mod java;
mod partitioner;
mod publish;
#[path = "../tools/python.rs"]
mod python;
mod read_by_others;
mod secrets;
#[allow(dead_code, reason = "shared with the tests against Cassandra")]
#[path = "../tools/services.rs"]
mod services;
mod settings;
#[allow(dead_code, reason = "shared with other tests")]
#[path = "../tools/topics.rs"]
mod topics;
