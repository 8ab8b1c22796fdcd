//! What users ask a replicator.

use std::collections::VecDeque;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use parking_lot::Mutex;
use tidelog_core::Error;

use super::sink::Asked;

/// Where an answer goes.
pub(crate) type Reply = oneshot::Sender<Result<(), Error>>;

/// What is asked.
pub(crate) enum Message<A> {
    /// For the sink.
    Sink(A, Reply),
    /// Tries again at once whatever it stands still for.
    Retry(Reply),
    /// Forgets what is kept between runs, and begins anew.
    ForgetState(Reply),
    /// Ends.
    Close,
}

impl<A: Asked> Message<A> {
    /// Whether it can only be done while there is a connection.
    fn waits(&self) -> bool {
        matches!(self, Self::Sink(asked, _) if asked.needs_connection())
    }
}

/// Messages to one replicator.
pub(crate) struct Mailbox<A>(Mutex<Inbox<A>>);

struct Inbox<A> {
    messages: VecDeque<Message<A>>,
    waiting: Option<Waker>,
    /// Nobody reads any more.
    is_over: bool,
}

impl<A> Default for Mailbox<A> {
    fn default() -> Self {
        Self(Mutex::new(Inbox {
            messages: VecDeque::new(),
            waiting: None,
            is_over: false,
        }))
    }
}

impl<A: Asked> Mailbox<A> {
    /// Puts in `message`; where nobody reads any more it is dropped, and with it who is to be
    /// answered.
    pub(crate) fn send(&self, message: Message<A>) {
        let waker = {
            let mut inbox = self.0.lock();
            if inbox.is_over {
                return;
            }
            inbox.messages.push_back(message);
            inbox.waiting.take()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// Asks and waits for the answer; [`Error::Closed`] when nobody is there to give one.
    pub(crate) async fn ask(
        self: &Arc<Self>,
        message: impl FnOnce(Reply) -> Message<A>,
    ) -> Result<(), Error> {
        let (reply, answer) = oneshot::async_channel();
        self.send(message(reply));
        answer.await.unwrap_or(Err(Error::Closed))
    }

    pub(crate) fn poll(&self, cx: &mut Context<'_>) -> Poll<Message<A>> {
        let mut inbox = self.0.lock();
        match inbox.messages.pop_front() {
            Some(message) => Poll::Ready(message),
            None => {
                inbox.waiting = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }

    /// Takes out the first that need not wait for a connection.
    pub(crate) fn poll_urgent(&self, cx: &mut Context<'_>) -> Poll<Message<A>> {
        let mut inbox = self.0.lock();
        let urgent = inbox.messages.iter().position(|message| !message.waits());
        match urgent.and_then(|at| inbox.messages.remove(at)) {
            Some(message) => Poll::Ready(message),
            None => {
                inbox.waiting = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }

    /// Takes out who asked that it tries again.
    pub(crate) fn take_retry(&self) -> Option<Reply> {
        let mut inbox = self.0.lock();
        let is_retry = |message: &Message<A>| matches!(message, Message::Retry(_));
        let at = inbox.messages.iter().position(is_retry)?;
        match inbox.messages.remove(at) {
            Some(Message::Retry(reply)) => Some(reply),
            _ => None,
        }
    }

    /// Ready when it is told to end.
    pub(crate) fn poll_close(&self, cx: &mut Context<'_>) -> Poll<()> {
        let mut inbox = self.0.lock();
        let closes = |message: &Message<A>| matches!(message, Message::Close);
        if inbox.messages.iter().any(closes) {
            return Poll::Ready(());
        }
        inbox.waiting = Some(cx.waker().clone());
        Poll::Pending
    }

    /// Drops what is not read, and what is yet to come.
    pub(crate) fn close(&self) {
        let left = {
            let mut inbox = self.0.lock();
            inbox.is_over = true;
            std::mem::take(&mut inbox.messages)
        };
        drop(left);
    }
}
