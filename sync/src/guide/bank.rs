// The bank account as chapters 1 to 3 build it up, for the code of the other chapters. It is no
// module of the crate; a chapter's code has it by these hidden lines:
//
//     # mod bank { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/src/guide/bank.rs")); }
//     # use bank::*;

use serde::{Deserialize, Serialize};
use tidelog::{Aggregate, Command, Context, Decide, Event};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Event)]
pub enum BankAccountEvent {
    Opened { holder: String },
    Deposited { cents: u64 },
    Withdrawn { cents: u64 },
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct BankAccount {
    pub holder: String,
    pub cents: u64,
}

#[derive(Debug, thiserror::Error)]
#[error("the account's history is impossible")]
pub struct ImpossibleHistory;

impl Aggregate for BankAccount {
    const TYPE: &'static str = "BankAccount";
    type Event = BankAccountEvent;
    type Error = ImpossibleHistory;

    fn apply(state: Option<Self>, event: &BankAccountEvent) -> Result<Self, ImpossibleHistory> {
        match (state, event) {
            (None, BankAccountEvent::Opened { holder }) => {
                Ok(Self { holder: holder.clone(), cents: 0 })
            }
            (Some(account), BankAccountEvent::Deposited { cents }) => {
                let cents = account.cents.checked_add(*cents).ok_or(ImpossibleHistory)?;
                Ok(Self { cents, ..account })
            }
            (Some(account), BankAccountEvent::Withdrawn { cents }) => {
                let cents = account.cents.checked_sub(*cents).ok_or(ImpossibleHistory)?;
                Ok(Self { cents, ..account })
            }
            _ => Err(ImpossibleHistory),
        }
    }
}

#[derive(Clone, Debug)]
pub struct OpenAccount {
    pub account_id: Option<String>,
    pub holder: String,
}

#[derive(Clone, Debug)]
pub struct Deposit {
    pub account_id: String,
    pub cents: u64,
}

#[derive(Clone, Debug)]
pub struct Withdraw {
    pub account_id: String,
    pub cents: u64,
}

impl Command for OpenAccount {
    type Aggregate = BankAccount;
    fn target_aggregate_identifier(&self) -> Option<&str> {
        self.account_id.as_deref()
    }
}

impl Command for Deposit {
    type Aggregate = BankAccount;
    fn target_aggregate_identifier(&self) -> Option<&str> {
        Some(&self.account_id)
    }
}

impl Command for Withdraw {
    type Aggregate = BankAccount;
    fn target_aggregate_identifier(&self) -> Option<&str> {
        Some(&self.account_id)
    }
}

#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum Refusal {
    #[error("there is no such account; open it first")]
    NoAccount,
    #[error("it is open already; choose another id")]
    OpenAlready,
    #[error("it holds {balance} cents, {wanted} cannot be withdrawn")]
    Overdraft { balance: u64, wanted: u64 },
}

impl Decide<OpenAccount> for BankAccount {
    type Rejection = Refusal;
    fn decide(account: Option<&Self>, command: &OpenAccount, _: &Context) -> Result<Vec<BankAccountEvent>, Refusal> {
        match account {
            None => Ok(vec![BankAccountEvent::Opened { holder: command.holder.clone() }]),
            Some(_) => Err(Refusal::OpenAlready),
        }
    }
}

impl Decide<Deposit> for BankAccount {
    type Rejection = Refusal;
    fn decide(account: Option<&Self>, command: &Deposit, _: &Context) -> Result<Vec<BankAccountEvent>, Refusal> {
        account.ok_or(Refusal::NoAccount)?;
        Ok(vec![BankAccountEvent::Deposited { cents: command.cents }])
    }
}

impl Decide<Withdraw> for BankAccount {
    type Rejection = Refusal;
    fn decide(account: Option<&Self>, command: &Withdraw, _: &Context) -> Result<Vec<BankAccountEvent>, Refusal> {
        let balance = account.ok_or(Refusal::NoAccount)?.cents;
        let wanted = command.cents;
        if wanted > balance {
            return Err(Refusal::Overdraft { balance, wanted });
        }
        Ok(vec![BankAccountEvent::Withdrawn { cents: wanted }])
    }
}
