//! A thousand readers of live events, and one that never reads: memory stays bounded.

use std::io::Read as _;
use std::net::SocketAddr;
use std::path::Path;
use std::thread;

use bank_account::event::BankAccountEvent;
use rustix::process::{Resource, getrlimit, setrlimit};
use tidelog::{AppendBatch, EventId, ExpectedVersion, NewEvent, StreamId, Tidelog};

use crate::events::Follower;
use crate::http::{Connection, written};
use crate::service::Service;

const READERS: u64 = 1_000;
/// Twice what the ring holds.
const DEPOSITS: u64 = 2_048;
/// Events of long names, before anybody reads: more than the system keeps for who does not.
const OPENED: u64 = 20_000;

/// A bank with [`OPENED`] events, some 14 MB as they are told.
fn long_bank(dir: &Path) {
    let bank = Tidelog::open(dir).unwrap().blocking();
    let holder = "é".repeat(200);
    for thousand in 0..OPENED / 1_000 {
        let opened = (0..1_000).map(|number| {
            let stream =
                StreamId::new("BankAccount", &format!("n{}", thousand * 1_000 + number)).unwrap();
            let opened = BankAccountEvent::Opened {
                holder: holder.clone(),
            };
            let opened = NewEvent::encode(&opened, EventId::generate()).unwrap();
            AppendBatch::new(stream, ExpectedVersion::NoStream, vec![opened])
        });
        bank.append_streams(opened.collect()).unwrap();
    }
    bank.close().unwrap();
}

/// Deposits one dollar again and again, over several connections.
fn deposit(address: SocketAddr, times: u64) {
    const CLIENTS: u64 = 16;
    thread::scope(|scope| {
        for _ in 0..CLIENTS {
            scope.spawn(move || {
                let mut writer = Connection::to(address).unwrap();
                let request = written(
                    "POST",
                    "/v1/accounts/n1/deposits",
                    &[],
                    Some(r#"{"amount":"1"}"#),
                );
                for _ in 0..times / CLIENTS {
                    writer.send(request.as_bytes()).unwrap();
                    assert_eq!(writer.answer(true).unwrap().status, 201);
                }
            });
        }
    });
}

/// Somebody who asks for everything, and reads nothing of it.
fn deaf(bank: &Service) -> Connection {
    let mut deaf = Connection::to(bank.address).unwrap();
    deaf.send(written("GET", "/v1/events?after=0", &[], None).as_bytes())
        .unwrap();
    deaf
}

#[test]
fn a_thousand_idle_readers_and_one_that_never_reads_cost_a_place_each() {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    setrlimit(Resource::Nofile, limit).unwrap();
    let dir = tempfile::tempdir().unwrap();
    long_bank(dir.path());
    let args = [
        "--rate",
        "0",
        "--readers",
        "1001",
        "--stall-seconds",
        "86400",
    ];
    let bank = Service::start_with(dir.path(), &args);
    let before = bank.resident();
    let mut deaf = deaf(&bank);
    let mut readers: Vec<_> = (0..READERS)
        .map(|_| {
            let mut follower = Follower::of(bank.address, "/v1/events", &[]);
            assert_eq!(follower.next().unwrap().id, OPENED);
            follower
        })
        .collect();
    let idle = bank.resident();
    assert_eq!(bank.metric("bank_event_readers"), READERS + 1);
    let full = bank.get("/v1/events");
    assert_eq!((full.status, &*full.problem()), (503, "too-many-readers"));
    deposit(bank.address, DEPOSITS);
    // Each has all of it, in order: from the ring, or from the log where it was late.
    let last = OPENED + DEPOSITS;
    for reader in readers.iter_mut().step_by(50) {
        for position in OPENED + 1..=last {
            assert_eq!(reader.next().unwrap().id, position);
        }
    }
    let (events, bytes) = (
        bank.metric("bank_event_ring_events"),
        bank.metric("bank_event_ring_bytes"),
    );
    let after = bank.resident();
    let mib = |bytes: u64| bytes >> 20;
    println!(
        "{READERS} readers: {} MiB before, {} MiB with them, {} MiB after {DEPOSITS} deposits; the ring has {events} events, {bytes} bytes",
        mib(before),
        mib(idle),
        mib(after)
    );
    // A connection costs its buffers, whatever is written meanwhile.
    let each = after.saturating_sub(before) / READERS;
    assert!(each < 256 << 10, "{each} bytes for each reader");
    // That is all there is for all of them: no queue of their own.
    assert_eq!(events, 1_024);
    assert!(bytes <= 1 << 20, "{bytes}");
    assert_eq!(bank.metric("bank_event_readers"), READERS + 1);
    // Who never read finds all of it, once he does.
    assert_eq!(deaf.head().unwrap().0, 200);
    let mut text = String::new();
    while !text.contains(&format!("id: {last}\n")) {
        text.push_str(std::str::from_utf8(&deaf.chunk().unwrap()).unwrap());
        if let Some((complete, rest)) = text
            .rsplit_once("\n\n")
            .filter(|(text, _)| text.len() > 1 << 20)
        {
            assert!(complete.contains("id: "));
            text = rest.to_owned();
        }
    }
    // Readers that are gone give their room back.
    drop((deaf, readers));
    while bank.metric("bank_event_readers") > 0 {
        bank.deposit("n1", "1");
    }
}

#[test]
fn who_takes_nothing_for_too_long_is_cut_off_and_goes_on_later() {
    let dir = tempfile::tempdir().unwrap();
    long_bank(dir.path());
    let bank = Service::start_with(dir.path(), &["--rate", "0", "--stall-seconds", "1"]);
    let mut deaf = deaf(&bank);
    // It is there, then it is gone.
    assert_eq!(deaf.head().unwrap().0, 200);
    while bank.metric("bank_event_readers") > 0 {}
    // What was sent before is there to be read, up to some place; from there it goes on.
    let mut said = Vec::new();
    let _ = deaf.0.read_to_end(&mut said);
    let said = String::from_utf8_lossy(&said);
    let complete = said.rsplit_once("\n\n").unwrap().0;
    let last = complete
        .lines()
        .filter_map(|line| line.strip_prefix("id: "))
        .next_back()
        .unwrap();
    assert!(last.parse::<u64>().unwrap() < OPENED, "{last}");
    let mut again = Follower::of(
        bank.address,
        "/v1/events?follow=false",
        &[("last-event-id", last)],
    );
    let mut place = again.next().unwrap().id;
    while let Some(event) = again.next() {
        assert_eq!(event.id, place + 1);
        place = event.id;
    }
    assert_eq!(place, OPENED);
}
