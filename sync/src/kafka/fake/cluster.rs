//! What the brokers have: topics, which sequence of which producer comes next, and handshake records.

use std::collections::{BTreeMap, BTreeSet};

use uuid::Uuid;

use crate::kafka::broker::{Offsets, OriginRecord, Place, Refusal};

/// A message as it stands in a partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Stored {
    pub key: Vec<u8>,
    pub headers: Vec<(String, Vec<u8>)>,
    pub value: Vec<u8>,
}

/// What a broker says of a batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// It stands from this offset on; below 0 where it stood before and nobody knows where.
    Stored(i64),
    Refused(Refusal),
    /// Another sequence was to come first.
    OutOfOrder,
    NoTopic,
}

pub(crate) struct Topic {
    pub parts: Vec<Part>,
    /// Most bytes of a batch, by its values.
    pub limit: usize,
    /// How often topics were made before: another life is another topic of the same name.
    pub life: u64,
}

#[derive(Default)]
pub(crate) struct Part {
    pub low: usize,
    pub messages: Vec<Stored>,
    /// The sequence that comes next, by producer.
    next: BTreeMap<u64, i64>,
    /// Batches that were taken, by their first sequence: they are not taken twice.
    taken: BTreeSet<(u64, i64, usize)>,
    /// The same as it was before each message, for what forgets.
    before: Vec<(u64, Option<i64>)>,
}

/// A message that was written.
#[derive(Clone, Debug)]
pub(crate) struct Written {
    pub place: Place,
    pub life: u64,
    pub offset: usize,
}

pub(crate) struct Cluster {
    pub id: Box<str>,
    pub is_up: bool,
    pub topics: BTreeMap<Box<str>, Topic>,
    /// Values that are never taken.
    pub poison: BTreeSet<Vec<u8>>,
    /// Values that were refused for themselves.
    pub condemned: BTreeSet<Vec<u8>>,
    /// What was written and nobody has looked at yet.
    pub written: Vec<Written>,
    lives: u64,
    /// Handshake records, newest last; none where their topic is missing.
    pub origins: Option<BTreeMap<Uuid, Vec<OriginRecord>>>,
    pub origins_topic: Box<str>,
    /// Handshake records are refused, as those that are too large for their topic.
    pub refuses_records: bool,
    fences: BTreeMap<Uuid, u64>,
}

impl Cluster {
    pub(super) fn new() -> Self {
        Self {
            id: "memory".into(),
            is_up: true,
            topics: BTreeMap::new(),
            poison: BTreeSet::new(),
            condemned: BTreeSet::new(),
            written: Vec::new(),
            lives: 0,
            origins: None,
            origins_topic: "origins".into(),
            refuses_records: false,
            fences: BTreeMap::new(),
        }
    }

    pub(crate) fn make_topic(&mut self, name: &str, partitions: usize, limit: usize) {
        self.lives += 1;
        let topic = Topic {
            parts: (0..partitions).map(|_| Part::default()).collect(),
            limit,
            life: self.lives,
        };
        self.topics.insert(name.into(), topic);
    }

    fn part(&mut self, place: &Place) -> Option<(&mut Part, usize, u64)> {
        let topic = self.topics.get_mut(&place.topic)?;
        let at = usize::try_from(place.partition).ok()?;
        let (limit, life) = (topic.limit, topic.life);
        topic.parts.get_mut(at).map(|part| (part, limit, life))
    }

    /// Whether a message can ever be taken as things are, whatever stands beside it.
    pub(crate) fn is_guilty(&self, topic: &str, value: &[u8]) -> bool {
        let is_large = |topic: &Topic| value.len() > topic.limit;
        self.topics.get(topic).is_some_and(is_large) || self.poison.contains(value)
    }

    /// Takes a batch whole, or not at all. A producer that a partition does not know may begin with
    /// any sequence.
    pub(super) fn take(
        &mut self,
        place: &Place,
        producer: u64,
        first: i64,
        batch: &[Stored],
    ) -> Answer {
        let is_poisoned = batch.iter().any(|m| self.poison.contains(&m.value));
        for message in batch {
            if self.is_guilty(&place.topic, &message.value) {
                self.condemned.insert(message.value.clone());
            }
        }
        let Some((part, limit, life)) = self.part(place) else {
            return Answer::NoTopic;
        };
        if batch.iter().map(|m| m.value.len()).sum::<usize>() > limit {
            return Answer::Refused(Refusal::TooLarge);
        }
        if is_poisoned {
            return Answer::Refused(Refusal::Other("poison".into()));
        }
        match part.next.get(&producer) {
            Some(_) if part.taken.contains(&(producer, first, batch.len())) => {
                return Answer::Stored(-1);
            }
            Some(next) if first != *next => return Answer::OutOfOrder,
            _ => {}
        }
        let offset = part.messages.len();
        part.taken.insert((producer, first, batch.len()));
        for (message, sequence) in batch.iter().zip(first..) {
            let before = part.next.insert(producer, sequence + 1);
            part.before.push((producer, before));
            part.messages.push(message.clone());
        }
        let written = (offset..offset + batch.len()).map(|offset| Written {
            place: place.clone(),
            life,
            offset,
        });
        self.written.extend(written);
        Answer::Stored(i64::try_from(offset).unwrap())
    }

    /// Somebody else writes a message.
    pub(crate) fn intrude(&mut self, place: &Place) {
        let message = Stored {
            key: Vec::new(),
            headers: Vec::new(),
            value: b"open".to_vec(),
        };
        self.take(place, 0, 0, &[message]);
    }

    /// A partition loses what was written last, and forgets who wrote it.
    pub(crate) fn lose(&mut self, place: &Place, count: usize) {
        let Some((part, ..)) = self.part(place) else {
            return;
        };
        part.taken.clear();
        for _ in 0..count.min(part.messages.len() - part.low) {
            part.messages.pop();
            match part.before.pop() {
                Some((producer, Some(next))) => part.next.insert(producer, next),
                Some((producer, None)) => part.next.remove(&producer),
                None => None,
            };
        }
    }

    /// What stands before `offset` is past its retention.
    pub(crate) fn expire(&mut self, place: &Place, offset: usize) {
        if let Some((part, ..)) = self.part(place) {
            part.low = offset.min(part.messages.len());
        }
    }

    pub(super) fn offsets(&mut self, place: &Place) -> Offsets {
        match self.part(place) {
            None => Offsets::Missing,
            Some((part, ..)) => Offsets::There {
                low: i64::try_from(part.low).unwrap(),
                high: i64::try_from(part.messages.len()).unwrap(),
            },
        }
    }

    pub(super) fn fence(&mut self, origin: Uuid) -> u64 {
        let fence = self.fences.entry(origin).or_default();
        *fence += 1;
        *fence
    }

    pub(super) fn holds(&self, origin: Uuid, fence: u64) -> bool {
        self.fences.get(&origin) == Some(&fence)
    }
}

/// Which of `partitions` a key goes to, as Java's producer puts it.
pub(crate) fn partition_of(key: &[u8], partitions: usize) -> i32 {
    let hash = murmur2(key) & 0x7fff_ffff;
    i32::try_from(hash as usize % partitions).unwrap()
}

/// `MurmurHash2`, by Austin Appleby, with the seed of Kafka.
fn murmur2(data: &[u8]) -> u32 {
    const M: u32 = 0x5bd1_e995;
    let mut hash = 0x9747_b28c ^ u32::try_from(data.len()).unwrap();
    let mut chunks = data.chunks_exact(4);
    for chunk in &mut chunks {
        let mut k = u32::from_le_bytes(chunk.try_into().unwrap()).wrapping_mul(M);
        k ^= k >> 24;
        hash = hash.wrapping_mul(M) ^ k.wrapping_mul(M);
    }
    let rest = chunks.remainder();
    if !rest.is_empty() {
        for (at, byte) in rest.iter().enumerate() {
            hash ^= u32::from(*byte) << (8 * at);
        }
        hash = hash.wrapping_mul(M);
    }
    hash ^= hash >> 13;
    hash = hash.wrapping_mul(M);
    hash ^ (hash >> 15)
}
