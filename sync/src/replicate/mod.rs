//! Sends the log somewhere else: what every sink shares, without driver, runtime or thread.
//!
//! | file | subject |
//! |---|---|
//! | `outbox` | the local log as it is sent |
//! | `embedded` | the embedded store as that |
//! | `gate` | the same, as far as another sink has come |
//! | `sink` | where it goes |
//! | `keeper` | what is kept between two runs |
//! | `published` | how far another sink is, for this one to tell |
//! | `progress` | how far a sink is |
//! | `backoff` | waits between tries |
//! | `mailbox` | what users ask |
//! | `status`, `report` | what they are told |
//! | `replicator` | the future that does all of it |
//! | `session` | one connection at work |
//! | `thread` | where that runs beside an open store |
//! | `stage` | how far an event has come |
//! | `trace` | which trace an event is of |
//! | `wake` | that the machine has slept |

// Some of it is for a store with both sinks.
#![cfg_attr(not(all(feature = "kafka", feature = "scylla")), allow(dead_code))]

pub(crate) mod backoff;
pub(crate) mod embedded;
#[cfg(feature = "kafka")]
pub(crate) mod gate;
pub(crate) mod keeper;
pub(crate) mod mailbox;
pub(crate) mod outbox;
pub(crate) mod progress;
pub(crate) mod published;
pub(crate) mod replicator;
mod report;
mod session;
pub(crate) mod sink;
mod stage;
pub(crate) mod status;
pub(crate) mod thread;
pub(crate) mod trace;
mod wake;

pub use crate::sinks::ParkedReason;
pub use sink::Other;
pub use stage::Stage;
