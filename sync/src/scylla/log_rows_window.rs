//! The rows of a log in order of position, read page by page.

use std::collections::BTreeMap;

use bytes::{Bytes, BytesMut};
use tidelog_backends::commits::{Commit, CommitEnd};
use tidelog_backends::wire::{LogRow, Page, PageAt, Wire, WireError};
use tidelog_core::EventId;

use super::ask;
use super::lineage::Lineage;

/// A page should be about this large: rows are as large as events, and servers page by rows.
const PAGE_BYTES: usize = 512 << 10;
const FIRST_PAGE: u32 = 32;
/// Of records as large as events usually may be, 1 MiB, these are less than 64 MiB, whatever came
/// before.
const LARGEST_PAGE: u32 = 48;
/// Without records they are small.
const LARGEST_PAGE_OF_ENDS: u32 = 512;

/// No log has a commit of more records: they would not fit into a segment.
const MOST_RECORDS: u32 = 1 << 20;

/// Position, event and commit: two copies may have taken in the same event at the same place.
type RowAt = (u64, EventId, [u8; 32]);

/// What was read of a log and not used yet.
pub(super) struct Window {
    lineage: Lineage,
    chunk_records: u64,
    records: bool,
    rows: BTreeMap<RowAt, LogRow>,
    /// Every row below this position that there is was read.
    covered: u64,
    page: Option<(u64, Page)>,
    page_rows: u32,
    /// Up to here a quorum of all data centres is asked.
    wide_to: u64,
}

/// A commit as its rows name it, not yet believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Candidate {
    pub end: CommitEnd,
    count: u32,
}

impl Window {
    /// Reads from position `from` on.
    pub(super) fn new(lineage: Lineage, chunk_records: u64, from: u64) -> Self {
        Self {
            lineage,
            chunk_records,
            records: true,
            rows: BTreeMap::new(),
            covered: from,
            page: None,
            page_rows: FIRST_PAGE,
            wide_to: 0,
        }
    }

    /// The same without records: only what stands beside them.
    pub(super) fn without_records(mut self) -> Self {
        self.records = false;
        self.page_rows = LARGEST_PAGE_OF_ENDS;
        self
    }

    pub(super) fn lineage(&self) -> &Lineage {
        &self.lineage
    }

    /// Reads by another view of the same history from now on.
    pub(super) fn set_lineage(&mut self, lineage: Lineage) {
        self.lineage = lineage;
        self.page = None;
    }

    /// Every row below this position that there is was read.
    pub(super) fn covered(&self) -> u64 {
        self.covered
    }

    /// The rows read, by position.
    pub(super) fn rows(&self) -> impl Iterator<Item = &LogRow> {
        self.rows.values()
    }

    /// Forgets the rows below `position`; how many there were.
    pub(super) fn forget_below(&mut self, position: u64) -> u64 {
        let kept = self.rows.split_off(&first_at(position));
        std::mem::replace(&mut self.rows, kept).len() as u64
    }

    /// Forgets what was read from `position` on, to read it again.
    pub(super) fn rewind(&mut self, position: u64) {
        drop(self.rows.split_off(&first_at(position)));
        self.covered = position;
        self.page = None;
    }

    /// Reads again from `position` on, and asks a quorum of all data centres to the chunk's end.
    /// Whether that was not done before.
    pub(super) fn widen(&mut self, position: u64) -> bool {
        if position <= self.wide_to {
            return false;
        }
        let part = self.lineage.part(position, self.chunk_records);
        self.wide_to = part.map_or(position, |part| part.last);
        self.rewind(position);
        true
    }

    /// Reads one more page, of rows up to `bound`; how many rows came. Cancel safe.
    pub(super) async fn read<W: Wire + ?Sized>(
        &mut self,
        wire: &W,
        bound: u64,
    ) -> Result<usize, WireError> {
        let Some(part) = self.lineage.part(self.covered, self.chunk_records) else {
            self.covered = u64::MAX;
            return Ok(0);
        };
        let last = part.last.min(bound);
        let (from, after) = match &self.page {
            Some((from, page)) => (*from, Some(page.clone())),
            None => (self.covered, None),
        };
        let how = (self.covered <= self.wide_to, self.records);
        let read = loop {
            let page = PageAt {
                after: after.clone(),
                rows: self.page_rows,
            };
            match ask::log(wire, part.chunk, from, how, page).await {
                Err(error) if self.page_rows > 1 && ask::is_of_size(&error) => self.page_rows /= 2,
                read => break read?,
            }
        };
        let came = read.rows.len();
        let bytes: usize = read.rows.iter().map(|row| row.record.len()).sum();
        let most = if self.records {
            LARGEST_PAGE
        } else {
            LARGEST_PAGE_OF_ENDS
        };
        self.page_rows = next_page(self.page_rows, came, bytes).min(most);
        let reached = read.rows.last().map_or(from, |row| row.position);
        for row in read.rows.into_iter().filter(|row| row.position <= last) {
            let at = (row.position, row.event_id, row.commit_hash);
            self.rows.insert(at, row);
        }
        match read.next {
            Some(next) if reached <= last => {
                // More rows may stand at the last position: another history's.
                self.covered = self.covered.max(reached);
                self.page = Some((from, next));
            }
            _ => {
                self.covered = last.saturating_add(1);
                self.page = None;
            }
        }
        Ok(came)
    }

    /// The commits that begin at `position` by what their rows say, and end by `last`.
    pub(super) fn candidates(&self, position: u64, last: u64) -> Vec<Candidate> {
        let mut found: Vec<Candidate> = Vec::new();
        for row in self.at(position) {
            let end = position.saturating_add(u64::from(row.commit_count).saturating_sub(1));
            let end = CommitEnd {
                number: row.commit_number,
                position: end,
                hash: row.commit_hash,
            };
            let fits = (1..=MOST_RECORDS).contains(&row.commit_count) && end.position <= last;
            if row.commit_first == position
                && fits
                && found.iter().all(|known| known.end.hash != end.hash)
            {
                let count = row.commit_count;
                found.push(Candidate { end, count });
            }
        }
        found
    }

    /// The commit, if all its rows are here and the chain says that it follows `before`.
    pub(super) fn commit(&self, before: &CommitEnd, candidate: &Candidate) -> Option<Commit> {
        let first = before.position + 1;
        let (from, to) = (first, candidate.end.position);
        if candidate.end.number != before.number + 1 || to + 1 != first + u64::from(candidate.count)
        {
            return None;
        }
        let rows: Vec<&LogRow> = self
            .range(from, to)
            .filter(|row| row.commit_hash == candidate.end.hash)
            .collect();
        if rows.len() != candidate.count as usize {
            return None;
        }
        let body = match rows.as_slice() {
            [row] => row.record.clone(),
            rows => {
                let size = rows.iter().map(|row| row.record.len()).sum();
                let mut body = BytesMut::with_capacity(size);
                for row in rows {
                    body.extend_from_slice(&row.record);
                }
                Bytes::from(body)
            }
        };
        let commit = Commit::new(before, body).ok()?;
        (commit.hash == candidate.end.hash && commit.records == candidate.count).then_some(commit)
    }

    /// The rows at one position.
    pub(super) fn at(&self, position: u64) -> impl Iterator<Item = &LogRow> {
        self.range(position, position)
    }

    fn range(&self, from: u64, to: u64) -> impl Iterator<Item = &LogRow> {
        let last = (to, EventId::from_bytes([u8::MAX; 16]), [u8::MAX; 32]);
        self.rows.range(first_at(from)..=last).map(|(_, row)| row)
    }
}

/// Before all rows of a position.
fn first_at(position: u64) -> RowAt {
    (position, EventId::from_bytes([0; 16]), [0; 32])
}

fn next_page(rows: u32, came: usize, bytes: usize) -> u32 {
    let came = u32::try_from(came).unwrap_or(u32::MAX).max(1);
    let each = (bytes / came as usize).max(1);
    let fit = u32::try_from(PAGE_BYTES / each).unwrap_or(u32::MAX);
    // Rows get no more than four times as many at once, since the next ones may be larger.
    fit.min(rows.saturating_mul(4)).max(1)
}
