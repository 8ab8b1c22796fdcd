//! The load: seeded random payloads, and who appends what to which stream.

use std::sync::Arc;

/// Bytes that payloads are cut from; small, so that it does not stand out in peak memory.
const POOL: usize = 1 << 20;

/// Random payloads that repeat exactly for a seed.
#[derive(Clone, Debug)]
pub struct Payloads {
    pool: Arc<[u8]>,
    size: usize,
    seed: u64,
}

impl Payloads {
    /// Payloads of `size` bytes, at least 8.
    pub fn new(seed: u64, size: usize) -> Self {
        let size = size.clamp(8, POOL / 2);
        let words = (0..POOL as u64 / 8).flat_map(|at| mix(seed ^ at).to_le_bytes());
        Self {
            pool: words.collect(),
            size,
            seed,
        }
    }

    /// The payload of event number `event`.
    pub fn get(&self, event: u64) -> &[u8] {
        let places = (POOL - self.size) as u64;
        #[allow(clippy::cast_possible_truncation, reason = "below POOL")]
        let at = (mix(self.seed.rotate_left(32) ^ event) % places) as usize;
        &self.pool[at..at + self.size]
    }
}

/// One step of the `SplitMix64` generator: random enough for bytes that must not compress.
pub fn mix(value: u64) -> u64 {
    let mut z = value.wrapping_add(0x9E37_79B9_7F4A_7C15);
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

/// One event to append.
#[derive(Clone, Copy, Debug)]
pub struct Append<'a> {
    /// Number of the stream, from 0.
    pub stream: usize,
    /// Sequence of the stream's last event; 0 when it has none.
    pub expected: u64,
    /// The event's bytes.
    pub payload: &'a [u8],
}

/// A client that appends one event after the other, round robin to streams of its own.
#[derive(Clone, Debug)]
pub struct Client {
    /// Its first stream.
    pub first_stream: usize,
    /// How many streams it has.
    pub streams: usize,
    /// Number of its first event.
    pub first_event: u64,
    /// How many events it appends.
    pub events: u64,
    /// The bytes.
    pub payloads: Payloads,
}

impl Client {
    /// What it appends, in order; each only after the one before is acknowledged.
    pub fn appends(&self) -> impl Iterator<Item = Append<'_>> {
        let streams = self.streams as u64;
        (0..self.events).map(move |at| Append {
            #[allow(
                clippy::cast_possible_truncation,
                reason = "below the number of streams"
            )]
            stream: self.first_stream + (at % streams) as usize,
            expected: at / streams,
            payload: self.payloads.get(self.first_event + at),
        })
    }
}

/// What a read met: enough to prove that every payload was there and was looked at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// Events.
    pub events: u64,
    /// Bytes of their payloads.
    pub bytes: u64,
    /// The first eight bytes of every payload, combined in any order.
    pub mark: u64,
}

impl Seen {
    /// Notes one payload.
    pub fn note(&mut self, payload: &[u8]) {
        self.events += 1;
        self.bytes += payload.len() as u64;
        if let Some(head) = payload.first_chunk() {
            self.mark = self.mark.wrapping_add(u64::from_le_bytes(*head));
        }
    }

    /// What a read of events `0..events` must have met.
    pub fn expected(payloads: &Payloads, events: u64) -> Self {
        let mut seen = Self::default();
        (0..events).for_each(|event| seen.note(payloads.get(event)));
        seen
    }
}
