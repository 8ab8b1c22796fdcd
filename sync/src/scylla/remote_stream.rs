//! A stream as the server has it.

use tidelog_backends::wire::{
    Bucket, Buckets, EventRow, HeadRow, MetaRow, PageAt, Search, Wire, WireError,
};
use tidelog_core::{Error, StreamId};

use super::ask::{self, trouble};

/// Of events as large as they usually may be, 1 MiB, these are less than 64 MiB.
const PAGE: u32 = 48;

/// One stream up to the head that it had when it was looked at.
pub(super) struct RemoteStream<'a> {
    wire: &'a dyn Wire,
    stream: &'a StreamId,
    buckets: Buckets,
    newest: u64,
    head: Option<HeadRow>,
}

impl<'a> RemoteStream<'a> {
    pub(super) async fn look(
        wire: &'a dyn Wire,
        stream: &'a StreamId,
        meta: &MetaRow,
    ) -> Result<Self, Error> {
        let buckets = Buckets::of_size(meta.bucket_events);
        let mut search: Search<HeadRow> = Search::new(buckets, 0);
        while let Some(number) = search.next() {
            let stream = stream.clone();
            let head = ask::head(wire, Bucket { stream, number }).await;
            let head = head.map_err(|error| trouble("read a stream", &error))?;
            search.saw(number, head.map(|head| (head.sequence, head)));
        }
        let (newest, head) = match search.found() {
            Some((newest, head)) => (newest, Some(head)),
            None => (0, None),
        };
        Ok(Self {
            wire,
            stream,
            buckets,
            newest,
            head,
        })
    }

    /// Sequence of its last event; 0 when it has none.
    pub(super) fn last(&self) -> u64 {
        self.head.map_or(0, |head| head.sequence)
    }

    /// Its events from `from` on, of some `bytes` together but at least one; at most `events`.
    ///
    /// # Errors
    /// [`Error::Gap`] when one is missing, [`Error::Unreachable`], [`Error::ServerRefused`].
    pub(super) async fn events(
        &self,
        from: u64,
        events: usize,
        bytes: usize,
    ) -> Result<Vec<EventRow>, Error> {
        let mut found: Vec<EventRow> = Vec::new();
        let mut size = 0;
        let asked = |error: WireError| trouble("read a stream", &error);
        let (first, _) = self.buckets.holding(from);
        for number in first..=self.newest {
            let (mut next, mut rows) = (None, PAGE);
            loop {
                let expected = from + found.len() as u64;
                if expected > self.last() || found.len() >= events || size >= bytes {
                    return Ok(found);
                }
                let stream = self.stream.clone();
                let page = PageAt {
                    after: next.clone(),
                    rows,
                };
                let range = (from, self.last());
                let bucket = Bucket { stream, number };
                let page = match ask::events(self.wire, bucket, range, page).await {
                    Err(error) if rows > 1 && ask::is_of_size(&error) => {
                        rows /= 2;
                        continue;
                    }
                    page => page.map_err(asked)?,
                };
                for row in page.rows {
                    if found.len() >= events || size >= bytes {
                        return Ok(found);
                    }
                    let expected = from + found.len() as u64;
                    let sequence = row.event.sequence;
                    if sequence > expected {
                        return Err(Error::Gap {
                            stream: Some(self.stream.clone()),
                            first: expected,
                            last: sequence - 1,
                        });
                    }
                    if sequence < expected {
                        continue;
                    }
                    size += row.event.event.len();
                    found.push(row);
                }
                next = page.next;
                if next.is_none() {
                    break;
                }
            }
        }
        let expected = from + found.len() as u64;
        if expected <= self.last() && found.len() < events && size < bytes {
            return Err(Error::Gap {
                stream: Some(self.stream.clone()),
                first: expected,
                last: self.last(),
            });
        }
        Ok(found)
    }
}
