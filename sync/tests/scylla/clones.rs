//! A directory that is copied, and both copies opened, and a backup that is put back: one goes on, the other
//! says so and asks.

use std::collections::BTreeMap;
use std::path::Path;

use tempfile::tempdir;
use tidelog::{Error, Halt, Other, ReplicationState, Stage, Tidelog, restore_backup};

use crate::compare::{Found, Log};
use crate::folder::copy_tree;
use crate::{plain, services, streams, till};

#[tokio::test(flavor = "multi_thread")]
async fn of_two_copies_one_goes_on_and_the_other_asks() {
    let Some(server) = services::scylla() else {
        return;
    };
    let keyspace = plain::keyspace("cloned");
    let dir = tempdir().unwrap();
    let (first, second) = (dir.path().join("first"), dir.path().join("second"));
    let open = |dir: &Path| {
        till::builder(dir, till::config(&server, &keyspace))
            .open()
            .unwrap()
    };
    let log = open(&first);
    till::say(&log, &streams::named("Till", 0), &["before"]).await;
    till::level(&log).await;
    log.close().await.unwrap();
    copy_tree(&first, &second);

    let original = open(&first);
    till::say(&original, &streams::named("Original", 0), &["mine"]).await;
    till::level(&original).await;
    let clone = open(&second);
    let position = till::say(&clone, &streams::named("Clone", 0), &["also mine"]).await;
    till::until(&clone, "it stands still", |status| {
        matches!(&status.state, ReplicationState::Halted(Halt::Cloned { .. }))
    })
    .await;
    let waited = clone.wait_for(position, Stage::Replicated).await;
    assert!(matches!(waited, Err(Error::Halted(_))), "{waited:?}");
    // The local store does not mind.
    till::say(&clone, &streams::named("Clone", 0), &["and more"]).await;
    clone.replication().fork(Other::Lives).await.unwrap();
    till::level(&clone).await;
    till::say(&original, &streams::named("Original", 0), &["goes on"]).await;
    till::level(&original).await;

    let logs = [Log::of(original.store()), Log::of(clone.store())];
    original.close().await.unwrap();
    clone.close().await.unwrap();
    let session = plain::session(&server).await;
    let found = Found::read(&session, &keyspace).await;
    let agreement = found.agrees(&logs, &BTreeMap::new(), |_, _| false);
    // What both have counts for both.
    assert_eq!((agreement.events, found.events()), (6, 5));
    plain::drop_keyspace(&session, &keyspace).await;
}

async fn halted(log: &Tidelog) -> Halt {
    till::until(log, "it does not stand still", |status| {
        matches!(status.state, ReplicationState::Halted(_))
    })
    .await;
    log.replication().halt().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_that_was_put_back_sends_nothing_until_it_is_forked() {
    let Some(server) = services::scylla() else {
        return;
    };
    let keyspace = plain::keyspace("putback");
    let dir = tempdir().unwrap();
    let [first, backup, second] = ["first", "backup", "second"].map(|name| dir.path().join(name));
    let open = |dir: &Path| {
        till::builder(dir, till::config(&server, &keyspace))
            .open()
            .unwrap()
    };
    let [common, lost, after] = ["Common", "Lost", "After"].map(|kind| streams::named(kind, 0));
    let log = open(&first);
    till::say(&log, &common, &["one", "two"]).await;
    till::level(&log).await;
    log.backup(&backup).await.unwrap();
    let last = till::say(&log, &lost, &["one", "two", "three"]).await;
    till::level(&log).await;
    log.close().await.unwrap();
    restore_backup(&backup, &second).unwrap();

    let session = plain::session(&server).await;
    let restored = open(&second);
    let halt = halted(&restored).await;
    let Halt::RestoredBackup { watermark, .. } = halt else {
        panic!("{halt:?}");
    };
    assert_eq!(watermark, last);
    let position = till::say(&restored, &after, &["one"]).await;
    let waited = restored.wait_for(position, Stage::Replicated).await;
    assert!(matches!(waited, Err(Error::Halted(_))), "{waited:?}");
    restored.replication().retry().await.unwrap();
    assert!(matches!(
        halted(&restored).await,
        Halt::RestoredBackup { .. }
    ));
    let found = Found::read(&session, &keyspace).await;
    assert_eq!((found.events(), found.texts(&after)), (5, vec![]));

    restored.replication().fork(Other::Gone).await.unwrap();
    till::level(&restored).await;
    restored.close().await.unwrap();
    let found = Found::read(&session, &keyspace).await;
    assert_eq!(found.events(), 6);
    assert_eq!(found.texts(&after), ["one"]);
    assert_eq!(found.texts(&lost), ["one", "two", "three"]);
    // The machine of before comes back.
    let old = open(&first);
    let halt = halted(&old).await;
    assert!(matches!(halt, Halt::EpochRetired { .. }), "{halt:?}");
    till::say(&old, &lost, &["four"]).await;
    old.close().await.unwrap();
    assert_eq!(Found::read(&session, &keyspace).await.events(), 6);
    plain::drop_keyspace(&session, &keyspace).await;
}
