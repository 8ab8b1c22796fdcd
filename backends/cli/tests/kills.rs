//! Verbs that are ended in the middle, by Ctrl-C or by `kill -9`: what they make is whole or is none, and
//! the same command does it.

#![cfg(unix)]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod common;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Output, Stdio};
use std::time::{Duration, Instant};

use common::{Scene, code, fails, fill, flip, lines, ok, picture, run, text, tidelog};

/// Places in the time that a whole run takes, at each of which one is ended either way.
fn points() -> u32 {
    let is_full = std::env::var("TIDELOG_SWEEP").is_ok_and(|sweep| sweep == "full");
    if is_full { 60 } else { 5 }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum How {
    /// Asked to end.
    Int,
    /// Never asked.
    Kill,
}

fn end(child: &Child, how: How) {
    let signal = match how {
        How::Int => "-INT",
        How::Kill => "-KILL",
    };
    let id = child.id().to_string();
    let mut kill = std::process::Command::new("kill");
    // It may have been quicker.
    kill.args([signal, &id])
        .stderr(Stdio::null())
        .status()
        .unwrap();
}

fn begin(verb: &str, words: &[&Path], options: &[&str]) -> Child {
    let mut command = tidelog(&[verb]);
    command.args(words).args(options);
    let command = command.stdout(Stdio::piped()).stderr(Stdio::piped());
    command.spawn().unwrap()
}

/// Runs it whole in `whole`, and again and again in `to`, ended a little later each time; each time `look`
/// is told how it ended.
fn ended(
    verb: &str,
    (from, options): (&Path, &[&str]),
    make: impl Fn() -> PathBuf,
    look: impl Fn(&Path, How, &Output),
) {
    let whole = make();
    let began = Instant::now();
    let words = |to: &Path| {
        let (from, to) = (from.to_owned(), to.to_owned());
        match verb {
            "import" => [to, from],
            _ => [from, to],
        }
    };
    let start = |to: &Path| {
        let [first, second] = words(to);
        match verb {
            "rebuild-index" => begin(verb, &[to], options),
            _ => begin(verb, &[&first, &second], options),
        }
    };
    let output = start(&whole).wait_with_output().unwrap();
    assert_eq!(code(&output), 0, "{}", text(&output.stderr));
    let takes = began.elapsed();
    let mut ends = 0;
    for point in 0..points() {
        for how in [How::Int, How::Kill] {
            let to = make();
            let child = start(&to);
            // Not to wait for something, but to end it at a place of its own.
            std::thread::sleep(takes * point / points() + Duration::from_micros(500));
            end(&child, how);
            let output = child.wait_with_output().unwrap();
            ends += u32::from(!output.status.success());
            let errors = text(&output.stderr);
            match output.status.code() {
                Some(130) => assert!(errors.contains("stopped; "), "{verb}: {errors}"),
                // It was quicker, was killed, or nobody listened yet.
                Some(0) | None => {}
                other => panic!("{verb}: {other:?}: {errors}"),
            }
            look(&to, how, &output);
        }
    }
    println!("{verb}: {ends} of {} were ended", 2 * points());
    assert!(ends >= points(), "{verb}: only {ends} were ended");
}

/// Names beside what is made that begin with a dot.
fn hidden(scene: &Scene) -> Vec<PathBuf> {
    let entries = fs::read_dir(scene.dir.path()).unwrap();
    let paths = entries.map(|entry| entry.unwrap().path());
    let is_hidden = |path: &PathBuf| {
        let name = path.file_name().unwrap().to_str().unwrap();
        name.starts_with('.')
    };
    paths.filter(is_hidden).collect()
}

/// Who is asked takes away what is not done; what `kill -9` leaves has a name that says so.
fn assert_tidy(scene: &Scene, suffix: &str, output: &Output) {
    for left in hidden(scene) {
        assert!(output.status.code().is_none(), "{}", left.display());
        assert!(
            left.to_str().unwrap().ends_with(suffix),
            "{}",
            left.display()
        );
        let _ = fs::remove_dir_all(&left).or_else(|_| fs::remove_file(&left));
    }
}

/// A store that takes a while to go through, what an export of it has, and a numbered place.
struct Work {
    scene: Scene,
    store: PathBuf,
    events: String,
    places: std::cell::Cell<u32>,
}

impl Work {
    fn new(appends: u64) -> Self {
        let scene = Scene::new();
        let store = scene.at("store");
        fill(&store, appends);
        let events = ok("export", &store, &[]);
        let places = std::cell::Cell::default();
        Self {
            scene,
            store,
            events,
            places,
        }
    }

    fn place(&self) -> PathBuf {
        self.places.set(self.places.get() + 1);
        self.scene.at(&format!("to-{}", self.places.get()))
    }

    fn assert_same(&self, store: &Path) {
        assert!(ok("export", store, &[]) == self.events, "other events");
        assert_eq!(lines(&ok("verify", store, &["--json"]))[0]["ok"], true);
    }
}

#[test]
fn a_backup_that_is_ended_is_none_and_the_same_command_goes_on_with_it() {
    let work = Work::new(800);
    let before = picture(&work.store);
    ended(
        "backup",
        (&work.store, &[]),
        || work.place(),
        |to, _, output| {
            let restored = work.place();
            let back = run("restore", to, &[restored.to_str().unwrap()]);
            match code(&back) {
                0 => work.assert_same(&restored),
                // There is no backup yet.
                4 => assert!(!output.status.success() && !restored.exists()),
                other => panic!("{other}: {}", text(&back.stderr)),
            }
            ok("backup", &work.store, &[to.to_str().unwrap()]);
            work.assert_same(to);
        },
    );
    assert_eq!(picture(&work.store), before);
}

#[test]
fn what_is_restored_is_there_whole_or_not_at_all() {
    let work = Work::new(800);
    let backup = work.scene.at("backup");
    ok("backup", &work.store, &[backup.to_str().unwrap()]);
    let before = picture(&backup);
    ended(
        "restore",
        (&backup, &[]),
        || work.place(),
        |to, _, output| {
            assert_tidy(&work.scene, ".restoring", output);
            if to.exists() {
                work.assert_same(to);
            } else {
                ok("restore", &backup, &[to.to_str().unwrap()]);
                work.assert_same(to);
            }
        },
    );
    assert_eq!(picture(&backup), before);
}

#[test]
fn a_file_of_events_is_there_whole_or_not_at_all() {
    let work = Work::new(800);
    ended(
        "export",
        (&work.store, &[]),
        || work.place(),
        |to, _, output| {
            assert_tidy(&work.scene, ".exporting", output);
            if to.exists() {
                assert!(fs::read_to_string(to).unwrap() == work.events);
            } else {
                assert!(!output.status.success());
            }
        },
    );
}

#[test]
fn a_repair_that_is_ended_is_no_store_and_the_same_command_begins_again() {
    let work = Work::new(800);
    flip(
        &work.store.join("log/00000002.seg"),
        Some(b"\"article\": \"tea\",\n \"n\": 77"),
    );
    let before = picture(&work.store);
    let wanted = work.place();
    ok("repair", &work.store, &[wanted.to_str().unwrap()]);
    let events = |store: &Path| text(&run("export", store, &[]).stdout);
    let after = |store: &Path| {
        let gone = &lines(&ok("info", store, &["--json"]))[0];
        (events(store), gone["lost_positions"].clone())
    };
    let wanted = after(&wanted);
    ended(
        "repair",
        (&work.store, &[]),
        || work.place(),
        |to, _, output| {
            match code(&run("info", to, &["--json"])) {
                0 => assert!(after(to) == wanted),
                _ => {
                    let said = fails("info", to, &[], 4);
                    assert!(!output.status.success(), "{said}");
                    assert!(fails("verify", to, &[], 4).contains("error"));
                    ok("repair", &work.store, &[to.to_str().unwrap()]);
                    assert!(after(to) == wanted);
                }
            }
            assert_eq!(lines(&ok("verify", to, &["--json"]))[0]["ok"], true);
        },
    );
    assert_eq!(picture(&work.store), before);
}

#[test]
fn an_import_that_is_ended_has_whole_appends_and_goes_on() {
    let work = Work::new(400);
    let file = work.scene.at("events.jsonl");
    fs::write(&file, &work.events).unwrap();
    let options: &[&str] = &[];
    ended(
        "import",
        (&file, options),
        || work.place(),
        |to, _, output| {
            let is_store = to.join("format").exists();
            if is_store {
                assert_eq!(lines(&ok("verify", to, &["--json"]))[0]["ok"], true);
                let pending = &lines(&ok("info", to, &["--json"]))[0]["pending_commits"];
                let there = text(&run("export", to, &[]).stdout);
                assert!(work.events.starts_with(&there), "other events came first");
                assert_eq!(
                    there.lines().count() % 10,
                    0,
                    "half an append, {pending} pending"
                );
                ok("import", to, &[file.to_str().unwrap(), "--into-existing"]);
            } else {
                assert!(!output.status.success());
                // Nothing of a store was made that would have to be kept.
                let _ = fs::remove_dir_all(to);
                ok("import", to, &[file.to_str().unwrap()]);
            }
            work.assert_same(to);
        },
    );
}

#[test]
fn an_index_that_is_not_made_whole_is_made_again_and_no_event_is_touched() {
    let work = Work::new(400);
    let copy = || {
        let to = work.place();
        common::copy(&work.store, &to);
        to
    };
    ended(
        "rebuild-index",
        (&work.store, &["--yes"]),
        copy,
        |to, _, _| {
            work.assert_same(to);
            ok("rebuild-index", to, &["--yes"]);
            ok("verify", to, &["--index"]);
            work.assert_same(to);
        },
    );
}
