//! Encoded keys sort as the keys do, and are read back as they were.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests fail by panicking")]

use std::fmt::Debug;

use proptest::prelude::*;
use tidelog_core::{EventId, RowKey, StreamId, Timestamp};

fn encoded(key: &impl RowKey) -> Vec<u8> {
    let mut bytes = Vec::new();
    key.encode(&mut bytes);
    bytes
}

/// Both keys, encoded: their order, and each alone and in front of other bytes read back.
fn holds<K: RowKey + Debug>(a: &K, b: &K) -> Result<(), TestCaseError> {
    let (in_bytes, others) = (encoded(a), encoded(b));
    prop_assert_eq!(in_bytes.cmp(&others), a.cmp(b), "{:?} {:?}", a, b);
    let mut both = in_bytes.clone();
    both.extend_from_slice(&others);
    let mut rest = both.as_slice();
    let (first, second) = (K::decode(&mut rest), K::decode(&mut rest));
    prop_assert_eq!(first.as_ref(), Some(a));
    prop_assert_eq!(second.as_ref(), Some(b));
    prop_assert!(rest.is_empty());
    if a != b {
        prop_assert!(!in_bytes.starts_with(&others) && !others.starts_with(&in_bytes));
    }
    Ok(())
}

/// Texts with zeros and high bytes in them, and ones that begin alike.
fn text() -> impl Strategy<Value = String> {
    "[\u{0}\u{1}a\u{ff}\u{10ffff}]{0,6}"
}

fn stream() -> impl Strategy<Value = StreamId> {
    ("[A-C]{1,2}", "[a/ ]{1,3}").prop_map(|(kind, id)| StreamId::new(&kind, &id).unwrap())
}

proptest! {
    #[test]
    fn texts(a in text(), b in text()) {
        holds(&a, &b)?;
    }

    #[test]
    fn whole_numbers(a: (u8, u16, u32), b: (u8, u16, u32), c: (u64, u128), d: (u64, u128)) {
        holds(&a, &b)?;
        holds(&c, &d)?;
    }

    #[test]
    fn negative_numbers(a: (i8, i16, i32), b: (i8, i16, i32), c: (i64, i128), d: (i64, i128)) {
        holds(&a, &b)?;
        holds(&c, &d)?;
    }

    #[test]
    fn times_ids_and_truths(a: (i64, [u8; 16], bool), b: (i64, [u8; 16], bool)) {
        let key = |(micros, id, truth)| (Timestamp::from_micros(micros), EventId::from_bytes(id), truth);
        holds(&key(a), &key(b))?;
        holds(key(a).1.as_uuid(), key(b).1.as_uuid())?;
    }

    #[test]
    fn streams(a in stream(), b in stream()) {
        holds(&a, &b)?;
    }

    #[test]
    fn compounds(
        a in (text(), proptest::option::of(text()), 0_u8..3),
        b in (text(), proptest::option::of(text()), 0_u8..3),
    ) {
        holds(&a, &b)?;
        holds(&(a.1.clone(), (a.2, a.0.clone())), &(b.1.clone(), (b.2, b.0.clone())))?;
        holds(&Some(a), &Some(b))?;
    }
}

#[test]
fn the_library_s_own_streams_are_keys_too() {
    let own = StreamId::new_reserved("$tidelog", "epoch").unwrap();
    assert_eq!(StreamId::decode(&mut encoded(&own).as_slice()), Some(own));
}
