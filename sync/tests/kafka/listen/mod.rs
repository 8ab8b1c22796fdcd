//! Listeners over Kafka.

mod delivery;
mod kit;
mod rebalance;
