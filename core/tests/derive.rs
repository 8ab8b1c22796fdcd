//! What is derived is what one would write by hand, to the byte.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "tests fail by panicking"
)]

use std::sync::LazyLock;

use serde::{Deserialize, Serialize};
use tidelog_core::{
    ContentType, Event, EventId, EventType, NewEvent, RawEvent, RecordedEvent, Tags, Unknown,
    Upcasters, decode_event,
};

static UPCASTERS: LazyLock<Upcasters> = LazyLock::new(|| {
    Upcasters::new()
        .rename("PaidIn", "MoneyDeposited")
        .revise("MoneyDeposited", 1, |cents: u32| (u64::from(cents), 0u8))
});

fn upcasters() -> &'static Upcasters {
    &UPCASTERS
}

mod by_hand {
    use super::*;

    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
    pub enum Fact {
        Opened {
            holder: String,
        },
        Deposited(u64, u8),
        #[serde(rename = "out")]
        Withdrawn(u64),
        Closed,
        Other(RawEvent),
    }

    impl Event for Fact {
        fn event_type(&self) -> &'static str {
            match self {
                Self::Opened { .. } => "Opened",
                Self::Deposited(..) => "MoneyDeposited",
                Self::Withdrawn(_) => "Withdrawn",
                Self::Closed => "Closed",
                Self::Other(_) => RawEvent::TYPE,
            }
        }
        fn revision(&self) -> u32 {
            match self {
                Self::Deposited(..) => 2,
                _ => 1,
            }
        }
        fn tags(&self) -> Tags {
            match self {
                Self::Opened { holder } => Tags::new([format!("holder:{holder}")]).unwrap(),
                _ => Tags::none(),
            }
        }
        fn variant_name(event_type: &str) -> &str {
            match event_type {
                "MoneyDeposited" => "Deposited",
                "Withdrawn" => "out",
                other => other,
            }
        }
        fn upcasters() -> Option<&'static Upcasters> {
            Some(upcasters())
        }
        fn types() -> &'static [EventType] {
            const {
                &[
                    EventType::new("Opened", 1),
                    EventType::new("MoneyDeposited", 2),
                    EventType::new("Withdrawn", 1),
                    EventType::new("Closed", 1),
                ]
            }
        }
        fn unknown(recorded: &RecordedEvent<'_>) -> Unknown<Self> {
            Unknown::Keep(Self::Other(recorded.to_raw()))
        }
    }
}

mod derived {
    use super::*;

    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Event)]
    #[event(crate = tidelog_core, tags = by_holder, upcasters = upcasters)]
    pub enum Fact {
        Opened {
            holder: String,
        },
        #[event(type = "MoneyDeposited", revision = 2)]
        Deposited(u64, u8),
        #[serde(rename = "out")]
        Withdrawn(u64),
        Closed,
        #[event(unknown)]
        Other(RawEvent),
    }

    fn by_holder(fact: &Fact) -> Tags {
        match fact {
            Fact::Opened { holder } => Tags::new([format!("holder:{holder}")]).unwrap(),
            _ => Tags::none(),
        }
    }
}

/// The facts of one module.
macro_rules! facts {
    ($module:ident) => {
        [
            $module::Fact::Opened {
                holder: "Ada".into(),
            },
            $module::Fact::Deposited(500, 2),
            $module::Fact::Withdrawn(7),
            $module::Fact::Closed,
        ]
    };
}

#[test]
fn what_is_derived_records_the_same_bytes_types_revisions_and_tags() {
    for (derived, by_hand) in facts!(derived).iter().zip(&facts!(by_hand)) {
        let id = EventId::from_bytes([7; 16]);
        assert_eq!(
            NewEvent::encode(derived, id).unwrap(),
            NewEvent::encode(by_hand, id).unwrap()
        );
    }
    assert_eq!(derived::Fact::types(), by_hand::Fact::types());
}

#[test]
fn what_is_derived_reads_old_renamed_and_unknown_records_alike() {
    let records: [(&str, u32, &[u8]); 8] = [
        ("Opened", 1, b"\x03Ada"),
        ("MoneyDeposited", 2, &[0xf4, 0x03, 2]),
        ("MoneyDeposited", 1, &[5]),
        ("PaidIn", 1, &[5]),
        ("Withdrawn", 1, &[7]),
        ("Closed", 1, &[]),
        ("Loaned", 3, &[1, 2, 3]),
        ("Closed", 2, &[1]),
    ];
    for (event_type, revision, payload) in records {
        let derived: derived::Fact =
            decode_event(event_type, revision, &ContentType::Postcard, payload).unwrap();
        let by_hand: by_hand::Fact =
            decode_event(event_type, revision, &ContentType::Postcard, payload).unwrap();
        assert_eq!(format!("{derived:?}"), format!("{by_hand:?}"));
        assert_eq!(derived.event_type(), by_hand.event_type());
    }
    for payload in [&[][..], &[1, 2, 3]] {
        let read = |error: tidelog_core::Error| error.to_string();
        assert_eq!(
            decode_event::<derived::Fact>("Opened", 1, &ContentType::Postcard, payload)
                .map_err(read)
                .unwrap_err(),
            decode_event::<by_hand::Fact>("Opened", 1, &ContentType::Postcard, payload)
                .map_err(read)
                .unwrap_err(),
        );
    }
}

#[test]
fn a_struct_with_json_and_skipping_is_derived() {
    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Event)]
    #[event(crate = tidelog_core, type = "MoneyDeposited", revision = 2)]
    #[event(content_type = "json", unknown = "skip")]
    struct Deposited {
        cents: u64,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        note: Option<String>,
    }

    let deposited = Deposited {
        cents: 5,
        note: None,
    };
    let recorded = NewEvent::encode(&deposited, EventId::generate()).unwrap();
    assert_eq!(
        (&*recorded.event_type, recorded.revision),
        ("MoneyDeposited", 2)
    );
    assert_eq!(recorded.content_type, ContentType::Json);
    assert_eq!(&recorded.payload[..], br#"{"cents":5}"#);
    assert_eq!(
        decode_event::<Deposited>("MoneyDeposited", 2, &ContentType::Json, br#"{"cents":5}"#)
            .unwrap(),
        deposited
    );
    // Skipped, it is no event: only who asks for exactly one is told.
    let unknown = decode_event::<Deposited>("Loaned", 1, &ContentType::Json, b"{}");
    assert!(
        unknown
            .unwrap_err()
            .to_string()
            .contains("read as 0 events")
    );
}

/// The names of the prelude mean something else where it is used, and old facts are deprecated.
mod in_odd_company {
    #![deny(warnings)]
    #![allow(
        dead_code,
        clippy::unused_self,
        clippy::unnecessary_wraps,
        reason = "names that are only in the way, functions as the derive asks for them"
    )]

    use super::{Event, Upcasters};
    use serde::{Deserialize, Serialize};

    pub struct Option;
    pub struct Result;
    pub struct String;
    pub struct Vec;
    pub struct Some;
    pub struct None;
    pub struct Ok;
    pub struct Err;
    pub struct Error;
    pub struct RecordedEvent;
    pub struct ContentType;
    pub struct Unknown;
    pub struct Tags;
    pub struct EventType;

    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Event)]
    #[event(crate = tidelog_core, content_type = "json", unknown = "skip")]
    #[event(upcasters = Self::steps, tags = Self::by_holder, upcast = Self::read)]
    #[serde(bound = "T: Serialize + serde::de::DeserializeOwned")]
    pub enum Fact<T, const N: usize = 3>
    where
        T: Clone + Serialize + serde::de::DeserializeOwned + Send + Sync + 'static,
    {
        #[event(revision = 2)]
        r#Move {
            r#type: T,
        },
        #[event(type = "Went")]
        #[serde(rename = "gone", alias = "went")]
        Gone(T, #[serde(default)] u8),
        Closed,
        #[deprecated = "nobody does it any more"]
        Printed,
        #[cfg(any())]
        NotThere(NoSuchType),
    }

    impl<T, const N: usize> Fact<T, N>
    where
        T: Clone + Serialize + serde::de::DeserializeOwned + Send + Sync + 'static,
    {
        fn steps() -> &'static Upcasters {
            &super::UPCASTERS
        }

        fn by_holder(&self) -> tidelog_core::Tags {
            tidelog_core::Tags::none()
        }

        fn read(
            _: &tidelog_core::RecordedEvent<'_>,
        ) -> ::core::result::Result<::core::option::Option<Self>, tidelog_core::Error> {
            ::core::result::Result::Ok(::core::option::Option::None)
        }
    }
}

#[test]
fn a_derive_stands_in_any_company() {
    use in_odd_company::Fact;
    let facts: [Fact<u64>; 3] = [Fact::Move { r#type: 7 }, Fact::Gone(1, 2), Fact::Closed];
    let bytes = [&br#"{"type":7}"#[..], b"[1,2]", b"null"];
    for (fact, bytes) in facts.iter().zip(bytes) {
        let recorded = NewEvent::encode(fact, EventId::generate()).unwrap();
        assert_eq!(recorded.payload, bytes);
        let read: Fact<u64> = decode_event(
            &recorded.event_type,
            recorded.revision,
            &ContentType::Json,
            bytes,
        )
        .unwrap();
        assert_eq!(read, *fact);
    }
    assert_eq!(Fact::<u64>::types().len(), 4);
    assert_eq!(Fact::<u64>::Move { r#type: 7 }.event_type(), "Move");
}
