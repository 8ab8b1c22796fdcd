//! Publishes the log to Kafka, and listens there.
//!
//! | file | subject |
//! |---|---|
//! | `config` | how the log is published |
//! | `connection`, `settings`, `tls` | how the cluster is reached, by publisher and listeners alike |
//! | `names` | which topic an aggregate type goes to |
//! | `ensure` | topics made on purpose |
//! | `broker` | Kafka as the publisher sees it |
//! | `client` | it over librdkafka |
//! | `voice` | what librdkafka says |
//! | `message` | events as messages |
//! | `listen` | listeners that hear from Kafka |

// Contracts first: what stands behind them follows.
#![allow(dead_code)]

pub(crate) mod broker;
pub(crate) mod client;
pub(crate) mod config;
pub(crate) mod connection;
pub(crate) mod ensure;
pub(crate) mod listen;
pub(crate) mod message;
pub(crate) mod names;
pub(crate) mod settings;
#[cfg(feature = "kafka-tls")]
mod tls;

pub(crate) mod voice;

pub use config::{KafkaConfig, PublishingOptions};
pub use ensure::{TopicDiffers, TopicSpec, TopicsReport};
#[cfg(feature = "kafka-tls")]
pub use tls::{KafkaTls, Scram};

#[cfg(test)]
#[allow(dead_code, reason = "shared with the tests against servers")]
#[path = "../../tests/tools/services.rs"]
mod services;
#[cfg(test)]
#[allow(dead_code, reason = "shared with the tests against servers")]
#[path = "../../tests/tools/topics.rs"]
mod topics;
