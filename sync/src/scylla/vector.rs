//! How far somebody is in the logs of several origins.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::RangeInclusive;

use serde::{Deserialize, Serialize};
use tidelog_core::StreamId;
use uuid::Uuid;

/// How far somebody is in the logs of other stores: a position for each epoch of each origin, and what
/// was left out below it, since a conflict about it is not resolved there.
///
/// Save it with what its events led to, and give it to [`Replication::follow`] the next time.
///
/// ```
/// use tidelog::Vector;
/// let vector = Vector::new();
/// assert_eq!(vector.to_string(), "nothing yet");
/// ```
///
/// [`Replication::follow`]: crate::Replication::follow
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Saved", into = "Saved")]
pub struct Vector {
    places: BTreeMap<(Uuid, Uuid), u64>,
    left_out: BTreeMap<(Uuid, Uuid), LeftOut>,
}

/// What was left out of one epoch: for each parked range, by stream and first position, where the
/// first and the last of these events stand.
pub(super) type LeftOut = BTreeMap<(StreamId, u64), RangeInclusive<u64>>;

impl Vector {
    /// Before everything.
    pub fn new() -> Self {
        Self::default()
    }

    /// The position up to which everything of this epoch was seen, but for what was
    /// [left out](Self::left_out); `None` when nothing is known of it.
    pub fn position(&self, origin: Uuid, epoch: Uuid) -> Option<u64> {
        self.places.get(&(origin, epoch)).copied()
    }

    /// Origin, epoch and position, in their order.
    pub fn iter(&self) -> impl Iterator<Item = (Uuid, Uuid, u64)> {
        let places = self.places.iter();
        places.map(|(&(origin, epoch), &at)| (origin, epoch, at))
    }

    /// Streams of which events were passed over, with origin, epoch, and the position from which on the
    /// origin has parked the stream. Its events come once the server has accepted them as they are,
    /// before newer ones of the stream; where others take their place, never.
    pub fn left_out(&self) -> impl Iterator<Item = (Uuid, Uuid, &StreamId, u64)> {
        self.left_out.iter().flat_map(|(&(origin, epoch), of)| {
            of.keys()
                .map(move |(stream, first)| (origin, epoch, stream, *first))
        })
    }

    /// The epochs of `origin`.
    pub(super) fn of(&self, origin: Uuid) -> Vec<(Uuid, u64)> {
        let range = (origin, Uuid::nil())..=(origin, Uuid::max());
        let places = self.places.range(range);
        places.map(|(&(_, epoch), &at)| (epoch, at)).collect()
    }

    pub(super) fn set(&mut self, origin: Uuid, epoch: Uuid, position: u64) {
        self.places.insert((origin, epoch), position);
    }

    /// `new` goes on where `old` was left, of which it has what stands up to `common`.
    pub(super) fn replace(&mut self, origin: Uuid, old: Uuid, new: Uuid, common: u64) {
        self.places.remove(&(origin, old));
        self.hand_over(origin, old, new, common);
    }

    /// What was left out of `old` up to `common` is left out of `new`, which has it as well.
    pub(super) fn share(&mut self, origin: Uuid, old: Uuid, new: Uuid, common: u64) {
        let left_out = self.left_out.get(&(origin, old)).cloned();
        for (key, range) in left_out.unwrap_or_default() {
            let (from, to) = range.into_inner();
            if from <= common {
                self.leave_out(origin, new, key, from..=to.min(common));
            }
        }
    }

    /// What was left out of `old` comes with `new`, if it has it.
    pub(super) fn hand_over(&mut self, origin: Uuid, old: Uuid, new: Uuid, common: u64) {
        let left_out = self.left_out.remove(&(origin, old)).unwrap_or_default();
        for ((stream, first_position), range) in left_out {
            let (from, to) = range.into_inner();
            if from <= common {
                let to = to.min(common);
                self.leave_out(origin, new, (stream, first_position), from..=to);
            }
        }
    }

    pub(super) fn left_out_of(&self, origin: Uuid, epoch: Uuid) -> Option<&LeftOut> {
        self.left_out.get(&(origin, epoch))
    }

    /// Events of a parked range were passed over.
    pub(super) fn leave_out(
        &mut self,
        origin: Uuid,
        epoch: Uuid,
        key: (StreamId, u64),
        positions: RangeInclusive<u64>,
    ) {
        let of = self.left_out.entry((origin, epoch)).or_default();
        let known = of.entry(key).or_insert_with(|| positions.clone());
        let (from, to) = positions.into_inner();
        *known = from.min(*known.start())..=to.max(*known.end());
    }

    /// What was left out up to `position` of a parked range is not any more.
    pub(super) fn made_up(
        &mut self,
        origin: Uuid,
        epoch: Uuid,
        key: &(StreamId, u64),
        position: u64,
    ) {
        let Some(of) = self.left_out.get_mut(&(origin, epoch)) else {
            return;
        };
        if let Some(range) = of.get_mut(key) {
            if *range.end() <= position {
                of.remove(key);
            } else {
                *range = position.saturating_add(1).max(*range.start())..=*range.end();
            }
        }
        if of.is_empty() {
            self.left_out.remove(&(origin, epoch));
        }
    }
}

#[derive(Serialize, Deserialize)]
struct Saved {
    /// Origin, epoch, position.
    places: Vec<(Uuid, Uuid, u64)>,
    /// Origin, epoch, stream, first position of its parked range, first and last position left out.
    left_out: Vec<(Uuid, Uuid, StreamId, u64, u64, u64)>,
}

impl From<Saved> for Vector {
    fn from(saved: Saved) -> Self {
        let mut vector = Self::new();
        for (origin, epoch, at) in saved.places {
            vector.set(origin, epoch, at);
        }
        for (origin, epoch, stream, first, from, to) in saved.left_out {
            vector.leave_out(origin, epoch, (stream, first), from..=to);
        }
        vector
    }
}

impl From<Vector> for Saved {
    fn from(vector: Vector) -> Self {
        let places = vector.iter().collect();
        let left_out = vector.left_out.into_iter();
        let left_out = left_out.flat_map(|((origin, epoch), of)| {
            of.into_iter().map(move |((stream, first), range)| {
                (origin, epoch, stream, first, *range.start(), *range.end())
            })
        });
        Self {
            places,
            left_out: left_out.collect(),
        }
    }
}

impl fmt::Display for Vector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.places.is_empty() {
            return f.write_str("nothing yet");
        }
        for (at, (origin, epoch, position)) in self.iter().enumerate() {
            let comma = if at == 0 { "" } else { ", " };
            write!(f, "{comma}{origin}/{epoch} up to {position}")?;
            let left_out = self.left_out_of(origin, epoch).into_iter().flatten();
            for ((stream, first), _) in left_out {
                write!(f, " without {stream} from {first}")?;
            }
        }
        Ok(())
    }
}
