//! What a store takes at most.

/// The sizes above which an append is refused with [`Error::TooLarge`](crate::Error::TooLarge).
///
/// ```
/// use tidelog_core::Limits;
/// let limits = Limits { payload_bytes: 64 * 1024, ..Limits::default() };
/// assert_eq!(limits.batch_events, 10_000);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of one payload; 1 MiB by default.
    pub payload_bytes: usize,
    /// Bytes of one event's metadata and tags together; 64 KiB by default.
    pub metadata_bytes: usize,
    /// Events in one append, over all its streams; 10,000 by default.
    pub batch_events: usize,
    /// Bytes of payloads, metadata and tags in one append; 16 MiB by default.
    pub batch_bytes: usize,
}

impl Limits {
    /// In how many of a stream's newest events an id is recognized whatever version is expected:
    /// 1,000 or the largest batch, whichever is more.
    pub const fn retry_window(&self) -> usize {
        if self.batch_events > 1_000 {
            self.batch_events
        } else {
            1_000
        }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            payload_bytes: 1 << 20,
            metadata_bytes: 64 << 10,
            batch_events: 10_000,
            batch_bytes: 16 << 20,
        }
    }
}
