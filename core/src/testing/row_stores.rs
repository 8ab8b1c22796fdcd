//! Laws 13 to 16: rows and their checkpoint are one, and a slot is whole or is not there.

use std::collections::BTreeMap;
use std::ops::{Bound, ControlFlow};
use std::sync::atomic::{AtomicBool, Ordering};

use super::harness::{Harness, PersistentHarness};
use super::tools::*;
use crate::clock::Timestamp;
use crate::error::Error;
use crate::id::EventId;
use crate::projection::{Change, Checkpoint, Entry, ModelSlots, RowStore, RowsError, Slot, Space};
use crate::read::Direction;

const SPACES: [Space; 3] = [Space::Rows, Space::Lookups, Space::Parked];
const ALL: (Bound<&[u8]>, Bound<&[u8]>) = (Bound::Unbounded, Bound::Unbounded);

/// The checkpoint at `position`, different in every field from those at others.
fn at(position: u64) -> Checkpoint {
    let mut id = [7; 16];
    id[..8].copy_from_slice(&position.to_le_bytes());
    Checkpoint {
        version: 3,
        lookups: u64::MAX - position,
        position,
        event_id: EventId::from_bytes(id),
        recorded_time: Timestamp::from_micros(
            852_076_800_000_000 + i64::try_from(position).unwrap(),
        ),
        rows: 0,
    }
}

fn put(space: Space, key: &[u8], value: &[u8]) -> Change {
    Change {
        space,
        key: key.to_vec(),
        value: Some(value.to_vec()),
    }
}

fn row(key: &str, value: &str) -> Change {
    put(Space::Rows, key.as_bytes(), value.as_bytes())
}

fn gone(space: Space, key: &[u8]) -> Change {
    Change {
        space,
        key: key.to_vec(),
        value: None,
    }
}

fn create(store: &impl RowStore, model: &str) -> Slot {
    store
        .create_slot(model, &Checkpoint::beginning(3, 0))
        .unwrap()
}

/// An active slot of `model` with these changes made, at position 1.
fn active(store: &impl RowStore, model: &str, changes: &[Change]) -> Slot {
    let slot = create(store, model);
    store.commit(&slot, changes, &at(1)).unwrap();
    store.activate(model, &slot).unwrap();
    slot
}

fn slots(store: &impl RowStore, model: &str) -> ModelSlots {
    store
        .slots(model, &mut |_| ControlFlow::Continue(()))
        .unwrap()
}

fn all_of(store: &impl RowStore, slot: &Slot, space: Space) -> Vec<Entry> {
    let found = store.scan(slot, space, ALL, Direction::Forward, usize::MAX);
    found.unwrap()
}

fn rows_of(store: &impl RowStore, slot: &Slot) -> Vec<(String, String)> {
    let text = |bytes| String::from_utf8(bytes).unwrap();
    let rows = all_of(store, slot, Space::Rows).into_iter();
    rows.map(|(key, value)| (text(key), text(value))).collect()
}

fn pairs(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    let owned = |(key, value): &(&str, &str)| ((*key).to_owned(), (*value).to_owned());
    pairs.iter().map(owned).collect()
}

#[track_caller]
fn assert_lost<T: std::fmt::Debug>(result: Result<T, RowsError>) {
    match result {
        Err(RowsError::Lost(_)) => {}
        other => panic!("expected lost rows, got {other:?}"),
    }
}

#[track_caller]
fn failure<T: std::fmt::Debug>(result: Result<T, RowsError>) -> Result<T, Error> {
    match result {
        Ok(value) => Ok(value),
        Err(RowsError::Failed(error)) => Err(error),
        Err(lost) => panic!("expected a failure, got {lost:?}"),
    }
}

/// A model that nobody made has no slots.
pub fn an_unknown_model_has_no_slots(harness: &mut impl Harness<Store: RowStore>) {
    let store = harness.store();
    assert_eq!(slots(&store, "accounts"), ModelSlots::default());
    create(&store, "accounts");
    assert_eq!(slots(&store, "account"), ModelSlots::default());
    store.remove_model("unknown").unwrap();
}

/// A new slot is the one being built, empty, at the checkpoint that it was given.
pub fn a_new_slot_is_empty_and_being_built(harness: &mut impl Harness<Store: RowStore>) {
    let store = harness.store();
    let counted = Checkpoint { rows: 99, ..at(5) };
    let slot = store.create_slot("accounts", &counted).unwrap();
    let found = slots(&store, "accounts");
    assert_eq!((found.active, found.building), (None, Some((slot, at(5)))));
    for space in SPACES {
        assert_eq!(all_of(&store, &slot, space), []);
    }
}

/// The checkpoint moves with the changes, and a commit that is refused does neither.
pub fn rows_and_checkpoint_are_one_step(harness: &mut impl Harness<Store: RowStore>) {
    let store = harness.store();
    let slot = active(&store, "accounts", &[row("ada", "1"), row("bob", "1")]);
    let changes = [row("ada", "2"), gone(Space::Rows, b"bob"), row("eve", "2")];
    assert_eq!(store.commit(&slot, &changes, &at(2)).unwrap(), 2);
    let (found, checkpoint) = slots(&store, "accounts").active.unwrap();
    assert_eq!((found, checkpoint), (slot, Checkpoint { rows: 2, ..at(2) }));
    assert_eq!(rows_of(&store, &slot), pairs(&[("ada", "2"), ("eve", "2")]));

    let over = vec![0; Change::MAX_KEY_BYTES + 1];
    let refused = store.commit(
        &slot,
        &[row("ada", "3"), put(Space::Rows, &over, b"")],
        &at(3),
    );
    assert_too_large(failure(refused), over.len(), Change::MAX_KEY_BYTES);
    assert_eq!(slots(&store, "accounts").active.unwrap().1.position, 2);
    assert_eq!(rows_of(&store, &slot), pairs(&[("ada", "2"), ("eve", "2")]));
}

/// The checkpoint may move without a change.
pub fn a_commit_without_changes_moves_the_checkpoint(harness: &mut impl Harness<Store: RowStore>) {
    let store = harness.store();
    let slot = active(&store, "accounts", &[row("ada", "1")]);
    assert_eq!(store.commit(&slot, &[], &at(900)).unwrap(), 1);
    let (_, checkpoint) = slots(&store, "accounts").active.unwrap();
    assert_eq!(checkpoint, Checkpoint { rows: 1, ..at(900) });
}

/// The store counts the rows, and nothing but rows, however they come and go.
pub fn rows_are_counted(harness: &mut impl Harness<Store: RowStore>) {
    let store = harness.store();
    let slot = active(&store, "accounts", &[]);
    let mut position = 1;
    let mut commit = |changes: &[Change]| {
        position += 1;
        let rows = store.commit(&slot, changes, &at(position)).unwrap();
        let (_, checkpoint) = slots(&store, "accounts").active.unwrap();
        assert_eq!(checkpoint.rows, rows);
        rows
    };
    assert_eq!(commit(&[row("a", "1"), row("b", "1"), row("c", "1")]), 3);
    assert_eq!(commit(&[row("a", "2"), row("d", "1")]), 4);
    assert_eq!(
        commit(&[
            put(Space::Lookups, b"x", b""),
            put(Space::Parked, b"y", b"z")
        ]),
        4
    );
    assert_eq!(
        commit(&[gone(Space::Rows, b"a"), gone(Space::Rows, b"never")]),
        3
    );
    assert_eq!(commit(&[gone(Space::Lookups, b"x"), row("b", "")]), 3);
}

/// Spaces, slots and models have keys of their own.
pub fn spaces_slots_and_models_are_apart(harness: &mut impl Harness<Store: RowStore>) {
    let store = harness.store();
    let everywhere = |value: &str| {
        let of = |space| put(space, b"key", format!("{value} {space:?}").as_bytes());
        SPACES.map(of)
    };
    let accounts = active(&store, "accounts", &everywhere("accounts"));
    let building = create(&store, "accounts");
    store
        .commit(&building, &everywhere("building"), &at(4))
        .unwrap();
    let orders = active(&store, "orders", &everywhere("orders"));
    for (slot, name) in [
        (accounts, "accounts"),
        (building, "building"),
        (orders, "orders"),
    ] {
        for space in SPACES {
            let value = format!("{name} {space:?}").into_bytes();
            assert_eq!(
                store.get(&slot, space, b"key").unwrap(),
                Some(value.clone())
            );
            assert_eq!(all_of(&store, &slot, space), [(b"key".to_vec(), value)]);
        }
    }
    store.remove_model("orders").unwrap();
    assert_eq!(
        rows_of(&store, &accounts),
        pairs(&[("key", "accounts Rows")])
    );
}

/// Keys of every shape come back, in byte order both ways.
pub fn entries_come_in_byte_order(harness: &mut impl Harness<Store: RowStore>) {
    let store = harness.store();
    let longest = vec![0xff; Change::MAX_KEY_BYTES];
    let mut keys: Vec<&[u8]> = vec![
        b"",
        b"\0",
        b"\0\0",
        b"\0\xff",
        b"\x01",
        b"a",
        b"a\0",
        b"a\0\0\0\0",
        b"a\0\0\0\x01",
        b"aa",
        b"b",
        b"\xff",
        b"\xff\0",
        b"\xff\xff",
        &longest,
    ];
    let slot = create(&store, "accounts");
    for space in SPACES {
        let changes: Vec<_> = keys.iter().rev().map(|key| put(space, key, key)).collect();
        store.commit(&slot, &changes, &at(1)).unwrap();
    }
    keys.sort_unstable();
    for space in SPACES {
        let found = all_of(&store, &slot, space);
        assert!(found.iter().all(|(key, value)| key == value));
        assert!(
            found
                .iter()
                .map(|(key, _)| key.as_slice())
                .eq(keys.iter().copied())
        );
        let down = store
            .scan(&slot, space, ALL, Direction::Backward, usize::MAX)
            .unwrap();
        assert!(
            down.iter().eq(found.iter().rev()),
            "{space:?} differs downwards"
        );
    }
}

/// Every range, limit and direction gives what a sorted map would give.
pub fn ranges_and_limits_are_exact(harness: &mut impl Harness<Store: RowStore>) {
    let store = harness.store();
    let mut expected = BTreeMap::new();
    let slot = create(&store, "accounts");
    for n in 0..40_u8 {
        let value = vec![n; usize::from(n) * 300];
        store
            .commit(&slot, &[put(Space::Rows, &[n * 2], &value)], &at(1))
            .unwrap();
        store
            .commit(&slot, &[put(Space::Lookups, &[n * 2 + 1], b"")], &at(1))
            .unwrap();
        expected.insert(vec![n * 2], value);
    }
    let ends = [0, 1, 2, 39, 40, 41, 78, 79, 200].map(|byte| [byte]);
    let bounds: Vec<Bound<&[u8]>> = ends
        .iter()
        .flat_map(|end| [Bound::Included(&end[..]), Bound::Excluded(&end[..])])
        .chain([Bound::Unbounded])
        .collect();
    let limits = [0, 1, 7, 40, usize::MAX];
    for (from, to) in bounds
        .iter()
        .flat_map(|from| bounds.iter().map(move |to| (*from, *to)))
    {
        let inside = |key: &[u8]| {
            let above = match from {
                Bound::Included(from) => key >= from,
                Bound::Excluded(from) => key > from,
                Bound::Unbounded => true,
            };
            above
                && match to {
                    Bound::Included(to) => key <= to,
                    Bound::Excluded(to) => key < to,
                    Bound::Unbounded => true,
                }
        };
        let within = expected.iter().filter(|(key, _)| inside(key));
        let within: Vec<Entry> = within
            .map(|(key, value)| (key.clone(), value.clone()))
            .collect();
        for limit in limits {
            let scan = |direction| {
                let found = store.scan(&slot, Space::Rows, (from, to), direction, limit);
                found.unwrap()
            };
            let up = scan(Direction::Forward);
            assert!(
                up.iter().eq(within.iter().take(limit)),
                "{from:?} to {to:?}, {limit}"
            );
            let down = scan(Direction::Backward);
            assert!(
                down.iter().eq(within.iter().rev().take(limit)),
                "{from:?} to {to:?}, {limit}"
            );
        }
    }
}

/// Values of every size come back, whatever stood there before.
pub fn values_of_every_size_come_back(harness: &mut impl Harness<Store: RowStore>) {
    let store = harness.store();
    let slot = create(&store, "accounts");
    let sizes = [
        0,
        1,
        100,
        4_071,
        4_072,
        4_080,
        4_081,
        4_096,
        8_160,
        8_161,
        100_000,
        Change::MAX_VALUE_BYTES,
    ];
    let value_of = |size: usize| -> Vec<u8> { (0..=250).cycle().take(size).collect() };
    let ordered = sizes.into_iter().chain(sizes.into_iter().rev());
    for (n, size) in ordered.chain([8_160, 0, 1 << 19, 4_080]).enumerate() {
        let value = value_of(size);
        store
            .commit(&slot, &[put(Space::Rows, b"same", &value)], &at(n as u64))
            .unwrap();
        assert!(
            store.get(&slot, Space::Rows, b"same").unwrap() == Some(value),
            "{size} bytes"
        );
        assert_eq!(slots(&store, "accounts").building.unwrap().1.rows, 1);
    }
    for size in sizes {
        let changes = [put(
            Space::Parked,
            size.to_string().as_bytes(),
            &value_of(size),
        )];
        store.commit(&slot, &changes, &at(99)).unwrap();
    }
    for (key, value) in all_of(&store, &slot, Space::Parked) {
        let size: usize = String::from_utf8(key).unwrap().parse().unwrap();
        assert!(value == value_of(size), "{size} bytes");
    }
    let over = vec![0; Change::MAX_VALUE_BYTES + 1];
    let refused = store.commit(&slot, &[put(Space::Rows, b"same", &over)], &at(100));
    assert_too_large(failure(refused), over.len(), Change::MAX_VALUE_BYTES);
}

/// Many rows, in commits of many changes.
pub fn many_rows_are_kept(harness: &mut impl Harness<Store: RowStore>) {
    let store = harness.store();
    let slot = create(&store, "accounts");
    let mut expected = BTreeMap::new();
    for round in 0..12_u8 {
        let mut changes = BTreeMap::new();
        for n in 0..1_000_u64 {
            let key = (n * 7_919 + u64::from(round) * 104_729) % 5_000;
            let value = (key % 3 > 0 || round % 2 == 0).then(|| vec![round; (key % 90) as usize]);
            changes.insert(key.to_be_bytes().to_vec(), value);
        }
        for (key, value) in &changes {
            match value {
                Some(value) => expected.insert(key.clone(), value.clone()),
                None => expected.remove(key),
            };
        }
        let changes: Vec<_> = changes
            .into_iter()
            .map(|(key, value)| Change {
                space: Space::Rows,
                key,
                value,
            })
            .collect();
        let rows = store.commit(&slot, &changes, &at(round.into())).unwrap();
        assert_eq!(rows, expected.len() as u64);
    }
    assert!(
        all_of(&store, &slot, Space::Rows)
            .into_iter()
            .eq(expected.clone())
    );
    let (found, checkpoint) = slots(&store, "accounts").building.unwrap();
    assert_eq!((found, checkpoint.rows), (slot, expected.len() as u64));
}

/// One call reads one commit's state, while commits go on.
pub fn what_one_call_reads_is_one_commit(harness: &mut impl Harness<Store: RowStore>) {
    let store = harness.store();
    let all_rows = |value: &str| -> Vec<Change> {
        let long = value.repeat(3_000);
        let key = |n: u32| format!("{n:03}");
        (0..60)
            .map(|n| row(&key(n), if n % 20 == 0 { &long } else { value }))
            .collect()
    };
    let slot = active(&store, "accounts", &all_rows("0"));
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for round in 1..200_u64 {
                let value = (round % 10).to_string();
                store
                    .commit(&slot, &all_rows(&value), &at(round + 1))
                    .unwrap();
            }
            done.store(true, Ordering::SeqCst);
        });
        let mut direction = Direction::Forward;
        while !done.load(Ordering::SeqCst) {
            let rows = store
                .scan(&slot, Space::Rows, ALL, direction, usize::MAX)
                .unwrap();
            let value = rows[0].1[0];
            assert_eq!(rows.len(), 60);
            assert!(
                rows.iter()
                    .all(|(_, row)| row.iter().all(|byte| *byte == value))
            );
            direction = match direction {
                Direction::Forward => Direction::Backward,
                Direction::Backward => Direction::Forward,
            };
        }
    });
}

/// Activating names the slot in place of the one before, which is gone.
pub fn activating_is_one_step(harness: &mut impl Harness<Store: RowStore>) {
    let store = harness.store();
    let first = active(&store, "accounts", &[row("ada", "1")]);
    let second = create(&store, "accounts");
    store.commit(&second, &[row("ada", "2")], &at(9)).unwrap();
    let found = slots(&store, "accounts");
    assert_eq!(found.active.unwrap().0, first);
    assert_eq!(found.building.unwrap().0, second);
    store.activate("accounts", &second).unwrap();
    store.activate("accounts", &second).unwrap();
    let found = slots(&store, "accounts");
    assert_eq!(
        found.active.unwrap(),
        (second, Checkpoint { rows: 1, ..at(9) })
    );
    assert_eq!(found.building, None);
    assert_lost(store.get(&first, Space::Rows, b"ada"));
    assert_lost(store.commit(&first, &[], &at(10)));
    assert_lost(store.activate("accounts", &first));
    assert_lost(store.activate("orders", &second));
    assert_eq!(rows_of(&store, &second), pairs(&[("ada", "2")]));
}

/// A slot begun anew takes the place of the one that was being built; the active one stays.
pub fn a_slot_begun_anew_replaces_the_one_being_built(harness: &mut impl Harness<Store: RowStore>) {
    let store = harness.store();
    let serving = active(&store, "accounts", &[row("ada", "1")]);
    let first = create(&store, "accounts");
    store.commit(&first, &[row("eve", "1")], &at(2)).unwrap();
    let second = create(&store, "accounts");
    assert_ne!(first, second);
    assert_lost(store.get(&first, Space::Rows, b"eve"));
    assert_lost(store.commit(&first, &[row("eve", "2")], &at(3)));
    let found = slots(&store, "accounts");
    assert_eq!(found.active.unwrap().0, serving);
    assert_eq!(found.building.unwrap().0, second);
    assert_eq!(rows_of(&store, &second), []);
    assert_eq!(rows_of(&store, &serving), pairs(&[("ada", "1")]));
}

/// A removed model is gone, and its name can be used again.
pub fn a_removed_model_is_gone(harness: &mut impl Harness<Store: RowStore>) {
    let store = harness.store();
    let serving = active(&store, "accounts", &[row("ada", "1")]);
    let building = create(&store, "accounts");
    let other = active(&store, "orders", &[row("o", "1")]);
    store.remove_model("accounts").unwrap();
    assert_eq!(slots(&store, "accounts"), ModelSlots::default());
    for slot in [serving, building] {
        assert_lost(store.get(&slot, Space::Rows, b"ada"));
        assert_lost(store.scan(&slot, Space::Rows, ALL, Direction::Forward, 9));
        assert_lost(store.commit(&slot, &[row("ada", "1")], &at(2)));
    }
    store.flush().unwrap();
    let again = active(&store, "accounts", &[]);
    assert_eq!(rows_of(&store, &again), []);
    assert_eq!(rows_of(&store, &other), pairs(&[("o", "1")]));
}

/// An engine that is begun anew has lost all rows, and keeps new ones.
pub fn a_renewed_store_has_no_rows_and_keeps_new_ones(harness: &mut impl Harness<Store: RowStore>) {
    let store = harness.store();
    let serving = active(&store, "accounts", &[row("ada", "1")]);
    let building = create(&store, "accounts");
    store.renew().unwrap();
    assert_eq!(slots(&store, "accounts"), ModelSlots::default());
    for slot in [serving, building] {
        assert_lost(store.get(&slot, Space::Rows, b"ada"));
        assert_lost(store.commit(&slot, &[row("ada", "1")], &at(2)));
        assert_lost(store.activate("accounts", &slot));
    }
    let again = active(&store, "accounts", &[row("bea", "2")]);
    assert_eq!(rows_of(&store, &again), pairs(&[("bea", "2")]));
}

/// A model is called by 1 to 128 bytes of text.
pub fn impossible_model_names_are_refused(harness: &mut impl Harness<Store: RowStore>) {
    let store = harness.store();
    let longest = "caf\u{e9}".repeat(25) + "abc";
    assert_eq!(longest.len(), 128);
    let slot = active(&store, &longest, &[row("ada", "1")]);
    assert_eq!(slots(&store, &longest).active.unwrap().0, slot);
    for name in [String::new(), longest + "d"] {
        assert_invalid(failure(store.create_slot(&name, &at(1))));
    }
}

/// Who is told of progress may cancel; asking again goes on as before.
pub fn looking_at_slots_may_be_cancelled(harness: &mut impl PersistentHarness<Store: RowStore>) {
    let store = harness.store();
    let changes: Vec<_> = (0..10_000).map(|n| row(&n.to_string(), "1")).collect();
    let slot = create(&store, "accounts");
    store.commit(&slot, &changes, &at(1)).unwrap();
    store.activate("accounts", &slot).unwrap();
    store.flush().unwrap();
    harness.close(store);
    let store = harness.store();
    // Where nothing survived, or nothing is to be checked, nobody is told.
    let mut told = 0;
    let cancelled = store.slots("accounts", &mut |done| {
        told = done;
        ControlFlow::Break(())
    });
    match cancelled {
        Err(Error::Cancelled { .. }) => {
            assert!((1..=10_100).contains(&told), "{told} were checked");
        }
        other => assert_eq!((other.unwrap(), told), (slots(&store, "accounts"), 0)),
    }
    if let Some((slot, checkpoint)) = slots(&store, "accounts").active {
        assert_eq!(checkpoint.rows, 10_000);
        assert_eq!(all_of(&store, &slot, Space::Rows).len(), 10_000);
    }
}

/// Work goes where it may block, and its answer comes back.
pub fn work_is_done_where_it_may_block(harness: &mut impl Harness<Store: RowStore>) {
    let store = harness.store();
    let slot = active(&store, "accounts", &[row("ada", "1")]);
    let read = wait(store.on_thread(move |store| Ok(store.get(&slot, Space::Rows, b"ada"))));
    assert_eq!(read.unwrap().unwrap(), Some(b"1".to_vec()));
    let failed = store.on_thread(|_| Err::<(), _>(Error::Cancelled { what: "it" }));
    assert!(matches!(wait(failed), Err(Error::Cancelled { .. })));
    drop(store.on_thread(|_| -> Result<(), Error> { Ok(()) }));
}

/// Once closed, rows are neither read nor written.
pub fn a_closed_store_has_no_rows(harness: &mut impl Harness<Store: RowStore>) {
    let store = harness.store();
    let slot = active(&store, "accounts", &[row("ada", "1")]);
    let other = store.clone();
    harness.close(store);
    assert_closed(failure(other.get(&slot, Space::Rows, b"ada")));
    assert_closed(failure(other.scan(
        &slot,
        Space::Rows,
        ALL,
        Direction::Forward,
        9,
    )));
    assert_closed(failure(other.commit(&slot, &[], &at(2))));
    assert_closed(failure(other.create_slot("orders", &at(1))));
    assert_closed(failure(other.activate("accounts", &slot)));
    assert_closed(other.slots("accounts", &mut |_| ControlFlow::Continue(())));
    assert_closed(other.remove_model("accounts"));
    assert_closed(other.flush());
    assert_closed(other.renew());
    assert_closed(wait(other.on_thread(|_| Ok(()))));
}

/// Commits `from..=to`, one row each; the rows at a position are known.
fn commit_upto(store: &impl RowStore, slot: &Slot, positions: std::ops::RangeInclusive<u64>) {
    for position in positions {
        let key = format!("{:02}", position % 50);
        let changes = [
            row(&key, &position.to_string()),
            put(Space::Lookups, &position.to_be_bytes(), b""),
        ];
        store.commit(slot, &changes, &at(position)).unwrap();
    }
}

/// What stands in a slot is what was committed up to its checkpoint.
#[track_caller]
fn assert_whole(store: &impl RowStore, (slot, checkpoint): &(Slot, Checkpoint)) {
    let position = checkpoint.position;
    let mut expected = BTreeMap::new();
    for n in 1..=position {
        expected.insert(format!("{:02}", n % 50), n.to_string());
    }
    assert!(
        rows_of(store, slot).into_iter().eq(expected.clone()),
        "rows at {position} differ"
    );
    let lookups = all_of(store, slot, Space::Lookups);
    assert!(
        lookups
            .into_iter()
            .map(|(key, _)| key)
            .eq((1..=position).map(u64::to_be_bytes))
    );
    assert_eq!(
        *checkpoint,
        Checkpoint {
            rows: expected.len() as u64,
            ..at(position)
        }
    );
}

/// After a reopen a slot is as some commit left it, none before the last flush; or it is gone.
pub fn slots_are_whole_or_gone_after_a_reopen(
    harness: &mut impl PersistentHarness<Store: RowStore>,
) {
    let mut last = 0;
    let mut store = harness.store();
    for round in 0..6 {
        let slot = match slots(&store, "accounts").active {
            Some((slot, _)) => slot,
            None => {
                last = 0;
                let slot = create(&store, "accounts");
                store.activate("accounts", &slot).unwrap();
                slot
            }
        };
        commit_upto(&store, &slot, last + 1..=last + 60);
        store.flush().unwrap();
        let flushed = last + 60;
        last = flushed + 40;
        commit_upto(&store, &slot, flushed + 1..=last);
        if round % 2 == 0 {
            harness.close(store);
        } else {
            harness.crash(store);
        }
        store = harness.store();
        if let Some(active) = slots(&store, "accounts").active {
            assert!(
                (flushed..=last).contains(&active.1.position),
                "{:?} of {last}",
                active.1
            );
            assert_whole(&store, &active);
            last = active.1.position;
        }
    }
}

/// Both slots of a model come back as what they were, and what was removed does not.
pub fn each_slot_is_what_it_was_after_a_reopen(
    harness: &mut impl PersistentHarness<Store: RowStore>,
) {
    let store = harness.store();
    let removed = active(&store, "orders", &[row("o", "1")]);
    let former = active(&store, "accounts", &[row("ada", "0")]);
    let serving = active(&store, "accounts", &[row("ada", "1")]);
    let building = create(&store, "accounts");
    store.commit(&building, &[row("ada", "2")], &at(2)).unwrap();
    store.remove_model("orders").unwrap();
    store.flush().unwrap();
    harness.close(store);
    let store = harness.store();
    assert_eq!(slots(&store, "orders"), ModelSlots::default());
    let found = slots(&store, "accounts");
    if let (Some((active, checkpoint)), Some((half, _))) = (found.active, found.building) {
        assert_eq!(checkpoint, Checkpoint { rows: 1, ..at(1) });
        assert_eq!(rows_of(&store, &active), pairs(&[("ada", "1")]));
        assert_eq!(rows_of(&store, &half), pairs(&[("ada", "2")]));
        let _ = (serving, building);
    } else {
        assert_eq!(found, ModelSlots::default(), "one of two slots is gone");
    }
    // Their numbers are not given again while what they left may still stand there.
    let next = create(&store, "orders");
    assert!(next != removed && next != former);
    assert_eq!(rows_of(&store, &next), []);
}
