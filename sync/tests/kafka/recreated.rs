//! Topics that lose what they had.

use std::collections::BTreeSet;
use std::fs;

use tempfile::tempdir;
use tidelog::{BlockingTidelog, DistributedConfig, PublishingOptions, TopicSpec};

use crate::consumer::{self, Checker};
use crate::services::Own;
use crate::stores::{self, Shop};
use crate::{services, topics};

#[test]
fn a_topic_made_again_is_noticed_and_refilled_when_told_to() {
    let Some(address) = services::kafka() else {
        return;
    };
    let shop = Shop::new("recreated", address, 2);
    let dir = tempdir().unwrap();
    // By itself it sends no more than this again.
    let options = PublishingOptions::new().overlap(50);
    let config = DistributedConfig::new().kafka(shop.config().options(options));
    let log = stores::open(dir.path(), config);
    for number in 0..500 {
        stores::append(&log, &stores::stream(number % 20), b"before".to_vec());
    }
    stores::level(&log);
    topics::delete(&shop.address, &[&shop.topic()]);
    for number in 0..100 {
        stores::append(&log, &stores::stream(number % 20), b"meanwhile".to_vec());
    }
    stores::until(&log, "not missed", |status| {
        status
            .missing_topics
            .iter()
            .any(|topic| **topic == *shop.topic())
    });
    let made = log
        .publishing()
        .ensure_topics(&["Till"], TopicSpec::new(2, 1));
    made.unwrap();
    stores::level(&log);
    stores::until(&log, "not noticed", |status| {
        status
            .restarted_topics
            .iter()
            .any(|topic| **topic == *shop.topic())
    });
    // Publishing goes on, but what the topic had is gone.
    assert!(shop.seen().events() < 600);
    log.publishing().republish(..).unwrap().wait().unwrap();
    let status = log.publishing().status();
    assert!(status.restarted_topics.is_empty(), "{status:?}");
    stores::level(&log);
    assert_is_refilled(&shop, &log);
    log.close().unwrap();
    shop.forget();
}

/// Panics unless all streams are whole from their first event on: what stands before that in the topic
/// was sent without what is gone.
fn assert_is_refilled(shop: &Shop, log: &BlockingTidelog) {
    let (mut checker, mut begun) = (Checker::default(), BTreeSet::new());
    for found in consumer::read(&shop.address, &[shop.topic()]) {
        let stream = found.header("ce_subject").unwrap().to_owned();
        if found.header("ce_sequence") == Some("1") {
            begun.insert(stream.clone());
        }
        if begun.contains(&stream) {
            checker.take(&found);
        }
    }
    checker.assert_is(&stores::wanted(log));
    assert!(checker.wrong.is_empty(), "{:?}", checker.wrong);
}

#[test]
fn a_broker_that_lost_what_it_acknowledged_gets_it_again_and_publishing_goes_on() {
    let Some(broker) = Own::kafka() else { return };
    let shop = Shop::new("lost", broker.address(), 1);
    let dir = tempdir().unwrap();
    let log = shop.open(dir.path());
    for number in 0..1_000 {
        stores::append(&log, &stores::stream(number % 20), vec![7; 500]);
    }
    stores::level(&log);
    broker.kill();
    let folder = broker
        .folder()
        .join("data")
        .join(format!("{}-0", shop.topic()));
    let files = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let data = files.filter(|path| path.extension().is_some_and(|ext| ext == "log"));
    let data = data.max().unwrap();
    let bytes = fs::metadata(&data).unwrap().len();
    let file = fs::OpenOptions::new().write(true).open(&data).unwrap();
    file.set_len(bytes / 2).unwrap();
    drop(file);
    broker.start_again();
    for number in 0..200 {
        stores::append(&log, &stores::stream(number % 20), vec![8; 500]);
    }
    stores::level(&log);
    let status = log.publishing().status();
    assert!(status.again > 0, "{status:?}");
    assert!(log.publishing().halt().is_none());
    assert_eq!(log.publishing().parked(), []);
    // The overlap, 2,000 records, covers all of it here.
    assert_is_refilled(&shop, &log);
    log.close().unwrap();
}
