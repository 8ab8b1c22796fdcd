//! Group commit for engines that have none of their own: clients on tokio tasks hand their appends
//! to one writer, and everything that waits becomes one transaction.

use std::sync::mpsc;
use std::thread;

use tokio::runtime::Runtime;
use tokio::sync::oneshot;

use crate::load::{Append, Client};
use crate::{Failure, Outcome};

/// An engine that one thread writes to.
pub trait Grouped: Send {
    /// Makes all of `group` durable by one transaction; answers, for each append in order, why it
    /// was refused. An error is that of the transaction: nothing of it is there.
    fn append_group(&mut self, group: &[Append<'_>]) -> Outcome<Vec<Outcome<()>>>;
}

/// Serves `clients`: a lone one on this thread, each append a transaction; many on tokio tasks.
pub fn serve(engine: &mut impl Grouped, clients: Vec<Client>) -> Outcome<()> {
    if let [client] = &clients[..] {
        for append in client.appends() {
            for answer in engine.append_group(&[append])? {
                answer?;
            }
        }
        return Ok(());
    }
    let runtime = Runtime::new()?;
    let (sender, queue) = mpsc::channel::<Waiting>();
    thread::scope(|scope| {
        let writer = scope.spawn(move || write_groups(engine, &queue));
        let tasks: Vec<_> = clients
            .into_iter()
            .map(|client| {
                let sender = sender.clone();
                runtime.spawn(async move {
                    for append in client.appends() {
                        let (reply, answer) = oneshot::channel();
                        sender.send(Waiting::new(&append, reply))?;
                        answer.await??;
                    }
                    Outcome::Ok(())
                })
            })
            .collect();
        drop(sender);
        let served = runtime.block_on(super::all(tasks));
        let written = writer.join().map_err(|_| "the writer's thread panicked")?;
        // When the writer fails its clients do too, and say less about it.
        written.and(served)
    })
}

/// An append that waits for its group.
struct Waiting {
    stream: usize,
    expected: u64,
    payload: Vec<u8>,
    reply: oneshot::Sender<Result<(), Failure>>,
}

impl Waiting {
    fn new(append: &Append<'_>, reply: oneshot::Sender<Result<(), Failure>>) -> Self {
        Self {
            stream: append.stream,
            expected: append.expected,
            payload: append.payload.to_vec(),
            reply,
        }
    }

    fn append(&self) -> Append<'_> {
        Append {
            stream: self.stream,
            expected: self.expected,
            payload: &self.payload,
        }
    }
}

fn write_groups(engine: &mut impl Grouped, queue: &mpsc::Receiver<Waiting>) -> Outcome<()> {
    let mut group = Vec::new();
    while let Ok(first) = queue.recv() {
        group.push(first);
        group.extend(queue.try_iter());
        let appends: Vec<_> = group.iter().map(Waiting::append).collect();
        let answers = engine.append_group(&appends)?;
        for (waiting, answer) in group.drain(..).zip(answers) {
            // A client that is gone wants no answer.
            let _ = waiting.reply.send(answer);
        }
    }
    Ok(())
}
