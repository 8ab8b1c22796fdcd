//! What can happen to a transfer.

use serde::{Deserialize, Serialize};
use tidelog::{Event, Timestamp};

/// A fact about one transfer. Each carries what the next step needs, so that the process manager
/// needs no state.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, Event)]
pub enum TransferEvent {
    /// Somebody wants money moved.
    #[event(type = "TransferRequested")]
    Requested {
        /// Out of this account.
        from: String,
        /// Into this one.
        to: String,
        /// How much, in cents.
        cents: u64,
        /// Until when it must have been taken out of the first account.
        deadline: Timestamp,
    },
    /// The money was taken.
    #[event(type = "TransferDebited")]
    Debited {
        /// Out of this account.
        from: String,
        /// For this one.
        to: String,
        /// How much, in cents.
        cents: u64,
    },
    /// The money was not taken: nothing has moved.
    #[event(type = "TransferRefused")]
    Refused {
        /// Why.
        reason: String,
    },
    /// The money has arrived.
    #[event(type = "TransferCompleted")]
    Completed,
    /// The money was taken and cannot arrive: it goes back.
    #[event(type = "TransferCreditRefused")]
    CreditRefused {
        /// Back into this account.
        from: String,
        /// How much, in cents.
        cents: u64,
        /// Why.
        reason: String,
    },
    /// The money is where it was.
    #[event(type = "TransferRefunded")]
    Refunded,
    /// The money could not go back either: a person has to look.
    #[event(type = "TransferRefundFailed")]
    RefundFailed {
        /// How much, in cents.
        cents: u64,
        /// Why.
        reason: String,
    },
    /// The deadline passed before it was known whether the money was taken.
    #[event(type = "TransferExpired")]
    Expired,
}
