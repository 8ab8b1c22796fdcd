//! What is acknowledged is on the disk, seen from outside: `strace` counts the syncs.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::cast_possible_truncation,
    reason = "a test that fails shall stop, and its numbers are small"
)]

mod tools;

use tidelog_backends::SledStore;
use tidelog_core::*;
use tools::{event, strace, stream};

const CHILD: &str = "TIDELOG_TEST_APPEND";
const APPENDS: u64 = 50;

/// Not a test by itself: what runs under `strace`. Each acknowledgement is a mark of its own.
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
        strace::mark(&format!("{n} {:?}", receipt.outcome));
    };
    strace::mark("begin");
    if mode == "power" {
        (0..APPENDS).for_each(|n| append(n, Durability::Power));
    } else {
        append(0, Durability::Process);
        append(0, Durability::Power);
        append(0, Durability::Power);
    }
    strace::mark("end");
}

/// What happened between `begin` and `end`, in order: syncs that returned, and acknowledgements.
fn traced(mode: &str) -> Option<Vec<String>> {
    let calls = strace::run("child_appends", (CHILD, mode), "fdatasync,fsync,write")?;
    let after = calls
        .iter()
        .skip_while(|call| call.marked() != Some("begin"))
        .skip(1);
    let until = after.take_while(|call| call.marked() != Some("end"));
    let told = until.filter_map(|call| {
        if let Some(acknowledged) = call.marked() {
            return Some(acknowledged.to_owned());
        }
        // A sync is done when it returns, on one line or on the line that resumes it.
        let returned = call.text.contains("= 0");
        (call.text.contains("fdatasync") && returned).then(|| "sync".to_owned())
    });
    Some(told.collect())
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
