//! Which partition holds what of a stream.
//!
//! All events of one append stand in the bucket of the head that it expected: `expected / size`. An
//! append has at most `size` events, so a bucket `b` holds sequences above `size · b`, at most up to
//! `size · (b + 2) − 1`, and the buckets of a stream are 0 to its newest one without a hole. Once a
//! bucket's head is `size · (b + 1)` or more nobody can write there any more: it is final.

/// The rule, for buckets of one size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Buckets(u64);

impl Buckets {
    /// Buckets of `size` sequences, at least 1.
    pub fn of_size(size: u64) -> Self {
        Self(size.max(1))
    }

    /// Sequences in a bucket, and the most events of one append.
    pub fn size(self) -> u64 {
        self.0
    }

    /// Where an append goes that expects this head; 0 is none.
    pub fn expecting(self, head: u64) -> u64 {
        head / self.0
    }

    /// The first and the last bucket that may hold this sequence: one, or two neighbours.
    pub fn holding(self, sequence: u64) -> (u64, u64) {
        let last = sequence.saturating_sub(1) / self.0;
        (last.saturating_sub(1), last)
    }

    /// Whether bucket `number`, whose head this is, is the last of its stream.
    pub fn is_newest(self, number: u64, head: u64) -> bool {
        head < self.0.saturating_mul(number.saturating_add(1))
    }
}

/// A search for the newest bucket of a stream: look at [`next`](Self::next), tell it what is there by
/// [`saw`](Self::saw), until it is found.
#[derive(Clone, Debug)]
pub struct Search<H> {
    buckets: Buckets,
    /// The highest bucket known to have a head.
    low: Option<(u64, H)>,
    /// The lowest bucket known to have none.
    high: Option<u64>,
    next: Option<u64>,
    step: u64,
}

impl<H: Copy> Search<H> {
    /// Begins at `hint`, a bucket that had a head once; 0 when nothing is known.
    pub fn new(buckets: Buckets, hint: u64) -> Self {
        Self {
            buckets,
            low: None,
            high: None,
            next: Some(hint),
            step: 1,
        }
    }

    /// The bucket to look at; `None` when the search has ended.
    pub fn next(&self) -> Option<u64> {
        self.next
    }

    /// Bucket `number` has this head, whose sequence is given, or none.
    pub fn saw(&mut self, number: u64, head: Option<(u64, H)>) {
        match head {
            Some((sequence, head)) => {
                self.low = Some((number, head));
                if self.buckets.is_newest(number, sequence) {
                    self.next = None;
                    return;
                }
            }
            None => self.high = Some(number),
        }
        self.next = match (&self.low, self.high) {
            // The hint was wrong, or there is nothing.
            (None, Some(0)) => None,
            (None, _) => Some(0),
            (Some((low, _)), None) => {
                let next = low + self.step;
                self.step = self.step.saturating_mul(2);
                Some(next)
            }
            (Some((low, _)), Some(high)) if low + 1 >= high => None,
            (Some((low, _)), Some(high)) => Some(low + (high - low) / 2),
        };
    }

    /// The newest bucket and its head, once the search has ended; `None` of an empty stream.
    pub fn found(&self) -> Option<(u64, H)> {
        self.low
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    /// Heads of the buckets, and where each sequence stands, after appends of these sizes.
    fn stream(buckets: Buckets, sizes: &[u64]) -> (BTreeMap<u64, u64>, Vec<u64>) {
        let (mut heads, mut places, mut head) = (BTreeMap::new(), Vec::new(), 0);
        for size in sizes {
            let bucket = buckets.expecting(head);
            head += size;
            heads.insert(bucket, head);
            places.resize(usize::try_from(head).unwrap(), bucket);
        }
        (heads, places)
    }

    fn search(
        buckets: Buckets,
        heads: &BTreeMap<u64, u64>,
        hint: u64,
    ) -> (Option<(u64, u64)>, u32) {
        let (mut search, mut looks) = (Search::new(buckets, hint), 0);
        while let Some(number) = search.next() {
            looks += 1;
            search.saw(number, heads.get(&number).map(|head| (*head, *head)));
        }
        (search.found(), looks)
    }

    proptest! {
        #[test]
        fn buckets_are_bounded_dense_and_final(
            size in 1_u64..20,
            parts in prop::collection::vec(0_u64..1_000_000, 0..80),
        ) {
            let buckets = Buckets::of_size(size);
            let sizes: Vec<u64> = parts.iter().map(|part| part % size + 1).collect();
            let (heads, places) = stream(buckets, &sizes);
            for (number, (bucket, head)) in (0..).zip(&heads) {
                prop_assert_eq!(number, *bucket, "a hole");
                prop_assert!(*head < size * (bucket + 2));
                let newest = number + 1 == heads.len() as u64;
                // A full bucket may be the last one: nothing was appended behind it yet.
                prop_assert!(newest || !buckets.is_newest(*bucket, *head));
            }
            for (sequence, bucket) in (1..).zip(&places) {
                let (first, last) = buckets.holding(sequence);
                prop_assert!((first..=last).contains(bucket));
                prop_assert!(sequence > size * bucket);
            }
        }

        #[test]
        fn the_newest_bucket_is_found_in_few_looks(
            size in 1_u64..20,
            appends in 0_usize..400,
            hint in 0_u64..400,
        ) {
            let buckets = Buckets::of_size(size);
            let (heads, _) = stream(buckets, &vec![size.div_ceil(2); appends]);
            let newest = heads.last_key_value().map(|(bucket, head)| (*bucket, *head));
            let known = newest.map_or(0, |(bucket, _)| bucket);
            for hint in [0, hint.min(known), known, hint] {
                let (found, looks) = search(buckets, &heads, hint);
                prop_assert_eq!(found, newest);
                prop_assert!(looks <= 24, "{looks} looks");
            }
        }
    }

    #[test]
    fn a_short_stream_costs_one_look() {
        let buckets = Buckets::of_size(10);
        assert_eq!(
            search(buckets, &stream(buckets, &[9]).0, 0),
            (Some((0, 9)), 1)
        );
        assert_eq!(search(buckets, &BTreeMap::new(), 0), (None, 1));
        assert_eq!(
            search(buckets, &stream(buckets, &[10]).0, 0),
            (Some((0, 10)), 2)
        );
    }

    #[test]
    fn borders_are_where_they_are_said_to_be() {
        let buckets = Buckets::of_size(10);
        for (head, bucket) in [(0, 0), (9, 0), (10, 1), (11, 1), (19, 1), (20, 2)] {
            assert_eq!(buckets.expecting(head), bucket);
        }
        for (sequence, places) in [
            (1, (0, 0)),
            (10, (0, 0)),
            (11, (0, 1)),
            (20, (0, 1)),
            (21, (1, 2)),
        ] {
            assert_eq!(buckets.holding(sequence), places);
        }
        assert_eq!(buckets.expecting(u64::MAX), u64::MAX / 10);
        assert!(!buckets.is_newest(0, 10));
        assert!(buckets.is_newest(u64::MAX, u64::MAX - 1));
    }
}
