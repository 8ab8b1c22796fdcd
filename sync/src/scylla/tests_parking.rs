//! What the server does not take: events of one stream that are set aside, and when nothing is.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tidelog_backends::fake::Fault;
use tidelog_backends::wire::Request;
use tidelog_backends::{SledStore, repair};
use tidelog_core::{
    AppendBatch, ContentType, EventLog, ExpectedVersion, Halt, Limits, NewEvent, StreamQuery,
};

use super::arbitrate::{End, Turn};
use super::lane::Item;
use super::resolve::tests::take_over;
use super::tests::{Till, append, server};
use super::turns::MAX_EVENT_BYTES;
use crate::replicate::embedded::Embedded;
use crate::replicate::mailbox::Message;
use crate::scylla::sink::SinkMessage;
use crate::scylla::status::{ReplicationState, ReplicationStatus};
use crate::{SavedSink, SinkParked};

#[test]
fn an_event_from_before_that_is_too_large_is_parked_and_others_go_on() {
    let limits = Limits {
        payload_bytes: MAX_EVENT_BYTES + 1,
        batch_bytes: 2 * MAX_EVENT_BYTES,
        ..Limits::default()
    };
    let mut till = Till::with(server(), 64, |store| store.limits(limits));
    till.append("T/a", 2);
    let large = vec![0; MAX_EVENT_BYTES + 1];
    let large = NewEvent::new("E", 1, ContentType::Json, large);
    let batch = AppendBatch::new("T/a".parse().unwrap(), ExpectedVersion::Any, vec![large]);
    till.store.blocking().append(batch).unwrap();
    till.append("T/a", 1);
    till.append("T/b", 1);
    till.settle();
    assert_eq!(till.parked(), [("T/a".into(), "too_large", 3, false)]);
    let saved = SavedSink::decode("sink.scylla", &till.state());
    let saved = saved.unwrap().unwrap().parked;
    let read = |parked: &SinkParked| (parked.stream.to_string(), parked.first_sequence);
    assert_eq!(
        saved.iter().map(read).collect::<Vec<_>>(),
        [("T/a".into(), 3)]
    );
    assert_eq!(till.remote("T/a"), till.local("T/a")[..2]);
    assert_eq!(till.remote("T/b"), till.local("T/b"));
}

#[test]
fn a_record_above_what_the_server_takes_is_a_halt_that_a_larger_limit_ends() {
    let mut till = Till::new(server());
    let takes = |till: &Till, batch_bytes| {
        let limits = tidelog_backends::fake::Limits { batch_bytes };
        till.wire.with_server(|server| server.set_limits(limits));
    };
    takes(&till, 300 << 10);
    till.append("T/a", 2);
    let large = NewEvent::new("E", 1, ContentType::Json, vec![0; 400 << 10]);
    let batch = AppendBatch::new("T/a".parse().unwrap(), ExpectedVersion::Any, vec![large]);
    till.store.blocking().append(batch).unwrap();
    till.append("T/b", 1);
    for _ in 0..2 {
        till.run_until(|status| matches!(status.state, ReplicationState::Halted(_)));
        let ReplicationState::Halted(halt) = till.node.status.status().state else {
            panic!("it does not stand still");
        };
        let text = halt.to_string();
        for part in ["position 3", "(307200)", "`max_mutation_size`", "`retry`"] {
            assert!(text.contains(part), "{text}");
        }
        let Halt::RecordTooLarge { size, limit, .. } = halt else {
            panic!("{halt:?}");
        };
        assert!(size > 400 << 10 && size < 401 << 10, "{size}");
        assert_eq!(limit, Some(300 << 10));
        let (reply, _) = oneshot::async_channel();
        till.node.mailbox.send(Message::Retry(reply));
        till.run_until(|status| !matches!(status.state, ReplicationState::Halted(_)));
    }
    assert_eq!(till.parked(), []);
    takes(&till, 1 << 20);
    let (reply, _) = oneshot::async_channel();
    till.node.mailbox.send(Message::Retry(reply));
    till.settle();
    for stream in ["T/a", "T/b"] {
        assert_eq!(till.remote(stream), till.local(stream));
    }
}

#[test]
fn an_event_that_jumps_over_more_than_a_bucket_is_not_written() {
    let till = Till::new(server());
    till.append("T/a", 30);
    let query = StreamQuery::new("T/a".parse().unwrap());
    let events: Vec<_> = till.store.blocking().read_stream(query).collect();
    let mut items = events
        .into_iter()
        .map(|event| Item::of_event(event.unwrap()));
    let before = items.by_ref().nth(2).map(|item| item.place());
    let origin = till.store.identity().origin;
    let turn = |item: Item| Turn {
        wire: Arc::new(till.wire.clone()),
        outbox: Arc::new(Embedded::new(&till.store).unwrap()),
        origin,
        bucket_events: 10,
        stream: "T/a".parse().unwrap(),
        before,
        is_sealed: false,
        rows: vec![item.row(origin, origin).unwrap()],
        verify: false,
        only_looks: false,
    };
    let far = items.find(|item| item.sequence == 20).unwrap();
    let done = pollster::block_on(turn(far).run());
    assert!(matches!(done.end, End::Gap), "{done:?}");
    assert_eq!(till.wire.take_asked().len(), 0);
}

/// A store whose log had a byte changed in its second commit, repaired.
fn repaired_without_the_second_commit(root: &Path, fill: impl FnOnce(&SledStore)) -> PathBuf {
    let (damaged, whole) = (root.join("damaged"), root.join("repaired"));
    let store = SledStore::builder(&damaged).sparse_segments();
    let store = store.open().unwrap();
    fill(&store);
    store.close_blocking().unwrap();
    let segment = damaged.join("log/00000001.seg");
    let mut bytes = std::fs::read(&segment).unwrap();
    let mut frames = (0..bytes.len()).filter(|at| bytes[*at..].starts_with(b"TLF1"));
    let second = frames.nth(1).unwrap();
    bytes[second + 200] ^= 1;
    std::fs::write(segment, bytes).unwrap();
    repair(&damaged, &whole).unwrap();
    whole
}

/// A repair lost more of a stream than a bucket holds.
#[test]
fn a_stream_that_goes_on_far_above_what_it_lost_is_parked_and_others_go_on() {
    let root = tempfile::tempdir().unwrap();
    let dir = repaired_without_the_second_commit(root.path(), |store| {
        append(store, "T/a", 3);
        append(store, "T/a", 25);
        append(store, "T/a", 1);
        append(store, "T/b", 2);
    });
    let mut till = Till::with(server(), 64, |_| SledStore::builder(dir).sparse_segments());
    till.store.accept_all_losses().unwrap();
    till.append("T/a", 1);
    till.append("T/b", 1);
    till.settle();
    assert_eq!(till.parked(), [("T/a".into(), "gap", 29, false)]);
    assert_eq!(till.local("T/a").len(), 5);
    assert_eq!(till.remote("T/a"), till.local("T/a")[..3]);
    assert_eq!(till.remote("T/b"), till.local("T/b"));
    let reason = till.node.status.parked()[0].reason.to_string();
    till.crash();
    till.settle();
    assert_eq!(till.parked(), [("T/a".into(), "gap", 29, false)]);
    assert_eq!(till.node.status.parked()[0].reason.to_string(), reason);
    // Tried again as it is, it is set aside again.
    let retry = SinkMessage::Retry("T/a".parse().unwrap());
    till.ask(retry).unwrap();
    till.settle();
    assert_eq!(till.parked(), [("T/a".into(), "gap", 29, false)]);
    assert_eq!(till.remote("T/a").len(), 3);
}

/// With one lane the first that is refused is all that is under way.
#[test]
fn a_refused_event_is_parked_also_where_one_stream_is_written_to_at_a_time() {
    let mut till = Till::with(server(), 1, |store| store);
    till.append("T/bad", 1);
    till.append("T/good", 1);
    till.wire.set_faults(|request| match request {
        Request::Append(rows) if rows.bucket.stream.aggregate_id() == "bad" => Fault::Refused,
        _ => Fault::None,
    });
    till.settle();
    assert_eq!(till.parked(), [("T/bad".into(), "refused", 1, false)]);
    assert_eq!(till.remote("T/good"), till.local("T/good"));
}

/// All entries of an epoch stand in one partition, where one write at a time is decided.
#[test]
fn the_server_is_told_of_one_parked_stream_after_the_other() {
    let wire = server();
    let (mut first, mut second) = (Till::new(wire.another()), Till::new(wire));
    for number in 0..40 {
        first.append(&format!("T/{number}"), 1);
        second.append(&format!("T/{number}"), 1);
    }
    first.settle();
    let parks = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&parks);
    second.wire.set_faults(move |request| match request {
        Request::Park(_) => {
            counted.fetch_add(1, Ordering::SeqCst);
            Fault::Silence
        }
        _ => Fault::None,
    });
    second.run_until(|status| status.parked == 40);
    let turns = std::cell::Cell::new(0);
    second.run_until(|_| turns.replace(turns.get() + 1) > 200);
    assert_eq!(parks.load(Ordering::SeqCst), 1);
    second.wire.set_faults(|_| Fault::None);
    second.crash();
    second.settle();
    assert_eq!(second.parked().len(), 40);
}

/// What resolves them is recorded behind what cannot be parked, and read later.
#[test]
fn too_many_parked_streams_are_a_halt_that_ends_when_some_of_them_are_resolved() {
    let wire = server();
    let mut first = Till::new(wire.another());
    let mut second = Till::narrow(wire, 3, 8);
    for number in 0..4 {
        first.append(&format!("T/{number}"), 1);
        second.append(&format!("T/{number}"), 1);
    }
    second.append("T/other", 60);
    first.settle();
    let is_over = |status: &ReplicationStatus| {
        matches!(
            status.state,
            ReplicationState::Halted(Halt::TooManyParked { count: 3 })
        )
    };
    second.run_until(is_over);
    for (stream, ..) in second.parked() {
        take_over(&second, &stream);
    }
    let retry = Message::Retry(oneshot::async_channel().0);
    second.node.mailbox.send(retry);
    second.settle();
    assert_eq!(second.parked().len(), 1);
    assert_eq!(second.remote("T/other"), second.local("T/other"));
}

/// Where each entry of T/bad was listed, or said to be resolved, in the order of the requests.
fn told(till: &Till) -> Vec<(&'static str, u64)> {
    let asked = till.wire.take_asked();
    let told = asked.iter().filter_map(|request| match request {
        Request::Park(row) => Some(("park", row.key.first_position)),
        Request::Unpark { key, .. } => Some(("unpark", key.first_position)),
        _ => None,
    });
    told.collect()
}

/// Who follows would take what is held still for accepted in between.
#[test]
fn a_stream_that_is_parked_anew_further_on_is_listed_before_the_old_entry_is_resolved() {
    for crashes in [false, true] {
        let mut till = Till::new(server());
        till.append("T/bad", 1);
        till.append("T/good", 1);
        for _ in 0..4 {
            till.append("T/bad", 1);
        }
        let refuse_from = |sequence: u64, silent: bool| {
            move |request: &Request| match request {
                Request::Append(rows) if rows.bucket.stream.aggregate_id() == "bad" => {
                    let refused = rows.rows.iter().any(|row| row.event.sequence >= sequence);
                    if refused { Fault::Refused } else { Fault::None }
                }
                Request::Park(_) | Request::Unpark { .. } if silent => Fault::Silence,
                _ => Fault::None,
            }
        };
        till.wire.set_faults(refuse_from(1, false));
        till.settle();
        assert_eq!(till.parked(), [("T/bad".into(), "refused", 1, false)]);
        assert_eq!(told(&till), [("park", 1)]);
        till.wire.set_faults(refuse_from(3, crashes));
        let stream = "T/bad".parse().unwrap();
        till.ask(SinkMessage::Retry(stream)).unwrap();
        if crashes {
            let turns = std::cell::Cell::new(0);
            till.run_until(|_| turns.replace(turns.get() + 1) > 500);
            assert_eq!(told(&till), [("park", 4)], "nothing before that is noted");
            till.crash();
            till.wire.set_faults(refuse_from(3, false));
            till.append("T/good", 1);
        }
        till.settle();
        let turns = std::cell::Cell::new(0);
        till.run_until(|_| turns.replace(turns.get() + 1) > 500);
        assert_eq!(
            told(&till),
            [("park", 4), ("unpark", 1)],
            "crashes: {crashes}"
        );
        assert_eq!(till.parked(), [("T/bad".into(), "refused", 3, false)]);
        assert_eq!(till.remote("T/bad"), till.local("T/bad")[..2]);
    }
}
