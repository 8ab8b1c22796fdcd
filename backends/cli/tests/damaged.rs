//! Damaged stores: what is whole is shown, the damage is told with what to do, and nothing is changed.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod common;

use common::{Scene, code, events_of, fails, flip, lines, ok, picture, run, text, with_rows};
use serde_json::Value;

#[test]
fn damage_is_told_by_each_verb_behind_what_is_whole() {
    let scene = Scene::new();
    let store = scene.store();
    let whole = events_of(&store);
    // An event in the second segment.
    let marker = format!("\"n\": {}}}", 900);
    let segment = (1..9)
        .map(|n| store.join(format!("log/{n:08}.seg")))
        .find(|path| {
            std::fs::read(path)
                .unwrap()
                .windows(marker.len())
                .any(|found| found == marker.as_bytes())
        });
    flip(&segment.unwrap(), Some(marker.as_bytes()));
    let before = picture(&store);
    let error = fails("verify", &store, &[], 5);
    assert_eq!(error, "");
    let verified = run("verify", &store, &["--json"]);
    let verified: Value = serde_json::from_slice(&verified.stdout).unwrap();
    assert_eq!(
        (&verified["ok"], &verified["faults"][0]["code"]),
        (&Value::from(false), &Value::from("damaged"))
    );
    for words in [&["verify"][..], &["verify", "--index"]] {
        let output = run(words[0], &store, &words[1..]);
        assert_eq!(code(&output), 5);
        assert!(text(&output.stdout).contains("FAULT"), "{words:?}");
    }
    let output = run("events", &store, &["--json"]);
    assert_eq!(code(&output), 5);
    let shown = lines(&text(&output.stdout));
    assert_eq!(shown.len(), 900);
    assert_eq!(
        shown.last().unwrap()["id"],
        whole[shown.len() - 1].event_id.to_string()
    );
    let error = text(&output.stderr);
    assert!(
        error.contains(r#""code":"damaged""#) && error.contains("repair"),
        "{error}"
    );
    // What stands behind it is read when it is asked for.
    assert_eq!(
        lines(&ok("events", &store, &["--from", "1500", "--json"])).len(),
        101
    );
    assert_eq!(lines(&ok("tail", &store, &["--json"])).len(), 10);
    for words in [&["streams"][..], &["export"]] {
        let output = run(words[0], &store, &words[1..]);
        assert_eq!(code(&output), 5, "{words:?}");
        assert!(!output.stdout.is_empty(), "{words:?}");
    }
    let to = scene.at("backup");
    assert!(fails("backup", &store, &[to.to_str().unwrap()], 5).contains("is damaged"));
    assert_eq!(picture(&store), before);
}

#[test]
fn the_end_of_a_log_that_is_gone_is_damage() {
    let scene = Scene::new();
    let store = scene.store();
    let newest = (1..9)
        .map(|n| store.join(format!("log/{n:08}.seg")))
        .rfind(|path| path.exists());
    // The last sale of the last append.
    flip(&newest.unwrap(), Some(b"\"n\": 1598}"));
    for words in [
        &["info"][..],
        &["verify"],
        &["events"],
        &["tail"],
        &["streams"],
        &["export"],
    ] {
        let output = run(words[0], &store, &words[1..]);
        assert_eq!(code(&output), 5, "{words:?}");
        assert!(!output.stdout.is_empty(), "{words:?}");
    }
    let shown = run("events", &store, &["--json"]);
    assert_eq!(lines(&text(&shown.stdout)).len(), 1590);
    assert!(ok("tail", &store, &["--to", "1590"]).contains("1590"));
}

#[test]
fn a_missing_segment_or_format_is_damage_with_a_remedy() {
    let scene = Scene::new();
    let store = scene.store();
    std::fs::remove_file(store.join("log/00000002.seg")).unwrap();
    for verb in [
        "info", "verify", "events", "streams", "tail", "export", "parked",
    ] {
        let error = fails(verb, &store, &[], 5);
        assert!(error.contains("repair"), "{verb}: {error}");
    }
    let other = scene.at("other");
    common::fill(&other, 2);
    std::fs::remove_file(other.join("format")).unwrap();
    for verb in ["info", "verify", "events"] {
        let error = fails(verb, &other, &[], 5);
        assert!(
            error.contains("format") && error.contains("repair"),
            "{error}"
        );
    }
}

#[test]
fn a_damaged_index_harms_nothing_but_what_stands_in_it() {
    let scene = Scene::new();
    let store = scene.at("rows");
    with_rows(&store);
    common::fill(&store, 160);
    flip(&store.join("manifest"), None);
    for verb in [
        "info", "verify", "events", "streams", "tail", "parked", "export",
    ] {
        assert_eq!(code(&run(verb, &store, &[])), 0, "{verb}");
    }
    for words in [
        &["verify", "--index"][..],
        &["snapshots"],
        &["projections"],
        &["parked", "--projections"],
    ] {
        let output = run(words[0], &store, &words[1..]);
        assert_eq!(code(&output), 5, "{words:?}: {}", text(&output.stdout));
        let said = text(&output.stdout) + &text(&output.stderr);
        assert!(said.contains("made again"), "{words:?}: {said}");
    }
    // Pages of sled that are not what was written are found out, too.
    let store = scene.store();
    let db = std::fs::read_dir(store.join("index"))
        .unwrap()
        .next()
        .unwrap()
        .unwrap()
        .path()
        .join("db");
    let size = std::fs::metadata(&db).unwrap().len();
    let mut bytes = std::fs::read(&db).unwrap();
    for at in (0..usize::try_from(size).unwrap()).step_by(512) {
        bytes[at] ^= 0x55;
    }
    std::fs::write(&db, bytes).unwrap();
    assert_eq!(code(&run("verify", &store, &["--index"])), 5);
    assert_eq!(code(&run("verify", &store, &[])), 0);
}

#[test]
fn a_damaged_checkpoint_is_told_and_the_rest_is_shown() {
    let scene = Scene::new();
    let store = scene.store();
    std::fs::create_dir_all(store.join("listeners")).unwrap();
    std::fs::write(store.join("listeners/mail"), b"TIDELSN1 rubbish").unwrap();
    for verb in ["info", "verify", "parked"] {
        let output = run(verb, &store, &[]);
        assert_eq!(code(&output), 5, "{verb}");
        let said = text(&output.stdout) + &text(&output.stderr);
        assert!(
            said.contains("listeners/mail") && said.contains("restore it"),
            "{verb}: {said}"
        );
    }
    assert_eq!(code(&run("events", &store, &[])), 0);
}

#[test]
fn the_newest_events_are_those_behind_the_damage_and_never_older_ones() {
    let scene = Scene::new();
    let store = scene.store();
    let marker = b"\"n\": 900}";
    let segments = (1..9).map(|n| store.join(format!("log/{n:08}.seg")));
    let with_it = |path: &std::path::PathBuf| {
        let bytes = std::fs::read(path).unwrap();
        bytes.windows(marker.len()).any(|found| found == marker)
    };
    flip(&segments.into_iter().find(with_it).unwrap(), Some(marker));
    for words in [["tail", "-n", "1000"], ["events", "--last", "1000"]] {
        let output = run(words[0], &store, &[&words[1..], &["--json"]].concat());
        assert_eq!(code(&output), 5, "{words:?}");
        let shown = lines(&text(&output.stdout));
        let first = shown[0]["position"].as_u64().unwrap();
        assert!(first > 901, "{words:?}: {first}");
        for (event, position) in shown.iter().zip(first..) {
            assert_eq!(event["position"], position);
        }
        assert_eq!(shown.last().unwrap()["position"], 1600);
        assert!(text(&output.stderr).contains("is damaged"), "{words:?}");
    }
}
