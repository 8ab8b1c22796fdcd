//! Members that come, go, are killed and stand still, while events come.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tidelog::{
    Applied, EventEnvelope, EventId, EventListenerContainer, HandlerError, InOrder,
    KafkaListenerConfig, Ledger, ListenerOptions, StreamId,
};

use super::kit::{Group, PATIENCE};

const MEMBER: &str = "TIDELOG_TEST_MEMBER";
const STREAMS: u64 = 24;
const EVENTS: u64 = 60;

/// One file an event: who makes it first has applied it.
struct Files(PathBuf);

impl Files {
    fn of(&self, stream: &StreamId) -> PathBuf {
        self.0.join(stream.aggregate_id())
    }

    fn sequences(folder: &Path) -> Vec<u64> {
        let Ok(files) = fs::read_dir(folder) else {
            return Vec::new();
        };
        let names = files.map(|file| file.unwrap().file_name().into_string().unwrap());
        let mut sequences: Vec<u64> = names.map(|name| name.parse().unwrap()).collect();
        sequences.sort_unstable();
        sequences
    }
}

impl Ledger for Files {
    async fn last(&self, stream: &StreamId) -> Result<Option<Applied>, HandlerError> {
        let folder = self.of(stream);
        let Some(sequence) = Self::sequences(&folder).last().copied() else {
            return Ok(None);
        };
        let id = fs::read_to_string(folder.join(sequence.to_string()))?;
        // It is made and written in two steps: whoever looks between tries again.
        let event_id = id.parse::<uuid::Uuid>().map_err(HandlerError::passing)?;
        Ok(Some(Applied {
            sequence,
            event_id: EventId::from_uuid(event_id),
        }))
    }

    async fn apply(&self, event: &EventEnvelope, _: Option<Applied>) -> Result<(), HandlerError> {
        let folder = self.of(&event.stream);
        fs::create_dir_all(&folder)?;
        let file = folder.join(event.sequence.to_string());
        let whole = folder.with_extension(format!("{}-{}", event.sequence, std::process::id()));
        fs::write(&whole, event.event_id.to_string())?;
        let made = fs::hard_link(&whole, &file);
        fs::remove_file(&whole)?;
        match made {
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {
                Err(HandlerError::passing("another member was faster"))
            }
            made => Ok(made?),
        }
    }
}

/// A member of the group in a process of its own; ends when its input does.
#[test]
#[ignore = "run by another test"]
fn member() {
    let Ok(what) = std::env::var(MEMBER) else {
        return;
    };
    let [address, topic, group, folder] = what.split('\n').collect::<Vec<_>>()[..] else {
        panic!("{what}");
    };
    let config = KafkaListenerConfig::new([address], group)
        .topics([topic])
        .set("session.timeout.ms", "6000")
        .set("heartbeat.interval.ms", "500");
    let ledger = InOrder::new(Files(folder.into()));
    let options = ListenerOptions::default().save_every(Duration::from_millis(300));
    let container = EventListenerContainer::kafka(config).listener_with(ledger, options);
    let running = container.build().unwrap().start().unwrap();
    std::io::copy(&mut std::io::stdin(), &mut std::io::sink()).unwrap();
    running.stop().unwrap();
}

struct Member(Child);

impl Member {
    fn start(group: &Group, folder: &Path) -> Self {
        let what = [
            &group.address,
            &group.topic,
            &group.name,
            folder.to_str().unwrap(),
        ];
        let child = Command::new(std::env::current_exe().unwrap())
            .args([
                "--exact",
                "listen::rebalance::member",
                "--ignored",
                "--nocapture",
            ])
            .env(MEMBER, what.join("\n"))
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn();
        Self(child.unwrap())
    }

    fn signal(&self, signal: &str) {
        let pid = self.0.id().to_string();
        let sent = Command::new("kill").args([signal, &pid]).status().unwrap();
        assert!(sent.success());
    }

    fn kill(mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }

    fn stop(mut self) {
        drop(self.0.stdin.take());
        assert!(self.0.wait().unwrap().success());
    }
}

#[test]
fn every_event_is_applied_once_whatever_happens_to_the_members_of_a_group() {
    let Some(group) = Group::new("members", 6) else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let start = || Member::start(&group, folder.path());
    let ids: Vec<String> = (0..STREAMS).map(|id| format!("s{id}")).collect();
    let mut next = 1;
    let mut load = |until: u64| {
        while next <= until {
            let events: Vec<(&str, u64)> = ids.iter().map(|id| (id.as_str(), next)).collect();
            group.write(&events);
            next += 1;
        }
    };
    let applied = || -> usize {
        let of = |id: &String| Files::sequences(&folder.path().join(id)).len();
        ids.iter().map(of).sum()
    };
    let reach = |sequence: u64| {
        let begun = Instant::now();
        while applied() < usize::try_from(sequence * STREAMS).unwrap() {
            assert!(
                begun.elapsed() < PATIENCE,
                "{} of {}",
                applied(),
                sequence * STREAMS
            );
            std::thread::sleep(Duration::from_millis(50));
        }
    };

    let (one, two) = (start(), start());
    load(10);
    reach(10);
    let (three, four) = (start(), start());
    load(25);
    one.kill();
    reach(25);
    // Beyond the session's time-out: it believes to have places that others have.
    two.signal("-STOP");
    load(40);
    reach(40);
    two.signal("-CONT");
    three.stop();
    let five = start();
    load(EVENTS);
    reach(EVENTS);
    for member in [two, four, five] {
        member.stop();
    }
    for id in &ids {
        let sequences = Files::sequences(&folder.path().join(id));
        assert_eq!(sequences, (1..=EVENTS).collect::<Vec<_>>(), "{id}");
    }
    let letters = crate::topics::read(&group.address, &format!("{}.dead", group.name));
    assert_eq!(letters.values().map(Vec::len).sum::<usize>(), 0);
}
