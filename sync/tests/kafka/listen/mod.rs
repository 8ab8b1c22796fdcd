//! Listeners over Kafka.

mod delivery;
mod kit;
mod members;
mod rebalance;
mod resume;
mod spans;
mod upcast;
