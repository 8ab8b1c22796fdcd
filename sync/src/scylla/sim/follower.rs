//! Who follows the logs of all others, and keeps what it got together with how far it is.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tidelog_core::{BoxFuture, ManualClock, ManualSleeper, Sleeper};
use uuid::Uuid;

use super::super::follow::{Follow, Followed};
use super::super::vector::Vector;
use super::mutants::Mutant;
use super::net::{SharedNet, SimWire};
use super::world::{Flag, World};

/// What followers are numbered from, so that they are no machines with a store.
pub(super) const FIRST: usize = 1_000;

/// What was got, each with the vector that goes with it.
pub(super) type Got = Arc<Mutex<Vec<(Followed, Vector)>>>;

/// One who follows.
pub(super) struct Follower {
    pub number: usize,
    pub clock: Arc<ManualClock>,
    pub flag: Arc<Flag>,
    pub running: Option<BoxFuture<'static, ()>>,
    pub got: Got,
    /// How many of these survive a crash for sure.
    saved: usize,
    /// How many of these were looked at.
    pub seen: usize,
    /// When something came last.
    pub moved_at: Duration,
    own: Option<Uuid>,
}

impl Follower {
    /// Everything of `origin` is left out.
    pub(super) fn new(number: usize, clock: Arc<ManualClock>, own: Option<Uuid>) -> Self {
        Self {
            number,
            clock,
            flag: Arc::default(),
            running: None,
            got: Got::default(),
            saved: 0,
            seen: 0,
            moved_at: Duration::ZERO,
            own,
        }
    }

    /// Whether the log of `origin` comes.
    pub(super) fn wants(&self, origin: Uuid) -> bool {
        self.own != Some(origin)
    }

    /// How far it is.
    pub(super) fn vector(&self) -> Vector {
        let got = self.got.lock();
        got.last()
            .map_or_else(Vector::new, |(_, vector)| vector.clone())
    }

    fn start(&mut self, net: &SharedNet, mutant: Option<Mutant>) {
        // As it is saved.
        let bytes = serde_json::to_vec(&self.vector()).unwrap();
        let mut vector: Vector = serde_json::from_slice(&bytes).unwrap();
        if let Some(mutant) = mutant {
            mutant.resumes(&mut vector);
        }
        let wire = SimWire {
            net: net.clone(),
            node: self.number,
        };
        let sleeper = Arc::new(ManualSleeper::new(self.clock.clone()));
        let mut follow = Follow::new(Arc::new(wire), sleeper.clone(), self.own, vector);
        let got = self.got.clone();
        self.flag = Arc::default();
        self.flag.set();
        self.running = Some(Box::pin(async move {
            loop {
                match follow.next().await {
                    Ok(item) => got.lock().push((item, follow.vector().clone())),
                    // The next call goes on with the others.
                    Err(_) => sleeper.sleep(Duration::from_secs(1)).await,
                }
            }
        }));
    }
}

impl World {
    /// Somebody begins to follow; what one of the machines writes is its own, or nothing is.
    pub(super) fn add_follower(&mut self, own: Option<usize>) {
        let own = own.map(|node| self.nodes[node].log.disk.lock().identity().origin);
        let clock = Arc::new(ManualClock::default());
        let number = FIRST + self.followers.len();
        self.followers.push(Follower::new(number, clock, own));
        self.start_follower(number - FIRST);
    }

    pub(super) fn start_follower(&mut self, at: usize) {
        let (net, mutant) = (self.net.clone(), self.mutant);
        let now = self.net.lock().now;
        let follower = &mut self.followers[at];
        if follower.running.is_none() {
            follower.start(&net, mutant);
            follower.moved_at = now;
            self.note(|| format!("follower {at} starts"));
        }
    }

    /// A follower ends where it stands: of what it got since it saved last some is kept.
    pub(super) fn crash_follower(&mut self, at: usize) {
        let follower = &mut self.followers[at];
        if follower.running.take().is_none() {
            return;
        }
        let mut got = follower.got.lock();
        let kept = follower.saved + self.rng.index(got.len() - follower.saved + 1);
        got.truncate(kept);
        follower.seen = follower.seen.min(kept);
        follower.saved = kept;
        drop(got);
        self.note(|| format!("follower {at} crashes, and has {kept}"));
    }

    /// Looks at what came.
    pub(super) fn look_at_what_came(&mut self) -> Result<(), String> {
        let now = self.net.lock().now;
        for at in 0..self.followers.len() {
            let follower = &mut self.followers[at];
            let got = follower.got.lock();
            let new: Vec<Followed> = got[follower.seen..]
                .iter()
                .map(|(item, _)| item.clone())
                .collect();
            drop(got);
            if new.is_empty() {
                continue;
            }
            follower.seen += new.len();
            follower.moved_at = now;
            for item in new {
                self.note(|| format!("follower {at} gets {}", short(&item)));
                self.oracle.came(&item, &self.nodes)?;
            }
        }
        Ok(())
    }

    /// Whether nothing came for a while to those who follow, in which each machine has looked at what the
    /// server lists.
    pub(super) fn is_followed(&self, since: Duration) -> bool {
        let now = self.net.lock().now;
        let is_over = |at: Duration| now.saturating_sub(at) > Duration::from_secs(30);
        let mut moved = self.followers.iter().map(|follower| follower.moved_at);
        let nobody = self.followers.is_empty() && self.pullers.is_empty();
        nobody || is_over(since) && moved.all(is_over)
    }
}

fn short(item: &Followed) -> String {
    match item {
        Followed::Event {
            epoch, envelope, ..
        } => format!(
            "{} {} at {:?} of epoch {epoch}: {}",
            envelope.stream, envelope.sequence, envelope.position, envelope.event_id
        ),
        other => format!("{other:?}"),
    }
}
