//! A server that lost what was acknowledged, and clients that knew it.

use tidelog_backends::fake::{FakeWire, Table};
use tidelog_backends::wire::Direct;
use tidelog_core::{AppendBatch, AppendOutcome, ExpectedVersion, StreamQuery};

use crate::refusals::{LONG, batch, server, store, store_of_another};

fn any(count: usize) -> AppendBatch {
    let mut all = batch(1);
    all.expected = ExpectedVersion::Any;
    for _ in 1..count {
        all.events.extend(batch(1).events);
    }
    all
}

/// A client that knows three events, of a table that was emptied since.
fn truncated() -> (FakeWire, Direct<FakeWire>, AppendBatch) {
    let wire = server();
    let client = store(wire.clone(), LONG);
    let lost = any(3);
    pollster::block_on(client.append(lost.clone())).unwrap();
    wire.with_server(|server| server.truncate(Table::Events));
    (wire, client, lost)
}

#[test]
fn a_batch_that_was_lost_is_recorded_again() {
    let (_, client, lost) = truncated();
    let receipt = pollster::block_on(client.append(lost)).unwrap();
    assert_eq!(receipt.outcome, AppendOutcome::Appended);
    assert_eq!(receipt.last_sequence, 3);
}

/// Others have filled the stream since, beyond what was known of it, with the same content.
#[test]
fn what_was_known_of_lost_events_does_not_count() {
    let (wire, client, lost) = truncated();
    let others = any(5);
    pollster::block_on(store_of_another(&wire).append(others.clone())).unwrap();

    let id = lost.events[1].event_id;
    let found = pollster::block_on(client.find_event(&lost.stream, id)).unwrap();
    assert_eq!(found, None);
    let receipt = pollster::block_on(client.append(lost.clone())).unwrap();
    assert_eq!(receipt.outcome, AppendOutcome::Appended);
    assert_eq!(receipt.first_sequence, 6);

    let read = async {
        let query = StreamQuery::new(lost.stream.clone());
        let (mut pages, mut ids) = (client.read(query).await.unwrap(), Vec::new());
        while let Some(page) = pages.next().await.unwrap() {
            ids.extend(page.into_iter().map(|event| event.event_id));
        }
        ids
    };
    let expected: Vec<_> = [others.events, lost.events].concat();
    let expected: Vec<_> = expected.iter().map(|event| event.event_id).collect();
    assert_eq!(pollster::block_on(read), expected);
}

/// A retry that is not looked for by `find_event` first: what the client knows is all it has.
#[test]
fn a_retry_is_not_answered_from_what_was_lost() {
    let (wire, client, lost) = truncated();
    pollster::block_on(store_of_another(&wire).append(any(5))).unwrap();
    let receipt = pollster::block_on(client.append(lost)).unwrap();
    assert_eq!(receipt.outcome, AppendOutcome::Appended);
    assert_eq!(receipt.first_sequence, 6);
}
