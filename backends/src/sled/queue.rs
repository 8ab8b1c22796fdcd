//! Appends that wait for the writer.

use std::sync::Arc;

use crossbeam_channel::{Receiver, Select, Sender, unbounded};
use parking_lot::Mutex;

use super::gate::ByteGate;
use super::request::Request;

/// First come, first committed; bounded in bytes by its gate.
pub(crate) struct Queue {
    sender: Sender<Box<Request>>,
    receiver: Receiver<Box<Request>>,
    /// Gone once the store is closed, which every waiter sees, however often it looks.
    running: Mutex<Option<Sender<()>>>,
    stopped: Receiver<()>,
    pub gate: Arc<ByteGate>,
}

impl Queue {
    pub(crate) fn new(bytes: usize) -> Self {
        let (sender, receiver) = unbounded();
        let (running, stopped) = unbounded();
        let running = Mutex::new(Some(running));
        Self {
            sender,
            receiver,
            running,
            stopped,
            gate: ByteGate::new(bytes),
        }
    }

    pub(crate) fn push(&self, request: Request) {
        // The receiver stands beside it, so this cannot fail.
        let _ = self.sender.send(Box::new(request));
    }

    pub(crate) fn take(&self) -> Option<Request> {
        self.receiver.try_recv().ok().map(|request| *request)
    }

    /// From now on nobody waits here.
    pub(crate) fn stop(&self) {
        self.running.lock().take();
    }

    /// Waits until something is there or the store is closed, and takes nothing: it is taken under
    /// the commit lock, so that the order in the queue is the order in the log.
    pub(crate) fn wait(&self) {
        let mut select = Select::new();
        select.recv(&self.receiver);
        select.recv(&self.stopped);
        select.ready();
    }
}
