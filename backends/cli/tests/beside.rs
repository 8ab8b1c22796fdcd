//! Verbs beside a process that has the store open and appends.

#![cfg(unix)]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod common;

use std::io::{BufRead, BufReader};
use std::process::Stdio;

use common::writer::Writer;
use common::{Scene, code, events_of, fails, lines, ok, run, text, tidelog};

#[test]
#[ignore = "a process that the other tests start"]
fn writes_beside() {
    common::writer::write_beside().unwrap();
}

#[test]
fn what_reads_the_log_reads_beside_a_writer() {
    let scene = Scene::new();
    let path = scene.at("store");
    let writer = Writer::start(&path);
    let mut before = 0;
    let mut segments = 0;
    // As many rounds as the writer needs for some segments; each sees all that the one before saw.
    while segments < 4 {
        let shown = lines(&ok("events", &path, &["--json"]));
        for (at, event) in (1_u64..).zip(&shown) {
            assert_eq!(event["position"], at);
        }
        let now = shown.len() as u64;
        assert!(now >= before, "{now} after {before}");
        let tail = lines(&ok("tail", &path, &["--json", "-n", "1"]));
        let newest = tail
            .first()
            .map_or(0, |event| event["position"].as_u64().unwrap());
        assert!(newest >= now, "{newest} after {now}");
        let verified = &lines(&ok("verify", &path, &["--json"]))[0];
        assert_eq!(verified["ok"], true);
        assert!(verified["records"].as_u64().unwrap() >= newest);
        let info = &lines(&ok("info", &path, &["--json"]))[0];
        assert_eq!(
            (&info["in_use"], &info["damage"]),
            (&true.into(), &serde_json::Value::Null)
        );
        assert!(info["last_opened"].as_str().unwrap().contains(&writer.id()));
        segments = info["segments"].as_u64().unwrap();
        let streams = lines(&ok("streams", &path, &["--json"]));
        let events: u64 = streams
            .iter()
            .map(|of| of["events"].as_u64().unwrap())
            .sum();
        assert!(events >= newest);
        assert_eq!(ok("parked", &path, &[]), "nothing is parked\n");
        let exported = ok("export", &path, &[]);
        assert!(exported.lines().count() as u64 >= newest);
        before = newest;
    }
    writer.end();
    let all = events_of(&path).len();
    assert_eq!(lines(&ok("events", &path, &["--json"])).len(), all);
}

#[test]
fn what_needs_the_index_or_changes_something_names_who_has_it_open() {
    let scene = Scene::new();
    let path = scene.at("store");
    let writer = Writer::start(&path);
    let lines_file = scene.at("lines");
    std::fs::write(&lines_file, "").unwrap();
    let (file, to) = (lines_file.to_str().unwrap(), scene.at("to"));
    let to = to.to_str().unwrap();
    let held: [&[&str]; 8] = [
        &["verify", "--index"],
        &["snapshots"],
        &["projections"],
        &["parked", "--projections"],
        &["rebuild-index", "--yes"],
        &["accept-loss", "--yes"],
        &["import", file, "--into-existing"],
        &["repair", to],
    ];
    for words in held {
        let error = fails(words[0], &path, &words[1..], 3);
        assert!(
            error.contains(&format!("process {}", writer.id())),
            "{words:?}: {error}"
        );
    }
    assert!(!scene.at("to").exists());
    writer.end();
    ok("verify", &path, &["--index"]);
}

#[test]
fn a_backup_of_a_running_store_is_restored_and_exported_equal() {
    let scene = Scene::new();
    let (path, backup) = (scene.at("store"), scene.at("backup"));
    let writer = Writer::start(&path);
    let mut last = 0;
    let mut kept = 0;
    while kept == 0 {
        let done = &lines(&ok("backup", &path, &[backup.to_str().unwrap(), "--json"]))[0];
        let now = done["last_position"].as_u64().unwrap();
        assert!(now >= last);
        last = now;
        kept = done["kept_segments"].as_u64().unwrap();
    }
    ok("verify", &backup, &[]);
    writer.end();
    let restored = scene.at("restored");
    ok("restore", &backup, &[restored.to_str().unwrap()]);
    let of_backup = ok("export", &backup, &[]);
    assert_eq!(of_backup.lines().count() as u64, last);
    assert_eq!(ok("export", &restored, &[]), of_backup);
    let all = ok("export", &path, &[]);
    assert!(all.starts_with(&of_backup));
    ok("verify", &restored, &[]);
}

#[test]
fn who_follows_gets_each_event_once_in_order() {
    let scene = Scene::new();
    let path = scene.at("store");
    let writer = Writer::start(&path);
    let mut follow = tidelog(&["tail", "--json", "--follow", "--type", "Counted"]);
    let mut follow = follow.arg(&path).stdout(Stdio::piped()).spawn().unwrap();
    let mut read = BufReader::new(follow.stdout.take().unwrap()).lines();
    let mut before: Option<u64> = None;
    for _ in 0..200 {
        let event: serde_json::Value =
            serde_json::from_str(&read.next().unwrap().unwrap()).unwrap();
        let position = event["position"].as_u64().unwrap();
        assert!(
            before.is_none_or(|before| position == before + 10),
            "{before:?} {position}"
        );
        before = Some(position);
    }
    follow.kill().unwrap();
    follow.wait().unwrap();
    writer.end();
}

#[test]
fn a_store_whose_process_was_killed_is_read_and_says_so() {
    let scene = Scene::new();
    let path = scene.at("store");
    Writer::start(&path).kill();
    let info = &lines(&ok("info", &path, &["--json"]))[0];
    assert_eq!(
        (&info["in_use"], &info["closed"]),
        (&false.into(), &false.into())
    );
    assert!(ok("info", &path, &[]).contains("not closed in order"));
    let output = run("events", &path, &["--json"]);
    assert_eq!(code(&output), 0);
    let (shown, pending) = (
        lines(&text(&output.stdout)).len(),
        info["pending_commits"].as_u64().unwrap(),
    );
    let told = text(&output.stderr);
    assert_eq!(told.contains("left out"), pending > 0, "{told}");
    // What was left out was whole: opening keeps it.
    let opened = events_of(&path).len() as u64;
    assert_eq!(opened, shown as u64 + pending * 10);
}
