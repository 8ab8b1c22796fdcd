//! The bank with `--scylla`: what it shows and what stands at the server, by plain CQL.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use std::path::Path;

use tidelog_backends::scylla_driver::client::session::Session;

use bank_account::query::TotalsAnswer;

mod common;
use common::{EVENTS, TOTALS, data, example, ok};
#[path = "common/server.rs"]
mod server;
use server::totals;
#[path = "../../../sync/tests/tools/plain.rs"]
mod plain;
#[allow(dead_code, reason = "nothing is hurt here")]
#[path = "../../../sync/tests/tools/services.rs"]
mod services;

async fn count(session: &Session, keyspace: &str, table: &str) -> u64 {
    let text = format!("SELECT count(*) FROM {keyspace}.{table}");
    let found = session.query_unpaged(text, ()).await.unwrap();
    let (count,) = found
        .into_rows_result()
        .unwrap()
        .single_row::<(i64,)>()
        .unwrap();
    count.unsigned_abs()
}

#[tokio::test]
async fn an_import_stands_at_the_server_as_it_stands_here() {
    let Some(server) = services::scylla() else {
        return;
    };
    let session = plain::session(&server).await;
    let keyspace = plain::keyspace("bank");
    let dir = tempfile::tempdir().unwrap();
    let store = &dir.path().join("bank");
    let to = ["--scylla", &server, "--keyspace", &keyspace, "--migrate"];
    let said = ok(
        store,
        &[&["import", data().to_str().unwrap()], &to[..]].concat(),
    );
    assert!(said.contains("replication  is level"), "{said}");
    assert_eq!(totals(&session, &keyspace).await, TOTALS);
    assert_eq!(count(&session, &keyspace, "events_by_stream").await, EVENTS);
    assert_eq!(count(&session, &keyspace, "log_by_origin").await, EVENTS);
    let status = ok(store, &[&["replication", "status"], &to[..]].concat());
    assert!(status.contains("replication  is level"), "{status}");
    // The same from a file, which the environment may contradict.
    let file = dir.path().join("till.toml");
    let text = format!("[scylla]\ncontact_points = [\"{server}\"]\nkeyspace = \"nowhere\"\n");
    std::fs::write(&file, text).unwrap();
    let args = ["status", "--config", file.to_str().unwrap()];
    let mut command = common::bank(store, &args);
    let output = command.env("TIDELOG_SCYLLA_KEYSPACE", &keyspace).output();
    let status = String::from_utf8(output.unwrap().stdout).unwrap();
    assert!(status.contains("93,149 of them safe"), "{status}");
    assert!(status.contains("replication  is level"), "{status}");
    // Nobody reads the environment unless told to.
    let mut command = common::bank(store, &["status"]);
    let output = command
        .env("TIDELOG_SCYLLA_CONTACT_POINTS", &server)
        .output();
    let status = String::from_utf8(output.unwrap().stdout).unwrap();
    assert!(!status.contains("replication"), "{status}");
    plain::drop_keyspace(&session, &keyspace).await;
}

fn bank(store: &Path, to: &[&str], args: &[&str]) -> String {
    ok(store, &[args, to].concat())
}

#[tokio::test]
async fn an_account_changed_by_two_tills_is_parked_and_either_side_can_be_kept() {
    let Some(server) = services::scylla() else {
        return;
    };
    let session = plain::session(&server).await;
    let keyspace = plain::keyspace("tills");
    let dir = tempfile::tempdir().unwrap();
    let (here, there) = (&dir.path().join("here"), &dir.path().join("there"));
    let to = ["--scylla", &server, "--keyspace", &keyspace, "--migrate"];
    for id in ["ada", "bob"] {
        // Offline, both.
        ok(here, &["open", "Holder", "--id", id]);
        ok(here, &["deposit", id, "10.00"]);
        ok(there, &["open", "Holder", "--id", id]);
        ok(there, &["deposit", id, "5.00"]);
    }
    ok(there, &["open", "Carl", "--id", "carl"]);
    bank(here, &to, &["show", "ada"]);
    let said = bank(there, &to, &["show", "carl"]);
    assert!(said.contains("parked       2 accounts"), "{said}");
    let parked = bank(there, &to, &["replication", "parked"]);
    for id in ["ada", "bob"] {
        let line = format!("{id}  from event 1: another origin's event");
        assert!(parked.contains(&line), "{parked}");
    }
    bank(there, &to, &["replication", "take-remote", "ada"]);
    assert!(ok(there, &["show", "ada"]).contains("balance  $10.00"));
    // The account is open there already, so opening it again is left out; the deposit is not.
    bank(there, &to, &["replication", "reissue", "bob"]);
    assert!(ok(there, &["show", "bob"]).contains("balance  $15.00"));
    let status = bank(there, &to, &["replication", "status"]);
    assert!(
        status.contains("is level") && !status.contains("parked"),
        "{status}"
    );
    let all = TotalsAnswer {
        accounts: 3,
        deposits: 3,
        deposited_cents: 2_500,
        cds: 0,
    };
    assert_eq!(totals(&session, &keyspace).await, all);
    plain::drop_keyspace(&session, &keyspace).await;
}

#[tokio::test]
async fn the_example_of_the_readme_runs() {
    let Some(server) = services::scylla() else {
        return;
    };
    let session = plain::session(&server).await;
    let migrated = tidelog::ScyllaStore::migrate(
        tidelog::ScyllaConfig::new([&server])
            .keyspace("shop")
            .replication(tidelog::KeyspaceReplication::Simple(1)),
    );
    migrated.await.unwrap();
    let dir = tempfile::tempdir().unwrap();
    assert_eq!(example(dir.path(), "distributed", &[&server]), "Live\n");
    plain::drop_keyspace(&session, "shop").await;
}
