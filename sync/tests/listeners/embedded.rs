//! Listeners over the embedded store: on threads, over restarts, without the index.

use std::path::Path;

use tidelog::*;

use crate::kit::*;

fn listen(log: &Tidelog, told: &Told) -> RunningListeners {
    let container = log.listeners().listener("mail", told.clone());
    container.build().unwrap().start().unwrap()
}

fn wait_for_all(log: &Tidelog, running: &RunningListeners) {
    let mail = running.control("mail").unwrap();
    pollster::block_on(mail.wait_for(log.last_position())).unwrap();
}

fn remove_index(path: &Path) {
    std::fs::remove_dir_all(path.join("index")).unwrap();
    std::fs::remove_file(path.join("manifest")).unwrap();
}

#[test]
fn checkpoint_and_parked_streams_survive_restarts_and_the_loss_of_the_index() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("events");
    let told = Told::default();
    told.to("a", 3, Does::FailsForGood);
    for round in 0..4 {
        let log = Tidelog::open(&path).unwrap();
        let running = listen(&log, &told);
        for stream in ["a", "b", "a", "b"] {
            note(log.store(), stream);
        }
        wait_for_all(&log, &running);
        let parked = running.control("mail").unwrap().parked();
        let held = parked.iter().map(ParkedStream::held).sum::<u64>();
        assert_eq!(held, round * 2, "the third of a, and what follows it");
        running.stop().unwrap();
        log.blocking().close().unwrap();
        drop(log);
        if round % 2 == 1 {
            remove_index(&path);
        }
    }
    assert_eq!(told.handled_of("b"), (1..=8).collect::<Vec<u64>>());
    assert_eq!(told.handled_of("a"), [1, 2]);
    told.heal_all();
    let log = Tidelog::open(&path).unwrap();
    let running = listen(&log, &told);
    let mail = running.control("mail").unwrap();
    pollster::block_on(mail.resume(&id("a"))).unwrap();
    assert_eq!(told.handled_of("a"), (1..=8).collect::<Vec<u64>>());
    running.stop().unwrap();
}

#[test]
fn what_only_the_system_has_is_made_durable_before_it_is_handed_out() {
    struct Checks(SledStore);
    impl EventListener for Checks {
        async fn on(&self, event: &EventEnvelope) -> Result<(), HandlerError> {
            assert!(self.0.info()?.durable_position >= event.position.unwrap());
            Ok(())
        }
    }
    let dir = tempfile::tempdir().unwrap();
    let log = Tidelog::builder(dir.path().join("events"))
        .durability(Durability::Process)
        .open()
        .unwrap();
    let checks = Checks(log.store().clone());
    let container = log.listeners().listener("mail", checks).build().unwrap();
    let running = container.start().unwrap();
    for _ in 0..50 {
        note(log.store(), "a");
    }
    wait_for_all(&log, &running);
    assert!(running.control("mail").unwrap().parked().is_empty());
    running.stop().unwrap();
}

#[test]
fn listeners_end_when_the_store_is_closed_under_them() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("events");
    let log = Tidelog::open(&path).unwrap();
    let running = listen(&log, &Told::default());
    note(log.store(), "a");
    wait_for_all(&log, &running);
    log.blocking().close().unwrap();
    let mail = running.control("mail").unwrap();
    pollster::block_on(mail.ended());
    running.stop().unwrap();
    Tidelog::open(&path).unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_tokio_handlers_may_use_tokio() {
    struct OnTokio;
    impl EventListener for OnTokio {
        async fn on(&self, _: &EventEnvelope) -> Result<(), HandlerError> {
            tokio::task::spawn(async {}).await?;
            Ok(())
        }
    }
    let dir = tempfile::tempdir().unwrap();
    let log = Tidelog::open(dir.path().join("events")).unwrap();
    let container = log.listeners().listener("mail", OnTokio).build().unwrap();
    let mail = container.control("mail").unwrap();
    let running = tokio::spawn(container.run());
    let event = NewEvent::new("Noted", 1, ContentType::Bytes, "x");
    let batch = AppendBatch::new(id("a"), ExpectedVersion::Any, vec![event]);
    let position = log.append(batch).await.unwrap().last_position.unwrap();
    mail.wait_for(position).await.unwrap();
    mail.stop();
    running.await.unwrap().unwrap();
}

/// Flips a bit in the commit with this number, in a store of one segment.
fn damage(store: &Path, commit: u64) {
    let path = store.join("log/00000001.seg");
    let mut bytes = std::fs::read(&path).unwrap();
    let mut at = 4096;
    while bytes[at + 16..at + 24] != commit.to_le_bytes() {
        let len = u32::from_le_bytes(bytes[at + 4..at + 8].try_into().unwrap());
        at = (at + 88 + len as usize).next_multiple_of(8);
    }
    bytes[at + 100] ^= 1;
    std::fs::write(path, bytes).unwrap();
}

#[test]
fn a_listener_of_a_repaired_store_stops_at_the_gap_and_goes_on_behind_it_when_told() {
    let dir = tempfile::tempdir().unwrap();
    let (from, to) = (dir.path().join("a"), dir.path().join("b"));
    let told = Told::default();
    let log = Tidelog::open(&from).unwrap();
    let running = listen(&log, &told);
    let handled = note(log.store(), "a");
    wait_for_all(&log, &running);
    running.stop().unwrap();
    // Taken in by nobody yet; the second of them is lost.
    let [_, lost, _] = [(); 3].map(|()| note(log.store(), "b"));
    log.blocking().close().unwrap();
    drop(log);
    let commit = lost; // one event a commit
    damage(&from, commit);
    repair(&from, &to).unwrap();

    let log = Tidelog::open(&to).unwrap();
    let running = listen(&log, &told);
    let mail = running.control("mail").unwrap().blocking();
    let stopped = mail.wait_for(lost).unwrap_err();
    assert_eq!(stopped.code(), "gap");
    assert_eq!(told.handled(), names(&[("a", 1), ("b", 1)]));
    assert_eq!(mail.inner().status().settled, handled + 1);
    mail.replay_from(lost + 1).unwrap();
    wait_for_all(&log, &running);
    assert_eq!(told.handled_of("b"), [1, 3]);
    running.stop().unwrap();
}

#[test]
fn a_restored_store_goes_on_where_its_backup_was() {
    let dir = tempfile::tempdir().unwrap();
    let (path, backup, restored) = (
        dir.path().join("a"),
        dir.path().join("b"),
        dir.path().join("c"),
    );
    let told = Told::default();
    let log = Tidelog::open(&path).unwrap();
    let running = listen(&log, &told);
    note(log.store(), "a");
    wait_for_all(&log, &running);
    running.stop().unwrap();
    log.blocking().backup(&backup).unwrap();
    drop(log);
    restore_backup(&backup, &restored).unwrap();
    let log = Tidelog::open(&restored).unwrap();
    let running = listen(&log, &told);
    note(log.store(), "a");
    wait_for_all(&log, &running);
    assert_eq!(
        told.handled_of("a"),
        [1, 2],
        "nothing is handled twice by that"
    );
    running.stop().unwrap();
}
