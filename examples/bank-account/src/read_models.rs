//! What the bank shows as a whole: rows folded from the log, always as far as the log, and made anew
//! from it whenever that is needed.

use std::path::Path;

use serde::{Deserialize, Serialize};
use tidelog::{EventEnvelope, HandlerError, Lookup, Projection, Rows, Tidelog, TidelogBuilder};

use crate::aggregate::BankAccount;
use crate::event::BankAccountEvent;

/// The bank in directory `store`, with its read models; what else it has is added before it is opened.
pub fn bank(store: &Path) -> TidelogBuilder {
    let bank = Tidelog::builder(store);
    bank.projection(Accounts).projection(Months)
}

/// One account as it is shown.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AccountRow {
    /// Whose it is.
    pub holder: String,
    /// What is in it, in cents.
    pub cents: u64,
    /// How many deposits it had.
    pub deposits: u64,
    /// What they add up to, in cents.
    pub deposited_cents: u64,
    /// CDs paid for by them.
    pub cds: u64,
    /// Whether it was closed.
    pub closed: bool,
}

impl AccountRow {
    fn take_in(&mut self, fact: &BankAccountEvent) {
        match fact {
            BankAccountEvent::Opened { holder } => self.holder.clone_from(holder),
            BankAccountEvent::Deposited { cents, cds } => {
                self.cents = self.cents.saturating_add(*cents);
                self.deposits += 1;
                self.deposited_cents = self.deposited_cents.saturating_add(*cents);
                self.cds = self.cds.saturating_add(*cds);
            }
            BankAccountEvent::Withdrawn { cents } => self.cents = self.cents.saturating_sub(*cents),
            BankAccountEvent::Closed => self.closed = true,
        }
    }
}

/// Accounts by their id, found by whose they are.
#[derive(Clone, Copy, Debug)]
pub struct Accounts;

impl Accounts {
    /// The lookup by holder.
    pub const HOLDER: &'static str = "holder";
}

impl Projection for Accounts {
    const NAME: &'static str = "accounts";
    type Key = String;
    type Row = AccountRow;

    fn apply(
        &self,
        event: &EventEnvelope,
        rows: &mut Rows<'_, String, AccountRow>,
    ) -> Result<(), HandlerError> {
        for fact in event.of::<BankAccount>()? {
            rows.update(event.aggregate_id().to_owned(), |row| row.take_in(&fact))?;
        }
        Ok(())
    }

    fn lookups() -> Vec<Lookup<String, AccountRow>> {
        let holder = |_: &String, row: &AccountRow| Some(row.holder.clone());
        vec![Lookup::by(Self::HOLDER, holder)]
    }
}

/// Cents deposited by month, `1997-01`.
#[derive(Clone, Copy, Debug)]
pub struct Months;

impl Projection for Months {
    const NAME: &'static str = "months";
    type Key = String;
    type Row = u64;

    fn apply(
        &self,
        event: &EventEnvelope,
        rows: &mut Rows<'_, String, u64>,
    ) -> Result<(), HandlerError> {
        for fact in event.of::<BankAccount>()? {
            if let BankAccountEvent::Deposited { cents, .. } = fact {
                let month = event.event_time.to_datetime().format("%Y-%m").to_string();
                rows.update(month, |sum: &mut u64| *sum = sum.saturating_add(cents))?;
            }
        }
        Ok(())
    }
}
