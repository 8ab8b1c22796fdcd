//! Distributed mode against a real server: Cassandra from Maven, or what `TIDELOG_TEST_SCYLLA` names.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test that fails shall stop"
)]

mod direct;
mod origins;
#[path = "../tools/plain.rs"]
mod plain;
mod proxied;
#[path = "../tools/proxy.rs"]
mod proxy;
mod restore;
mod servers;
#[path = "../tools/services.rs"]
mod services;
mod thin_path;
