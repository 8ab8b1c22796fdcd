//! Transfers: a process across two accounts.
//!
//! A transfer takes money out of one account and puts it into another. These are two streams, so it
//! is not one append: it is a process of several, which may be cut anywhere. How far it is stands in
//! an aggregate of its own, [`Transfer`]; what follows is said by [`Transfers`], which keeps
//! nothing.
//!
//! ```text
//!             ┌─ Refused                                   nothing was taken
//! Requested ──┤
//!     │       └─ Debited ──┬─ Completed                    the money has moved
//!     │                    └─ CreditRefused ─┬─ Refunded   it is where it was
//!     └─ Expired ─┬─ Refused       ▲         └─ RefundFailed   a person has to look
//!                 └────────────────┘
//! ```
//!
//! It expires when its deadline passes before the answer to the debit is recorded. Should the money
//! have been taken nevertheless, it is given back.

mod aggregate;
mod commands;
mod event;
mod manager;

pub use aggregate::{ImpossibleTransfer, Phase, Transfer};
pub use commands::{
    ExpireTransfer, RecordCredit, RecordDebit, RecordRefund, RequestTransfer, TransferRefusal,
};
pub use event::TransferEvent;
pub use manager::Transfers;
