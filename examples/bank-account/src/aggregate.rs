//! The bank account: the state that its events add up to.

use serde::{Deserialize, Serialize};
use tidelog::Aggregate;

use crate::event::BankAccountEvent;

/// A bank account as it stands after its events so far.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BankAccount {
    /// Whose it is.
    pub holder: String,
    /// What is in it, in cents.
    pub cents: u64,
    /// Whether it was closed.
    pub closed: bool,
}

/// A history that the rules never let happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ImpossibleHistory {
    /// Something happened to an account that was not opened.
    #[error("it does not begin with Opened")]
    NotOpened,
    /// It was opened again.
    #[error("it is opened twice")]
    OpenedTwice,
    /// Something happened after it was closed.
    #[error("it goes on after Closed")]
    AfterClosed,
    /// More went out than was in it, or more came in than can be counted.
    #[error("its balance leaves the range of amounts")]
    OutOfRange,
}

impl Aggregate for BankAccount {
    const TYPE: &'static str = "BankAccount";
    type Event = BankAccountEvent;
    type Error = ImpossibleHistory;

    fn apply(state: Option<Self>, event: &BankAccountEvent) -> Result<Self, ImpossibleHistory> {
        let Some(account) = state else {
            return match event {
                BankAccountEvent::Opened { holder } => Ok(Self {
                    holder: holder.clone(),
                    cents: 0,
                    closed: false,
                }),
                _ => Err(ImpossibleHistory::NotOpened),
            };
        };
        if account.closed {
            return Err(ImpossibleHistory::AfterClosed);
        }
        let balance = |cents: Option<u64>| cents.ok_or(ImpossibleHistory::OutOfRange);
        match event {
            BankAccountEvent::Opened { .. } => Err(ImpossibleHistory::OpenedTwice),
            BankAccountEvent::Deposited { cents, .. } => Ok(Self {
                cents: balance(account.cents.checked_add(*cents))?,
                ..account
            }),
            BankAccountEvent::Withdrawn { cents } => Ok(Self {
                cents: balance(account.cents.checked_sub(*cents))?,
                ..account
            }),
            BankAccountEvent::Closed => Ok(Self {
                closed: true,
                ..account
            }),
        }
    }

    fn size_hint(&self) -> usize {
        size_of::<Self>() + self.holder.len()
    }
}
