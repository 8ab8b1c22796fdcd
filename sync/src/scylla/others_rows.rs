//! What another copy of this store has listed as parked in the same epoch, before it knew that it lost
//! it: the list has one row for a stream and a position, whoever's event is meant.

use std::sync::Arc;

use tidelog_backends::commits::CommitEnd;
use tidelog_backends::wire::{ParkedKey, ParkedRow, Request, WireError};
use tidelog_core::{Error, RecordKind};

use super::ask::{self, trouble};
use super::connect::Caller;
use super::judge::Place;
use super::link::Answer;
use super::probe::has_event;
use super::sink::ScyllaSink;
use crate::replicate::outbox::Outbox;

/// Bytes of the log read at once.
const READ_BYTES: usize = 1 << 20;

/// What follows from such rows.
pub(super) struct Sure {
    /// Up to here this log is settled. Above may be an event of it that was parked under another's row,
    /// and that nobody keeps.
    pub settled: CommitEnd,
    /// Rows that hold nothing of this log.
    pub strange: Vec<ParkedKey>,
}

impl ScyllaSink {
    /// Looks at what is listed as parked and not known here.
    pub(super) fn look_at_others(&mut self, rows: Vec<ParkedRow>, outbox: &Arc<dyn Outbox>) {
        let (wire, outbox) = (Arc::clone(&self.wire), Arc::clone(outbox));
        let ids = Arc::clone(&self.options.ids);
        let Some(link) = &mut self.link else {
            return;
        };
        let bucket_events = link.greeting.replica.bucket_events;
        link.running.push(Box::pin(async move {
            let caller = Caller {
                wire: &*wire,
                outbox: &outbox,
                ids: &*ids,
                server: "",
                name: "",
            };
            Answer::LetGo(caller.let_go_of(rows, bucket_events).await)
        }));
    }
}

impl Caller<'_> {
    /// What is sure of this log where `others` are in the list. An own event in the place of another's
    /// is looked for at the server.
    pub(super) async fn sure(
        &self,
        others: &[ParkedRow],
        bucket_events: u64,
        mut settled: CommitEnd,
    ) -> Result<Sure, Error> {
        let asked = |error: WireError| trouble("look at what is parked", &error);
        let mut strange = Vec::new();
        for row in others {
            let stream = &row.key.stream;
            let is_held = match self.own(row).await? {
                Some((place, before)) => {
                    let stands = has_event(self.wire, bucket_events, stream, place).await;
                    let is_held = !stands.map_err(asked)?;
                    if is_held && before.position < settled.position {
                        settled = before;
                    }
                    is_held
                }
                None => false,
            };
            if !is_held && row.until_position.is_none() {
                strange.push(row.key.clone());
            }
        }
        Ok(Sure { settled, strange })
    }

    /// Resolves what holds nothing of this log of what is listed and not known here.
    async fn let_go_of(&self, rows: Vec<ParkedRow>, bucket_events: u64) -> Result<(), Error> {
        let mut others = Vec::new();
        for row in rows {
            // One of its own may have been parked since.
            if self.recorded(&row).await?.is_none() {
                others.push(row);
            } else if let Some(until_position) = self.gave_way_at(&row).await? {
                // The other copy has the event, too, and parked it on its own.
                let key = row.key;
                let request = Request::Unpark {
                    key,
                    until_position,
                };
                let told = ask::applied(self.wire, request).await;
                told.map_err(|error| trouble("list what is parked", &error))?;
            }
        }
        let settled = self.outbox.identity().genesis();
        let sure = self.sure(&others, bucket_events, settled).await?;
        self.resolve_strange(sure.strange).await
    }

    /// Where this log says that what a row lists gave way; `None` when it does not.
    async fn gave_way_at(&self, row: &ParkedRow) -> Result<Option<u64>, Error> {
        let (stream, first) = (&row.key.stream, row.key.first_position);
        if !self.outbox.is_superseded(stream, row.first_sequence, first) {
            return Ok(None);
        }
        let mut after = first;
        loop {
            let commits = self.outbox.read(after, READ_BYTES).await?;
            let Some(last) = commits.last() else {
                return Ok(None);
            };
            after = last.last_position();
            for record in commits.iter().flat_map(|commit| commit.each()) {
                let here = record?.superseded().filter(|what| {
                    what.stream == *stream && what.from <= row.first_sequence && what.at > first
                });
                if let Some(what) = here {
                    return Ok(Some(what.at));
                }
            }
        }
    }

    /// Says of rows that hold nothing of this log that they are resolved.
    pub(super) async fn resolve_strange(&self, strange: Vec<ParkedKey>) -> Result<(), Error> {
        for key in strange {
            tracing::warn!(
                stream = %key.stream, position = key.first_position,
                "another copy of this store has parked a stream in its epoch; that is resolved"
            );
            let until_position = key.first_position;
            let request = Request::Unpark {
                key,
                until_position,
            };
            let told = ask::applied(self.wire, request).await;
            told.map_err(|error| trouble("list what is parked", &error))?;
        }
        Ok(())
    }

    /// The event that this log has where another copy has parked its own, and the end of the commit
    /// before it.
    async fn own(&self, row: &ParkedRow) -> Result<Option<(Place, CommitEnd)>, Error> {
        let (stream, first) = (&row.key.stream, row.key.first_position);
        let commits = self.outbox.read(first.saturating_sub(1), 1).await?;
        let Some(commit) = commits.first() else {
            return Ok(None);
        };
        for record in commit.each() {
            let record = record?;
            let is_it = record.position == first
                && record.stream == *stream
                && record.kind != RecordKind::Control;
            if !is_it || self.outbox.is_superseded(stream, record.sequence, first) {
                continue;
            }
            let before = self.outbox.commit_end(commit.first_position - 1)?;
            // Behind a hole none ends there.
            let before = before.unwrap_or(self.outbox.identity().genesis());
            return Ok(Some(((record.sequence, record.event_id), before)));
        }
        Ok(None)
    }
}
