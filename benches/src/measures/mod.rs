//! What is measured of tidelog alone, beside its own works and bare syncs.
//!
//! The parent's side stands in `rounds.rs` and `large.rs`; each step of it runs in a process of its
//! own, one file a step.

mod direct;
mod found;
#[cfg(feature = "kafka")]
mod heard;
mod idle;
mod killed;
mod large;
mod limited;
#[cfg(feature = "kafka")]
mod publish;
mod published;
mod r3;
mod replicate;
mod rounds;
mod store;
mod t1;
mod t1_bare;
mod x1;

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

pub use found::{Found, Unit};
pub use large::{LONG, Large, SMALLER};
pub use published::published;
pub use replicate::replicated;
pub use rounds::{after_clients, apart, beside_peers, on_store, peak_memory, wear};

use crate::options::Options;
use crate::{Failure, Outcome};

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Measure {
    /// Loads of long aggregates, with a snapshot and without.
    R3,
    /// Commands at many accounts.
    X1,
    /// From append to delivery.
    T1,
    /// Opening a store that was closed, and one that was killed.
    Open,
    /// Bytes written with segments that are holes; those of the works are noted in any case.
    Wear,
    /// A store that nobody uses.
    Idle,
    /// The index made again from the log.
    Rebuild,
    /// What replication costs appends, and how fast it catches up.
    Replicate,
    /// Appends directly on a server.
    Direct,
    /// How fast a log is published, and how long an append takes to a consumer.
    Publish,
}

impl Measure {
    /// All of them.
    pub const ALL: [Self; 10] = [
        Self::R3,
        Self::X1,
        Self::T1,
        Self::Open,
        Self::Wear,
        Self::Idle,
        Self::Rebuild,
        Self::Replicate,
        Self::Direct,
        Self::Publish,
    ];

    /// What it is, with its sizes.
    pub fn describe(self, options: &Options) -> String {
        match self {
            Self::R3 => format!(
                "load of each of {} accounts of 1,000 events in a new process without a cache of states, page \
                 cache warm: with a snapshot and 10 newer events, and without one",
                options.r3_aggregates.unwrap_or_default()
            ),
            Self::X1 => format!(
                "{} deposits executed by {} tasks on {} accounts, default options; set beside W2 of \
                 tidelog async, whose events are larger",
                options.x1_commands.unwrap_or_default(),
                options.clients,
                options.accounts.unwrap_or_default()
            ),
            Self::T1 => format!(
                "from the call of an append to the event in a subscriber's hands: {} appends one at a \
                 time, then by the clock at half the rate of W2 for {} ms, no append waiting for \
                 another. Bare sync: write and `fdatasync` of as many bytes on a file filled with zeros, \
                 in turn with it and at the same pace; under load all that became due in one write",
                options.t1_appends.unwrap_or_default(),
                options.t1_millis.unwrap_or_default()
            ),
            Self::Open => {
                "opening what W3 wrote, in a new process, page cache warm: closed, and after a \
                 process was killed in the middle of W3 on new streams of the same store"
                    .into()
            }
            Self::Wear => {
                "W1, W2 and W3 of tidelog with segments that are holes instead of zeros written \
                 ahead"
                    .into()
            }
            Self::Idle => format!(
                "what W3 wrote, opened, appended to, and left alone for {} s with a subscription waiting; \
                 once a run",
                options.idle_seconds.unwrap_or_default()
            ),
            Self::Rebuild => "the index made again from the log".into(),
            Self::Replicate => format!(
                "W2 with replication switched on: to a port where nobody listens, to a server that takes \
                 connections and never answers, and to a server within the process that accepts all at once; each \
                 beside W2 without in the same round. Catching up with {} events in as many streams as said, to the \
                 server of TIDELOG_TEST_SCYLLA (its data in memory, on the same processors): beside the same rows of \
                 both tables as single prepared INSERTs of the driver, 256 in flight",
                options.replicated_events.unwrap_or_default()
            ),
            Self::Direct => "appends of one event of 256 bytes directly on the server of \
                 TIDELOG_TEST_SCYLLA (its data in memory, on the same processors), by 1 and by 64 clients on streams of \
                 their own, tasks of one thread; the same rows by bare conditional batches of the driver, which works on \
                 that thread, in turn. The store works there, too, as its configuration can say, or on a thread of its \
                 own, as it does by itself"
                .into(),
            Self::Publish => format!(
                "{} events of 256 bytes that wait in a log, or a part of them where streams are fewer, published to the \
                 broker of TIDELOG_TEST_KAFKA (its data in memory, on the same processors), 12 partitions, from the first \
                 message to the last: beside a bare producer of librdkafka with the same settings, which sends the same \
                 messages, made before, without order by stream; in turn. From append to consumer: 1,000 appends a second \
                 for 20 s. Heard: as many events of 10,000 streams, by a listener that counts them, and by a consumer that \
                 reads them; in turn",
                options.published_events.unwrap_or_default()
            ),
        }
    }

    /// Whether it is set beside W2 and needs it.
    pub fn needs_w2(self) -> bool {
        matches!(self, Self::X1 | Self::T1)
    }

    /// Whether it needs what W3 wrote.
    pub fn needs_w3(self) -> bool {
        matches!(self, Self::Open | Self::Idle | Self::Rebuild)
    }
}

/// What one process does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Writes the aggregates of R3, twice.
    R3Fill,
    /// Loads those with a snapshot.
    R3With,
    /// Loads those without.
    R3Without,
    /// Executes commands.
    X1,
    /// Appends one at a time, followed by a task.
    T1IdleAsync,
    /// Appends one at a time, followed by a thread.
    T1IdleBlocking,
    /// Appends at a rate, followed by a task.
    T1LoadAsync,
    /// Appends at a rate, followed by a thread.
    T1LoadBlocking,
    /// Opens and closes.
    Open,
    /// Opens, then watches its own threads.
    Idle,
    /// Makes the index again.
    Rebuild,
    /// Catches up with streams of 100 events.
    CatchUpDeep,
    /// Catches up with streams of one event.
    CatchUpWide,
    /// Appends directly on a server, and by the driver alone.
    Direct,
    /// Publishes 10,000 streams, and sends the same by a bare producer.
    Publish,
    /// The same of 1,000 streams.
    PublishThousand,
    /// The same of 100.
    PublishHundred,
    /// The same of a single one.
    PublishOne,
    /// The same of streams of one event.
    PublishWide,
    /// From append to consumer.
    PublishLatency,
    /// A listener hears a topic, and a bare consumer.
    Heard,
}

/// What a step found, by name.
pub type Figures = BTreeMap<String, f64>;

impl Step {
    const ALL: [Self; 21] = [
        Self::R3Fill,
        Self::R3With,
        Self::R3Without,
        Self::X1,
        Self::T1IdleAsync,
        Self::T1IdleBlocking,
        Self::T1LoadAsync,
        Self::T1LoadBlocking,
        Self::Open,
        Self::Idle,
        Self::Rebuild,
        Self::CatchUpDeep,
        Self::CatchUpWide,
        Self::Direct,
        Self::Publish,
        Self::PublishThousand,
        Self::PublishHundred,
        Self::PublishOne,
        Self::PublishWide,
        Self::PublishLatency,
        Self::Heard,
    ];

    /// Does it in this process and prints its figures.
    pub fn run(self, options: &Options) -> Outcome<()> {
        let figures = match self {
            Self::R3Fill => r3::fill(options)?,
            Self::R3With => r3::load(options, true)?,
            Self::R3Without => r3::load(options, false)?,
            Self::X1 => x1::run(options)?,
            Self::T1IdleAsync => t1::idle(options, t1::Face::Async)?,
            Self::T1IdleBlocking => t1::idle(options, t1::Face::Blocking)?,
            Self::T1LoadAsync => t1::load(options, t1::Face::Async)?,
            Self::T1LoadBlocking => t1::load(options, t1::Face::Blocking)?,
            Self::Open => store::open(options)?,
            Self::Idle => idle::run(options)?,
            Self::Rebuild => store::rebuild(options)?,
            Self::CatchUpDeep => replicate::catch_up(options, 100)?,
            Self::CatchUpWide => replicate::catch_up(options, 1)?,
            Self::Direct => direct::run(&direct::server()?)?,
            Self::Publish
            | Self::PublishThousand
            | Self::PublishHundred
            | Self::PublishOne
            | Self::PublishWide
            | Self::PublishLatency
            | Self::Heard => published::run(self, options)?,
        };
        println!("{}", serde_json::to_string(&figures)?);
        Ok(())
    }
}

/// Figures of these names.
fn figures<const N: usize>(all: [(&str, f64); N]) -> Figures {
    all.map(|(name, value)| (name.to_owned(), value)).into()
}

impl fmt::Display for Measure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self:?}")
    }
}

impl FromStr for Measure {
    type Err = Failure;

    fn from_str(text: &str) -> Result<Self, Failure> {
        let mut all = Self::ALL.into_iter();
        all.find(|measure| measure.to_string().eq_ignore_ascii_case(text))
            .ok_or_else(|| format!("no measure {text:?}").into())
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self:?}")
    }
}

impl FromStr for Step {
    type Err = Failure;

    fn from_str(text: &str) -> Result<Self, Failure> {
        let mut all = Self::ALL.into_iter();
        all.find(|step| step.to_string() == text)
            .ok_or_else(|| format!("no step {text:?}").into())
    }
}
