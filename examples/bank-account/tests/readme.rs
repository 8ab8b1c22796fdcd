//! The examples of the README run, are short, and stand in the README as they are.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod common;
use common::example;

const SOURCE: &str = include_str!("../examples/readme.rs");
const VISITS: &str = include_str!("../examples/visits.rs");
/// Runs in `scylla.rs`, since it needs a server.
const DISTRIBUTED: &str = include_str!("../examples/distributed.rs");
/// Runs in `kafka.rs`.
const PUBLISHED: &str = include_str!("../examples/published.rs");

#[test]
fn the_example_runs_and_goes_on_where_it_was() {
    let dir = tempfile::tempdir().unwrap();
    assert_eq!(example(dir.path(), "readme", &[]), "Some(Page(3))\n");
    assert_eq!(example(dir.path(), "readme", &[]), "Some(Page(6))\n");
}

#[test]
fn the_read_model_goes_on_where_it_was() {
    let dir = tempfile::tempdir().unwrap();
    assert_eq!(example(dir.path(), "visits", &[]), "[(\"home\", 1)]\n");
    assert_eq!(example(dir.path(), "visits", &[]), "[(\"home\", 2)]\n");
}

#[test]
fn the_examples_are_short() {
    assert!(SOURCE.lines().count() < 40);
    assert!(VISITS.lines().count() <= 30);
    assert!(DISTRIBUTED.lines().count() <= 20);
    assert!(PUBLISHED.lines().count() <= 20);
}

#[test]
fn the_readme_shows_the_examples_word_for_word() {
    let readme = concat!(env!("CARGO_MANIFEST_DIR"), "/../../README.md");
    let readme = std::fs::read_to_string(readme).expect("README.md at the top of the repository");
    for (name, source) in [
        ("readme", SOURCE),
        ("visits", VISITS),
        ("distributed", DISTRIBUTED),
        ("published", PUBLISHED),
    ] {
        assert!(
            readme.contains(source.trim_end()),
            "README.md must contain examples/bank-account/examples/{name}.rs as it is"
        );
    }
}
