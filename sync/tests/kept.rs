//! Rows written by hand: the log is their home.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests fail by panicking")]

use std::fs;

use tidelog::{EditableRepository, Error, Limits, Repository, StreamId, Tidelog, TidelogBuilder};

fn builder(dir: &tempfile::TempDir) -> TidelogBuilder {
    Tidelog::builder(dir.path())
        .sparse_segments()
        .kept::<String, u32>("settings")
        .kept::<(u8, bool), String>("names")
}

#[test]
fn they_are_there_when_everything_but_the_log_is_gone() {
    let dir = tempfile::tempdir().unwrap();
    let log = builder(&dir).open().unwrap();
    let settings = log.kept::<String, u32>("settings").unwrap().blocking();
    let names = log.kept::<(u8, bool), String>("names").unwrap().blocking();
    settings.put("font".into(), 11).unwrap();
    settings.put("font".into(), 12).unwrap();
    settings.put("zoom".into(), 90).unwrap();
    names.put((1, true), "one".into()).unwrap();
    assert_eq!(settings.get(&"font".into()).unwrap(), Some(12));
    assert_eq!(settings.remove(&"zoom".into()).unwrap(), Some(90));
    assert_eq!(settings.remove(&"zoom".into()).unwrap(), None);
    log.blocking().close().unwrap();
    assert!(matches!(settings.put("font".into(), 1), Err(Error::Closed)));
    drop(log);
    assert!(matches!(settings.put("font".into(), 1), Err(Error::Closed)));

    fs::remove_dir_all(dir.path().join("index")).unwrap();
    let log = builder(&dir).open().unwrap();
    let settings = log.kept::<String, u32>("settings").unwrap().blocking();
    let names = log.kept::<(u8, bool), String>("names").unwrap().blocking();
    assert_eq!(settings.scan(.., 9).unwrap(), [("font".into(), 12)]);
    assert_eq!(names.get(&(1, true)).unwrap().unwrap(), "one");
    // They have a history: three puts and one removal.
    let stream = StreamId::new("Rows", "settings").unwrap();
    let head = log.blocking().head(&stream).unwrap().unwrap();
    assert_eq!(head.sequence, 4);
}

#[tokio::test]
async fn they_are_an_editable_repository() {
    async fn count(visits: &impl EditableRepository<String, u32>) -> Result<u32, Error> {
        let before = visits.get(&"home".to_owned()).await?.unwrap_or(0);
        visits.put("home".to_owned(), before + 1).await?;
        Ok(before + 1)
    }
    let dir = tempfile::tempdir().unwrap();
    let log = builder(&dir).open().unwrap();
    let settings = log.kept::<String, u32>("settings").unwrap();
    for n in 1..=10 {
        assert_eq!(count(&settings).await.unwrap(), n);
    }
    assert_eq!(
        settings.scan_back(.., 1).await.unwrap(),
        [("home".into(), 10)]
    );
}

#[test]
fn names_and_types_that_were_not_registered_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let log = builder(&dir).open().unwrap();
    assert!(matches!(
        log.kept::<String, u64>("settings"),
        Err(Error::InvalidInput { .. })
    ));
    assert!(matches!(
        log.kept::<String, u32>("other"),
        Err(Error::InvalidInput { .. })
    ));
    drop(log);
    let nameless = Tidelog::builder(dir.path()).kept::<u8, u8>("").open();
    assert!(matches!(nameless, Err(Error::InvalidInput { .. })));
    let long = Tidelog::builder(dir.path())
        .kept::<u8, u8>(&"x".repeat(101))
        .open();
    assert!(matches!(long, Err(Error::TooLarge { .. })));
}

#[test]
fn what_no_row_can_hold_is_refused_before_it_is_recorded() {
    let dir = tempfile::tempdir().unwrap();
    let log = {
        let builder = Tidelog::builder(dir.path()).sparse_segments();
        let limits = Limits {
            payload_bytes: 4 << 20,
            ..Limits::default()
        };
        let builder = builder.limits(limits).kept::<String, String>("texts");
        builder.open().unwrap()
    };
    let texts = log.kept::<String, String>("texts").unwrap().blocking();
    let long_key = texts.put("k".repeat(2_000), "text".into());
    assert!(
        matches!(long_key, Err(Error::TooLarge { .. })),
        "{long_key:?}"
    );
    let long_row = texts.put("key".into(), "r".repeat((1 << 20) + 1));
    assert!(
        matches!(long_row, Err(Error::TooLarge { .. })),
        "{long_row:?}"
    );
    assert_eq!(log.last_position(), 0);
    // Nothing stands in the way of the next one.
    texts.put("key".into(), "text".into()).unwrap();
    assert_eq!(texts.get(&"key".into()).unwrap().unwrap(), "text");
}
