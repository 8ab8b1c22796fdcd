//! Memory does not grow with the log: the same work over a log fourteen times as long takes no more
//! than the memory budget more, which the short log is too small to fill.
//!
//! Each measurement is a process of its own (this test program, started again with a store in its
//! environment), because the kernel keeps only the highest mark.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]
#![cfg(target_os = "linux")]

use std::fs;
use std::path::Path;
use std::process::Command;

use bank_account::aggregate::BankAccount;
use bank_account::event::BankAccountEvent;
use tidelog::{
    AppendBatch, Durability, EventId, ExpectedVersion, LogQuery, NewEvent, StreamId, Tidelog,
};

const ACCOUNTS: u64 = 1_000;
const STORE: &str = "BANK_MEMORY_STORE";
const BUDGET: usize = 16 << 20;
/// The whole process stays below this, whatever the log.
const CEILING_KIB: u64 = 64 << 10;

/// Deposits a cent `events` times, round-robin over the accounts, in batches.
fn fill(store: &Path, events: u64) {
    let log = Tidelog::open(store).unwrap().blocking();
    let open = BankAccountEvent::Opened {
        holder: "Ada".into(),
    };
    let deposit = BankAccountEvent::Deposited { cents: 1, cds: 0 };
    let encode = |event, id: u64| {
        let id = EventId::from_bytes((u128::from(id) + (1 << 64)).to_be_bytes());
        NewEvent::encode(event, id).unwrap()
    };
    let mut id = 0;
    for _ in 0..events.div_ceil(ACCOUNTS * 10) {
        let parts = (0..ACCOUNTS).map(|account| {
            let stream = StreamId::new("BankAccount", &format!("acc-{account}")).unwrap();
            let batch = (0..10).map(|_| {
                id += 1;
                encode(
                    if id <= ACCOUNTS * 10 && id % 10 == 1 {
                        &open
                    } else {
                        &deposit
                    },
                    id,
                )
            });
            AppendBatch::new(stream, ExpectedVersion::Any, batch.collect())
                .with_durability(Durability::Process)
        });
        let parts = parts.collect();
        log.append_streams(parts).unwrap();
    }
    assert_eq!(log.last_position(), id);
    log.close().unwrap();
}

/// What is measured: loads all accounts, reads the whole log, verifies it, and prints the peak.
fn work(store: &Path) {
    let log = Tidelog::builder(store)
        .memory_budget(BUDGET)
        .open()
        .unwrap()
        .blocking();
    let cents: u64 = (0..ACCOUNTS)
        .map(|account| {
            log.load::<BankAccount>(&format!("acc-{account}"))
                .unwrap()
                .unwrap()
        })
        .map(|account| account.state.cents)
        .sum();
    let mut read = 0;
    for envelope in log.read_all(LogQuery::all()) {
        read += u64::from(&*envelope.unwrap().event_type == "Deposited");
    }
    assert_eq!(read, cents);
    log.verify().unwrap();
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let peak = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))
        .unwrap();
    println!("peak {}", peak.trim().trim_end_matches(" kB"));
}

/// Peak memory in KiB of [`work`] in a process of its own.
fn peak(store: &Path) -> u64 {
    let mut work = Command::new(std::env::current_exe().unwrap());
    work.args([
        "--exact",
        "--nocapture",
        "memory_does_not_grow_with_the_log",
    ]);
    let output = work.env(STORE, store).output().unwrap();
    let printed = String::from_utf8(output.stdout).unwrap();
    assert!(
        output.status.success(),
        "{printed}{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let peak = printed
        .lines()
        .find_map(|line| line.split("peak ").nth(1))
        .unwrap();
    peak.parse().unwrap()
}

#[test]
fn memory_does_not_grow_with_the_log() {
    if let Some(store) = std::env::var_os(STORE) {
        return work(Path::new(&store));
    }
    let dir = tempfile::tempdir().unwrap();
    let (short, long) = (dir.path().join("short"), dir.path().join("long"));
    fill(&short, 70_000);
    fill(&long, 1_000_000);
    let (at_70_k, at_1_m) = (peak(&short), peak(&long));
    println!("peak memory: {at_70_k} KiB at 70,000 events, {at_1_m} KiB at 1,000,000");
    assert!(at_1_m < CEILING_KIB, "{at_1_m} KiB");
    assert!(at_1_m < at_70_k + (BUDGET as u64 >> 10));
}
