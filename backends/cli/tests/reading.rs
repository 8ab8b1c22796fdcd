//! Verbs that read: what they print, that they change nothing, and what they say of damage.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod common;

use std::path::Path;

use common::{Scene, code, events_of, fails, lines, ok, picture, run, text, with_rows};
use serde_json::Value;

/// All that only read, with what they need.
const READING: [&[&str]; 13] = [
    &["info"],
    &["verify"],
    &["verify", "--index"],
    &["streams"],
    &["events"],
    &["events", "--last", "3"],
    &["tail"],
    &["snapshots"],
    &["projections"],
    &["parked"],
    &["parked", "--projections"],
    &["export"],
    &["export", "--stream", "Till/1"],
];

fn every(store: &Path, mut see: impl FnMut(&[&str], std::process::Output)) {
    for json in [&[][..], &["--json"]] {
        for words in READING {
            let more = [&words[1..], json].concat();
            see(words, run(words[0], store, &more));
        }
    }
}

#[test]
fn reading_changes_not_a_byte_and_makes_no_file() {
    let scene = Scene::new();
    let store = scene.store();
    // One that was not closed in order says more about what reading leaves alone.
    for path in [store, unclosed(&scene)] {
        let before = picture(&path);
        every(&path, |words, output| {
            assert_eq!(code(&output), 0, "{words:?}: {}", text(&output.stderr));
        });
        assert_eq!(picture(&path), before);
    }
    let missing = scene.at("missing");
    every(&missing, |words, output| {
        assert_eq!(code(&output), 4, "{words:?}");
        assert!(output.stdout.is_empty());
    });
    assert!(!missing.exists());
}

/// A store whose process was killed.
fn unclosed(scene: &Scene) -> std::path::PathBuf {
    let path = scene.at("unclosed");
    let store = tidelog::SledStore::open(&path).unwrap();
    common::append(&store, 0);
    store.crash();
    path
}

#[test]
fn events_as_json_are_what_was_appended() {
    let scene = Scene::new();
    let store = scene.store();
    let shown = lines(&ok("events", &store, &["--json"]));
    let wanted = events_of(&store);
    assert_eq!(shown.len(), wanted.len());
    for (shown, event) in shown.iter().zip(&wanted) {
        assert_eq!(shown["position"], event.position.unwrap());
        assert_eq!(shown["stream"], event.stream.as_str());
        assert_eq!(shown["sequence"], event.sequence);
        assert_eq!(shown["id"], event.event_id.to_string());
        assert_eq!(shown["type"], &*event.event_type);
        assert_eq!(shown["event_time"], event.event_time.to_string());
        assert_eq!(shown["recorded_time"], event.recorded_time.to_string());
        let tags: Vec<&str> = event.tags.as_slice().iter().map(|tag| &**tag).collect();
        assert_eq!(shown["tags"], serde_json::json!(tags));
        match &*event.event_type {
            "Sold" => {
                let payload: Value = serde_json::from_slice(&event.event).unwrap();
                assert_eq!(shown["payload"], payload);
                assert_eq!(shown["metadata"], serde_json::json!({"actor": "ada"}));
            }
            _ => assert_eq!(shown["payload_hex"], "00ff0a"),
        }
    }
}

#[test]
fn events_are_selected_by_stream_type_tag_time_and_position() {
    let scene = Scene::new();
    let store = scene.store();
    let all = events_of(&store);
    let count = |more: &[&str]| {
        let shown = lines(&ok("events", &store, &[more, &["--json"]].concat()));
        shown.len()
    };
    let wanted =
        |is: &dyn Fn(&tidelog::EventEnvelope) -> bool| all.iter().filter(|event| is(event)).count();
    assert_eq!(
        count(&["--stream", "Till/3"]),
        wanted(&|event| event.aggregate_id() == "3")
    );
    assert_eq!(count(&["--type", "Counted"]), 160);
    assert_eq!(count(&["--aggregate-type", "Till"]), all.len());
    assert_eq!(count(&["--aggregate-type", "Shop"]), 0);
    assert_eq!(
        count(&["--tag", "shelf:1"]),
        wanted(&|event| event.tags.contains("shelf:1"))
    );
    assert_eq!(count(&["--tag", "shelf:1", "--tag", "shelf:2"]), 0);
    assert_eq!(count(&["--since", "2000-01-01"]), 160 * 9);
    assert_eq!(count(&["--until", "2000-01-01"]), 160);
    assert_eq!(count(&["--until", "2000-01-01", "--recorded"]), 0);
    assert_eq!(count(&["--from", "11", "--to", "30"]), 20);
    assert_eq!(count(&["--from", "1500", "--type", "Counted"]), 11);
    assert_eq!(count(&["--limit", "7"]), 7);
    let last = lines(&ok(
        "events",
        &store,
        &["--last", "2", "--type", "Counted", "--json"],
    ));
    let positions: Vec<_> = last
        .iter()
        .map(|event| event["position"].as_u64())
        .collect();
    assert_eq!(positions, [Some(1590), Some(1600)]);
    assert!(fails("events", &store, &["--since", "soon"], 2).contains("2026-11-26"));
    assert!(fails("events", &store, &["--stream", "Till"], 2).contains("type/id"));
    let nothing = run("events", &store, &["--stream", "Till/none"]);
    assert!(text(&nothing.stderr).contains("no such events"));
}

#[test]
fn streams_are_listed_with_how_much_they_have() {
    let scene = Scene::new();
    let store = scene.store();
    let shown = lines(&ok("streams", &store, &["--json", "--sort", "newest"]));
    assert_eq!(shown.len(), 7);
    assert_eq!(
        (&shown[0]["stream"], &shown[0]["last_position"]),
        (&Value::from("Till/5"), &Value::from(1600))
    );
    let total: u64 = shown
        .iter()
        .map(|stream| stream["events"].as_u64().unwrap())
        .sum();
    assert_eq!(total, 1600);
    let table = ok("streams", &store, &["--limit", "1"]);
    assert!(table.starts_with("stream"), "{table}");
    assert!(
        table.lines().nth(1).unwrap().starts_with("Till/0"),
        "{table}"
    );
    assert_eq!(
        ok("streams", &store, &["--aggregate-type", "x"]),
        "no streams\n"
    );
}

#[test]
fn tail_shows_the_newest() {
    let scene = Scene::new();
    let store = scene.store();
    let shown = lines(&ok("tail", &store, &["--json", "-n", "3"]));
    let positions: Vec<_> = shown
        .iter()
        .map(|event| event["position"].as_u64().unwrap())
        .collect();
    assert_eq!(positions, [1598, 1599, 1600]);
    let table = ok("tail", &store, &[]);
    assert_eq!(table.lines().count(), 11, "{table}");
    let long = ok("events", &store, &["--last", "1", "--long"]);
    assert!(long.contains("payload        0x00ff0a"), "{long}");
}

#[test]
fn snapshots_and_read_models_are_shown_from_a_copy() {
    let scene = Scene::new();
    let store = scene.at("rows");
    with_rows(&store);
    let shown = lines(&ok("snapshots", &store, &["--json"]));
    assert_eq!(shown.len(), 1);
    assert_eq!(shown[0]["stream"], "Till/7");
    assert_eq!(
        (&shown[0]["sequence"], &shown[0]["bytes"]),
        (&Value::from(5), &Value::from(5000))
    );
    assert_eq!(shown[0]["taken_time"], "2026-01-02T03:04:05Z");
    assert_eq!(
        ok("snapshots", &store, &["--aggregate-type", "Shop"]),
        "no snapshots\n"
    );
    let shown = lines(&ok("projections", &store, &["--json"]));
    assert_eq!(shown[0]["name"], "counts");
    assert_eq!(
        (&shown[0]["rows"], &shown[0]["behind"]),
        (&Value::from(1), &Value::from(0))
    );
    assert!(ok("projections", &store, &[]).contains("active"));
    assert_eq!(
        ok("projections", &scene.store(), &[]),
        "no read models are kept in it\n"
    );
}

#[test]
fn info_says_what_a_store_is() {
    let scene = Scene::new();
    let store = scene.store();
    let info = &lines(&ok("info", &store, &["--json"]))[0];
    assert_eq!(info["kind"], "store");
    assert_eq!(
        (&info["last_position"], &info["commits"]),
        (&Value::from(1600), &Value::from(160))
    );
    assert_eq!(
        (&info["closed"], &info["damage"]),
        (&Value::from(true), &Value::Null)
    );
    let opened = tidelog::SledStore::open(&store).unwrap();
    let known = opened.info().unwrap();
    assert_eq!(info["chain_hash"].as_str().unwrap().len(), 64);
    assert_eq!(info["origin"], known.origin.to_string());
    let open = ok("info", &store, &[]);
    let pid = std::process::id().to_string();
    assert!(
        open.contains("yes, by process") && open.contains(&pid),
        "{open}"
    );
}

#[test]
fn a_reader_that_has_seen_enough_is_no_failure() {
    let scene = Scene::new();
    let store = scene.store();
    for verb in ["events", "streams", "export", "info", "tail"] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let mut command = common::tidelog(&[verb]);
        let output = command.arg(&store).stdout(writer).output().unwrap();
        assert_eq!(text(&output.stderr), "", "{verb}");
        assert_eq!(code(&output), 0, "{verb}");
    }
}

#[test]
fn texts_of_a_store_cannot_steer_the_terminal() {
    use tidelog::{AppendBatch, ContentType, ExpectedVersion, Metadata, NewEvent, StreamId, Tags};
    let scene = Scene::new();
    let path = scene.at("hostile");
    let store = tidelog::SledStore::open(&path).unwrap();
    let evil = "x\u{202e}y\u{2066}z\u{200f}\u{feff}";
    let till = StreamId::new("Till", evil).unwrap();
    let payload = format!("{{\"a\": \"\u{9b}2J{evil}\"}}");
    let event = NewEvent::new(evil, 1, ContentType::Json, payload.clone())
        .with_tags(Tags::new([format!("tag:{evil}")]).unwrap())
        .with_metadata(Metadata::new().with("who\u{1b}", "\u{1b}]0;owned\u{7}\n"));
    let batch = AppendBatch::new(till, ExpectedVersion::Any, vec![event]);
    store.blocking().append(batch).unwrap();
    store.close_blocking().unwrap();
    let steers = |text: &str| {
        text.chars().any(|character| {
            (character.is_control() && character != '\n')
                || matches!(character, '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
        })
    };
    for words in [
        &["events"][..],
        &["events", "--long"],
        &["streams"],
        &["tail"],
        &["info"],
    ] {
        for json in [&[][..], &["--json"]] {
            let printed = ok(words[0], &path, &[&words[1..], json].concat());
            assert!(!steers(&printed), "{words:?} {json:?}: {printed:?}");
        }
    }
    // And programs read what it was.
    let shown = &lines(&ok("events", &path, &["--json"]))[0];
    let wanted: Value = serde_json::from_str(&payload).unwrap();
    assert_eq!(
        (&shown["payload"], &shown["type"]),
        (&wanted, &Value::from(evil))
    );
    assert_eq!(shown["metadata"]["who\u{1b}"], "\u{1b}]0;owned\u{7}\n");
    // Neither do errors that repeat what was said.
    let error = fails("events", &scene.at("no\u{1b}[2Jstore\u{202e}"), &[], 4);
    assert!(!steers(&error), "{error:?}");
}
