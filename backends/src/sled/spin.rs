//! Waiting for what comes within microseconds: awake, since sleeping and being woken takes longer.

use std::time::{Duration, Instant};

use crate::primitives::thread;

/// Pauses of the processor between two looks, a fraction of a microsecond together.
const PAUSES: u32 = 8;

/// What `ready` answers within about `limit`. Others who want the processor get it meanwhile.
pub(crate) fn spin<T>(limit: Duration, mut ready: impl FnMut() -> Option<T>) -> Option<T> {
    let mut end = None;
    loop {
        if let Some(found) = ready() {
            return Some(found);
        }
        if Instant::now() >= *end.get_or_insert_with(|| Instant::now() + limit) {
            return None;
        }
        for _ in 0..PAUSES {
            std::hint::spin_loop();
        }
        thread::yield_now();
    }
}
