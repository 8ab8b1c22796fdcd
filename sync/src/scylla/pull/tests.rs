use tidelog_backends::fake::FakeWire;
use tidelog_backends::wire::{ForkRows, Reply, Request};
use tidelog_core::{BoxFuture, EventEnvelope, EventStore, LogQuery, StreamQuery, Subscribe};

use super::super::test_log::{Silenced, ask, id, log, parked, server, stream, unless_silent};
use super::*;
use crate::scylla::peers::Peer;

struct Never;

impl Sleeper for Never {
    fn sleep(&self, _: Duration) -> BoxFuture<'static, ()> {
        Box::pin(std::future::pending())
    }
}

fn open(dir: &Path, wire: impl Wire) -> Puller {
    Puller::open(dir, id(1), Pull::All, Arc::new(wire), Arc::new(Never)).unwrap()
}

fn turns(puller: &mut Puller) {
    while pollster::block_on(puller.turn()).unwrap() {}
}

fn peer(puller: &Puller, origin: u8, epoch: u8) -> Peer {
    let mut peers = puller.peers().all().into_iter();
    let found = peers.find(|p| p.origin() == id(origin) && p.epoch() == id(epoch));
    found.expect("it is kept")
}

fn events(peer: &Peer) -> Vec<EventEnvelope> {
    let read = pollster::block_on(peer.read_all(LogQuery::all()).collect());
    read.unwrap()
}

#[test]
fn others_are_kept_and_read_without_the_server() {
    let dir = tempfile::tempdir().unwrap();
    let wire = server();
    let logs = [log(1), log(2), log(3)];
    for log in &logs {
        log.send_all(&wire);
    }
    let mut puller = open(dir.path(), wire.clone());
    turns(&mut puller);
    assert_eq!(puller.peers().all().len(), 2, "the own one is not kept");
    for log in &logs[1..] {
        let origin = log.origin.as_bytes()[0];
        let kept = peer(&puller, origin, origin);
        assert_eq!(events(&kept), log.envelopes());
        assert_eq!(&*kept.name(), "till");
        assert_eq!((kept.position(), kept.is_retired()), (10, false));
        let b = StreamQuery::new(stream("b"));
        let b = pollster::block_on(kept.read_stream(b).collect()).unwrap();
        assert_eq!(b.len(), 7);
        let foreign = kept.log();
        let refused = foreign.append(tidelog_core::AppendBatch::new(
            stream("b"),
            tidelog_core::ExpectedVersion::Any,
            Vec::new(),
        ));
        let refused = pollster::block_on(refused).unwrap_err();
        assert!(matches!(refused, Error::ForeignStream { .. }), "{refused}");
    }
    puller.peers().close();
    drop(puller);
    // Nobody answers any more.
    wire.set_faults(|_| tidelog_backends::fake::Fault::NotSent);
    let puller = open(dir.path(), wire);
    let kept = peer(&puller, 2, 2);
    assert_eq!(events(&kept), logs[1].envelopes());
    assert_eq!(&*kept.name(), "till");
    puller.peers().close();
}

#[test]
fn what_was_parked_and_is_accepted_as_it_is_can_be_read_though_nothing_newer_came() {
    let dir = tempfile::tempdir().unwrap();
    let (wire, log) = (server(), log(2));
    log.send_all(&wire);
    let row = parked(&log, "b", 6, 3);
    let key = row.key.clone();
    ask(&wire, Request::Park(Box::new(row)));
    let mut puller = open(dir.path(), wire.clone());
    turns(&mut puller);
    let kept = peer(&puller, 2, 2);
    assert_eq!(events(&kept), log.envelopes()[..5]);
    let mut live = kept.subscribe(Subscribe::All { after: 4 });
    let fifth = pollster::block_on(live.next()).unwrap().unwrap();
    assert_eq!(fifth.position, Some(5));
    let unpark = Request::Unpark {
        key,
        until_position: 6,
    };
    assert_eq!(ask(&wire, unpark), Reply::Applied(true));
    turns(&mut puller);
    assert_eq!(events(&kept), log.envelopes());
    let b = StreamQuery::new(stream("b"));
    let b = pollster::block_on(kept.read_stream(b).collect()).unwrap();
    assert_eq!(b.len(), 7);
    puller.peers().close();
    drop(puller);
    let puller = open(dir.path(), wire);
    assert_eq!(events(&peer(&puller, 2, 2)), log.envelopes());
    puller.peers().close();
}

#[test]
fn what_comes_later_is_fetched_and_subscribers_see_it() {
    let dir = tempfile::tempdir().unwrap();
    let (wire, mut log) = (server(), log(2));
    log.send(&wire, id(2), 1, 10);
    let row = log.row(id(2), None, 4);
    ask(&wire, Request::Register(Box::new(row.clone())));
    let mut puller = open(dir.path(), wire.clone());
    turns(&mut puller);
    let kept = peer(&puller, 2, 2);
    assert_eq!(kept.position(), 4);
    let mut live = kept.subscribe(Subscribe::All { after: 4 });
    log.append_times(3, "c");
    log.send(&wire, id(2), 11, 13);
    let advance = Request::Advance {
        origin: log.origin,
        epoch: id(2),
        seen: row.watermark,
        to: log.row(id(2), None, 13).watermark,
        published: 0,
    };
    assert_eq!(ask(&wire, advance), Reply::Applied(true));
    turns(&mut puller);
    for wanted in &log.envelopes()[4..] {
        let came = pollster::block_on(live.next()).unwrap().unwrap();
        assert_eq!(came, *wanted);
    }
    puller.peers().close();
}

#[test]
fn what_is_held_back_is_not_seen_also_when_opened_again() {
    let dir = tempfile::tempdir().unwrap();
    let (wire, log) = (server(), log(2));
    log.send_all(&wire);
    ask(&wire, Request::Park(Box::new(parked(&log, "b", 6, 3))));
    for _ in 0..2 {
        let mut puller = open(dir.path(), wire.clone());
        turns(&mut puller);
        let kept = peer(&puller, 2, 2);
        let positions = events(&kept).into_iter().map(|e| e.position.unwrap());
        assert_eq!(positions.collect::<Vec<_>>(), [1, 2, 3, 4, 5]);
        let head = pollster::block_on(kept.head(&stream("b"))).unwrap();
        assert_eq!(head.unwrap().sequence, 2);
        let b = StreamQuery::new(stream("b"));
        let b = pollster::block_on(kept.read_stream(b).collect()).unwrap();
        assert_eq!(b.len(), 2);
        puller.peers().close();
    }
}

#[test]
fn an_epoch_that_is_given_up_gives_way_or_stays_to_be_read() {
    for ends_at in [10, 7] {
        let dir = tempfile::tempdir().unwrap();
        let (wire, mut log) = (server(), log(2));
        log.send_all(&wire);
        let old = log.row(id(2), None, 10);
        let mut puller = open(dir.path(), wire.clone());
        turns(&mut puller);
        let before = log.envelopes();
        log.commits
            .retain(|commit| commit.last_position() <= ends_at);
        log.end = log.commits.last().unwrap().end();
        log.writer = 1;
        log.append_times(4, "b");
        let last = log.end.position;
        log.send(&wire, id(5), ends_at + 1, last);
        let row = log.row(id(5), Some((id(2), ends_at)), last);
        let retires = Some((id(2), old.watermark));
        let fork = ForkRows { row, retires };
        assert_eq!(
            ask(&wire, Request::Fork(Box::new(fork))),
            Reply::Applied(true)
        );
        turns(&mut puller);
        turns(&mut puller);
        assert_eq!(events(&peer(&puller, 2, 5)), log.envelopes());
        if ends_at == 10 {
            assert_eq!(
                puller.peers().all().len(),
                1,
                "all of the old one is in the new one"
            );
            assert_eq!(fs::read_dir(dir.path().join(FOLDER)).unwrap().count(), 1);
        } else {
            let old = peer(&puller, 2, 2);
            assert!(old.is_retired());
            assert_eq!(events(&old), before);
        }
        puller.peers().close();
    }
}

#[test]
fn a_turn_that_is_dropped_anywhere_is_gone_on_with() {
    let log = log(2);
    for executed in [false, true] {
        for at in 0..8 {
            let dir = tempfile::tempdir().unwrap();
            let wire: FakeWire = server();
            log.send_all(&wire);
            let wire = Silenced::new(wire, at, executed);
            let silent = Arc::clone(&wire.silent);
            let mut puller = open(dir.path(), wire);
            let mut dropped = 0;
            loop {
                match unless_silent(puller.turn(), &silent) {
                    None => dropped += 1,
                    Some(Ok(true)) => {}
                    Some(Ok(false)) => break,
                    Some(Err(error)) => panic!("{error}"),
                }
                assert!(dropped < 2);
            }
            assert_eq!(events(&peer(&puller, 2, 2)), log.envelopes(), "at {at}");
            peer(&puller, 2, 2);
            puller.peers().close();
        }
    }
}
