//! Publishes the log to Kafka, and listens there.
//!
//! | file | subject |
//! |---|---|
//! | `broker` | Kafka as the publisher sees it |
//! | `listen` | listeners that hear from Kafka |

// Contracts first: what stands behind them follows.
#![allow(dead_code)]

pub(crate) mod broker;
pub(crate) mod listen;
