//! How much is asked for at once, and what becomes of it where that is too much.

use tidelog_backends::fake::{FakeWire, Fault};
use tidelog_backends::wire::{Direct, Request};
use tidelog_core::{AppendBatch, Error, EventEnvelope, ExpectedVersion, StreamQuery};

use crate::refusals::{LONG, batch, server, store};

/// A stream of small events.
fn filled(count: usize) -> (FakeWire, Direct<FakeWire>, AppendBatch) {
    let wire = server();
    let client = store(wire.clone(), LONG);
    let mut one = batch(1);
    one.expected = ExpectedVersion::Any;
    for _ in 0..count {
        let mut another = batch(1);
        another.expected = ExpectedVersion::Any;
        pollster::block_on(client.append(another)).unwrap();
    }
    wire.take_asked();
    (wire, client, one)
}

fn read(client: &Direct<FakeWire>, query: StreamQuery) -> Result<Vec<EventEnvelope>, Error> {
    pollster::block_on(async {
        let (mut pages, mut all) = (client.read(query).await?, Vec::new());
        while let Some(page) = pages.next().await? {
            all.extend(page);
        }
        Ok(all)
    })
}

fn rows(request: &Request) -> Option<usize> {
    match request {
        Request::Events { page, .. } => Some(page.rows as usize),
        _ => None,
    }
}

#[test]
fn small_events_do_not_make_pages_that_large_ones_would_fill_beyond_64_mib() {
    let (wire, client, one) = filled(400);
    let all = read(&client, StreamQuery::new(one.stream)).unwrap();
    assert_eq!(all.len(), 400);
    let asked = wire.take_asked();
    let most = asked.iter().filter_map(rows).max().unwrap();
    assert!(most > 8, "more than at first: {most}");
    let largest = client.limits().payload_bytes + client.limits().metadata_bytes;
    assert!(most * largest <= 64 << 20, "{most} rows of {largest} bytes");
}

#[test]
fn a_page_that_is_refused_or_not_answered_is_asked_for_in_smaller_ones() {
    for fault in [Fault::Refused, Fault::LostReply, Fault::LostRequest] {
        for most in [1, 3, 7] {
            let (wire, client, one) = filled(33);
            let told = fault.clone();
            wire.set_faults(move |request| match rows(request) {
                Some(rows) if rows > most => told.clone(),
                _ => Fault::None,
            });
            let sequences = |query| {
                let all = read(&client, query).unwrap().into_iter();
                all.map(|event| event.sequence).collect::<Vec<_>>()
            };
            let query = StreamQuery::new(one.stream.clone());
            let forward = sequences(query.clone());
            assert_eq!(
                forward,
                (1..=33).collect::<Vec<_>>(),
                "{fault:?} above {most}"
            );
            let backward = sequences(query.backward());
            assert_eq!(backward, (1..=33).rev().collect::<Vec<_>>());
        }
    }
}

#[test]
fn where_not_even_one_event_is_answered_that_is_said() {
    let (wire, client, one) = filled(33);
    wire.set_faults(|request| match rows(request) {
        Some(_) => Fault::Refused,
        None => Fault::None,
    });
    let refused = read(&client, StreamQuery::new(one.stream)).unwrap_err();
    assert!(matches!(refused, Error::ServerRefused { .. }), "{refused}");
    let asked = wire.take_asked();
    assert_eq!(asked.iter().filter_map(rows).min(), Some(1));
}
