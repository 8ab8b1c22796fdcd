//! What one event does to the rows of a projection, without a store.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests fail by panicking")]

use std::ops::Bound;

use serde::{Deserialize, Serialize};
use tidelog_core::{
    Batch, ContentType, Error, EventEnvelope, EventId, HandlerError, Lookup, Metadata, Projection,
    RecordKind, RowTable, Rows, StreamId, Tags, Timestamp,
};

fn event(id: &str, event_type: &str) -> EventEnvelope {
    EventEnvelope {
        event_id: EventId::from_bytes([1; 16]),
        stream: StreamId::new("Word", id).unwrap(),
        sequence: 1,
        position: Some(1),
        birth: None,
        kind: RecordKind::Event,
        event_type: event_type.into(),
        revision: 1,
        content_type: ContentType::Json,
        event_time: Timestamp::from_micros(0),
        recorded_time: Timestamp::from_micros(0),
        metadata: Metadata::new(),
        tags: Tags::none(),
        batch: Batch { first: 1, count: 1 },
        event: b"null".to_vec().into(),
    }
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Word {
    seen: u32,
    letters: Vec<String>,
}

/// Words by themselves, found by how often they were seen and by their letters.
struct Words;

impl Projection for Words {
    const NAME: &'static str = "words";
    type Key = String;
    type Row = Word;

    fn apply(
        &self,
        event: &EventEnvelope,
        rows: &mut Rows<'_, String, Word>,
    ) -> Result<(), HandlerError> {
        let id = event.aggregate_id().to_owned();
        match &*event.event_type {
            "Seen" => rows.update(id.clone(), |word| {
                word.seen += 1;
                word.letters = id.chars().map(String::from).collect();
            }),
            "Forgotten" => {
                rows.remove(&id);
                Ok(())
            }
            "HalfDone" => {
                rows.put("half".into(), Word::default());
                Err(HandlerError::permanent("it cannot be"))
            }
            "Long" => {
                rows.put("x".repeat(2_000), Word::default());
                Ok(())
            }
            other => panic!("{other}"),
        }
    }

    fn lookups() -> Vec<Lookup<String, Word>> {
        vec![
            Lookup::by("seen", |_, word: &Word| Some(word.seen)),
            Lookup::by("letter", |_, word: &Word| word.letters.clone()),
        ]
    }
}

fn words() -> RowTable<Words> {
    let mut table = RowTable::new(Words).unwrap();
    for id in ["tea", "eat", "tea", "sea"] {
        table.apply(&event(id, "Seen")).unwrap();
    }
    table
}

fn found<L>(found: Vec<(L, String, Word)>) -> Vec<String> {
    found.into_iter().map(|(_, id, _)| id).collect()
}

#[test]
fn rows_are_found_by_their_key_by_ranges_and_by_lookups() {
    let table = words();
    assert_eq!(table.get(&"tea".into()).unwrap().unwrap().seen, 2);
    assert_eq!(table.get(&"te".into()).unwrap(), None);
    let ids: Vec<_> = table.scan("f".to_owned()..).unwrap();
    assert_eq!(
        ids.iter().map(|(id, _)| &**id).collect::<Vec<_>>(),
        ["sea", "tea"]
    );

    assert_eq!(
        found(table.find::<u32>("seen", ..).unwrap()),
        ["eat", "sea", "tea"]
    );
    assert_eq!(found(table.find("seen", 2..=2_u32).unwrap()), ["tea"]);
    assert_eq!(found(table.find("seen", ..2_u32).unwrap()), ["eat", "sea"]);
    let above_one = (Bound::Excluded(1_u32), Bound::Unbounded);
    assert_eq!(found(table.find("seen", above_one).unwrap()), ["tea"]);
    let t = "t".to_owned();
    assert_eq!(
        found(table.find("letter", t.clone()..=t).unwrap()),
        ["eat", "tea"]
    );
}

#[test]
fn lookups_follow_a_row_that_changes_and_leave_with_it() {
    let mut table = words();
    table.apply(&event("eat", "Seen")).unwrap();
    assert_eq!(
        found(table.find("seen", 2_u32..=2).unwrap()),
        ["eat", "tea"]
    );
    assert_eq!(found(table.find("seen", 1_u32..=1).unwrap()), ["sea"]);
    table.apply(&event("tea", "Forgotten")).unwrap();
    table.apply(&event("never there", "Forgotten")).unwrap();
    let t = "t".to_owned();
    assert_eq!(found(table.find("letter", t.clone()..=t).unwrap()), ["eat"]);
    assert_eq!(table.scan(..).unwrap().len(), 2);
}

#[test]
fn what_an_event_did_before_it_failed_does_not_count() {
    let mut table = words();
    let failed = table.apply(&event("tea", "HalfDone")).unwrap_err();
    assert!(failed.is_permanent());
    assert_eq!(table.get(&"half".into()).unwrap(), None);
    // `put` cannot say it, so the event does.
    let refused = table.apply(&event("tea", "Long")).unwrap_err();
    assert!(refused.is_permanent());
    assert!(
        refused.to_string().contains("key of a row has size 2002"),
        "{refused}"
    );
}

#[test]
fn a_lookup_that_is_not_there_is_named_with_those_that_are() {
    let table = words();
    let missing = table.find::<u32>("sean", ..).unwrap_err();
    assert!(
        missing.to_string().contains(r#"["seen", "letter"]"#),
        "{missing}"
    );
    let other_key = table.find::<u64>("seen", ..).unwrap_err();
    assert!(
        other_key.to_string().contains("by u32, not by u64"),
        "{other_key}"
    );
}

#[test]
fn names_and_versions_that_cannot_be_are_refused() {
    macro_rules! refused {
        ($name:literal, $version:literal, $since:literal, $lookups:expr) => {{
            struct Bad;
            impl Projection for Bad {
                const NAME: &'static str = $name;
                const VERSION: u32 = $version;
                const ROWS_SINCE: u32 = $since;
                type Key = u8;
                type Row = u8;
                fn apply(
                    &self,
                    _: &EventEnvelope,
                    _: &mut Rows<'_, u8, u8>,
                ) -> Result<(), HandlerError> {
                    Ok(())
                }
                fn lookups() -> Vec<Lookup<u8, u8>> {
                    $lookups
                }
            }
            assert!(matches!(
                RowTable::new(Bad),
                Err(Error::InvalidInput { .. })
            ));
        }};
    }
    refused!("", 1, 1, Vec::new());
    refused!("Upper", 1, 1, Vec::new());
    refused!("7th", 1, 1, Vec::new());
    refused!("a/b", 1, 1, Vec::new());
    refused!("zero", 0, 0, Vec::new());
    refused!("since", 1, 2, Vec::new());
    refused!(
        "twice",
        1,
        1,
        vec![
            Lookup::by("x", |key: &u8, _: &u8| Some(*key)),
            Lookup::by("x", |_: &u8, row: &u8| Some(*row)),
        ]
    );
}
