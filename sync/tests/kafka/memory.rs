//! A broker that takes connections and never answers, and a million events that wait for it.

use std::net::TcpListener;
use std::path::Path;
use std::process::Command;
use std::thread;

use tempfile::tempdir;
use tidelog::{AppendBatch, ContentType, ExpectedVersion, NewEvent};

use crate::say;
use crate::stores::{self, Shop};
use crate::working::peak_kib;

/// Set for the child: where the broker is said to be, and its store.
const ORDER: &str = "TIDELOG_TEST_KAFKA_MEMORY";
const EVENTS: u64 = 1_000_000;
const BATCH: u64 = 500;
const MARK: &str = "~ grown by ";

/// By a process of its own: memory is the whole process's.
#[test]
fn a_million_events_that_wait_for_a_dead_broker_take_bounded_memory() {
    if let Ok(order) = std::env::var(ORDER) {
        return fill(&order);
    }
    let dead = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = dead.local_addr().unwrap();
    // Connections are kept, and nothing is read.
    thread::spawn(move || dead.incoming().collect::<Vec<_>>());
    let dir = tempdir().unwrap();
    let test = "memory::a_million_events_that_wait_for_a_dead_broker_take_bounded_memory";
    let child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", test, "--nocapture"])
        .env(ORDER, format!("{address} {}", dir.path().display()))
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&child.stdout);
    assert!(child.status.success(), "{said}");
    let grown = said.split_once(MARK).unwrap().1;
    let grown: u64 = grown.split_whitespace().next().unwrap().parse().unwrap();
    say(&format!("{EVENTS} events wait, {} MiB more", grown >> 10));
    assert!(grown < 128 << 10, "{grown} KiB");
}

fn fill(order: &str) {
    let (address, dir) = order.split_once(' ').unwrap();
    let (address, prefix) = (address.to_owned(), "memory.".to_owned());
    let shop = Shop { address, prefix };
    let log = shop.open(Path::new(dir));
    let append = |batch: u64| {
        let event = |at: u64| {
            let payload = (batch * BATCH + at).to_le_bytes().repeat(12);
            NewEvent::new("Rung", 1, ContentType::Bytes, payload)
        };
        let events = (0..BATCH).map(event).collect();
        let stream = stores::stream(batch % 500);
        let batch = AppendBatch::new(stream, ExpectedVersion::Any, events);
        log.append(batch).unwrap();
    };
    // What a store and its publisher take by themselves.
    (0..20).for_each(append);
    let before = peak_kib();
    (20..EVENTS / BATCH).for_each(append);
    let status = log.publishing().status();
    assert_eq!((log.last_position(), status.settled), (EVENTS, 0));
    println!("{MARK}{} KiB", peak_kib() - before);
    log.close().unwrap();
}
