//! The rules of a bank account, without a store: deciding is a pure function.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use bank_account::aggregate::{BankAccount, ImpossibleHistory};
use bank_account::commands::{CloseAccount, Deposit, OpenAccount, Refusal, Withdraw};
use bank_account::event::BankAccountEvent;
use tidelog::{Aggregate, Context, Decide};

const ID: &str = "acc-1";

fn decide<C>(account: Option<&BankAccount>, command: &C) -> Result<Vec<BankAccountEvent>, Refusal>
where
    BankAccount: Decide<C, Rejection = Refusal>,
{
    BankAccount::decide(account, command, &Context::new().with_aggregate_id(ID))
}

fn account(cents: u64) -> BankAccount {
    BankAccount {
        holder: "Ada".into(),
        cents,
        closed: false,
    }
}

fn open() -> OpenAccount {
    OpenAccount {
        account_id: Some(ID.into()),
        holder: "Ada".into(),
    }
}

fn deposit(cents: u64) -> Deposit {
    Deposit {
        account_id: ID.into(),
        cents,
    }
}

fn withdraw(cents: u64) -> Withdraw {
    Withdraw {
        account_id: ID.into(),
        cents,
    }
}

fn close() -> CloseAccount {
    CloseAccount {
        account_id: ID.into(),
    }
}

#[test]
fn an_account_is_opened_once() {
    let opened = BankAccountEvent::Opened {
        holder: "Ada".into(),
    };
    assert_eq!(decide(None, &open()), Ok(vec![opened]));
    assert_eq!(
        decide(Some(&account(0)), &open()),
        Err(Refusal::OpenAlready(ID.into()))
    );
}

#[test]
fn money_comes_in_and_goes_out() {
    let deposited = BankAccountEvent::Deposited { cents: 500, cds: 0 };
    assert_eq!(
        decide(Some(&account(0)), &deposit(500)),
        Ok(vec![deposited])
    );
    let withdrawn = BankAccountEvent::Withdrawn { cents: 500 };
    assert_eq!(
        decide(Some(&account(500)), &withdraw(500)),
        Ok(vec![withdrawn])
    );
}

#[test]
fn nothing_can_be_overdrawn() {
    let refused = Refusal::Overdraft {
        balance: 500,
        wanted: 501,
    };
    assert_eq!(
        refused.to_string(),
        "the account holds $5.00, $5.01 cannot be withdrawn"
    );
    assert_eq!(decide(Some(&account(500)), &withdraw(501)), Err(refused));
}

#[test]
fn zero_is_no_amount() {
    assert_eq!(
        decide(Some(&account(5)), &deposit(0)),
        Err(Refusal::ZeroAmount)
    );
    assert_eq!(
        decide(Some(&account(5)), &withdraw(0)),
        Err(Refusal::ZeroAmount)
    );
}

#[test]
fn more_than_can_be_counted_is_refused() {
    assert_eq!(
        decide(Some(&account(u64::MAX)), &deposit(1)),
        Err(Refusal::TooMuch)
    );
}

#[test]
fn without_an_account_nothing_goes() {
    let refused = || Err(Refusal::NoAccount(ID.into()));
    assert_eq!(decide(None, &deposit(1)), refused());
    assert_eq!(decide(None, &withdraw(1)), refused());
    assert_eq!(decide(None, &close()), refused());
}

#[test]
fn a_closed_account_takes_nothing_any_more() {
    assert_eq!(
        decide(Some(&account(5)), &close()),
        Ok(vec![BankAccountEvent::Closed])
    );
    let closed = BankAccount {
        closed: true,
        ..account(5)
    };
    let refused = || Err(Refusal::Closed(ID.into()));
    assert_eq!(decide(Some(&closed), &open()), refused());
    assert_eq!(decide(Some(&closed), &deposit(1)), refused());
    assert_eq!(decide(Some(&closed), &withdraw(1)), refused());
    assert_eq!(decide(Some(&closed), &close()), refused());
}

#[test]
fn the_state_is_what_the_events_add_up_to() {
    let history = [
        BankAccountEvent::Opened {
            holder: "Ada".into(),
        },
        BankAccountEvent::Deposited { cents: 700, cds: 2 },
        BankAccountEvent::Withdrawn { cents: 200 },
        BankAccountEvent::Closed,
    ];
    let state = BankAccount::apply_all(None, &history).unwrap().unwrap();
    assert_eq!(
        state,
        BankAccount {
            closed: true,
            ..account(500)
        }
    );
}

#[test]
fn a_history_that_the_rules_forbid_is_an_error() {
    let opened = BankAccountEvent::Opened {
        holder: "Ada".into(),
    };
    let withdrawn = BankAccountEvent::Withdrawn { cents: 1 };
    let after = |state, event| BankAccount::apply(state, event).unwrap_err();
    assert_eq!(after(None, &withdrawn), ImpossibleHistory::NotOpened);
    assert_eq!(
        after(Some(account(0)), &opened),
        ImpossibleHistory::OpenedTwice
    );
    assert_eq!(
        after(Some(account(0)), &withdrawn),
        ImpossibleHistory::OutOfRange
    );
    let closed = BankAccount {
        closed: true,
        ..account(5)
    };
    assert_eq!(
        after(Some(closed), &withdrawn),
        ImpossibleHistory::AfterClosed
    );
}
