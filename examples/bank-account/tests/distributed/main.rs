//! Two tills with half of the customers each, ScyllaDB (or Cassandra), Kafka, and a bank that listens.
//! Everything is killed, again and again; in the end all have the same sums, and a till whose disk is
//! gone comes back.
//!
//! With `TIDELOG_SWEEP=full` it is the whole file and six rounds of kills; otherwise a part of it and two.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use std::io::Write as _;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use bank_account::query::TotalsAnswer;
use tempfile::TempDir;
use tidelog::{EventLog as _, RestoreOptions, ScyllaConfig, Tidelog};

mod chaos;
#[path = "../common/mod.rs"]
mod common;
#[allow(dead_code, reason = "not all of it is asked")]
#[path = "../../../../sync/tests/tools/consumer.rs"]
mod consumer;
#[allow(dead_code, reason = "shared with other tests")]
#[path = "../../../../sync/tests/tools/plain.rs"]
mod plain;
mod processes;
mod random;
#[path = "../common/server.rs"]
mod server;
#[allow(dead_code, reason = "shared with other tests")]
#[path = "../../../../sync/tests/tools/services.rs"]
mod services;
#[allow(dead_code, reason = "shared with other tests")]
#[path = "../../../../sync/tests/tools/topics.rs"]
mod topics;

use chaos::Plan;
use common::{TOTALS, data, ok};
use consumer::{Checker, streams_of};
use processes::Process;
use services::Own;

const KEYSPACE: &str = "bank";
const TOPIC: &str = "bank.BankAccount";
const READER: &str = "reader";
/// Records that a till sends again after brokers have lost some.
const OVERLAP: u64 = 200;

/// Everything of one run.
struct Whole {
    dir: TempDir,
    /// The file in parts, one a round, with different customers.
    parts: Vec<PathBuf>,
    expected: TotalsAnswer,
    cassandra: Own,
    kafka: Own,
}

/// Not by `eprintln`, which a test that passes keeps to itself: what was done is the result.
fn say(text: &str) {
    let _ = writeln!(std::io::stderr(), "{text}");
}

impl Whole {
    fn begin(customers: usize, rounds: usize) -> Option<Self> {
        let dir = tempfile::tempdir().unwrap();
        // What a store without any of this makes of it.
        let alone = dir.path().join("alone");
        let of_round = |round| customers * round / rounds;
        let mut parts = Vec::new();
        for round in 0..rounds {
            let those = of_round(round) + 1..=of_round(round + 1);
            let part = dir.path().join(format!("part{round}.txt"));
            write_customers(&part, &those);
            ok(&alone, &["import", part.to_str().unwrap()]);
            parts.push(part);
        }
        let expected = totals(&alone);
        let path = Self {
            cassandra: Own::start()?,
            kafka: Own::kafka()?,
            dir,
            parts,
            expected,
        };
        for name in ["till1", "till2"] {
            path.write(&format!("{name}.toml"), &path.till(name));
        }
        Some(path)
    }

    fn till(&self, name: &str) -> String {
        let (cassandra, kafka) = (self.cassandra.address(), self.kafka.address());
        format!(
            r#"
[scylla]
contact_points = ["{cassandra}"]
keyspace = "{KEYSPACE}"
replication = "1"
migrate_at_connect = true

[replication]
name = "{name}"

[kafka]
brokers = ["{kafka}"]
topic_prefix = "bank."
overlap = {OVERLAP}
"#
        )
    }

    fn write(&self, name: &str, text: &str) {
        std::fs::write(self.dir.path().join(name), text).unwrap();
    }

    fn store(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn config(&self, name: &str) -> String {
        let file = self.dir.path().join(name).with_extension("toml");
        file.to_str().unwrap().to_owned()
    }

    fn import(&self, name: &'static str, part: &Path, customers: &str, pace: u32) -> Process {
        let (file, config) = (part.to_str().unwrap(), self.config(name));
        let pace = pace.to_string();
        let args = ["import", file, "--customers", customers, "--pace", &pace];
        let wait = ["--config", &config, "--wait", "published"];
        Process::start(name, &self.store(name), &[&args[..], &wait].concat())
    }

    fn events(&self) -> u64 {
        self.expected.accounts + self.expected.deposits
    }

    /// Makes what the reader's group needs.
    fn make_dead_letters(&self) {
        let make = ["--dead-letters", "6", "--until", "0"];
        let broker = self.kafka.address();
        ok(
            &self.store(READER),
            &[&["listen", &broker], &make[..]].concat(),
        );
    }

    /// The bank that hears of both tills, until it has so many events.
    fn listen(&self, until: u64) -> Process {
        let (broker, until) = (self.kafka.address(), until.to_string());
        let args = ["listen", &broker, "--until", &until];
        // The least that brokers take: so long a member that was killed keeps its partitions.
        let soon = ["--set", "session.timeout.ms=6000"];
        Process::start(READER, &self.store(READER), &[&args[..], &soon].concat())
    }
}

/// The file's lines of these customers.
fn write_customers(part: &Path, those: &RangeInclusive<usize>) {
    let all = std::fs::read_to_string(data()).unwrap();
    let is_wanted = |line: &&str| {
        let id = line.split_whitespace().next();
        id.is_some_and(|id| id.parse().is_ok_and(|id| those.contains(&id)))
    };
    let some: Vec<_> = all.lines().filter(is_wanted).collect();
    std::fs::write(part, some.join("\n") + "\n").unwrap();
}

fn totals(store: &Path) -> TotalsAnswer {
    let json = ok(store, &["report", "--json"]);
    let found: serde_json::Value = serde_json::from_str(&json).unwrap();
    let number = |name: &str| found[name].as_u64().unwrap();
    TotalsAnswer {
        accounts: number("accounts"),
        deposits: number("deposits"),
        deposited_cents: number("deposited_cents"),
        cds: number("cds"),
    }
}

async fn streams_in(store: &Path) -> consumer::Streams {
    let log = Tidelog::open(store).unwrap();
    let streams = streams_of(&log).await;
    log.close().await.unwrap();
    streams
}

fn sum(one: TotalsAnswer, other: TotalsAnswer) -> TotalsAnswer {
    TotalsAnswer {
        accounts: one.accounts + other.accounts,
        deposits: one.deposits + other.deposits,
        deposited_cents: one.deposited_cents + other.deposited_cents,
        cds: one.cds + other.cds,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_sums_are_the_same_everywhere_whatever_is_killed() {
    let (seed, entered) = (random::seed(), Instant::now());
    let mut random = random::Random(seed);
    let (customers, pace, plan) = if random::is_full() {
        let plan = Plan {
            rounds: 6,
            wait: (2_000, 3_000),
            pause: Duration::from_secs(5),
        };
        (usize::try_from(TOTALS.accounts).unwrap(), 170, plan)
    } else {
        let plan = Plan {
            rounds: 2,
            wait: (100, 500),
            pause: Duration::from_secs(1),
        };
        (1_500, 90, plan)
    };
    let Some(path) = Whole::begin(customers, plan.rounds) else {
        return;
    };
    if random::is_full() {
        assert_eq!(path.expected, TOTALS);
    }
    say(&format!(
        "both servers are there after {:.0?}",
        entered.elapsed()
    ));
    let (begun, events) = (Instant::now(), path.events());
    say(&format!("TIDELOG_SEED={seed}: {events} events"));
    // Nobody makes topics but who is told to.
    let config = path.config("till1");
    ok(
        &path.store("till1"),
        &[
            "publishing",
            "topics",
            "--config",
            &config,
            "--partitions",
            "6",
        ],
    );

    path.make_dead_letters();
    let mut reader = path.listen(events);
    for (round, part) in path.parts.iter().enumerate() {
        let mut till1 = path.import("till1", part, "odd", pace);
        let mut till2 = path.import("till2", part, "even", pace);
        let all = &mut [&mut till1, &mut till2, &mut reader];
        chaos::round(&plan, &mut random, &[&path.cassandra, &path.kafka], all);
        till1.end();
        till2.end();
        let round = round + 1;
        say(&format!("round {round} of {} is over", plan.rounds));
    }
    reader.end();
    assert!(reader.kills >= plan.rounds);
    say(&format!("all is over after {:.0?}", begun.elapsed()));

    let tills = ["till1", "till2"].map(|name| path.store(name));
    let logs = sum(totals(&tills[0]), totals(&tills[1]));
    assert_eq!(logs, path.expected, "the tills");
    let session = plain::session(&path.cassandra.address()).await;
    assert_eq!(
        server::totals(&session, KEYSPACE).await,
        path.expected,
        "the replica"
    );
    let mut streams = consumer::Streams::new();
    for till in &tills {
        streams.extend(streams_in(till).await);
    }
    let reader = path.store(READER);
    assert_eq!(totals(&reader), path.expected, "the reader");
    assert!(streams_in(&reader).await == streams, "the reader's log");
    let kafka = Checker::of(&path.kafka.address(), &[TOPIC]);
    kafka.assert_is(&streams);
    say(&format!(
        "{} messages in Kafka, {} of them doubles",
        kafka.messages, kafka.doubles
    ));
    for name in ["till1", "till2"] {
        let status = ok(
            &path.store(name),
            &["status", "--config", &path.config(name)],
        );
        assert!(!status.contains("parked"), "{status}");
        assert_eq!(status.matches("is level").count(), 2, "{status}");
    }
    a_disk_is_lost(&path, kafka.messages).await;
    say(&format!("the whole of it took {:.0?}", entered.elapsed()));
}

/// The first till is made again from the replica; it publishes nothing again that needs not be, and what
/// it records then arrives.
async fn a_disk_is_lost(path: &Whole, messages: usize) {
    let till = path.store("till1");
    let before = totals(&till);
    let log = Tidelog::open(&till).unwrap();
    let origin = log.store().identity().origin;
    log.close().await.unwrap();
    std::fs::remove_dir_all(&till).unwrap();
    let config = ScyllaConfig::new([path.cassandra.address()]).keyspace(KEYSPACE);
    let options = RestoreOptions::new().origin(origin);
    let report = tidelog::restore(config, options, &till).await.unwrap();
    assert_eq!(report.origin, origin);
    let verified = ok(&till, &["verify"]);
    assert!(verified.contains("no fault found"), "{verified}");
    assert_eq!(totals(&till), before);
    let config = path.config("till1");
    ok(
        &till,
        &[
            "deposit",
            "00001",
            "1.00",
            "--config",
            &config,
            "--wait",
            "published",
        ],
    );
    let now = Checker::of(&path.kafka.address(), &[TOPIC]);
    now.assert_in_order();
    let events = path.events() + 1;
    let deposited = usize::try_from(events);
    assert_eq!(
        now.events(),
        deposited.unwrap(),
        "what it recorded then has arrived"
    );
    let again = now.messages - messages - 1;
    let most = usize::try_from(OVERLAP).unwrap();
    assert!(again <= most, "{again} messages were published again");
    path.listen(events).end();
    let expected = TotalsAnswer {
        deposits: path.expected.deposits + 1,
        deposited_cents: path.expected.deposited_cents + 100,
        ..path.expected
    };
    assert_eq!(totals(&path.store(READER)), expected, "the reader");
    say(&format!(
        "after the restore {again} messages were published again"
    ));
}
