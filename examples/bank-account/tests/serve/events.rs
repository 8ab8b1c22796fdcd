//! Live events: each once, in order, from whatever place they are asked for.

use std::net::SocketAddr;

use serde_json::Value;

use crate::http::{Connection, written};
use crate::service::Service;

/// Somebody who reads along.
pub struct Follower {
    connection: Connection,
    text: String,
}

/// One event as it was sent.
#[derive(Debug)]
pub struct Sent {
    pub id: u64,
    pub kind: String,
    pub data: Value,
}

impl Follower {
    pub fn of(address: SocketAddr, path: &str, headers: &[(&str, &str)]) -> Self {
        let mut connection = Connection::to(address).unwrap();
        connection
            .send(written("GET", path, headers, None).as_bytes())
            .unwrap();
        let (status, headers) = connection.head().unwrap();
        assert_eq!(status, 200, "{headers:?}");
        assert!(headers.contains(&("content-type".into(), "text/event-stream".into())));
        Self {
            connection,
            text: String::new(),
        }
    }

    /// The next event; `None` at the end.
    pub fn next(&mut self) -> Option<Sent> {
        loop {
            if let Some((event, rest)) = self.text.split_once("\n\n") {
                let event = event.to_owned();
                self.text = rest.to_owned();
                if event.starts_with(':') {
                    continue;
                }
                let field = |name: &str| {
                    let found = event.lines().find_map(|line| line.strip_prefix(name));
                    found
                        .unwrap_or_else(|| panic!("no {name} in {event}"))
                        .to_owned()
                };
                return Some(Sent {
                    id: field("id: ").parse().unwrap(),
                    kind: field("event: "),
                    data: serde_json::from_str(&field("data: ")).unwrap(),
                });
            }
            let chunk = self.connection.chunk().unwrap();
            if chunk.is_empty() {
                assert_eq!(self.text, "");
                return None;
            }
            self.text.push_str(std::str::from_utf8(&chunk).unwrap());
        }
    }

    fn rest(mut self) -> Vec<Sent> {
        std::iter::from_fn(|| self.next()).collect()
    }
}

#[test]
fn who_follows_from_now_on_is_told_the_place_and_then_what_comes() {
    let dir = tempfile::tempdir().unwrap();
    let bank = Service::start(dir.path());
    bank.open("ada", "Ada\u{2028}<script>");
    let mut follower = Follower::of(bank.address, "/v1/events", &[]);
    let place = follower.next().unwrap();
    assert_eq!((place.id, &*place.kind), (1, "place"));
    bank.deposit("ada", "1");
    bank.open("bob", "Bob");
    let (one, two) = (follower.next().unwrap(), follower.next().unwrap());
    assert_eq!(
        (one.id, &*one.kind, &one.data["amount"]),
        (2, "Deposited", &Value::from("1.00"))
    );
    assert_eq!(
        (two.id, &*two.kind, &two.data["holder"]),
        (3, "Opened", &Value::from("Bob"))
    );
}

#[test]
fn who_was_cut_off_goes_on_exactly_where_it_was() {
    let dir = tempfile::tempdir().unwrap();
    let mut bank = Service::start(dir.path());
    bank.open("ada", "Ada");
    // More than the ring has.
    for number in 1..=60 {
        bank.deposit("ada", &number.to_string());
    }
    let mut seen: Vec<u64> = Vec::new();
    let mut last = "0".to_owned();
    // Cut off after one event, then after two, …: also by the end of the process.
    for portion in 1..=10 {
        if portion == 6 {
            bank.kill();
            bank = Service::start(dir.path());
        }
        let mut follower = Follower::of(bank.address, "/v1/events", &[("last-event-id", &last)]);
        let place = follower.next().unwrap();
        assert_eq!(place.id.to_string(), last);
        for _ in 0..portion {
            let event = follower.next().unwrap();
            seen.push(event.id);
            last = event.id.to_string();
        }
    }
    assert_eq!(seen, (1..=55).collect::<Vec<u64>>());
    let rest = Follower::of(
        bank.address,
        "/v1/events?follow=false",
        &[("last-event-id", &last)],
    )
    .rest();
    assert_eq!(
        rest[1..].iter().map(|event| event.id).collect::<Vec<_>>(),
        (56..=61).collect::<Vec<_>>()
    );
    let all = Follower::of(bank.address, "/v1/events?after=0&follow=false", &[]).rest();
    assert_eq!(
        all[1..].iter().map(|event| event.id).collect::<Vec<_>>(),
        (1..=61).collect::<Vec<_>>()
    );
}

#[test]
fn a_place_that_cannot_be_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let bank = Service::start(dir.path());
    bank.open("ada", "Ada");
    for (id, status) in [
        ("x", 400),
        ("-1", 400),
        ("", 400),
        ("2", 410),
        ("99999999999999999999", 400),
    ] {
        let mut connection = Connection::to(bank.address).unwrap();
        let request = written("GET", "/v1/events", &[("last-event-id", id)], None);
        connection.send(request.as_bytes()).unwrap();
        assert_eq!(connection.answer(true).unwrap().status, status, "{id:?}");
    }
}

#[test]
fn the_events_of_a_transfer_are_told_in_their_order() {
    let dir = tempfile::tempdir().unwrap();
    let bank = Service::start(dir.path());
    bank.open("ada", "Ada");
    bank.open("bob", "Bob");
    bank.deposit("ada", "3");
    let mut follower = Follower::of(bank.address, "/v1/events?after=3", &[]);
    assert_eq!(follower.next().unwrap().kind, "place");
    let asked = bank.post(
        "/v1/transfers",
        &[],
        r#"{"from":"ada","to":"bob","amount":"2"}"#,
    );
    assert_eq!(asked.status, 202);
    let kinds: Vec<_> = (0..5).map(|_| follower.next().unwrap().kind).collect();
    assert_eq!(
        kinds,
        [
            "TransferRequested",
            "Withdrawn",
            "TransferDebited",
            "Deposited",
            "TransferCompleted"
        ]
    );
}
