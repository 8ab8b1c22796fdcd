//! Listeners that hear from Kafka.
//!
//! | file | subject |
//! |---|---|
//! | `config` | how a group is reached, and what it reads |
//! | `container` | what runs a listener |
//! | `control`, `status`, `shared` | what shows and steers it, what can be seen, and what both sides share |
//! | `parked_keys` | what is parked, for who is no member |
//! | `feed` | Kafka as a listener's session sees it |
//! | `consumer`, `slot` | `Feed` over librdkafka, and what passes between it and the thread that polls |
//! | `polling`, `events`, `starting`, `lists` | that thread, what librdkafka tells it, where a new group begins |
//! | `session`, `handling` | a listener at work: one future that takes records and hands events out |
//! | `giving_up` | what cannot be handled |
//! | `closing`, `settling` | places that come and go; offsets and letters put down |
//! | `asking`, `resume` | who asks for parked keys; how they are taken in |
//! | `place`, `offsets`, `job`, `hold` | one place and how far it is; one record; events that wait for what is missing before them |
//! | `figures` | what the `metrics` facade gets to hear |
//! | `decode`, `record` | a message of librdkafka's as a record, and that as an event |
//! | `dead` | letters of parked keys, and which keys are parked |
//! | `replay` | a group without members is moved |

// Nothing is left over here, whatever the module above allows.
#![warn(dead_code)]

mod asking;
mod closing;
mod config;
mod consumer;
mod container;
mod control;
pub(crate) mod dead;
mod decode;
mod events;
#[cfg(test)]
mod fake;
pub(crate) mod feed;
mod figures;
#[cfg(feature = "fuzzing")]
pub mod fuzzing;
mod giving_up;
mod handling;
mod hold;
mod job;
mod lists;
mod offsets;
mod parked_keys;
mod place;
mod polling;
pub(crate) mod record;
mod replay;
mod resume;
mod session;
mod settling;
mod shared;
mod slot;
mod starting;
mod status;

pub use config::KafkaListenerConfig;
pub use container::{KafkaContainer, KafkaContainerBuilder, RunningKafkaListeners};
pub use control::{BlockingKafkaControl, KafkaControl};
pub use parked_keys::{BlockingKafkaParkedKeys, KafkaParkedKeys};
pub use status::{KafkaListenerStatus, KafkaParkedKey, KafkaPlaceStatus};
