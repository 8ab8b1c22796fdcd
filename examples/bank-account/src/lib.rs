//! The tidelog example: a bank account, and a real ledger imported into it.
//!
//! One file a building block, to be copied: [`event`], [`aggregate`], [`commands`], [`query`], [`read_models`],
//! [`transfer`], [`mirror`].
//! The program around them is [`cli`], the import of the ledger [`import`], the service `serve` (a feature, on by
//! default).

pub mod aggregate;
pub mod cli;
pub mod commands;
pub mod event;
pub mod import;
pub mod mirror;
pub mod money;
pub mod query;
pub mod read_models;
#[cfg(feature = "serve")]
pub mod serve;
pub mod transfer;
