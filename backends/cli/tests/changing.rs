//! Verbs that make or change stores: what they leave, and what they refuse.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod common;

use std::io::Write;
use std::path::Path;
use std::process::Stdio;

use common::{Scene, append, code, events_of, fails, fill, flip, lines, ok, picture, run, text};
use tidelog::{EventEnvelope, SledStore};

fn str(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// Names in a directory, hidden ones too.
fn names(dir: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(dir).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<_> = names.collect();
    names.sort_unstable();
    names
}

#[test]
fn what_is_exported_is_imported_equal() {
    let scene = Scene::new();
    let (store, file, other) = (scene.store(), scene.at("events.jsonl"), scene.at("other"));
    let said = ok("export", &store, &[str(&file)]);
    assert!(said.starts_with("exported: 1,600 events"), "{said}");
    let output = run("import", &other, &[str(&file)]);
    assert_eq!(code(&output), 0, "{}", text(&output.stderr));
    assert_eq!(
        text(&output.stdout),
        "imported: 1,600 events in 160 appends, 0 of them were there before\n"
    );
    for path in [&store, &other] {
        let verified = &lines(&ok("verify", path, &["--json"]))[0];
        assert_eq!(
            (&verified["ok"], &verified["streams"]),
            (&true.into(), &7.into())
        );
    }
    assert_eq!(
        ok("export", &other, &[]),
        std::fs::read_to_string(&file).unwrap()
    );
    let is = |event: &EventEnvelope| {
        (
            event.event_id,
            event.stream.clone(),
            event.sequence,
            event.event_time,
            event.event.clone(),
        )
    };
    let all = |path| events_of(path).iter().map(is).collect::<Vec<_>>();
    assert_eq!(all(&store), all(&other));
    // Once more takes nothing.
    let again = ok("import", &other, &[str(&file), "--into-existing", "--json"]);
    assert_eq!(
        again,
        "{\"events\":1600,\"batches\":160,\"already\":1600}\n"
    );
}

#[test]
fn an_import_makes_no_store_and_takes_none_that_was_not_meant() {
    let scene = Scene::new();
    let (store, file) = (scene.store(), scene.at("events.jsonl"));
    ok("export", &store, &[str(&file)]);
    let before = picture(&store);
    let error = fails("import", &store, &[str(&file)], 2);
    assert!(error.contains("--into-existing"), "{error}");
    assert_eq!(picture(&store), before);
    let missing = scene.at("missing");
    fails("import", &missing, &[str(&file), "--into-existing"], 4);
    fails("import", &missing, &[str(&scene.at("no-file"))], 1);
    assert!(!missing.exists());
    // A bad line ends it behind what was whole.
    let bad = scene.at("bad.jsonl");
    let lines_before = std::fs::read_to_string(&file).unwrap();
    let ten: String = lines_before
        .lines()
        .take(10)
        .map(|line| format!("{line}\n"))
        .collect();
    std::fs::write(&bad, ten + "{\"rubbish\n").unwrap();
    let error = fails("import", &missing, &[str(&bad)], 1);
    assert!(error.contains("line 11"), "{error}");
    assert_eq!(events_of(&missing).len(), 10);
    // An export leaves a file that is there alone, and a selection is numbered anew.
    let error = fails("export", &store, &[str(&bad)], 1);
    assert!(error.contains("exists"), "{error}");
    let (part, some) = (scene.at("part.jsonl"), scene.at("some"));
    ok("export", &store, &[str(&part), "--type", "Counted"]);
    assert!(fails("import", &some, &[str(&part)], 1).contains("comes next") || some.exists());
    ok(
        "import",
        &scene.at("renumbered"),
        &[str(&part), "--renumber"],
    );
    ok("verify", &scene.at("renumbered"), &[]);
}

#[test]
fn a_backup_is_put_back_beside_and_never_over_something() {
    let scene = Scene::new();
    let (store, backup) = (scene.store(), scene.at("backup"));
    let first = &lines(&ok("backup", &store, &[str(&backup), "--json"]))[0];
    assert_eq!(
        (&first["last_position"], &first["kept_segments"]),
        (&1600.into(), &0.into())
    );
    let again = &lines(&ok("backup", &store, &[str(&backup), "--json"]))[0];
    assert_eq!(again["copied_segments"], 0);
    ok("info", &backup, &[]);
    let before = (picture(&store), picture(&backup));
    let error = fails("restore", &backup, &[str(&store)], 4);
    assert!(error.contains("nothing is overwritten"), "{error}");
    fails("restore", &store, &[str(&scene.at("no"))], 4);
    fails("backup", &store, &[str(&store)], 4);
    fails("backup", &backup, &[str(&scene.at("no"))], 4);
    let restored = scene.at("deep/er/restored");
    let done = &lines(&ok("restore", &backup, &[str(&restored), "--json"]))[0];
    assert_eq!(done["last_position"], 1600);
    assert_eq!((picture(&store), picture(&backup)), before);
    assert_eq!(names(restored.parent().unwrap()), ["restored"]);
    ok("verify", &restored, &[]);
    let empty = scene.at("deep/empty");
    std::fs::create_dir(&empty).unwrap();
    ok("restore", &backup, &[str(&empty)]);
    ok("verify", &empty, &[]);
    let opened = SledStore::open(&restored).unwrap();
    opened.verify().unwrap();
    opened.close_blocking().unwrap();
    // Of a damaged one nothing is left.
    flip(&backup.join("log/00000001.seg"), None);
    let to = scene.at("to");
    let error = fails("restore", &backup, &[str(&to)], 5);
    assert!(error.contains("use another backup"), "{error}");
    assert_eq!(names(scene.dir.path()), ["backup", "deep", "store"]);
    let error = fails(
        "backup",
        &store,
        &[str(&scene.dir.path().join("store/inside"))],
        4,
    );
    assert!(error.contains("inside"), "{error}");
}

#[test]
fn a_damaged_store_is_repaired_into_another_and_goes_on_when_the_loss_is_accepted() {
    let scene = Scene::new();
    let (store, to) = (scene.at("store"), scene.at("repaired"));
    fill(&store, 20);
    flip(&store.join("log/00000001.seg"), Some(b"\"n\": 100}"));
    let before = picture(&store);
    let said = run("repair", &store, &[str(&to)]);
    assert_eq!(code(&said), 0, "{}", text(&said.stderr));
    let said = text(&said.stdout);
    assert!(said.contains("lost: positions 101 to 110"), "{said}");
    assert!(said.contains("lost: Till/3 11 to 20"), "{said}");
    assert_eq!(picture(&store), before);
    let info = &lines(&ok("info", &to, &["--json"]))[0];
    assert_eq!(
        (&info["lost_positions"], &info["loss_accepted"]),
        (&10.into(), &false.into())
    );
    let output = run("events", &to, &["--json"]);
    assert_eq!(
        (code(&output), lines(&text(&output.stdout)).len()),
        (5, 100)
    );
    assert!(text(&output.stderr).contains("read from 111 on"));
    assert_eq!(
        lines(&ok("events", &to, &["--json", "--from", "111"])).len(),
        90
    );
    ok("verify", &to, &[]);
    let before = picture(&to);
    let error = fails("accept-loss", &to, &["Till/3"], 2);
    assert!(error.contains("--yes"), "{error}");
    assert_eq!(picture(&to), before);
    ok("accept-loss", &to, &["Till/3", "--yes"]);
    ok("accept-loss", &to, &["--yes"]);
    assert_eq!(lines(&ok("events", &to, &["--json"])).len(), 190);
    let opened = SledStore::open(&to).unwrap();
    append(&opened, 3);
    opened.close_blocking().unwrap();
    ok("verify", &to, &["--index"]);
    // Into what is there nothing is repaired.
    fails("repair", &store, &[str(&to)], 4);
    fails("repair", &scene.at("missing"), &[str(&scene.at("no"))], 4);
    let whole = &lines(&ok("repair", &to, &[str(&scene.at("again")), "--json"]))[0];
    assert_eq!(whole["lost"], serde_json::json!([]));
}

#[test]
fn an_index_is_made_again_when_that_is_confirmed() {
    let scene = Scene::new();
    let store = scene.store();
    let events = ok("export", &store, &[]);
    let before = picture(&store);
    let error = fails("rebuild-index", &store, &[], 2);
    assert!(
        error.contains("--yes") && error.contains("snapshots"),
        "{error}"
    );
    assert_eq!(picture(&store), before);
    let done = &lines(&ok("rebuild-index", &store, &["--yes", "--json"]))[0];
    assert!(done["runs"].as_u64().unwrap() > 0);
    ok("verify", &store, &["--index"]);
    flip(&store.join("manifest"), None);
    fails_verify(&store);
    ok("rebuild-index", &store, &["-y"]);
    std::fs::remove_dir_all(store.join("index")).unwrap();
    fails_verify(&store);
    ok("rebuild-index", &store, &["-y"]);
    ok("verify", &store, &["--index"]);
    assert_eq!(ok("export", &store, &[]), events);
    // A damaged log is not made an index of, and a missing store is not made.
    flip(&store.join("log/00000001.seg"), Some(b"\"n\": 10}"));
    std::fs::remove_file(store.join("manifest")).unwrap();
    let error = fails("rebuild-index", &store, &["-y"], 5);
    assert!(error.contains("repair"), "{error}");
    fails("rebuild-index", &scene.at("missing"), &["-y"], 4);
    assert!(!scene.at("missing").exists());
}

fn fails_verify(store: &Path) {
    let output = run("verify", store, &["--index"]);
    assert_eq!(code(&output), 5);
}

#[cfg(unix)]
fn signal(child: &std::process::Child) {
    let id = child.id().to_string();
    let sent = std::process::Command::new("kill")
        .args(["-INT", &id])
        .status();
    assert!(sent.unwrap().success());
}

#[cfg(unix)]
#[test]
fn an_import_that_is_ended_says_so_and_goes_on_later() {
    let scene = Scene::new();
    let (store, other) = (scene.store(), scene.at("other"));
    let exported = ok("export", &store, &[]);
    let mut command = common::tidelog(&["import"]);
    command.arg(&other).arg("-").stdin(Stdio::piped());
    let mut child = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let half = exported.len() / 2;
    stdin.write_all(&exported.as_bytes()[..half]).unwrap();
    stdin.flush().unwrap();
    signal(&child);
    // It looks whether to go on after each append; that the pipe breaks is how it ends.
    for part in exported.as_bytes()[half..].chunks(1 << 10) {
        if stdin.write_all(part).is_err() {
            break;
        }
    }
    drop(stdin);
    let output = child.wait_with_output().unwrap();
    let errors = text(&output.stderr);
    // The signal may come before anybody listens, or when all is read.
    match output.status.code() {
        Some(130) => assert!(
            errors.contains("--into-existing the same command goes on"),
            "{errors}"
        ),
        Some(0) => assert_eq!(errors, ""),
        None => assert!(
            !other.exists()
                || names(&other).contains(&"format".to_owned())
                || names(&other).len() < 4
        ),
        other => panic!("{other:?}: {errors}"),
    }
    let file = scene.at("events.jsonl");
    ok("export", &store, &[str(&file)]);
    let has_store = other.join("format").exists();
    let more: &[&str] = if has_store { &["--into-existing"] } else { &[] };
    if !has_store && other.exists() {
        std::fs::remove_dir_all(&other).unwrap();
    }
    ok("import", &other, &[&[str(&file)], more].concat());
    assert_eq!(ok("export", &other, &[]), exported);
    ok("verify", &other, &[]);
}
