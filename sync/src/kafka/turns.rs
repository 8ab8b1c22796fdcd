//! Streams on their way back, and whose turn it is.
//!
//! A few are read at a time, and each gives its turn up after a page, so that none with much to bring
//! keeps others waiting. What waits for a topic that is shut keeps nobody from his turn but others of
//! that topic, of which one waits for it.

use std::collections::{BTreeMap, VecDeque};

use tidelog_core::StreamId;

use super::reopening::Reopening;

/// Streams that are being read at once.
const AT_ONCE: usize = 16;

#[derive(Default)]
pub(super) struct Reopenings {
    all: BTreeMap<StreamId, Reopening>,
    /// By topic, whoever has waited longest first. One that is gone may still stand here.
    waiting: BTreeMap<usize, VecDeque<StreamId>>,
    active: Vec<(StreamId, usize)>,
    /// The topic that had the last turn.
    last: usize,
}

impl Reopenings {
    pub(super) fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    pub(super) fn contains(&self, stream: &StreamId) -> bool {
        self.all.contains_key(stream)
    }

    pub(super) fn get_mut(&mut self, stream: &StreamId) -> Option<&mut Reopening> {
        self.all.get_mut(stream)
    }

    /// One more, of this topic.
    pub(super) fn insert(&mut self, stream: StreamId, topic: usize, reopening: Reopening) {
        let before = self.all.insert(stream.clone(), reopening);
        if before.is_none() {
            self.waiting.entry(topic).or_default().push_back(stream);
        }
    }

    pub(super) fn remove(&mut self, stream: &StreamId) {
        self.all.remove(stream);
        self.active.retain(|(active, _)| active != stream);
    }

    pub(super) fn has_turn(&self, stream: &StreamId) -> bool {
        self.active.iter().any(|(active, _)| active == stream)
    }

    /// It has had its turn, and waits for the next.
    pub(super) fn has_had_its_turn(&mut self, stream: &StreamId) {
        let at = self.active.iter().position(|(active, _)| active == stream);
        if let Some(at) = at {
            let (stream, topic) = self.active.remove(at);
            self.waiting.entry(topic).or_default().push_back(stream);
        }
    }

    /// Whose turn it is, where nothing goes to some topics now.
    pub(super) fn turns(&mut self, is_shut: impl Fn(usize) -> bool) -> Vec<StreamId> {
        let active = self.active.iter();
        let mut moving = active.filter(|(_, topic)| !is_shut(*topic)).count();
        while moving < AT_ONCE {
            let Some((stream, topic)) = self.next(&is_shut) else {
                break;
            };
            moving += usize::from(!is_shut(topic));
            self.active.push((stream, topic));
            self.last = topic;
        }
        self.active.iter().map(|(of, _)| of.clone()).collect()
    }

    /// Who is next: topics take turns.
    fn next(&mut self, is_shut: impl Fn(usize) -> bool) -> Option<(StreamId, usize)> {
        let behind = self.waiting.range(self.last.saturating_add(1)..);
        let all = behind.chain(self.waiting.range(..=self.last));
        let topics: Vec<usize> = all.map(|(topic, _)| *topic).collect();
        for topic in topics {
            let has_one = self.active.iter().any(|(_, of)| *of == topic);
            if has_one && is_shut(topic) {
                continue;
            }
            let waiting = self.waiting.get_mut(&topic)?;
            let (all, active) = (&self.all, &self.active);
            let found = std::iter::from_fn(|| waiting.pop_front()).find(|stream| {
                all.contains_key(stream) && !active.iter().any(|(of, _)| of == stream)
            });
            if waiting.is_empty() {
                self.waiting.remove(&topic);
            }
            if let Some(stream) = found {
                return Some((stream, topic));
            }
        }
        None
    }

    /// Every stream, and whether its first event goes alone.
    pub(super) fn into_wishes(self) -> impl Iterator<Item = (StreamId, bool)> {
        let all = self.all.into_iter();
        all.map(|(stream, reopening)| (stream, reopening.goes_alone()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stream(number: usize) -> StreamId {
        StreamId::new("T", &format!("{number:03}")).unwrap()
    }

    fn with(topics: &[(usize, usize)]) -> Reopenings {
        let mut of = Reopenings::default();
        let mut number = 0;
        for (topic, count) in topics {
            for _ in 0..*count {
                of.insert(stream(number), *topic, Reopening::from(1, false));
                number += 1;
            }
        }
        of
    }

    #[test]
    fn everybody_has_a_turn_in_the_order_of_waiting() {
        let mut of = with(&[(0, 40)]);
        let first = of.turns(|_| false);
        assert_eq!(first, (0..16).map(stream).collect::<Vec<_>>());
        assert_eq!(
            of.turns(|_| false),
            first,
            "they have it until they give it up"
        );
        for stream in &first {
            of.has_had_its_turn(stream);
        }
        assert_eq!(
            of.turns(|_| false),
            (16..32).map(stream).collect::<Vec<_>>()
        );
        of.remove(&stream(16));
        of.remove(&stream(33));
        let now = of.turns(|_| false);
        assert!(
            now.contains(&stream(32)) && !now.contains(&stream(33)),
            "{now:?}"
        );
    }

    #[test]
    fn a_topic_that_is_shut_takes_one_turn_and_none_of_others() {
        let mut of = with(&[(0, 40), (1, 3)]);
        let is_shut = |topic| topic == 0;
        let now = of.turns(is_shut);
        assert_eq!(now.len(), 4);
        // Those that had a turn when it was shut keep theirs, and take none away.
        let mut of = with(&[(0, 40), (1, 30)]);
        of.turns(|topic| topic == 1);
        let now = of.turns(is_shut);
        let others = now.iter().filter(|it| **it >= stream(40));
        assert_eq!(others.count(), 16);
    }

    #[test]
    fn one_that_is_gone_and_comes_again_has_one_turn() {
        let mut of = with(&[(0, 2)]);
        of.remove(&stream(0));
        of.insert(stream(0), 0, Reopening::from(1, false));
        assert_eq!(of.turns(|_| false), [stream(0), stream(1)]);
        of.has_had_its_turn(&stream(0));
        assert_eq!(of.turns(|_| false), [stream(1), stream(0)]);
    }
}
