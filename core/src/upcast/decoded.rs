//! What one record is read as.

use std::{option, slice, vec};

/// The events of one record: none, one, or several after it was split.
///
/// Most records hold one; none and one take no allocation. They all share the record's sequence,
/// position and event id.
///
/// ```
/// use tidelog_core::Decoded;
///
/// let decoded = Decoded::from(vec!["Debited", "Credited"]);
/// assert_eq!(decoded.as_slice(), ["Debited", "Credited"]);
/// for event in decoded {
///     println!("{event}");
/// }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decoded<E>(Events<E>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Events<E> {
    /// None or one.
    Few(Option<E>),
    /// Two or more.
    Several(Vec<E>),
}

impl<E> Decoded<E> {
    /// No event: the record is of another type, or is not read any more.
    pub const fn none() -> Self {
        Self(Events::Few(None))
    }

    /// One event, the usual case.
    pub const fn one(event: E) -> Self {
        Self(Events::Few(Some(event)))
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.as_slice().len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.as_slice().is_empty()
    }

    /// The event when there is exactly one.
    pub fn into_one(self) -> Option<E> {
        match self.0 {
            Events::Few(event) => event,
            Events::Several(_) => None,
        }
    }

    /// The events in order.
    pub fn as_slice(&self) -> &[E] {
        match &self.0 {
            Events::Few(event) => event.as_slice(),
            Events::Several(events) => events,
        }
    }

    /// The events in order, one after another.
    pub fn iter(&self) -> slice::Iter<'_, E> {
        self.as_slice().iter()
    }
}

impl<E> From<Option<E>> for Decoded<E> {
    fn from(event: Option<E>) -> Self {
        Self(Events::Few(event))
    }
}

impl<E> From<Vec<E>> for Decoded<E> {
    fn from(mut events: Vec<E>) -> Self {
        if events.len() < 2 {
            Self(Events::Few(events.pop()))
        } else {
            Self(Events::Several(events))
        }
    }
}

impl<E> IntoIterator for Decoded<E> {
    type Item = E;
    type IntoIter = DecodedIter<E>;

    fn into_iter(self) -> DecodedIter<E> {
        DecodedIter(match self.0 {
            Events::Few(event) => Iter::Few(event.into_iter()),
            Events::Several(events) => Iter::Several(events.into_iter()),
        })
    }
}

impl<'a, E> IntoIterator for &'a Decoded<E> {
    type Item = &'a E;
    type IntoIter = slice::Iter<'a, E>;

    fn into_iter(self) -> slice::Iter<'a, E> {
        self.iter()
    }
}

/// The events of a [`Decoded`], taken out of it in order.
#[derive(Clone, Debug)]
pub struct DecodedIter<E>(Iter<E>);

#[derive(Clone, Debug)]
enum Iter<E> {
    Few(option::IntoIter<E>),
    Several(vec::IntoIter<E>),
}

impl<E> Iterator for DecodedIter<E> {
    type Item = E;

    fn next(&mut self) -> Option<E> {
        match &mut self.0 {
            Iter::Few(event) => event.next(),
            Iter::Several(events) => events.next(),
        }
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        match &self.0 {
            Iter::Few(event) => event.size_hint(),
            Iter::Several(events) => events.size_hint(),
        }
    }
}

impl<E> ExactSizeIterator for DecodedIter<E> {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn none_one_and_several_come_out_as_they_went_in() {
        for count in 0..4 {
            let events: Vec<u8> = (0..count).collect();
            let decoded = Decoded::from(events.clone());
            assert_eq!(
                (decoded.len(), decoded.is_empty()),
                (events.len(), count == 0)
            );
            assert_eq!(decoded.iter().copied().collect::<Vec<_>>(), events);
            assert_eq!(decoded.clone().into_iter().len(), events.len());
            assert_eq!(decoded.clone().into_iter().collect::<Vec<_>>(), events);
            assert_eq!(decoded.into_one(), (count == 1).then_some(0));
        }
    }
}
