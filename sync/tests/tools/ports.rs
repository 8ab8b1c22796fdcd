//! Ports for servers of tests.

use std::net::{TcpListener, UdpSocket};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};

/// A port that no other test is given, of this process or of another, for as long as this process runs.
///
/// It lies below those that the system gives to connections: while a server is down, one of those might be
/// its client's.
pub fn free_port() -> u16 {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    /// Held by the same number of UDP, in the way of nobody but who looks here.
    static TAKEN: Mutex<Vec<UdpSocket>> = Mutex::new(Vec::new());
    loop {
        let number = std::process::id().wrapping_mul(64);
        let number = number.wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed));
        let port = 20_000 + u16::try_from(number % 12_000).unwrap();
        let at = ("127.0.0.1", port);
        if let (Ok(taken), Ok(_)) = (UdpSocket::bind(at), TcpListener::bind(at)) {
            TAKEN.lock().unwrap().push(taken);
            return port;
        }
    }
}
