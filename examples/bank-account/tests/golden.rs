//! The bytes of the bank's events: what is recorded must be readable for ever, so they are pinned.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use bank_account::event::BankAccountEvent;
use tidelog::{ContentType, EventId, NewEvent, decode_event};

#[test]
fn recorded_events_keep_their_bytes() {
    let golden: [(BankAccountEvent, &str, &[u8]); 4] = [
        (
            BankAccountEvent::Opened {
                holder: "Ada".into(),
            },
            "Opened",
            b"\x03Ada",
        ),
        (
            BankAccountEvent::Deposited { cents: 1_177 },
            "Deposited",
            b"\x99\x09",
        ),
        (
            BankAccountEvent::Withdrawn { cents: 1 },
            "Withdrawn",
            b"\x01",
        ),
        (BankAccountEvent::Closed, "Closed", b""),
    ];
    for (event, event_type, bytes) in golden {
        let encoded = NewEvent::encode(&event, EventId::from_bytes([0; 16])).unwrap();
        let kind = (
            &*encoded.event_type,
            encoded.revision,
            &encoded.content_type,
        );
        assert_eq!(kind, (event_type, 1, &ContentType::Postcard));
        assert_eq!(&encoded.payload[..], bytes, "{event_type}");
        let decoded: BankAccountEvent =
            decode_event(event_type, 1, &ContentType::Postcard, bytes).unwrap();
        assert_eq!(decoded, event);
    }
}
