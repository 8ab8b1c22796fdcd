//! What stands in an engine that has torn, lost, changed or rolled back some of it is never named.

use std::collections::BTreeMap;
use std::path::Path;

use super::*;
use crate::sled::index::{IndexOptions, RowChange};

type Entries = BTreeMap<Vec<u8>, Vec<u8>>;

const MODEL: &str = "accounts";

fn index() -> Index {
    Index::without_runs(Path::new("nowhere"), IndexOptions::default())
}

fn models() -> ReadModels {
    ReadModels::new([9; 16])
}

fn at(position: u64) -> Checkpoint {
    Checkpoint {
        position,
        ..Checkpoint::beginning(1, 2)
    }
}

fn row(key: &str, value: &str) -> Change {
    Change {
        space: Space::Rows,
        key: key.into(),
        value: Some(value.into()),
    }
}

fn everything(index: &Index) -> Entries {
    let mut all = Entries::new();
    let range = (Bound::Unbounded, Bound::Unbounded);
    let take = &mut |key: &[u8], value: &[u8]| {
        all.insert(key.to_vec(), value.to_vec());
        ControlFlow::Continue(())
    };
    index
        .rows(|kv, _| kv.scan(range, Direction::Forward, take))
        .unwrap();
    all
}

/// An engine in which exactly this stands.
fn index_with(entries: &Entries) -> Index {
    let index = index();
    apply(
        &index,
        entries.iter().map(|(k, v)| (k.clone(), Some(v.clone()))),
    );
    index
}

fn apply(index: &Index, changes: impl Iterator<Item = RowChange>) {
    index.rows(|kv, _| kv.apply(changes.collect())).unwrap();
}

/// What a store that is opened anew over these entries names.
fn named_in(index: &Index) -> ModelSlots {
    models()
        .slots(index, MODEL, &mut |_| ControlFlow::Continue(()))
        .unwrap()
}

/// An active slot after two commits, with short rows, a long one, a lookup and a parked stream;
/// what stood before the second, and what that one does.
fn two_commits() -> (Entries, Vec<RowChange>, Entries) {
    let (index, models) = (index(), models());
    let slot = models.create(&index, MODEL, &at(0)).unwrap();
    let mut changes: Vec<_> = (0..20).map(|n| row(&format!("row {n}"), "first")).collect();
    changes.push(row("long", &"1".repeat(9_000)));
    changes.push(row("longer", &"1".repeat(9_000)));
    for space in [Space::Lookups, Space::Parked] {
        let key = b"key".to_vec();
        let value = Some(Vec::new());
        changes.push(Change { space, key, value });
    }
    models.commit(&index, &slot, &changes, &at(1)).unwrap();
    models.activate(&index, MODEL, &slot).unwrap();
    let before = everything(&index);
    let mut changes: Vec<_> = (5..25)
        .map(|n| row(&format!("row {n}"), "second"))
        .collect();
    changes.push(row("long", &"2".repeat(5_000)));
    for (space, key) in [
        (Space::Rows, &b"row 0"[..]),
        (Space::Rows, b"longer"),
        (Space::Lookups, b"key"),
    ] {
        let key = key.to_vec();
        changes.push(Change {
            space,
            key,
            value: None,
        });
    }
    let plan = index.rows(|kv, _| commit::plan(kv, slot.id, &changes, &at(2)));
    let (plan, rows) = plan.unwrap();
    assert_eq!(rows, 25);
    models.commit(&index, &slot, &changes, &at(2)).unwrap();
    (before, plan, everything(&index))
}

#[test]
fn a_torn_commit_is_never_named() {
    let (before, plan, after) = two_commits();
    for done in 0..=plan.len() {
        let index = index_with(&before);
        apply(&index, plan.iter().take(done).cloned());
        let active = named_in(&index)
            .active
            .map(|(_, checkpoint)| checkpoint.position);
        let expected = match done {
            0 => Some(1),
            _ if done == plan.len() => Some(2),
            _ => None,
        };
        // Parts that are removed and put again in one batch leave the same as before.
        assert!(
            active == expected || everything(&index) == before,
            "{done} of {}",
            plan.len()
        );
        let index = index_with(&before);
        apply(&index, plan.iter().rev().take(done).cloned());
        let whole = everything(&index) == after;
        let active = named_in(&index)
            .active
            .map(|(_, checkpoint)| checkpoint.position);
        let expected = if done == 0 {
            Some(1)
        } else {
            whole.then_some(2)
        };
        assert_eq!(active, expected, "the last {done} of {}", plan.len());
    }
}

#[test]
fn an_entry_of_an_earlier_commit_is_noticed() {
    let (before, _, after) = two_commits();
    assert_eq!(named_in(&index_with(&before)).active.unwrap().1.position, 1);
    assert_eq!(named_in(&index_with(&after)).active.unwrap().1.position, 2);
    let keys = before
        .keys()
        .chain(after.keys())
        .filter(|key| !key.starts_with(&[0; 4]));
    for key in keys.filter(|key| before.get(*key) != after.get(*key)) {
        let mut mixed = after.clone();
        match before.get(key) {
            Some(value) => mixed.insert(key.clone(), value.clone()),
            None => mixed.remove(key),
        };
        assert_eq!(
            named_in(&index_with(&mixed)),
            ModelSlots::default(),
            "{key:?}"
        );
    }
}

#[test]
fn an_entry_that_is_changed_gone_or_moved_is_noticed() {
    let (_, _, after) = two_commits();
    for (key, value) in &after {
        let mut gone = after.clone();
        gone.remove(key);
        assert_eq!(
            named_in(&index_with(&gone)),
            ModelSlots::default(),
            "{key:?} is gone"
        );
        let last = key.len() - 1;
        let mut moved = gone.clone();
        let mut other = key.clone();
        other[last] ^= 1;
        moved.insert(other, value.clone());
        let found = named_in(&index_with(&moved)).active;
        assert_eq!(found, None, "{key:?} is moved");
        for bit in 0..value.len().min(100) * 8 {
            let mut changed = after.clone();
            changed.get_mut(key).unwrap()[bit / 8] ^= 1 << (bit % 8);
            let found = named_in(&index_with(&changed)).active;
            assert_eq!(found, None, "bit {bit} of {key:?}");
        }
    }
}

#[test]
fn a_slot_of_another_store_is_not_named() {
    let (_, _, after) = two_commits();
    let index = index_with(&after);
    let found = ReadModels::new([8; 16])
        .slots(&index, MODEL, &mut |_| ControlFlow::Continue(()))
        .unwrap();
    assert_eq!(found, ModelSlots::default());
}

/// The number of a slot that is gone is given again after the next opening; an old directory entry
/// that sled has rolled back to may name it.
#[test]
fn a_slot_of_another_model_is_not_named() {
    let (_, _, mut after) = two_commits();
    let named = after.remove(&layout::directory_key("orders"));
    assert_eq!(named, None);
    let own = after.remove(&layout::directory_key(MODEL)).unwrap();
    let named = Directory::decode(&layout::directory_key(MODEL), &own).unwrap();
    let (key, value) = named.encode("orders");
    after.extend(value.map(|value| (key, value)));
    let found = models()
        .slots(&index_with(&after), "orders", &mut |_| {
            ControlFlow::Continue(())
        })
        .unwrap();
    assert_eq!(found, ModelSlots::default());
}

#[test]
fn a_row_that_is_damaged_while_it_is_served_costs_the_slot() {
    let (index, models) = (index(), models());
    let slot = models.create(&index, MODEL, &at(0)).unwrap();
    let changes = [row("ada", "1"), row("long", &"1".repeat(9_000))];
    models.commit(&index, &slot, &changes, &at(1)).unwrap();
    let key = layout::part_key(&layout::entry_key(slot.id, Space::Rows, b"long"), 1);
    apply(&index, [(key, Some(vec![b'2'; 4_080]))].into_iter());
    assert!(models.get(&index, &slot, Space::Rows, b"ada").is_ok());
    let found = models.get(&index, &slot, Space::Rows, b"long");
    let lost = models.lost(&slot, found.unwrap_err());
    assert!(matches!(lost, RowsError::Lost(_)), "{lost:?}");
    // Nothing of it is believed from then on.
    for found in [
        models.get(&index, &slot, Space::Rows, b"ada").map(drop),
        models.commit(&index, &slot, &[], &at(2)).map(drop),
        models.activate(&index, MODEL, &slot),
    ] {
        assert!(matches!(found, Err(IndexError::Damaged(_))), "{found:?}");
    }
    assert_eq!(named_in(&index), ModelSlots::default());
}

/// As a crash leaves it between the two: the former slot is named no more, and stands there still.
#[test]
fn what_an_activation_left_behind_is_taken_away_later() {
    let (index, models) = (index(), models());
    let former = models.create(&index, MODEL, &at(0)).unwrap();
    let changes: Vec<_> = (0..2_000).map(|n| row(&n.to_string(), "1")).collect();
    models.commit(&index, &former, &changes, &at(1)).unwrap();
    models.activate(&index, MODEL, &former).unwrap();
    let latter = models.create(&index, MODEL, &at(0)).unwrap();
    models
        .commit(&index, &latter, &[row("ada", "2")], &at(2))
        .unwrap();
    models.activate(&index, MODEL, &latter).unwrap();
    let left = |index: &Index| {
        let all = everything(index);
        all.keys()
            .filter(|key| layout::slot_of(key) == Some(former.id))
            .count()
    };
    assert_eq!(left(&index), 2_001);

    let opened = self::models();
    let continues = &mut |_| ControlFlow::Continue(());
    let found = opened.slots(&index, MODEL, continues).unwrap();
    assert_eq!(found.active.map(|(slot, _)| slot), Some(latter));
    let next = opened.create(&index, "orders", &at(0)).unwrap();
    assert!(
        next.id > latter.id,
        "a number is given again that entries stand under"
    );
    opened.commit(&index, &latter, &[], &at(3)).unwrap();
    assert_eq!(left(&index), 2_001 - sweep::A_COMMIT);
    opened.flush(&index).unwrap();
    assert_eq!(left(&index), 0);
    let found = named_in(&index);
    assert_eq!(
        found.active.map(|(slot, at)| (slot, at.position, at.rows)),
        Some((latter, 3, 1))
    );
}

#[test]
fn a_directory_entry_that_is_damaged_names_nothing_and_harms_no_other_model() {
    let (index, models) = (index(), models());
    for model in [MODEL, "orders"] {
        let slot = models.create(&index, model, &at(0)).unwrap();
        models
            .commit(&index, &slot, &[row("ada", model)], &at(1))
            .unwrap();
    }
    apply(
        &index,
        [(layout::directory_key(MODEL), Some(vec![1; 12]))].into_iter(),
    );
    let opened = self::models();
    let continues = &mut |_| ControlFlow::Continue(());
    assert_eq!(
        opened.slots(&index, MODEL, continues).unwrap(),
        ModelSlots::default()
    );
    let (orders, _) = opened
        .slots(&index, "orders", continues)
        .unwrap()
        .building
        .unwrap();
    let again = opened.create(&index, MODEL, &at(0)).unwrap();
    assert!(again.id > orders.id);
    let found = opened.get(&index, &orders, Space::Rows, b"ada").unwrap();
    assert_eq!(found.as_deref(), Some(&b"orders"[..]));
}
