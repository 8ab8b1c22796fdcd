//! Snapshots: small ones in a row, large ones in parts beside it.

use bytes::Bytes;
use bytes::BytesMut;
use tidelog_core::{Error, MAX_SNAPSHOT_BYTES, PersistOutcome, SnapshotEnvelope, StreamId};

use super::super::request::{Bucket, ErrorClass, Reply, Request, SnapshotRow, Wire, WireError};
use super::direct::Direct;

/// A state up to here stands in the row itself.
const INLINE: usize = 256 << 10;
const PART: usize = 512 << 10;
/// How often a snapshot loses to others before it gives up.
const ATTEMPTS: u32 = 16;

impl<W: Wire> Direct<W> {
    /// See [`SnapshotStore::read`](tidelog_core::SnapshotStore::read).
    ///
    /// # Errors
    /// [`Error::Unreachable`], [`Error::ServerRefused`].
    pub async fn snapshot(&self, stream: &StreamId) -> Result<Option<SnapshotEnvelope>, Error> {
        let mut seen = None;
        for _ in 0..ATTEMPTS {
            let Some(row) = self.snapshot_row(stream).await? else {
                return Ok(None);
            };
            if seen == Some(row.version) || !self.stands(stream, row.sequence, &row).await? {
                return Ok(None);
            }
            if let Some(state) = self.state(&row).await? {
                return Ok(Some(SnapshotEnvelope {
                    stream: row.stream,
                    sequence: row.sequence,
                    event_id: row.event_id,
                    revision: row.revision,
                    content_type: row.content_type,
                    taken_time: row.taken_time,
                    state,
                }));
            }
            // Its parts may be gone because a newer one has come since the row was read.
            seen = Some(row.version);
        }
        Ok(None)
    }

    /// See [`SnapshotStore::persist`](tidelog_core::SnapshotStore::persist).
    ///
    /// # Errors
    /// As there; [`Error::Unreachable`], [`Error::ServerRefused`].
    pub async fn persist(&self, snapshot: SnapshotEnvelope) -> Result<PersistOutcome, Error> {
        let size = snapshot.state.len();
        if size > MAX_SNAPSHOT_BYTES {
            return Err(Error::too_large("snapshot", size, MAX_SNAPSHOT_BYTES));
        }
        let mut row = self.row_of(&snapshot);
        if !self
            .stands(&snapshot.stream, snapshot.sequence, &row)
            .await?
        {
            return Err(Error::invalid(
                "snapshot",
                format_args!("{} at sequence {}", snapshot.stream, snapshot.sequence),
                "the stream has no event with its id at that sequence",
            ));
        }
        let mut are_parts_there = row.parts == 0;
        let mut last = "others were faster".into();
        for attempt in 0..ATTEMPTS {
            if attempt > 0 {
                self.pause(super::direct::FIRST_PAUSE).await;
            }
            let kept = self.snapshot_row(&snapshot.stream).await?;
            match &kept {
                // An answer got lost: it is there.
                Some(kept) if kept.version == row.version => return self.persisted(&row).await,
                Some(kept) if self.stays(kept, &snapshot).await? => {
                    return Ok(PersistOutcome::Superseded);
                }
                _ => {}
            }
            if !are_parts_there {
                self.put_parts(&row, &snapshot.state).await?;
                are_parts_there = true;
            }
            let seen = kept.map(|kept| kept.version);
            let request = Request::SetSnapshot {
                seen,
                row: Box::new(row.clone()),
            };
            match self.ask(request).await {
                Ok(Reply::Applied(true)) => return self.persisted(&row).await,
                Ok(_) => {
                    // Whoever was faster may have dropped these parts, being older than its own.
                    row = self.row_of(&snapshot);
                    are_parts_there = row.parts == 0;
                }
                Err(error) if error.class == ErrorClass::Unclear => last = error.text,
                Err(error) => return Err(self.failed(&snapshot_of(&snapshot.stream), &error)),
            }
        }
        let error = WireError {
            class: ErrorClass::NotSent,
            text: last,
        };
        Err(self.failed(&snapshot_of(&snapshot.stream), &error))
    }

    fn row_of(&self, snapshot: &SnapshotEnvelope) -> SnapshotRow {
        let is_inline = snapshot.state.len() <= INLINE;
        let (parts, state) = if is_inline {
            (0, snapshot.state.clone())
        } else {
            (snapshot.state.len().div_ceil(PART), Bytes::new())
        };
        SnapshotRow {
            stream: snapshot.stream.clone(),
            sequence: snapshot.sequence,
            event_id: snapshot.event_id,
            revision: snapshot.revision,
            content_type: snapshot.content_type.clone(),
            taken_time: snapshot.taken_time,
            version: self.settings().ids.next_uuid(),
            parts: u32::try_from(parts).unwrap_or(u32::MAX),
            state,
        }
    }

    /// Whether `kept` stays: it counts still, and is as new in sequence and revision.
    async fn stays(&self, kept: &SnapshotRow, new: &SnapshotEnvelope) -> Result<bool, Error> {
        let is_newer = kept.sequence >= new.sequence && kept.revision >= new.revision;
        Ok(is_newer
            && self.stands(&kept.stream, kept.sequence, kept).await?
            && self.state(kept).await?.is_some())
    }

    async fn persisted(&self, row: &SnapshotRow) -> Result<PersistOutcome, Error> {
        let request = Request::DropParts {
            stream: row.stream.clone(),
            before: row.version,
        };
        // What is left behind goes with the next one.
        if let Err(error) = self.ask(request).await {
            tracing::debug!(stream = %row.stream, error = %error.text, "old parts stay");
        }
        Ok(PersistOutcome::Persisted)
    }

    async fn put_parts(&self, row: &SnapshotRow, state: &Bytes) -> Result<(), Error> {
        for (part, from) in (0..row.parts).zip((0..).step_by(PART)) {
            let to = state.len().min(from + PART);
            let request = Request::PutPart {
                stream: row.stream.clone(),
                version: row.version,
                part,
                state: state.slice(from..to),
            };
            self.look(request, &row.stream).await?;
        }
        Ok(())
    }

    /// The whole state; `None` when parts are missing.
    async fn state(&self, row: &SnapshotRow) -> Result<Option<Bytes>, Error> {
        if row.parts == 0 {
            return Ok(Some(row.state.clone()));
        }
        let mut state = BytesMut::new();
        for part in 0..row.parts {
            let request = Request::Part {
                stream: row.stream.clone(),
                version: row.version,
                part,
            };
            match self.look(request, &row.stream).await? {
                Reply::Part(Some(bytes)) if state.len() + bytes.len() <= MAX_SNAPSHOT_BYTES => {
                    state.extend_from_slice(&bytes);
                }
                Reply::Part(_) => return Ok(None),
                other => return Err(self.strange(&row.stream, &other)),
            }
        }
        Ok(Some(state.freeze()))
    }

    async fn snapshot_row(&self, stream: &StreamId) -> Result<Option<SnapshotRow>, Error> {
        let request = Request::Snapshot(stream.clone());
        match self.look(request, stream).await? {
            Reply::Snapshot(row) => Ok(row.map(|row| *row)),
            other => Err(self.strange(stream, &other)),
        }
    }

    /// Whether the event that the snapshot names stands at its sequence.
    async fn stands(
        &self,
        stream: &StreamId,
        sequence: u64,
        row: &SnapshotRow,
    ) -> Result<bool, Error> {
        if sequence == 0 || i64::try_from(sequence).is_err() {
            return Ok(false);
        }
        let (first, last) = self.buckets().holding(sequence);
        for number in first..=last {
            let request = Request::Ids {
                bucket: Bucket {
                    stream: stream.clone(),
                    number,
                },
                from: sequence,
                to: sequence,
                serial: true,
            };
            match self.look(request, stream).await? {
                Reply::Ids(ids) => {
                    if let Some(found) = ids.first() {
                        return Ok(found.event_id == row.event_id);
                    }
                }
                other => return Err(self.strange(stream, &other)),
            }
        }
        Ok(false)
    }
}

fn snapshot_of(stream: &StreamId) -> String {
    format!("keep a snapshot of {stream}")
}
