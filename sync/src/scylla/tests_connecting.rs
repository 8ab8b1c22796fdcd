//! What a store meets when it connects: keyspaces that are not there, were lost, or are others, and
//! claims that are not taken.

use std::cell::Cell;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::{Context, Poll, Waker};

use parking_lot::Mutex;
use tidelog_backends::fake::{FakeServer, FakeWire, Fault, Table};
use tidelog_backends::wire::{ErrorClass, MetaRow, Reply, Request, Watermark, Wire, WireError};
use tidelog_core::{BoxFuture, Error, EventLog, Halt, Ticks};
use uuid::Uuid;

use super::sink::ScyllaSink;
use super::tests::{Till, after_another, meta, server};
use crate::replicate::Other;
use crate::replicate::mailbox::Message;
use crate::scylla::sink::SinkMessage;
use crate::scylla::status::ReplicationState;

fn meta_of(wire: &FakeWire) -> Option<MetaRow> {
    match pollster::block_on(wire.another().ask(Request::Meta)) {
        Ok(Reply::Meta(row)) => row,
        other => panic!("{other:?}"),
    }
}

fn halted(till: &mut Till) -> Halt {
    till.run_until(|status| matches!(status.state, ReplicationState::Halted(_)));
    match till.node.status.status().state {
        ReplicationState::Halted(halt) => halt,
        other => panic!("{other:?}"),
    }
}

#[test]
fn h0_a_keyspace_without_tables_or_of_another_version_is_a_halt_that_a_retry_ends() {
    let newer = MetaRow {
        schema_version: 9,
        ..meta()
    };
    for server in [FakeServer::without_tables(), FakeServer::new(newer)] {
        let wire = FakeWire::new(server);
        let mut till = Till::new(wire.clone());
        till.append("T/a", 3);
        let halt = halted(&mut till);
        assert_eq!(halt.code(), "halted_schema", "{halt}");
        wire.with_server(|server| *server = FakeServer::new(meta()));
        let retry = Message::Retry(oneshot::async_channel().0);
        till.node.mailbox.send(retry);
        till.settle();
        assert_eq!(till.remote("T/a"), till.local("T/a"));
    }
}

#[test]
fn h0a_a_lost_row_of_the_keyspace_is_put_back_as_it_was() {
    let decided = MetaRow {
        arbitration_dc: Some("dc1".into()),
        ..meta()
    };
    let mut till = Till::new(FakeWire::new(FakeServer::new(decided.clone())));
    till.append("T/a", 30);
    till.settle();
    till.wire.with_server(|server| server.truncate(Table::Meta));
    till.crash();
    till.append("T/a", 1);
    till.settle();
    assert_eq!(meta_of(&till.wire), Some(decided));
}

#[test]
fn h0b_what_another_keyspace_had_and_parked_does_not_count() {
    let mut second = after_another();
    second.append("T/a", 2);
    second.append("T/b", 30);
    second.settle();
    assert_eq!(second.parked().len(), 1);
    let other = MetaRow {
        keyspace_id: Uuid::from_u128(8),
        ..meta()
    };
    second.crash_to(&FakeWire::new(FakeServer::new(other)));
    second.settle();
    assert_eq!(second.parked(), []);
    for stream in ["T/a", "T/b"] {
        assert_eq!(second.remote(stream), second.local(stream));
    }
}

#[test]
fn h7_a_claim_that_is_never_taken_is_somebody_elses_store() {
    let mut till = Till::new(server());
    till.append("T/a", 1);
    till.settle();
    till.append("T/a", 1);
    till.settle();
    let ends = [1, 2].map(|at| till.store.commit_end(at).unwrap().unwrap());
    // Somebody with the same session moves the watermark whenever it is claimed.
    let (wire, identity) = (till.wire.clone(), till.store.identity());
    let claims = Arc::new(AtomicUsize::new(0));
    let seen_claims = Arc::clone(&claims);
    till.wire.set_faults(move |request| {
        if let Request::Claim { seen, .. } = request {
            let at = ends[seen_claims.fetch_add(1, Ordering::SeqCst) % 2];
            let to = Watermark {
                position: at.position,
                hash: at.hash,
                commit_number: at.number,
                ..*seen
            };
            let advance = Request::Advance {
                origin: identity.origin,
                epoch: identity.epoch,
                seen: *seen,
                to,
                published: 0,
            };
            let moved = wire.with_server(|server| server.execute(&advance, &mut |_| true));
            assert_eq!(moved, Ok(Reply::Applied(true)));
        }
        Fault::None
    });
    till.crash();
    let halt = halted(&mut till);
    assert_eq!(halt.code(), "halted_cloned", "{halt}");
    assert_eq!(claims.load(Ordering::SeqCst), 3);
}

/// A connection that nothing comes through any more, until it is renewed.
struct HalfOpen {
    wire: FakeWire,
    is_dead: AtomicBool,
    lost: AtomicUsize,
}

impl Wire for HalfOpen {
    fn ask(&self, request: Request) -> BoxFuture<'_, Result<Reply, WireError>> {
        if self.is_dead.load(Ordering::SeqCst) {
            self.lost.fetch_add(1, Ordering::SeqCst);
            let text = "no answer came in time".into();
            let class = ErrorClass::Unclear;
            return Box::pin(async move { Err(WireError { class, text }) });
        }
        self.wire.ask(request)
    }

    fn renew(&self) -> BoxFuture<'_, Result<(), WireError>> {
        self.is_dead.store(false, Ordering::SeqCst);
        self.wire.renew()
    }
}

#[test]
fn a_dead_connection_is_waited_for_once_and_pinged_once() {
    let fake = server();
    let wire = Arc::new(HalfOpen {
        wire: fake.clone(),
        is_dead: AtomicBool::new(false),
        lost: AtomicUsize::new(0),
    });
    let halves = Arc::clone(&wire);
    let mut till = Till::on(fake, move |options| ScyllaSink::new(halves, options));
    till.append("T/a", 1);
    till.settle();
    wire.is_dead.store(true, Ordering::SeqCst);
    till.append("T/a", 1);
    till.settle();
    assert_eq!(till.remote("T/a"), till.local("T/a"));
    assert_eq!(till.node.status.status().retries, 1);
    assert_eq!(wire.lost.load(Ordering::SeqCst), 2);
}

#[test]
fn what_is_asked_while_it_connects_waits_for_the_connection_and_does_not_break_it_off() {
    let mut second = after_another();
    second.append("T/a", 2);
    second.settle();
    second.crash();
    second.wire.take_asked();
    second
        .ask(SinkMessage::Retry("T/a".parse().unwrap()))
        .unwrap();
    let claims = |request: &Request| matches!(request, Request::Claim { .. });
    let asked = second.wire.take_asked();
    assert_eq!(asked.iter().filter(|one| claims(one)).count(), 1);
}

#[test]
fn a_retry_while_it_connects_does_not_break_that_off() {
    let mut till = Till::new(server());
    till.append("T/a", 1);
    let registered = Arc::new(AtomicUsize::new(0));
    let counts = Arc::clone(&registered);
    let (mailbox, status) = (Arc::clone(&till.node.mailbox), till.node.status.clone());
    // Somebody who asks for it at every step of connecting.
    till.wire.set_faults(move |request| {
        counts.fetch_add(
            usize::from(matches!(request, Request::Register(_))),
            Ordering::SeqCst,
        );
        if status.status().state == ReplicationState::Connecting {
            mailbox.send(Message::Retry(oneshot::async_channel().0));
        }
        Fault::None
    });
    till.settle();
    assert_eq!(registered.load(Ordering::SeqCst), 1);
    assert_eq!(till.node.status.status().retries, 0);
}

#[test]
fn a_retry_while_it_connects_is_one_more_try_at_once_if_that_fails() {
    for fault in [Fault::Refused, Fault::NotSent] {
        let mut till = Till::new(server());
        till.append("T/a", 1);
        let mailbox = Arc::clone(&till.node.mailbox);
        let asked = Arc::new(AtomicUsize::new(0));
        let counts = Arc::clone(&asked);
        // What is corrected while it is refused is not met by the try that was under way.
        till.wire.set_faults(move |_| {
            if counts.fetch_add(1, Ordering::SeqCst) > 0 {
                return Fault::None;
            }
            mailbox.send(Message::Retry(oneshot::async_channel().0));
            fault.clone()
        });
        till.run_until(|status| {
            let stands = matches!(
                status.state,
                ReplicationState::Halted(_) | ReplicationState::Waiting { .. }
            );
            assert!(!stands, "{status:?}");
            status.settled == 1
        });
    }
}

#[test]
fn how_long_the_oldest_event_waits_is_told_while_there_is_no_server() {
    let mut till = Till::new(server());
    till.append("T/a", 1);
    till.settle();
    till.wire.set_faults(|_| Fault::NotSent);
    let last = till.append("T/a", 3);
    till.run_until(|status| matches!(status.state, ReplicationState::Waiting { failures: 6, .. }));
    let begun = Ticks::now(&*till.node.clock);
    till.run_until(|status| matches!(status.state, ReplicationState::Waiting { failures: 8, .. }));
    let now = Ticks::now(&*till.node.clock);
    let status = till.node.status.status_at(now, (last, last));
    assert_eq!((status.lag_events, status.in_flight_bytes), (3, 0));
    assert!(status.lag >= now.saturating_sub(begun), "{status:?}");
    till.wire.set_faults(|_| Fault::None);
    till.settle();
    let status = till.node.status.status_at(now, (last, last));
    assert!(status.lag.is_zero(), "{status:?}");
}

#[test]
fn a_fork_that_fails_half_way_lets_the_connection_begin_anew() {
    let mut till = Till::new(server());
    till.append("T/a", 3);
    till.settle();
    till.wire.set_faults(|request| match request {
        Request::Fork(_) => Fault::NotSent,
        _ => Fault::None,
    });
    let failed = till.ask(SinkMessage::Fork(Other::Gone)).unwrap_err();
    assert!(matches!(failed, Error::Unreachable { .. }), "{failed}");
    // What is sent now is of an epoch that the server does not know.
    till.append("T/a", 3);
    let halt = halted(&mut till);
    assert_eq!(halt.code(), "halted_new_epoch", "{halt}");
    assert_eq!(till.remote("T/a").len(), 3);
    till.wire.set_faults(|_| Fault::None);
    till.ask(SinkMessage::Fork(Other::Gone)).unwrap();
    till.settle();
    assert_eq!(till.remote("T/a"), till.local("T/a"));
}

#[test]
fn whoever_waits_after_the_state_was_forgotten_does_not_meet_the_halt_that_is_over() {
    let mut till = Till::new(server());
    let saved = tidelog_core::CheckpointStore::save(&till.store, "sink.scylla", 0, "x".into());
    pollster::block_on(saved).unwrap();
    assert_eq!(halted(&mut till).code(), "halted_state_damaged");
    let status = Arc::clone(&till.node.status);
    let (reply, answered) = oneshot::async_channel();
    till.node.mailbox.send(Message::ForgetState(reply));
    let waited = Mutex::new(Box::pin(async move {
        answered.await.unwrap().unwrap();
        matches!(status.status().state, ReplicationState::Halted(_))
    }));
    let is_halted = Cell::new(None);
    till.run_until(|_| {
        let cx = &mut Context::from_waker(Waker::noop());
        if let Poll::Ready(answer) = waited.lock().as_mut().poll(cx) {
            is_halted.set(Some(answer));
        }
        is_halted.get().is_some()
    });
    assert_eq!(is_halted.get(), Some(false));
}

/// A store that had a parent epoch is made known again without one: its rows are sent under its own.
#[test]
fn a_crash_behind_being_made_known_anew_leaves_the_log_where_who_reads_it_looks() {
    let mut till = Till::new(server());
    till.append("T/a", 9);
    till.settle();
    till.ask(SinkMessage::Fork(Other::Gone)).unwrap();
    till.append("T/a", 2);
    till.settle();
    till.wire
        .with_server(|server| server.truncate(Table::Origins));
    let known = Arc::new(AtomicBool::new(false));
    let is_known = Arc::clone(&known);
    till.wire.set_faults(move |request| match request {
        Request::Register(_) => {
            is_known.store(true, Ordering::SeqCst);
            Fault::LostReply
        }
        _ if is_known.load(Ordering::SeqCst) => Fault::Silence,
        _ => Fault::None,
    });
    till.crash();
    till.run_until(|_| known.load(Ordering::SeqCst));
    till.wire.set_faults(|_| Fault::None);
    till.wire.with_server(|server| server.truncate(Table::Log));
    till.crash();
    till.settle();
    let epoch = till.store.identity().epoch;
    let mut there: Vec<u64> = till.wire.with_server(|server| {
        let of_epoch = server.tables().log.iter();
        let rows = of_epoch.filter(|(chunk, _)| chunk.epoch == epoch);
        let rows = rows.flat_map(|(_, rows)| rows.values());
        rows.map(|row| row.position).collect()
    });
    there.sort_unstable();
    let all: Vec<u64> = (1..=till.store.last_position()).collect();
    assert_eq!(there, all);
}
