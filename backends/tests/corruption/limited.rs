//! A process that uses a forged store under a limit of memory and of time.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use tidelog_backends::{SledStore, restore_backup};
use tidelog_core::*;

use crate::image::{Image, open};
use crate::sweep::{self, Random};
use crate::tools::{self, read_all};

/// Set for the child: what to do, and where.
pub const CHILD: &str = "TIDELOG_TEST_LENGTHS";
/// KiB of address space: some hundred MiB above what an honest store takes.
const ADDRESS_SPACE: &str = "786432";
/// Longer is a hang.
const PATIENCE: Duration = Duration::from_secs(60);

/// One forged store, and what it is called.
pub struct Case {
    name: String,
    forge: Box<dyn Fn(&Path)>,
}

pub fn case(name: impl Into<String>, forge: impl Fn(&Path) + 'static) -> Case {
    Case {
        name: name.into(),
        forge: Box::new(forge),
    }
}

/// What the child does with a forged store: everything.
pub fn child(what: &str) {
    let (word, dir) = what.split_once(' ').unwrap();
    let dir = PathBuf::from(dir);
    let dir = if word == "restore" {
        let to = dir.with_file_name("restored");
        match restore_backup(&dir, &to) {
            Ok(()) => to,
            Err(error) => return println!("said: refused, {error}"),
        }
    } else {
        dir
    };
    match open(&dir) {
        Ok(store) => println!("said: opened, {}", use_all(&store)),
        Err(error) => println!("said: refused, {error}"),
    }
}

/// Reads, verifies and appends in every way; answers the first damage met.
fn use_all(store: &SledStore) -> String {
    let face = store.blocking();
    let mut met = Vec::new();
    let mut note = |done: Result<(), Error>| match done {
        Ok(()) => {}
        Err(error @ (Error::Damaged { .. } | Error::Refused { .. })) => met.push(error.to_string()),
        Err(error) => panic!("not a typed damage: {error:?}"),
    };
    note(read_all(store).map(drop));
    for (n, id) in (0..).zip(["0", "1", "2", "3", "4", "5", "6", "new"]) {
        let stream = tools::stream(id);
        note(tools::read_stream(store, &stream).map(drop));
        note(face.head(&stream).map(drop));
        note(face.find_event(&stream, tools::id(1)).map(drop));
        note(face.read_snapshot(&stream).map(drop));
        let events = vec![tools::event(1 << 40 | n, 50)];
        note(
            face.append(AppendBatch::new(stream, ExpectedVersion::Any, events))
                .map(drop),
        );
    }
    note(store.verify().map(drop));
    note(store.rebuild_index());
    note(store.verify().map(drop));
    store.close_blocking().unwrap();
    met.first().cloned().unwrap_or_default()
}

/// Runs the child under a limit of memory and of time; what it said.
fn run(word: &str, dir: &Path) -> Result<String, String> {
    let test = std::env::current_exe().unwrap();
    let mut child = Command::new("sh")
        .args([
            "-c",
            "ulimit -v \"$1\"; shift; exec \"$@\"",
            "sh",
            ADDRESS_SPACE,
        ])
        .arg(test)
        .args(["--exact", "child_uses_a_forged_store", "--nocapture"])
        .env(CHILD, format!("{word} {}", dir.display()))
        .env("MALLOC_ARENA_MAX", "2")
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let started = Instant::now();
    while child.try_wait().unwrap().is_none() {
        if started.elapsed() > PATIENCE {
            child.kill().unwrap();
            child.wait().unwrap();
            return Err("it hangs".into());
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    let output = child.wait_with_output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    let ours = errors
        .lines()
        .find(|line| line.contains("panicked at") && !line.contains("sled-0.34"));
    if !output.status.success() || ours.is_some() {
        return Err(format!("{}: {errors}", output.status));
    }
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let said = text.lines().find_map(|line| line.split_once("said: "));
    said.map(|(_, said)| said.to_owned()).ok_or(text)
}

/// Runs the cases (in the bounded sweep some of them) over copies of `from`, and fails with all that
/// went wrong.
pub fn run_all(image: &Image, word: &str, from: &Path, mut cases: Vec<Case>) {
    if !sweep::is_full() {
        let seed = sweep::seed();
        eprintln!("TIDELOG_SEED={seed}");
        let mut random = Random(seed);
        cases.retain(|_| random.one_in(5));
    }
    let dir = image.dir();
    tools::put_back(from, &dir);
    let honest = run(word, &dir).unwrap();
    assert_eq!(honest, "opened, ", "an honest store within the same limit");
    let (mut wrong, mut refused, count) = (Vec::new(), 0, cases.len());
    for Case { name, forge } in cases {
        tools::put_back(from, &dir);
        let _ = fs::remove_dir_all(dir.with_file_name("restored"));
        forge(&dir);
        match run(word, &dir) {
            Ok(said) => {
                refused += u32::from(said.starts_with("refused"));
                let said: String = said
                    .replace(&dir.display().to_string(), "")
                    .chars()
                    .take(150)
                    .collect();
                eprintln!("{name}: {said}");
            }
            Err(why) => wrong.push(format!("{name}: {why}")),
        }
    }
    eprintln!("{count} forged stores, {refused} refused at once");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
