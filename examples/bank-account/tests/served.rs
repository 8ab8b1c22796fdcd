//! `serve --config FILE` with a real replica and a real Kafka: how far they are, what they refuse, and
//! the traces of requests that reach them.

#![cfg(unix)]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use std::fs::File;
use std::path::PathBuf;
use std::time::Instant;

use serde_json::Value;
use tidelog::{KeyspaceReplication, ScyllaConfig, ScyllaStore};

#[path = "serve/http.rs"]
#[allow(dead_code, reason = "the tests of the routes use it all")]
mod http;
#[path = "serve/service.rs"]
#[allow(dead_code, reason = "the tests of the routes use it all")]
mod service;

#[path = "common/browser.rs"]
mod chromium;
mod common;
#[path = "../../../sync/tests/tools/plain.rs"]
mod plain;
#[allow(dead_code, reason = "shared with other tests")]
#[path = "../../../sync/tests/tools/topics.rs"]
mod topics;
use service::{PATIENCE, Service, services};

/// A keyspace and topics of a test's own, at the servers that all tests share.
struct Servers {
    scylla: String,
    kafka: String,
    keyspace: String,
    prefix: String,
    dir: tempfile::TempDir,
}

impl Servers {
    async fn of(test: &str) -> Option<Self> {
        let (scylla, kafka) = (services::scylla()?, services::kafka()?);
        let keyspace = plain::keyspace(test);
        let config = ScyllaConfig::new([&scylla]).keyspace(&keyspace);
        let config = config.replication(KeyspaceReplication::Simple(1));
        ScyllaStore::migrate(config).await.unwrap();
        let servers = Self {
            scylla,
            kafka,
            keyspace,
            prefix: format!("{}.", topics::unique(test)),
            dir: tempfile::tempdir().unwrap(),
        };
        // Enough for all that is short.
        for (name, limit) in [("BankAccount", "1200"), ("Transfer", "100000")] {
            let topic = format!("{}{name}", servers.prefix);
            topics::create(&servers.kafka, &topic, 2, &[("max.message.bytes", limit)]);
        }
        let origins = format!("{}_origins", servers.prefix);
        topics::create(
            &servers.kafka,
            &origins,
            1,
            &[("cleanup.policy", "compact")],
        );
        Some(servers)
    }

    /// A file that says where the log goes.
    fn config(&self, name: &str, scylla: &str, kafka: &str) -> PathBuf {
        let file = self.dir.path().join(name);
        let text = format!(
            "[scylla]\ncontact_points = [\"{scylla}\"]\nkeyspace = \"{}\"\n[kafka]\nbrokers = [\"{kafka}\"]\ntopic_prefix = \"{}\"\n",
            self.keyspace, self.prefix
        );
        std::fs::write(&file, text).unwrap();
        file
    }

    fn store(&self) -> PathBuf {
        self.dir.path().join("bank")
    }

    async fn drop(self) {
        let all = ["BankAccount", "Transfer", "_origins"];
        let all = all.map(|name| format!("{}{name}", self.prefix));
        topics::delete(&self.kafka, &all.each_ref().map(String::as_str));
        let session = plain::session(&self.scylla).await;
        plain::drop_keyspace(&session, &self.keyspace).await;
    }
}

/// Whether both servers have all that they take.
fn is_level(status: &Value) -> bool {
    ["replication", "publishing"].iter().all(|sink| {
        let far = &status[sink];
        far["lag_events"] == 0
            && far["settled"] == status["committed"]
            && far["state"] == "is level"
    })
}

/// The figure of this name and sink, once it is `value`.
fn metric_until(bank: &Service, name: &str, sink: &str, value: u64) {
    let (line, began) = (format!("{name}{{sink=\"{sink}\"}}"), Instant::now());
    while bank.metric(&line) != value {
        assert!(began.elapsed() < PATIENCE, "{line} does not become {value}");
    }
}

/// A name that no compression makes short: 800 bytes.
fn long_name() -> String {
    let letters = (0_u32..200).map(|number| 0x2_0000 + number * 7_919 % 42_000);
    letters
        .map(|letter| char::from_u32(letter).unwrap())
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bank_whose_servers_are_away_goes_on_and_says_what_they_refused_when_they_are_back() {
    let Some(servers) = Servers::of("served").await else {
        return;
    };
    let store = &servers.store();
    // Somebody else has such an account at the replica already.
    let there = servers.dir.path().join("there");
    let to = ["--scylla", &servers.scylla, "--keyspace", &servers.keyspace];
    let open = [
        &["open", "Carl", "--id", "carl", "--wait", "replicated"],
        &to[..],
    ];
    common::ok(&there, &open.concat());

    let nowhere = format!("127.0.0.1:{}", services::free_port());
    let away = servers.config("away.toml", &nowhere, &nowhere);
    let mut bank = Service::start_to_come_back(store, &["--config", away.to_str().unwrap()]);
    for (id, holder) in [
        ("ada", "Ada"),
        ("carl", "Another Carl"),
        ("long", &*long_name()),
    ] {
        bank.open(id, holder);
    }
    let last = bank.deposit("ada", "5");
    // It is ready for whoever asks: what it answers is on its own disk.
    bank.until("/health/ready", |ready| ready["status"] == "ready");
    let waits = |status: &Value| {
        ["replication", "publishing"].iter().all(|sink| {
            let far = &status[sink];
            far["lag_events"] == last && far["state"].as_str().unwrap().starts_with("tries again")
        })
    };
    let status = bank.until("/v1/status", waits);
    assert!(
        status["replication"]["lag_seconds"].as_f64().unwrap() > 0.0,
        "{status}"
    );
    for sink in ["scylla", "kafka"] {
        metric_until(&bank, "tidelog_sink_lag_events", sink, last);
    }

    let there = servers.config("there.toml", &servers.scylla, &servers.kafka);
    let there = there.to_str().unwrap();
    let listen = bank.address.to_string();
    let scripts = chromium::scripts("the page beside servers was not tried in a browser");
    let mut restart = || {
        bank.kill();
        bank = Service::start_with(store, &["--listen", &listen, "--config", there]);
    };
    match scripts {
        None => restart(),
        Some(scripts) => {
            let url = format!("http://{listen}");
            let looks = chromium::drive(&scripts.join("sinks.mjs"), &url, restart);
            assert_eq!(looks, 8);
        }
    }
    let status = bank.until("/v1/status", is_level);
    let parked = status["parked"].as_array().unwrap().iter();
    let parked = parked.map(|one| {
        let part = |name: &str| one[name].as_str().unwrap();
        (part("by"), part("stream"), part("reason"))
    });
    let [replica, held, refused] = parked.collect::<Vec<_>>()[..] else {
        panic!("{status}");
    };
    assert_eq!(
        (replica.0, replica.1),
        ("replication", "BankAccount/carl"),
        "{status}"
    );
    assert!(replica.2.contains("another origin's event"), "{status}");
    // What the replica has not, Kafka is not told.
    assert_eq!(
        (held.0, held.1),
        ("publishing", "BankAccount/carl"),
        "{status}"
    );
    assert_eq!(
        (refused.0, refused.1),
        ("publishing", "BankAccount/long"),
        "{status}"
    );
    assert!(refused.2.contains("large"), "{status}");
    assert_eq!(status["parked_count"], 3, "{status}");
    // What Kafka is not told since the replica has not got it counts there, too.
    for (sink, parked) in [("scylla", 1), ("kafka", 2)] {
        metric_until(&bank, "tidelog_sink_lag_events", sink, 0);
        metric_until(&bank, "tidelog_sink_parked_streams", sink, parked);
    }
    bank.until("/health/ready", |ready| ready["status"] == "ready");
    // What is parked holds up nothing else, here or there.
    bank.deposit("carl", "1");
    let last = bank.deposit("ada", "1");
    let settled = |status: &Value| is_level(status) && status["committed"] == last;
    bank.until("/v1/status", settled);
    let published = topics::read(&servers.kafka, &format!("{}BankAccount", servers.prefix));
    let of_ada = published.values().flatten().filter(|message| {
        topics::header(message, "ce_subject").as_deref() == Some("BankAccount/ada")
    });
    assert_eq!(of_ada.count(), 3);
    bank.tell_to_end();
    assert!(bank.ended().success());
    servers.drop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_trace_of_a_request_reaches_the_replica_and_kafka() {
    let Some(servers) = Servers::of("traced").await else {
        return;
    };
    let config = servers.config("there.toml", &servers.scylla, &servers.kafka);
    let told = servers.dir.path().join("told");
    let args = [
        "--listen",
        "127.0.0.1:0",
        "--spans",
        "--config",
        config.to_str().unwrap(),
    ];
    let mut command = service::command(&servers.store(), &args);
    command.env("RUST_LOG", "info,tidelog=debug");
    command.stderr(File::create(&told).unwrap());
    let mut bank = Service::of(command).unwrap();
    bank.open("ada", "Ada");
    let trace = "4bf92f3577b34da6a3ce929d0e0e4736";
    let parent = format!("00-{trace}-00f067aa0ba902b7-01");
    let asked = |headers: &[(&str, &str)]| {
        let done = bank.post("/v1/accounts/ada/deposits", headers, r#"{"amount":"1"}"#);
        assert_eq!(done.status, 201, "{done:?}");
        done.json()["event"]["position"].as_u64().unwrap()
    };
    let traced = asked(&[("traceparent", &parent)]);
    // Of a condition it is the same way.
    let conditional = asked(&[("traceparent", &parent), ("if-match", "\"2\"")]);
    let untraced = asked(&[]);
    bank.until("/v1/status", |status| {
        is_level(status) && status["committed"] == untraced
    });
    bank.tell_to_end();
    assert!(bank.ended().success());

    let told = std::fs::read_to_string(&told).unwrap();
    let ended = |span: &str, position: u64| {
        let name = format!("{span}{{");
        let position = format!("position={position}");
        let mut found = told.lines().filter_map(|line| {
            let (of, rest) = line.split_once(&name)?.1.split_once("}: ")?;
            let is_it = of.split(' ').any(|field| field == position);
            (is_it && rest.contains("close")).then(|| of.to_owned())
        });
        found
            .next()
            .unwrap_or_else(|| panic!("no {span} of {position} in\n{told}"))
    };
    for span in ["request", "replicate", "publish"] {
        for position in [traced, conditional] {
            let of = ended(span, position);
            assert!(of.contains(&format!("trace=\"{trace}\"")), "{of}");
        }
        // Without one, its position leads from one to the other.
        assert!(!ended(span, untraced).contains("trace"), "{span}");
    }
    for position in [traced, conditional] {
        assert!(ended("publish", position).contains("outcome=\"delivered\""));
        assert!(ended("publish", position).contains(&parent));
        assert!(ended("replicate", position).contains(&parent));
    }
    servers.drop().await;
}
