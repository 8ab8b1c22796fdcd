//! Listeners that hear from Kafka.
//!
//! | file | subject |
//! |---|---|
//! | `feed` | Kafka as a listener's session sees it |
//! | `dead` | letters of parked keys, and which keys are parked |
//! | `offsets` | how far one place is |
//! | `record` | a message of librdkafka's as a record |

pub(crate) mod dead;
pub(crate) mod feed;
mod offsets;
pub(crate) mod record;
