//! How far the log is published, as the replica is told.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::signal::Signal;

/// How far the log is published with nothing of it set aside: what the replica is told, so that a
/// store that is restored from it need not publish everything again.
#[derive(Default)]
pub(crate) struct Published {
    /// One more than that; 0 before it is known.
    position: AtomicU64,
    news: Signal,
}

impl Published {
    #[cfg(feature = "kafka")]
    pub(crate) fn set(&self, position: u64) {
        let next = position.saturating_add(1);
        if self.position.swap(next, Ordering::AcqRel) != next {
            self.news.notify();
        }
    }

    pub(crate) fn get(&self) -> Option<u64> {
        self.position.load(Ordering::Acquire).checked_sub(1)
    }

    /// Ends when it is another than `known`.
    pub(crate) async fn changed(&self, known: Option<u64>) {
        loop {
            let news = self.news.listen();
            if self.get() != known {
                return;
            }
            news.await;
        }
    }
}
