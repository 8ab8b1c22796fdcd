//! What is between clients and the server, and time.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use parking_lot::Mutex;
use tidelog_backends::fake::{Chance, FakeServer};
use tidelog_backends::wire::{ErrorClass, Reply, Request, Wire, WireError};
use tidelog_core::{BoxFuture, Sleeper};

use crate::random::Random;

type Answer = Result<Reply, WireError>;

/// A network and a server; a handle. Nothing moves but by [`step`](Self::step).
#[derive(Clone)]
pub struct Network(Arc<Mutex<State>>);

struct State {
    server: FakeServer,
    random: Random,
    /// Asked and not executed.
    asked: Vec<(u64, Request)>,
    /// Executed and not answered.
    replies: Vec<(u64, Answer)>,
    /// Copies that nobody waits for any more.
    late: Vec<Request>,
    answered: Vec<(u64, Answer)>,
    sleepers: Vec<u64>,
    awake: Vec<u64>,
    next: u64,
    is_faulty: bool,
}

impl Network {
    pub fn new(server: FakeServer, random: Random, is_faulty: bool) -> Self {
        Self(Arc::new(Mutex::new(State {
            server,
            random,
            asked: Vec::new(),
            replies: Vec::new(),
            late: Vec::new(),
            answered: Vec::new(),
            sleepers: Vec::new(),
            awake: Vec::new(),
            next: 0,
            is_faulty,
        })))
    }

    /// From now on everything arrives, once.
    pub fn heal(&self) {
        self.0.lock().is_faulty = false;
    }

    pub fn with_server<T>(&self, work: impl FnOnce(&mut FakeServer) -> T) -> T {
        work(&mut self.0.lock().server)
    }

    /// Moves one thing; what it was, or `None` when there is nothing to move.
    pub fn step(&self) -> Option<String> {
        self.0.lock().step()
    }
}

impl State {
    fn step(&mut self) -> Option<String> {
        let moves = self.asked.len() + self.replies.len() + self.late.len();
        if moves == 0 || self.random.percent(3) {
            return self.wake();
        }
        let mut at = self.random.below(moves as u64) as usize;
        if at < self.asked.len() {
            let (id, request) = self.asked.remove(at);
            return Some(self.arrive(id, request));
        }
        at -= self.asked.len();
        if at < self.replies.len() {
            let (id, answer) = self.replies.remove(at);
            let lost = self.is_faulty && self.random.percent(8);
            self.answered
                .push((id, if lost { unclear() } else { answer }));
            return Some(format!(
                "{id} answered{}",
                if lost { " (lost)" } else { "" }
            ));
        }
        let request = self.late.remove(at - self.replies.len());
        let reply = self.execute(&request);
        Some(format!("late {}: {reply:?}", request.name()))
    }

    fn wake(&mut self) -> Option<String> {
        if self.sleepers.is_empty() {
            return None;
        }
        // Whichever: how long pauses are must not matter.
        let at = self.random.below(self.sleepers.len() as u64) as usize;
        let id = self.sleepers.remove(at);
        self.awake.push(id);
        Some(format!("{id} wakes"))
    }

    fn arrive(&mut self, id: u64, request: Request) -> String {
        let name = request.name();
        let fault = if self.is_faulty {
            self.random.below(24)
        } else {
            u64::MAX
        };
        match fault {
            0 => {
                self.answered.push((id, unclear()));
                format!("{id} {name} lost")
            }
            1 => {
                self.answered.push((id, not_sent()));
                format!("{id} {name} not sent")
            }
            2 => {
                self.late.push(request);
                self.answered.push((id, unclear()));
                format!("{id} {name} late")
            }
            3 => {
                self.late.push(request.clone());
                let answer = self.execute(&request);
                self.replies.push((id, answer));
                format!("{id} {name} executed, and comes again")
            }
            4 => {
                let random = self.random.clone();
                self.server.propose(&request, &mut |_| random.percent(50));
                self.answered.push((id, unclear()));
                format!("{id} {name} proposed")
            }
            _ => {
                let answer = self.execute(&request);
                let said = format!("{id} {name} executed: {answer:?}");
                self.replies.push((id, answer));
                said
            }
        }
    }

    fn execute(&mut self, request: &Request) -> Answer {
        let random = self.random.clone();
        self.server.execute(request, &mut |chance| match chance {
            Chance::Finish => random.percent(50),
            Chance::Behind => random.percent(30),
        })
    }
}

fn unclear() -> Answer {
    Err(WireError {
        class: ErrorClass::Unclear,
        text: "no answer came in time".into(),
    })
}

fn not_sent() -> Answer {
    Err(WireError {
        class: ErrorClass::NotSent,
        text: "no connection".into(),
    })
}

impl Wire for Network {
    fn ask(&self, request: Request) -> BoxFuture<'_, Answer> {
        Box::pin(Asking {
            network: self.clone(),
            request: Some(request),
            id: 0,
        })
    }

    fn renew(&self) -> BoxFuture<'_, Result<(), WireError>> {
        Box::pin(async { Ok(()) })
    }
}

struct Asking {
    network: Network,
    request: Option<Request>,
    id: u64,
}

impl Future for Asking {
    type Output = Answer;

    fn poll(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Answer> {
        let network = self.network.clone();
        let mut state = network.0.lock();
        if let Some(request) = self.request.take() {
            state.next += 1;
            self.id = state.next;
            let id = self.id;
            state.asked.push((id, request));
            return Poll::Pending;
        }
        let found = state.answered.iter().position(|(id, _)| *id == self.id);
        match found {
            Some(at) => Poll::Ready(state.answered.remove(at).1),
            None => Poll::Pending,
        }
    }
}

impl Sleeper for Network {
    fn sleep(&self, _: Duration) -> BoxFuture<'static, ()> {
        let network = self.clone();
        let mut id = None;
        Box::pin(std::future::poll_fn(move |_| {
            let mut state = network.0.lock();
            let Some(id) = id else {
                state.next += 1;
                let next = state.next;
                id = Some(next);
                state.sleepers.push(next);
                return Poll::Pending;
            };
            match state.awake.iter().position(|awake| *awake == id) {
                Some(at) => {
                    state.awake.remove(at);
                    Poll::Ready(())
                }
                None => Poll::Pending,
            }
        }))
    }
}
