//! Listeners that hear from Kafka.
//!
//! | file | subject |
//! |---|---|
//! | `feed` | Kafka as a listener's session sees it |
//! | `offsets` | how far one place is |

pub(crate) mod feed;
mod offsets;
