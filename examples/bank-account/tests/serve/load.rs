//! Deposits by many clients while the service is killed and started again: each repeats what was not
//! answered, under its key, and every cent is there once.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use bank_account::commands::{Deposit, OpenAccount};
use tidelog::Tidelog;

use crate::http::{Connection, written};
use crate::service::Service;

const CLIENTS: u64 = 64;
const ACCOUNTS: u64 = 100;

/// What a client has done.
#[derive(Default)]
struct Tally {
    cents: u64,
    replayed: u64,
    repeated: u64,
    took: Vec<Duration>,
}

fn seconds() -> u64 {
    let full = std::env::var("TIDELOG_SWEEP").is_ok_and(|sweep| sweep == "full");
    if full { 30 } else { 4 }
}

#[test]
fn deposits_go_on_over_a_kill_and_every_cent_is_there_once() {
    let dir = tempfile::tempdir().unwrap();
    let args = ["--listen", "127.0.0.1:0", "--rate", "0"];
    let mut bank = Service::start_with(dir.path(), &args);
    let address = bank.address;
    for number in 0..ACCOUNTS {
        bank.open(&format!("a{number}"), "Ada");
    }
    let going = AtomicBool::new(true);
    let half = Duration::from_secs(seconds()) / 2;
    let began = Instant::now();
    let all = Mutex::new(Tally::default());
    thread::scope(|scope| {
        for client in 0..CLIENTS {
            let (going, all) = (&going, &all);
            scope.spawn(move || {
                let tally = deposit_until_told(address, client, going);
                let mut all = all.lock().unwrap();
                all.cents += tally.cents;
                all.replayed += tally.replayed;
                all.repeated += tally.repeated;
                all.took.extend(tally.took);
            });
        }
        thread::sleep(half);
        bank.kill();
        let listen = address.to_string();
        bank = Service::start_with(dir.path(), &["--listen", &listen, "--rate", "0"]);
        thread::sleep(half);
        going.store(false, Ordering::Relaxed);
    });
    let took = began.elapsed();
    let Tally {
        cents,
        replayed,
        repeated,
        took: mut each,
    } = all.into_inner().unwrap();
    each.sort_unstable();
    let p99 = each[each.len() * 99 / 100];
    let rate = each.len() as f64 / took.as_secs_f64();
    let own = store_alone();
    println!(
        "{} deposits of {CLIENTS} clients over one kill: {rate:.0}/s, p99 {p99:.1?}; {repeated} sent again, {replayed} of them done before; the store alone (X1) {own:.0}/s: {:.2} times",
        each.len(),
        rate / own
    );
    assert!(repeated > 0, "the kill met no request");
    let mut there = 0;
    for number in 0..ACCOUNTS {
        let balance = bank.balance(&format!("a{number}"));
        there += bank_account::money::parse(&balance).unwrap();
    }
    assert_eq!(there, cents);
    bank.tell_to_end();
    assert!(bank.ended().success());
}

fn deposit_until_told(address: std::net::SocketAddr, client: u64, going: &AtomicBool) -> Tally {
    let mut tally = Tally::default();
    let mut connection = Connection::to(address).ok();
    for number in 0.. {
        if !going.load(Ordering::Relaxed) {
            break;
        }
        let cents = 1 + number % 100;
        let account = (client * 31 + number) % ACCOUNTS;
        let path = format!("/v1/accounts/a{account}/deposits");
        let key = format!("{client}-{number}");
        let body = format!(r#"{{"amount":"{}.{:02}"}}"#, cents / 100, cents % 100);
        let request = written("POST", &path, &[("idempotency-key", &key)], Some(&body));
        let began = Instant::now();
        // Until it is answered, however often the service goes away.
        loop {
            let answered = connection.as_mut().and_then(|connection| {
                connection.send(request.as_bytes()).ok()?;
                connection.answer(true).ok()
            });
            if let Some(answer) = answered {
                assert_eq!(answer.status, 201, "{answer:?}");
                tally.replayed += u64::from(answer.header("idempotency-replayed").is_some());
                break;
            }
            tally.repeated += 1;
            thread::sleep(Duration::from_millis(5));
            connection = Connection::to(address).ok();
        }
        tally.took.push(began.elapsed());
        tally.cents += cents;
    }
    tally
}

/// Deposits a second by as many tasks on the store itself: the measure X1 of the benchmarks.
fn store_alone() -> f64 {
    let dir = tempfile::tempdir().unwrap();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let bank = Tidelog::open(dir.path()).unwrap();
        for number in 0..ACCOUNTS {
            let open = OpenAccount {
                account_id: Some(format!("a{number}")),
                holder: "Ada".into(),
            };
            bank.execute(open).await.unwrap();
        }
        let until = Instant::now() + Duration::from_secs(seconds() / 2);
        let tasks: Vec<_> = (0..CLIENTS)
            .map(|client| {
                let bank = bank.clone();
                tokio::spawn(async move {
                    let mut done = 0;
                    while Instant::now() < until {
                        let account_id = format!("a{}", (client * 31 + done) % ACCOUNTS);
                        bank.execute(Deposit {
                            account_id,
                            cents: 1,
                        })
                        .await
                        .unwrap();
                        done += 1;
                    }
                    done
                })
            })
            .collect();
        let began = Instant::now();
        let mut done = 0;
        for task in tasks {
            done += task.await.unwrap();
        }
        let rate = done as f64 / began.elapsed().as_secs_f64();
        bank.close().await.unwrap();
        rate
    })
}
