//! Kafka against a real broker: that of Maven, or what `TIDELOG_TEST_KAFKA` names.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test that fails shall stop"
)]

mod brokers;
#[allow(dead_code, reason = "shared with the tests against Cassandra")]
#[path = "../tools/services.rs"]
mod services;
#[allow(dead_code, reason = "shared with other tests")]
#[path = "../tools/topics.rs"]
mod topics;
