//! The servers that the project starts for its tests, and what was seen of them.

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use tidelog_backends::scylla_driver::client::session::Session;
use tidelog_backends::scylla_driver::value::{CqlValue, Row};
use tokio::task::JoinSet;

use crate::services::{self, Own};
use crate::{plain, proxy::Proxy, till};

async fn table(session: &Session, keyspace: &str) {
    plain::create(session, keyspace).await;
    let text = format!("CREATE TABLE {keyspace}.rows (id bigint PRIMARY KEY, value bigint)");
    session.query_unpaged(text, ()).await.unwrap();
}

async fn ids(session: &Session, keyspace: &str) -> BTreeSet<i64> {
    let text = format!("SELECT id FROM {keyspace}.rows");
    let found = session.query_unpaged(text, ()).await.unwrap();
    let rows = found.into_rows_result().unwrap();
    let rows = rows.rows::<(i64,)>().unwrap();
    rows.map(|row| row.unwrap().0).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_server_keeps_its_rows() {
    let Some(server) = Own::start() else { return };
    let session = Arc::new(plain::session(&server.address()).await);
    let keyspace = plain::keyspace("kept");
    table(&session, &keyspace).await;
    let insert = format!("INSERT INTO {keyspace}.rows (id, value) VALUES (?, ?) IF NOT EXISTS");
    let insert = session.prepare(insert).await.unwrap();
    let killed = Arc::new(AtomicBool::new(false));
    let written = Arc::new(AtomicUsize::new(0));
    let mut writers = JoinSet::new();
    for writer in 0..8_i64 {
        let (session, insert, killed) = (session.clone(), insert.clone(), killed.clone());
        let written = written.clone();
        writers.spawn(async move {
            let (mut acknowledged, mut unanswered) = (BTreeSet::new(), BTreeSet::new());
            for number in 0.. {
                let id = writer * 1_000_000 + number;
                match session.execute_unpaged(&insert, (id, number)).await {
                    Ok(_) => {
                        acknowledged.insert(id);
                        written.fetch_add(1, Ordering::Relaxed);
                    }
                    Err(_) => drop(unanswered.insert(id)),
                }
                if killed.load(Ordering::Relaxed) {
                    break;
                }
            }
            (acknowledged, unanswered)
        });
    }
    let begun = Instant::now();
    while written.load(Ordering::Relaxed) < 500 {
        assert!(begun.elapsed() < till::PATIENCE, "{written:?} rows");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let server = tokio::task::spawn_blocking(move || {
        server.kill();
        server
    });
    let server = server.await.unwrap();
    killed.store(true, Ordering::Relaxed);
    let (mut acknowledged, mut unanswered) = (BTreeSet::new(), BTreeSet::new());
    for (done, not) in writers.join_all().await {
        acknowledged.extend(done);
        unanswered.extend(not);
    }
    tokio::task::block_in_place(|| server.start_again());
    let there = ids(&plain::session(&server.address()).await, &keyspace).await;
    assert!(acknowledged.len() >= 500, "{} rows", acknowledged.len());
    let lost: Vec<_> = acknowledged.difference(&there).collect();
    assert!(lost.is_empty(), "{lost:?} were acknowledged");
    // What was not answered may be there: whoever writes has to look.
    let more: Vec<_> = there.difference(&acknowledged).collect();
    assert!(more.iter().all(|id| unanswered.contains(id)), "{more:?}");
}

#[tokio::test]
async fn an_errored_write_may_have_been_applied() {
    let Some(server) = services::scylla() else {
        return;
    };
    let session = plain::session(&server).await;
    let keyspace = plain::keyspace("errored");
    table(&session, &keyspace).await;
    let proxy = Proxy::start(&server);
    let through = plain::session(&proxy.address()).await;
    let insert = format!("INSERT INTO {keyspace}.rows (id, value) VALUES (1, 1) IF NOT EXISTS");
    let mut insert = through.prepare(insert).await.unwrap();
    insert.set_request_timeout(Some(Duration::from_secs(3)));
    proxy.drop_replies(true);
    let answer = through.execute_unpaged(&insert, ()).await;
    assert!(answer.is_err(), "{answer:?}");
    // The server may be slower than whoever did not wait for it.
    let begun = Instant::now();
    while ids(&session, &keyspace).await != BTreeSet::from([1]) {
        assert!(begun.elapsed() < till::PATIENCE, "it is never applied");
    }
    plain::drop_keyspace(&session, &keyspace).await;
}

#[tokio::test]
async fn not_applied_is_read_by_name() {
    let Some(server) = services::scylla() else {
        return;
    };
    let session = plain::session(&server).await;
    let keyspace = plain::keyspace("applied");
    table(&session, &keyspace).await;
    let insert = format!("INSERT INTO {keyspace}.rows (id, value) VALUES (1, 1) IF NOT EXISTS");
    let mut shapes = Vec::new();
    for _ in 0..2 {
        let found = session.query_unpaged(insert.as_str(), ()).await.unwrap();
        let rows = found.into_rows_result().unwrap();
        let place = rows
            .column_specs()
            .iter()
            .position(|column| column.name() == "[applied]");
        let row: Row = rows.first_row().unwrap();
        let applied = row.columns[place.unwrap()].clone();
        shapes.push((rows.column_specs().len(), applied));
    }
    let [(_, first), (columns, second)] = &shapes[..] else {
        panic!()
    };
    assert_eq!(first, &Some(CqlValue::Boolean(true)));
    assert_eq!(second, &Some(CqlValue::Boolean(false)));
    assert!(*columns > 1, "what stands there comes along");
    plain::drop_keyspace(&session, &keyspace).await;
}

#[test]
fn kafka_answers() {
    let Some(server) = services::kafka() else {
        return;
    };
    let mut stream = TcpStream::connect(server).unwrap();
    // ApiVersions, version 0, correlation id 7, no client id.
    stream
        .write_all(&[0, 0, 0, 10, 0, 18, 0, 0, 0, 0, 0, 7, 255, 255])
        .unwrap();
    let mut answer = [0; 10];
    stream.read_exact(&mut answer).unwrap();
    let [.., correlation, error_high, error_low] = answer;
    assert_eq!((correlation, error_high, error_low), (7, 0, 0));
}

#[tokio::test]
async fn a_paused_server_goes_on_where_it_was() {
    let Some(server) = Own::start() else { return };
    let session = plain::session(&server.address()).await;
    let keyspace = plain::keyspace("paused");
    table(&session, &keyspace).await;
    let insert = format!("INSERT INTO {keyspace}.rows (id, value) VALUES (1, 1)");
    let mut insert = session.prepare(insert).await.unwrap();
    insert.set_request_timeout(Some(Duration::from_secs(1)));
    server.pause();
    assert!(session.execute_unpaged(&insert, ()).await.is_err());
    server.resume();
    insert.set_request_timeout(Some(Duration::from_secs(20)));
    let begun = Instant::now();
    while let Err(error) = session.execute_unpaged(&insert, ()).await {
        assert!(begun.elapsed() < till::PATIENCE, "{error}");
    }
    assert_eq!(ids(&session, &keyspace).await, BTreeSet::from([1]));
}

#[test]
fn without_java_tests_are_left_out_loudly_and_fail_in_ci() {
    let python = Command::new("python3")
        .args(["-c", "import sys; print(sys.executable)"])
        .output()
        .unwrap();
    let python = String::from_utf8(python.stdout).unwrap();
    let nothing = tempfile::tempdir().unwrap();
    let run = |ci: &str| {
        Command::new(python.trim())
            .args([
                services::services().to_str().unwrap(),
                "run",
                "--",
                python.trim(),
                "-c",
                "print('it ran')",
            ])
            .env("PATH", nothing.path())
            .env("CI", ci)
            .env_remove("TIDELOG_TEST_SCYLLA")
            .env_remove("TIDELOG_TEST_KAFKA")
            .output()
            .unwrap()
    };
    let left_out = run("");
    let said = String::from_utf8(left_out.stdout).unwrap();
    assert!(
        left_out.status.success() && said.contains("it ran"),
        "{said}"
    );
    assert!(
        said.contains("*** LEFT OUT: java and mvn not found"),
        "{said}"
    );
    let failed = run("true");
    let said = String::from_utf8(failed.stderr).unwrap();
    assert!(
        !failed.status.success() && said.contains("CI=true"),
        "{said}"
    );
}
