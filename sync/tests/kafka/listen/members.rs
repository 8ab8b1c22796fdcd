//! Members of a group in processes of their own, which say what they handle.

use std::fs;
use std::io::{BufRead as _, BufReader, ErrorKind, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::Duration;

use parking_lot::Mutex;
use tidelog::{
    Applied, Error, EventEnvelope, EventId, EventListener, EventListenerContainer, HandlerError,
    InOrder, KafkaListenerConfig, Ledger, ListenerOptions, RunningKafkaListeners, StreamId,
};

use super::kit::Group;

/// Whoever has waited so long waits for ever: the broker misses a member after 45 s at most.
const PATIENCE: Duration = Duration::from_secs(120);
const MEMBER: &str = "TIDELOG_TEST_MEMBER";

/// How a member handles events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Each once, by files of which each can be made once.
    InOrder,
    /// As they come, which a file of each stream keeps.
    AsTheyCome,
    /// Fails for ever at each event, once it is told to.
    FailsWhenTold,
}

impl Kind {
    const ALL: [Self; 3] = [Self::InOrder, Self::AsTheyCome, Self::FailsWhenTold];
}

/// What processes say, and where they keep what they do.
pub struct Members<'a> {
    group: &'a Group,
    folder: PathBuf,
    kind: Kind,
    /// Settings of librdkafka.
    settings: Vec<(String, String)>,
    say: Sender<String>,
    said: Receiver<String>,
}

impl<'a> Members<'a> {
    pub fn new(group: &'a Group, folder: &Path, kind: Kind) -> Self {
        let (say, said) = channel();
        let settings = [
            ("session.timeout.ms", "6000"),
            ("heartbeat.interval.ms", "500"),
        ];
        Self {
            group,
            folder: folder.to_owned(),
            kind,
            settings: settings.map(|(n, v)| (n.into(), v.into())).into(),
            say,
            said,
        }
    }

    /// With these settings, and no others.
    pub fn settings(mut self, settings: &[(&str, &str)]) -> Self {
        let settings = settings.iter();
        self.settings = settings.map(|&(n, v)| (n.into(), v.into())).collect();
        self
    }

    pub fn start(&self) -> Member {
        let settings = self.settings.iter();
        let settings: Vec<String> = settings.map(|(n, v)| format!("{n}={v}")).collect();
        let what = [
            &self.group.address,
            &self.group.topic,
            &self.group.name,
            self.folder.to_str().unwrap(),
            &format!("{:?}", self.kind),
            &settings.join(","),
        ];
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args([
                "--exact",
                "listen::members::member",
                "--ignored",
                "--nocapture",
            ])
            .env(MEMBER, what.join("\n"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let say = self.say.clone();
        thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                // Whatever the harness says stands before it.
                let said = line.find("member: ").and_then(|at| line.get(at + 8..));
                if let Some(said) = said
                    && say.send(said.to_owned()).is_err()
                {
                    return;
                }
            }
        });
        Member(child)
    }

    /// The next thing that any of them says.
    pub fn next(&self) -> String {
        let said = self.said.recv_timeout(PATIENCE);
        said.unwrap_or_else(|_| panic!("nobody says anything any more"))
    }
}

/// What whoever stops is told when its places went to others before its last offsets were put down.
const LOST: &str = "another member has the places already";

/// A process.
pub struct Member(Child);

impl Member {
    pub fn signal(&self, signal: &str) {
        let pid = self.0.id().to_string();
        let sent = Command::new("kill").args([signal, &pid]).status().unwrap();
        assert!(sent.success());
    }

    /// Lets it go on.
    pub fn tell(&mut self) {
        let input = self.0.stdin.as_mut().unwrap();
        input.write_all(b"go\n").unwrap();
    }

    pub fn kill(mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }

    pub fn stop(mut self) {
        drop(self.0.stdin.take());
        assert!(self.0.wait().unwrap().success());
    }
}

fn say(what: &str) {
    let mut out = std::io::stdout().lock();
    writeln!(out, "member: {what}").unwrap();
}

/// What such a process is: ends when its input does.
#[test]
#[ignore = "run by another test"]
fn member() {
    let Ok(what) = std::env::var(MEMBER) else {
        return;
    };
    let [address, topic, group, folder, kind, settings] = what.split('\n').collect::<Vec<_>>()[..]
    else {
        panic!("{what}");
    };
    let config = KafkaListenerConfig::new([address], group).topics([topic]);
    let config = settings.split(',').fold(config, |config, setting| {
        let (name, value) = setting.split_once('=').unwrap();
        config.set(name, value)
    });
    let mut kinds = Kind::ALL.into_iter();
    match kinds.find(|other| format!("{other:?}") == kind).unwrap() {
        Kind::InOrder => until_input_ends(start(config, InOrder::new(Files(folder.into())))),
        Kind::AsTheyCome => until_input_ends(start(config, Lines(folder.into()))),
        Kind::FailsWhenTold => fail_when_told(config),
    }
}

fn start(config: KafkaListenerConfig, listener: impl EventListener) -> RunningKafkaListeners {
    let options = ListenerOptions::default().save_every(Duration::from_millis(300));
    let container = EventListenerContainer::kafka(config);
    let container = container.listener_with(Saying(listener), options);
    container.build().unwrap().start().unwrap()
}

fn until_input_ends(running: RunningKafkaListeners) {
    std::io::copy(&mut std::io::stdin(), &mut std::io::sink()).unwrap();
    match running.stop() {
        Ok(()) => {}
        // Others were given its places before it was told to stop: what it handled last they handle again.
        Err(Error::Stopped { source, .. }) if source.to_string().contains(LOST) => {}
        Err(error) => panic!("{error:?}"),
    }
}

fn fail_when_told(config: KafkaListenerConfig) {
    let (go, may_go) = channel();
    let running = start(config, Fails(Mutex::new(may_go)));
    for line in std::io::stdin().lines() {
        line.unwrap();
        // Whoever met an event waits for it.
        go.send(()).unwrap();
        let control = running.control().blocking();
        control.wait_until(|status| status.places.is_empty());
        say("lost");
    }
}

/// Says what it has handled.
struct Saying<L>(L);

impl<L: EventListener> EventListener for Saying<L> {
    async fn on(&self, event: &EventEnvelope) -> Result<(), HandlerError> {
        self.0.on(event).await?;
        say(&format!("{} {}", event.aggregate_id(), event.sequence));
        Ok(())
    }
}

struct Fails(Mutex<Receiver<()>>);

impl EventListener for Fails {
    async fn on(&self, event: &EventEnvelope) -> Result<(), HandlerError> {
        say(&format!("met {} {}", event.aggregate_id(), event.sequence));
        let may_go = self.0.lock().recv();
        may_go.map_err(HandlerError::passing)?;
        Err(HandlerError::permanent("never"))
    }
}

/// A line an event, in the order in which they were handled, by whichever process.
struct Lines(PathBuf);

impl EventListener for Lines {
    async fn on(&self, event: &EventEnvelope) -> Result<(), HandlerError> {
        let file = self.0.join(event.stream.aggregate_id());
        let mut file = fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(file)?;
        // One call, so that a process that is killed writes all of it or nothing.
        file.write_all(format!("{}\n", event.sequence).as_bytes())?;
        Ok(())
    }
}

/// What was handled of a stream as it came, in order.
pub fn lines_of(folder: &Path, id: &str) -> Vec<u64> {
    let text = fs::read_to_string(folder.join(id)).unwrap_or_default();
    text.lines().map(|line| line.parse().unwrap()).collect()
}

/// One file an event: who makes it first has applied it.
struct Files(PathBuf);

impl Files {
    fn of(&self, stream: &StreamId) -> PathBuf {
        self.0.join(stream.aggregate_id())
    }
}

/// What was applied of a stream.
pub fn files_of(folder: &Path) -> Vec<u64> {
    let Ok(files) = fs::read_dir(folder) else {
        return Vec::new();
    };
    let names = files.map(|file| file.unwrap().file_name().into_string().unwrap());
    let mut sequences: Vec<u64> = names.map(|name| name.parse().unwrap()).collect();
    sequences.sort_unstable();
    sequences
}

impl Ledger for Files {
    async fn last(&self, stream: &StreamId) -> Result<Option<Applied>, HandlerError> {
        let folder = self.of(stream);
        let Some(sequence) = files_of(&folder).last().copied() else {
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
