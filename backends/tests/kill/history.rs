//! What is appended: all of an append follows from its number, so the parent knows its content
//! without being told.

use tidelog_core::*;
use uuid::Uuid;

use crate::sweep::Random;
use crate::tools::stream;

pub const STREAMS: usize = 6;

/// Numbers with this bit are not appends: by them events give way to others.
pub const SUPERSEDES: u64 = 1 << 61;

/// All streams that are ever written to.
pub fn streams() -> Vec<StreamId> {
    (0..STREAMS).map(|n| stream(&n.to_string())).collect()
}

/// What gives way to what by the number, which has [`SUPERSEDES`] set.
pub struct Branch {
    pub stream: StreamId,
    /// How many of the newest events, where there are so many.
    pub gone: u64,
    pub adopted: Vec<NewEvent>,
    /// One at least, so that each branch has an event that says its number.
    pub reissued: Vec<NewEvent>,
}

pub fn branch(number: u64) -> Branch {
    let mut random = Random(number);
    let stream = stream(&random.below(STREAMS).to_string());
    let gone = random.below(6) as u64;
    let (adopted, reissued) = (random.below(3) as u64, 1 + random.below(3) as u64);
    let adopted = (1..=adopted).map(|index| {
        let birth = Birth {
            origin: Uuid::from_u128(1),
            epoch: Uuid::from_u128(2),
            position: index,
            recorded_time: Timestamp::from_micros(3),
        };
        event(number, index, &mut random).with_birth(birth)
    });
    let adopted: Vec<_> = adopted.collect();
    let first = adopted.len() as u64 + 1;
    let reissued = (first..first + reissued).map(|index| event(number, index, &mut random));
    Branch {
        stream,
        gone,
        reissued: reissued.collect(),
        adopted,
    }
}

/// The append with this number: one event, a batch, or parts for several streams.
pub fn parts(number: u64) -> Vec<AppendBatch> {
    if number & SUPERSEDES != 0 {
        let branch = branch(number);
        let events = branch.adopted.into_iter().chain(branch.reissued);
        let whole = AppendBatch::new(branch.stream, ExpectedVersion::Any, events.collect());
        return vec![whole];
    }
    let mut random = Random(number);
    let shape = random.below(20);
    let (streams, events) = match shape {
        0..12 => (1, 1),
        12..17 => (1, 2 + random.below(12)),
        _ => (2 + random.below(2), 1 + random.below(3)),
    };
    let first = random.below(STREAMS);
    let mut index = 0;
    let mut part = |of: usize| {
        let events = (0..events).map(|_| {
            index += 1;
            event(number, index, &mut random)
        });
        let stream = stream(&((first + of) % STREAMS).to_string());
        AppendBatch::new(stream, ExpectedVersion::Any, events.collect())
    };
    (0..streams).map(&mut part).collect()
}

fn event(number: u64, index: u64, random: &mut Random) -> NewEvent {
    let bytes = match random.below(30) {
        0 => 12_000,
        1..6 => 900,
        _ => 20 + random.below(200),
    };
    let mut payload = Vec::with_capacity(bytes + 8);
    while payload.len() < bytes {
        payload.extend_from_slice(&random.next().to_le_bytes());
    }
    let event = NewEvent::new("Noted", 1, ContentType::Bytes, payload).with_id(id(number, index));
    if random.one_in(3) {
        let metadata = [("actor".to_owned(), number.to_string())];
        return event.with_metadata(metadata.into_iter().collect());
    }
    event
}

/// The id of the `index`th event, from 1, of an append.
pub fn id(number: u64, index: u64) -> EventId {
    EventId::from_bytes((u128::from(number) << 64 | u128::from(index)).to_be_bytes())
}

/// The append that an event belongs to, and its place in it.
pub fn number_of(id: EventId) -> (u64, u64) {
    id.as_uuid().as_u64_pair()
}

/// What a snapshot of `stream` at `sequence` holds: large enough for several pages in sled.
pub fn state_at(stream: &StreamId, sequence: u64) -> Vec<u8> {
    let text = format!("{stream} at {sequence};");
    text.bytes()
        .cycle()
        .take(100 + (sequence as usize % 5) * 3000)
        .collect()
}
