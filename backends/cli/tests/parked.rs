//! Streams that are set aside, by whomever.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod common;

use std::path::Path;

use common::sinks::with_sinks;
use common::{Scene, append, code, fails, lines, ok, run, text, with_rows};
use serde_json::{Value, json};
use tidelog::SledStore;

#[test]
fn parked_streams_are_shown_with_their_reason() {
    let scene = Scene::new();
    let store = scene.at("rows");
    with_rows(&store);
    let shown = lines(&ok("parked", &store, &["--json"]));
    assert_eq!(shown.len(), 1);
    assert_eq!(
        (&shown[0]["consumer"], &shown[0]["kind"]),
        (&Value::from("mail"), &Value::from("listener"))
    );
    assert_eq!(
        (&shown[0]["stream"], &shown[0]["held"]),
        (&Value::from("Till/bad"), &Value::from(1))
    );
    assert_eq!(shown[0]["reason"], "no \u{202e}answer");
    let shown = lines(&ok("parked", &store, &["--projections", "--json"]));
    assert_eq!(
        (&shown[1]["consumer"], &shown[1]["kind"]),
        (&Value::from("counts"), &Value::from("projection"))
    );
    assert!(shown[1]["reason"].as_str().unwrap().contains("broken"));
    let table = ok("parked", &store, &["--projections"]);
    assert!(
        table.contains("no \\u{202e}answer") && table.contains("\\u{1b}[1mbroken"),
        "{table}"
    );
    let info = &lines(&ok("info", &store, &["--json"]))[0];
    let mail = json!([{"name": "mail", "position": 5, "behind": 1, "parked": 1}]);
    assert_eq!(info["listeners"], mail);
    assert_eq!(
        lines(&ok("projections", &store, &["--json"]))[0]["parked"],
        1
    );
}

/// A store of ten events whose sinks have parked streams; left open.
fn replicated(path: &Path) -> SledStore {
    let store = SledStore::open(path).unwrap();
    append(&store, 1);
    store.drain().unwrap();
    with_sinks(&store);
    store
}

#[test]
fn what_replication_and_publishing_have_parked_is_shown_beside_the_application() {
    let scene = Scene::new();
    let path = scene.at("store");
    let store = replicated(&path);
    let shown = lines(&ok("parked", &path, &["--json"]));
    let of = |line: &Value| {
        let field = |name: &str| line[name].clone();
        json!([
            field("consumer"),
            field("kind"),
            field("stream"),
            field("code"),
            field("sequence"),
            field("position"),
            field("held"),
            field("accepted")
        ])
    };
    let all: Vec<_> = shown.iter().map(of).collect();
    assert_eq!(
        Value::from(all),
        json!([
            [
                "sink.kafka",
                "publishing",
                "Till/1",
                "not_replicated",
                3,
                8,
                null,
                false
            ],
            [
                "sink.scylla",
                "replication",
                "Till/1",
                "diverged",
                3,
                8,
                null,
                false
            ],
            [
                "sink.scylla",
                "replication",
                "Till/2",
                "torn_batch",
                1,
                7,
                0,
                true
            ],
            [
                "sink.scylla",
                "replication",
                "Till/3",
                "refused",
                1,
                9,
                null,
                false
            ],
        ])
    );
    assert_eq!(shown[1]["remote_sequence"], 4);
    assert_eq!(shown[1]["since_position"], 9);
    assert!(
        shown[3]["reason"]
            .as_str()
            .unwrap()
            .ends_with("no\u{1b}[2J")
    );
    let table = ok("parked", &path, &[]);
    assert!(
        table.contains("no\\u{1b}[2J") && !table.contains('\u{1b}'),
        "{table}"
    );
    assert!(
        table.contains("another origin's event stands in its place"),
        "{table}"
    );
    let info = &lines(&ok("info", &path, &["--json"]))[0];
    assert_eq!(
        info["listeners"],
        json!([
            {"name": "sink.kafka", "position": 10, "behind": 0, "parked": 1},
            {"name": "sink.scylla", "position": 9, "behind": 1, "parked": 2},
        ])
    );
    assert_eq!(lines(&ok("verify", &path, &["--json"]))[0]["listeners"], 2);
    store.close_blocking().unwrap();
}

#[test]
fn a_sink_s_damaged_state_is_told_with_what_to_do() {
    use tidelog::CheckpointStore;
    let scene = Scene::new();
    let path = scene.at("store");
    let store = replicated(&path);
    let rubbish = store.save("sink.kafka", 1, b"?"[..].into());
    pollster::block_on(rubbish).unwrap();
    // One of a version to come says nothing to this one, and is no damage.
    pollster::block_on(store.save("sink.later", 1, b"?"[..].into())).unwrap();
    store.close_blocking().unwrap();
    for verb in ["info", "verify", "parked"] {
        let output = run(verb, &path, &[]);
        assert_eq!(code(&output), 5, "{verb}");
        let said = text(&output.stdout) + &text(&output.stderr);
        assert!(said.contains("listeners/sink.kafka"), "{verb}: {said}");
        assert!(said.contains("forget_state"), "{verb}: {said}");
        assert!(!said.contains("sink.later is"), "{verb}: {said}");
    }
    assert!(fails("parked", &path, &["--json"], 5).contains("\"damaged\""));
}
