//! Events that were published by an earlier program, heard by one of today.

use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, LazyLock};

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tidelog::{
    AppendBatch, ContentType, Event, EventEnvelope, EventListener, EventListenerContainer,
    ExpectedVersion, HandlerError, KafkaListenerConfig, NewEvent, StreamId, TopicSpec, Upcast,
    Upcasters,
};

use super::kit::{PATIENCE, options};
use crate::stores::Shop;
use crate::{services, topics};

/// What a till is rung for today: cents of a currency.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Event)]
#[event(upcasters = upcasters)]
enum TillEvent {
    #[event(revision = 2)]
    Rung {
        cents: u64,
        currency: String,
    },
    Emptied,
}

fn upcasters() -> &'static Upcasters {
    /// Revision 1 was in whole euros, under another name.
    #[derive(Deserialize)]
    struct RungV1 {
        euros: u64,
    }
    #[derive(Serialize)]
    struct RungV2 {
        cents: u64,
        currency: &'static str,
    }
    static UPCASTERS: LazyLock<Upcasters> = LazyLock::new(|| {
        let in_cents = |old: RungV1| RungV2 {
            cents: old.euros * 100,
            currency: "EUR",
        };
        Upcasters::new()
            .rename("Sold", "Rung")
            .revise("Rung", 1, in_cents)
            .split("RungAndEmptied", 1, move |old: RungV1| {
                vec![
                    Upcast::to("Rung", 2, in_cents(old)),
                    Upcast::to("Emptied", 1, ()),
                ]
            })
    });
    &UPCASTERS
}

struct Reads(Arc<Mutex<Sender<TillEvent>>>);

impl EventListener for Reads {
    async fn on(&self, event: &EventEnvelope) -> Result<(), HandlerError> {
        for event in event.decode_all::<TillEvent>()? {
            // The test may be over.
            let _ = self.0.lock().send(event);
        }
        Ok(())
    }
}

#[test]
fn events_of_old_revisions_are_handled_as_those_of_today_and_what_cannot_be_is_parked() {
    let Some(address) = services::kafka() else {
        return;
    };
    let shop = Shop::new("upcast", address, 1);
    let dir = tempfile::tempdir().unwrap();
    let log = shop.open(dir.path());
    let old = |of: &str, event_type: &str, revision, payload: &[u8]| {
        let stream = StreamId::new("Till", of).unwrap();
        let event = NewEvent::new(
            event_type,
            revision,
            ContentType::Postcard,
            payload.to_vec(),
        );
        let batch = AppendBatch::new(stream, ExpectedVersion::Any, vec![event]);
        log.append(batch).unwrap();
    };
    old("7", "Sold", 1, &[5]);
    old("7", "RungAndEmptied", 1, &[2]);
    old("7", "Rung", 2, b"\x07\x03CHF");
    old("8", "Rung", 9, b"of a newer program");
    crate::stores::level(&log);

    let group = topics::unique("upcast-group");
    let config = KafkaListenerConfig::new([&shop.address], group.as_str())
        .topic_prefix(&shop.prefix)
        .types(["Till"]);
    pollster::block_on(config.ensure_topics(TopicSpec::new(1, 1))).unwrap();
    let (read, was_read) = channel();
    let listener = Reads(Arc::new(Mutex::new(read)));
    let container = EventListenerContainer::kafka(config).listener_with(listener, options());
    let running = container.build().unwrap().start().unwrap();
    let rung = |cents, currency: &str| TillEvent::Rung {
        cents,
        currency: currency.into(),
    };
    for expected in [
        rung(500, "EUR"),
        rung(200, "EUR"),
        TillEvent::Emptied,
        rung(7, "CHF"),
    ] {
        assert_eq!(was_read.recv_timeout(PATIENCE).unwrap(), expected);
    }
    let control = running.control().blocking();
    control.wait_until(|status| status.parked == 1);
    let parked = control.parked().remove(0);
    assert_eq!(&*parked.stream, "Till/8");
    assert!(parked.reason.contains("Rung"), "{}", parked.reason);
    running.stop().unwrap();
    log.close().unwrap();
    shop.forget();
    let (dead, set) = (format!("{group}.dead"), format!("{group}.parked"));
    topics::delete(&shop.address, &[&dead, &set]);
}
