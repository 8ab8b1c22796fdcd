//! Topics, and whether messages go there now.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use super::broker::Place;
use super::message::Encoder;
use super::suspects::Suspects;

/// How soon after a look the next one follows, at first and at last.
const FIRST_LOOK: Duration = Duration::from_millis(500);
const LAST_LOOK: Duration = Duration::from_secs(5);

/// One topic.
pub(super) struct Topic {
    pub name: Box<str>,
    pub gate: Gate,
    /// Messages in flight to it.
    pub flying: usize,
    /// Lanes that wait for it, whoever has waited longest first.
    pub waiting: VecDeque<u32>,
    pub suspects: Suspects,
    /// The newest offset of each partition that is known; below 0 none is.
    offsets: Vec<i64>,
    /// Partitions whose offset nobody has kept yet.
    fresh: Vec<i32>,
}

/// Whether messages go to a topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Gate {
    Open,
    /// Nobody has looked yet.
    Unknown,
    /// Not before it was looked again.
    Shut {
        why: Shut,
        next: Duration,
        pause: Duration,
    },
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Shut {
    Missing,
    /// Its messages fail, for now.
    Failing,
}

impl Topic {
    pub(super) fn is_open(&self) -> bool {
        self.gate == Gate::Open && self.suspects.is_empty()
    }

    /// Whether anybody waits for it.
    fn is_wanted(&self) -> bool {
        !self.waiting.is_empty() || !self.suspects.is_empty()
    }

    /// Nothing goes there now.
    pub(super) fn is_shut(&self) -> bool {
        matches!(self.gate, Gate::Shut { .. })
    }

    pub(super) fn is_missing(&self) -> bool {
        matches!(&self.gate, Gate::Shut { why, .. } if *why == Shut::Missing)
    }

    /// Nothing goes there before it was looked, at some time after `now`.
    pub(super) fn shut(&mut self, why: Shut, now: Duration) {
        let pause = match &self.gate {
            Gate::Shut { pause, .. } => (*pause * 2).min(LAST_LOOK),
            _ => FIRST_LOOK,
        };
        self.gate = Gate::Shut {
            why,
            next: now + pause,
            pause,
        };
    }

    /// When it is to be looked at; none when it is open.
    pub(super) fn next_look(&self) -> Option<Duration> {
        match &self.gate {
            Gate::Open => None,
            Gate::Unknown => Some(Duration::ZERO),
            Gate::Shut { next, .. } => Some(*next),
        }
    }

    /// Notes where a message stands; false when the place began again, or lost what it had.
    pub(super) fn note_offset(&mut self, partition: i32, offset: i64) -> bool {
        let Ok(at) = usize::try_from(partition) else {
            return true;
        };
        if offset < 0 {
            return true;
        }
        if self.offsets.len() <= at {
            self.offsets.resize(at + 1, -1);
        }
        if !self.fresh.contains(&partition) {
            self.fresh.push(partition);
        }
        let before = std::mem::replace(&mut self.offsets[at], offset);
        offset > before
    }

    /// The newest offset of each place.
    pub(super) fn offsets(&self) -> impl Iterator<Item = (i32, i64)> {
        let known = self.offsets.iter().enumerate();
        known.filter_map(|(at, offset)| {
            let partition = i32::try_from(at).ok()?;
            (*offset >= 0).then_some((partition, *offset))
        })
    }
}

/// All topics that were met.
#[derive(Default)]
pub(super) struct Topics {
    all: Vec<Topic>,
    by_name: BTreeMap<Box<str>, usize>,
    by_type: BTreeMap<Box<str>, Result<usize, Box<str>>>,
}

impl Topics {
    /// The topic of an aggregate type, or why it has none.
    pub(super) fn of_type(
        &mut self,
        aggregate_type: &str,
        encoder: &mut Encoder,
    ) -> Result<usize, Box<str>> {
        if let Some(known) = self.by_type.get(aggregate_type) {
            return known.clone();
        }
        let found = encoder.topic(aggregate_type);
        let found = found.map(|name| self.of_name(&name));
        self.by_type.insert(aggregate_type.into(), found.clone());
        found
    }

    fn of_name(&mut self, name: &str) -> usize {
        if let Some(at) = self.by_name.get(name) {
            return *at;
        }
        self.all.push(Topic {
            name: name.into(),
            gate: Gate::Unknown,
            flying: 0,
            waiting: VecDeque::new(),
            suspects: Suspects::default(),
            offsets: Vec::new(),
            fresh: Vec::new(),
        });
        self.by_name.insert(name.into(), self.all.len() - 1);
        self.all.len() - 1
    }

    /// A place has less than was known.
    pub(super) fn restart(&mut self, topic: &str, partition: i32, offset: i64) {
        let at = self.of_name(topic);
        if let (Some(topic), Ok(at)) = (self.all.get_mut(at), usize::try_from(partition))
            && let Some(known) = topic.offsets.get_mut(at)
        {
            *known = offset;
        }
    }

    /// What is known of a place from before, unless it was met since.
    pub(super) fn remember(&mut self, topic: &str, partition: i32, offset: i64) {
        let at = self.of_name(topic);
        if let Some(topic) = self.all.get_mut(at)
            && !topic.offsets().any(|(known, _)| known == partition)
        {
            topic.note_offset(partition, offset);
        }
    }

    /// The newest offset of each place that nobody has kept yet.
    pub(super) fn take_fresh(&mut self) -> Vec<(Place, i64)> {
        let mut taken = Vec::new();
        for topic in self.all.iter_mut().filter(|topic| !topic.fresh.is_empty()) {
            for partition in std::mem::take(&mut topic.fresh) {
                let at = usize::try_from(partition).ok();
                let offset = at.and_then(|at| topic.offsets.get(at).copied());
                let topic = topic.name.clone();
                taken.extend(offset.map(|offset| (Place { topic, partition }, offset)));
            }
        }
        taken
    }

    pub(super) fn get(&self, at: usize) -> Option<&Topic> {
        self.all.get(at)
    }

    pub(super) fn get_mut(&mut self, at: usize) -> Option<&mut Topic> {
        self.all.get_mut(at)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Topic> {
        self.all.iter()
    }

    pub(super) fn len(&self) -> usize {
        self.all.len()
    }

    /// Those that lanes wait for and that are to be looked at by `now`.
    pub(super) fn due(&self, now: Duration) -> Vec<(usize, Box<str>)> {
        let all = self.all.iter().enumerate();
        let wanted = all.filter(|(_, topic)| topic.is_wanted());
        wanted
            .filter(|(_, topic)| topic.next_look().is_some_and(|next| next <= now))
            .map(|(at, topic)| (at, topic.name.clone()))
            .collect()
    }

    /// When one that lanes wait for is to be looked at.
    pub(super) fn next_look(&self) -> Option<Duration> {
        let wanted = self.all.iter().filter(|topic| topic.is_wanted());
        wanted.filter_map(Topic::next_look).min()
    }

    /// Of a connection that has ended: nobody waits, nothing flies, and nobody knows what is there.
    pub(super) fn reset(&mut self) {
        for topic in &mut self.all {
            topic.gate = Gate::Unknown;
            topic.flying = 0;
            topic.waiting.clear();
            topic.suspects = Suspects::default();
        }
    }

    /// They are looked at as soon as can be.
    pub(super) fn look_now(&mut self) {
        for topic in &mut self.all {
            if let Gate::Shut { next, .. } = &mut topic.gate {
                *next = Duration::ZERO;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;
    use crate::kafka::KafkaConfig;

    fn topic() -> Topics {
        let mut encoder = Encoder::new(&KafkaConfig::new(["a:1"]), Uuid::nil(), &[]);
        let mut topics = Topics::default();
        assert_eq!(topics.of_type("A", &mut encoder), Ok(0));
        topics
    }

    #[test]
    fn looks_at_what_is_missing_are_further_and_further_apart_up_to_five_seconds() {
        let mut topics = topic();
        assert_eq!(topics.next_look(), None, "nobody waits");
        let a = topics.get_mut(0).unwrap();
        a.waiting.push_back(1);
        assert!(!a.is_open() && !a.is_missing());
        let mut now = Duration::ZERO;
        for pause in [500, 1_000, 2_000, 4_000, 5_000, 5_000] {
            topics.get_mut(0).unwrap().shut(Shut::Missing, now);
            now += Duration::from_millis(pause);
            assert_eq!(topics.next_look(), Some(now));
            assert!(
                topics
                    .due(now.saturating_sub(Duration::from_millis(1)))
                    .is_empty()
            );
            assert_eq!(topics.due(now), [(0, "tidelog.A".into())]);
        }
        topics.get_mut(0).unwrap().gate = Gate::Open;
        assert_eq!(topics.next_look(), None);
    }

    #[test]
    fn an_offset_that_is_not_above_the_one_before_tells_that_the_place_began_again() {
        let mut topics = topic();
        topics.remember("tidelog.A", 2, 7);
        let a = topics.get_mut(0).unwrap();
        assert!(a.note_offset(2, 8));
        assert!(a.note_offset(2, -1), "which is not known");
        assert!(a.note_offset(0, 0));
        assert!(!a.note_offset(2, 8));
        assert!(!a.note_offset(2, 0));
        assert!(a.note_offset(2, 1));
        assert_eq!(a.offsets().collect::<Vec<_>>(), [(0, 0), (2, 1)]);
        topics.remember("tidelog.A", 2, 7);
        let a = topics.get_mut(0).unwrap();
        assert!(!a.note_offset(2, 1), "what was met since is newer");
        let place = |partition| Place {
            topic: "tidelog.A".into(),
            partition,
        };
        assert_eq!(topics.take_fresh(), [(place(2), 1), (place(0), 0)]);
        assert!(topics.take_fresh().is_empty());
    }
}
