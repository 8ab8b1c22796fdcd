//! What can happen to a bank account.

use std::sync::LazyLock;

use serde::{Deserialize, Serialize};
use tidelog::{Event, Upcasters};

/// A fact about one account.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, Event)]
#[event(upcasters = upcasters)]
pub enum BankAccountEvent {
    /// The account came to be.
    Opened {
        /// Whose it is.
        holder: String,
    },
    /// Money came in.
    #[event(revision = 2)]
    Deposited {
        /// How much, in cents.
        cents: u64,
        /// How many CDs it paid for.
        cds: u64,
    },
    /// Money went out.
    Withdrawn {
        /// How much, in cents.
        cents: u64,
    },
    /// The account takes nothing any more.
    Closed,
}

/// The metadata key under which revision 1 of `Deposited` had its number of CDs.
pub const CDS: &str = "cds";

fn upcasters() -> &'static Upcasters {
    #[derive(Deserialize)]
    struct DepositedV1 {
        cents: u64,
    }
    #[derive(Serialize)]
    struct DepositedV2 {
        cents: u64,
        cds: u64,
    }
    static UPCASTERS: LazyLock<Upcasters> = LazyLock::new(|| {
        Upcasters::new().try_revise("Deposited", 1, |v1: DepositedV1, recorded| {
            let cds = recorded.metadata().and_then(|metadata| metadata.get(CDS));
            Ok(DepositedV2 {
                cents: v1.cents,
                cds: cds.and_then(|cds| cds.parse().ok()).unwrap_or(0),
            })
        })
    });
    &UPCASTERS
}
