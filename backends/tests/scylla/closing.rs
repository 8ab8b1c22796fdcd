//! Closing while the server has not answered.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use tidelog_core::{Error, ExpectedVersion};

use crate::keyspaces::Keyspace;
use crate::kit::{append, assert_holds, connect, events, stream, try_append};

/// Passes on to a server, and its answers back until it is hushed.
struct Hush {
    address: String,
    is_hushed: Arc<AtomicBool>,
}

impl Hush {
    fn start(upstream: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let is_hushed = Arc::new(AtomicBool::new(false));
        let (upstream, hushed) = (upstream.to_owned(), Arc::clone(&is_hushed));
        thread::spawn(move || {
            for client in listener.incoming() {
                let client = client.unwrap();
                let server = TcpStream::connect(&upstream).unwrap();
                let ends = (client.try_clone().unwrap(), server.try_clone().unwrap());
                let hushed = Arc::clone(&hushed);
                thread::spawn(move || pass(client, server, |_| true));
                thread::spawn(move || pass(ends.1, ends.0, |_| !hushed.load(Ordering::SeqCst)));
            }
        });
        Self { address, is_hushed }
    }
}

fn pass(mut from: TcpStream, mut to: TcpStream, passes: impl Fn(&[u8]) -> bool) {
    let mut piece = [0; 16 * 1024];
    while let Ok(length @ 1..) = from.read(&mut piece) {
        if passes(&piece[..length]) && to.write_all(&piece[..length]).is_err() {
            return;
        }
    }
}

/// `Closed` would say that nothing of it was written.
#[test]
fn an_append_that_is_cut_off_does_not_say_that_it_was_not_recorded() {
    let Some(keyspace) = Keyspace::named("cut") else {
        return;
    };
    let other = connect(keyspace.config());
    let hush = Hush::start(keyspace.server());
    let store = connect(keyspace.config_at(&hush.address));
    let (stream, mut all) = (stream("a"), events(1));
    append(&store, &stream, &all);
    let added = events(2);
    hush.is_hushed.store(true, Ordering::SeqCst);
    thread::scope(|scope| {
        let answer = scope.spawn(|| try_append(&store, &stream, ExpectedVersion::Any, &added));
        while other.head(&stream).unwrap().unwrap().sequence < 3 {}
        pollster::block_on(store.inner().abandon());
        match answer.join().unwrap() {
            Err(Error::Unclear { .. }) => {}
            answer => panic!("{answer:?}"),
        }
    });
    all.extend(added);
    assert_holds(&other, &stream, &all);
    let closed = try_append(&store, &stream, ExpectedVersion::Any, &events(1));
    assert!(matches!(closed, Err(Error::Closed)), "{closed:?}");
}
