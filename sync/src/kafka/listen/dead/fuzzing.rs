//! What a fuzz target calls.

use super::letters::{self, LeftOut};
use super::parked_set::{self, ParkedSet};
use crate::kafka::listen::feed::{ParkedKey, Record};

const GROUP: &str = "group";

pub(in crate::kafka::listen) fn letter(message: Record) -> bool {
    let place = message.place.clone();
    let offset = message.offset;
    let Some(found) = letters::read(message, GROUP) else {
        return false;
    };
    let again = Record {
        place,
        offset,
        key: found.letter.record.key.clone(),
        value: letters::value(&found.letter, LeftOut::Nothing).cloned(),
        headers: letters::headers(&found.letter, GROUP, LeftOut::Nothing),
    };
    let again = letters::read(again, GROUP);
    let again = again.map(|found| found.letter);
    assert!(
        again.as_ref() == Some(&found.letter),
        "{again:?} is not {found:?}"
    );
    true
}

pub(in crate::kafka::listen) fn parked_set<'a>(
    records: impl IntoIterator<Item = (&'a [u8], Option<&'a [u8]>)>,
) -> usize {
    let mut set = ParkedSet::default();
    for (key, value) in records {
        // What cannot be read is an error of the whole set: here others are read all the same.
        let _ = set.take(key, value);
    }
    let all = set.all();
    let mut again = ParkedSet::default();
    for parked in &all {
        let mut written = vec![parked_set::entry(parked).expect("it was read")];
        if let Some(asked) = parked.asked {
            written.push(parked_set::ask(&parked.key, asked).expect("it was read"));
        }
        for (key, value) in written {
            let taken = again.take(key.as_bytes(), value.as_deref().map(str::as_bytes));
            taken.expect("it was written");
        }
    }
    assert_eq!(again.all(), all);
    assert!(again.since(&again.clone()).is_empty());
    all.len()
}

pub(in crate::kafka::listen) fn entry(parked: &ParkedKey) -> (String, String) {
    let (key, value) = parked_set::entry(parked).expect("it can be written");
    (key, value.expect("it says something"))
}
