//! What can be asked of a bank account, and the rules by which it decides.

use tidelog::{Command, Context, Decide};

use crate::aggregate::BankAccount;
use crate::event::BankAccountEvent;
use crate::money;

/// Opens an account.
#[derive(Clone, Debug)]
pub struct OpenAccount {
    /// The account's id; `None` lets the library make one.
    pub account_id: Option<String>,
    /// Whose it is.
    pub holder: String,
}

/// Puts money in.
#[derive(Clone, Debug)]
pub struct Deposit {
    /// The account.
    pub account_id: String,
    /// How much, in cents.
    pub cents: u64,
}

/// Puts in the money of a purchase of CDs.
#[derive(Clone, Debug)]
pub struct DepositForCds {
    /// The account.
    pub account_id: String,
    /// How much, in cents.
    pub cents: u64,
    /// How many CDs it pays for.
    pub cds: u64,
}

/// Takes money out.
#[derive(Clone, Debug)]
pub struct Withdraw {
    /// The account.
    pub account_id: String,
    /// How much, in cents.
    pub cents: u64,
}

/// Closes an account.
#[derive(Clone, Debug)]
pub struct CloseAccount {
    /// The account.
    pub account_id: String,
}

/// Why the bank says no.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// There is no such account.
    #[error("there is no account {0}; open it first")]
    NoAccount(String),
    /// It is there already.
    #[error("account {0} is open already; choose another id")]
    OpenAlready(String),
    /// It was closed.
    #[error("account {0} is closed; open another one")]
    Closed(String),
    /// Nothing would move.
    #[error("an amount must be more than zero")]
    ZeroAmount,
    /// There is less in it.
    #[error("the account holds {}, {} cannot be withdrawn", money::format(*.balance), money::format(*.wanted))]
    Overdraft {
        /// What is in it, in cents.
        balance: u64,
        /// What was asked for, in cents.
        wanted: u64,
    },
    /// More than an account can count.
    #[error("the account cannot hold that much")]
    TooMuch,
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

impl Command for DepositForCds {
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

impl Command for CloseAccount {
    type Aggregate = BankAccount;

    fn target_aggregate_identifier(&self) -> Option<&str> {
        Some(&self.account_id)
    }
}

impl Decide<OpenAccount> for BankAccount {
    type Rejection = Refusal;

    fn decide(
        account: Option<&Self>,
        command: &OpenAccount,
        context: &Context,
    ) -> Result<Vec<BankAccountEvent>, Refusal> {
        let id = || context.aggregate_id().to_owned();
        match account {
            None => Ok(vec![BankAccountEvent::Opened {
                holder: command.holder.clone(),
            }]),
            Some(account) if account.closed => Err(Refusal::Closed(id())),
            Some(_) => Err(Refusal::OpenAlready(id())),
        }
    }
}

impl Decide<Deposit> for BankAccount {
    type Rejection = Refusal;

    fn decide(
        account: Option<&Self>,
        command: &Deposit,
        _: &Context,
    ) -> Result<Vec<BankAccountEvent>, Refusal> {
        deposit(account, &command.account_id, command.cents, 0)
    }
}

impl Decide<DepositForCds> for BankAccount {
    type Rejection = Refusal;

    fn decide(
        account: Option<&Self>,
        command: &DepositForCds,
        _: &Context,
    ) -> Result<Vec<BankAccountEvent>, Refusal> {
        deposit(account, &command.account_id, command.cents, command.cds)
    }
}

impl Decide<Withdraw> for BankAccount {
    type Rejection = Refusal;

    fn decide(
        account: Option<&Self>,
        command: &Withdraw,
        _: &Context,
    ) -> Result<Vec<BankAccountEvent>, Refusal> {
        let account = open_account(account, &command.account_id)?;
        let cents = positive(command.cents)?;
        if cents > account.cents {
            return Err(Refusal::Overdraft {
                balance: account.cents,
                wanted: cents,
            });
        }
        Ok(vec![BankAccountEvent::Withdrawn { cents }])
    }
}

impl Decide<CloseAccount> for BankAccount {
    type Rejection = Refusal;

    fn decide(
        account: Option<&Self>,
        command: &CloseAccount,
        _: &Context,
    ) -> Result<Vec<BankAccountEvent>, Refusal> {
        open_account(account, &command.account_id)?;
        Ok(vec![BankAccountEvent::Closed])
    }
}

fn deposit(
    account: Option<&BankAccount>,
    account_id: &str,
    cents: u64,
    cds: u64,
) -> Result<Vec<BankAccountEvent>, Refusal> {
    let account = open_account(account, account_id)?;
    let cents = positive(cents)?;
    account.cents.checked_add(cents).ok_or(Refusal::TooMuch)?;
    Ok(vec![BankAccountEvent::Deposited { cents, cds }])
}

fn open_account<'a>(
    account: Option<&'a BankAccount>,
    account_id: &str,
) -> Result<&'a BankAccount, Refusal> {
    match account {
        None => Err(Refusal::NoAccount(account_id.to_owned())),
        Some(account) if account.closed => Err(Refusal::Closed(account_id.to_owned())),
        Some(account) => Ok(account),
    }
}

fn positive(cents: u64) -> Result<u64, Refusal> {
    if cents == 0 {
        Err(Refusal::ZeroAmount)
    } else {
        Ok(cents)
    }
}
