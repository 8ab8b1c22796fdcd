//! The transfer by example: which commands follow from which of its events.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use std::time::Duration;

use bank_account::commands::{Deposit, Refusal, Withdraw};
use bank_account::transfer::{
    ExpireTransfer, RecordCredit, RecordDebit, RecordRefund, RequestTransfer, Transfer,
    TransferEvent, Transfers,
};
use tidelog::Timestamp;
use tidelog::testing::scenario::{ProcessScenario, Scenario};

const DEADLINE: Timestamp = Timestamp::from_micros(1_000_000_000_000_000);

fn requested() -> TransferEvent {
    TransferEvent::Requested {
        from: "ada".into(),
        to: "bob".into(),
        cents: 300,
        deadline: DEADLINE,
    }
}

fn debited() -> TransferEvent {
    TransferEvent::Debited {
        from: "ada".into(),
        to: "bob".into(),
        cents: 300,
    }
}

fn withdraw() -> Withdraw {
    Withdraw {
        account_id: "ada".into(),
        cents: 300,
    }
}

fn deposit(account: &str) -> Deposit {
    Deposit {
        account_id: account.into(),
        cents: 300,
    }
}

#[test]
fn a_transfer_is_requested_with_a_deadline() {
    let request = RequestTransfer {
        transfer_id: Some("t1".into()),
        from: "ada".into(),
        to: "bob".into(),
        cents: 300,
        within: Duration::from_secs(60),
    };
    Scenario::<Transfer>::new()
        .at(Timestamp::from_micros(DEADLINE.as_micros() - 60_000_000))
        .when(request)
        .then([requested()]);
}

#[test]
fn money_is_taken_and_then_brought() {
    ProcessScenario::new(Transfers)
        .when("Transfer/t1", requested())
        .then(withdraw())
        .then(RecordDebit {
            transfer_id: "t1".into(),
            outcome: Ok(()),
        })
        .then_timer("Transfer/t1", Some(DEADLINE))
        .when("Transfer/t1", debited())
        .then(deposit("bob"))
        .then(RecordCredit {
            transfer_id: "t1".into(),
            outcome: Ok(()),
        })
        .then_timer("Transfer/t1", None);
}

#[test]
fn money_that_cannot_be_taken_or_brought_is_said_so() {
    let overdraft = Refusal::Overdraft {
        balance: 1,
        wanted: 300,
    };
    let closed = Refusal::Closed("bob".into());
    ProcessScenario::new(Transfers)
        .when("Transfer/t1", requested())
        .then(withdraw())
        .rejected(overdraft.clone())
        .then(RecordDebit {
            transfer_id: "t1".into(),
            outcome: Err(overdraft.to_string()),
        })
        .when("Transfer/t2", debited())
        .then(deposit("bob"))
        .rejected(closed.clone())
        .then(RecordCredit {
            transfer_id: "t2".into(),
            outcome: Err(closed.to_string()),
        });
}

#[test]
fn money_that_cannot_be_brought_goes_back() {
    let refused = TransferEvent::CreditRefused {
        from: "ada".into(),
        cents: 300,
        reason: "closed".into(),
    };
    ProcessScenario::new(Transfers)
        .when("Transfer/t1", refused)
        .then(deposit("ada"))
        .then(RecordRefund {
            transfer_id: "t1".into(),
            outcome: Ok(()),
        });
}

#[test]
fn a_transfer_expires_at_its_deadline() {
    ProcessScenario::new(Transfers)
        .given("Transfer/t1", requested())
        .when_due("Transfer/t1")
        .then(ExpireTransfer {
            transfer_id: "t1".into(),
        })
        .then_nothing();
}
