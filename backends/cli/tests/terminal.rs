//! What people see: on terminals of several widths, wide characters and long names among the texts.

#![cfg(unix)]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod common;

use std::path::Path;

use common::pty::{Seen, Terminal};
use common::{Scene, append, fill, flip, picture, stream, tidelog, time, with_rows};
use tidelog::{AppendBatch, ContentType, ExpectedVersion, NewEvent, SledStore};

fn see(columns: u16, verb: &str, store: &Path, more: &[&str]) -> Seen {
    let mut command = tidelog(&[verb]);
    command.arg(store).args(more);
    Terminal::new(columns).run(command)
}

fn width(text: &str) -> usize {
    console::measure_text_width(text)
}

/// A store whose texts are all a terminal has trouble with.
fn peopled(path: &Path) {
    with_rows(path);
    let store = SledStore::open(path).unwrap();
    let names = [
        "Kunde/漢字テスト店舗",
        "Order/👍🏽-👩‍👩‍👧",
        &format!("Customer/{}", "x".repeat(90)),
        "Evil/a\u{202e}b\u{2066}c\u{200f}",
    ];
    for (name, n) in names.into_iter().zip(0..) {
        let payload = format!(r#"{{"n":{n},"text":"{}"}}"#, "長い".repeat(60));
        let event = NewEvent::new("GeldEingezahltUndNochMehr", 1, ContentType::Json, payload)
            .with_event_time(time("1997-01-01T12:00:00.123456Z"));
        let batch = AppendBatch::new(stream(name), ExpectedVersion::Any, vec![event]);
        store.blocking().append(batch).unwrap();
    }
    common::sinks::with_sinks(&store);
    store.close_blocking().unwrap();
}

#[test]
fn no_line_is_wider_than_the_terminal_and_nothing_steers_it() {
    let scene = Scene::new();
    let store = scene.at("store");
    peopled(&store);
    let verbs: [(&str, &[&str]); 9] = [
        ("info", &[]),
        ("verify", &[]),
        ("streams", &[]),
        ("events", &[]),
        ("tail", &[]),
        ("snapshots", &[]),
        ("projections", &[]),
        ("parked", &["--projections"]),
        ("events", &["--control", "--superseded", "--last", "3"]),
    ];
    for columns in [40, 60, 80, 120, 200] {
        for (verb, more) in verbs {
            let seen = see(columns, verb, &store, more);
            assert_eq!(seen.code, 0, "{verb}: {}", seen.errors);
            assert!(seen.screen.lines().count() > 1, "{verb}");
            for line in seen.screen.lines() {
                // A word that is wider is left whole, so that it can be copied.
                let word = line.rsplit(' ').next().unwrap();
                let fits = width(line) <= columns.into() || width(word) > usize::from(columns) - 24;
                assert!(fits, "{verb} at {columns}: {line}");
            }
            let steers = |c: char| {
                c == '\u{1b}' || c == '\r' || matches!(c, '\u{200f}' | '\u{202e}' | '\u{2066}')
            };
            assert!(!seen.screen.contains(steers), "{verb}: {:?}", seen.screen);
        }
    }
}

#[test]
fn events_stand_in_one_line_or_in_a_few_as_there_is_room() {
    let scene = Scene::new();
    let path = scene.at("store");
    let store = SledStore::open(&path).unwrap();
    for (name, payload) in [("Till/7", r#"{"cents":1250}"#), ("漢字/店", "{}")] {
        let event = NewEvent::new("Sold", 1, ContentType::Json, payload)
            .with_event_time(time("2026-11-26T09:00:00.5Z"));
        let batch = AppendBatch::new(stream(name), ExpectedVersion::Any, vec![event]);
        store.blocking().append(batch).unwrap();
    }
    store.close_blocking().unwrap();
    assert_eq!(
        see(40, "events", &path, &[]).screen,
        "\
position  stream                     seq
       1  Till/7                       1
          Sold  2026-11-26T09:00:00Z
          {\"cents\":1250}
       2  漢字/店                      1
          Sold  2026-11-26T09:00:00Z
          {}
"
    );
    assert_eq!(
        see(80, "events", &path, &[]).screen,
        "\
position  time                  stream                     seq  type
       1  2026-11-26T09:00:00Z  Till/7                       1  Sold
          {\"cents\":1250}
       2  2026-11-26T09:00:00Z  漢字/店                      1  Sold
          {}
"
    );
    assert_eq!(
        see(110, "tail", &path, &[]).screen,
        "\
position  time                         stream                      seq  type              payload
       1  2026-11-26T09:00:00.500Z     Till/7                        1  Sold              {\"cents\":1250}
       2  2026-11-26T09:00:00.500Z     漢字/店                       1  Sold              {}
"
    );
    assert_eq!(
        see(40, "streams", &path, &[]).screen.lines().next(),
        Some("stream    Till/7")
    );
}

#[test]
fn a_store_without_events_is_shown_as_such() {
    let scene = Scene::new();
    let store = scene.at("empty");
    fill(&store, 0);
    for (verb, wanted) in [
        ("streams", "no streams"),
        ("snapshots", "no snapshots"),
        ("projections", "no read models are kept in it"),
        ("parked", "nothing is parked"),
    ] {
        assert_eq!(see(80, verb, &store, &[]).screen, format!("{wanted}\n"));
    }
    for verb in ["events", "tail"] {
        let seen = see(80, verb, &store, &[]);
        assert_eq!(seen.screen.lines().count(), 1);
        assert_eq!((&*seen.errors, seen.code), ("note: no such events\n", 0));
    }
    assert!(
        see(80, "info", &store, &[])
            .screen
            .contains("records     none\n")
    );
}

#[test]
fn long_work_shows_how_far_it_is_and_takes_that_away_again() {
    let scene = Scene::new();
    let store = scene.store();
    flip(&store.join("log/00000001.seg"), Some(b"\"n\": 10}"));
    let (to, file) = (scene.at("to"), scene.at("file"));
    let whole = scene.at("whole");
    fill(&whole, 160);
    let work = [
        (&whole, "streams", None, "records read"),
        (&store, "repair", Some(&to), "repairing"),
        (&whole, "verify", None, "verifying"),
        (&whole, "backup", Some(&file), "backing up"),
    ];
    for (store, verb, to, word) in work {
        let mut command = tidelog(&[verb]);
        command.arg(store).args(to);
        let seen = Terminal::new(60).all(command, "");
        assert_eq!(seen.code, 0, "{}", seen.screen);
        let (bar, answer) = seen.screen.rsplit_once('\r').unwrap();
        assert!(bar.contains(word), "{verb}: {bar:?}");
        // The line of the bar is cleared before the answer comes.
        let answer = answer.strip_prefix("\u{1b}[2K");
        let answer = answer.unwrap_or_else(|| panic!("{verb}: {:?}", seen.screen));
        assert!(!answer.contains(['\u{1b}', '\r']), "{verb}: {answer:?}");
    }
    // Where the answer itself comes to the terminal, nothing comes between.
    let mut command = tidelog(&["export"]);
    command.arg(&whole);
    let seen = Terminal::new(60).all(command, "");
    assert_eq!(seen.screen.lines().count(), 1600);
    assert!(!seen.screen.contains(['\u{1b}', '\r']));
}

#[test]
fn a_change_is_done_when_yes_is_typed_and_only_then() {
    let scene = Scene::new();
    let store = scene.store();
    let before = picture(&store);
    let asked = |typed| {
        let mut command = tidelog(&["rebuild-index"]);
        command.arg(&store);
        Terminal::new(80).all(command, typed)
    };
    for no in ["\n", "n\n", "no way\n", "\u{4}"] {
        let seen = asked(no);
        assert_eq!(seen.code, 2, "{}", seen.screen);
        assert!(seen.screen.contains("Go on? [y/N]"), "{}", seen.screen);
        assert!(
            seen.screen.contains("nothing was changed"),
            "{}",
            seen.screen
        );
        assert_eq!(picture(&store), before);
    }
    let seen = asked("y\n");
    assert_eq!(seen.code, 0, "{}", seen.screen);
    assert!(seen.screen.contains("made again"), "{}", seen.screen);
}

#[test]
fn help_fits_the_terminal_and_colours_are_left_out_when_asked() {
    for columns in [40, 80] {
        for verb in [&["--help"][..], &["events", "--help"], &["import", "-h"]] {
            let mut command = tidelog(verb);
            command.env("NO_COLOR", "1");
            let seen = Terminal::new(columns).run(command);
            assert_eq!(seen.code, 0);
            assert!(!seen.screen.contains('\u{1b}'), "{:?}", seen.screen);
            for line in seen.screen.lines() {
                // What is typed is not broken.
                let is_usage = line.starts_with("Usage:");
                let fits = width(line) <= columns.into() || is_usage;
                assert!(fits, "{columns}: {line}");
            }
        }
    }
}

#[test]
fn what_was_said_wrongly_is_repeated_without_steering_the_terminal() {
    for words in [
        &["ev\u{1b}[2Jents"][..],
        &["events", "store", "--no\u{202e}thing"],
        &["events", "store", "--since", "\u{1b}]0;owned\u{7}"],
        &["export", "store", "--stream", "a\u{9b}2J/b", "\u{1b}c"],
    ] {
        let seen = Terminal::new(80).all(tidelog(words), "");
        assert!(matches!(seen.code, 2 | 4), "{words:?}: {}", seen.screen);
        let steers = |c: char| (c.is_control() && c != '\n') || c == '\u{202e}';
        assert!(
            !seen.screen.contains(steers),
            "{words:?}: {:?}",
            seen.screen
        );
    }
}

#[test]
fn who_follows_on_a_terminal_sees_what_comes() {
    use std::io::{BufRead, BufReader};
    let scene = Scene::new();
    let path = scene.at("store");
    let store = SledStore::open(&path).unwrap();
    append(&store, 0);
    let mut command = tidelog(&["tail", "-f", "--to", "30"]);
    command.arg(&path).stdout(std::process::Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    assert!(lines.next().unwrap().unwrap().starts_with("position"));
    append(&store, 1);
    append(&store, 2);
    let come: Vec<String> = lines.map(Result::unwrap).collect();
    assert!(come.last().unwrap().starts_with("      30  "), "{come:?}");
    // Behind what was asked for it ends by itself.
    assert!(child.wait().unwrap().success());
    store.close_blocking().unwrap();
}
