//! Deposits by many clients while the service is killed and started again: each repeats what was not
//! answered, under its key, and every cent is there once. Beside it the store alone does the same.
//!
//! The clients are stricter than `wrk` and `oha`: neither of those tells a retry from a new request,
//! looks at what it is answered, or counts a request that met the kill from when it was sent first.

use std::fmt;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Condvar, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use bank_account::commands::{Deposit, OpenAccount};
use tidelog::Tidelog;
use tokio::runtime::Runtime;

use crate::http::{Answer, Connection, written};
use crate::service::{PATIENCE, Service};

/// As X1 of the benchmarks has them: each client deposits into accounts of its own, in turn.
const CLIENTS: u64 = 64;
const ACCOUNTS: u64 = 10_000;
/// What is done before the kill, and again after it: so many deposits at least, and for so long.
fn half() -> (usize, Duration) {
    let full = std::env::var("TIDELOG_SWEEP").is_ok_and(|sweep| sweep == "full");
    if full {
        (1, Duration::from_secs(15))
    } else {
        (2_000, Duration::ZERO)
    }
}

#[test]
fn deposits_go_on_over_a_kill_and_every_cent_is_there_once() {
    let (dir, alone) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    open_accounts(dir.path());
    open_accounts(alone.path());
    // Before and after: the machine may have something else to do meanwhile.
    let mut x1 = store_alone(alone.path());
    let served = serve_over_a_kill(dir.path());
    x1.add(store_alone(alone.path()));
    println!("X1, the store alone: {x1}");
    println!("the service, over one kill: {served}");
    println!(
        "the service does {:.3} times what the store does",
        served.rate() / x1.rate()
    );
}

/// How long each took, and all of it.
#[derive(Default)]
struct Figures {
    each: Vec<Duration>,
    time: Duration,
}

impl Figures {
    fn rate(&self) -> f64 {
        self.each.len() as f64 / self.time.as_secs_f64()
    }

    fn add(&mut self, more: Self) {
        self.each.extend(more.each);
        self.time += more.time;
    }
}

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut each = self.each.clone();
        each.sort_unstable();
        let at = |hundredth: usize| each[each.len() * hundredth / 100];
        write!(
            f,
            "{} deposits of {CLIENTS} clients, {:.0}/s, p50 {:.2?}, p99 {:.2?}",
            each.len(),
            self.rate(),
            at(50),
            at(99)
        )
    }
}

fn serve_over_a_kill(store: &Path) -> Figures {
    let mut bank = Service::start_to_come_back(store, &["--rate", "0"]);
    let (address, listen) = (bank.address, bank.address.to_string());
    let (going, starts) = (AtomicBool::new(true), Starts::default());
    let (tell, told) = mpsc::channel();
    let (mut tally, began) = (Tally::default(), Instant::now());
    thread::scope(|scope| {
        for client in 0..CLIENTS {
            let (going, starts, tell) = (&going, &starts, tell.clone());
            scope.spawn(move || deposit_while(going, address, client, starts, &tell));
        }
        drop(tell);
        tally.take_half(&told);
        bank.kill();
        bank = Service::start_with(store, &["--listen", &listen, "--rate", "0"]);
        starts.again();
        tally.take_half(&told);
        going.store(false, Ordering::Relaxed);
        for done in told {
            tally.add(&done);
        }
    });
    tally.figures.time = began.elapsed();
    let Tally {
        figures,
        cents,
        repeated,
        replayed,
    } = tally;
    println!("{repeated} requests sent again, {replayed} of them done before");
    assert!(repeated > 0, "the kill met no client");
    assert_eq!(sum(&bank), cents);
    bank.tell_to_end();
    assert!(bank.ended().success());
    figures
}

/// What is in all accounts, in cents.
fn sum(bank: &Service) -> u64 {
    let last = bank.get("/v1/status").json()["committed"].clone();
    let (mut sum, mut accounts, mut after) = (0, 0, String::new());
    loop {
        let page = bank.get(&format!("/v1/accounts?limit=200&at_least={last}{after}"));
        let page = page.json();
        for account in page["accounts"].as_array().unwrap() {
            accounts += 1;
            sum += bank_account::money::parse(account["balance"].as_str().unwrap()).unwrap();
        }
        match page["next"].as_str() {
            Some(next) => after = format!("&after={next}"),
            None => break,
        }
    }
    assert_eq!(accounts, ACCOUNTS);
    sum
}

/// What all clients have done.
#[derive(Default)]
struct Tally {
    figures: Figures,
    cents: u64,
    repeated: u64,
    replayed: u64,
}

/// One deposit that was answered.
struct Done {
    cents: u64,
    took: Duration,
    repeated: u64,
    replayed: bool,
}

impl Tally {
    fn take_half(&mut self, told: &Receiver<Done>) {
        let (begins_at, began) = (self.figures.each.len(), Instant::now());
        let (deposits, time) = half();
        while self.figures.each.len() < begins_at + deposits || began.elapsed() < time {
            let done = told.recv_timeout(PATIENCE);
            self.add(&done.expect("somebody still deposits"));
        }
    }

    fn add(&mut self, done: &Done) {
        self.figures.each.push(done.took);
        self.cents += done.cents;
        self.repeated += done.repeated;
        self.replayed += u64::from(done.replayed);
    }
}

/// How often the service was started again.
#[derive(Default)]
struct Starts {
    count: Mutex<u32>,
    news: Condvar,
}

impl Starts {
    fn again(&self) {
        *self.count.lock().unwrap() += 1;
        self.news.notify_all();
    }

    /// A connection to the service, which may be away, but comes back.
    fn connect(&self, address: SocketAddr) -> Connection {
        let count = *self.count.lock().unwrap();
        if let Ok(connection) = Connection::to(address) {
            return connection;
        }
        let known = self.count.lock().unwrap();
        let waited = self
            .news
            .wait_timeout_while(known, PATIENCE, |now| *now == count);
        assert!(!waited.unwrap().1.timed_out(), "it does not come back");
        Connection::to(address).unwrap()
    }
}

fn deposit_while(
    going: &AtomicBool,
    address: SocketAddr,
    client: u64,
    starts: &Starts,
    tell: &Sender<Done>,
) {
    let mut connection = starts.connect(address);
    for (number, account) in (0_u64..).zip(own(client).cycle()) {
        if !going.load(Ordering::Relaxed) {
            return;
        }
        let cents = 1 + number % 100;
        let path = format!("/v1/accounts/{}/deposits", name(account));
        let key = format!("{client}-{number}");
        let body = format!(r#"{{"amount":"{}.{:02}"}}"#, cents / 100, cents % 100);
        let request = written("POST", &path, &[("idempotency-key", &key)], Some(&body));
        let (began, mut repeated) = (Instant::now(), 0);
        // Until it is answered, however often the service goes away.
        let answer = loop {
            match asked(&mut connection, &request) {
                Ok(answer) => break answer,
                Err(_) => {
                    repeated += 1;
                    connection = starts.connect(address);
                }
            }
        };
        assert_eq!(answer.status, 201, "{answer:?}");
        let done = Done {
            cents,
            took: began.elapsed(),
            repeated,
            replayed: answer.header("idempotency-replayed").is_some(),
        };
        tell.send(done).unwrap();
    }
}

fn asked(connection: &mut Connection, request: &str) -> std::io::Result<Answer> {
    connection.send(request.as_bytes())?;
    connection.answer(true)
}

fn name(account: u64) -> String {
    format!("acc-{account:06}")
}

/// The accounts of a client.
fn own(client: u64) -> impl Iterator<Item = u64> + Clone {
    (client..ACCOUNTS).step_by(usize::try_from(CLIENTS).unwrap())
}

fn open_accounts(store: &Path) {
    let opened = by_all_clients(store, |bank, client| async move {
        for account in own(client) {
            let account_id = Some(name(account));
            let holder = name(account);
            bank.execute(OpenAccount { account_id, holder })
                .await
                .unwrap();
        }
        vec![]
    });
    assert!(opened.each.is_empty());
}

/// The same deposits on the store itself: the measure X1 of the benchmarks.
fn store_alone(store: &Path) -> Figures {
    let (deposits, time) = half();
    let each = deposits / usize::try_from(CLIENTS).unwrap();
    by_all_clients(store, move |bank, client| async move {
        let (mut took, began) = (vec![], Instant::now());
        for account in own(client).cycle() {
            if took.len() > each && began.elapsed() >= time / 3 {
                break;
            }
            let (account_id, sent) = (name(account), Instant::now());
            bank.execute(Deposit {
                account_id,
                cents: 100,
            })
            .await
            .unwrap();
            took.push(sent.elapsed());
        }
        took
    })
}

fn by_all_clients<F>(store: &Path, work: impl Fn(Tidelog, u64) -> F) -> Figures
where
    F: Future<Output = Vec<Duration>> + Send + 'static,
{
    Runtime::new().unwrap().block_on(async {
        let bank = Tidelog::open(store).unwrap();
        let began = Instant::now();
        let tasks = (0..CLIENTS).map(|client| tokio::spawn(work(bank.clone(), client)));
        let tasks: Vec<_> = tasks.collect();
        let mut figures = Figures::default();
        for task in tasks {
            figures.each.extend(task.await.unwrap());
        }
        figures.time = began.elapsed();
        bank.close().await.unwrap();
        figures
    })
}
