//! The bank with `--kafka`: what it shows, and what stands there, by librdkafka alone.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use std::path::{Path, PathBuf};

use tidelog::Tidelog;

mod common;
use common::{data, example, ok};
#[allow(dead_code, reason = "not all of it is asked")]
#[path = "../../../sync/tests/tools/consumer.rs"]
mod consumer;
use consumer::{Checker, Streams, streams_of};
#[allow(dead_code, reason = "nothing is hurt here")]
#[path = "../../../sync/tests/tools/services.rs"]
mod services;
#[allow(dead_code, reason = "shared with other tests")]
#[path = "../../../sync/tests/tools/topics.rs"]
mod topics;

/// The file's first lines.
fn some_lines(dir: &Path) -> PathBuf {
    let all = std::fs::read_to_string(data()).unwrap();
    let some: Vec<_> = all.lines().take(2_001).collect();
    let file = dir.join("some.txt");
    std::fs::write(&file, some.join("\n") + "\n").unwrap();
    file
}

async fn streams(store: &Path) -> Streams {
    let log = Tidelog::open(store).unwrap();
    let streams = streams_of(&log).await;
    log.close().await.unwrap();
    streams
}

#[tokio::test]
async fn an_import_stands_in_kafka_as_it_stands_here() {
    let Some(broker) = services::kafka() else {
        return;
    };
    let prefix = format!("{}.", topics::unique("bank"));
    let topic = format!("{prefix}BankAccount");
    let dir = tempfile::tempdir().unwrap();
    let (store, file) = (&dir.path().join("bank"), some_lines(dir.path()));
    let to = ["--kafka", &broker, "--topic-prefix", &prefix];
    let make = ["publishing", "topics", "--partitions", "6"];
    let made = ok(store, &[&make[..], &to].concat());
    assert!(made.contains(&format!("made {topic}")), "{made}");
    let again = ok(store, &[&make[..], &to].concat());
    assert!(!again.contains("made"), "{again}");

    let import = [&["import", file.to_str().unwrap()], &to[..]].concat();
    let said = ok(store, &import);
    assert!(said.contains("publishing   is level"), "{said}");
    let first = Checker::of(&broker, &[&topic]);
    first.assert_is(&streams(store).await);
    assert!(first.events() > 2_500, "{}", first.events());

    // What was published is not published again, and what comes is waited for if that is asked.
    ok(store, &import);
    let wait = ["deposit", "00001", "1.00", "--wait", "published"];
    ok(store, &[&wait[..], &to].concat());
    let then = Checker::of(&broker, &[&topic]);
    then.assert_is(&streams(store).await);
    assert_eq!(then.events(), first.events() + 1);
    let status = ok(store, &[&["status"], &to[..]].concat());
    assert!(status.contains("publishing   is level"), "{status}");
    assert!(!status.contains("parked"), "{status}");

    // All of it once more, by the same ids.
    ok(store, &[&["publishing", "republish"], &to[..]].concat());
    let twice = Checker::of(&broker, &[&topic]);
    twice.assert_is(&streams(store).await);
    assert!(twice.doubles >= then.events(), "{} doubles", twice.doubles);
    let all = ["BankAccount", "Transfer", "_origins"];
    let all = all.map(|name| format!("{prefix}{name}"));
    topics::delete(&broker, &all.each_ref().map(String::as_str));
}

#[tokio::test]
async fn the_example_of_the_readme_runs() {
    let Some(broker) = services::kafka() else {
        return;
    };
    let dir = tempfile::tempdir().unwrap();
    assert_eq!(example(dir.path(), "published", &[&broker]), "Live\n");
    topics::delete(&broker, &["shop.Till", "shop._origins"]);
}
