//! Waiting until something is published: it is so, or an error says why it never will be by itself.

use std::thread;

use tempfile::tempdir;
use tidelog::{
    AppendBatch, BlockingTidelog, ContentType, Error, ExpectedVersion, NewEvent, Stage, StreamId,
    Tidelog,
};

use crate::stores::{self, Shop};
use crate::sweep::Random;
use crate::{services, topics};

fn wait(log: &BlockingTidelog, position: u64) -> Result<(), Error> {
    let waited = log.wait_for_timeout(position, Stage::Published, stores::PATIENCE);
    waited.map(|is_there| assert!(is_there, "{:?}", log.publishing().status()))
}

/// Of a type whose topic nobody makes, so that it waits for ever.
fn append_for_ever(log: &BlockingTidelog) -> u64 {
    let event = NewEvent::new("Rung", 1, ContentType::Bytes, "waits");
    let stream = StreamId::new("Nowhere", "1").unwrap();
    let batch = AppendBatch::new(stream, ExpectedVersion::Any, vec![event]);
    log.append(batch).unwrap().last_position.unwrap()
}

#[test]
fn where_publishing_is_off_waiting_for_it_says_so() {
    let dir = tempdir().unwrap();
    let log = Tidelog::open(dir.path()).unwrap().blocking();
    let position = stores::append(&log, &stores::stream(1), b"here alone".to_vec());
    let off = log.wait_for(position, Stage::Published).unwrap_err();
    assert_eq!(off.code(), "invalid_input");
    assert!(off.to_string().contains("KafkaConfig"), "{off}");
    let reached = log.stage_of(position).unwrap().unwrap();
    assert_eq!(reached.stage, Stage::Committed);
    let off = log.publishing().republish(..).unwrap_err();
    assert_eq!(off.code(), "invalid_input");
}

#[test]
fn whoever_waits_for_what_is_parked_is_told_which_stream_and_why() {
    let Some(address) = services::kafka() else {
        return;
    };
    let shop = Shop::new("stages", address, 2);
    topics::alter(&shop.address, &shop.topic(), "max.message.bytes", "10000");
    let dir = tempdir().unwrap();
    let log = shop.open(dir.path());
    let (fine, large) = (stores::stream(1), stores::stream(2));
    let first = stores::append(&log, &fine, b"fine".to_vec());
    wait(&log, first).unwrap();
    let payload = stores::noise(&mut Random(7), 200_000);
    let refused = stores::append(&log, &large, payload);
    let last = stores::append(&log, &fine, b"fine, too".to_vec());
    // It was not parked yet when this began to wait.
    for position in [refused, last] {
        let Err(Error::Parked {
            what,
            stream,
            position: at,
            ..
        }) = log.wait_for(position, Stage::Published)
        else {
            panic!("{:?}", log.publishing().status());
        };
        assert_eq!((&*what, &stream, at), ("publishing", &large, refused));
    }
    wait(&log, first).unwrap();
    // Each event by itself.
    stores::level(&log);
    let reached = log.stage_of(last).unwrap().unwrap();
    assert_eq!(reached.stage, Stage::Published);
    let reached = log.stage_of(refused).unwrap().unwrap();
    assert_eq!(reached.stage, Stage::Committed);
    assert!(
        matches!(reached.parked, Some(Error::Parked { .. })),
        "{reached:?}"
    );
    let status = log.status();
    let published = status.published.unwrap();
    assert_eq!((published.settled, published.parked), (last, 1));
    topics::alter(&shop.address, &shop.topic(), "max.message.bytes", "1000000");
    log.publishing().retry_stream(&large).unwrap();
    stores::until(&log, "still parked", |status| status.parked == 0);
    wait(&log, last).unwrap();
    log.close().unwrap();
    shop.forget();
}

#[test]
fn whoever_waits_when_the_store_is_closed_is_told_so() {
    let Some(address) = services::kafka() else {
        return;
    };
    let shop = Shop::new("closed", address, 1);
    let dir = tempdir().unwrap();
    let log = shop.open(dir.path());
    stores::append(&log, &stores::stream(1), b"published".to_vec());
    stores::level(&log);
    topics::delete(&shop.address, &[&shop.topic()]);
    let pass = log.publishing().republish(..).unwrap();
    let waiting = {
        let pass = pass.clone();
        thread::spawn(move || pass.wait())
    };
    let position = append_for_ever(&log);
    let (asynchronous, publishing) = (log.inner().clone(), log.publishing());
    let waits = thread::spawn(move || {
        pollster::block_on(asynchronous.wait_for(position, Stage::Published))
    });
    stores::until(&log, "nothing is missed", |status| {
        !status.missing_topics.is_empty()
    });
    log.close().unwrap();
    let closed = waits.join().unwrap();
    assert!(matches!(closed, Err(Error::Closed)), "{closed:?}");
    let closed = waiting.join().unwrap();
    assert!(matches!(closed, Err(Error::Closed)), "{closed:?}");
    let closed = pass.wait();
    assert!(matches!(closed, Err(Error::Closed)), "{closed:?}");
    let closed = publishing.republish(..).unwrap_err();
    assert!(matches!(closed, Error::Closed), "{closed:?}");
    let origins = shop.prefix.clone() + "_origins";
    topics::delete(&shop.address, &[&origins]);
}
