//! The end of the service: what is under way is let end, and what was answered is there.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;

use crate::events::Follower;
use crate::http::{Connection, written};
use crate::service::Service;

#[test]
fn a_service_that_is_told_to_end_loses_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let mut bank = Service::start(dir.path());
    bank.open("ada", "Ada");
    let (done, going) = (AtomicU64::new(0), AtomicBool::new(true));
    let address = bank.address;
    let mut follower = Follower::of(address, "/v1/events", &[]);
    follower.next().unwrap();
    let idle = Connection::to(address).unwrap();
    let torn = thread::scope(|scope| {
        let clients: Vec<_> = (0..8)
            .map(|_| {
                scope.spawn(|| {
                    let request = written(
                        "POST",
                        "/v1/accounts/ada/deposits",
                        &[],
                        Some(r#"{"amount":"1"}"#),
                    );
                    let mut torn = 0;
                    'connections: while going.load(Ordering::Relaxed) {
                        let Ok(mut connection) = Connection::to(address) else {
                            break;
                        };
                        while going.load(Ordering::Relaxed) {
                            if connection.send(request.as_bytes()).is_err() {
                                continue 'connections;
                            }
                            match connection.answer(true) {
                                Ok(answer) => {
                                    assert_eq!(answer.status, 201, "{answer:?}");
                                    done.fetch_add(1, Ordering::Relaxed);
                                }
                                // The connection was closed while the request was on its way to it.
                                Err(_) => {
                                    torn += 1;
                                    continue 'connections;
                                }
                            }
                        }
                    }
                    torn
                })
            })
            .collect();
        while done.load(Ordering::Relaxed) < 200 {
            thread::yield_now();
        }
        bank.tell_to_end();
        let status = bank.ended();
        going.store(false, Ordering::Relaxed);
        assert!(status.success(), "{status}");
        clients
            .into_iter()
            .map(|client| client.join().unwrap())
            .sum::<u64>()
    });
    // Whoever reads along is told the end, after all that was done.
    let told = std::iter::from_fn(|| follower.next()).count() as u64;
    drop(idle);
    let done = done.into_inner();
    let bank = Service::start(dir.path());
    let there = bank.account("ada")["sequence"].as_u64().unwrap() - 1;
    println!(
        "{done} answered, {there} there, {told} told, {torn} connections closed before an answer"
    );
    assert!(there >= done, "{there} of {done} are there");
    // What was begun was answered: only requests that were never taken in have no answer.
    assert_eq!(there, done);
    assert!(told <= there);
}

#[test]
fn an_idle_service_ends_at_once_also_with_readers_and_open_connections() {
    let dir = tempfile::tempdir().unwrap();
    // It would wait for longer than any test does.
    let mut bank = Service::start_with(dir.path(), &["--grace-seconds", "86400"]);
    let mut followers: Vec<_> = (0..20)
        .map(|_| Follower::of(bank.address, "/v1/events", &[]))
        .collect();
    let idle: Vec<_> = (0..20)
        .map(|_| Connection::to(bank.address).unwrap())
        .collect();
    for follower in &mut followers {
        assert_eq!(follower.next().unwrap().kind, "place");
    }
    bank.tell_to_end();
    assert!(bank.ended().success());
    for mut follower in followers {
        assert!(follower.next().is_none());
    }
    drop(idle);
}
