//! A TCP proxy in front of a server, which does to connections what networks do.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use parking_lot::{Condvar, Mutex};
use rustix::net::sockopt::set_socket_linger;

/// Bytes that are passed on at once.
const PIECE: usize = 16 * 1024;
/// How long a side waits for bytes before it looks whether the proxy still stands.
const LOOK: Duration = Duration::from_millis(100);

/// A proxy; it ends, with all its connections, when it is dropped.
///
/// The driver follows it without more: it takes a node's port from the contact point, and its
/// address from the node, which is the same loopback.
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    upstream: String,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
#[allow(
    clippy::struct_excessive_bools,
    reason = "faults that do not exclude each other"
)]
struct State {
    latency: Duration,
    jitter: Duration,
    bytes_a_second: Option<u64>,
    blackhole: bool,
    drop_replies: bool,
    refuse: bool,
    cut_after: Option<u64>,
    closed: bool,
    /// Connections up to this number are dead.
    forgotten: u64,
    draws: u64,
    accepted: u64,
    /// How often all connections were reset.
    resets: u64,
    /// Bytes that came from clients.
    requests: u64,
    /// Bytes of replies that were dropped.
    lost: u64,
    connections: Vec<Connection>,
}

/// Both sides of a connection, to be cut from outside.
#[derive(Debug)]
struct Connection {
    client: TcpStream,
    server: TcpStream,
    /// Bytes of it are gone: what follows them would not be understood.
    broken: bool,
    number: u64,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Towards {
    Server,
    Client,
}

impl Proxy {
    /// Listens on a free port and passes on to `upstream`, `host:port`.
    pub fn start(upstream: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared {
            upstream: upstream.to_owned(),
            state: Mutex::default(),
            changed: Condvar::new(),
        });
        let accepting = Arc::clone(&shared);
        thread::spawn(move || accept(&listener, &accepting));
        Self { address, shared }
    }

    /// Where it listens.
    pub fn address(&self) -> String {
        self.address.to_string()
    }

    /// Each piece waits `latency`, and up to `jitter` more, in both directions.
    pub fn latency(&self, latency: Duration, jitter: Duration) {
        self.change(|state| (state.latency, state.jitter) = (latency, jitter));
    }

    /// At most so many bytes a second, each direction of each connection; `None` for no bound.
    pub fn throttle(&self, bytes_a_second: Option<u64>) {
        self.change(|state| state.bytes_a_second = bytes_a_second);
    }

    /// Connections are taken and stand, and nothing comes through; what was sent comes through
    /// once it is off.
    pub fn blackhole(&self, on: bool) {
        self.change(|state| state.blackhole = on);
    }

    /// Connections that stand are dead from now on, without a word to either side; new ones are as
    /// ever. So it is after a machine has slept.
    pub fn forget(&self) {
        self.change(|state| state.forgotten = state.accepted);
    }

    /// What the server answers is lost. Connections that lost something are reset when it is off.
    pub fn drop_replies(&self, on: bool) {
        self.change(|state| {
            state.drop_replies = on;
            if !on {
                for connection in state.connections.iter().filter(|one| one.broken) {
                    connection.reset();
                }
            }
        });
    }

    /// Connections are reset as soon as they are there, those that stand at once.
    pub fn refuse(&self, on: bool) {
        self.change(|state| state.refuse = on);
        if on {
            self.reset_all();
        }
    }

    /// Resets the connection that carries the byte after so many, counted over all.
    pub fn cut_after(&self, bytes: u64) {
        self.change(|state| state.cut_after = Some(bytes));
    }

    /// Resets all connections that stand, or are being made.
    pub fn reset_all(&self) {
        self.change(|state| {
            state.resets += 1;
            state.connections.iter().for_each(Connection::reset);
        });
    }

    /// Connections taken so far.
    pub fn accepted(&self) -> u64 {
        self.shared.state.lock().accepted
    }

    /// Bytes that clients have sent so far.
    pub fn requests(&self) -> u64 {
        self.shared.state.lock().requests
    }

    /// Bytes of replies that were lost so far.
    pub fn lost(&self) -> u64 {
        self.shared.state.lock().lost
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.shared.state.lock());
        self.shared.changed.notify_all();
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.change(|state| state.closed = true);
        self.reset_all();
        // Wakes the thread that accepts.
        let _ = TcpStream::connect(self.address);
    }
}

impl State {
    /// Whether nothing comes through a connection now.
    fn holds(&self, number: u64) -> bool {
        (self.blackhole || number <= self.forgotten) && !self.closed
    }
}

impl Connection {
    fn reset(&self) {
        for side in [&self.client, &self.server] {
            let _ = set_socket_linger(side, Some(Duration::ZERO));
            let _ = side.shutdown(Shutdown::Both);
        }
    }
}

fn accept(listener: &TcpListener, shared: &Arc<Shared>) {
    for client in listener.incoming() {
        let Ok(client) = client else { continue };
        let mut state = shared.state.lock();
        if state.closed {
            return;
        }
        state.accepted += 1;
        let (number, refused, resets) = (state.accepted, state.refuse, state.resets);
        drop(state);
        let server = TcpStream::connect(&shared.upstream);
        let (Ok(server), false) = (server, refused) else {
            let _ = set_socket_linger(&client, Some(Duration::ZERO));
            continue;
        };
        for side in [&client, &server] {
            let _ = side.set_nodelay(true);
            let _ = side.set_read_timeout(Some(LOOK));
        }
        let both = || (client.try_clone().unwrap(), server.try_clone().unwrap());
        let (kept_client, kept_server) = both();
        let connection = Connection {
            client: kept_client,
            server: kept_server,
            broken: false,
            number,
        };
        let mut state = shared.state.lock();
        if state.resets != resets {
            connection.reset();
        }
        state.connections.push(connection);
        drop(state);
        for towards in [Towards::Server, Towards::Client] {
            let (client, server) = both();
            let shared = Arc::clone(shared);
            thread::spawn(move || {
                match towards {
                    Towards::Server => pass(&shared, number, client, server, towards),
                    Towards::Client => pass(&shared, number, server, client, towards),
                }
                let mut state = shared.state.lock();
                for one in state.connections.iter().filter(|one| one.number == number) {
                    one.reset();
                }
                state.connections.retain(|one| one.number != number);
            });
        }
    }
}

/// Passes on in one direction until either side has ended.
fn pass(shared: &Shared, number: u64, mut from: TcpStream, mut to: TcpStream, towards: Towards) {
    let mut piece = vec![0; PIECE];
    loop {
        let mut state = shared.state.lock();
        while state.holds(number) {
            shared.changed.wait(&mut state);
        }
        drop(state);
        let length = match from.read(&mut piece) {
            Ok(0) => return,
            Ok(length) => length,
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                continue;
            }
            Err(_) => return,
        };
        // It may have begun while this side waited for bytes.
        let mut state = shared.state.lock();
        while state.holds(number) {
            shared.changed.wait(&mut state);
        }
        if state.closed {
            return;
        }
        if towards == Towards::Server {
            state.requests += length as u64;
        }
        if let Some(left) = state.cut_after {
            let left = left.checked_sub(length as u64);
            state.cut_after = left;
            if left.is_none() {
                return;
            }
        }
        if towards == Towards::Client && state.drop_replies {
            state.lost += length as u64;
            if let Some(one) = state
                .connections
                .iter_mut()
                .find(|one| one.number == number)
            {
                one.broken = true;
            }
            continue;
        }
        let mut wait = state.latency;
        if !state.jitter.is_zero() {
            state.draws += 1;
            // Spread evenly enough; which piece waits how long does not matter.
            let share = state.draws.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 56;
            wait += state.jitter * u32::try_from(share).unwrap() / 256;
        }
        if let Some(rate) = state.bytes_a_second {
            wait += Duration::from_micros(length as u64 * 1_000_000 / rate.max(1));
        }
        drop(state);
        if !wait.is_zero() {
            thread::sleep(wait);
        }
        if to.write_all(&piece[..length]).is_err() {
            return;
        }
    }
}
