//! The proxy does what it says, or the tests behind it prove nothing.

use std::io::{ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use crate::proxy::Proxy;
use crate::till::PATIENCE;

/// A server that sends back what it gets.
fn echo() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            thread::spawn(move || {
                let mut piece = [0; 1024];
                while let Ok(length @ 1..) = stream.read(&mut piece) {
                    if stream.write_all(&piece[..length]).is_err() {
                        break;
                    }
                }
            });
        }
    });
    address
}

fn connect(proxy: &Proxy) -> TcpStream {
    let stream = TcpStream::connect(proxy.address()).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

fn ask(stream: &mut TcpStream, text: &[u8]) -> std::io::Result<Vec<u8>> {
    stream.write_all(text)?;
    let mut answer = vec![0; text.len()];
    stream.read_exact(&mut answer)?;
    Ok(answer)
}

fn is_cut(answer: std::io::Result<Vec<u8>>) -> bool {
    let kinds = [
        ErrorKind::UnexpectedEof,
        ErrorKind::ConnectionReset,
        ErrorKind::BrokenPipe,
    ];
    answer.is_err_and(|error| kinds.contains(&error.kind()))
}

#[test]
fn what_is_sent_comes_back_late_and_slowly_if_wanted() {
    let proxy = Proxy::start(&echo());
    let mut stream = connect(&proxy);
    assert_eq!(ask(&mut stream, b"one").unwrap(), b"one");
    proxy.latency(Duration::from_millis(30), Duration::from_millis(10));
    let begun = Instant::now();
    assert_eq!(ask(&mut stream, b"two").unwrap(), b"two");
    assert!(begun.elapsed() >= Duration::from_millis(60), "both ways");
    proxy.latency(Duration::ZERO, Duration::ZERO);
    proxy.throttle(Some(10_000));
    let begun = Instant::now();
    assert_eq!(ask(&mut stream, &[7; 1000]).unwrap(), [7; 1000]);
    assert!(begun.elapsed() >= Duration::from_millis(200), "both ways");
    assert_eq!((proxy.accepted(), proxy.requests()), (1, 1006));
}

#[test]
fn a_reset_ends_connections_that_stand_and_a_refusal_new_ones() {
    let proxy = Proxy::start(&echo());
    let mut first = connect(&proxy);
    ask(&mut first, b"one").unwrap();
    proxy.reset_all();
    assert!(is_cut(ask(&mut first, b"two")));
    let mut second = connect(&proxy);
    ask(&mut second, b"three").unwrap();
    proxy.refuse(true);
    assert!(is_cut(ask(&mut second, b"four")));
    assert!(is_cut(ask(&mut connect(&proxy), b"five")));
    proxy.refuse(false);
    ask(&mut connect(&proxy), b"six").unwrap();
}

#[test]
fn a_blackhole_takes_and_keeps_and_lets_go() {
    let proxy = Proxy::start(&echo());
    let mut stream = connect(&proxy);
    ask(&mut stream, b"one").unwrap();
    proxy.blackhole(true);
    stream
        .set_read_timeout(Some(Duration::from_millis(300)))
        .unwrap();
    let kind = ask(&mut stream, b"two").unwrap_err().kind();
    assert!(
        matches!(kind, ErrorKind::WouldBlock | ErrorKind::TimedOut),
        "{kind}"
    );
    proxy.blackhole(false);
    let mut answer = [0; 3];
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"two");
}

#[test]
fn what_is_forgotten_is_dead_and_what_is_new_is_not() {
    let proxy = Proxy::start(&echo());
    let mut dead = connect(&proxy);
    ask(&mut dead, b"one").unwrap();
    proxy.forget();
    dead.set_read_timeout(Some(Duration::from_millis(300)))
        .unwrap();
    let kind = ask(&mut dead, b"two").unwrap_err().kind();
    assert!(
        matches!(kind, ErrorKind::WouldBlock | ErrorKind::TimedOut),
        "{kind}"
    );
    assert_eq!(ask(&mut connect(&proxy), b"three").unwrap(), b"three");
}

#[test]
fn lost_replies_end_their_connection_once_replies_come_again() {
    let proxy = Proxy::start(&echo());
    let (mut loses, mut idle) = (connect(&proxy), connect(&proxy));
    ask(&mut loses, b"one").unwrap();
    ask(&mut idle, b"one").unwrap();
    proxy.drop_replies(true);
    loses
        .set_read_timeout(Some(Duration::from_millis(300)))
        .unwrap();
    let kind = ask(&mut loses, b"two").unwrap_err().kind();
    assert!(
        matches!(kind, ErrorKind::WouldBlock | ErrorKind::TimedOut),
        "{kind}"
    );
    while proxy.lost() < 3 {
        thread::yield_now();
    }
    proxy.drop_replies(false);
    assert!(is_cut(ask(&mut loses, b"three")));
    assert_eq!(ask(&mut idle, b"four").unwrap(), b"four");
}

#[test]
fn a_cut_comes_at_the_byte() {
    let proxy = Proxy::start(&echo());
    let mut stream = connect(&proxy);
    proxy.cut_after(8);
    assert_eq!(ask(&mut stream, b"1234").unwrap(), b"1234");
    assert!(is_cut(ask(&mut stream, b"5")));
    assert_eq!(ask(&mut connect(&proxy), b"6").unwrap(), b"6");
}
