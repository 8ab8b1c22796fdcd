//! The session in the README, replayed word for word.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use std::fs;
use std::process::Command;

const SALES: &str = "backends/cli/tests/data/sales.jsonl";

/// Each command of the session, with what it printed.
fn session() -> Vec<(String, String)> {
    let readme = concat!(env!("CARGO_MANIFEST_DIR"), "/../../README.md");
    let readme = fs::read_to_string(readme).unwrap();
    let (_, chapter) = readme.split_once("## On the command line\n").unwrap();
    let (_, rest) = chapter
        .split_once("```console\n")
        .expect("a session in the README");
    let (session, _) = rest.split_once("```").unwrap();
    let mut steps: Vec<(String, String)> = Vec::new();
    for line in session.lines() {
        match line.strip_prefix("$ ") {
            Some(command) => steps.push((command.to_owned(), String::new())),
            None => {
                let (_, printed) = steps.last_mut().unwrap();
                printed.push_str(line);
                printed.push('\n');
            }
        }
    }
    steps
}

#[test]
fn the_session_of_the_readme_goes_as_it_stands_there() {
    let dir = tempfile::tempdir().unwrap();
    let sales = dir.path().join(SALES);
    fs::create_dir_all(sales.parent().unwrap()).unwrap();
    fs::copy(
        concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/sales.jsonl"),
        sales,
    )
    .unwrap();
    let steps = session();
    assert!(steps.len() >= 5, "{steps:?}");
    for (command, wanted) in steps {
        let words: Vec<_> = command.split(' ').collect();
        assert_eq!(words[0], "tidelog", "{command}");
        let output = Command::new(env!("CARGO_BIN_EXE_tidelog"))
            .args(&words[1..])
            .current_dir(dir.path())
            .output()
            .unwrap();
        let printed = [output.stdout, output.stderr].concat();
        assert_eq!(String::from_utf8(printed).unwrap(), wanted, "{command}");
    }
}
