//! The bank by example: which rows its events make, and which commands follow from a transfer's.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use std::time::Duration;

use bank_account::commands::{Deposit, Refusal, Withdraw};
use bank_account::event::{BankAccountEvent, CDS};
use bank_account::read_models::{AccountRow, Accounts, Months};
use bank_account::transfer::{
    ExpireTransfer, RecordCredit, RecordDebit, RecordRefund, RequestTransfer, Transfer,
    TransferEvent, Transfers,
};
use tidelog::testing::scenario::{ProcessScenario, ProjectionScenario, Scenario};
use tidelog::{ContentType, Metadata, NewEvent, Timestamp};

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

fn opened(holder: &str) -> BankAccountEvent {
    BankAccountEvent::Opened {
        holder: holder.into(),
    }
}

fn deposited(cents: u64, cds: u64) -> BankAccountEvent {
    BankAccountEvent::Deposited { cents, cds }
}

/// A deposit of $11.77 as it was recorded before the number of CDs stood in it.
fn deposited_before(cds: &str) -> NewEvent {
    let cds = Metadata::new().with(CDS, cds);
    NewEvent::new("Deposited", 1, ContentType::Postcard, &b"\x99\x09"[..]).with_metadata(cds)
}

#[test]
fn an_account_is_one_row_found_by_its_holder() {
    let row = |cents, deposits, deposited_cents, cds, closed| AccountRow {
        holder: "Ada".into(),
        cents,
        deposits,
        deposited_cents,
        cds,
        closed,
    };
    ProjectionScenario::new(Accounts)
        .given("BankAccount/a", [opened("Ada"), deposited(500, 2)])
        .when(
            "BankAccount/a",
            [BankAccountEvent::Withdrawn { cents: 200 }],
        )
        .then_row(&"a".into(), Some(row(300, 1, 500, 2, false)))
        .when_recorded("BankAccount/a", deposited_before("3"))
        .when("BankAccount/a", [BankAccountEvent::Closed])
        .then_rows([("a".into(), row(1_477, 2, 1_677, 5, true))])
        .when("BankAccount/b", [opened("Ada")])
        .when("Transfer/t1", [requested()])
        .then_found(
            Accounts::HOLDER,
            &"Ada".to_owned(),
            ["a".into(), "b".into()],
        );
}

#[test]
fn deposits_count_for_the_month_in_which_they_happened() {
    let january = Timestamp::from_micros(852_076_800_000_000);
    let february = Timestamp::from_micros(854_755_200_000_000);
    ProjectionScenario::new(Months)
        .at(january)
        .when(
            "BankAccount/a",
            [opened("Ada"), deposited(500, 0), deposited(1, 0)],
        )
        .at(february)
        .when("BankAccount/b", [deposited(7, 0)])
        .then_rows([("1997-01".into(), 501), ("1997-02".into(), 7)]);
}
