//! `tail --follow`: beside writers that come and go, and when the store itself does.

#![cfg(unix)]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod common;

use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Child, ChildStdout, Stdio};
use std::sync::mpsc::{Receiver, channel};

use common::writer::Writer;
use common::{Scene, append, fill, lines, ok, tidelog};
use serde_json::Value;
use tidelog::SledStore;

#[test]
#[ignore = "a process that the other tests start"]
fn writes_beside() {
    common::writer::write_beside().unwrap();
}

fn follow(store: &Path, more: &[&str]) -> (Child, BufReader<ChildStdout>) {
    let mut command = tidelog(&["tail", "--follow", "--json", "-n", "1000000"]);
    command.args(more).arg(store);
    let command = command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let out = BufReader::new(child.stdout.take().unwrap());
    (child, out)
}

/// Each line as it comes.
fn heard(out: BufReader<ChildStdout>) -> Receiver<Value> {
    let (tell, heard) = channel();
    std::thread::spawn(move || {
        for line in out.lines().map_while(Result::ok) {
            let line = serde_json::from_str(&line).unwrap();
            if tell.send(line).is_err() {
                return;
            }
        }
    });
    heard
}

fn segments(store: &Path) -> u64 {
    let info = &lines(&ok("info", store, &["--json"]))[0];
    info["segments"].as_u64().unwrap()
}

#[test]
fn each_event_comes_once_over_segments_and_restarts_of_the_writer() {
    let scene = Scene::new();
    let store = scene.at("store");
    let mut writer = Writer::start(&store);
    let (mut child, out) = follow(&store, &["--control"]);
    let heard = heard(out);
    for round in 1..=4 {
        while segments(&store) < round * 2 {}
        // One is killed with whatever it was writing, the next one closes in order.
        if round % 2 == 0 {
            writer.kill();
        } else {
            writer.end();
        }
        writer = Writer::start(&store);
    }
    writer.end();
    let wanted = lines(&ok("events", &store, &["--json", "--control"]));
    assert!(wanted.len() > 1_000, "{}", wanted.len());
    for event in &wanted {
        assert_eq!(&heard.recv().unwrap(), event);
    }
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(heard.recv().is_err(), "more than there was");
}

#[test]
fn a_store_that_goes_away_or_gives_its_place_to_another_ends_it() {
    type Away = fn(&Scene);
    let ways: [(Away, &str); 4] = [
        (
            |scene| std::fs::remove_dir_all(scene.at("store")).unwrap(),
            "not there any more",
        ),
        (
            |scene| std::fs::rename(scene.at("store"), scene.at("away")).unwrap(),
            "not there any more",
        ),
        (
            |scene| {
                std::fs::rename(scene.at("store"), scene.at("away")).unwrap();
                std::fs::rename(scene.at("other"), scene.at("store")).unwrap();
            },
            "",
        ),
        (
            |scene| {
                // Even its own events put back are other files.
                std::fs::rename(scene.at("store"), scene.at("away")).unwrap();
                std::fs::rename(scene.at("restored"), scene.at("store")).unwrap();
            },
            "",
        ),
    ];
    for (goes, why) in ways {
        let scene = Scene::new();
        let path = scene.at("store");
        let store = SledStore::open(&path).unwrap();
        append(&store, 0);
        store.drain().unwrap();
        store.backup(scene.at("backup")).unwrap();
        fill(&scene.at("other"), 5);
        let restored = scene.at("restored");
        ok(
            "restore",
            &scene.at("backup"),
            &[restored.to_str().unwrap()],
        );
        let (mut child, mut out) = follow(&path, &[]);
        let mut line = String::new();
        for _ in 0..10 {
            line.clear();
            assert!(out.read_line(&mut line).unwrap() > 0);
        }
        goes(&scene);
        let mut errors = String::new();
        let mut stderr = child.stderr.take().unwrap();
        stderr.read_to_string(&mut errors).unwrap();
        assert_eq!(child.wait().unwrap().code(), Some(4), "{errors}");
        // Between the two moves nothing stands there.
        let says = ["another log", "not there any more"];
        assert!(
            errors.contains(why) && says.iter().any(|word| errors.contains(word)),
            "{errors}"
        );
        assert_eq!(out.read_line(&mut line).unwrap(), 0, "{line}");
        store.crash();
    }
}

#[test]
fn damage_that_comes_while_it_follows_is_told() {
    let scene = Scene::new();
    let path = scene.at("store");
    let store = SledStore::open(&path).unwrap();
    append(&store, 0);
    store.drain().unwrap();
    let (mut child, mut out) = follow(&path, &[]);
    let mut line = String::new();
    for _ in 0..10 {
        assert!(out.read_line(&mut line).unwrap() > 0);
    }
    // Somebody cuts the file that is written to.
    let segment = path.join("log/00000001.seg");
    let file = std::fs::OpenOptions::new()
        .write(true)
        .open(segment)
        .unwrap();
    file.set_len(5_000).unwrap();
    let mut errors = String::new();
    let mut stderr = child.stderr.take().unwrap();
    stderr.read_to_string(&mut errors).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(5), "{errors}");
    assert!(errors.contains("5000 of"), "{errors}");
    store.crash();
}
