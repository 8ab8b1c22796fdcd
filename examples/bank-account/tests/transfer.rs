//! Transfers on the command line and over restarts, timers included.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::expect_used,
    reason = "a test that fails shall stop"
)]

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bank_account::aggregate::BankAccount;
use bank_account::commands::{Deposit, OpenAccount};
use bank_account::transfer::{Phase, RequestTransfer, Transfer, Transfers};
use tidelog::*;

mod common;
use common::{ok, run};

fn fails(store: &Path, args: &[&str]) -> (Option<i32>, String) {
    let output = run(store, args);
    (
        output.status.code(),
        String::from_utf8(output.stderr).unwrap(),
    )
}

fn balance(store: &Path, id: &str) -> String {
    let shown = ok(store, &["show", id]);
    let line = shown
        .lines()
        .find(|line| line.starts_with("balance"))
        .unwrap();
    line.trim_start_matches("balance").trim().to_owned()
}

#[test]
fn money_moves_from_one_account_to_another() {
    let dir = tempfile::tempdir().unwrap();
    let store = &dir.path().join("bank");
    for id in ["ada", "bob"] {
        ok(store, &["open", id, "--id", id]);
    }
    ok(store, &["deposit", "ada", "10"]);
    let said = ok(store, &["transfer", "ada", "bob", "4.50"]);
    assert_eq!(said, "transferred $4.50 from ada to bob\n");
    assert_eq!(
        (&*balance(store, "ada"), &*balance(store, "bob")),
        ("$5.50", "$4.50")
    );
    assert_eq!(ok(store, &["parked"]), "nothing is parked\n");
}

#[test]
fn a_transfer_that_cannot_be_is_refused_or_given_back() {
    let dir = tempfile::tempdir().unwrap();
    let store = &dir.path().join("bank");
    for id in ["ada", "bob"] {
        ok(store, &["open", id, "--id", id]);
    }
    ok(store, &["deposit", "ada", "10"]);
    for (args, reason) in [
        (["transfer", "ada", "bob", "11"], "holds $10.00"),
        (["transfer", "ada", "ada", "1"], "both are account ada"),
        (["transfer", "ada", "bob", "0"], "more than zero"),
        (["transfer", "nobody", "bob", "1"], "no account nobody"),
        (
            ["transfer", "ada", "nobody", "1"],
            "given back, since there is no account nobody",
        ),
    ] {
        let (code, said) = fails(store, &args);
        assert!(
            code == Some(3) && said.contains(reason),
            "{args:?}: {code:?} {said}"
        );
        assert_eq!(balance(store, "ada"), "$10.00");
    }
}

/// A bank that is opened with a clock of the test's.
struct Bank {
    path: std::path::PathBuf,
    clock: Arc<ManualClock>,
}

impl Bank {
    fn open(&self) -> BlockingTidelog {
        self.builder().open().unwrap().blocking()
    }

    fn open_with_manager(&self) -> BlockingTidelog {
        let builder = self.builder().process_manager(Transfers);
        builder.open().unwrap().blocking()
    }

    fn builder(&self) -> TidelogBuilder {
        Tidelog::builder(&self.path)
            .clock(Arc::clone(&self.clock) as Arc<dyn Clock>)
            .sleeper(Arc::new(ManualSleeper::new(Arc::clone(&self.clock))))
    }
}

/// Two accounts, and a transfer that was requested while nothing was there to do it.
fn requested(path: std::path::PathBuf) -> Bank {
    let bank = Bank {
        path,
        clock: Arc::default(),
    };
    let log = bank.open();
    for id in ["ada", "bob"] {
        let (account_id, holder) = (Some(id.to_owned()), id.to_owned());
        log.execute(OpenAccount { account_id, holder }).unwrap();
    }
    let (account_id, cents) = ("ada".into(), 1_000);
    log.execute(Deposit { account_id, cents }).unwrap();
    log.execute(RequestTransfer {
        transfer_id: Some("t1".into()),
        from: "ada".into(),
        to: "bob".into(),
        cents: 400,
        within: Duration::from_secs(60),
    })
    .unwrap();
    bank
}

fn rest(log: &BlockingTidelog) {
    let manager = log.inner().process_manager::<Transfers>().unwrap();
    loop {
        let last = log.last_position();
        pollster::block_on(manager.wait_for(last)).unwrap();
        if log.last_position() == last {
            return;
        }
    }
}

fn balances(log: &BlockingTidelog) -> (u64, u64) {
    let cents = |id| log.load::<BankAccount>(id).unwrap().unwrap().state.cents;
    (cents("ada"), cents("bob"))
}

fn types(log: &BlockingTidelog) -> Vec<String> {
    let stream = StreamId::new("Transfer", "t1").unwrap();
    let events = log.read_stream(StreamQuery::new(stream));
    events
        .map(|event| {
            event
                .unwrap()
                .event_type
                .trim_start_matches("Transfer")
                .to_owned()
        })
        .collect()
}

#[test]
fn what_was_requested_while_no_manager_ran_is_done_at_the_next_opening() {
    let dir = tempfile::tempdir().unwrap();
    let bank = requested(dir.path().join("bank"));
    for _ in 0..2 {
        let log = bank.open_with_manager();
        rest(&log);
        assert_eq!(types(&log), ["Requested", "Debited", "Completed"]);
        assert_eq!(balances(&log), (600, 1_000 - 600));
    }
}

/// The deadline passed while the program was not there. Whether the timer or the debit is first then
/// is chance; the money is in one place either way, and the timer fires at most once.
#[test]
fn a_deadline_that_passed_while_the_program_was_down_is_met_once() {
    for _ in 0..8 {
        let dir = tempfile::tempdir().unwrap();
        let bank = requested(dir.path().join("bank"));
        bank.clock.advance_micros(3_600_000_000);
        for _ in 0..3 {
            let log = bank.open_with_manager();
            rest(&log);
            let transfer = log.load::<Transfer>("t1").unwrap().unwrap();
            match transfer.state.phase {
                Phase::Completed => assert_eq!(balances(&log), (600, 400)),
                Phase::Refunded => assert_eq!(balances(&log), (1_000, 0)),
                phase => panic!("it has not ended: {phase:?}"),
            }
            let expired = types(&log).iter().filter(|of| *of == "Expired").count();
            assert_eq!(
                expired,
                usize::from(transfer.state.phase == Phase::Refunded)
            );
        }
    }
}

#[test]
fn a_timer_alone_expires_the_transfer_and_the_late_debit_is_given_back() {
    let dir = tempfile::tempdir().unwrap();
    let bank = requested(dir.path().join("bank"));
    let log = bank.open();
    bank.clock.advance_micros(60_000_000);
    let transfer_id = "t1".to_owned();
    log.execute(bank_account::transfer::ExpireTransfer { transfer_id })
        .unwrap();
    drop(log);
    let log = bank.open_with_manager();
    rest(&log);
    assert_eq!(
        types(&log),
        ["Requested", "Expired", "CreditRefused", "Refunded"]
    );
    assert_eq!(balances(&log), (1_000, 0));
}

#[test]
fn transfers_that_were_imported_whole_are_not_done_again() {
    let dir = tempfile::tempdir().unwrap();
    let bank = requested(dir.path().join("bank"));
    let log = bank.open_with_manager();
    rest(&log);
    let mut lines = Vec::new();
    log.export(&mut lines, &ExportQuery::all()).unwrap();
    drop(log);

    let elsewhere = Bank {
        path: dir.path().join("elsewhere"),
        clock: bank.clock,
    };
    // Not while a manager runs, which would take the steps that are not imported yet.
    let log = elsewhere.open_with_manager();
    let refused = log.import(&lines[..], &ImportOptions::default());
    let refused = refused.unwrap_err();
    assert!(
        refused.to_string().contains("process managers run"),
        "{refused}"
    );
    drop(log);
    let log = elsewhere.open();
    log.import(&lines[..], &ImportOptions::default()).unwrap();
    let imported = log.last_position();
    drop(log);
    let log = elsewhere.open_with_manager();
    rest(&log);
    assert_eq!(types(&log), ["Requested", "Debited", "Completed"]);
    assert_eq!(balances(&log), (600, 400));
    let events = log.read_all(LogQuery::from(imported + 1));
    let events = events.filter(|event| event.as_ref().unwrap().kind != RecordKind::Control);
    assert_eq!(events.count(), 0);
}

#[test]
fn a_manager_that_is_new_to_an_old_log_may_let_the_past_be() {
    let dir = tempfile::tempdir().unwrap();
    let bank = requested(dir.path().join("bank"));
    let options = ListenerOptions::default().start(StartAt::End);
    let builder = bank.builder().process_manager_with(Transfers, options);
    let log = builder.open().unwrap().blocking();
    rest(&log);
    assert_eq!(types(&log), ["Requested"]);
    assert_eq!(balances(&log), (1_000, 0));
    let manager = log.process_manager::<Transfers>().unwrap();
    assert!(manager.parked().is_empty() && manager.status().parked == 0);
}
