//! The server behind a wire that answers at once.

use std::sync::Arc;

use parking_lot::Mutex;
use tidelog_core::BoxFuture;

use super::super::request::{ErrorClass, Reply, Request, Wire, WireError};
use super::server::{Chance, FakeServer};

/// What becomes of one request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// It is executed and answered.
    None,
    /// It never leaves: [`ErrorClass::NotSent`].
    NotSent,
    /// It is lost on its way: unclear, and nothing happened.
    LostRequest,
    /// It is executed, its answer is lost: unclear.
    LostReply,
    /// A conditional write is accepted and not committed: unclear. Others are lost.
    Proposed,
    /// It is executed and answered, and a copy of it arrives when [`FakeWire::deliver_late`] is
    /// called.
    Twice,
    /// It is unclear, and arrives when [`FakeWire::deliver_late`] is called.
    Late,
    /// The server refuses it.
    Refused,
    /// No answer comes at all: the future never ends.
    Silence,
}

type Judge = dyn FnMut(&Request) -> Fault + Send;

/// A [`Wire`] to a [`FakeServer`] that several clients may share: everything happens at once, but
/// for the faults that are asked for.
#[derive(Clone)]
pub struct FakeWire {
    server: Arc<Mutex<FakeServer>>,
    faults: Arc<Mutex<Box<Judge>>>,
    late: Arc<Mutex<Vec<Request>>>,
    asked: Arc<Mutex<Vec<Request>>>,
}

impl FakeWire {
    /// A wire to `server`, without faults.
    pub fn new(server: FakeServer) -> Self {
        Self {
            server: Arc::new(Mutex::new(server)),
            faults: Arc::new(Mutex::new(Box::new(|_| Fault::None))),
            late: Arc::default(),
            asked: Arc::default(),
        }
    }

    /// Another client of the same server, with faults and late requests of its own.
    pub fn another(&self) -> Self {
        Self {
            server: self.server.clone(),
            faults: Arc::new(Mutex::new(Box::new(|_| Fault::None))),
            late: Arc::default(),
            asked: Arc::default(),
        }
    }

    /// Asks `judge` about every request from now on.
    pub fn set_faults(&self, judge: impl FnMut(&Request) -> Fault + Send + 'static) {
        *self.faults.lock() = Box::new(judge);
    }

    /// Works on the server itself.
    pub fn with_server<T>(&self, work: impl FnOnce(&mut FakeServer) -> T) -> T {
        work(&mut self.server.lock())
    }

    /// Executes what is late, in the order in which it was asked. Answers how many there were.
    pub fn deliver_late(&self) -> usize {
        let late = std::mem::take(&mut *self.late.lock());
        for request in &late {
            // Nobody waits for the answer.
            let _ = self.server.lock().execute(request, &mut sure);
        }
        late.len()
    }

    /// Everything that this client asked since it was called last.
    pub fn take_asked(&self) -> Vec<Request> {
        std::mem::take(&mut *self.asked.lock())
    }

    async fn answer(&self, request: Request) -> Result<Reply, WireError> {
        self.asked.lock().push(request.clone());
        let fault = (self.faults.lock())(&request);
        let execute = |request| self.server.lock().execute(request, &mut sure);
        match fault {
            Fault::None => execute(&request),
            Fault::NotSent => Err(error(ErrorClass::NotSent, "no connection")),
            Fault::LostRequest => Err(unclear()),
            Fault::LostReply => {
                let _ = execute(&request);
                Err(unclear())
            }
            Fault::Proposed => {
                self.server.lock().propose(&request, &mut sure);
                Err(unclear())
            }
            Fault::Twice => {
                self.late.lock().push(request.clone());
                execute(&request)
            }
            Fault::Late => {
                self.late.lock().push(request);
                Err(unclear())
            }
            Fault::Refused => Err(error(ErrorClass::Refused, "refused on purpose")),
            Fault::Silence => std::future::pending().await,
        }
    }
}

impl Wire for FakeWire {
    fn ask(&self, request: Request) -> BoxFuture<'_, Result<Reply, WireError>> {
        Box::pin(self.answer(request))
    }

    fn renew(&self) -> BoxFuture<'_, Result<(), WireError>> {
        Box::pin(async { Ok(()) })
    }
}

/// Nothing goes wrong by itself: rounds are finished, replicas are level.
fn sure(chance: Chance) -> bool {
    chance == Chance::Finish
}

fn unclear() -> WireError {
    error(ErrorClass::Unclear, "no answer came in time")
}

fn error(class: ErrorClass, text: &str) -> WireError {
    let text = text.into();
    WireError { class, text }
}
