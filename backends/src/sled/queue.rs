//! Appends that wait for the writer.

use crossbeam_channel::{Receiver, Select, Sender, unbounded};

use std::sync::Arc;

use super::commit::Request;
use super::gate::ByteGate;

enum Message {
    Append(Box<Request>),
    Wake,
}

/// First come, first committed; bounded in bytes by its gate.
pub(crate) struct Queue {
    sender: Sender<Message>,
    receiver: Receiver<Message>,
    pub gate: Arc<ByteGate>,
}

impl Queue {
    pub(crate) fn new(bytes: usize) -> Self {
        let (sender, receiver) = unbounded();
        Self { sender, receiver, gate: ByteGate::new(bytes) }
    }

    pub(crate) fn push(&self, request: Request) {
        // The receiver stands beside it, so this cannot fail.
        let _ = self.sender.send(Message::Append(Box::new(request)));
    }

    /// Wakes whoever waits, with nothing to take.
    pub(crate) fn wake(&self) {
        let _ = self.sender.send(Message::Wake);
    }

    pub(crate) fn take(&self) -> Option<Request> {
        loop {
            match self.receiver.try_recv().ok()? {
                Message::Append(request) => return Some(*request),
                Message::Wake => {}
            }
        }
    }

    /// Waits until something is there, and takes nothing: it is taken under the commit lock, so
    /// that the order in the queue is the order in the log.
    pub(crate) fn wait(&self) {
        let mut select = Select::new();
        select.recv(&self.receiver);
        select.ready();
    }
}
