//! Two and three tills that write while apart: nothing is lost, each conflict is reported once, both
//! ways out of it are gone, and then all agree.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use tempfile::{TempDir, tempdir};
use tidelog::{
    AppendBatch, Error, EventEnvelope, ExpectedVersion, ParkedReason, ReplicationState, Stage,
    StreamId, StreamQuery, Tidelog,
};
use tidelog_backends::scylla_driver::client::session::Session;

use crate::compare::{Found, Log};
use crate::{plain, services, streams, till};

/// Streams that all tills write.
const SHARED: u64 = 6;

struct Tills {
    _root: TempDir,
    stores: Vec<PathBuf>,
    server: String,
    keyspace: String,
    session: Session,
}

impl Tills {
    async fn new(count: usize, test: &str) -> Option<Self> {
        let server = services::scylla()?;
        let root = tempdir().unwrap();
        let stores = (0..count).map(|till| root.path().join(format!("till-{till}")));
        Some(Self {
            stores: stores.collect(),
            session: plain::session(&server).await,
            keyspace: plain::keyspace(test),
            _root: root,
            server,
        })
    }

    fn offline(&self, till: usize) -> Tidelog {
        Tidelog::open(&self.stores[till]).unwrap()
    }

    fn online(&self, till: usize) -> Tidelog {
        let config = till::config(&self.server, &self.keyspace);
        till::builder(&self.stores[till], config).open().unwrap()
    }

    async fn found(&self) -> Found {
        Found::read(&self.session, &self.keyspace).await
    }

    fn log(store: &Path) -> Log {
        Log::of(Tidelog::open(store).unwrap().store())
    }

    /// Compares all tills' logs with the keyspace; every till is closed.
    async fn agree(&self) -> Found {
        let logs: Vec<_> = self.stores.iter().map(|store| Self::log(store)).collect();
        let found = self.found().await;
        found.agrees(&logs, &BTreeMap::new(), |_, _| false);
        found
    }

    async fn parked_rows(&self) -> usize {
        let text = format!(
            "SELECT first_position FROM {}.parked_by_origin",
            self.keyspace
        );
        let found = self.session.query_unpaged(text, ()).await.unwrap();
        found.into_rows_result().unwrap().rows_num()
    }
}

async fn texts(log: &Tidelog, stream: &StreamId) -> Vec<String> {
    let mut events = log.read_stream(StreamQuery::new(stream.clone()));
    let mut texts = Vec::new();
    while let Some(envelope) = events.next().await {
        texts.push(text(&envelope.unwrap()));
    }
    texts
}

fn text(envelope: &EventEnvelope) -> String {
    String::from_utf8(envelope.event.to_vec()).unwrap()
}

/// What till number `till` does while it is offline.
async fn write_apart(log: &Tidelog, till: usize) {
    for number in 0..5 {
        let own = streams::named(&format!("Own{till}"), number);
        till::say(log, &own, &["one", "two", "three"]).await;
    }
    for number in 0..SHARED {
        let shared = streams::named("Shared", number);
        for event in 0..=number {
            let text = format!("{event} by {till}");
            till::say(log, &shared, &[&text]).await;
        }
    }
}

/// Waits until all is settled, some of it parked; answers the parked streams.
async fn parked(log: &Tidelog) -> BTreeSet<StreamId> {
    let last = log.last_position();
    till::until(log, "settled", |status| status.settled >= last).await;
    let parked = log.replication().parked();
    let streams: BTreeSet<_> = parked.iter().map(|one| one.stream.clone()).collect();
    assert_eq!(streams.len(), parked.len(), "each once: {parked:?}");
    streams
}

fn shared() -> BTreeSet<StreamId> {
    (0..SHARED)
        .map(|number| streams::named("Shared", number))
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn tills_with_streams_of_their_own_never_meet() {
    let Some(tills) = Tills::new(3, "disjoint").await else {
        return;
    };
    let logs: Vec<_> = (0..3).map(|till| tills.online(till)).collect();
    for round in 0..20 {
        for (till, log) in logs.iter().enumerate() {
            let own = streams::named(&format!("Own{till}"), round % 4);
            till::say(log, &own, &["a", "b"]).await;
        }
    }
    for log in logs {
        till::level(&log).await;
        assert_eq!(log.replication().status().parked, 0);
        log.close().await.unwrap();
    }
    assert_eq!(tills.agree().await.events(), 120);
    plain::drop_keyspace(&tills.session, &tills.keyspace).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_two_tills_wrote_apart_is_reported_once_and_resolved_either_way() {
    let Some(tills) = Tills::new(2, "two").await else {
        return;
    };
    for till in 0..2 {
        let log = tills.offline(till);
        write_apart(&log, till).await;
        log.close().await.unwrap();
    }
    let first = tills.online(0);
    till::level(&first).await;
    first.close().await.unwrap();

    let second = tills.online(1);
    assert_eq!(parked(&second).await, shared());
    let waited = second
        .wait_for(second.last_position(), Stage::Replicated)
        .await;
    assert!(matches!(waited, Err(Error::Parked { .. })), "{waited:?}");
    for one in second.replication().parked() {
        assert_eq!(
            (&one.reason, one.first_sequence),
            (&ParkedReason::Diverged, 1)
        );
    }
    // Other streams go on, and so does the parked one here.
    let own = streams::named("Own1", 0);
    till::say(&second, &own, &["goes on"]).await;
    let shared_0 = streams::named("Shared", 0);
    till::say(&second, &shared_0, &["held too"]).await;
    assert_eq!(parked(&second).await, shared());
    assert_eq!(tills.found().await.texts(&own).last().unwrap(), "goes on");
    // It is not reported again by whoever opens it next.
    second.close().await.unwrap();
    let second = tills.online(1);
    till::until(&second, "connected", |status| {
        status.state == ReplicationState::Live
    })
    .await;
    assert_eq!(parked(&second).await, shared());
    assert_eq!(tills.parked_rows().await, shared().len());

    for number in 0..SHARED {
        let stream = streams::named("Shared", number);
        if number % 2 == 0 {
            second.replication().take_remote(&stream).await.unwrap();
        } else {
            let again = |conflict: &tidelog::Conflict| {
                assert_eq!(conflict.held.len(), conflict.remote.len());
                let again = conflict.held.iter();
                Ok(again
                    .map(|held| till::event(format!("again: {}", text(held))))
                    .collect())
            };
            second.replication().reissue(&stream, again).await.unwrap();
        }
    }
    till::level(&second).await;
    assert!(second.replication().parked().is_empty());
    let found = tills.found().await;
    for number in 0..SHARED {
        let stream = streams::named("Shared", number);
        let mut expected: Vec<_> = (0..=number).map(|event| format!("{event} by 0")).collect();
        if number % 2 == 1 {
            expected.extend((0..=number).map(|event| format!("again: {event} by 1")));
        }
        assert_eq!(texts(&second, &stream).await, expected);
        assert_eq!(found.texts(&stream), expected);
    }
    second.close().await.unwrap();
    tills.agree().await;
    plain::drop_keyspace(&tills.session, &tills.keyspace).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn three_tills_come_to_one_history() {
    let Some(tills) = Tills::new(3, "three").await else {
        return;
    };
    for till in 0..3 {
        let log = tills.offline(till);
        write_apart(&log, till).await;
        log.close().await.unwrap();
    }
    // The last ones take turns until nobody has anything that the others have not.
    for till in [0, 1, 2, 0, 1, 2] {
        let log = tills.online(till);
        for stream in parked(&log).await {
            let again = |conflict: &tidelog::Conflict| {
                let again = conflict.held.iter();
                Ok(again
                    .map(|held| till::event(format!("again: {}", text(held))))
                    .collect())
            };
            log.replication().reissue(&stream, again).await.unwrap();
        }
        till::level(&log).await;
        for number in 0..SHARED {
            let stream = streams::named("Shared", number);
            let there = tills.found().await.texts(&stream);
            let here = texts(&log, &stream).await;
            // Whoever has not written since has a beginning of what stands there.
            assert!(there.starts_with(&here), "{here:?} {there:?}");
        }
        log.close().await.unwrap();
    }
    let found = tills.agree().await;
    for number in 0..SHARED {
        let texts = found.texts(&streams::named("Shared", number));
        let count = 3 * (usize::try_from(number).unwrap() + 1);
        assert_eq!(
            texts.len(),
            count,
            "each event of each till once: {texts:?}"
        );
    }
    plain::drop_keyspace(&tills.session, &tills.keyspace).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_that_is_torn_is_parked_with_its_siblings() {
    let Some(tills) = Tills::new(2, "torn").await else {
        return;
    };
    let (first, second) = (tills.online(0), tills.offline(1));
    let taken = streams::named("Taken", 1);
    till::say(&first, &taken, &["first"]).await;
    till::level(&first).await;
    first.close().await.unwrap();
    let free = streams::named("Free", 1);
    let part = |stream: &StreamId| {
        let events = vec![till::event("together")];
        AppendBatch::new(stream.clone(), ExpectedVersion::NoStream, events)
    };
    second
        .append_streams(vec![part(&free), part(&taken)])
        .await
        .unwrap();
    second.close().await.unwrap();

    let second = tills.online(1);
    let last = second.last_position();
    till::until(&second, "settled", |status| status.settled >= last).await;
    let parked = second.replication().parked();
    let reasons: BTreeMap<_, _> = parked.iter().map(|one| (&one.stream, one)).collect();
    assert_eq!(reasons.len(), 2, "{parked:?}");
    assert_eq!(reasons[&taken].reason, ParkedReason::Diverged);
    let sibling = taken.clone();
    // What was there before the other was seen is listed; what was not is held.
    let torn = reasons[&free];
    assert!(
        torn.accepted || torn.reason == ParkedReason::TornBatch { sibling },
        "{torn:?}"
    );
    second.close().await.unwrap();
    plain::drop_keyspace(&tills.session, &tills.keyspace).await;
}
