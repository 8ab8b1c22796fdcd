//! What consumers keep in the store: two listeners' checkpoints, and the rows of one read model.
//!
//! Each state follows from its number, and a later one has a higher number, so the notes need only
//! name it: before it is begun, and when it was answered.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::{Bound, ControlFlow};

use bytes::Bytes;
use pollster::block_on;
use tidelog_backends::SledStore;
use tidelog_core::*;

use crate::sweep::Random;

const NAMES: [&str; 2] = ["mail", "stock"];
const MODEL: &str = "accounts";
const SPACES: [Space; 3] = [Space::Rows, Space::Lookups, Space::Parked];
type Say<'a> = &'a mut dyn FnMut(&str);

/// Consumers at work.
pub struct Consumers {
    next: u64,
}

impl Consumers {
    /// Whose states have numbers above `first`; each is used once.
    pub fn new(first: u64) -> Self {
        Self { next: first }
    }

    fn number(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    /// Saves one checkpoint, at the end of the log or a little before.
    pub fn save(
        &mut self,
        store: &SledStore,
        random: &mut Random,
        say: Say<'_>,
    ) -> Result<(), Error> {
        let (name, number) = (*random.pick(&NAMES), self.number());
        let position = store.last_position().saturating_sub(random.below(3) as u64);
        say(&format!("saving {number} {position} {name}"));
        block_on(store.save(name, position, state(name, number, position)))?;
        say(&format!("saved {number} {position} {name}"));
        Ok(())
    }

    /// One commit of rows; now and then a slot is begun before, activated after, or all is flushed.
    pub fn commit(
        &mut self,
        store: &SledStore,
        random: &mut Random,
        say: Say<'_>,
    ) -> Result<(), Error> {
        let ModelSlots { active, building } = slots(store)?;
        let building = match building {
            None if active.is_none() || random.one_in(6) => {
                let begun = checkpoint(self.number(), 0);
                say(&format!("committing {} 0 0", number_of(&begun)));
                let slot = store.create_slot(MODEL, &begun).map_err(failed)?;
                Some((slot, begun))
            }
            there => there,
        };
        let both: Vec<_> = active.into_iter().chain(building).collect();
        let (slot, before) = random.pick(&both);
        let (number, position) = (self.number(), store.last_position());
        let before = number_of(before);
        say(&format!("committing {number} {before} {position}"));
        let done = store.commit(slot, &changes(number), &checkpoint(number, position));
        done.map_err(failed)?;
        if let Some((slot, begun)) = building
            && random.one_in(3)
        {
            say(&format!("activating {}", number_of(&begun)));
            store.activate(MODEL, &slot).map_err(failed)?;
        }
        if random.one_in(2) {
            store.flush()?;
            let ModelSlots { active, building } = slots(store)?;
            let number = |of: Option<(Slot, Checkpoint)>| of.map_or(0, |(_, at)| number_of(&at));
            say(&format!("flushed {} {}", number(active), number(building)));
        }
        Ok(())
    }
}

fn slots(store: &SledStore) -> Result<ModelSlots, Error> {
    store.slots(MODEL, &mut |_| ControlFlow::Continue(()))
}

/// Nothing is damaged while a process works: rows are never lost to it.
fn failed(error: RowsError) -> Error {
    match error {
        RowsError::Failed(error) => error,
        RowsError::Lost(what) => panic!("rows were lost: {what}"),
    }
}

fn state(name: &str, number: u64, position: u64) -> Bytes {
    let mut state = [number.to_le_bytes(), position.to_le_bytes()].concat();
    state.extend(name.bytes().cycle().take(Random(number).below(3_000)));
    state.into()
}

fn checkpoint(number: u64, position: u64) -> Checkpoint {
    let mut id = [0; 16];
    id[8..].copy_from_slice(&number.to_be_bytes());
    Checkpoint {
        position,
        event_id: EventId::from_bytes(id),
        ..Checkpoint::beginning(1, 2)
    }
}

fn number_of(checkpoint: &Checkpoint) -> u64 {
    u64::from_be_bytes(checkpoint.event_id.as_bytes()[8..].try_into().unwrap())
}

/// What the commit of this number does.
fn changes(number: u64) -> Vec<Change> {
    let mut random = Random(number);
    let mut changes = BTreeMap::new();
    for _ in 0..=random.below(12) {
        let key = (*random.pick(&SPACES), format!("key {}", random.below(20)));
        let len = match random.below(20) {
            0 => 9_000,
            1..4 => 0,
            _ => random.below(300),
        };
        let value = number.to_le_bytes().into_iter().cycle().take(len).collect();
        changes.insert(key, (!random.one_in(4)).then_some(value));
    }
    let each = changes.into_iter().map(|((space, key), value)| Change {
        space,
        key: key.into_bytes(),
        value,
    });
    each.collect()
}

/// Everything in a slot.
type Everything = BTreeMap<(Space, Vec<u8>), Vec<u8>>;

/// What the notes up to some moment say of consumers.
#[derive(Clone, Debug, Default)]
pub struct Consumed {
    /// Of each checkpoint that was begun, position and name.
    begun: BTreeMap<u64, (u64, String)>,
    /// The newest one that was answered, by name.
    saved: BTreeMap<String, u64>,
    /// Of each commit that was begun, the one before in its slot (0: the slot begins) and the position.
    commits: BTreeMap<u64, (u64, u64)>,
    /// Slots, by their first number, whose activation was begun.
    activated: BTreeSet<u64>,
    /// The active slot's newest commit and the other one's when a flush was answered last; 0 for none.
    flushed: [u64; 2],
    /// The store is being opened, and may be making its index again.
    opening: bool,
}

/// How much of it was there to be compared.
#[derive(Clone, Copy, Debug, Default)]
pub struct Kept {
    pub checkpoints: u64,
    pub slots: u64,
}

impl Consumed {
    /// Whether the note is one about consumers. One that saves says up to where the log is durable.
    pub fn note(&mut self, line: &str) -> bool {
        let words: Vec<&str> = line.split(' ').collect();
        let number = |at: usize| words[at].parse::<u64>().unwrap();
        match words[0] {
            "saving" => drop(self.begun.insert(number(1), (number(2), words[3].into()))),
            "saved" => drop(self.saved.insert(words[3].into(), number(1))),
            "committing" => drop(self.commits.insert(number(1), (number(2), number(3)))),
            "activating" => drop(self.activated.insert(self.root(number(1)))),
            "flushed" => self.flushed = [number(1), number(2)],
            "anew" => self.flushed = [0; 2],
            "opening" => {
                if self.opening {
                    self.flushed = [0; 2];
                }
                self.opening = true;
            }
            _ => return false,
        }
        true
    }

    /// An opening has ended; the index was made again or not.
    pub fn opened(&mut self, anew: bool) {
        self.opening = false;
        if anew {
            self.flushed = [0; 2];
        }
    }

    /// Compares with what the open store shows. `stands`: what was flushed must have survived.
    pub fn check(&self, store: &SledStore, stands: bool) -> Result<Kept, String> {
        let mut kept = Kept::default();
        for name in NAMES {
            kept.checkpoints += u64::from(self.checkpoint(store, name)?);
        }
        let named = slots(store).map_err(|error| format!("asking for slots: {error}"))?;
        for named in [named.active, named.building].into_iter().flatten() {
            self.slot(store, named)?;
            kept.slots += 1;
        }
        let newest = |named: Option<(Slot, Checkpoint)>| named.map(|(_, at)| number_of(&at));
        let [active, building] = [newest(named.active), newest(named.building)];
        if let Some(active) = active
            && !self.activated.contains(&self.root(active))
        {
            return Err(format!("rows of commit {active} were never activated"));
        }
        if stands && !self.opening {
            self.stands(active, building)?;
        }
        Ok(kept)
    }

    fn checkpoint(&self, store: &SledStore, name: &str) -> Result<bool, String> {
        let found = block_on(store.load(name));
        let found = found.map_err(|error| format!("loading a checkpoint: {error}"))?;
        let saved = self.saved.get(name).copied();
        let Some(found) = found else {
            return saved.map_or(Ok(false), |saved| {
                Err(format!("checkpoint {name} {saved} is gone"))
            });
        };
        let number = found.first_chunk().map_or(0, |n| u64::from_le_bytes(*n));
        let Some((position, of)) = self.begun.get(&number) else {
            return Err(format!("checkpoint {name} {number} was never begun"));
        };
        if of != name || found != state(name, number, *position) {
            return Err(format!("checkpoint {name} is not what was saved"));
        }
        if saved.is_some_and(|saved| number < saved) {
            return Err(format!(
                "checkpoint {name} {number} is older than {saved:?}"
            ));
        }
        let last = store.last_position();
        if *position > last {
            return Err(format!(
                "checkpoint {name} speaks of {position}, the log ends at {last}"
            ));
        }
        Ok(true)
    }

    fn slot(&self, store: &SledStore, (slot, at): (Slot, Checkpoint)) -> Result<(), String> {
        let number = number_of(&at);
        let Some((_, position)) = self.commits.get(&number) else {
            return Err(format!("rows of commit {number}, which never was"));
        };
        let expected = self.everything(number);
        let mut found = Everything::new();
        for space in SPACES {
            let all = (Bound::Unbounded, Bound::Unbounded);
            let entries = store.scan(&slot, space, all, Direction::Forward, usize::MAX);
            let entries = entries.map_err(|error| format!("reading rows: {error}"))?;
            found.extend(
                entries
                    .into_iter()
                    .map(|(key, value)| ((space, key), value)),
            );
        }
        let rows = expected.keys().filter(|(space, _)| *space == Space::Rows);
        let rows = rows.count() as u64;
        if found != expected
            || at
                != (Checkpoint {
                    rows,
                    ..checkpoint(number, *position)
                })
        {
            return Err(format!("rows are not those of commit {number}"));
        }
        Ok(())
    }

    /// A flush was answered, and the index was not made again since.
    fn stands(&self, active: Option<u64>, building: Option<u64>) -> Result<(), String> {
        for flushed in self.flushed.into_iter().filter(|flushed| *flushed > 0) {
            let root = self.root(flushed);
            let is_later = |found: u64| self.root(found) == root && found >= flushed;
            let replaced = active.is_some_and(|active| self.root(active) > root);
            if !replaced && ![active, building].into_iter().flatten().any(is_later) {
                return Err(format!(
                    "commit {flushed} was flushed; there are {active:?} and {building:?}"
                ));
            }
        }
        if self.flushed[0] > 0 && active.is_none() {
            return Err("no slot is active any more".into());
        }
        Ok(())
    }

    /// The commits up to `number` in its slot, newest first.
    fn line(&self, number: u64) -> impl Iterator<Item = u64> + '_ {
        let before = |number: &u64| self.commits.get(number).map(|(before, _)| *before);
        std::iter::successors(Some(number), before).take_while(|number| *number > 0)
    }

    fn root(&self, number: u64) -> u64 {
        self.line(number).last().unwrap_or(0)
    }

    fn everything(&self, number: u64) -> Everything {
        let mut line: Vec<u64> = self.line(number).collect();
        line.pop();
        let mut all = Everything::new();
        for change in line.into_iter().rev().flat_map(changes) {
            let key = (change.space, change.key);
            match change.value {
                Some(value) => drop(all.insert(key, value)),
                None => drop(all.remove(&key)),
            }
        }
        all
    }

    /// Consumers go on from what is there.
    pub fn go_on(&self, store: &SledStore) -> Result<(), String> {
        let (mut consumed, mut random) = (self.clone(), Random(store.last_position()));
        consumed.opened(true);
        let mut consumers = Consumers::new(1 << 60);
        for _ in 0..3 {
            let mut say = |line: &str| assert!(consumed.note(line), "{line}");
            let saved = consumers.save(store, &mut random, &mut say);
            saved.map_err(|error| format!("saving a checkpoint: {error}"))?;
            let done = consumers.commit(store, &mut random, &mut say);
            done.map_err(|error| format!("committing rows: {error}"))?;
        }
        consumed.check(store, true).map(drop)
    }
}
