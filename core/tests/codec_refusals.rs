//! What cannot be read back is refused when it is encoded, with the attribute that is to blame.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::items_after_statements,
    reason = "tests fail by panicking, and show their types where they use them"
)]

use std::marker::PhantomData;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use tidelog_core::{
    Aggregate, ContentType, Error, Event, EventId, NewEvent, SnapshotEnvelope, StreamId, Timestamp,
    decode_event,
};

/// An event of one field, for trying out what may stand in it.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Holds<T, F>(T, #[serde(skip)] PhantomData<F>);

#[derive(Clone, Debug)]
struct AsPostcard;
#[derive(Clone, Debug)]
struct AsJson;

trait Format: Send + Sync + Clone + 'static {
    const CONTENT_TYPE: ContentType;
}
impl Format for AsPostcard {
    const CONTENT_TYPE: ContentType = ContentType::Postcard;
}
impl Format for AsJson {
    const CONTENT_TYPE: ContentType = ContentType::Json;
}

trait Inside: Serialize + serde::de::DeserializeOwned + Clone + Send + Sync + 'static {}
impl<T: Serialize + serde::de::DeserializeOwned + Clone + Send + Sync + 'static> Inside for T {}

impl<T: Inside, F: Format> Event for Holds<T, F> {
    fn event_type(&self) -> &'static str {
        "Holds"
    }
    fn content_type(&self) -> ContentType {
        F::CONTENT_TYPE
    }
}

fn encode<T: Inside, F: Format>(value: T) -> Result<Vec<u8>, String> {
    let event = Holds::<T, F>(value, PhantomData);
    match NewEvent::encode(&event, EventId::from_bytes([1; 16])) {
        Ok(event) => Ok(event.payload.to_vec()),
        Err(Error::Codec { reason, .. }) => Err(reason.into()),
        Err(other) => panic!("not a codec error: {other}"),
    }
}

#[track_caller]
fn refused<T: Inside, F: Format>(value: T, because: &str) {
    let reason = encode::<T, F>(value).expect_err("it should be refused");
    assert!(
        reason.contains(because),
        "{because:?} is missing in: {reason}"
    );
}

#[track_caller]
fn taken<T: Inside, F: Format>(value: T) {
    encode::<T, F>(value).expect("it should be taken");
}

#[derive(Clone, Serialize, Deserialize)]
struct Skips {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    note: Option<String>,
    cents: u64,
}

#[test]
fn a_field_left_out_is_refused_in_postcard_however_deep_it_stands() {
    let skips = || Skips {
        note: None,
        cents: 5,
    };
    refused::<_, AsPostcard>(skips(), "\"note\"");
    refused::<_, AsPostcard>(vec![Some((1, skips()))], "skip_serializing_if");
    taken::<_, AsJson>(skips());

    #[derive(Clone, Serialize, Deserialize)]
    enum Nested {
        Variant {
            #[serde(default, skip_serializing_if = "Option::is_none")]
            note: Option<String>,
        },
    }
    refused::<_, AsPostcard>(Nested::Variant { note: None }, "\"note\"");
}

#[test]
fn a_field_that_is_left_out_sometimes_is_refused_when_it_is() {
    let there = Skips {
        note: Some("n".into()),
        cents: 5,
    };
    taken::<_, AsPostcard>(there);
    refused::<_, AsPostcard>(
        Skips {
            note: None,
            cents: 5,
        },
        "skip_serializing_if",
    );
}

#[test]
fn a_field_left_out_of_an_events_own_variant_is_refused() {
    #[derive(Clone, Serialize, Deserialize)]
    enum Fact {
        Noted {
            #[serde(default, skip_serializing_if = "Option::is_none")]
            note: Option<String>,
        },
    }
    impl Event for Fact {
        fn event_type(&self) -> &'static str {
            "Noted"
        }
    }
    let error = NewEvent::encode(&Fact::Noted { note: None }, EventId::generate()).unwrap_err();
    let text = error.to_string();
    assert!(
        text.contains("encoding an event of type Noted revision 1"),
        "{text}"
    );
    assert!(text.contains("skip_serializing_if"), "{text}");
}

#[test]
fn flatten_is_refused_in_postcard_and_works_in_json() {
    #[derive(Clone, Serialize, Deserialize)]
    struct Inner {
        cents: u64,
    }
    #[derive(Clone, Serialize, Deserialize)]
    struct Flat {
        #[serde(flatten)]
        inner: Inner,
        note: String,
    }
    let flat = || Flat {
        inner: Inner { cents: 5 },
        note: "n".into(),
    };
    refused::<_, AsPostcard>(flat(), "flatten");
    taken::<_, AsJson>(flat());
}

#[derive(Clone, Serialize, Deserialize)]
#[serde(untagged)]
enum Untagged {
    Number(u64),
    Text(String),
}

#[derive(Clone, Serialize, Deserialize)]
#[serde(tag = "kind")]
enum InternallyTagged {
    Cash { cents: u64 },
}

#[derive(Clone, Serialize, Deserialize)]
#[serde(tag = "kind", content = "content")]
enum AdjacentlyTagged {
    Cash { cents: u64 },
    Nothing,
}

#[test]
fn enums_that_ask_the_bytes_what_they_are_are_refused_in_postcard_and_work_in_json() {
    refused::<_, AsPostcard>(Untagged::Number(1), "untagged");
    refused::<_, AsPostcard>(Untagged::Text("t".into()), "untagged");
    refused::<_, AsPostcard>(InternallyTagged::Cash { cents: 5 }, "tagged");
    refused::<_, AsPostcard>(AdjacentlyTagged::Cash { cents: 5 }, "adjacently tagged");
    refused::<_, AsPostcard>(AdjacentlyTagged::Nothing, "adjacently tagged");
    refused::<_, AsPostcard>(serde_json::json!({"a": 1}), "serde_json::Value");

    taken::<_, AsJson>(Untagged::Number(1));
    taken::<_, AsJson>(InternallyTagged::Cash { cents: 5 });
    taken::<_, AsJson>(AdjacentlyTagged::Cash { cents: 5 });
    taken::<_, AsJson>(AdjacentlyTagged::Nothing);
    taken::<_, AsJson>(serde_json::json!({"a": [1, null]}));
}

#[test]
fn an_adjacently_tagged_event_is_refused_because_its_tag_is_a_place_in_the_enum() {
    #[derive(Clone, Serialize, Deserialize)]
    #[serde(tag = "kind", content = "content")]
    enum Fact {
        Deposited { cents: u64 },
    }
    impl Event for Fact {
        fn event_type(&self) -> &'static str {
            "Deposited"
        }
    }
    let error = NewEvent::encode(&Fact::Deposited { cents: 1 }, EventId::generate()).unwrap_err();
    assert!(error.to_string().contains("adjacently tagged"), "{error}");
}

#[test]
fn an_untagged_json_event_that_is_read_as_another_variant_is_refused() {
    #[derive(Clone, Debug, Serialize, Deserialize)]
    #[serde(untagged)]
    enum Fact {
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
        fn content_type(&self) -> ContentType {
            ContentType::Json
        }
    }
    let deposited = NewEvent::encode(&Fact::Deposited { cents: 1 }, EventId::generate());
    assert!(deposited.is_ok(), "the first variant is found");
    let withdrawn = NewEvent::encode(&Fact::Withdrawn { cents: 1 }, EventId::generate());
    assert!(
        withdrawn
            .unwrap_err()
            .to_string()
            .contains("decoded as \"Deposited\"")
    );
    let read = decode_event::<Fact>("Withdrawn", 1, &ContentType::Json, br#"{"cents":1}"#);
    assert!(read.is_err(), "nor is one read that was recorded elsewhere");
}

#[test]
fn a_field_that_is_written_and_read_differently_is_refused() {
    #[derive(Clone, Serialize, Deserialize)]
    struct Lost {
        #[serde(skip_serializing, default)]
        secret: u64,
        cents: u64,
    }
    let lost = Lost {
        secret: 1,
        cents: 5,
    };
    assert_eq!(lost.secret, 1);
    refused::<_, AsPostcard>(lost, "could not be read back");

    #[derive(Clone, Serialize, Deserialize)]
    struct Forgotten {
        #[serde(skip_deserializing)]
        cents: u64,
    }
    refused::<_, AsPostcard>(Forgotten { cents: 5 }, "left over");
    refused::<_, AsJson>(Forgotten { cents: 5 }, "it is another one");

    #[derive(Clone)]
    struct Doubles(u64);
    impl Serialize for Doubles {
        fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            (self.0 * 2).serialize(serializer)
        }
    }
    impl<'de> Deserialize<'de> for Doubles {
        fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            u64::deserialize(deserializer).map(Self)
        }
    }
    refused::<_, AsPostcard>(Doubles(5), "it is another one");
    refused::<_, AsJson>(Doubles(5), "it is another one");
}

#[test]
fn a_field_skipped_both_ways_is_taken() {
    #[derive(Clone, Serialize, Deserialize)]
    struct Cached {
        #[serde(skip)]
        memo: u64,
        cents: u64,
    }
    assert_eq!(
        encode::<_, AsPostcard>(Cached { memo: 9, cents: 5 }).unwrap(),
        [5]
    );
    assert_eq!(Cached { memo: 9, cents: 5 }.memo, 9);
}

#[test]
fn what_json_turns_into_null_is_refused_and_works_in_postcard() {
    for float in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
        refused::<_, AsJson>(vec![Some(float)], "not finite");
        taken::<_, AsPostcard>(vec![Some(float)]);
    }
    refused::<_, AsJson>(f32::NAN, "not finite");
    refused::<_, AsJson>(Some(None::<u8>), "read back as None");
    refused::<_, AsJson>(Some(()), "read back as None");
    taken::<_, AsPostcard>(Some(None::<u8>));
    taken::<_, AsJson>(None::<Option<u8>>);
    taken::<_, AsJson>(Some(Some(1_u8)));
    taken::<_, AsJson>(vec![None, Some(1.5_f32)]);
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
enum Tree {
    Leaf,
    Node(Box<Tree>),
}

fn tree(depth: usize) -> Tree {
    (0..depth).fold(Tree::Leaf, |tree, _| Tree::Node(Box::new(tree)))
}

#[test]
fn what_is_nested_too_deeply_to_be_read_is_refused_when_it_is_written() {
    let deepest = (0..200)
        .rev()
        .find(|depth| encode::<_, AsPostcard>(tree(*depth)).is_ok());
    assert!(deepest > Some(100), "{deepest:?}");
    refused::<_, AsPostcard>(tree(deepest.unwrap() + 1), "nested");

    let deepest = (0..200)
        .rev()
        .find(|depth| encode::<_, AsJson>(tree(*depth)).is_ok());
    assert!(deepest > Some(100), "{deepest:?}");
    refused::<_, AsJson>(tree(deepest.unwrap() + 1), "nested");
}

#[test]
fn damaged_bytes_cannot_exhaust_the_stack() {
    let bytes = vec![1; 1 << 20];
    let read = decode_event::<Holds<Tree, AsPostcard>>("Holds", 1, &ContentType::Postcard, &bytes);
    assert!(read.unwrap_err().to_string().contains("nested"));
}

#[test]
fn the_same_rules_hold_for_the_state_in_a_snapshot() {
    #[derive(Clone, Debug, Serialize, Deserialize)]
    struct Account {
        cents: u64,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        note: Option<String>,
    }
    impl Aggregate for Account {
        const TYPE: &'static str = "Account";
        type Event = Holds<u8, AsPostcard>;
        type Error = std::convert::Infallible;
        fn apply(_: Option<Self>, _: &Self::Event) -> Result<Self, Self::Error> {
            Ok(Self {
                cents: 0,
                note: None,
            })
        }
    }
    let snapshot = |note: Option<String>| SnapshotEnvelope {
        stream: StreamId::new("Account", "1").unwrap(),
        sequence: 1,
        event_id: EventId::from_bytes([1; 16]),
        revision: 1,
        content_type: ContentType::Postcard,
        taken_time: Timestamp::from_micros(0),
        state: Account { cents: 300, note },
    };
    let refused = snapshot(None).encode().unwrap_err().to_string();
    assert!(
        refused.contains("encoding a snapshot of type Account"),
        "{refused}"
    );
    assert!(refused.contains("skip_serializing_if"), "{refused}");

    let taken = snapshot(Some("n".into())).encode().unwrap();
    assert_eq!(&taken.state[..], [0xac, 0x02, 1, 1, b'n']);
    assert_eq!(taken.clone().decode::<Account>().unwrap().state.cents, 300);

    let mut newer = taken.clone();
    newer.revision = 2;
    assert!(
        newer
            .decode::<Account>()
            .unwrap_err()
            .to_string()
            .contains("has revision 1")
    );
    let mut longer = taken;
    longer.state = [&longer.state[..], &[0]].concat().into();
    assert!(
        longer
            .decode::<Account>()
            .unwrap_err()
            .to_string()
            .contains("left over")
    );
}

#[test]
fn a_later_value_that_postcard_cannot_read_back_is_refused_too() {
    type Note = Option<serde_json::Value>;
    encode::<Note, AsPostcard>(None).unwrap();
    // What is passed once is not passed for ever: this one is of the same type and event type.
    assert!(encode::<Note, AsPostcard>(Some(serde_json::json!({"a": 1}))).is_err());
}
