//! What stands at the server of a stream, around the events that are written to it.

use std::collections::BTreeMap;

use tidelog_backends::wire::{Bucket, EventRow, HeadRow, IdRow, Request};

use super::{End, Work};
use crate::scylla::ask;
use crate::scylla::judge::{Found, Place};

/// Rows compared at once when a conflict begins below the events at hand.
const PAGE: u64 = 512;

/// A stream as it was looked at.
pub(super) struct Looked {
    pub found: Found,
    /// The bucket that has the head, and the head.
    pub head: Option<(u64, HeadRow)>,
}

impl Work<'_> {
    pub(super) async fn standing_of(&self, serial: bool) -> Result<usize, End> {
        let rows = &self.turn.rows;
        let (Some(first), Some(last)) = (rows.first(), rows.last()) else {
            return Ok(0);
        };
        let (first, last) = (first.event.sequence, last.event.sequence);
        let size = self.turn.bucket_events;
        let buckets = (first.saturating_sub(1) / size)..=(last.saturating_sub(1) / size);
        let found = self.ids(buckets, (first, last), serial).await?;
        let stands = |row: &&EventRow| {
            let there = found.get(&row.event.sequence);
            there.is_some_and(|there| there.event_id == row.event.event_id)
        };
        Ok(rows.iter().take_while(stands).count())
    }

    /// The stream around what is left, as everybody must see it.
    pub(super) async fn look(&self) -> Result<Looked, End> {
        let bucket = self.bucket();
        let mut head = self.head(bucket).await?.map(|head| (bucket, head));
        if head.is_none() && bucket > 0 {
            head = self.head(bucket - 1).await?.map(|head| (bucket - 1, head));
        }
        let before = self.before_sequence();
        let last = self.left().last().map_or(before, |row| row.event.sequence);
        let size = self.turn.bucket_events;
        let buckets = bucket.saturating_sub(1)..=(last.saturating_sub(1) / size).max(bucket);
        let rows = self.ids(buckets, (before.max(1), last), true).await?;
        let place = head.map(|(_, head)| (head.sequence, head.event_id));
        let mine_at_head = match place {
            Some((sequence, _)) => {
                let here = self.turn.outbox.event_at(&self.turn.stream, sequence)?;
                here.map(|here| here.event_id)
            }
            None => None,
        };
        let head_row = place.and_then(|(sequence, _)| rows.get(&sequence));
        let head_origin = head_row.and_then(|row| row.origin);
        Ok(Looked {
            found: Found {
                head: place,
                head_origin,
                mine_at_head,
                rows: rows.into_values().collect(),
            },
            head,
        })
    }

    /// What stands first above the events at hand, if that is not this log's.
    pub(super) async fn stranger_above(&self, looked: &Looked) -> Result<Option<Place>, End> {
        let Some(head) = looked.found.head else {
            return Ok(None);
        };
        let last = self.left().last().map_or(0, |row| row.event.sequence);
        let size = self.turn.bucket_events;
        let to = head.0.min(last + PAGE);
        let buckets = ((last + 1) / size).saturating_sub(1)..=to.saturating_sub(1) / size;
        let above = self.ids(buckets, (last + 1, to), true).await?;
        let place = above
            .values()
            .next()
            .map_or(head, |row| (row.sequence, row.event_id));
        let here = self.turn.outbox.event_at(&self.turn.stream, place.0)?;
        let is_mine = here.is_some_and(|here| here.event_id == place.1);
        Ok((!is_mine).then_some(place))
    }

    /// The lowest sequence at which another event stands than here, `at` being one.
    pub(super) async fn first_difference(
        &self,
        at: u64,
        remote: Option<Place>,
    ) -> Result<(u64, Option<Place>), End> {
        let (mut lowest, mut remote) = (at, remote);
        loop {
            let from = lowest.saturating_sub(PAGE).max(1);
            let to = lowest.saturating_sub(1);
            if to < from {
                return Ok((lowest, remote));
            }
            let size = self.turn.bucket_events;
            let buckets = (from / size).saturating_sub(1)..=(to - 1) / size;
            let there = self.ids(buckets, (from, to), true).await?;
            let mut found = None;
            for row in there.values() {
                let here = self.turn.outbox.event_at(&self.turn.stream, row.sequence)?;
                let is_other = match here {
                    Some(here) => here.event_id != row.event_id,
                    None => row.origin != Some(self.turn.origin),
                };
                if is_other {
                    found = Some((row.sequence, row.event_id));
                    break;
                }
            }
            match found {
                Some(place) => (lowest, remote) = (place.0, Some(place)),
                None => return Ok((lowest, remote)),
            }
        }
    }

    pub(super) fn in_bucket(&self, number: u64) -> Bucket {
        Bucket {
            stream: self.turn.stream.clone(),
            number,
        }
    }

    pub(super) async fn head(&self, bucket: u64) -> Result<Option<HeadRow>, End> {
        Ok(ask::head(&*self.turn.wire, self.in_bucket(bucket)).await?)
    }

    /// Ids by sequence, of all these buckets.
    async fn ids(
        &self,
        buckets: std::ops::RangeInclusive<u64>,
        (from, to): (u64, u64),
        serial: bool,
    ) -> Result<BTreeMap<u64, IdRow>, End> {
        let mut ids = BTreeMap::new();
        for bucket in buckets {
            let request = Request::Ids {
                bucket: self.in_bucket(bucket),
                from,
                to,
                serial,
            };
            let rows = ask::ids(&*self.turn.wire, request).await?;
            ids.extend(rows.into_iter().map(|row| (row.sequence, row)));
        }
        Ok(ids)
    }
}
