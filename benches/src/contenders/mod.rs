//! Who takes part, and what it must be able to do.

mod fjall;
mod group;
mod leader;
mod raw_file;
mod redb;
mod sqlite;
mod tephra;
#[cfg(test)]
mod tests;
mod tidelog;

pub use tidelog::Tuning;

use std::borrow::Cow;
use std::fmt;
use std::path::Path;
use std::str::FromStr;
use std::sync::Arc;
use std::thread;

use tokio::task::JoinHandle;
use uuid::Uuid;

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

/// Name of stream number `stream` where a name is one string.
#[allow(clippy::unnecessary_wraps, reason = "others of its kind can fail")]
fn full_name(stream: usize) -> Outcome<String> {
    Ok(format!("{AGGREGATE}/{}", stream_name(stream)))
}

/// Names of streams in an engine's own type: held for those announced when it was opened, made on
/// the fly for any other.
#[derive(Clone)]
struct Names<T> {
    held: Arc<[T]>,
    make: fn(usize) -> Outcome<T>,
}

impl<T: Clone> Names<T> {
    fn new(streams: usize, make: fn(usize) -> Outcome<T>) -> Outcome<Self> {
        Ok(Self {
            held: (0..streams).map(make).collect::<Outcome<_>>()?,
            make,
        })
    }

    fn get(&self, stream: usize) -> Outcome<Cow<'_, T>> {
        Ok(match self.held.get(stream) {
            Some(name) => Cow::Borrowed(name),
            None => Cow::Owned((self.make)(stream)?),
        })
    }
}

/// A fresh event id, where the engine makes none.
#[allow(clippy::disallowed_methods, reason = "nothing here has to repeat")]
fn event_id() -> Uuid {
    Uuid::now_v7()
}

/// Why an append is refused, where the engine does not say.
fn refused(append: &Append<'_>) -> Failure {
    let Append {
        stream, expected, ..
    } = append;
    format!("stream {stream} is not at version {expected}").into()
}

/// The aggregate type, and the event type, of everything appended.
const AGGREGATE: &str = "BankAccount";
const EVENT: &str = "Deposited";

/// The peers and their versions, as the manifest has them.
const PEERS: [(&str, &str); 4] = [
    ("tephra", "0.4.1"),
    ("rusqlite", "0.43.0"),
    ("redb", "4.6.0"),
    ("fjall", "3.1.13"),
];

/// Says which versions of the peers are measured.
pub fn peers() -> String {
    let named = PEERS.map(|(name, version)| format!("{name} {version}"));
    format!("{}; SQLite {}", named.join(", "), rusqlite::version())
}

/// The contenders.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// tidelog's sled store, from threads.
    Tidelog,
    /// tidelog's sled store, from tokio tasks.
    TidelogAsync,
    /// A growing file: append, then `fdatasync`; many clients from tokio tasks.
    Raw,
    /// The same from threads.
    RawThreads,
    /// tephra; many clients from tokio tasks.
    Tephra,
    /// tephra; many clients from threads.
    TephraThreads,
    /// SQLite; many clients from tokio tasks, before one writer.
    Sqlite,
    /// redb; many clients from tokio tasks, before one writer.
    Redb,
    /// fjall; many clients from tokio tasks, before one writer.
    Fjall,
}

/// How clients wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Face {
    /// Each client on a thread of its own.
    Threads,
    /// Clients as tokio tasks.
    Async,
}

impl Kind {
    /// All, in the order of the tables.
    pub const ALL: [Self; 9] = [
        Self::Tidelog,
        Self::TidelogAsync,
        Self::Raw,
        Self::RawThreads,
        Self::Tephra,
        Self::TephraThreads,
        Self::Sqlite,
        Self::Redb,
        Self::Fjall,
    ];

    /// The engine behind it, one column of the tables.
    pub const fn engine(self) -> &'static str {
        match self {
            Self::Tidelog | Self::TidelogAsync => "tidelog",
            Self::Raw | Self::RawThreads => "raw file",
            Self::Tephra | Self::TephraThreads => "tephra",
            Self::Sqlite => "SQLite",
            Self::Redb => "redb",
            Self::Fjall => "fjall",
        }
    }

    /// Whether it takes part in every round: goals are about these, the others are slow.
    pub const fn in_every_round(self) -> bool {
        !matches!(self, Self::Sqlite | Self::Redb | Self::Fjall)
    }

    /// How its clients wait in `work`.
    pub fn face(self, work: Work) -> Face {
        match self {
            Self::Tidelog | Self::RawThreads | Self::TephraThreads => Face::Threads,
            Self::TidelogAsync => Face::Async,
            _ if work == Work::W2 => Face::Async,
            _ => Face::Threads,
        }
    }

    /// Opens the store in `dir`, for streams numbered below `streams`.
    pub fn open(self, dir: &Path, streams: usize) -> Outcome<Box<dyn Contender>> {
        Ok(match self {
            Self::Tidelog => Box::new(tidelog::Tidelog::open(dir, streams, false)?),
            Self::TidelogAsync => Box::new(tidelog::Tidelog::open(dir, streams, true)?),
            Self::Raw => Box::new(raw_file::RawFile::open(dir, true)?),
            Self::RawThreads => Box::new(raw_file::RawFile::open(dir, false)?),
            Self::Tephra => Box::new(tephra::Tephra::open(dir, streams, true)?),
            Self::TephraThreads => Box::new(tephra::Tephra::open(dir, streams, false)?),
            Self::Sqlite => Box::new(sqlite::Sqlite::open(dir, streams)?),
            Self::Redb => Box::new(redb::Redb::open(dir, streams)?),
            Self::Fjall => Box::new(fjall::Fjall::open(dir, streams)?),
        })
    }

    /// The same for one of tidelog's, with options other than the default ones.
    pub fn open_tuned(
        self,
        dir: &Path,
        streams: usize,
        tuning: &Tuning,
    ) -> Outcome<Box<dyn Contender>> {
        let on_tokio = match self {
            Self::Tidelog => false,
            Self::TidelogAsync => true,
            _ => return Err(format!("{self} has no such options").into()),
        };
        let tuned = tidelog::Tidelog::open_tuned(dir, streams, on_tokio, tuning)?;
        Ok(Box::new(tuned))
    }

    /// Whether it takes part in `work`.
    pub fn does(self, work: Work) -> bool {
        match self {
            Self::Tidelog | Self::Tephra | Self::Sqlite | Self::Redb | Self::Fjall => {
                work != Work::I1
            }
            Self::RawThreads | Self::TephraThreads => work == Work::W2,
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
            Self::RawThreads => "raw-threads",
            Self::Tephra => "tephra",
            Self::TephraThreads => "tephra-threads",
            Self::Sqlite => "sqlite",
            Self::Redb => "redb",
            Self::Fjall => "fjall",
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
