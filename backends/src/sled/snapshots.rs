//! Snapshots in sled: only a cache, so nothing here is believed without looking at the log.

use serde::{Deserialize, Serialize};
use tidelog_core::{
    ContentType, Error, EventId, MAX_SNAPSHOT_BYTES, PersistOutcome, SnapshotEnvelope, StreamId,
    Timestamp,
};

use super::shared::Shared;
use super::state;

#[derive(Serialize, Deserialize)]
struct Stored<'a> {
    sequence: u64,
    event_id: [u8; 16],
    revision: u32,
    content_type: &'a str,
    taken_micros: i64,
    state: &'a [u8],
}

/// The newest snapshot whose event still stands in the stream.
pub(crate) fn read(shared: &Shared, stream: &StreamId) -> Result<Option<SnapshotEnvelope>, Error> {
    let Some(bytes) = shared.streams.ask(|index| index.snapshot_get(stream))? else {
        return Ok(None);
    };
    let Some(snapshot) = decode(stream, &bytes) else {
        return Ok(None);
    };
    Ok(stands(shared, &snapshot)?.then_some(snapshot))
}

/// Keeps `snapshot` unless one that is as new is there.
pub(crate) fn persist(
    shared: &Shared,
    snapshot: &SnapshotEnvelope,
) -> Result<PersistOutcome, Error> {
    shared.format.ensure_writable(&shared.dir)?;
    if snapshot.state.len() > MAX_SNAPSHOT_BYTES {
        return Err(Error::too_large(
            "snapshot",
            snapshot.state.len(),
            MAX_SNAPSHOT_BYTES,
        ));
    }
    if !stands(shared, snapshot)? {
        let reason = format!(
            "the stream has no event {} at sequence {}",
            snapshot.event_id, snapshot.sequence
        );
        return Err(Error::invalid("snapshot", &snapshot.stream, reason));
    }
    let _one_at_a_time = shared.snapshots.lock();
    if let Some(kept) = read(shared, &snapshot.stream)?
        && kept.sequence >= snapshot.sequence
        && kept.revision >= snapshot.revision
    {
        return Ok(PersistOutcome::Superseded);
    }
    let bytes = state::encode(&Stored {
        sequence: snapshot.sequence,
        event_id: *snapshot.event_id.as_bytes(),
        revision: snapshot.revision,
        content_type: snapshot.content_type.as_str(),
        taken_micros: snapshot.taken_time.as_micros(),
        state: &snapshot.state,
    })?;
    shared
        .streams
        .ask(|index| index.snapshot_put(&snapshot.stream, &bytes))?;
    Ok(PersistOutcome::Persisted)
}

fn stands(shared: &Shared, snapshot: &SnapshotEnvelope) -> Result<bool, Error> {
    let hash = shared.hash.stream(&snapshot.stream);
    let event = shared.read_event(&snapshot.stream, hash, snapshot.sequence, u64::MAX)?;
    Ok(event.is_some_and(|event| event.event_id == snapshot.event_id))
}

pub(crate) fn decode(stream: &StreamId, bytes: &[u8]) -> Option<SnapshotEnvelope> {
    let stored: Stored<'_> = postcard::from_bytes(bytes).ok()?;
    Some(SnapshotEnvelope {
        stream: stream.clone(),
        sequence: stored.sequence,
        event_id: EventId::from_bytes(stored.event_id),
        revision: stored.revision,
        content_type: ContentType::parse(stored.content_type).ok()?,
        taken_time: Timestamp::from_micros(stored.taken_micros),
        state: bytes::Bytes::copy_from_slice(stored.state),
    })
}
