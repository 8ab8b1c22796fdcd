//! Laws of checkpoint stores: what was saved stands, whole, and never ahead of its log.

use bytes::Bytes;

use super::harness::{Harness, PersistentHarness};
use super::tools::*;
use crate::append::{Durability, ExpectedVersion};
use crate::error::Error;
use crate::listener::{CheckpointStore, MAX_CHECKPOINT_BYTES};
use crate::store::{EventLog, EventStore};

/// Events for the checkpoints to speak of, written to the operating system alone.
fn some_events(store: &impl EventStore, count: usize) {
    let append = batch(&stream("a"), ExpectedVersion::Any, &events(count));
    wait(store.append(append.with_durability(Durability::Process))).unwrap();
}

fn load(store: &impl CheckpointStore, name: &str) -> Option<Vec<u8>> {
    wait(store.load(name)).unwrap().map(|state| state.to_vec())
}

fn save(
    store: &impl CheckpointStore,
    name: &str,
    position: u64,
    state: &[u8],
) -> Result<(), Error> {
    wait(store.save(name, position, Bytes::copy_from_slice(state)))
}

fn names(store: &impl CheckpointStore) -> Vec<String> {
    wait(store.names()).unwrap()
}

/// Nothing is saved under a name at first.
pub fn nothing_is_saved_at_first(harness: &mut impl Harness<Store: CheckpointStore>) {
    let store = harness.store();
    assert_eq!(load(&store, "mail"), None);
    assert_eq!(names(&store), [""; 0]);
    wait(store.remove("mail")).unwrap();
}

/// What was saved last is what is loaded, whatever its bytes; each name has its own.
pub fn what_was_saved_is_loaded(harness: &mut impl Harness<Store: CheckpointStore>) {
    let store = harness.store();
    let every_byte: Vec<u8> = (0..=255).collect();
    let large = vec![7; 3 << 20];
    for state in [&b"first"[..], b"", &every_byte, &large, b"last"] {
        save(&store, "mail", 0, state).unwrap();
        assert!(load(&store, "mail").as_deref() == Some(state));
    }
    save(&store, "mail.2", 0, b"another").unwrap();
    assert_eq!(load(&store, "mail").as_deref(), Some(&b"last"[..]));
    assert_eq!(
        load(&store.clone(), "mail.2").as_deref(),
        Some(&b"another"[..])
    );
}

/// Names come in order; a removed one is gone and can be used again.
pub fn names_are_listed_and_removed(harness: &mut impl Harness<Store: CheckpointStore>) {
    let store = harness.store();
    for name in ["mail", "a", "shop.orders", "pm.transfers", "a-b_c.9"] {
        save(&store, name, 0, name.as_bytes()).unwrap();
    }
    assert_eq!(
        names(&store),
        ["a", "a-b_c.9", "mail", "pm.transfers", "shop.orders"]
    );
    wait(store.remove("mail")).unwrap();
    wait(store.remove("mail")).unwrap();
    assert_eq!(load(&store, "mail"), None);
    assert_eq!(
        names(&store),
        ["a", "a-b_c.9", "pm.transfers", "shop.orders"]
    );
    save(&store, "mail", 0, b"again").unwrap();
    assert_eq!(load(&store, "mail").as_deref(), Some(&b"again"[..]));
}

/// One consumer has a name, until it lets go of it.
pub fn a_name_is_claimed_once(harness: &mut impl Harness<Store: CheckpointStore>) {
    let store = harness.store();
    let claim = store.claim("mail").unwrap();
    for handle in [&store, &store.clone()] {
        assert!(matches!(handle.claim("mail"), Err(Error::Locked { .. })));
    }
    let other = store.claim("mail2").unwrap();
    drop(claim);
    let again = store.claim("mail").unwrap();
    assert!(matches!(store.claim("mail"), Err(Error::Locked { .. })));
    drop((other, again));
    // Saving is not the claim's: it is there for those who ask before they begin.
    save(&store, "mail", 0, b"state").unwrap();
}

/// What cannot be a name is refused by every call that takes one.
pub fn impossible_listener_names_are_refused(harness: &mut impl Harness<Store: CheckpointStore>) {
    let store = harness.store();
    let longest = "m".repeat(48);
    save(&store, &longest, 0, b"state").unwrap();
    drop(store.claim(&longest).unwrap());
    let too_long = longest.clone() + "m";
    let impossible = [
        "", &too_long, "Mail", "ma il", "1mail", "-mail", ".mail", "..", "../state", "a/b", "a\\b",
        "m\u{e9}l", "mail\0", "mail.", "mail.new", "con", "nul.txt", "com1", "lpt0.x",
    ];
    for name in impossible {
        assert_invalid(store.claim(name));
        assert_invalid(wait(store.load(name)));
        assert_invalid(save(&store, name, 0, b"state"));
        assert_invalid(wait(store.remove(name)));
    }
    assert_eq!(names(&store), [longest]);
}

/// A checkpoint never speaks of what the log does not have.
pub fn no_checkpoint_is_ahead_of_its_log(
    harness: &mut impl Harness<Store: CheckpointStore + EventLog>,
) {
    let store = harness.store();
    some_events(&store, 3);
    save(&store, "mail", 3, b"third").unwrap();
    wait(store.make_durable(3)).unwrap();
    assert_invalid(save(&store, "mail", 4, b"fourth"));
    assert_invalid(wait(store.make_durable(4)));
    assert_eq!(load(&store, "mail").as_deref(), Some(&b"third"[..]));
    some_events(&store, 1);
    save(&store, "mail", 4, b"fourth").unwrap();
    wait(store.make_durable(0)).unwrap();
    assert_eq!(load(&store, "mail").as_deref(), Some(&b"fourth"[..]));
}

/// The largest state is kept; one byte more is refused.
pub fn the_checkpoint_limit_is_exact(harness: &mut impl Harness<Store: CheckpointStore>) {
    let store = harness.store();
    let over = vec![9; MAX_CHECKPOINT_BYTES + 1];
    let largest = &over[1..];
    save(&store, "mail", 0, largest).unwrap();
    let refused = save(&store, "mail", 0, &over);
    assert_too_large(refused, over.len(), MAX_CHECKPOINT_BYTES);
    assert!(
        load(&store, "mail").as_deref() == Some(largest),
        "the largest state came back changed"
    );
}

/// Calls dropped before they end leave what was saved, or what they save.
pub fn a_dropped_save_leaves_one_or_the_other(harness: &mut impl Harness<Store: CheckpointStore>) {
    let store = harness.store();
    save(&store, "mail", 0, b"before").unwrap();
    for n in 0..20 {
        let state = Bytes::from(format!("dropped {n}"));
        let mut saving = Box::pin(store.save("mail", 0, state));
        if n % 2 == 0 {
            let _ = poll_once(&mut saving);
        }
        drop(saving);
        let kept = String::from_utf8(load(&store, "mail").unwrap()).unwrap();
        assert!(kept == "before" || kept.starts_with("dropped "), "{kept}");
    }
    save(&store, "mail", 0, b"after").unwrap();
    assert_eq!(load(&store, "mail").as_deref(), Some(&b"after"[..]));
}

/// Once closed, nothing is saved or loaded.
pub fn a_closed_store_has_no_checkpoints(harness: &mut impl Harness<Store: CheckpointStore>) {
    let store = harness.store();
    save(&store, "mail", 0, b"state").unwrap();
    let claim = store.claim("mail").unwrap();
    let other = store.clone();
    harness.close(store);
    assert_closed(other.claim("other"));
    assert_closed(wait(other.load("mail")));
    assert_closed(save(&other, "mail", 0, b"late"));
    assert_closed(wait(other.make_durable(0)));
    assert_closed(wait(other.names()));
    assert_closed(wait(other.remove("mail")));
    drop(claim);
}

/// What was saved is there after a reopen, with all of the log that it speaks of.
pub fn saved_checkpoints_survive_a_reopen(
    harness: &mut impl PersistentHarness<Store: CheckpointStore + EventLog>,
) {
    let mut store = harness.store();
    for round in 1..=6_u64 {
        some_events(&store, 5);
        let state = format!("state {round}");
        save(&store, "mail", round * 5, state.as_bytes()).unwrap();
        save(&store, "old", 0, b"kept").unwrap();
        let claim = store.claim("mail").unwrap();
        if round % 2 == 0 {
            harness.close(store);
        } else {
            harness.crash(store);
        }
        store = harness.store();
        assert_eq!(load(&store, "mail"), Some(state.into_bytes()));
        assert_eq!(load(&store, "old").as_deref(), Some(&b"kept"[..]));
        assert!(store.last_position() >= round * 5);
        // A claim ends with its store, and one of a store that is gone claims nothing.
        drop(claim);
        drop(store.claim("mail").unwrap());
    }
    wait(store.remove("old")).unwrap();
    harness.crash(store);
    let store = harness.store();
    assert_eq!(names(&store), ["mail"]);
}
