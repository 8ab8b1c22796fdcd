//! What consumers keep in a store that is damaged: listeners' checkpoints and the rows of a read
//! model. A checkpoint is answered as its file was written under its name, or named as damaged; rows
//! are those of one commit, or none.

use std::collections::BTreeMap;
use std::fs;
use std::ops::{Bound, ControlFlow};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use pollster::block_on;
use tidelog_backends::SledStore;
use tidelog_core::*;

use crate::image::{Image, open};
use crate::sweep::{self, Random, Tally};
use crate::tools;

const NAMES: [&str; 2] = ["mail", "stock"];
const MODEL: &str = "accounts";
const SPACES: [Space; 3] = [Space::Rows, Space::Lookups, Space::Parked];

/// When consumers were at work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Time {
    /// Before the older copy was taken.
    Early = 1,
    Late,
    /// In another store.
    Elsewhere,
    /// After the damage.
    Again,
}

/// Lets consumers work. Nothing of the log is synced for it: the position is before the first event.
pub fn work(store: &SledStore, time: Time) {
    for name in NAMES {
        block_on(store.save(name, 0, state(name, time))).unwrap();
    }
    let ModelSlots { active, building } = slots(store).unwrap();
    for (slot, _) in active.into_iter().chain(building) {
        store.commit(&slot, &changes(time), &at(time)).unwrap();
    }
    if active.is_none() {
        make(store, time).unwrap();
        let second = store.create_slot(MODEL, &at(time)).unwrap();
        store.commit(&second, &changes(time), &at(time)).unwrap();
    }
    store.flush().unwrap();
}

fn make(store: &SledStore, time: Time) -> Result<(), RowsError> {
    let slot = store.create_slot(MODEL, &at(time))?;
    store.commit(&slot, &changes(time), &at(time))?;
    store.activate(MODEL, &slot)
}

fn slots(store: &SledStore) -> Result<ModelSlots, Error> {
    store.slots(MODEL, &mut |_| ControlFlow::Continue(()))
}

fn state(name: &str, time: Time) -> Bytes {
    format!("{name}, {time:?}; ")
        .repeat(40 * time as usize)
        .into()
}

fn at(time: Time) -> Checkpoint {
    Checkpoint {
        position: time as u64,
        event_id: EventId::from_bytes([time as u8; 16]),
        ..Checkpoint::beginning(1, 2)
    }
}

fn changes(time: Time) -> Vec<Change> {
    let from = 50 * time as usize;
    let each = (from..from + 150).map(|n| {
        let len = if n % 40 == 0 { 9_000 } else { n % 120 };
        let value = format!("{n} {time:?} ").into_bytes();
        Change {
            space: SPACES[n % SPACES.len()],
            key: format!("key {n}").into_bytes(),
            value: (n % 7 > 0).then(|| value.into_iter().cycle().take(len).collect()),
        }
    });
    each.collect()
}

fn everything(time: Time) -> BTreeMap<(Space, Vec<u8>), Vec<u8>> {
    let early = (time == Time::Late).then(|| changes(Time::Early));
    let mut all = BTreeMap::new();
    for change in early.into_iter().flatten().chain(changes(time)) {
        let key = (change.space, change.key);
        match change.value {
            Some(value) => drop(all.insert(key, value)),
            None => drop(all.remove(&key)),
        }
    }
    all
}

/// What was found; anything wrong panics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// Checkpoints that are said to be damaged.
    pub damaged: usize,
    /// Slots of rows that are named.
    pub slots: usize,
}

/// Looks at everything that consumers kept in the open store in `dir`.
pub fn examine(store: &SledStore, image: &Image, dir: &Path) -> Found {
    let damaged = NAMES.map(|name| usize::from(!checkpoint(store, image, dir, name)));
    Found {
        damaged: damaged.into_iter().sum(),
        slots: rows(store),
    }
}

/// Whether it is not damaged.
fn checkpoint(store: &SledStore, image: &Image, dir: &Path, name: &str) -> bool {
    let file = file(name);
    let there = fs::read(dir.join(&file)).ok();
    let copies = [&image.files, &image.older, &image.foreign];
    let times = [Time::Late, Time::Early, Time::Elsewhere];
    let known = copies.into_iter().zip(times);
    // Whole files of another time or store: who is at work compares the event that a state names.
    let mut known = known.filter(|(copy, _)| there == fs::read(copy.join(&file)).ok());
    let expected = known.next().map(|(_, time)| state(name, time));
    match block_on(store.load(name)) {
        Ok(found) => {
            assert!(there.is_none() || expected.is_some(), "{name} is damaged");
            assert!(found == expected, "{name} is not what was saved");
            true
        }
        Err(Error::Damaged { path, remedy, .. }) => {
            assert_eq!(path, dir.join(&file));
            assert!(remedy.contains("remove this checkpoint"), "{remedy}");
            assert!(there.is_some() && expected.is_none(), "{name} is whole");
            false
        }
        Err(error) => panic!("not a typed damage: {error:?}"),
    }
}

/// How many slots are named; what is in them was committed.
fn rows(store: &SledStore) -> usize {
    let ModelSlots { active, building } = slots(store).unwrap();
    let named = active.into_iter().chain(building);
    named.filter(|named| holds(store, named)).count()
}

fn holds(store: &SledStore, (slot, named): &(Slot, Checkpoint)) -> bool {
    let mut found = BTreeMap::new();
    for space in SPACES {
        let all = (Bound::Unbounded, Bound::Unbounded);
        match store.scan(slot, space, all, Direction::Forward, usize::MAX) {
            Ok(entries) => found.extend(
                entries
                    .into_iter()
                    .map(|(key, value)| ((space, key), value)),
            ),
            Err(RowsError::Lost(_)) => return false,
            Err(RowsError::Failed(error)) => panic!("{error:?}"),
        }
    }
    let times = [Time::Early, Time::Late, Time::Again];
    let time = times
        .into_iter()
        .find(|time| at(*time).event_id == named.event_id);
    let time = time.unwrap_or_else(|| panic!("{named:?} was never committed here"));
    assert!(found == everything(time), "rows are not those of {time:?}");
    let rows = found.keys().filter(|(space, _)| *space == Space::Rows);
    let rows = rows.count() as u64;
    assert_eq!(*named, Checkpoint { rows, ..at(time) });
    true
}

/// Rows can be made again, in an engine that is begun anew if need be.
pub fn make_again(store: &SledStore) {
    if make(store, Time::Again).is_err() {
        store.renew().unwrap();
        make(store, Time::Again).unwrap();
    }
    let (_, named) = slots(store).unwrap().active.unwrap();
    assert_eq!(named.event_id, at(Time::Again).event_id);
    rows(store);
}

pub fn file(name: &str) -> PathBuf {
    Path::new("listeners").join(name)
}

pub fn files() -> impl Iterator<Item = PathBuf> {
    NAMES.into_iter().map(file)
}

/// What one damage does: everything in the log is there, whatever becomes of checkpoints.
fn after(image: &Image, damage: impl FnOnce(&Path)) -> Found {
    let dir = image.dir();
    tools::put_back(&image.files, &dir);
    damage(&dir);
    let store = open(&dir).unwrap();
    assert!(tools::read_all(&store).unwrap() == image.events);
    let found = examine(&store, image, &dir);
    store.crash();
    found
}

#[test]
fn a_damaged_checkpoint_is_named_and_keeps_no_store_from_opening() {
    let image = Image::plain(true);
    let mut tally = Tally::default();
    let mut count = |kind: &str, damaged: usize, damage: &dyn Fn(&Path)| {
        let found = after(&image, damage);
        assert_eq!(found, Found { damaged, slots: 2 }, "{kind}");
        tally.count(kind, format!("{damaged} named as damaged"));
    };
    let change = |dir: &Path, how: &dyn Fn(&mut Vec<u8>)| {
        let path = dir.join(file("mail"));
        let mut bytes = fs::read(&path).unwrap();
        how(&mut bytes);
        fs::write(path, bytes).unwrap();
    };
    count("untouched", 0, &|_| {});
    let len = fs::read(image.files.join(file("mail"))).unwrap().len();
    let step = if sweep::is_full() { 3 } else { 151 };
    for byte in [0, 8, 12].into_iter().chain((16..len).step_by(step)) {
        let flip = |bytes: &mut Vec<u8>| bytes[byte] ^= 1 << (byte % 8);
        count("flipped", 1, &|dir| change(dir, &flip));
    }
    for len in [0, 1, 15, 16, len / 2, len - 1] {
        count("cut", 1, &|dir| change(dir, &|bytes| bytes.truncate(len)));
    }
    for more in [1, 512] {
        count("longer", 1, &|dir| {
            change(dir, &|bytes| bytes.extend(vec![0; more]));
        });
    }
    count("deleted", 0, &|dir| {
        fs::remove_file(dir.join(file("mail"))).unwrap();
    });
    count("all deleted", 0, &|dir| {
        fs::remove_dir_all(dir.join("listeners")).unwrap();
    });
    count("two swapped", 2, &|dir| {
        let [mail, stock, between] = ["mail", "stock", "x"].map(|name| dir.join(file(name)));
        fs::rename(&mail, &between).unwrap();
        fs::rename(&stock, &mail).unwrap();
        fs::rename(&between, &stock).unwrap();
    });
    for (kind, copy) in [
        ("older copy", &image.older),
        ("another store's", &image.foreign),
    ] {
        count(kind, 0, &|dir| {
            fs::copy(copy.join(file("mail")), dir.join(file("mail"))).unwrap();
        });
    }
    eprint!("damaged checkpoints:\n{}", tally.table());
}

#[test]
fn a_bit_that_flips_in_sled_makes_no_wrong_row() {
    let seed = sweep::seed();
    eprintln!("TIDELOG_SEED={seed}");
    let mut random = Random(seed);
    let flips = if sweep::is_full() { 300 } else { 18 };
    let mut tally = Tally::default();
    for closed in [false, true] {
        let image = Image::plain(closed);
        let db = tools::tree(&image.files)
            .into_keys()
            .find(|path| path.starts_with("index") && path.ends_with("db"))
            .unwrap();
        let bytes = fs::read(image.files.join(&db)).unwrap();
        let used: Vec<usize> = (0..bytes.len()).filter(|at| bytes[*at] != 0).collect();
        for _ in 0..flips {
            let (at, bit) = (*random.pick(&used), random.below(8));
            let found = after(&image, |dir| {
                let mut bytes = bytes.clone();
                bytes[at] ^= 1 << bit;
                fs::write(dir.join(&db), bytes).unwrap();
            });
            assert_eq!(found.damaged, 0, "byte {at}");
            let outcome = match found.slots {
                2 => "rows all there",
                1 => "one copy gone",
                _ => "none named",
            };
            tally.count(if closed { "closed" } else { "crashed" }, outcome);
        }
    }
    eprint!("bits flipped in sled:\n{}{}", tally.table(), tally.totals());
}
