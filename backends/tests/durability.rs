//! What is acknowledged is on the disk, seen from outside: `strace` counts the syncs.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::cast_possible_truncation,
    reason = "a test that fails shall stop, and its numbers are small"
)]

mod tools;

use std::path::Path;
use std::process::Command;

use tidelog_backends::SledStore;
use tidelog_core::*;
use tools::{event, stream};

const CHILD: &str = "TIDELOG_TEST_APPEND";
const APPENDS: u64 = 50;

/// Not a test by itself: what runs under `strace`. Each acknowledgement is a line on its own.
#[test]
fn child_appends() {
    let Some(mode) = std::env::var_os(CHILD) else {
        return;
    };
    let dir = tempfile::tempdir().unwrap();
    let store = SledStore::open(dir.path().join("store"))
        .unwrap()
        .blocking();
    let append = |n, durability| {
        let batch = AppendBatch::new(stream("s"), ExpectedVersion::Any, vec![event(n, 100)]);
        let receipt = store.append(batch.with_durability(durability)).unwrap();
        write(&format!("acknowledged {n} {:?}", receipt.outcome));
    };
    write("begin");
    if mode == "power" {
        (0..APPENDS).for_each(|n| append(n, Durability::Power));
    } else {
        append(0, Durability::Process);
        append(0, Durability::Power);
        append(0, Durability::Power);
    }
    write("end");
}

/// One `write` call, which the trace shows between the syncs.
fn write(line: &str) {
    use std::io::Write;
    let mut out = std::io::stderr().lock();
    out.write_all(format!("{line}\n").as_bytes()).unwrap();
}

/// The traced calls between `begin` and `end`, in order: syncs that returned, and acknowledgements.
fn traced(mode: &str) -> Option<Vec<String>> {
    if Command::new("strace").arg("-V").output().is_err() {
        eprintln!("\n*** SKIPPED: strace is not installed; no sync was counted ***\n");
        return None;
    }
    let dir = tempfile::tempdir().unwrap();
    let trace = dir.path().join("trace");
    let done = Command::new("strace")
        .args([
            "-f",
            "-qq",
            "-e",
            "trace=fdatasync,fsync,write",
            "-s",
            "60",
            "-o",
        ])
        .arg(&trace)
        .arg(std::env::current_exe().unwrap())
        .args([
            "--exact",
            "child_appends",
            "--nocapture",
            "--test-threads=1",
        ])
        .env(CHILD, mode)
        .output()
        .unwrap();
    if !done.status.success() {
        let why = String::from_utf8_lossy(&done.stderr);
        assert!(why.contains("ptrace"), "{why}");
        tools::skipped("strace may not trace here; no sync was counted");
        return None;
    }
    Some(calls(&trace))
}

fn calls(trace: &Path) -> Vec<String> {
    let text = std::fs::read_to_string(trace).unwrap();
    let after = text
        .lines()
        .skip_while(|line| !line.contains("\"begin\\n\""));
    let until = after.take_while(|line| !line.contains("\"end\\n\""));
    let told = until.filter_map(|line| {
        if let Some((_, rest)) = line.split_once("\"acknowledged ") {
            return Some(rest.split('\\').next().unwrap().to_owned());
        }
        // A sync is done when it returns, on one line or on the line that resumes it.
        let returned = line.contains("= 0");
        (line.contains("fdatasync") && returned).then(|| "sync".to_owned())
    });
    told.collect()
}

#[test]
fn every_acknowledged_append_was_synced_before() {
    let Some(calls) = traced("power") else {
        return;
    };
    let mut syncs = 0;
    let mut acknowledged = 0;
    for call in &calls {
        if call == "sync" {
            syncs += 1;
        } else {
            acknowledged += 1;
            assert!(
                syncs >= acknowledged,
                "{call} after {syncs} syncs: {calls:?}"
            );
        }
    }
    assert_eq!(acknowledged, APPENDS);
    eprintln!("{syncs} syncs for {acknowledged} appends of one client");
}

#[test]
fn a_retry_that_asks_for_more_durability_gets_it() {
    let Some(calls) = traced("retry") else {
        return;
    };
    // The first is not synced; its retry is, before it is answered; one more has nothing to sync.
    let expected = [
        "0 Appended",
        "sync",
        "0 AlreadyAppended",
        "0 AlreadyAppended",
    ];
    assert_eq!(calls, expected);
}
