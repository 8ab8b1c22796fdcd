//! The store directly on a server, through a network that resets, cuts, delays and swallows: what was
//! acknowledged is there once, what is said not to be written is not, and nothing else is there.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use tidelog::{
    AppendBatch, Blocking, ContentType, Error, ExpectedVersion, KeyspaceReplication, NewEvent,
    ScyllaConfig, ScyllaStore, StreamId, StreamQuery,
};

use crate::plain;
use crate::proxy::Proxy;
use crate::services;

const WRITERS: u64 = 4;
const APPENDS: u64 = 60;

fn stream(id: &str) -> StreamId {
    StreamId::new("Test", id).unwrap()
}

fn event(text: &str) -> NewEvent {
    NewEvent::new("Noted", 1, ContentType::Bytes, text.as_bytes().to_vec())
}

struct Writer<'a> {
    /// Through the proxy.
    store: &'a Blocking<ScyllaStore>,
    /// Past it.
    truth: &'a Blocking<ScyllaStore>,
    unclear: &'a AtomicU64,
    unreachable: &'a AtomicU64,
}

impl Writer<'_> {
    /// Appends until it is acknowledged, as callers are told to.
    fn append(&self, batch: &AppendBatch) {
        // What nobody knows of may be written later, too.
        let mut is_known = true;
        for _ in 0..2_000 {
            match self.store.append(batch.clone()) {
                Ok(receipt) => {
                    let count = receipt.last_sequence - receipt.first_sequence + 1;
                    assert_eq!(count, batch.events.len() as u64);
                    return;
                }
                Err(Error::Unclear { .. }) => {
                    is_known = false;
                    self.unclear.fetch_add(1, Ordering::Relaxed);
                }
                Err(Error::Unreachable { .. }) => {
                    self.unreachable.fetch_add(1, Ordering::Relaxed);
                    if is_known {
                        self.assert_absent(batch);
                    }
                    thread::sleep(Duration::from_millis(20));
                }
                Err(error) => panic!("{error:?}"),
            }
        }
        panic!("never acknowledged: {batch:?}");
    }

    /// Whoever is told that nothing was written may rely on it.
    fn assert_absent(&self, batch: &AppendBatch) {
        let id = batch.events[0].event_id;
        let found = self.truth.find_event(&batch.stream, id).unwrap();
        assert!(found.is_none(), "said not to be written: {found:?}");
    }
}

/// Ends the disturbing.
struct Ends<'a>(&'a AtomicBool);

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

/// Does something to the network, a little while each.
fn disturb(proxy: &Proxy, turn: u64) {
    let pause = |millis| thread::sleep(Duration::from_millis(millis));
    match turn % 6 {
        0 => proxy.reset_all(),
        1 => {
            proxy.drop_replies(true);
            pause(60);
            proxy.drop_replies(false);
            proxy.reset_all();
        }
        2 => {
            proxy.latency(Duration::from_millis(15), Duration::from_millis(15));
            pause(150);
            proxy.latency(Duration::ZERO, Duration::ZERO);
        }
        3 => proxy.cut_after(3_000),
        4 => {
            proxy.blackhole(true);
            pause(60);
            proxy.blackhole(false);
        }
        _ => {
            proxy.refuse(true);
            proxy.reset_all();
            pause(60);
            proxy.refuse(false);
        }
    }
    pause(120);
}

#[test]
fn appends_through_a_bad_network_are_recorded_once() {
    let Some(server) = services::scylla() else {
        return;
    };
    let keyspace = plain::keyspace("bad_network");
    let config = |address: &str| {
        ScyllaConfig::new([address])
            .keyspace(&keyspace)
            .replication(KeyspaceReplication::Simple(1))
            .bucket_events(10)
    };
    // As patient as ever: nothing disturbs it.
    let truth = ScyllaStore::connect_blocking(config(&server).migrate_at_connect()).unwrap();
    let proxy = Proxy::start(&server);
    let impatient = config(&proxy.address())
        .request_timeout(Duration::from_secs(1))
        .give_up(Duration::from_secs(3));
    let store = ScyllaStore::connect_blocking(impatient).unwrap();
    let (unclear, unreachable) = (AtomicU64::new(0), AtomicU64::new(0));
    let done = AtomicBool::new(false);
    let shared = stream("shared");
    let own: Vec<Vec<NewEvent>> = thread::scope(|scope| {
        // Also when a writer fails.
        let _ends = Ends(&done);
        scope.spawn(|| {
            for turn in 0.. {
                if done.load(Ordering::SeqCst) {
                    return;
                }
                disturb(&proxy, turn);
            }
        });
        let writers: Vec<_> = (0..WRITERS)
            .map(|n| {
                let writer = Writer {
                    store: &store,
                    truth: &truth,
                    unclear: &unclear,
                    unreachable: &unreachable,
                };
                let shared = &shared;
                scope.spawn(move || {
                    let (mine, mut all) = (stream(&format!("of {n}")), Vec::new());
                    for round in 0..APPENDS {
                        let events: Vec<_> = (0..=round % 3)
                            .map(|k| event(&format!("{n} {round} {k}")))
                            .collect();
                        let expected = ExpectedVersion::Exact(all.len() as u64);
                        writer.append(&AppendBatch::new(mine.clone(), expected, events.clone()));
                        all.extend(events);
                        let any = ExpectedVersion::Any;
                        let one = event(&format!("{n} {round}"));
                        writer.append(&AppendBatch::new(shared.clone(), any, vec![one.clone()]));
                    }
                    all
                })
            })
            .collect();
        let own = writers.into_iter().map(|writer| writer.join().unwrap());
        own.collect()
    });

    for (n, events) in own.iter().enumerate() {
        let there = read(&truth, &stream(&format!("of {n}")));
        let expected: Vec<_> = events.iter().map(|event| event.event_id).collect();
        assert_eq!(there, expected, "stream of {n}");
    }
    let mut there = read(&truth, &shared);
    assert_eq!(there.len() as u64, WRITERS * APPENDS);
    there.sort_unstable();
    there.dedup();
    assert_eq!(there.len() as u64, WRITERS * APPENDS, "one stands twice");
    println!(
        "{} connections, {unclear:?} unclear, {unreachable:?} unreachable",
        proxy.accepted()
    );
    assert!(proxy.accepted() > 3, "hardly anything was disturbed");
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        plain::drop_keyspace(&plain::session(&server).await, &keyspace).await;
    });
}

fn read(store: &Blocking<ScyllaStore>, stream: &StreamId) -> Vec<tidelog::EventId> {
    let events = store.read_stream(StreamQuery::new(stream.clone()));
    (1..)
        .zip(events)
        .map(|(sequence, event)| {
            let event = event.unwrap();
            assert_eq!(event.sequence, sequence);
            event.event_id
        })
        .collect()
}
