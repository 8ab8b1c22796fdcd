//! Who keeps the logs of all others in files of its own. The files are real, and written by the threads
//! of real stores; all else is simulated.

use std::sync::Arc;
use std::task::{Context, Waker};
use std::time::Duration;

use tidelog_core::{BoxFuture, EventEnvelope, LogQuery, ManualClock, ManualSleeper, RecordKind};
use uuid::Uuid;

use super::super::peers::Peers;
use super::super::pull::{Pull, Puller};
use super::net::SimWire;
use super::oracle::{Verdict, rule, state_of};
use super::oracle_follow::{can_be_read, rows_of};
use super::world::{Flag, World};

/// What they are numbered from.
pub(super) const FIRST: usize = 2_000;

/// One who keeps the others' logs.
pub(super) struct PullNode {
    pub number: usize,
    pub clock: Arc<ManualClock>,
    pub flag: Arc<Flag>,
    pub running: Option<BoxFuture<'static, ()>>,
    peers: Peers,
    dir: tempfile::TempDir,
    own: Uuid,
}

impl World {
    /// Somebody begins to keep what others than `own` write.
    pub(super) fn add_puller(&mut self, own: usize) {
        let own = self.nodes[own].log.disk.lock().identity().origin;
        self.pullers.push(PullNode {
            number: FIRST + self.pullers.len(),
            clock: Arc::new(ManualClock::default()),
            flag: Arc::default(),
            running: None,
            peers: Peers::default(),
            dir: tempfile::tempdir().unwrap(),
            own,
        });
        self.start_puller(self.pullers.len() - 1);
    }

    pub(super) fn start_puller(&mut self, at: usize) {
        let net = self.net.clone();
        let puller = &mut self.pullers[at];
        if puller.running.is_some() {
            return;
        }
        let wire = SimWire {
            net,
            node: puller.number,
        };
        let sleeper = Arc::new(ManualSleeper::new(puller.clock.clone()));
        let dir = puller.dir.path();
        let opened = Puller::open(dir, puller.own, Pull::All, Arc::new(wire), sleeper).unwrap();
        puller.peers = opened.peers().clone();
        puller.flag = Arc::default();
        puller.flag.set();
        puller.running = Some(Box::pin(opened.run()));
        self.note(|| format!("puller {at} starts"));
    }

    /// It ends where it stands: between two writes of its files.
    pub(super) fn crash_puller(&mut self, at: usize) {
        let puller = &mut self.pullers[at];
        if puller.running.take().is_some() {
            puller.peers.close();
            self.note(|| format!("puller {at} crashes"));
        }
    }

    /// Lets those run that keep others' logs; whether one did. They wait for their files here.
    pub(super) fn run_pullers(&mut self) -> bool {
        let mut has_run = false;
        for puller in &mut self.pullers {
            let Some(running) = &mut puller.running else {
                continue;
            };
            let waker = Waker::from(puller.flag.clone());
            let mut waited = Duration::ZERO;
            loop {
                if puller.flag.take() {
                    has_run = true;
                    let polled = running.as_mut().poll(&mut Context::from_waker(&waker));
                    assert!(polled.is_pending(), "it never ends");
                    continue;
                }
                let sleeps = ManualSleeper::new(puller.clock.clone())
                    .next_wake()
                    .is_some();
                if sleeps || self.net.waits(puller.number) {
                    break;
                }
                std::thread::sleep(Duration::from_micros(20));
                waited += Duration::from_micros(20);
                assert!(waited < Duration::from_secs(20), "its files never answer");
            }
        }
        has_run
    }

    /// What is kept is what the others have accepted, at rest.
    pub(super) fn look_at_what_is_kept(&mut self) -> Verdict {
        let Self {
            pullers,
            nodes,
            server,
            oracle,
            ..
        } = self;
        for puller in pullers.iter() {
            for node in nodes.iter().filter(|node| node.running.is_some()) {
                let disk = node.log.disk.lock();
                let identity = disk.identity();
                let rows = rows_of(server, identity.origin);
                if identity.origin == puller.own || !can_be_read(&rows, &disk, nodes) {
                    continue;
                }
                let Some(state) = state_of(&disk)? else {
                    continue;
                };
                let key = (identity.origin, identity.epoch);
                let all = puller.peers.all().into_iter();
                let peer = all
                    .into_iter()
                    .find(|peer| (peer.origin(), peer.epoch()) == key);
                let kept: Vec<EventEnvelope> = match peer {
                    Some(peer) => pollster::block_on(peer.read_all(LogQuery::all()).collect())
                        .map_err(|error| format!("6 what is kept can be read: {error}"))?,
                    None => Vec::new(),
                };
                let is_control = |event: &EventEnvelope| event.kind == RecordKind::Control;
                let kept: Vec<_> = kept.iter().filter(|event| !is_control(event)).collect();
                let is_held = |event: &EventEnvelope| {
                    let mut entries = state.of(&event.stream);
                    entries.any(|entry| {
                        !entry.accepted && Some(entry.first_position) <= event.position
                    })
                };
                let mut next = kept.iter().copied().peekable();
                for record in disk.records().iter().filter(|event| !is_control(event)) {
                    let position = record.position.unwrap_or_default();
                    let is_kept = next.next_if(|event| event.position == record.position);
                    rule!(
                        oracle,
                        "6 what is kept was recorded",
                        is_kept.is_none_or(|event| event == record),
                        "{is_kept:?} instead of {record:?}"
                    );
                    let gave_way = disk.is_superseded(&record.stream, record.sequence, position);
                    if gave_way {
                        continue;
                    }
                    rule!(
                        oracle,
                        "6 all that was accepted is kept, and nothing else",
                        is_kept.is_some() != is_held(record),
                        "{} {} at {position} of {}, epoch {}: kept: {}, held there: {}",
                        record.stream,
                        record.sequence,
                        identity.origin,
                        identity.epoch,
                        is_kept.is_some(),
                        is_held(record)
                    );
                }
                let left = next.next();
                rule!(
                    oracle,
                    "6 nothing is kept that is not there",
                    left.is_none(),
                    "{left:?}"
                );
            }
        }
        Ok(())
    }
}

impl Drop for PullNode {
    fn drop(&mut self) {
        self.running = None;
        self.peers.close();
    }
}
