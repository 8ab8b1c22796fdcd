//! What a store knows of streams: their heads, and the ids of their newest events.

use std::collections::VecDeque;

use quick_cache::Weighter;
use quick_cache::sync::Cache;
use tidelog_core::{EventId, StreamId};

use super::super::request::{HeadRow, IdRow};

/// What an entry takes beside its id and its ids: keys, counters, the cache's own lists.
const ENTRY_BYTES: u64 = 256;
const ID_BYTES: u64 = size_of::<(u64, EventId)>() as u64;

/// What was known of a stream as of one of its heads. That head may be an older one; all of it is
/// true all the same, since streams only grow.
#[derive(Clone, Debug)]
pub(crate) struct Known {
    /// The bucket that the head stands in.
    pub(crate) bucket: u64,
    pub(crate) head: HeadRow,
    /// Sequences and ids of the newest events, ascending, the head's last.
    ids: VecDeque<(u64, EventId)>,
}

impl Known {
    pub(crate) fn new(bucket: u64, head: HeadRow, ids: impl IntoIterator<Item = IdRow>) -> Self {
        Self {
            bucket,
            head,
            ids: ids
                .into_iter()
                .map(|row| (row.sequence, row.event_id))
                .collect(),
        }
    }

    /// Takes in what follows up to a newer head.
    pub(crate) fn extend(
        &mut self,
        (bucket, head): (u64, HeadRow),
        ids: impl IntoIterator<Item = (u64, EventId)>,
        window: u64,
    ) {
        let before = self.head.sequence;
        self.bucket = bucket;
        self.head = head;
        let newer = ids.into_iter().filter(|(sequence, _)| *sequence > before);
        self.ids.extend(newer);
        let oldest = oldest_in(window, head.sequence);
        while self
            .ids
            .front()
            .is_some_and(|(sequence, _)| *sequence < oldest)
        {
            self.ids.pop_front();
        }
    }

    /// Sequences and ids, ascending.
    pub(crate) fn ids(&mut self) -> &[(u64, EventId)] {
        self.ids.make_contiguous()
    }

    /// The newest place of an id.
    pub(crate) fn place_of(&self, id: EventId) -> Option<u64> {
        let newest = self.ids.iter().rev().find(|(_, there)| *there == id);
        newest.map(|(sequence, _)| *sequence)
    }
}

/// The lowest sequence at which ids are recognized whatever the expectation.
pub(crate) fn oldest_in(window: u64, head: u64) -> u64 {
    head.saturating_sub(window) + 1
}

/// What is known of many streams, bounded in bytes.
pub(crate) struct Streams(Cache<StreamId, Known, Weigh>);

impl Streams {
    /// For streams of which `window` ids are known, or fewer. The cache cuts its room into shards, the
    /// more the more entries it expects and the machine has processors: what does not fit into a
    /// shard is never kept.
    pub(crate) fn new(bytes: u64, window: u64) -> Self {
        let each = ENTRY_BYTES + window.saturating_mul(ID_BYTES);
        let items = usize::try_from(bytes / each.max(1)).unwrap_or(usize::MAX);
        Self(Cache::with_weighter(items.clamp(16, 1 << 16), bytes, Weigh))
    }

    pub(crate) fn get(&self, stream: &StreamId) -> Option<Known> {
        self.0.get(stream)
    }

    /// Takes what is known out, for whoever has the stream's turn and will put it back.
    pub(crate) fn take(&self, stream: &StreamId) -> Option<Known> {
        self.0.remove(stream).map(|(_, known)| known)
    }

    /// Keeps `known` unless something newer is there.
    pub(crate) fn keep(&self, stream: &StreamId, known: Known) {
        let newer = |kept: Known| kept.head.sequence > known.head.sequence;
        if !self.0.peek(stream).is_some_and(newer) {
            self.0.insert(stream.clone(), known);
        }
    }
}

#[derive(Clone)]
struct Weigh;

impl Weighter<StreamId, Known> for Weigh {
    fn weight(&self, stream: &StreamId, known: &Known) -> u64 {
        ENTRY_BYTES + stream.as_str().len() as u64 + known.ids.capacity() as u64 * ID_BYTES
    }
}

#[cfg(test)]
mod tests {
    use tidelog_core::Timestamp;

    use super::*;

    fn head(sequence: u64) -> HeadRow {
        HeadRow {
            sequence,
            event_id: id(sequence),
            recorded: Timestamp::default(),
        }
    }

    fn id(n: u64) -> EventId {
        EventId::from_uuid(uuid::Uuid::from_u128(n.into()))
    }

    fn row(sequence: u64) -> IdRow {
        IdRow {
            sequence,
            event_id: id(sequence),
            origin: None,
            recorded: Timestamp::default(),
        }
    }

    #[test]
    fn only_the_window_is_remembered() {
        let mut known = Known::new(0, head(3), (1..=3).map(row));
        assert_eq!(known.place_of(id(1)), Some(1));
        // What is known already does not count twice.
        known.extend((1, head(6)), (2..=6).map(|n| (n, id(n))), 4);
        let expected: Vec<_> = (3..=6).map(|n| (n, id(n))).collect();
        assert_eq!(known.ids(), expected);
        assert_eq!(known.place_of(id(2)), None);
        assert_eq!((known.bucket, known.head), (1, head(6)));
        assert_eq!(oldest_in(4, 6), 3);
        assert_eq!(oldest_in(4, 2), 1);
    }

    #[test]
    fn what_is_older_does_not_replace_what_is_newer() {
        let streams = Streams::new(1 << 20, 100);
        let stream = StreamId::new("T", "1").unwrap();
        streams.keep(&stream, Known::new(0, head(5), []));
        streams.keep(&stream, Known::new(0, head(4), []));
        assert_eq!(streams.get(&stream).unwrap().head, head(5));
        assert!(streams.take(&stream).is_some());
        assert!(streams.get(&stream).is_none());
    }

    #[test]
    fn memory_is_bounded() {
        let streams = Streams::new(64 << 10, 100);
        for n in 0..1_000 {
            let stream = StreamId::new("T", &n.to_string()).unwrap();
            streams.keep(&stream, Known::new(0, head(100), (1..=100).map(row)));
        }
        assert!(streams.0.weight() <= 64 << 10);
        assert!(streams.0.len() > 10);
    }
}
