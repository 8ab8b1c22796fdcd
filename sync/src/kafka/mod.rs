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
//! | `sink` | what the replicator asks of the publisher |
//! | `connect`, `handshake`, `claim`, `fork` | what the cluster knows of this store |
//! | `marking` | whose place it is, while it works |
//! | `taking` | what becomes of each record of the log |
//! | `link`, `lane`, `window` | what is under way |
//! | `sending`, `reports` | what is sent next, and what follows from each report |
//! | `suspects` | which of those refused together is the one |
//! | `topic_gates`, `looks` | topics that are not there, or begin again |
//! | `park`, `reopening`, `turns` | streams that are set aside, and their way back |
//! | `republish` | a part of the log once more |
//! | `denials` | refusals that are for a person |
//! | `state`, `keeping` | what is kept between two runs |
//! | `status`, `counting` | what users are told |
//! | `voice` | what librdkafka says |
//! | `message` | events as messages |
//! | `listen` | listeners that hear from Kafka |

pub(crate) mod broker;
#[cfg(test)]
mod cases;
mod claim;
pub(crate) mod client;
pub(crate) mod config;
mod connect;
pub(crate) mod connection;
mod counting;
mod denials;
pub(crate) mod ensure;
#[cfg(test)]
#[allow(dead_code, reason = "more than one test wants of it")]
mod fake;
mod fork;
mod handshake;
mod keeping;
mod lane;
mod link;
#[allow(dead_code, reason = "parts that were joined otherwise than planned")]
pub(crate) mod listen;
mod looks;
mod marking;
mod message;
pub(crate) mod names;
pub(crate) mod park;
mod reopening;
mod reports;
pub(crate) mod republish;
mod sending;
pub(crate) mod settings;
#[cfg(test)]
mod sim;
pub(crate) mod sink;
pub(crate) mod state;
pub(crate) mod status;
mod suspects;
mod taking;
#[cfg(test)]
mod tests;
#[cfg(feature = "kafka-tls")]
mod tls;
mod topic_gates;
mod turns;
pub(crate) mod voice;
mod window;

pub use config::{KafkaConfig, PublishingOptions};
pub use ensure::{TopicDiffers, TopicSpec, TopicsReport};
pub use listen::{
    BlockingKafkaControl, BlockingKafkaParkedKeys, KafkaContainer, KafkaContainerBuilder,
    KafkaControl, KafkaListenerConfig, KafkaListenerStatus, KafkaParkedKey, KafkaParkedKeys,
    KafkaPlaceStatus, RunningKafkaListeners,
};
pub use park::PublishingParked;
pub use status::{PublishingState, PublishingStatus};
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
