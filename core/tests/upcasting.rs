//! What earlier programs recorded is read as events of today, and what later ones recorded is
//! refused, skipped or kept.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "tests fail by panicking"
)]

use std::sync::{Arc, LazyLock};

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use tidelog_core::{
    Aggregate, Batch, ContentType, Decoded, Error, Event, EventEnvelope, EventId, EventType,
    Metadata, NewEvent, RawEvent, RecordKind, RecordedEvent, StreamId, Tags, Timestamp, Unknown,
    Upcast, Upcasters, decode_event,
};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
enum Fact {
    Opened { holder: String, till: String },
    Deposited { cents: u64, currency: String },
    Withdrawn { cents: u64 },
    Closed,
    Other(RawEvent),
}

#[derive(Serialize, Deserialize)]
struct OpenedV1 {
    holder: String,
}
#[derive(Serialize)]
struct OpenedV2 {
    holder: String,
    till: String,
}
#[derive(Serialize, Deserialize)]
struct DepositedV1 {
    euros: u32,
}
#[derive(Serialize, Deserialize)]
struct DepositedV2 {
    cents: u64,
}
#[derive(Serialize)]
struct DepositedV3 {
    cents: u64,
    currency: &'static str,
}
#[derive(Serialize, Deserialize)]
struct Exchanged {
    sold: u64,
    bought: Vec<u32>,
}
#[derive(Serialize, Deserialize)]
struct Amount {
    cents: u64,
}

static UPCASTERS: LazyLock<Upcasters> = LazyLock::new(|| {
    Upcasters::new()
        .rename("PaidIn", "Deposited")
        .revise("Deposited", 1, |v1: DepositedV1| DepositedV2 {
            cents: u64::from(v1.euros) * 100,
        })
        .revise("Deposited", 2, |v2: DepositedV2| DepositedV3 {
            cents: v2.cents,
            currency: "EUR",
        })
        .try_revise("Opened", 1, |v1: OpenedV1, recorded| {
            if v1.holder.is_empty() {
                return Err(recorded.refuse("nobody holds it"));
            }
            let till = recorded
                .metadata()
                .and_then(|metadata| metadata.get("till"));
            Ok(OpenedV2 {
                holder: v1.holder,
                till: till.unwrap_or("unknown").to_owned(),
            })
        })
        .split("Exchanged", 1, |old: Exchanged| {
            let sold = Upcast::to("Withdrawn", 1, Amount { cents: old.sold });
            let bought = old
                .bought
                .into_iter()
                .map(|euros| Upcast::to("Deposited", 1, DepositedV1 { euros }));
            std::iter::once(sold).chain(bought).collect()
        })
        .rename("Shut", "Closed")
        .drop_event("Printed", 1)
        .split("Asked", 1, |(): ()| Vec::new())
        .rename("Circle", "Round")
        .rename("Round", "Circle")
        .drop_event("Twice", 1)
        .drop_event("Twice", 1)
});

impl Event for Fact {
    fn event_type(&self) -> &'static str {
        match self {
            Self::Opened { .. } => "Opened",
            Self::Deposited { .. } => "Deposited",
            Self::Withdrawn { .. } => "Withdrawn",
            Self::Closed => "Closed",
            Self::Other(_) => RawEvent::TYPE,
        }
    }

    fn revision(&self) -> u32 {
        match self {
            Self::Opened { .. } => 2,
            Self::Deposited { .. } => 3,
            _ => 1,
        }
    }

    fn upcasters() -> Option<&'static Upcasters> {
        Some(&UPCASTERS)
    }

    fn types() -> &'static [EventType] {
        const {
            &[
                EventType::new("Opened", 2),
                EventType::new("Deposited", 3),
                EventType::new("Withdrawn", 1),
                EventType::new("Closed", 1),
            ]
        }
    }

    fn unknown(recorded: &RecordedEvent<'_>) -> Unknown<Self> {
        match recorded.event_type() {
            "Noise" => Unknown::Skip,
            name if name.starts_with("Strict") => Unknown::Fail,
            _ => Unknown::Keep(Self::Other(recorded.to_raw())),
        }
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Account;

impl Aggregate for Account {
    const TYPE: &'static str = "Account";
    type Event = Fact;
    type Error = std::convert::Infallible;

    fn apply(_: Option<Self>, _: &Fact) -> Result<Self, Self::Error> {
        Ok(Self)
    }
}

/// A record of `fields` as an earlier program would have left it.
fn record(event_type: &str, revision: u32, json: bool, fields: &impl Serialize) -> EventEnvelope {
    let (content_type, payload) = if json {
        (ContentType::Json, serde_json::to_vec(fields).unwrap())
    } else {
        (ContentType::Postcard, postcard::to_stdvec(fields).unwrap())
    };
    EventEnvelope {
        event_id: EventId::from_bytes([7; 16]),
        stream: StreamId::new("Account", "a").unwrap(),
        sequence: 5,
        position: Some(17),
        birth: None,
        kind: RecordKind::Event,
        event_type: Arc::from(event_type),
        revision,
        content_type,
        event_time: Timestamp::from_micros(1),
        recorded_time: Timestamp::from_micros(2),
        metadata: Metadata::new().with("till", "3"),
        tags: Tags::none(),
        batch: Batch {
            first: 17,
            count: 1,
        },
        event: Bytes::from(payload),
    }
}

fn facts(event_type: &str, revision: u32, fields: &impl Serialize) -> Vec<Fact> {
    let read = |json| {
        let decoded = record(event_type, revision, json, fields).decode_all();
        decoded.unwrap().into_iter().collect::<Vec<Fact>>()
    };
    let (postcard, json) = (read(false), read(true));
    let raw = |fact: &Fact| matches!(fact, Fact::Other(_));
    if !postcard.iter().any(raw) {
        assert_eq!(postcard, json, "both encodings are read alike");
    }
    postcard
}

fn failure(event_type: &str, revision: u32, fields: &impl Serialize) -> String {
    let decoded = record(event_type, revision, false, fields).decode_all::<Fact>();
    decoded.unwrap_err().to_string()
}

fn deposited(cents: u64) -> Fact {
    Fact::Deposited {
        cents,
        currency: "EUR".into(),
    }
}

#[test]
fn a_revision_goes_step_by_step_to_the_one_of_today() {
    assert_eq!(
        facts("Deposited", 1, &DepositedV1 { euros: 5 }),
        [deposited(500)]
    );
    assert_eq!(
        facts("Deposited", 2, &DepositedV2 { cents: 7 }),
        [deposited(7)]
    );
    let today = DepositedV3 {
        cents: 9,
        currency: "EUR",
    };
    assert_eq!(facts("Deposited", 3, &today), [deposited(9)]);
}

#[test]
fn a_renamed_type_keeps_its_revisions() {
    assert_eq!(
        facts("PaidIn", 1, &DepositedV1 { euros: 5 }),
        [deposited(500)]
    );
    assert_eq!(
        facts("PaidIn", 2, &DepositedV2 { cents: 7 }),
        [deposited(7)]
    );
    assert_eq!(facts("Shut", 1, &()), [Fact::Closed]);
}

#[test]
fn an_upcaster_sees_what_stands_beside_the_payload_and_can_fail() {
    let ada = OpenedV1 {
        holder: "Ada".into(),
    };
    let opened = |till: &str| Fact::Opened {
        holder: "Ada".into(),
        till: till.into(),
    };
    assert_eq!(facts("Opened", 1, &ada), [opened("3")]);
    // From bytes alone there is no metadata.
    let alone: Fact = decode_event("Opened", 1, &ContentType::Postcard, b"\x03Ada").unwrap();
    assert_eq!(alone, opened("unknown"));
    let nobody = failure(
        "Opened",
        1,
        &OpenedV1 {
            holder: String::new(),
        },
    );
    assert_eq!(
        nobody,
        "decoding an event of type Opened revision 1, sequence 5 of Account/a: nobody holds it"
    );
}

#[test]
fn a_record_is_split_and_its_parts_go_on() {
    let exchanged = |bought: &[u32]| Exchanged {
        sold: 30,
        bought: bought.to_vec(),
    };
    let withdrawn = Fact::Withdrawn { cents: 30 };
    assert_eq!(
        facts("Exchanged", 1, &exchanged(&[1, 2])),
        [withdrawn.clone(), deposited(100), deposited(200)]
    );
    assert_eq!(facts("Exchanged", 1, &exchanged(&[])), [withdrawn]);
}

#[test]
fn a_dropped_record_is_no_event() {
    assert_eq!(facts("Printed", 1, &"whatever it held"), []);
    assert_eq!(facts("Asked", 1, &()), []);
}

#[test]
fn who_asks_for_exactly_one_event_is_told_how_many_there_are() {
    let exchanged = Exchanged {
        sold: 1,
        bought: vec![2],
    };
    let error = record("Exchanged", 1, false, &exchanged)
        .decode::<Fact>()
        .unwrap_err();
    assert_eq!(
        error.to_string(),
        "decoding an event of type Exchanged revision 1, sequence 5 of Account/a: it is read as 2 \
         events, where exactly one was asked for; use decode_all"
    );
    let none = record("Printed", 1, false, &()).decode_event::<Fact>();
    assert!(none.unwrap_err().to_string().contains("read as 0 events"));
}

#[test]
fn what_cannot_be_read_on_the_way_names_the_record() {
    let wrong = failure("PaidIn", 1, &"five");
    assert!(
        wrong.starts_with(
            "decoding an event of type PaidIn revision 1, sequence 5 of Account/a: upcast to \
             Deposited revision 1: "
        ),
        "{wrong}"
    );
}

#[test]
fn a_circle_and_a_step_given_twice_are_errors_that_name_them() {
    let circle = failure("Circle", 1, &());
    assert!(
        circle.ends_with(
            "its upcasters go round in a circle (Circle 1 → Round 1 → Circle 1); let one of them \
             lead out"
        ),
        "{circle}"
    );
    let twice = failure("Twice", 1, &());
    assert!(
        twice.ends_with("Twice revision 1 has two upcasters; leave one"),
        "{twice}"
    );
}

#[test]
fn parts_that_multiply_without_end_are_an_error() {
    static MANY: LazyLock<Upcasters> = LazyLock::new(|| {
        (0..40).fold(Upcasters::new(), |upcasters, revision| {
            upcasters.split("Grow", revision, move |(): ()| {
                let part = || Upcast::to("Grow", revision + 1, ());
                vec![part(), part()]
            })
        })
    });
    #[derive(Clone, Debug, Serialize, Deserialize)]
    struct Grow;
    impl Event for Grow {
        fn event_type(&self) -> &'static str {
            "Grow"
        }
        fn revision(&self) -> u32 {
            40
        }
        fn upcasters() -> Option<&'static Upcasters> {
            Some(&MANY)
        }
    }
    let error = record("Grow", 0, false, &())
        .decode_all::<Grow>()
        .unwrap_err();
    assert!(error.to_string().contains("10000 in all"), "{error}");
}

#[test]
fn an_unknown_type_is_kept_skipped_or_refused_as_the_events_say() {
    let kept = facts("Loaned", 4, &(1u8, 2u8));
    let raw = RawEvent {
        event_type: "Loaned".into(),
        revision: 4,
        content_type: ContentType::Postcard,
        payload: Bytes::from_static(&[1, 2]),
    };
    assert_eq!(kept, [Fact::Other(raw)]);
    assert_eq!(facts("Noise", 1, &()), []);
    let refused = failure("StrictlyNew", 1, &());
    assert!(
        refused.ends_with(
            "this program knows no such event, only Opened, Deposited, Withdrawn, Closed; add it, \
             let an upcaster read it, or say in Event::unknown what becomes of it"
        ),
        "{refused}"
    );
}

#[test]
fn the_name_of_the_variant_that_keeps_is_no_way_in() {
    let kept = facts("Other", 1, &("Opened", 1, "application/postcard", [0u8; 0]));
    assert!(
        matches!(&kept[..], [Fact::Other(raw)] if &*raw.event_type == "Other"),
        "{kept:?}"
    );
}

/// A newer program's event may have the name that serde gives another variant here.
#[test]
fn what_only_serde_calls_so_is_unknown() {
    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Event)]
    #[event(crate = tidelog_core)]
    enum Billing {
        #[event(type = "InvoicePaid")]
        Paid(u8),
        #[event(unknown)]
        Other(RawEvent),
    }
    let read = |event_type| {
        let decoded = record(event_type, 1, false, &5u8).decode_event::<Billing>();
        decoded.unwrap()
    };
    assert_eq!(read("InvoicePaid"), Billing::Paid(5));
    assert!(matches!(read("Paid"), Billing::Other(raw) if &*raw.event_type == "Paid"));
}

#[test]
fn a_later_revision_is_unknown_and_an_earlier_one_without_a_step_is_an_error() {
    let later = facts("Withdrawn", 2, &Amount { cents: 5 });
    assert!(
        matches!(&later[..], [Fact::Other(raw)] if raw.revision == 2),
        "{later:?}"
    );

    let error = failure("Withdrawn", 0, &Amount { cents: 5 });
    assert!(error.contains("this program has revision 1"), "{error}");
}

#[test]
fn what_was_kept_unknown_cannot_be_recorded_again() {
    let kept = facts("Loaned", 4, &()).remove(0);
    let error = NewEvent::encode(&kept, EventId::generate()).unwrap_err();
    assert!(
        error.to_string().contains("cannot be recorded again"),
        "{error}"
    );
}

#[test]
fn a_raw_event_comes_back_from_a_state_as_it_was() {
    let raw = RawEvent {
        event_type: "Loaned".into(),
        revision: 4,
        content_type: ContentType::parse("application/cbor").unwrap(),
        payload: Bytes::from_static(&[1, 2]),
    };
    let postcard = postcard::to_stdvec(&raw).unwrap();
    assert_eq!(postcard::from_bytes::<RawEvent>(&postcard).unwrap(), raw);
    let json = serde_json::to_string(&raw).unwrap();
    assert_eq!(serde_json::from_str::<RawEvent>(&json).unwrap(), raw);
}

#[test]
fn events_are_asked_for_by_their_aggregate() {
    let record = record("Shut", 1, false, &());
    assert_eq!(record.of::<Account>().unwrap().as_slice(), [Fact::Closed]);

    let mut other = record.clone();
    other.stream = StreamId::new("Order", "a").unwrap();
    assert!(other.of::<Account>().unwrap().is_empty());

    let mut unreadable = record;
    unreadable.event_type = Arc::from("Deposited");
    assert!(matches!(
        unreadable.of::<Account>(),
        Err(Error::Codec { recorded: Some(place), .. }) if place.1 == 5
    ));
}

/// Skipping is for what newer programs record. Who writes an upcaster and forgets to raise the
/// revision would lose every old event without a word.
#[test]
fn what_an_upcaster_leads_to_beyond_the_revision_of_today_is_not_skipped() {
    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
    struct Sold(u64);

    impl Event for Sold {
        fn event_type(&self) -> &'static str {
            "Sold"
        }
        fn types() -> &'static [EventType] {
            const { &[EventType::new("Sold", 1)] }
        }
        fn upcasters() -> Option<&'static Upcasters> {
            static STEPS: LazyLock<Upcasters> = LazyLock::new(|| {
                Upcasters::new()
                    .revise("Sold", 1, |cents: u64| cents)
                    .split("Exchanged", 1, |cents: u64| {
                        vec![Upcast::to("Bought", 1, cents)]
                    })
            });
            Some(&STEPS)
        }
        fn unknown(_: &RecordedEvent<'_>) -> Unknown<Self> {
            Unknown::Skip
        }
    }

    let read = |event_type, revision| record(event_type, revision, false, &5_u64).decode_all();
    let forgotten: Result<Decoded<Sold>, Error> = read("Sold", 1);
    let told = forgotten.unwrap_err().to_string();
    assert!(told.contains("Sold revision 2"), "{told}");
    assert!(told.contains("the program's own is lower"), "{told}");
    // What newer programs record, and what is another's, is skipped as ever.
    for (event_type, revision) in [("Sold", 2), ("Exchanged", 1), ("Lent", 1)] {
        let skipped: Decoded<Sold> = read(event_type, revision).unwrap();
        assert!(skipped.is_empty(), "{event_type}");
    }
}
