//! What happens next, by a seed.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use tidelog_core::{ManualClock, ManualSleeper};

use super::super::feed::{Place, Record, RecordKey};
use super::super::session::End;
use super::super::shared::Request;
use super::member::{Process, options};
use super::world::{Handled, MemberId, Outcome, Shared, World};

/// `SplitMix64` (Steele, Lea, Flood, 2014).
pub(super) struct Rng(u64);

impl Rng {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(super) fn below(&mut self, n: usize) -> usize {
        usize::try_from(self.next() % u64::try_from(n.max(1)).unwrap()).unwrap()
    }

    fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }

    fn pick<'a, T>(&mut self, all: &'a [T]) -> Option<&'a T> {
        if all.is_empty() {
            return None;
        }
        all.get(self.below(all.len()))
    }
}

pub(super) struct Run {
    pub(super) world: Shared,
    pub(super) clock: Arc<ManualClock>,
    pub(super) sleeper: ManualSleeper,
    pub(super) processes: Vec<Process>,
    pub(super) rng: Rng,
    next_id: MemberId,
    /// Records that cannot be handled, until that is mended.
    pub(super) poison: BTreeSet<(Place, i64)>,
    /// Whether handlers keep a ledger: what is handled goes by sequence, and gaps are told.
    pub(super) keeps_ledger: bool,
    applied: BTreeMap<RecordKey, u64>,
    /// What is published later, in ledger mode: sequences that were left out.
    left_out: Vec<(RecordKey, u64)>,
    next_sequence: BTreeMap<RecordKey, u64>,
    pub(super) most_records: usize,
}

impl Run {
    pub(super) fn new(seed: u64, keeps_ledger: bool) -> Self {
        let clock = Arc::new(ManualClock::default());
        let world = Shared::default();
        for partition in 0..3 {
            world.lock().logs.insert(place(partition), Vec::new());
        }
        Self {
            world,
            sleeper: ManualSleeper::new(Arc::clone(&clock)),
            clock,
            processes: Vec::new(),
            rng: Rng::new(seed),
            next_id: 0,
            poison: BTreeSet::new(),
            keeps_ledger,
            applied: BTreeMap::new(),
            left_out: Vec::new(),
            next_sequence: BTreeMap::new(),
            most_records: 40,
        }
    }

    pub(super) fn start(&mut self) -> MemberId {
        self.next_id += 1;
        let id = self.next_id;
        self.world.lock().note(|| format!("{id} starts"));
        let process = Process::start(self.next_id, &self.world, &self.clock, options());
        self.processes.push(process);
        self.next_id
    }

    /// Lets every process do all that it can, and looks at what it did.
    pub(super) fn go_on(&mut self) {
        let mut at = 0;
        while at < self.processes.len() {
            match self.processes[at].go_on() {
                None => at += 1,
                Some(end) => {
                    let id = self.processes.remove(at).id;
                    self.gone(id);
                    if let End::Failed(error) = end {
                        let text = format!("member {id} failed: {error}");
                        self.world.lock().wrong.push(text);
                    }
                }
            }
        }
        self.take_given_up();
        let mut world = self.world.lock();
        world.handlers.retain(|running| !running.answer.is_closed());
        world.check_order(self.keeps_ledger);
    }

    fn gone(&mut self, id: MemberId) {
        let mut world = self.world.lock();
        world.members.remove(&id);
        world.owners.retain(|_, owner| *owner != id);
    }

    fn take_given_up(&mut self) {
        let mut world = self.world.lock();
        let World {
            members, owners, ..
        } = &mut *world;
        for (id, member) in members {
            let believes = &mut member.believes;
            member.giving_up.retain(|(places, done)| {
                if matches!(done.try_recv(), Err(oneshot::TryRecvError::Empty)) {
                    return true;
                }
                for place in places {
                    believes.remove(place);
                    if owners.get(place) == Some(id) {
                        owners.remove(place);
                    }
                }
                false
            });
        }
    }

    pub(super) fn append(&mut self) {
        let partition = i32::try_from(self.rng.below(3)).unwrap();
        let name = ["a", "b", "c", ""][self.rng.below(if self.keeps_ledger { 3 } else { 4 })];
        let key = RecordKey {
            place: place(partition),
            key: (!name.is_empty()).then(|| format!("{name}{partition}").into_bytes().into()),
        };
        if self.keeps_ledger {
            return self.append_in_sequence(key);
        }
        let offset = self.world.lock().logs[&key.place].len();
        let value = match self.rng.below(20) {
            0 => "!".to_owned(),
            1 => format!("{}-", offset + 1),
            _ => format!("{}", offset + 1),
        };
        let is_poison = self.rng.one_in(8);
        let (place, offset) = self.push(key, value);
        if is_poison {
            self.poison.insert((place, offset));
        }
    }

    /// The next of its stream; or one that was left out, with all that followed it, as a republish does.
    fn append_in_sequence(&mut self, key: RecordKey) {
        let next = self.next_sequence.entry(key.clone()).or_insert(1);
        let sequence = *next;
        *next += 1;
        if self.rng.one_in(6) {
            self.left_out.push((key, sequence));
            return;
        }
        self.push(key, sequence.to_string());
        if self.rng.one_in(4) {
            self.republish();
        }
    }

    pub(super) fn republish(&mut self) {
        for (key, from) in std::mem::take(&mut self.left_out) {
            for sequence in from..self.next_sequence[&key] {
                self.push(key.clone(), sequence.to_string());
            }
        }
    }

    pub(super) fn push(&mut self, key: RecordKey, value: String) -> (Place, i64) {
        let mut world = self.world.lock();
        let log = world.logs.get_mut(&key.place).unwrap();
        let offset = i64::try_from(log.len()).unwrap();
        log.push(Record {
            place: key.place.clone(),
            offset,
            key: key.key,
            value: Some(value.into_bytes().into()),
            headers: Vec::new(),
        });
        (key.place, offset)
    }

    pub(super) fn complete(&mut self, at: usize) {
        let mut world = self.world.lock();
        let running = world.handlers.remove(at);
        if running.answer.is_closed() {
            return;
        }
        let is_poison = self
            .poison
            .contains(&(running.key.place.clone(), running.offset));
        let applied = self.applied.entry(running.key.clone()).or_insert(0);
        let outcome = if is_poison {
            Outcome::Permanent
        } else if self.rng.one_in(10) {
            Outcome::Passing
        } else if self.keeps_ledger && running.sequence > *applied + 1 {
            Outcome::Gap {
                expected: *applied + 1,
            }
        } else {
            Outcome::Handled
        };
        if outcome == Outcome::Handled {
            *applied = (*applied).max(running.sequence);
            world.handled.push(Handled {
                member: running.member,
                key: running.key.clone(),
                offset: running.offset,
                sequence: running.sequence,
            });
        }
        let (member, offset) = (running.member, running.offset);
        world.note(|| format!("{member} handled {offset}: {outcome:?}"));
        let _ = running.answer.send(outcome);
    }

    /// One thing that may happen.
    pub(super) fn step(&mut self) {
        match self.rng.below(24) {
            0..=2 if self.records() < self.most_records => self.append(),
            3..=6 => {
                let running = self.world.lock().handlers.len();
                if running > 0 {
                    let at = self.rng.below(running);
                    self.complete(at);
                }
            }
            7..=10 => drop(self.operate(true)),
            11 | 12 => drop(self.fetch_some()),
            13 => drop(self.give()),
            14 => self.take_back(),
            15 => self.steal(),
            16 => drop(self.tell_lost()),
            17 if self.rng.one_in(3) => self.kill(),
            18 if self.processes.len() < 3 => drop(self.start()),
            19 if self.rng.one_in(4) => {
                let processes = &self.processes;
                if let Some(process) = self.rng.pick(processes) {
                    process.control.requests().ask(Request::Stop);
                }
            }
            20 => drop(self.ask(false)),
            21 => drop(self.close_transaction(true)),
            22 if self.rng.one_in(8) => self.wait_no_longer(),
            _ => {
                let micros = [1_000, 50_000, 500_000, 2_000_000][self.rng.below(4)];
                self.world.lock().note(|| format!("{micros} µs pass"));
                self.clock.advance_micros(micros);
            }
        }
        self.go_on();
    }

    /// The group waits no longer for what is given up.
    fn wait_no_longer(&mut self) {
        let mut world = self.world.lock();
        let World {
            members, owners, ..
        } = &mut *world;
        for (id, member) in members {
            for (places, done) in std::mem::take(&mut member.giving_up) {
                drop(done);
                member.believes.retain(|place| !places.contains(place));
                owners.retain(|place, owner| owner != id || !places.contains(place));
            }
        }
    }

    fn records(&self) -> usize {
        self.world.lock().logs.values().map(Vec::len).sum()
    }

    pub(super) fn operate(&mut self, may_fail: bool) -> bool {
        let mut world = self.world.lock();
        let can: Vec<usize> = (0..world.operations.len())
            .filter(|at| world.can_operate(*at))
            .collect();
        let Some(at) = self.rng.pick(&can).copied() else {
            return false;
        };
        let fails = may_fail && self.rng.one_in(6);
        let is_lost = may_fail && self.rng.one_in(6);
        world.operate(at, fails, is_lost);
        true
    }

    pub(super) fn close_transaction(&mut self, may_fail: bool) -> bool {
        let mut world = self.world.lock();
        let open = world.open.len();
        if open == 0 {
            return false;
        }
        let commits = !may_fail || !self.rng.one_in(5);
        world.close(self.rng.below(open), commits);
        true
    }

    pub(super) fn fetch_some(&mut self) -> bool {
        let mut world = self.world.lock();
        let members: Vec<MemberId> = world.members.keys().copied().collect();
        let mut any = false;
        for id in members {
            let beginning: Vec<Place> = world.members[&id].beginning.keys().cloned().collect();
            for place in beginning {
                world.begin(id, &place);
                any |= world.members[&id].positions.contains_key(&place);
            }
            let member = &world.members[&id];
            if member.is_paused {
                continue;
            }
            let positions = member.positions.iter();
            let ready: Vec<Place> = positions
                .filter(|(place, next)| {
                    !member.held.contains(*place)
                        && usize::try_from(**next).unwrap() < world.logs[*place].len()
                })
                .map(|(place, _)| place.clone())
                .collect();
            if let Some(place) = self.rng.pick(&ready) {
                let most = 1 + self.rng.below(6);
                world.fetch(id, place, most);
                any = true;
            }
        }
        any
    }

    /// Gives a place that nobody has to a member.
    pub(super) fn give(&mut self) -> bool {
        let mut world = self.world.lock();
        let free: Vec<Place> = world
            .logs
            .keys()
            .filter(|place| {
                let owner = world.owners.get(*place);
                owner.is_none_or(|owner| !world.members.contains_key(owner))
            })
            .cloned()
            .collect();
        let members: Vec<MemberId> = world
            .members
            .iter()
            .filter(|(_, member)| !member.is_leaving)
            .map(|(id, _)| *id)
            .collect();
        let (Some(place), Some(member)) = (self.rng.pick(&free), self.rng.pick(&members)) else {
            return false;
        };
        // Whoever believes to have it hears of the loss before it can have it again.
        if world.members[member].believes.contains(place) {
            world.revoke(*member, vec![place.clone()], true);
        }
        world.assign(place, *member);
        true
    }

    /// Asks a member to give places up.
    fn take_back(&mut self) {
        let mut world = self.world.lock();
        let owners: Vec<(Place, MemberId)> = world
            .owners
            .iter()
            .filter(|(place, owner)| {
                let member = world.members.get(owner);
                member.is_some_and(|member| {
                    !member.giving_up.iter().any(|(of, _)| of.contains(place))
                })
            })
            .map(|(place, owner)| (place.clone(), *owner))
            .collect();
        if let Some((place, owner)) = self.rng.pick(&owners) {
            world.revoke(*owner, vec![place.clone()], false);
        }
    }

    /// A member is missed: its places go to others, and it does not know.
    fn steal(&mut self) {
        let mut world = self.world.lock();
        let owned: Vec<Place> = world.owners.keys().cloned().collect();
        let Some(place) = self.rng.pick(&owned).cloned() else {
            return;
        };
        let from = world.owners.remove(&place);
        let others: Vec<MemberId> = world
            .members
            .iter()
            .filter(|(id, member)| {
                Some(**id) != from && !member.believes.contains(&place) && !member.is_leaving
            })
            .map(|(id, _)| *id)
            .collect();
        if let Some(other) = self.rng.pick(&others) {
            world.assign(&place, *other);
        }
    }

    /// Members hear that they have lost places.
    pub(super) fn tell_lost(&mut self) -> bool {
        let mut world = self.world.lock();
        let mut lost = Vec::new();
        for (id, member) in &world.members {
            for place in &member.believes {
                if world.owners.get(place) != Some(id) {
                    lost.push((*id, place.clone()));
                }
            }
        }
        let any = !lost.is_empty();
        for (id, place) in lost {
            world.revoke(id, vec![place], true);
        }
        any
    }

    fn kill(&mut self) {
        if self.processes.is_empty() {
            return;
        }
        let at = self.rng.below(self.processes.len());
        let id = self.processes.remove(at).id;
        // Its places are its own until the group misses it.
        let mut world = self.world.lock();
        world.members.remove(&id);
        world.note(|| format!("{id} is killed"));
    }

    pub(super) fn ask(&mut self, skips_garbage: bool) -> bool {
        let parked: Vec<(String, bool)> = {
            let world = self.world.lock();
            let parked = world
                .parked
                .values()
                .filter(|parked| !world.asked.contains_key(&parked.key));
            parked
                .map(|parked| (parked.stream.to_string(), &*parked.reason == "no event"))
                .collect()
        };
        let (Some((which, is_garbage)), Some(process)) =
            (self.rng.pick(&parked), self.rng.pick(&self.processes))
        else {
            return false;
        };
        let (reply, _) = oneshot::channel();
        process.control.requests().ask(Request::Resume {
            which: which.as_str().into(),
            skip: skips_garbage && *is_garbage,
            reply,
        });
        true
    }

    /// Lets everything that can happen without faults happen, until nothing does.
    pub(super) fn rest(&mut self, resumes: bool) {
        if self.processes.is_empty() {
            self.start();
        }
        let mut idle = 0;
        for _ in 0..20_000 {
            self.go_on();
            let mut any = self.tell_lost();
            any |= self.give();
            any |= self.operate(false);
            any |= self.close_transaction(false);
            any |= self.fetch_some();
            let running = self.world.lock().handlers.len();
            if running > 0 {
                let at = self.rng.below(running);
                self.complete(at);
                any = true;
            }
            if self.processes.is_empty() {
                self.start();
                any = true;
            }
            if any {
                idle = 0;
                continue;
            }
            if resumes && idle > 3 && self.ask(true) {
                idle = 0;
                continue;
            }
            idle += 1;
            if idle > 40 && self.is_quiet(resumes) {
                return;
            }
            let next = self.sleeper.next_wake();
            let micros = next.map_or(1_000_000, |next| i64::try_from(next.as_micros()).unwrap());
            self.clock.advance_micros(micros.max(1));
        }
        self.world
            .lock()
            .wrong
            .push("it does not come to rest".into());
    }

    /// What there is, when something is wrong and one seed is looked at.
    pub(super) fn show(&self) {
        let world = self.world.lock();
        let Some(story) = world.story.as_ref().filter(|_| !world.wrong.is_empty()) else {
            return;
        };
        for line in story {
            println!("{line}");
        }
        println!("{:?}", world.wrong);
        println!("owners {:?}\ncommitted {:?}", world.owners, world.committed);
        for (id, member) in &world.members {
            println!(
                "member {id}: believes {:?} reads {:?} begins {:?} paused {} held {:?} leaving {}",
                member.believes,
                member.positions,
                member.beginning,
                member.is_paused,
                member.held,
                member.is_leaving
            );
        }
        println!("parked {:?}\nasked {:?}", world.parked, world.asked);
        for process in &self.processes {
            let view = process.control.view();
            println!(
                "member {}: {:?} in flight {}, retrying {}, held {}, last error {:?}",
                process.id, view.places, view.in_flight, view.retrying, view.held, view.last_error
            );
        }
    }

    fn is_quiet(&self, resumes: bool) -> bool {
        let world = self.world.lock();
        world.operations.is_empty()
            && world.open.is_empty()
            && world.handlers.is_empty()
            && (!resumes || world.parked.is_empty())
    }
}

pub(super) fn place(partition: i32) -> Place {
    Place {
        topic: "t".into(),
        partition,
    }
}
