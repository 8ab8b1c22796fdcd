//! The load: seeded payloads, random or JSON, and who appends what to which stream.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use crate::Failure;

/// Bytes that payloads are cut from; small, so that it does not stand out in peak memory.
const POOL: usize = 1 << 20;
/// The least size of a JSON payload.
const SHORTEST_JSON: usize = 200;
/// What notes are made of.
const WORDS: [&str; 16] = [
    "leave",
    "with",
    "the",
    "neighbour",
    "second",
    "floor",
    "ring",
    "twice",
    "gift",
    "wrapped",
    "please",
    "call",
    "before",
    "delivery",
    "thank",
    "you",
];

/// What payloads are made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum PayloadKind {
    /// Random bytes, which do not compress.
    Random,
    /// Orders as JSON, padded to the size by a note.
    Json,
}

impl PayloadKind {
    /// All, in the order they run.
    pub const ALL: [Self; 2] = [Self::Random, Self::Json];
}

impl fmt::Display for PayloadKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Random => "random",
            Self::Json => "json",
        })
    }
}

impl FromStr for PayloadKind {
    type Err = Failure;

    fn from_str(text: &str) -> Result<Self, Failure> {
        let mut all = Self::ALL.into_iter();
        all.find(|kind| kind.to_string() == text)
            .ok_or_else(|| format!("no payload kind {text:?}").into())
    }
}

/// Payloads that repeat exactly for a seed.
#[derive(Clone, Debug)]
pub struct Payloads {
    pool: Arc<[u8]>,
    size: usize,
    /// Payloads begin at multiples of this.
    step: usize,
    seed: u64,
}

impl Payloads {
    /// Random payloads of `size` bytes, at least 8.
    pub fn new(seed: u64, size: usize) -> Self {
        let size = size.clamp(8, POOL / 2);
        let words = (0..POOL as u64 / 8).flat_map(|at| mix(seed ^ at).to_le_bytes());
        Self {
            pool: words.collect(),
            size,
            step: 1,
            seed,
        }
    }

    /// JSON payloads of `size` bytes, at least `SHORTEST_JSON`.
    pub fn json(seed: u64, size: usize) -> Self {
        let size = size.clamp(SHORTEST_JSON, POOL / 2);
        let orders = (0..(POOL / size) as u64).flat_map(|at| order(mix(seed ^ at), size));
        Self {
            pool: orders.collect(),
            size,
            step: size,
            seed,
        }
    }

    /// Payloads of a kind.
    pub fn of(kind: PayloadKind, seed: u64, size: usize) -> Self {
        match kind {
            PayloadKind::Random => Self::new(seed, size),
            PayloadKind::Json => Self::json(seed, size),
        }
    }

    /// The payload of event number `event`.
    pub fn get(&self, event: u64) -> &[u8] {
        let places = ((self.pool.len() - self.size) / self.step).max(1) as u64;
        #[allow(clippy::cast_possible_truncation, reason = "below POOL")]
        let at = (mix(self.seed.rotate_left(32) ^ event) % places) as usize * self.step;
        &self.pool[at..at + self.size]
    }
}

/// An order of `size` bytes, its numbers drawn from `seed`.
fn order(seed: u64, size: usize) -> Vec<u8> {
    let draw = |what: u64, below: u64| mix(seed ^ what) % below;
    let (quantity, cents) = (1 + draw(1, 9), 1_000_000 + draw(2, 9_000_000));
    let head = format!(
        r#"{{"order":"{:016x}","customer":{},"sku":"BOOK-{:05}","quantity":{quantity},"cents":{cents},"currency":"EUR","at":"2026-{:02}-{:02}T{:02}:{:02}:{:02}Z","note":""#,
        draw(3, u64::MAX),
        100_000 + draw(4, 900_000),
        draw(5, 100_000),
        1 + draw(6, 12),
        1 + draw(7, 28),
        draw(8, 24),
        draw(9, 60),
        draw(10, 60),
    );
    // Last, so that the bytes that a read marks differ from order to order.
    let tail = format!(r#"","total":{}}}"#, quantity * cents);
    let mut text = head;
    for word in 0.. {
        let room = (size - tail.len()).saturating_sub(text.len());
        if room == 0 {
            break;
        }
        #[allow(clippy::cast_possible_truncation, reason = "below 16")]
        let next = WORDS[draw(16 + word, WORDS.len() as u64) as usize];
        text.extend(next.chars().chain([' ']).take(room));
    }
    text.push_str(&tail);
    text.into_bytes()
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
    /// How many events each of its streams has already.
    pub already: u64,
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
            expected: self.already + at / streams,
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
    /// The first and the last eight bytes of every payload, combined in any order.
    pub mark: u64,
}

impl Seen {
    /// Notes one payload.
    pub fn note(&mut self, payload: &[u8]) {
        self.events += 1;
        self.bytes += payload.len() as u64;
        if let Some((head, tail)) = payload.first_chunk().zip(payload.last_chunk()) {
            let tail = u64::from_le_bytes(*tail).rotate_left(32);
            let mark = u64::from_le_bytes(*head).wrapping_add(tail);
            self.mark = self.mark.wrapping_add(mark);
        }
    }

    /// What a read of events `0..events` must have met.
    pub fn expected(payloads: &Payloads, events: u64) -> Self {
        Self::of(payloads, 0..events)
    }

    /// What a read of these events must have met.
    pub fn of(payloads: &Payloads, events: impl Iterator<Item = u64>) -> Self {
        let mut seen = Self::default();
        events.for_each(|event| seen.note(payloads.get(event)));
        seen
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn json_payloads_are_documents_of_the_size_asked_for_that_differ() {
        for size in [SHORTEST_JSON, 256, 999] {
            let payloads = Payloads::json(7, size);
            let mut different = HashSet::new();
            for event in 0..100 {
                let payload = payloads.get(event);
                assert_eq!(payload.len(), size);
                let order: serde_json::Value = serde_json::from_slice(payload).unwrap();
                let of = |field: &str| order[field].as_u64().unwrap();
                assert_eq!(of("quantity") * of("cents"), of("total"));
                different.insert(payload.to_vec());
            }
            assert!(different.len() > 90, "{} of 100", different.len());
        }
    }

    #[test]
    fn a_read_that_met_another_payload_is_told_apart() {
        for kind in PayloadKind::ALL {
            let payloads = Payloads::of(kind, 7, 256);
            let mut other = Seen::default();
            (1..11).for_each(|event| other.note(payloads.get(event)));
            let expected = Seen::expected(&payloads, 10);
            assert_eq!((other.events, other.bytes), (10, 2560));
            assert_ne!(other, expected);
        }
    }
}
