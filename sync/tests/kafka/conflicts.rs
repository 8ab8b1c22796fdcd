//! What two stores wrote apart, with Kafka behind the replica: what is parked there is not published, and
//! what comes of it is, in order.

use std::collections::BTreeMap;

use tempfile::TempDir;
use tidelog::{
    AppendBatch, BlockingTidelog, Conflict, DistributedConfig, Error, ExpectedVersion, NewEvent,
    ParkedReason, ReplicationOptions, Stage, StreamId, StreamQuery, Tidelog,
};

use crate::consumer::{self, Checker};
use crate::stores::{self, Shop};
use crate::{plain, services, till};

/// Two stores of one keyspace and one shop.
struct Two {
    shop: Shop,
    server: String,
    keyspace: String,
    dirs: [TempDir; 2],
}

impl Two {
    fn new(test: &str) -> Option<Self> {
        let (kafka, server) = (services::kafka()?, services::scylla()?);
        Some(Self {
            shop: Shop::new(test, kafka, 2),
            server,
            keyspace: plain::keyspace(test),
            dirs: [(); 2].map(|()| tempfile::tempdir().unwrap()),
        })
    }

    /// By itself, with no network.
    fn offline(&self, number: usize) -> BlockingTidelog {
        let log = Tidelog::open(self.dirs[number].path());
        log.unwrap().blocking()
    }

    /// Replicated, and published nowhere.
    fn replicated(&self, number: usize) -> BlockingTidelog {
        stores::open(self.dirs[number].path(), self.replica())
    }

    /// Replicated, and published from there.
    fn online(&self, number: usize) -> BlockingTidelog {
        let config = self.replica().kafka(self.shop.config());
        stores::open(self.dirs[number].path(), config)
    }

    fn replica(&self) -> DistributedConfig {
        // One stream at a time, so that of a batch the first part is decided first.
        let options: ReplicationOptions = till::options().lanes(1);
        let config = till::config(&self.server, &self.keyspace);
        DistributedConfig::new().scylla(config).options(options)
    }

    /// What consumers see of each stream: each event once, in order. Panics where they see a gap, or one
    /// event in another's place.
    fn heard(&self) -> BTreeMap<String, Vec<String>> {
        let (mut checker, mut heard) = (Checker::default(), BTreeMap::<_, Vec<String>>::new());
        for found in consumer::read(&self.shop.address, &[self.shop.topic()]) {
            let before = checker.events();
            checker.take(&found);
            if checker.events() > before {
                let stream = found.header("ce_subject").unwrap().to_owned();
                let text = String::from_utf8(found.value.unwrap()).unwrap();
                heard.entry(stream).or_default().push(text);
            }
        }
        checker.assert_in_order();
        heard
    }

    fn heard_of(&self, stream: &StreamId) -> Vec<String> {
        self.heard().remove(&stream.to_string()).unwrap_or_default()
    }

    fn forget(self) {
        self.shop.forget();
        let runtime = tokio::runtime::Runtime::new().unwrap();
        runtime.block_on(async {
            let session = plain::session(&self.server).await;
            plain::drop_keyspace(&session, &self.keyspace).await;
        });
    }
}

fn say(log: &BlockingTidelog, stream: &StreamId, texts: &[&str]) {
    for text in texts {
        stores::append(log, stream, text.as_bytes().to_vec());
    }
}

/// Waits until a stage has all that is in the log now.
fn reaches(log: &BlockingTidelog, stage: Stage) {
    let last = log.last_position();
    let is_there = log.wait_for_timeout(last, stage, stores::PATIENCE);
    assert!(is_there.unwrap(), "{:?}", log.status());
}

/// What stands in the log itself.
fn texts(log: &BlockingTidelog, stream: &StreamId) -> Vec<String> {
    let events = log.read_stream(StreamQuery::new(stream.clone()));
    let text = |event: Result<tidelog::EventEnvelope, Error>| {
        String::from_utf8(event.unwrap().event.to_vec()).unwrap()
    };
    events.map(text).collect()
}

#[allow(clippy::unnecessary_wraps, reason = "it may refuse")]
fn again(conflict: &Conflict) -> Result<Vec<NewEvent>, tidelog::HandlerError> {
    let held = conflict.held.iter();
    let text = |held: &tidelog::EventEnvelope| String::from_utf8(held.event.to_vec()).unwrap();
    Ok(held
        .map(|held| till::event(format!("again: {}", text(held))))
        .collect())
}

#[test]
fn what_is_parked_at_the_replica_is_not_published_and_follows_in_order_once_it_is_resolved() {
    let Some(two) = Two::new("conflicts") else {
        return;
    };
    let [taken, issued, alone] = [1, 2, 3].map(stores::stream);
    let first = two.online(0);
    say(&first, &taken, &["theirs 1", "theirs 2"]);
    say(&first, &issued, &["theirs"]);
    reaches(&first, Stage::Published);
    first.close().unwrap();

    let second = two.offline(1);
    say(&second, &taken, &["mine 1"]);
    say(&second, &issued, &["mine 1", "mine 2"]);
    say(&second, &alone, &["mine"]);
    second.close().unwrap();
    let second = two.online(1);
    stores::level(&second);
    let parked = second.publishing().parked();
    let parked: Vec<_> = parked
        .iter()
        .map(|one| (&one.stream, &one.reason))
        .collect();
    let reason = &ParkedReason::NotReplicated;
    assert_eq!(parked, [(&taken, reason), (&issued, reason)]);
    let status = second.publishing().status();
    assert_eq!((status.withheld, status.parked), (2, 0), "{status:?}");
    let waited = second.wait_for(second.last_position(), Stage::Published);
    assert!(matches!(waited, Err(Error::Parked { .. })), "{waited:?}");
    // Others go on; what is parked does not, also after a restart.
    say(&second, &alone, &["mine, too"]);
    say(&second, &taken, &["mine 2"]);
    stores::level(&second);
    second.close().unwrap();
    let second = two.online(1);
    say(&second, &alone, &["and this"]);
    stores::level(&second);
    assert_eq!(two.heard_of(&taken), ["theirs 1", "theirs 2"]);
    assert_eq!(two.heard_of(&issued), ["theirs"]);
    assert_eq!(two.heard_of(&alone), ["mine", "mine, too", "and this"]);
    assert_eq!(second.publishing().status().withheld, 2);

    second.replication().take_remote(&taken).unwrap();
    second.replication().reissue(&issued, again).unwrap();
    say(&second, &taken, &["mine 3"]);
    stores::until(&second, "still withheld", |status| status.withheld == 0);
    reaches(&second, Stage::Published);
    let heard = two.heard();
    for (stream, wanted) in [
        (&taken, &["theirs 1", "theirs 2", "mine 3"]),
        (&issued, &["theirs", "again: mine 1", "again: mine 2"]),
        (&alone, &["mine", "mine, too", "and this"]),
    ] {
        assert_eq!(heard[&stream.to_string()], wanted, "{stream}");
        assert_eq!(texts(&second, stream), wanted, "{stream}");
    }
    second.close().unwrap();
    two.forget();
}

#[test]
fn of_a_batch_that_is_torn_at_the_replica_nothing_is_published_that_is_held() {
    let Some(two) = Two::new("torn") else {
        return;
    };
    let [taken, free, alone] = [1, 2, 3].map(stores::stream);
    // What nobody has published yet: who adopts it does.
    let first = two.replicated(0);
    say(&first, &taken, &["first"]);
    reaches(&first, Stage::Replicated);
    first.close().unwrap();
    let second = two.offline(1);
    let part = |stream: &StreamId, text: &str| {
        let events = vec![till::event(text)];
        AppendBatch::new(stream.clone(), ExpectedVersion::NoStream, events)
    };
    second
        .append_streams(vec![part(&taken, "together"), part(&free, "with it")])
        .unwrap();
    say(&second, &free, &["behind it"]);
    say(&second, &alone, &["alone"]);
    second.close().unwrap();

    let second = two.online(1);
    stores::level(&second);
    let parked = second.replication().parked();
    let held: Vec<_> = parked.iter().filter(|one| !one.accepted).collect();
    assert_eq!(held.len(), 2, "{parked:?}");
    let sibling = held.iter().find(|one| one.stream == free).unwrap();
    assert_eq!(
        sibling.reason,
        ParkedReason::TornBatch {
            sibling: taken.clone()
        }
    );
    let heard = two.heard();
    assert_eq!(heard[&alone.to_string()], ["alone"]);
    assert_eq!(heard.len(), 1, "{heard:?}");

    second.replication().reissue(&taken, again).unwrap();
    reaches_of(&second, &taken);
    // The other part is still held here, and there.
    assert_eq!(two.heard_of(&taken), ["first", "again: together"]);
    assert_eq!(two.heard_of(&free), [""; 0]);
    second.replication().retry_stream(&free).unwrap();
    stores::until(&second, "still withheld", |status| status.withheld == 0);
    reaches(&second, Stage::Published);
    assert_eq!(two.heard_of(&taken), ["first", "again: together"]);
    assert_eq!(two.heard_of(&free), ["with it", "behind it"]);
    assert_eq!(texts(&second, &free), ["with it", "behind it"]);
    second.close().unwrap();
    two.forget();
}

/// Waits until all of a stream is published that is in the log now.
fn reaches_of(log: &BlockingTidelog, stream: &StreamId) {
    let is_out =
        |parked: &[tidelog::PublishingParked]| parked.iter().all(|one| one.stream != *stream);
    let last = log.last_position();
    stores::until(log, "not all of it", |status| {
        status.settled >= last && is_out(&log.publishing().parked())
    });
}
