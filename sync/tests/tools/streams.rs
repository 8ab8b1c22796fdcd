//! Names of streams.

use tidelog::StreamId;

/// Stream `number` of `kind`.
pub fn named(kind: &str, number: u64) -> StreamId {
    StreamId::new(kind, &number.to_string()).unwrap()
}
