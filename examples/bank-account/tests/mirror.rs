//! Two banks with half of the customers each, and a third one that mirrors both.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use std::path::{Path, PathBuf};

use bank_account::import::{Customers, Selection, import_of};
use bank_account::mirror::Mirror;
use bank_account::query::{Bank, Totals, TotalsAnswer};
use bank_account::read_models;
use indicatif::ProgressBar;
use tidelog::{EventEnvelope, EventListener, InOrder, LogQuery, QueryHandler, Tidelog};

mod common;
use common::{data, ok, row};

/// The file's first lines.
fn some_lines(dir: &Path) -> PathBuf {
    let all = std::fs::read_to_string(data()).unwrap();
    let some: Vec<_> = all.lines().take(2_001).collect();
    let file = dir.join("some.txt");
    std::fs::write(&file, some.join("\n") + "\n").unwrap();
    file
}

async fn bank(path: &Path, file: &Path, customers: Customers) -> Tidelog {
    let bank = read_models::bank(path).open().unwrap();
    let progress = ProgressBar::hidden();
    let selection = Selection {
        customers,
        strict: true,
        pace: None,
    };
    let imported = import_of(&bank, file, selection, &progress).await;
    imported.unwrap();
    bank
}

async fn events(bank: &Tidelog) -> Vec<EventEnvelope> {
    let (mut all, mut events) = (Vec::new(), bank.read_all(LogQuery::all()));
    while let Some(event) = events.next().await {
        all.push(event.unwrap());
    }
    all
}

async fn totals(bank: &Tidelog) -> TotalsAnswer {
    Bank::of(bank).await.unwrap().handle(Totals).await.unwrap()
}

#[tokio::test]
async fn halves_by_customer_add_up_and_a_mirror_has_both_once() {
    let dir = tempfile::tempdir().unwrap();
    let file = some_lines(dir.path());
    let whole = bank(&dir.path().join("whole"), &file, Customers::All).await;
    let odd = bank(&dir.path().join("odd"), &file, Customers::Odd).await;
    let even = bank(&dir.path().join("even"), &file, Customers::Even).await;
    let (all, odds, evens) = (
        totals(&whole).await,
        totals(&odd).await,
        totals(&even).await,
    );
    let sum = TotalsAnswer {
        accounts: odds.accounts + evens.accounts,
        deposits: odds.deposits + evens.deposits,
        deposited_cents: odds.deposited_cents + evens.deposited_cents,
        cds: odds.cds + evens.cds,
    };
    assert_eq!(sum, all);
    assert!(
        odds.accounts > 100 && evens.accounts > 100,
        "{odds:?} {evens:?}"
    );

    let path = dir.path().join("mirror");
    let reader = read_models::bank(&path).open().unwrap();
    let mirror = InOrder::new(Mirror::of(&reader));
    let (odds, evens) = (events(&odd).await, events(&even).await);
    for event in &odds {
        mirror.on(event).await.unwrap();
    }
    // A part of them again, as after a crash, and the others.
    for event in odds.iter().skip(odds.len() / 2).chain(&evens) {
        mirror.on(event).await.unwrap();
    }
    assert_eq!(mirror.dropped(), (odds.len() - odds.len() / 2) as u64);
    assert_eq!(totals(&reader).await, all);
    reader.close().await.unwrap();

    // What it has applied is known after a restart, too.
    let reader = read_models::bank(&path).open().unwrap();
    let mirror = InOrder::new(Mirror::of(&reader));
    for event in odds.iter().chain(&evens) {
        mirror.on(event).await.unwrap();
    }
    assert_eq!(mirror.dropped(), (odds.len() + evens.len()) as u64);
    assert_eq!(totals(&reader).await, all);
    let mirrored = events(&reader).await;
    assert_eq!(mirrored.len(), odds.len() + evens.len());
    for (mirrored, first) in mirrored.iter().zip(odds.iter().chain(&evens)) {
        assert_eq!(mirrored.event_id, first.event_id);
        assert_eq!(mirrored.event, first.event);
        assert_eq!(mirrored.event_time, first.event_time);
    }
    for bank in [whole, odd, even, reader] {
        bank.close().await.unwrap();
    }
}

#[tokio::test]
async fn a_mirror_takes_nothing_behind_a_gap() {
    let dir = tempfile::tempdir().unwrap();
    let file = some_lines(dir.path());
    let till = bank(&dir.path().join("till"), &file, Customers::All).await;
    let reader = read_models::bank(&dir.path().join("mirror"))
        .open()
        .unwrap();
    let mirror = InOrder::new(Mirror::of(&reader));
    let all = events(&till).await;
    let second = all.iter().find(|event| event.sequence == 2).unwrap();
    let refused = mirror.on(second).await.unwrap_err();
    assert!(refused.sequence_gap().is_some(), "{refused}");
    assert_eq!(reader.last_position(), 0);
    till.close().await.unwrap();
    reader.close().await.unwrap();
}

#[test]
fn halves_on_the_command_line_and_their_totals_as_json() {
    let dir = tempfile::tempdir().unwrap();
    let file = some_lines(dir.path());
    let file = file.to_str().unwrap();
    let mut sums = [0; 4];
    for half in ["odd", "even"] {
        let store = &dir.path().join(half);
        let report = ok(store, &["import", file, "--customers", half]);
        let json = ok(store, &["report", "--json"]);
        let found: serde_json::Value = serde_json::from_str(&json).unwrap();
        let names = ["accounts", "deposits", "deposited_cents", "cds"];
        for (sum, name) in sums.iter_mut().zip(names) {
            *sum += found[name].as_u64().unwrap();
        }
        let accounts = found["accounts"].as_u64().unwrap();
        assert_eq!(
            row(&report, "accounts"),
            bank_account::money::group(accounts)
        );
    }
    let store = &dir.path().join("whole");
    ok(store, &["import", file]);
    let json = ok(store, &["report", "--json"]);
    let [accounts, deposits, cents, cds] = sums;
    assert_eq!(
        json,
        format!(
            "{{\"accounts\":{accounts},\"deposits\":{deposits},\"deposited_cents\":{cents},\"cds\":{cds}}}\n"
        )
    );
}
