//! Loading one account reads that account, not the log.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]
#![cfg(target_os = "linux")]

use std::fs;

use bank_account::aggregate::BankAccount;
use tidelog::Tidelog;

mod common;
use common::{import_all, row};

/// Bytes that this process has read by system calls.
fn bytes_read() -> u64 {
    let io = fs::read_to_string("/proc/self/io").unwrap();
    let line = io
        .lines()
        .find_map(|line| line.strip_prefix("rchar: "))
        .unwrap();
    line.parse().unwrap()
}

#[test]
fn loading_an_account_reads_kilobytes_of_a_log_of_megabytes() {
    let dir = tempfile::tempdir().unwrap();
    let store = dir.path().join("bank");
    let report = import_all(&store);
    let on_disk: u64 = row(&report, "bytes on disk")
        .replace(',', "")
        .parse()
        .unwrap();
    assert!(on_disk > 10 << 20, "{on_disk}");

    let log = Tidelog::open(&store).unwrap().blocking();
    // The account with the most deposits, 217, spread over the whole log.
    for (id, sequence) in [("14048", 218), ("00001", 2), ("23570", 3)] {
        let before = bytes_read();
        let account = log.load::<BankAccount>(id).unwrap().unwrap();
        let read = bytes_read() - before;
        println!("{id}: {sequence} events, {read} bytes read of {on_disk}");
        assert_eq!(account.sequence, sequence);
        // 70 to 140 KB for the largest account, by how its events fell among the others: a span that
        // is nearly whole is read whole, and index pages count as well.
        assert!(
            read * 40 < on_disk,
            "{read} of {on_disk} bytes were read to load {id}"
        );
    }
    assert!(
        log.load::<BankAccount>("no such account")
            .unwrap()
            .is_none()
    );
}
