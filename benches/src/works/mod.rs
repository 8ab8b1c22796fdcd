//! The works, one file each.

mod i1;
mod r1;
mod r2;
mod w1;
mod w2;
mod w3;
mod w4;

use std::fmt;
use std::str::FromStr;
use std::time::Instant;

use serde::{Deserialize, Serialize};

use crate::contenders::Contender;
use crate::facts;
use crate::options::Options;
use crate::{Failure, Outcome};

/// What is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Work {
    /// One client, one event an append.
    W1,
    /// Many clients, one event an append.
    W2,
    /// The bank account example's import, many commands at once.
    I1,
    /// Batches over many streams.
    W3,
    /// Batches of new streams.
    W4,
    /// Scan of everything W3 wrote.
    R1,
    /// Load of every stream W3 wrote.
    R2,
}

/// How long a work took.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Timing {
    /// Events appended or read, or streams loaded.
    pub count: u64,
    /// Until the last was acknowledged or read.
    pub seconds: f64,
    /// Processor time of all threads, background work included: holds on a busy machine too.
    pub cpu_seconds: f64,
    /// Until nothing was left to do in the background, for writers.
    pub drained_seconds: Option<f64>,
}

/// Takes the time of a work.
pub(crate) struct Stopwatch {
    start: Instant,
    cpu: f64,
}

impl Stopwatch {
    /// Begins now.
    pub(crate) fn start() -> Self {
        Self {
            cpu: facts::cpu_seconds(),
            start: Instant::now(),
        }
    }

    /// Since it began.
    pub(crate) fn seconds(&self) -> f64 {
        self.start.elapsed().as_secs_f64()
    }

    /// What `count` of a work took, when nothing goes on in the background.
    pub(crate) fn stop(&self, count: u64) -> Timing {
        Timing {
            count,
            seconds: self.seconds(),
            cpu_seconds: facts::cpu_seconds() - self.cpu,
            drained_seconds: None,
        }
    }
}

impl Work {
    /// All, in the order they run.
    pub const ALL: [Self; 7] = [
        Self::W1,
        Self::W2,
        Self::I1,
        Self::W3,
        Self::W4,
        Self::R1,
        Self::R2,
    ];

    /// Whether it runs for every kind of payload, not for the first alone.
    pub const fn is_about_payloads(self) -> bool {
        matches!(self, Self::W2 | Self::W3 | Self::R1)
    }

    /// What one count of it is.
    pub const fn unit(self) -> &'static str {
        match self {
            Self::R2 => "streams/s",
            _ => "events/s",
        }
    }

    /// What it is, with its sizes.
    pub fn describe(self, options: &Options) -> String {
        let (streams, w3) = (
            options.streams.unwrap_or_default(),
            options.w3_events.unwrap_or_default(),
        );
        match self {
            Self::W1 => format!(
                "1 client, 1 event an append, expected version checked; {} events",
                options.w1_events.unwrap_or_default()
            ),
            Self::W2 => format!(
                "{} concurrent clients, 1 event an append, expected version checked; {} events",
                options.clients,
                options.w2_events.unwrap_or_default()
            ),
            Self::I1 => format!(
                "the bank account example's import of CDNOW_master.txt: each purchase a command that \
                 loads its account, decides, and appends durably by itself; counted in events recorded, \
                 of their own sizes; set beside W2 of the peers, with up to 512 commands under \
                 way against W2's {} clients: the more under way, the more share a sync",
                options.clients
            ),
            Self::W3 => format!(
                "{w3} events in batches of {} over {streams} streams, round robin",
                options.batch
            ),
            Self::W4 => format!(
                "{} events in batches of {}, each the first of a new stream, expected not to be there; \
                 names made on the fly",
                options.w4_events.unwrap_or_default(),
                options.batch
            ),
            Self::R1 => "scan of all that W3 wrote, in a new process, page cache warm".into(),
            Self::R2 => format!(
                "load of each of W3's {streams} streams of {} events, shuffled, in a new process, page cache warm",
                w3.checked_div(streams).unwrap_or_default()
            ),
        }
    }

    /// How many streams it names.
    pub fn streams(self, options: &Options) -> Outcome<usize> {
        Ok(match self {
            Self::W1 => options.first_stream + options.streams_a_client,
            Self::W2 => {
                let clients = usize::try_from(options.clients)?;
                options.first_stream + options.streams_a_client * clients
            }
            // The ledger names its own; as many new streams are named on the fly, so that held
            // names do not count as the contender's memory.
            Self::I1 | Self::W4 => 0,
            Self::R2 => usize::try_from(options.loads())?,
            Self::W3 | Self::R1 => {
                options.first_stream + usize::try_from(options.streams.unwrap_or_default())?
            }
        })
    }

    /// Does it.
    pub fn run(self, contender: &mut dyn Contender, options: &Options) -> Outcome<Timing> {
        match self {
            Self::W1 => w1::run(contender, options),
            Self::W2 => w2::run(contender, options),
            Self::I1 => i1::run(contender, options),
            Self::W3 => w3::run(contender, options),
            Self::W4 => w4::run(contender, options),
            Self::R1 => r1::run(contender, options),
            Self::R2 => r2::run(contender, options),
        }
    }
}

impl fmt::Display for Work {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self:?}")
    }
}

impl FromStr for Work {
    type Err = Failure;

    fn from_str(text: &str) -> Result<Self, Failure> {
        let mut all = Self::ALL.into_iter();
        all.find(|work| work.to_string() == text)
            .ok_or_else(|| format!("no work {text:?}").into())
    }
}
