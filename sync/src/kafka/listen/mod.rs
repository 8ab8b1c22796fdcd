//! Listeners that hear from Kafka.
//!
//! | file | subject |
//! |---|---|
//! | `feed` | Kafka as a listener's session sees it |

pub(crate) mod feed;
