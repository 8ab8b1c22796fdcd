//! The table of what can fail, in ARCHITECTURE.md, names tests that are there.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

/// Rows of the table, each by its cells.
fn rows(architecture: &str) -> Vec<Vec<String>> {
    let (_, part) = architecture.split_once("\n## What can fail\n").unwrap();
    let part = part.split("\n## ").next().unwrap();
    let rows = part.lines().filter(|line| line.starts_with("| "));
    let cells = |row: &str| {
        let cells = row.trim_matches('|').split(" | ");
        cells.map(|cell| cell.trim().to_owned()).collect()
    };
    rows.map(cells).collect()
}

/// Names of all tests below `folder`.
fn tests(folder: &Path, into: &mut BTreeSet<String>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if path.is_dir() {
            if name != "target" && !name.starts_with('.') {
                tests(&path, into);
            }
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = fs::read_to_string(&path).unwrap();
            let mut lines = text.lines().map(str::trim);
            while let Some(line) = lines.next() {
                if line != "#[test]" && !line.starts_with("#[tokio::test") {
                    continue;
                }
                let function = lines.find_map(|line| line.split_once("fn "));
                let name = function.unwrap().1.split(['(', '<']).next().unwrap();
                into.insert(name.to_owned());
            }
        }
    }
}

#[test]
fn every_row_of_what_can_fail_is_shown_by_a_test_that_is_there() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let rows = rows(&fs::read_to_string(root.join("ARCHITECTURE.md")).unwrap());
    assert!(rows.len() > 10, "{rows:?}");
    let mut known = BTreeSet::new();
    for folder in ["core", "backends", "sync", "examples"] {
        tests(&root.join(folder), &mut known);
    }
    assert!(known.len() > 500, "{}", known.len());
    for row in &rows[1..] {
        assert_eq!(row.len(), 4, "{row:?}");
        let mut named = row[3].split('`').skip(1).step_by(2).peekable();
        assert!(named.peek().is_some(), "no test shows it: {row:?}");
        for name in named {
            assert!(known.contains(name), "there is no test {name}: {row:?}");
        }
    }
}
