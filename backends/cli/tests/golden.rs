//! The names of all fields, in their order: scripts rely on them.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod common;

use std::fmt::{self, Formatter};
use std::path::Path;
use std::process::Command;

use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, Visitor};

use common::{Scene, code, fill, flip, ok, run, text, with_rows};

/// The keys of an object, in the order in which they stand there.
struct Keys(Vec<String>);

impl<'de> Deserialize<'de> for Keys {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Each;
        impl<'de> Visitor<'de> for Each {
            type Value = Keys;
            fn expecting(&self, f: &mut Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Keys, A::Error> {
                let mut keys = Vec::new();
                while let Some((key, IgnoredAny)) = map.next_entry()? {
                    keys.push(key);
                }
                Ok(Keys(keys))
            }
        }
        from.deserialize_map(Each)
    }
}

fn fields(printed: &str) -> Vec<String> {
    let line = printed.lines().next().unwrap();
    serde_json::from_str::<Keys>(line).unwrap().0
}

fn assert_fields(verb: &str, store: &Path, more: &[&str], wanted: &str) {
    let output = run(verb, store, &[more, &["--json"]].concat());
    let wanted: Vec<_> = wanted.split_ascii_whitespace().collect();
    assert_eq!(fields(&text(&output.stdout)), wanted, "{verb}");
}

#[test]
fn fields_keep_their_names() {
    let scene = Scene::new();
    let (rows, store) = (scene.at("rows"), scene.at("store"));
    with_rows(&rows);
    fill(&store, 20);
    assert_fields(
        "info",
        &store,
        &[],
        "path kind format_version compatible_flags read_only_flags incompatible_flags origin epoch created \
         first_position last_position commits chain_hash pending_commits segments log_bytes \
         indexed_segments closed in_use last_opened lost_positions lost_streams loss_accepted listeners damage",
    );
    assert_fields(
        "verify",
        &store,
        &[],
        "ok segments commits records streams lost pending_commits listeners indexed faults",
    );
    let stream = "stream aggregate_type aggregate_id";
    let events = format!(
        "position {stream} sequence id type revision kind event_time recorded_time content_type metadata \
         tags batch_first batch_count payload"
    );
    assert_fields("events", &store, &[], &events);
    assert_fields("tail", &rows, &[], &events);
    let of_bytes = events.replace("payload", "payload_hex");
    assert_fields("events", &store, &["--type", "Counted"], &of_bytes);
    let streams = format!("{stream} events last_sequence last_position last_recorded_time");
    assert_fields("streams", &store, &[], &streams);
    let snapshots = format!("{stream} sequence event_id revision content_type taken_time bytes");
    assert_fields("snapshots", &rows, &[], &snapshots);
    assert_fields(
        "projections",
        &rows,
        &[],
        "name state version position behind rows parked",
    );
    let parked = format!(
        "consumer kind {stream} event_id position sequence held attempts since since_position reason code \
             remote_sequence remote_event accepted"
    );
    assert_fields("parked", &rows, &[], &parked);
    let (file, backup) = (scene.at("file"), scene.at("backup"));
    let (file, backup_name) = (file.to_str().unwrap(), backup.to_str().unwrap());
    assert_fields(
        "export",
        &store,
        &[file],
        "events batches bytes last_position",
    );
    assert_fields(
        "import",
        &scene.at("imported"),
        &[file],
        "events batches already",
    );
    assert_fields(
        "backup",
        &store,
        &[backup_name],
        "to last_position copied_segments kept_segments copied_bytes",
    );
    let restored = scene.at("restored");
    assert_fields(
        "restore",
        &backup,
        &[restored.to_str().unwrap()],
        "to last_position commits",
    );
    assert_fields(
        "rebuild-index",
        &restored,
        &["--yes"],
        "runs generation bytes",
    );
    assert_fields(
        "events",
        &scene.at("imported"),
        &["--limit", "1"],
        &events.replace("payload", "birth payload"),
    );
    flip(&store.join("log/00000001.seg"), Some(b"\"n\": 100}"));
    let repaired = scene.at("repaired");
    assert_fields(
        "repair",
        &store,
        &[repaired.to_str().unwrap()],
        "to commits records epoch foreign_commits index_asked lost lost_streams unnamed accepted",
    );
    assert_fields("accept-loss", &repaired, &["--yes"], "accepted");
}

#[test]
fn jq_reads_what_was_appended() {
    let scene = Scene::new();
    let store = scene.at("store");
    fill(&store, 3);
    let program = env!("CARGO_BIN_EXE_tidelog");
    let script = format!(
        "'{program}' events '{}' --type Sold --json | jq -r '.payload.n' | head -n 5",
        store.display()
    );
    if Command::new("jq").arg("--version").output().is_err() {
        eprintln!("LEFT OUT: there is no jq on this machine");
        return;
    }
    let output = Command::new("sh").arg("-c").arg(script).output().unwrap();
    assert_eq!(text(&output.stdout), "0\n1\n2\n3\n4\n");
    assert_eq!(text(&output.stderr), "");
}

#[test]
fn the_command_line_says_what_it_can_do() {
    let help = common::tidelog(&["--help"]).output().unwrap();
    assert_eq!(code(&help), 0);
    let help = text(&help.stdout);
    for verb in [
        "info",
        "verify",
        "streams",
        "events",
        "tail",
        "snapshots",
        "projections",
        "parked",
        "backup",
        "restore",
        "repair",
        "rebuild-index",
        "export",
        "import",
    ] {
        assert!(help.contains(verb), "{verb}");
        let of_verb = common::tidelog(&[verb, "--help"]).output().unwrap();
        assert_eq!(code(&of_verb), 0, "{verb}");
    }
    assert!(help.contains("Exit codes: 0 done; 1 failed; 2"), "{help}");
    assert_eq!(code(&common::tidelog(&["evnts"]).output().unwrap()), 2);
    let scene = Scene::new();
    fill(&scene.at("store"), 1);
    assert_eq!(ok("parked", &scene.at("store"), &[]), "nothing is parked\n");
}
