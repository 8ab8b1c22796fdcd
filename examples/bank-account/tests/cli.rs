//! The command line: what it prints, and what it answers to scripts.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use std::path::Path;

mod common;
use common::{ok, run};

/// The exit code and what stood on stderr.
fn fails(store: &Path, args: &[&str]) -> (Option<i32>, String) {
    let output = run(store, args);
    (
        output.status.code(),
        String::from_utf8(output.stderr).unwrap(),
    )
}

#[test]
fn an_account_lives_from_open_to_close() {
    let dir = tempfile::tempdir().unwrap();
    let store = &dir.path().join("bank");
    assert_eq!(ok(store, &["open", "Ada", "--id", "ada"]), "opened ada\n");
    ok(store, &["deposit", "ada", "12.34"]);
    let after = ok(store, &["withdraw", "ada", "2.3"]);
    assert_eq!(
        after,
        "account  ada\nholder   Ada\nbalance  $10.04\nevents   3\n"
    );
    assert_eq!(ok(store, &["show", "ada"]), after);
    assert_eq!(ok(store, &["close", "ada"]), "closed ada\n");
    let history = ok(store, &["history", "ada"]);
    let what: Vec<_> = history
        .lines()
        .map(|line| line.split("Z  ").nth(1).unwrap())
        .collect();
    assert_eq!(
        what,
        [
            "opened by Ada",
            "deposited $12.34",
            "withdrawn $2.30",
            "closed"
        ]
    );
    let verified = ok(store, &["verify"]);
    assert!(
        verified.starts_with("verified: 4 events of 1 accounts"),
        "{verified}"
    );
}

#[test]
fn ids_are_made_for_who_gives_none() {
    let dir = tempfile::tempdir().unwrap();
    let store = &dir.path().join("bank");
    let opened = ok(store, &["open", "Ada"]);
    let id = opened.trim().strip_prefix("opened ").unwrap();
    assert_ne!(ok(store, &["open", "Ada"]), opened);
    assert!(ok(store, &["show", id]).contains("holder   Ada"));
}

#[test]
fn the_rules_answer_with_3_and_a_reason() {
    let dir = tempfile::tempdir().unwrap();
    let store = &dir.path().join("bank");
    ok(store, &["open", "Ada", "--id", "ada"]);
    let cases: [(&[&str], &str); 5] = [
        (
            &["open", "Ada", "--id", "ada"],
            "account ada is open already; choose another id",
        ),
        (
            &["deposit", "ada", "0.00"],
            "an amount must be more than zero",
        ),
        (
            &["withdraw", "ada", "0.01"],
            "the account holds $0.00, $0.01 cannot be withdrawn",
        ),
        (
            &["deposit", "eve", "1"],
            "there is no account eve; open it first",
        ),
        (
            &["history", "eve"],
            "there is no account eve; open it first",
        ),
    ];
    for (args, reason) in cases {
        assert_eq!(
            fails(store, args),
            (Some(3), format!("error: refused: {reason}\n"))
        );
    }
}

#[test]
fn amounts_that_are_none_are_usage_errors() {
    let dir = tempfile::tempdir().unwrap();
    for amount in ["-5", "1.234", "ten"] {
        let (code, errors) = fails(dir.path(), &["deposit", "ada", amount]);
        assert_eq!(code, Some(2));
        assert!(
            errors.contains("write dollars and cents like 12.34, without sign"),
            "{errors}"
        );
    }
}

#[test]
fn looking_at_a_store_that_is_not_there_makes_none() {
    let dir = tempfile::tempdir().unwrap();
    let store = &dir.path().join("bank");
    let (code, errors) = fails(store, &["show", "ada"]);
    assert_eq!(code, Some(1));
    assert!(
        errors.contains("there is nothing; open an account or import a file first"),
        "{errors}"
    );
    assert!(!store.exists());
}

#[test]
fn a_store_that_is_open_elsewhere_names_its_holder() {
    let dir = tempfile::tempdir().unwrap();
    let store = &dir.path().join("bank");
    let held = tidelog::Tidelog::open(store).unwrap();
    let (code, errors) = fails(store, &["open", "Ada"]);
    assert_eq!(code, Some(1));
    let holder = std::process::id().to_string();
    assert!(
        errors.contains("is in use by") && errors.contains(&holder),
        "{errors}"
    );
    drop(held);
}

#[test]
fn a_reader_that_has_seen_enough_is_no_failure() {
    let dir = tempfile::tempdir().unwrap();
    let store = &dir.path().join("bank");
    ok(store, &["open", "Ada", "--id", "ada"]);
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let output = common::bank(store, &["history", "ada"])
        .stdout(writer)
        .output()
        .unwrap();
    assert_eq!(String::from_utf8(output.stderr).unwrap(), "");
    assert!(output.status.success());
}

#[test]
fn a_damaged_bank_is_repaired_into_another_directory() {
    let dir = tempfile::tempdir().unwrap();
    let (store, to) = (&dir.path().join("bank"), &dir.path().join("repaired"));
    for id in ["ada", "bob"] {
        ok(store, &["open", id, "--id", id]);
        ok(store, &["deposit", id, "12.34"]);
    }
    let whole = dir.path().join("whole");
    let said = ok(store, &["repair", whole.to_str().unwrap()]);
    assert!(
        said.starts_with("repaired: 4 events in 4 commits"),
        "{said}"
    );
    assert!(said.ends_with("nothing was lost\n"), "{said}");

    let segment = store.join("log/00000001.seg");
    let mut bytes = std::fs::read(&segment).unwrap();
    bytes[4096 + 100] ^= 1;
    std::fs::write(&segment, bytes).unwrap();
    let (code, said) = fails(store, &["verify"]);
    assert_eq!(code, Some(1));
    assert!(said.contains("`repair`"), "{said}");
    let said = ok(store, &["repair", to.to_str().unwrap()]);
    assert!(said.contains("lost: positions 1 to 1\n"), "{said}");
    assert!(said.contains("lost: BankAccount/ada 1 to 1\n"), "{said}");
    ok(to, &["deposit", "bob", "1"]);
    let (code, said) = fails(to, &["history", "ada"]);
    assert!(
        code == Some(1) && said.contains("sequences 1 to 1 are gone"),
        "{said}"
    );
    ok(to, &["accept-loss", "ada"]);
    assert!(ok(to, &["history", "ada"]).contains("deposited $12.34"));
    ok(to, &["accept-loss"]);
    ok(to, &["verify"]);
}
