//! Several stores in one keyspace: each follows the others; conflicts are reported once and resolved.

use std::path::Path;
use std::time::Duration;

use tidelog::{
    AppendBatch, Conflict, ContentType, DistributedConfig, EventId, EventLog, ExpectedVersion,
    Followed, Halt, HandlerError, NewEvent, Other, ParkedReason, ReplicationState, Stage, StreamId,
    StreamQuery, Tidelog, Vector,
};

use crate::folder::copy_tree;
use crate::thin_path::config;
use crate::{plain, services, till};

struct Keyspace {
    server: String,
    name: String,
}

impl Keyspace {
    fn new(name: &str) -> Option<Self> {
        let server = services::scylla()?;
        let name = plain::keyspace(name);
        Some(Self { server, name })
    }

    fn open(&self, dir: &Path) -> Tidelog {
        Tidelog::builder(dir)
            .sparse_segments()
            .distributed(DistributedConfig::new().scylla(config(&self.server, &self.name)))
            .open()
            .unwrap()
    }

    async fn drop(self) {
        let session = plain::session(&self.server).await;
        plain::drop_keyspace(&session, &self.name).await;
    }
}

fn stream(name: &str) -> StreamId {
    name.parse().unwrap()
}

async fn append(log: &Tidelog, name: &str, count: usize) -> u64 {
    let event = |at| NewEvent::new("E", 1, ContentType::Json, format!("{at}"));
    let events = (0..count).map(event).collect();
    let batch = AppendBatch::new(stream(name), ExpectedVersion::Any, events);
    log.append(batch).await.unwrap().last_position.unwrap()
}

async fn ids(log: &Tidelog, name: &str) -> Vec<EventId> {
    let events = log.read_stream(StreamQuery::new(stream(name)));
    let events = events.collect().await.unwrap();
    events.into_iter().map(|event| event.event_id).collect()
}

/// Waits for `done`, which comes by itself.
async fn until(what: &str, done: impl Fn() -> bool) {
    let wait = async {
        while !done() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let waited = tokio::time::timeout(till::PATIENCE, wait).await;
    waited.unwrap_or_else(|_| panic!("{what} does not come"));
}

async fn halted(log: &Tidelog) -> Halt {
    let replication = log.replication();
    until("a halt", || replication.halt().is_some()).await;
    replication.halt().unwrap()
}

async fn settle(log: &Tidelog) {
    let last = log.last_position();
    until("the end of the log", || {
        log.replication().status().settled >= last
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_asked_right_after_opening_waits_for_the_connection() {
    let Some(keyspace) = Keyspace::new("begun") else {
        return;
    };
    let dir = tempfile::tempdir().unwrap();
    let first = keyspace.open(&dir.path().join("first"));
    append(&first, "T/a", 2).await;
    append(&first, "T/b", 2).await;
    settle(&first).await;
    let open = || keyspace.open(&dir.path().join("second"));
    let second = open();
    append(&second, "T/a", 1).await;
    append(&second, "T/b", 1).await;
    settle(&second).await;
    second.close().await.unwrap();
    let second = open();
    let replication = second.replication();
    let resolved = replication.take_remote(&stream("T/a")).await.unwrap();
    assert_eq!(resolved.adopted, 2);
    second.close().await.unwrap();
    let second = open();
    let replication = second.replication();
    replication.retry_stream(&stream("T/b")).await.unwrap();
    second.close().await.unwrap();
    let second = open();
    let mut others = second.replication().follow(Vector::new()).unwrap();
    assert!(matches!(
        others.next().await.unwrap(),
        Followed::Event { .. }
    ));
    for log in [first, second] {
        log.close().await.unwrap();
    }
    // And without a server the answer comes, which says so.
    let nowhere = DistributedConfig::new().scylla(config("127.0.0.1:1", &keyspace.name));
    let alone = Tidelog::builder(dir.path().join("second")).distributed(nowhere);
    let alone = alone.open().unwrap();
    let failed = alone.replication().take_remote(&stream("T/b")).await;
    assert_eq!(failed.unwrap_err().code(), "unreachable");
    alone.close().await.unwrap();
    keyspace.drop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn each_till_sees_the_events_of_the_others() {
    let Some(keyspace) = Keyspace::new("follow") else {
        return;
    };
    let dir = tempfile::tempdir().unwrap();
    let tills: Vec<_> = (0..3)
        .map(|at| keyspace.open(&dir.path().join(format!("till-{at}"))))
        .collect();
    for (at, till) in tills.iter().enumerate() {
        for event in 0..30 {
            append(till, &format!("T/{at}-{}", event % 4), 1 + event % 3).await;
        }
        let last = till.last_position();
        till.wait_for(last, Stage::Replicated).await.unwrap();
    }
    let mut others = tills[0].replication().follow(Vector::new()).unwrap();
    let mut came: Vec<(usize, EventId)> = Vec::new();
    while came.len() < 2 * 60 {
        match others.next().await.unwrap() {
            Followed::Event {
                origin, envelope, ..
            } => {
                let whose = tills
                    .iter()
                    .position(|till| EventLog::identity(till.store()).origin == origin);
                came.push((whose.unwrap(), envelope.event_id));
            }
            other => panic!("{other:?}"),
        }
    }
    for (at, till) in tills.iter().enumerate().skip(1) {
        let log = till.read_all(tidelog::LogQuery::all());
        let log = log.collect().await.unwrap();
        let wanted: Vec<_> = log.iter().map(|event| event.event_id).collect();
        let of_it = came.iter().filter(|(whose, _)| *whose == at);
        assert_eq!(of_it.map(|(_, id)| *id).collect::<Vec<_>>(), wanted);
    }
    // Another follower goes on where this one was.
    let mut later = tills[0]
        .replication()
        .follow(others.vector().clone())
        .unwrap();
    append(&tills[2], "T/new", 1).await;
    match later.next().await.unwrap() {
        Followed::Event { envelope, .. } => assert_eq!(envelope.stream, stream("T/new")),
        other => panic!("{other:?}"),
    }
    for till in tills {
        till.close().await.unwrap();
    }
    keyspace.drop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_conflict_is_reported_once_and_either_way_to_resolve_it_ends_in_one_stream() {
    let Some(keyspace) = Keyspace::new("conflict") else {
        return;
    };
    let dir = tempfile::tempdir().unwrap();
    let (one, two) = (
        keyspace.open(&dir.path().join("one")),
        keyspace.open(&dir.path().join("two")),
    );
    for name in ["T/taken", "T/again"] {
        append(&one, name, 3).await;
    }
    one.wait_for(one.last_position(), Stage::Replicated)
        .await
        .unwrap();
    for name in ["T/taken", "T/again"] {
        append(&two, name, 2).await;
    }
    append(&two, "T/own", 1).await;
    settle(&two).await;
    let parked = two.replication().parked();
    assert_eq!(parked.len(), 2, "{parked:?}");
    assert!(
        parked
            .iter()
            .all(|entry| entry.reason == ParkedReason::Diverged)
    );
    let waited = two.wait_for(two.last_position(), Stage::Replicated).await;
    assert!(waited.unwrap_err().to_string().contains("parked"));
    let replication = two.replication();
    let taken = replication.take_remote(&stream("T/taken")).await.unwrap();
    assert_eq!((taken.superseded, taken.adopted, taken.reissued), (2, 3, 0));
    let contested = stream("T/again");
    let again = replication.reissue(&contested, |conflict| {
        let held = conflict.held.iter();
        let new =
            held.map(|event| NewEvent::new("Again", 1, ContentType::Json, event.event.clone()));
        Ok(new.collect())
    });
    let again = again.await.unwrap();
    assert_eq!((again.superseded, again.adopted, again.reissued), (2, 3, 2));
    let last = again.position.unwrap();
    until("resolved", || replication.parked().is_empty()).await;
    two.wait_for(last, Stage::Replicated).await.unwrap();
    assert_eq!(ids(&two, "T/taken").await, ids(&one, "T/taken").await);
    assert_eq!(ids(&two, "T/again").await[..3], ids(&one, "T/again").await);
    // What the server has is what both have.
    let session = plain::session(&keyspace.server).await;
    for name in ["T/taken", "T/again"] {
        let text = format!(
            "SELECT event_id FROM {}.events_by_stream WHERE aggregate_type = 'T' \
             AND aggregate_id = '{}' AND bucket = 0",
            keyspace.name,
            &name[2..]
        );
        let rows = session.query_unpaged(text, ()).await.unwrap();
        let rows = rows.into_rows_result().unwrap();
        let rows = rows.rows::<(uuid::Uuid,)>().unwrap();
        let there: Vec<_> = rows.map(|row| row.unwrap().0).collect();
        let here: Vec<_> = ids(&two, name).await;
        let here: Vec<_> = here.iter().map(|id| *id.as_uuid()).collect();
        assert_eq!(there, here, "{name}");
    }
    // A follower sees what was held nowhere.
    let mut others = one.replication().follow(Vector::new()).unwrap();
    let (mut events, mut superseded) = (Vec::new(), 0);
    while events.len() < 1 + 3 + 5 {
        match others.next().await.unwrap() {
            Followed::Event { envelope, .. } => events.push(envelope.event_id),
            Followed::Superseded { .. } => superseded += 1,
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(superseded, 2);
    let (own, taken) = (ids(&two, "T/own").await, ids(&two, "T/taken").await);
    let wanted = [own, taken, ids(&two, "T/again").await].concat();
    assert_eq!(events, wanted);
    one.close().await.unwrap();
    two.close().await.unwrap();
    keyspace.drop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clone_stands_still_until_it_is_forked_and_both_live_on() {
    let Some(keyspace) = Keyspace::new("clone") else {
        return;
    };
    let dir = tempfile::tempdir().unwrap();
    let (first, second) = (dir.path().join("first"), dir.path().join("second"));
    let original = keyspace.open(&first);
    append(&original, "T/common", 5).await;
    original
        .wait_for(original.last_position(), Stage::Replicated)
        .await
        .unwrap();
    original.close().await.unwrap();
    copy_tree(&first, &second);
    let original = keyspace.open(&first);
    append(&original, "T/first", 2).await;
    settle(&original).await;
    let clone = keyspace.open(&second);
    append(&clone, "T/second", 2).await;
    assert!(matches!(halted(&clone).await, Halt::Cloned { .. }));
    clone.replication().fork(Other::Lives).await.unwrap();
    settle(&clone).await;
    append(&original, "T/first", 1).await;
    settle(&original).await;
    assert_eq!(
        original.replication().status().state,
        ReplicationState::Live
    );
    // A third one sees what both have, and what they share once.
    let third = keyspace.open(&dir.path().join("third"));
    let mut others = third.replication().follow(Vector::new()).unwrap();
    let mut streams = Vec::new();
    while streams.len() < 10 {
        if let Followed::Event { envelope, .. } = others.next().await.unwrap() {
            streams.push(envelope.stream.to_string());
        }
    }
    streams.sort();
    let wanted = [vec!["T/common"; 5], vec!["T/first"; 3], vec!["T/second"; 2]].concat();
    assert_eq!(streams, wanted);
    for log in [original, clone, third] {
        log.close().await.unwrap();
    }
    keyspace.drop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_till_sees_the_others_events_offline_and_leaves_their_streams_alone() {
    let Some(keyspace) = Keyspace::new("pull") else {
        return;
    };
    let dir = tempfile::tempdir().unwrap();
    let (first, second) = (dir.path().join("first"), dir.path().join("second"));
    let pulling = |server: &str| {
        let options = tidelog::ReplicationOptions::new().pull(tidelog::Pull::All);
        let distributed = DistributedConfig::new()
            .scylla(config(server, &keyspace.name))
            .options(options);
        Tidelog::builder(&second)
            .sparse_segments()
            .distributed(distributed)
            .open()
            .unwrap()
    };
    let one = keyspace.open(&first);
    append(&one, "T/theirs", 7).await;
    one.wait_for(one.last_position(), Stage::Replicated)
        .await
        .unwrap();
    let origin = EventLog::identity(one.store()).origin;
    let two = pulling(&keyspace.server);
    append(&two, "T/own", 1).await;
    let replication = two.replication();
    until("the other's events", || {
        replication.peer(origin).is_some_and(|p| p.position() >= 7)
    })
    .await;
    two.close().await.unwrap();
    // Nobody is there to be asked.
    let two = pulling("127.0.0.1:1");
    let peer = two.replication().peer(origin).unwrap();
    let theirs = peer.read_stream(StreamQuery::new(stream("T/theirs")));
    let theirs: Vec<_> = theirs.collect().await.unwrap();
    let theirs: Vec<_> = theirs.into_iter().map(|event| event.event_id).collect();
    assert_eq!(theirs, ids(&one, "T/theirs").await);
    assert_eq!(ids(&two, "T/theirs").await, []);
    let event = NewEvent::new("E", 1, ContentType::Json, "1");
    let batch = AppendBatch::new(stream("T/theirs"), ExpectedVersion::Any, vec![event]);
    let refused = two.append(batch).await.unwrap_err();
    assert!(
        matches!(refused, tidelog::Error::ForeignStream { origin: of, .. } if of == origin),
        "{refused}"
    );
    append(&two, "T/own", 1).await;
    append(&two, "T/new", 1).await;
    two.close().await.unwrap();
    one.close().await.unwrap();
    keyspace.drop().await;
}

/// Ids of a stream's events at the server, in their order; of its first bucket.
async fn there(keyspace: &Keyspace, name: &str) -> Vec<EventId> {
    let session = plain::session(&keyspace.server).await;
    let text = format!(
        "SELECT sequence, event_id FROM {}.events_by_stream WHERE aggregate_type = 'T' \
         AND aggregate_id = '{}' AND bucket = 0",
        keyspace.name,
        &name[2..]
    );
    let rows = session.query_unpaged(text, ()).await.unwrap();
    let rows = rows.into_rows_result().unwrap();
    let rows = rows.rows::<(i64, uuid::Uuid)>().unwrap();
    let rows: Vec<_> = rows.map(Result::unwrap).collect();
    let dense = rows.iter().zip(1..).all(|((at, _), n)| *at == n);
    assert!(dense, "{name}: {rows:?}");
    let ids = rows.into_iter().map(|(_, id)| EventId::from_uuid(id));
    ids.collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn three_tills_that_write_the_same_streams_on_purpose_end_with_one_history_of_each() {
    const ROUNDS: usize = 4;
    let Some(keyspace) = Keyspace::new("collide") else {
        return;
    };
    let dir = tempfile::tempdir().unwrap();
    let tills: Vec<_> = (0..3)
        .map(|at| keyspace.open(&dir.path().join(format!("till-{at}"))))
        .collect();
    let names: Vec<_> = (0..4).map(|at| format!("T/{at}")).collect();
    let names = &names;
    let (mut conflicts, mut superseded) = (0, 0);
    for round in 0..ROUNDS {
        let all = tills.iter().enumerate().map(|(whose, till)| async move {
            for (at, name) in names.iter().enumerate() {
                append(till, name, 1 + (round + at) % 3).await;
                append(till, &format!("{name}-of-{whose}"), 1).await;
            }
        });
        futures_util::future::join_all(all).await;
        // Nobody writes meanwhile but who resolves: in the end nothing is left.
        loop {
            let mut resolved = 0;
            for (at, till) in tills.iter().enumerate() {
                settle(till).await;
                let replication = till.replication();
                for entry in replication.parked() {
                    assert_eq!(entry.reason, ParkedReason::Diverged, "{entry:?}");
                    let name = &entry.stream;
                    let done = if (at + round) % 2 == 0 {
                        replication.take_remote(name).await
                    } else {
                        replication.reissue(name, again).await
                    };
                    resolved += 1;
                    superseded += done.unwrap().superseded;
                }
                settle(till).await;
            }
            conflicts += resolved;
            if resolved == 0 {
                break;
            }
        }
    }
    // Whoever does not win has it in its log, and nowhere else.
    assert!(conflicts >= 2 * names.len(), "{conflicts}");
    let mut of_server = Vec::new();
    for name in names {
        let there = there(&keyspace, name).await;
        assert!(there.len() >= ROUNDS, "{name}: {there:?}");
        for till in &tills {
            let here = ids(till, name).await;
            assert!(there.starts_with(&here), "{name}: {here:?} of {there:?}");
        }
        let longest = tills.iter().map(|till| ids(till, name));
        let longest = futures_util::future::join_all(longest).await;
        assert!(longest.contains(&there), "nobody has all of {name}");
        of_server.extend(there);
    }
    let mut gone = 0;
    for till in &tills {
        let log = till.read_all(tidelog::LogQuery::all());
        for event in log.collect().await.unwrap() {
            let is_shared = names.iter().any(|name| *name == event.stream.to_string());
            if is_shared && !of_server.contains(&event.event_id) {
                assert!(till.store().is_superseded(&event), "{event:?}");
                gone += 1;
            }
        }
    }
    assert_eq!(
        gone, superseded,
        "what gave way was nobody's but its till's"
    );
    // Who follows sees each event that the server has, and none that gave way.
    let watcher = keyspace.open(&dir.path().join("watcher"));
    let mut others = watcher.replication().follow(Vector::new()).unwrap();
    let mut missing: std::collections::BTreeSet<_> = of_server.iter().copied().collect();
    while !missing.is_empty() {
        if let Followed::Event { envelope, .. } = others.next().await.unwrap()
            && names.contains(&envelope.stream.to_string())
        {
            assert!(of_server.contains(&envelope.event_id), "{envelope:?}");
            missing.remove(&envelope.event_id);
        }
    }
    assert_eq!(others.vector().left_out().count(), 0);
    crate::say(&format!(
        "{conflicts} conflicts, {superseded} events gave way, {} stand",
        of_server.len()
    ));
    for log in tills.into_iter().chain([watcher]) {
        log.close().await.unwrap();
    }
    keyspace.drop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_parked_with_a_sibling_and_is_taken_later_comes_to_who_has_passed_it() {
    let Some(keyspace) = Keyspace::new("later") else {
        return;
    };
    let dir = tempfile::tempdir().unwrap();
    let open = |name: &str| keyspace.open(&dir.path().join(name));
    let (one, two, watcher) = (open("one"), open("two"), open("watcher"));
    // Two writes where one has written, and then once more, in one append with another stream.
    append(&one, "T/both", 1).await;
    one.wait_for(one.last_position(), Stage::Replicated)
        .await
        .unwrap();
    append(&two, "T/both", 1).await;
    settle(&two).await;
    let event = |at| NewEvent::new("E", 1, ContentType::Json, format!("{at}"));
    let part = |name: &str| AppendBatch::new(stream(name), ExpectedVersion::Any, vec![event(1)]);
    let parts = vec![part("T/both"), part("T/sibling")];
    two.append_streams(parts).await.unwrap();
    append(&two, "T/sibling", 2).await;
    append(&two, "T/other", 1).await;
    settle(&two).await;
    let replication = two.replication();
    assert_eq!(replication.parked().len(), 2, "{:?}", replication.parked());
    let mut others = watcher.replication().follow(Vector::new()).unwrap();
    let mut came = Vec::new();
    while came.len() < 2 {
        if let Followed::Event { envelope, .. } = others.next().await.unwrap() {
            came.push(envelope.stream.to_string());
        }
    }
    came.sort();
    assert_eq!(came, ["T/both", "T/other"]);
    let vector = others.vector().clone();
    assert_eq!(vector.left_out().count(), 2, "{vector}");
    replication.take_remote(&stream("T/both")).await.unwrap();
    settle(&two).await;
    replication
        .retry_stream(&stream("T/sibling"))
        .await
        .unwrap();
    until("accepted", || replication.parked().is_empty()).await;
    append(&two, "T/sibling", 1).await;
    settle(&two).await;
    let mut later = watcher.replication().follow(vector).unwrap();
    let mut came = Vec::new();
    while came.len() < 4 {
        if let Followed::Event { envelope, .. } = later.next().await.unwrap()
            && envelope.stream == stream("T/sibling")
        {
            came.push(envelope.event_id);
        }
    }
    assert_eq!(came, ids(&two, "T/sibling").await);
    assert_eq!(later.vector().left_out().count(), 0);
    for log in [one, two, watcher] {
        log.close().await.unwrap();
    }
    keyspace.drop().await;
}

/// What is held, as new events.
#[allow(
    clippy::unnecessary_wraps,
    reason = "it is what a caller of `reissue` gives"
)]
fn again(conflict: &Conflict) -> Result<Vec<NewEvent>, HandlerError> {
    let held = conflict.held.iter();
    let new = held.map(|event| NewEvent::new("Again", 1, ContentType::Json, event.event.clone()));
    Ok(new.collect())
}
