//! A new store survives a power cut by its whole path: each directory that was made is synced into the
//! one that holds it, for relative paths too.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test that fails shall stop"
)]

mod tools;

use std::path::Path;

use tidelog_backends::SledStore;
use tools::strace::{self, Call};

const CHILD: &str = "TIDELOG_TEST_CREATE";

/// Not a test by itself: what runs under `strace`. `PLACE` is a directory to work in.
#[test]
fn child_creates() {
    let Some(place) = std::env::var_os(CHILD) else {
        return;
    };
    std::env::set_current_dir(&place).unwrap();
    strace::mark("relative");
    SledStore::open("a/b/store").unwrap();
    strace::mark("one name");
    SledStore::open("alone").unwrap();
    strace::mark("absolute");
    SledStore::open(Path::new(&place).join("c/store")).unwrap();
    strace::mark("end");
}

/// Holds that between these marks the directory `made`, named so in the call that makes it, was made
/// and then `parent` synced.
fn assert_synced(calls: &[Call], marks: [&str; 2], made: &Path, parent: &Path) {
    let at = |mark| {
        let mut calls = calls.iter();
        calls.position(|call| call.marked() == Some(mark)).unwrap()
    };
    let between = &calls[at(marks[0])..at(marks[1])];
    let made_by = format!("mkdir(\"{}\", 0700)", made.display());
    let is_made = |call: &Call| call.text.starts_with(&made_by) && call.text.ends_with(" = 0");
    let made_at = between.iter().position(is_made);
    let made_at = made_at.unwrap_or_else(|| panic!("no {made_by} in {between:#?}"));
    let synced = format!("<{}>)", parent.display());
    let is_synced = |call: &Call| {
        let returned = call.text.ends_with("= 0");
        call.text.starts_with("fsync(") && call.text.contains(&synced) && returned
    };
    assert!(
        between[made_at..].iter().any(is_synced),
        "{} is not synced after {made_by}: {between:#?}",
        parent.display()
    );
}

#[test]
fn each_directory_made_for_a_store_is_synced_into_its_parent() {
    let dir = tempfile::tempdir().unwrap();
    let place = dir.path().canonicalize().unwrap();
    let text = place.to_str().unwrap();
    let Some(calls) = strace::run("child_creates", (CHILD, text), "mkdir,fsync,write") else {
        return;
    };
    let relative = ["relative", "one name"];
    assert_synced(&calls, relative, Path::new("a"), &place);
    assert_synced(&calls, relative, Path::new("a/b"), &place.join("a"));
    assert_synced(&calls, relative, Path::new("a/b/store"), &place.join("a/b"));
    assert_synced(
        &calls,
        relative,
        Path::new("a/b/store/log"),
        &place.join("a/b/store"),
    );
    assert_synced(&calls, ["one name", "absolute"], Path::new("alone"), &place);
    let absolute = ["absolute", "end"];
    assert_synced(&calls, absolute, &place.join("c"), &place);
    assert_synced(&calls, absolute, &place.join("c/store"), &place.join("c"));
}
