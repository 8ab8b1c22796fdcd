//! What was just committed, for subscriptions: one buffer that all of them share.

use std::collections::VecDeque;
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use tidelog_core::EventEnvelope;

use super::record::{self, Names};
use super::signal::{Listener, Signal};
use crate::primitives::Mutex;
use crate::primitives::atomic::{AtomicBool, AtomicU64, Ordering};

/// Most bytes kept; whoever is further behind reads the log.
const KEEP_BYTES: usize = 1 << 20;
/// A decoded commit takes about this much more than its bytes.
const DECODED: usize = 2;

/// The newest commits, and the news of them.
#[derive(Default)]
pub(crate) struct Live {
    last: AtomicU64,
    closed: AtomicBool,
    recent: Mutex<Recent>,
    news: Arc<Signal>,
}

#[derive(Default)]
struct Recent {
    subscribers: usize,
    commits: VecDeque<Arc<Commit>>,
    bytes: usize,
}

/// One commit; decoded by the first subscriber that wants it, for all.
struct Commit {
    first: u64,
    last: u64,
    body: Bytes,
    decoded: OnceLock<Option<Arc<[EventEnvelope]>>>,
}

impl Live {
    pub(crate) fn new(last: u64) -> Self {
        Self {
            last: AtomicU64::new(last),
            ..Self::default()
        }
    }

    /// The newest visible position.
    pub(crate) fn last(&self) -> u64 {
        self.last.load(Ordering::Acquire)
    }

    /// How many subscribers there are, and how many commits are kept for them.
    #[cfg(test)]
    #[cfg(feature = "shuttle")]
    pub(crate) fn kept(&self) -> (usize, usize) {
        let recent = self.recent.lock();
        (recent.subscribers, recent.commits.len())
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::SeqCst)
    }

    /// Ends all reads and subscriptions.
    pub(crate) fn close(&self) {
        self.closed.store(true, Ordering::SeqCst);
        self.notify();
    }

    /// Makes everything up to `last` visible; whoever does so calls [`notify`](Self::notify) once it
    /// holds no lock. `body` gives the commit's records, of which `first` is the first.
    pub(crate) fn publish<'a>(
        &self,
        first: u64,
        last: u64,
        body: impl FnOnce() -> Option<&'a [u8]>,
    ) {
        let mut recent = self.recent.lock();
        if recent.subscribers > 0 {
            recent.push(first, last, body().unwrap_or_default());
        } else {
            // What is kept must be without holes, so nothing is.
            recent.clear();
        }
        drop(recent);
        self.last.store(last, Ordering::Release);
    }

    /// Wakes whoever listens. Wakers are foreign code: they may drop the store's last handle.
    pub(crate) fn notify(&self) {
        self.news.notify();
    }

    /// Resolves at the next `publish` or `close` after this call.
    pub(crate) fn listen(&self) -> Listener {
        self.news.listen()
    }

    /// The kept records from `position` to the end of its commit; `None` when they are not kept.
    pub(crate) fn page(&self, position: u64) -> Option<Page> {
        let commit = self.recent.lock().find(position)?;
        let all = commit
            .decoded
            .get_or_init(|| decode(&commit.body))
            .clone()?;
        let skip = usize::try_from(position - commit.first).ok()?;
        Some(Page {
            all,
            skip,
            last: commit.last,
        })
    }

    pub(crate) fn subscribe(self: &Arc<Self>) -> Subscriber {
        self.recent.lock().subscribers += 1;
        Subscriber(Arc::clone(self))
    }
}

/// Records of one commit from some place on.
pub(crate) struct Page {
    all: Arc<[EventEnvelope]>,
    skip: usize,
    pub last: u64,
}

impl Page {
    pub(crate) fn envelopes(&self) -> &[EventEnvelope] {
        self.all.get(self.skip..).unwrap_or_default()
    }
}

/// While one lives, commits are kept.
pub(crate) struct Subscriber(Arc<Live>);

impl Drop for Subscriber {
    fn drop(&mut self) {
        let mut recent = self.0.recent.lock();
        recent.subscribers -= 1;
        if recent.subscribers == 0 {
            recent.clear();
        }
    }
}

impl Recent {
    fn push(&mut self, first: u64, last: u64, body: &[u8]) {
        let size = body.len() * (1 + DECODED);
        if size > KEEP_BYTES
            || self
                .commits
                .back()
                .is_some_and(|newest| newest.last + 1 != first)
        {
            self.clear();
        }
        if size > KEEP_BYTES {
            return;
        }
        while self.bytes + size > KEEP_BYTES
            && let Some(oldest) = self.commits.pop_front()
        {
            self.bytes -= oldest.body.len() * (1 + DECODED);
        }
        self.bytes += size;
        let body = Bytes::copy_from_slice(body);
        self.commits.push_back(Arc::new(Commit {
            first,
            last,
            body,
            decoded: OnceLock::new(),
        }));
    }

    fn clear(&mut self) {
        self.commits.clear();
        self.bytes = 0;
    }

    fn find(&self, position: u64) -> Option<Arc<Commit>> {
        let at = self
            .commits
            .partition_point(|commit| commit.last < position);
        self.commits
            .get(at)
            .filter(|commit| commit.first <= position)
            .cloned()
    }
}

fn decode(body: &Bytes) -> Option<Arc<[EventEnvelope]>> {
    let mut names = Names::new();
    let mut envelopes = Vec::new();
    let mut at = 0;
    while let Some(rest) = body.get(at..).filter(|rest| !rest.is_empty()) {
        let bytes = rest.get(..record::total_len(rest)?)?;
        names.push(record::parse(bytes).ok()?, body, &mut envelopes)?;
        at += bytes.len();
    }
    Some(envelopes.into())
}
