//! Sums over accounts that are lawful one by one, but more than can be counted together, stop at the
//! largest number: neither a panic nor a wrong small one.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use bank_account::aggregate::BankAccount;
use bank_account::commands::{DepositForCds, OpenAccount, Withdraw};
use bank_account::event::BankAccountEvent;
use bank_account::import::Report;
use bank_account::query::{AccountsOf, Bank, DepositsByMonth, LargestAccounts, Totals};
use bank_account::read_models;
use tidelog::{Aggregate, Context, ExpectedVersion, QueryHandler, StreamId, Tidelog};

const LARGEST: u64 = u64::MAX;

/// Two accounts, each with a deposit of all the money and all the CDs that there can be; one of them
/// takes it out and puts it in again.
async fn rich_bank(bank: &Tidelog) {
    for id in ["a", "b"] {
        let account_id = Some(id.to_owned());
        let holder = "Ada".to_owned();
        let open = OpenAccount { account_id, holder };
        bank.execute(open).await.unwrap();
        let account_id = id.to_owned();
        let cents = LARGEST;
        let deposit = DepositForCds {
            account_id,
            cents,
            cds: LARGEST,
        };
        bank.execute(deposit).await.unwrap();
    }
    let (account_id, cents) = ("b".to_owned(), LARGEST);
    let withdraw = Withdraw { account_id, cents };
    bank.execute(withdraw).await.unwrap();
    let (account_id, cds) = ("b".to_owned(), 1);
    let deposit = DepositForCds {
        account_id,
        cents,
        cds,
    };
    bank.execute(deposit).await.unwrap();
}

#[tokio::test]
async fn sums_stop_at_the_largest_number() {
    let dir = tempfile::tempdir().unwrap();
    let bank = read_models::bank(&dir.path().join("bank")).open().unwrap();
    rich_bank(&bank).await;
    let queries = Bank::of(&bank).await.unwrap();
    let totals = queries.handle(Totals).await.unwrap();
    assert_eq!((totals.accounts, totals.deposits), (2, 3));
    assert_eq!((totals.deposited_cents, totals.cds), (LARGEST, LARGEST));
    let largest = queries.handle(LargestAccounts { count: 9 }).await.unwrap();
    let largest = largest.iter().map(|(_, row)| {
        let row = row.clone();
        (row.cents, row.deposited_cents, row.cds)
    });
    assert_eq!(
        largest.collect::<Vec<_>>(),
        [(LARGEST, LARGEST, LARGEST); 2]
    );
    let holder = "Ada".to_owned();
    let of_ada = queries.handle(AccountsOf { holder }).await.unwrap();
    let ids: Vec<_> = of_ada.iter().map(|(id, _)| &**id).collect();
    assert_eq!(ids, ["a", "b"]);
    let months = queries.handle(DepositsByMonth).await.unwrap();
    assert_eq!(months.len(), 1);
    assert_eq!(months[0].1, LARGEST);
    let report = Report::read(&bank, dir.path(), None).await.unwrap();
    assert!(report.to_string().contains("$184,467,440,737,095,516.15"));
}

#[tokio::test]
async fn a_history_that_no_command_made_is_summed_without_a_panic() {
    let dir = tempfile::tempdir().unwrap();
    let bank = read_models::bank(&dir.path().join("bank")).open().unwrap();
    let account = StreamId::new(BankAccount::TYPE, "a").unwrap();
    let events = vec![
        BankAccountEvent::Withdrawn { cents: 1 },
        BankAccountEvent::Deposited {
            cents: LARGEST,
            cds: 0,
        },
        BankAccountEvent::Deposited { cents: 1, cds: 0 },
    ];
    bank.persist_events(&account, ExpectedVersion::NoStream, events, &Context::new())
        .await
        .unwrap();
    let queries = Bank::of(&bank).await.unwrap();
    let totals = queries.handle(Totals).await.unwrap();
    assert_eq!((totals.deposits, totals.deposited_cents), (2, LARGEST));
}
