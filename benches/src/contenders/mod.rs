//! Who takes part, and what it must be able to do.

mod raw_file;
mod tephra;
mod tidelog;

use std::fmt;
use std::path::Path;
use std::str::FromStr;
use std::thread;

use tokio::task::JoinHandle;

use crate::load::{Append, Client, Seen};
use crate::works::Work;
use crate::{Failure, Outcome};

/// What a contender can do; each adapter does it in its engine's own best documented way, and
/// says beside it what is not alike.
pub trait Contender {
    /// Runs all clients at once; each waits for the acknowledgement of one append before the next,
    /// and an append fails when its stream is not where it is expected.
    fn clients(&mut self, clients: Vec<Client>) -> Outcome<()>;

    /// Appends a batch over many streams, each named once, all or nothing where the engine can,
    /// with every stream's version checked.
    fn append_batch(&mut self, batch: &[Append<'_>]) -> Outcome<()>;

    /// Imports a ledger into the bank account example; answers how many events that recorded.
    fn import(&mut self, _purchases: &Path) -> Outcome<u64> {
        Err("the bank account stands on tidelog alone".into())
    }

    /// Waits until nothing is left to do in the background.
    fn drain(&mut self) -> Outcome<()>;

    /// Reads everything in order.
    fn scan(&mut self) -> Outcome<Seen>;

    /// Reads one whole stream.
    fn load(&mut self, stream: usize) -> Outcome<Seen>;

    /// Closes the store.
    fn close(self: Box<Self>) -> Outcome<()>;
}

/// Serves each client on a thread of its own; a lone one on this thread.
fn on_threads(clients: &[Client], serve: impl Fn(&Client) -> Outcome<()> + Sync) -> Outcome<()> {
    if let [client] = clients {
        return serve(client);
    }
    thread::scope(|scope| {
        let serve = &serve;
        let threads: Vec<_> = clients
            .iter()
            .map(|client| scope.spawn(move || serve(client)))
            .collect();
        for thread in threads {
            thread.join().map_err(|_| "a client's thread panicked")??;
        }
        Ok(())
    })
}

/// Waits for all tasks; the first failure counts.
async fn all(tasks: Vec<JoinHandle<Outcome<()>>>) -> Outcome<()> {
    for task in tasks {
        task.await??;
    }
    Ok(())
}

/// Name of stream number `stream`: its aggregate's id.
fn stream_name(stream: usize) -> String {
    format!("acc-{stream:06}")
}

/// The aggregate type, and the event type, of everything appended.
const AGGREGATE: &str = "BankAccount";
const EVENT: &str = "Deposited";

/// The contenders.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// tidelog's sled store, from threads.
    Tidelog,
    /// tidelog's sled store, from tokio tasks.
    TidelogAsync,
    /// A growing file: append, then `fdatasync`.
    Raw,
    /// tephra.
    Tephra,
}

impl Kind {
    /// All, in the order of the tables.
    pub const ALL: [Self; 4] = [Self::Tidelog, Self::TidelogAsync, Self::Raw, Self::Tephra];

    /// Opens the store in `dir`, for streams numbered below `streams`.
    pub fn open(self, dir: &Path, streams: usize) -> Outcome<Box<dyn Contender>> {
        Ok(match self {
            Self::Tidelog => Box::new(tidelog::Tidelog::open(dir, streams, false)?),
            Self::TidelogAsync => Box::new(tidelog::Tidelog::open(dir, streams, true)?),
            Self::Raw => Box::new(raw_file::RawFile::open(dir)?),
            Self::Tephra => Box::new(tephra::Tephra::open(dir, streams)?),
        })
    }

    /// Whether it takes part in `work`.
    pub fn does(self, work: Work) -> bool {
        match self {
            Self::Tidelog | Self::Tephra => work != Work::I1,
            Self::TidelogAsync => matches!(work, Work::W1 | Work::W2 | Work::I1),
            Self::Raw => !matches!(work, Work::I1 | Work::R2),
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tidelog => "tidelog",
            Self::TidelogAsync => "tidelog-async",
            Self::Raw => "raw",
            Self::Tephra => "tephra",
        })
    }
}

impl FromStr for Kind {
    type Err = Failure;

    fn from_str(text: &str) -> Result<Self, Failure> {
        let mut all = Self::ALL.into_iter();
        all.find(|kind| kind.to_string() == text)
            .ok_or_else(|| format!("no contender {text:?}").into())
    }
}
