//! Listeners that hear from Kafka.
//!
//! | file | subject |
//! |---|---|
//! | `config` | how a group is reached, and what it reads |
//! | `container`, `control` | what runs a listener, shows and steers it |
//! | `feed` | Kafka as a listener's session sees it |
//! | `consumer`, `slot` | `Feed` over librdkafka: one thread polls |
//! | `session`, `handling` | a listener at work: one future that takes records and hands events out |
//! | `closing`, `settling`, `resume` | places that come and go; offsets and letters put down; parked keys taken in |
//! | `place`, `offsets`, `job`, `hold` | one place and how far it is; one record; events that wait for what is missing before them |
//! | `decode`, `record` | a message of librdkafka's as a record, and that as an event |
//! | `dead` | letters of parked keys, and which keys are parked |
//! | `replay` | a group without members is moved |

mod closing;
mod config;
mod consumer;
mod container;
mod control;
pub(crate) mod dead;
mod decode;
#[cfg(test)]
mod fake;
pub(crate) mod feed;
mod handling;
mod hold;
mod job;
mod offsets;
mod place;
pub(crate) mod record;
mod replay;
mod resume;
mod session;
mod settling;
mod slot;

pub use config::KafkaListenerConfig;
pub use container::{KafkaContainer, KafkaContainerBuilder, RunningKafkaListeners};
pub use control::{
    BlockingKafkaControl, KafkaControl, KafkaListenerStatus, KafkaParkedKey, KafkaPlaceStatus,
};
