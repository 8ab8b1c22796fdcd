//! What can happen to a bank account.

use serde::{Deserialize, Serialize};
use tidelog::Event;

/// A fact about one account.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum BankAccountEvent {
    /// The account came to be.
    Opened {
        /// Whose it is.
        holder: String,
    },
    /// Money came in.
    Deposited {
        /// How much, in cents.
        cents: u64,
    },
    /// Money went out.
    Withdrawn {
        /// How much, in cents.
        cents: u64,
    },
    /// The account takes nothing any more.
    Closed,
}

impl Event for BankAccountEvent {
    fn event_type(&self) -> &'static str {
        match self {
            Self::Opened { .. } => "Opened",
            Self::Deposited { .. } => "Deposited",
            Self::Withdrawn { .. } => "Withdrawn",
            Self::Closed => "Closed",
        }
    }
}
