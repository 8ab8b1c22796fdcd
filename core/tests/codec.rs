//! What stands in a payload: a variant's own fields, pinned byte by byte, and every shape of value
//! comes back as it went in.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::items_after_statements,
    reason = "tests fail by panicking, and show their types where they use them"
)]

use std::collections::{BTreeMap, HashMap};

use proptest::prelude::*;
use serde::{Deserialize, Serialize};
use tidelog_core::{
    ContentType, Error, Event, EventId, NewEvent, RecordedEvent, Tags, decode_event,
};

fn id() -> EventId {
    EventId::from_bytes([7; 16])
}

fn payload<E: Event>(event: &E) -> Vec<u8> {
    NewEvent::encode(event, id()).unwrap().payload.to_vec()
}

fn read<E: Event>(event_type: &str, content_type: &ContentType, payload: &[u8]) -> E {
    decode_event(event_type, 1, content_type, payload).unwrap()
}

fn reason(error: Error) -> String {
    match error {
        Error::Codec { reason, .. } => reason.into(),
        other => panic!("not a codec error: {other}"),
    }
}

/// All shapes that serde knows, once for each encoding.
macro_rules! shapes {
    ($name:ident, $content_type:expr) => {
        #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
        enum $name {
            Fields { cents: u64, note: Option<String> },
            Value(i64),
            Values(u16, String, bool),
            Nothing,
            Empty {},
            Everything(Box<Everything>),
        }

        impl Event for $name {
            fn event_type(&self) -> &'static str {
                match self {
                    Self::Fields { .. } => "Fields",
                    Self::Value(_) => "Value",
                    Self::Values(..) => "Values",
                    Self::Nothing => "Nothing",
                    Self::Empty {} => "Empty",
                    Self::Everything(_) => "Everything",
                }
            }

            fn content_type(&self) -> ContentType {
                $content_type
            }
        }
    };
}

shapes!(Packed, ContentType::Postcard);
shapes!(Text, ContentType::Json);

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Everything {
    tiny: (i8, u8, i16, u16),
    small: (i32, u32),
    wide: (i64, u64),
    huge: (i128, u128),
    real: (f32, f64),
    letter: char,
    text: String,
    list: Vec<Side>,
    table: BTreeMap<String, Vec<u32>>,
    numbers: BTreeMap<i64, bool>,
    maybe: Option<Box<Everything>>,
    nested: Side,
    unit: (),
    wrapped: Wrapped,
    fixed: [u8; 4],
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Wrapped(String);

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
enum Side {
    Left,
    Right(u32),
    Both(u8, i8),
    Named { name: String },
}

#[test]
fn golden_bytes_hold_a_variants_own_fields_in_postcard() {
    let fields = Packed::Fields {
        cents: 500,
        note: Some("ab".into()),
    };
    assert_eq!(payload(&fields), [0xf4, 0x03, 1, 2, b'a', b'b']);
    assert_eq!(payload(&Packed::Value(-3)), [5]);
    assert_eq!(
        payload(&Packed::Values(7, "x".into(), true)),
        [7, 1, b'x', 1]
    );
    assert!(payload(&Packed::Nothing).is_empty());
    assert!(payload(&Packed::Empty {}).is_empty());
}

#[test]
fn golden_bytes_hold_a_variants_own_fields_in_json() {
    let json = |event: &Text| String::from_utf8(payload(event)).unwrap();
    let fields = Text::Fields {
        cents: 500,
        note: None,
    };
    assert_eq!(json(&fields), r#"{"cents":500,"note":null}"#);
    assert_eq!(json(&Text::Value(-3)), "-3");
    assert_eq!(json(&Text::Values(7, "x".into(), true)), r#"[7,"x",true]"#);
    assert_eq!(json(&Text::Nothing), "null");
    assert_eq!(json(&Text::Empty {}), "{}");
}

#[test]
fn golden_bytes_of_nested_values_in_postcard() {
    let event = Packed::Everything(Box::new(Everything {
        tiny: (-1, 255, -2, 300),
        small: (-65, 70_000),
        wide: (i64::MIN, u64::MAX),
        huge: (-1, 1 << 100),
        real: (1.5, -0.25),
        letter: 'ß',
        text: "hé".into(),
        list: vec![Side::Left, Side::Right(1), Side::Both(2, -2)],
        table: BTreeMap::from([("k".into(), vec![1, 2])]),
        numbers: BTreeMap::from([(-1, true)]),
        maybe: None,
        nested: Side::Named { name: "n".into() },
        unit: (),
        wrapped: Wrapped("w".into()),
        fixed: [9; 4],
    }));
    let bytes = payload(&event);
    let hex = bytes
        .iter()
        .fold(String::new(), |hex, byte| hex + &format!("{byte:02x}"));
    assert_eq!(
        hex,
        concat!(
            "ffff03ac02",
            "8101f0a204",
            "ffffffffffffffffff01",
            "ffffffffffffffffff01",
            "01",
            "808080808080808080808080808004",
            "0000c03f",
            "000000000000d0bf",
            "02c39f",
            "0368c3a9",
            "03",
            "00",
            "0101",
            "0202fe",
            "01",
            "016b",
            "020102",
            "01",
            "0101",
            "00",
            "03016e",
            "0177",
            "09090909",
        )
    );
    assert_eq!(
        read::<Packed>("Everything", &ContentType::Postcard, &bytes),
        event
    );
}

mod before {
    use super::*;

    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
    pub enum Fact {
        Deposited { cents: u64 },
        Withdrawn { cents: u64 },
    }

    impl Event for Fact {
        fn event_type(&self) -> &'static str {
            match self {
                Self::Deposited { .. } => "Deposited",
                Self::Withdrawn { .. } => "Withdrawn",
            }
        }
    }
}

mod after {
    use super::*;

    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
    pub enum Fact {
        Withdrawn { cents: u64 },
        Fee { cents: u64 },
        Deposited { cents: u64 },
    }

    impl Event for Fact {
        fn event_type(&self) -> &'static str {
            match self {
                Self::Deposited { .. } => "Deposited",
                Self::Withdrawn { .. } => "Withdrawn",
                Self::Fee { .. } => "Fee",
            }
        }
    }
}

#[test]
fn variants_may_be_inserted_and_moved_without_touching_what_was_recorded() {
    let old = before::Fact::Deposited { cents: 500 };

    let naive = postcard::to_stdvec(&old).unwrap();
    let misread: after::Fact = postcard::from_bytes(&naive).unwrap();
    assert_eq!(
        misread,
        after::Fact::Withdrawn { cents: 500 },
        "what the rule prevents"
    );

    let recorded = payload(&old);
    let read: after::Fact = read("Deposited", &ContentType::Postcard, &recorded);
    assert_eq!(read, after::Fact::Deposited { cents: 500 });
}

#[test]
fn bytes_left_over_are_an_error_in_both_encodings() {
    let error = decode_event::<before::Fact>("Deposited", 1, &ContentType::Postcard, &[5, 0]);
    assert!(reason(error.unwrap_err()).contains("1 bytes are left over"));
    let error = decode_event::<Text>("Value", 1, &ContentType::Json, b"5 6");
    assert!(reason(error.unwrap_err()).contains("trailing characters"));
}

#[test]
fn bytes_missing_are_an_error() {
    let error = decode_event::<before::Fact>("Deposited", 1, &ContentType::Postcard, &[0x80]);
    let reason = reason(error.unwrap_err());
    assert!(reason.contains("end of buffer"), "{reason}");
    assert!(reason.contains("let an upcaster read"), "{reason}");
}

#[test]
fn an_unknown_event_type_is_named_with_the_remedy() {
    let error = decode_event::<before::Fact>("Refunded", 3, &ContentType::Postcard, &[]);
    let error = error.unwrap_err();
    let text = error.to_string();
    assert_eq!(error.code(), "codec");
    for part in [
        "Refunded",
        "revision 3",
        "Deposited, Withdrawn",
        "Event::variant_name",
    ] {
        assert!(text.contains(part), "{part} is missing in: {text}");
    }
}

#[test]
fn other_content_types_are_refused_both_ways() {
    #[derive(Clone, Serialize, Deserialize)]
    struct Raw;
    impl Event for Raw {
        fn event_type(&self) -> &'static str {
            "Raw"
        }
        fn content_type(&self) -> ContentType {
            ContentType::Bytes
        }
    }
    let error = NewEvent::encode(&Raw, id()).unwrap_err();
    assert!(reason(error).contains("application/octet-stream"));
    let error = decode_event::<Raw>("Raw", 1, &ContentType::Bytes, &[]).map(drop);
    assert!(reason(error.unwrap_err()).contains("application/octet-stream"));
}

#[test]
fn a_struct_is_an_event_too() {
    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
    struct Measured {
        watts: u32,
    }
    impl Event for Measured {
        fn event_type(&self) -> &'static str {
            "Measured"
        }
    }
    assert_eq!(payload(&Measured { watts: 9 }), [9]);
    let read_back: Measured = read("Measured", &ContentType::Postcard, &[9]);
    assert_eq!(read_back, Measured { watts: 9 });

    let other = decode_event::<Measured>("Weighed", 1, &ContentType::Postcard, &[9]);
    assert!(reason(other.unwrap_err()).contains("decoded as \"Measured\""));
}

#[test]
fn a_newtype_around_an_enum_is_that_enum() {
    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
    struct Renamed(before::Fact);
    impl Event for Renamed {
        fn event_type(&self) -> &'static str {
            self.0.event_type()
        }
    }
    let event = Renamed(before::Fact::Withdrawn { cents: 5 });
    assert_eq!(payload(&event), [5]);
    assert_eq!(
        read::<Renamed>("Withdrawn", &ContentType::Postcard, &[5]),
        event
    );
}

#[test]
fn event_types_and_variants_may_have_different_names() {
    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
    #[serde(rename_all = "snake_case")]
    enum Fact {
        MoneyIn { cents: u64 },
    }
    impl Event for Fact {
        fn event_type(&self) -> &'static str {
            "bank.money-in"
        }
        fn variant_name(event_type: &str) -> &str {
            match event_type {
                "bank.money-in" | "Deposited" => "money_in",
                other => other,
            }
        }
    }
    let event = Fact::MoneyIn { cents: 5 };
    let recorded = NewEvent::encode(&event, id()).unwrap();
    assert_eq!(&*recorded.event_type, "bank.money-in");
    assert_eq!(
        read::<Fact>("bank.money-in", &ContentType::Postcard, &[5]),
        event
    );
    assert_eq!(
        read::<Fact>("Deposited", &ContentType::Postcard, &[5]),
        event,
        "its old name"
    );
}

#[test]
fn a_variant_name_that_serde_does_not_use_is_refused_before_it_is_recorded() {
    #[derive(Clone, Serialize, Deserialize)]
    enum Fact {
        MoneyIn(u64),
    }
    impl Event for Fact {
        fn event_type(&self) -> &'static str {
            "Deposited"
        }
    }
    let reason = reason(NewEvent::encode(&Fact::MoneyIn(1), id()).unwrap_err());
    assert!(
        reason.contains("\"MoneyIn\"") && reason.contains("\"Deposited\""),
        "{reason}"
    );
}

#[test]
fn an_old_revision_is_read_by_upcast_and_refused_without() {
    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
    enum Fact {
        Deposited { cents: u64, currency: String },
    }
    #[derive(Deserialize)]
    struct DepositedV1 {
        cents: u64,
    }
    impl Event for Fact {
        fn event_type(&self) -> &'static str {
            "Deposited"
        }
        fn revision(&self) -> u32 {
            3
        }
        fn upcast(recorded: &RecordedEvent<'_>) -> Result<Option<Self>, Error> {
            match (recorded.event_type(), recorded.revision()) {
                ("Deposited", 1) => {
                    let DepositedV1 { cents } = recorded.fields()?;
                    let currency = "EUR".into();
                    Ok(Some(Self::Deposited { cents, currency }))
                }
                _ => Ok(None),
            }
        }
    }
    let packed = read::<Fact>("Deposited", &ContentType::Postcard, &[5]);
    let text = read::<Fact>("Deposited", &ContentType::Json, br#"{"cents":5}"#);
    assert_eq!(
        packed,
        Fact::Deposited {
            cents: 5,
            currency: "EUR".into()
        }
    );
    assert_eq!(text, packed);

    let bytes = payload(&packed);
    let second = decode_event::<Fact>("Deposited", 2, &ContentType::Postcard, &bytes);
    assert!(reason(second.unwrap_err()).contains("revision 3"));
    assert_eq!(
        decode_event::<Fact>("Deposited", 3, &ContentType::Postcard, &bytes).unwrap(),
        packed
    );
}

#[test]
fn type_revision_tags_and_content_type_go_with_the_bytes() {
    #[derive(Clone, Serialize, Deserialize)]
    struct Moved {
        to: String,
    }
    impl Event for Moved {
        fn event_type(&self) -> &'static str {
            "Moved"
        }
        fn revision(&self) -> u32 {
            4
        }
        fn content_type(&self) -> ContentType {
            ContentType::Json
        }
        fn tags(&self) -> Tags {
            Tags::new([format!("place:{}", self.to)]).unwrap_or_default()
        }
    }
    let event = NewEvent::encode(&Moved { to: "b2".into() }, id()).unwrap();
    assert_eq!(event.event_id, id());
    assert_eq!((&*event.event_type, event.revision), ("Moved", 4));
    assert_eq!(event.content_type, ContentType::Json);
    assert!(event.tags.contains("place:b2"));
}

#[test]
fn a_hash_map_is_taken_although_it_comes_back_in_another_order() {
    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
    struct Counted {
        by_name: HashMap<String, u32>,
    }
    impl Event for Counted {
        fn event_type(&self) -> &'static str {
            "Counted"
        }
    }
    let by_name = (0..50).map(|n| (format!("name {n}"), n)).collect();
    let event = Counted { by_name };
    let bytes = payload(&event);
    assert_eq!(
        read::<Counted>("Counted", &ContentType::Postcard, &bytes),
        event
    );
}

fn side() -> impl Strategy<Value = Side> {
    prop_oneof![
        Just(Side::Left),
        any::<u32>().prop_map(Side::Right),
        any::<(u8, i8)>().prop_map(|(a, b)| Side::Both(a, b)),
        ".*".prop_map(|name| Side::Named { name }),
    ]
}

fn everything() -> impl Strategy<Value = Everything> {
    let numbers = (
        any::<(i8, u8, i16, u16)>(),
        any::<(i32, u32)>(),
        any::<(i64, u64)>(),
        any::<(i128, u128)>(),
        any::<(f32, f64)>(),
    );
    let texts = (any::<char>(), ".*", ".*");
    let lists = (
        prop::collection::vec(side(), 0..4),
        prop::collection::btree_map(".*", prop::collection::vec(any::<u32>(), 0..3), 0..3),
        prop::collection::btree_map(any::<i64>(), any::<bool>(), 0..3),
        any::<[u8; 4]>(),
    );
    let leaf = (numbers, texts, lists, side()).prop_map(|(numbers, texts, lists, nested)| {
        let (tiny, small, wide, huge, real) = numbers;
        let (letter, text, wrapped) = texts;
        let (list, table, numbers, fixed) = lists;
        Everything {
            tiny,
            small,
            wide,
            huge,
            real,
            letter,
            text,
            list,
            table,
            numbers,
            maybe: None,
            nested,
            unit: (),
            wrapped: Wrapped(wrapped),
            fixed,
        }
    });
    let leaf = leaf.boxed();
    (leaf.clone(), prop::option::of(leaf)).prop_map(|(outer, inner)| Everything {
        maybe: inner.map(Box::new),
        ..outer
    })
}

proptest! {
    #![proptest_config(ProptestConfig { fork: false, ..ProptestConfig::default() })]

    #[test]
    fn whatever_is_encoded_as_postcard_comes_back_and_is_what_postcard_writes(value in everything()) {
        let event = Packed::Everything(Box::new(value.clone()));
        let bytes = payload(&event);
        prop_assert_eq!(&bytes, &postcard::to_stdvec(&value).unwrap());
        prop_assert_eq!(read::<Packed>("Everything", &ContentType::Postcard, &bytes), event);
    }

    #[test]
    fn whatever_is_encoded_as_json_comes_back_and_is_what_serde_json_writes(value in everything()) {
        let event = Text::Everything(Box::new(value.clone()));
        let bytes = payload(&event);
        prop_assert_eq!(&bytes, &serde_json::to_vec(&value).unwrap());
        prop_assert_eq!(read::<Text>("Everything", &ContentType::Json, &bytes), event);
    }

    #[test]
    fn any_bytes_are_decoded_or_refused_but_never_panic(
        bytes in prop::collection::vec(any::<u8>(), 0..200),
        json in ".{0,100}",
    ) {
        let names = ["Fields", "Value", "Values", "Nothing", "Empty", "Everything", "Unknown"];
        for name in names {
            let _ = decode_event::<Packed>(name, 1, &ContentType::Postcard, &bytes);
            let _ = decode_event::<Text>(name, 1, &ContentType::Json, json.as_bytes());
        }
    }
}
