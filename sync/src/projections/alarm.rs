//! Waiting on the runner's thread, by the machine's time or by an injected one.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

use tidelog_core::{BoxFuture, Sleeper};

/// Something that is due at a time.
pub(crate) enum Alarm {
    /// `None`: later than any time there is.
    At(Option<Instant>),
    Injected(BoxFuture<'static, ()>),
    Due,
}

impl Alarm {
    pub(crate) fn after(duration: Duration, sleeper: Option<&Arc<dyn Sleeper>>) -> Self {
        match sleeper {
            Some(sleeper) => Self::Injected(sleeper.sleep(duration)),
            None => Self::At(Instant::now().checked_add(duration)),
        }
    }

    /// Whether it is due; otherwise `cx` is woken when it is, or [`deadline`](Self::deadline) says
    /// when to look again.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> bool {
        let due = match self {
            Self::Due => true,
            Self::At(at) => at.is_some_and(|at| at <= Instant::now()),
            Self::Injected(sleep) => Pin::new(sleep).poll(cx).is_ready(),
        };
        if due {
            *self = Self::Due;
        }
        due
    }

    pub(crate) fn deadline(&self) -> Option<Instant> {
        match self {
            Self::At(at) => *at,
            Self::Injected(_) | Self::Due => None,
        }
    }
}

/// Blocks the thread until `poll` is ready; calls it when woken, and at the time it gives back.
pub(crate) fn block_until<T>(
    mut poll: impl FnMut(&mut Context<'_>) -> (Poll<T>, Option<Instant>),
) -> T {
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let mut cx = Context::from_waker(&waker);
    loop {
        match poll(&mut cx) {
            (Poll::Ready(value), _) => return value,
            (Poll::Pending, None) => thread::park(),
            (Poll::Pending, Some(at)) => {
                thread::park_timeout(at.saturating_duration_since(Instant::now()));
            }
        }
    }
}

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}
