//! What must hold after each step, and at rest.

use std::collections::{BTreeMap, BTreeSet};

use super::super::feed::{Fed, Place, Record, RecordKey};
use super::world::{Running, World, key_of};

impl World {
    /// A handler begins: not of a key that is parked, unless it is being taken in, and then only with
    /// what stands among its letters.
    pub(super) fn check_begin(&mut self, running: &Running) {
        let (member, offset) = (running.member, running.offset);
        self.note(|| format!("{member} begins {:?} {offset}", running.key));
        if self.owners.get(&running.key.place) != Some(&running.member) {
            // A zombie: it cannot know, and cannot put anything down.
            return;
        }
        let is_news = |fed: &Fed| match fed {
            Fed::Assigned(places) | Fed::Revoked { places, .. } => {
                places.contains(&running.key.place)
            }
            _ => false,
        };
        let member = self.members.get(&running.member);
        if member.is_some_and(|member| member.queue.iter().any(is_news)) {
            // A zombie, too, of an assignment before: it has not heard yet.
            return;
        }
        let twice = self.handlers.iter().any(|other| {
            other.key == running.key && other.member == running.member && !other.answer.is_closed()
        });
        if twice {
            let text = format!("{:?} is handled twice at once", running.key);
            self.wrong.push(text);
        }
        if self.parked.contains_key(&running.key) {
            let is_letter = self.letters.iter().any(|letter| {
                key_of(&letter.record) == running.key && letter.record.offset == running.offset
            });
            let was_asked = self.asks.get(&running.key).is_some_and(|asks| *asks > 0);
            if !is_letter || !was_asked {
                let text = format!(
                    "{:?} {} is handled while parked",
                    running.key, running.offset
                );
                self.wrong.push(text);
            }
        }
    }

    /// Offsets are put down: everything below was handled, or set aside, or nobody wants it.
    pub(super) fn check_commit(&mut self, place: &Place, offset: i64) {
        let before = self.committed.get(place).copied().unwrap_or(0);
        if offset < before {
            let text = format!("{place:?} goes back from {before} to {offset}");
            self.wrong.push(text);
        }
        let handled = self.handled_offsets(place);
        let letters = self.letter_offsets(place);
        for record in &self.logs[place] {
            let is_settled = record.offset >= offset
                || handled.contains(&record.offset)
                || letters.contains(&record.offset)
                || is_unwanted(record);
            if !is_settled {
                let text = format!("{place:?} {} is settled unhandled", record.offset);
                self.wrong.push(text);
            }
        }
    }

    /// Of each key: those that were handled, by when that ended first, are in order; and no letter is
    /// there twice.
    pub(super) fn check_order(&mut self, by_sequence: bool) {
        let now = (self.handled.len(), self.letters.len());
        if std::mem::replace(&mut self.checked, now) == now {
            return;
        }
        let mut first: BTreeMap<&RecordKey, Vec<i64>> = BTreeMap::new();
        for handled in &self.handled {
            let place = if by_sequence {
                i64::try_from(handled.sequence).unwrap()
            } else {
                handled.offset
            };
            let of_key = first.entry(&handled.key).or_default();
            if !of_key.contains(&place) {
                of_key.push(place);
            }
        }
        let disordered = first.iter().find(|(_, order)| !order.is_sorted());
        if let Some((key, order)) = disordered {
            let text = format!("{key:?} was handled in the order {order:?}");
            self.wrong.push(text);
        }
        let mut seen = BTreeSet::new();
        for letter in &self.letters {
            if !seen.insert((letter.record.place.clone(), letter.record.offset)) {
                let text = format!("a letter twice: {:?}", letter.record);
                self.wrong.push(text);
                break;
            }
        }
    }

    /// Everything was handled, is a letter of a parked key, or nobody wants it.
    pub(super) fn check_rest(&mut self) {
        let places: Vec<Place> = self.logs.keys().cloned().collect();
        for place in places {
            let end = i64::try_from(self.logs[&place].len()).unwrap();
            if self.committed.get(&place).copied().unwrap_or(0) != end {
                let text = format!("{place:?} is at {:?} of {end}", self.committed.get(&place));
                self.wrong.push(text);
            }
            let handled = self.handled_offsets(&place);
            let missing = self.logs[&place].iter().filter(|record| {
                let is_garbage = record.value.as_deref().is_some_and(|v| v.starts_with(b"!"));
                let is_kept = self.parked.contains_key(&key_of(record)) || is_garbage;
                let is_letter = self.letters.iter().any(|letter| {
                    letter.record.place == place && letter.record.offset == record.offset
                });
                let is_settled = handled.contains(&record.offset) || is_unwanted(record);
                !(is_settled || is_kept && is_letter)
            });
            let missing: Vec<i64> = missing.map(|record| record.offset).collect();
            if !missing.is_empty() {
                self.wrong.push(format!("{place:?} misses {missing:?}"));
            }
        }
    }

    fn handled_offsets(&self, place: &Place) -> BTreeSet<i64> {
        let handled = self.handled.iter().filter(|h| h.key.place == *place);
        handled.map(|handled| handled.offset).collect()
    }

    fn letter_offsets(&self, place: &Place) -> BTreeSet<i64> {
        let letters = self.letters.iter().filter(|l| l.record.place == *place);
        letters.map(|letter| letter.record.offset).collect()
    }
}

fn is_unwanted(record: &Record) -> bool {
    record
        .value
        .as_deref()
        .is_some_and(|value| value.ends_with(b"-"))
}
