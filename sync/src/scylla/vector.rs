//! How far somebody is in the logs of several origins.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// How far somebody is in the logs of other stores: a position for each epoch of each origin.
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
#[serde(from = "Vec<(Uuid, Uuid, u64)>", into = "Vec<(Uuid, Uuid, u64)>")]
pub struct Vector(BTreeMap<(Uuid, Uuid), u64>);

impl Vector {
    /// Before everything.
    pub fn new() -> Self {
        Self::default()
    }

    /// The position up to which everything of this epoch was seen; `None` when nothing is known of it.
    pub fn position(&self, origin: Uuid, epoch: Uuid) -> Option<u64> {
        self.0.get(&(origin, epoch)).copied()
    }

    /// Origin, epoch and position, in their order.
    pub fn iter(&self) -> impl Iterator<Item = (Uuid, Uuid, u64)> {
        self.0
            .iter()
            .map(|(&(origin, epoch), &at)| (origin, epoch, at))
    }

    /// The epochs of `origin`.
    pub(super) fn of(&self, origin: Uuid) -> Vec<(Uuid, u64)> {
        let range = (origin, Uuid::nil())..=(origin, Uuid::max());
        let places = self.0.range(range);
        places.map(|(&(_, epoch), &at)| (epoch, at)).collect()
    }

    pub(super) fn set(&mut self, origin: Uuid, epoch: Uuid, position: u64) {
        self.0.insert((origin, epoch), position);
    }

    pub(super) fn forget(&mut self, origin: Uuid, epoch: Uuid) {
        self.0.remove(&(origin, epoch));
    }
}

impl From<Vec<(Uuid, Uuid, u64)>> for Vector {
    fn from(places: Vec<(Uuid, Uuid, u64)>) -> Self {
        let places = places.into_iter();
        Self(
            places
                .map(|(origin, epoch, at)| ((origin, epoch), at))
                .collect(),
        )
    }
}

impl From<Vector> for Vec<(Uuid, Uuid, u64)> {
    fn from(vector: Vector) -> Self {
        vector.iter().collect()
    }
}

impl fmt::Display for Vector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return f.write_str("nothing yet");
        }
        for (at, (origin, epoch, position)) in self.iter().enumerate() {
            let comma = if at == 0 { "" } else { ", " };
            write!(f, "{comma}{origin}/{epoch} up to {position}")?;
        }
        Ok(())
    }
}
