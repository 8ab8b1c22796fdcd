//! What is told of a store, and of each event of it: how far it has come.

use tempfile::tempdir;
use tidelog::{Error, Stage, StreamId, Tidelog};

use crate::{plain, services, till};

#[tokio::test]
async fn status_and_stages_are_what_stands_here_and_there() {
    let Some(server) = services::scylla() else {
        return;
    };
    let session = plain::session(&server).await;
    let keyspace = plain::keyspace("stages");
    let config = till::config(&server, &keyspace);
    let (mine, theirs) = (tempdir().unwrap(), tempdir().unwrap());
    let (alone, shared) = (stream("alone"), stream("shared"));

    let log = Tidelog::open(mine.path()).unwrap();
    let first = till::say(&log, &shared, &["mine"]).await;
    let status = log.status();
    assert_eq!((status.committed, status.durable), (1, 1));
    assert!(status.replicated.is_none(), "{status:?}");
    let reached = log.stage_of(first).await.unwrap().unwrap();
    assert_eq!(reached.stage, Stage::Committed);
    assert!(log.stage_of(first + 1).await.unwrap().is_none());
    assert!(log.stage_of(0).await.unwrap().is_none());
    let off = log.wait_for(first, Stage::Replicated).await;
    assert!(matches!(off, Err(Error::InvalidInput { .. })), "{off:?}");
    log.close().await.unwrap();

    // Somebody else comes first.
    let other = till::builder(theirs.path(), config.clone()).open().unwrap();
    till::say(&other, &shared, &["theirs"]).await;
    till::level(&other).await;
    other.close().await.unwrap();

    let log = till::builder(mine.path(), config).open().unwrap();
    let last = till::say(&log, &alone, &["one", "two"]).await;
    till::until(&log, "settled", |status| status.settled >= last).await;
    let held = log.stage_of(first).await.unwrap().unwrap();
    assert_eq!(held.stage, Stage::Committed);
    let Some(Error::Parked {
        stream, position, ..
    }) = held.parked
    else {
        panic!("{held:?}");
    };
    assert_eq!((stream, position), (shared, first));
    let reached = log.stage_of(last).await.unwrap().unwrap();
    assert_eq!(reached.stage, Stage::Replicated);
    assert!(reached.parked.is_none(), "{reached:?}");
    let status = log.status();
    let replicated = status.replicated.unwrap();
    assert_eq!((replicated.settled, replicated.parked), (last, 1));
    assert_eq!((status.durable, status.committed), (last, last));
    log.close().await.unwrap();
    plain::drop_keyspace(&session, &keyspace).await;
}

fn stream(id: &str) -> StreamId {
    StreamId::new("Till", id).unwrap()
}
