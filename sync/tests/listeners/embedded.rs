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
