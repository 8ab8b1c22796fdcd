//! A store may be larger than the memory: what a verb takes does not grow with it.

#![cfg(target_os = "linux")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod common;

use std::path::Path;
use std::process::{Command, Output};

use common::{Scene, code, stream, text};
use tidelog::{AppendBatch, ContentType, Durability, ExpectedVersion, NewEvent, SledStore};

const EVENTS: u64 = 150_000;
/// Of the log, and so of what is written out of it.
const LOG: u64 = 90 << 20;
/// What a process may have of its own at once.
const READING: u64 = 40 << 20;
const WRITING: u64 = 160 << 20;

fn large(path: &Path) {
    let store = SledStore::builder(path).durability(Durability::Process);
    let store = store.open().unwrap();
    for n in 0..EVENTS / 1_000 {
        let payload = format!(r#"{{"n":{n},"text":"{}"}}"#, "y".repeat(440));
        let events =
            (0..1_000).map(|_| NewEvent::new("Sold", 1, ContentType::Json, payload.clone()));
        let to = stream(&format!("Till/{}", n % 50));
        let batch = AppendBatch::new(to, ExpectedVersion::Any, events.collect());
        store.blocking().append(batch).unwrap();
    }
    store.close_blocking().unwrap();
}

/// `verb` with no more memory of its own than `bytes`; its stdout goes into a file.
fn within(bytes: u64, verb: &str, more: &[&Path], to: &Path) -> Output {
    let mut command = Command::new("sh");
    command.args(["-c", r#"ulimit -d "$0" && exec "$@""#]);
    command.arg((bytes >> 10).to_string());
    command.arg(env!("CARGO_BIN_EXE_tidelog"));
    command.args(verb.split(' ')).args(more);
    // One heap, so that the limit is of what is used.
    command.env("MALLOC_ARENA_MAX", "1");
    command.stdout(std::fs::File::create(to).unwrap());
    command.output().unwrap()
}

#[test]
fn no_verb_needs_more_memory_for_a_larger_store() {
    let scene = Scene::new();
    let (store, out) = (scene.at("store"), scene.at("out"));
    large(&store);
    let file = scene.at("events.jsonl");
    let reading: [(&str, &[&Path]); 7] = [
        ("events --json", &[&store]),
        ("tail --json -n 5 --type None", &[&store]),
        ("streams", &[&store]),
        ("verify", &[&store]),
        ("export", &[&store, &file]),
        ("backup", &[&store, &scene.at("backup")]),
        ("restore", &[&scene.at("backup"), &scene.at("restored")]),
    ];
    for (verb, more) in reading {
        let done = within(READING, verb, more, &out);
        assert_eq!(code(&done), 0, "{verb}: {}", text(&done.stderr));
        if verb == "events --json" {
            assert!(out.metadata().unwrap().len() > LOG);
        }
    }
    assert!(file.metadata().unwrap().len() > LOG);
    let writing: [(&str, &[&Path]); 4] = [
        ("import", &[&scene.at("imported"), &file]),
        ("verify --index", &[&scene.at("imported")]),
        ("rebuild-index --yes", &[&store]),
        ("repair", &[&store, &scene.at("repaired")]),
    ];
    for (verb, more) in writing {
        let done = within(WRITING, verb, more, &out);
        assert_eq!(code(&done), 0, "{verb}: {}", text(&done.stderr));
    }
    // The limit is one: with a small part of it nothing works.
    let done = within(READING / 40, "events --json", &[&store], &out);
    assert!(!done.status.success());
}
