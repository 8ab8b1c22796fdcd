//! The bytes of the bank's events: what is recorded must be readable for ever, so they are pinned.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use bank_account::aggregate::BankAccount;
use bank_account::event::BankAccountEvent;
use tidelog::{
    AggregateRepository, AppendBatch, ContentType, EventId, ExpectedVersion, MemoryStore, Metadata,
    NewEvent, StreamId, StreamQuery, decode_event,
};

#[test]
fn recorded_events_keep_their_bytes() {
    let golden: [(BankAccountEvent, &str, u32, &[u8]); 4] = [
        (
            BankAccountEvent::Opened {
                holder: "Ada".into(),
            },
            "Opened",
            1,
            b"\x03Ada",
        ),
        (
            BankAccountEvent::Deposited {
                cents: 1_177,
                cds: 2,
            },
            "Deposited",
            2,
            b"\x99\x09\x02",
        ),
        (
            BankAccountEvent::Withdrawn { cents: 1 },
            "Withdrawn",
            1,
            b"\x01",
        ),
        (BankAccountEvent::Closed, "Closed", 1, b""),
    ];
    for (event, event_type, revision, bytes) in golden {
        let encoded = NewEvent::encode(&event, EventId::from_bytes([0; 16])).unwrap();
        let kind = (
            &*encoded.event_type,
            encoded.revision,
            &encoded.content_type,
        );
        assert_eq!(kind, (event_type, revision, &ContentType::Postcard));
        assert_eq!(&encoded.payload[..], bytes, "{event_type}");
        let decoded: BankAccountEvent =
            decode_event(event_type, revision, &ContentType::Postcard, bytes).unwrap();
        assert_eq!(decoded, event);
    }
}

/// Revision 1 had cents alone, and the number of CDs in the metadata when there was one.
#[test]
fn deposits_of_revision_1_are_read_with_the_cds_of_their_metadata() {
    let store = MemoryStore::new().blocking();
    let stream = StreamId::new("BankAccount", "acc-1").unwrap();
    let deposit = || NewEvent::new("Deposited", 1, ContentType::Postcard, &b"\x99\x09"[..]);
    let events = vec![
        NewEvent::new("Opened", 1, ContentType::Postcard, &b"\x03Ada"[..]),
        deposit().with_metadata(Metadata::new().with("cds", "2")),
        deposit(),
    ];
    let batch = AppendBatch::new(stream.clone(), ExpectedVersion::NoStream, events);
    store.append(batch).unwrap();

    let accounts = AggregateRepository::<BankAccount, _>::new(store.inner().clone()).blocking();
    let account = accounts.load("acc-1").unwrap().unwrap();
    assert_eq!((account.state.cents, account.sequence), (2 * 1_177, 3));

    let recorded: Vec<_> = store.read_stream(StreamQuery::new(stream)).collect();
    let cds = recorded.into_iter().skip(1).map(|envelope| {
        let events = envelope.unwrap().of::<BankAccount>().unwrap();
        match events.into_one() {
            Some(BankAccountEvent::Deposited { cents: 1_177, cds }) => cds,
            other => panic!("{other:?}"),
        }
    });
    assert_eq!(cds.collect::<Vec<_>>(), [2, 0]);
}
