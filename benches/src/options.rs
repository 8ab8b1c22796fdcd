//! The command line: what to run, how much of it, where.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use clap::Parser;

use crate::Failure;
use crate::contenders::Kind;
use crate::load::{PayloadKind, Payloads};
use crate::works::Work;

/// The ledger that stands beside the example that imports it.
const PURCHASES: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/../examples/bank-account/data/CDNOW_master.txt"
);

/// tidelog beside its peers: the same work, on the same disk, in the same run.
#[derive(Clone, Debug, Parser)]
pub struct Options {
    /// Small sizes and two rounds, for a look that takes about a minute; writes no results file.
    #[arg(long)]
    pub quick: bool,
    /// Rounds; each runs every contender once on every work.
    #[arg(long)]
    pub rounds: Option<usize>,
    /// Works to run; R1 and R2 read what W3 wrote and bring it along.
    #[arg(long, value_delimiter = ',', default_values_t = Work::ALL)]
    pub works: Vec<Work>,
    /// Contenders to run.
    #[arg(long, value_delimiter = ',', default_values_t = Kind::ALL)]
    pub contenders: Vec<Kind>,
    /// Seed of payloads and of the order in which streams are loaded.
    #[arg(long, default_value_t = 7)]
    pub seed: u64,
    /// Bytes of a payload, at least 8; of JSON at least 200.
    #[arg(long, default_value_t = 256)]
    pub payload: usize,
    /// What payloads are made of; the first runs all works, any other W2, W3 and R1 alone.
    #[arg(long, value_delimiter = ',', default_values_t = PayloadKind::ALL)]
    pub payload_kind: Vec<PayloadKind>,
    /// Events of W1.
    #[arg(long)]
    pub w1_events: Option<u64>,
    /// Events of W2, over all clients.
    #[arg(long)]
    pub w2_events: Option<u64>,
    /// Concurrent clients of W2.
    #[arg(long, default_value_t = 64)]
    pub clients: u64,
    /// Purchases that I1 imports, all of them at every size.
    #[arg(long, default_value = PURCHASES)]
    pub purchases: PathBuf,
    /// Events of W3.
    #[arg(long)]
    pub w3_events: Option<u64>,
    /// Events of one batch of W3; must divide its streams.
    #[arg(long, default_value_t = 1_000)]
    pub batch: u64,
    /// Streams of W3; must divide its events.
    #[arg(long)]
    pub streams: Option<u64>,
    /// Events of W4, each the first of a stream.
    #[arg(long)]
    pub w4_events: Option<u64>,
    /// Directory for the stores, on the disk to be measured; what was there before is removed.
    #[arg(long, default_value = "target/bench-data")]
    pub dir: PathBuf,
    /// Results file; `benches/results.md` unless `--quick`.
    #[arg(long)]
    pub out: Option<PathBuf>,
    /// Date that stands in the results; today unless given.
    #[arg(long)]
    pub date: Option<String>,
    /// One measurement, `WORK:CONTENDER`, in this process; prints it as JSON.
    #[arg(long, hide = true)]
    pub child: Option<Job>,
}

impl Options {
    /// The same with every size decided.
    pub fn settled(mut self) -> Self {
        let pick = |quick, full| if self.quick { quick } else { full };
        self.rounds.get_or_insert(if self.quick { 2 } else { 3 });
        self.w1_events.get_or_insert(pick(1_500, 6_000));
        self.w2_events.get_or_insert(pick(40_000, 250_000));
        self.w3_events.get_or_insert(pick(200_000, 1_000_000));
        self.streams.get_or_insert(pick(2_000, 10_000));
        self.w4_events.get_or_insert(pick(100_000, 1_000_000));
        self
    }

    /// The same for each kind of payload, with the works that it runs.
    pub fn by_payload(&self) -> Vec<(PayloadKind, Self)> {
        let mut all: Vec<_> = self
            .payload_kind
            .iter()
            .map(|kind| {
                let mut options = self.clone();
                options.payload_kind = vec![*kind];
                (*kind, options)
            })
            .collect();
        for (_, options) in all.iter_mut().skip(1) {
            options.works.retain(|work| work.is_about_payloads());
        }
        all
    }

    /// The payloads of this run.
    pub fn payloads(&self) -> Payloads {
        let kind = self.payload_kind.first().copied();
        Payloads::of(kind.unwrap_or(PayloadKind::Random), self.seed, self.payload)
    }

    /// Where the results are written, if they are.
    pub fn results_file(&self) -> Option<PathBuf> {
        let usual = (!self.quick).then(|| PathBuf::from("benches/results.md"));
        self.out.clone().or(usual)
    }

    /// The flags that give a child the same sizes.
    pub fn sizes(&self) -> Vec<String> {
        vec![
            format!("--seed={}", self.seed),
            format!("--payload={}", self.payload),
            format!(
                "--payload-kind={}",
                self.payload_kind.first().unwrap_or(&PayloadKind::Random)
            ),
            format!("--w4-events={}", self.w4_events.unwrap_or_default()),
            format!("--w1-events={}", self.w1_events.unwrap_or_default()),
            format!("--w2-events={}", self.w2_events.unwrap_or_default()),
            format!("--clients={}", self.clients),
            format!("--w3-events={}", self.w3_events.unwrap_or_default()),
            format!("--batch={}", self.batch),
            format!("--streams={}", self.streams.unwrap_or_default()),
        ]
    }
}

/// One measurement: a work done by a contender.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Job {
    /// What is done.
    pub work: Work,
    /// By whom.
    pub contender: Kind,
}

impl fmt::Display for Job {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.work, self.contender)
    }
}

impl FromStr for Job {
    type Err = Failure;

    fn from_str(text: &str) -> Result<Self, Failure> {
        let (work, contender) = text.split_once(':').ok_or("write it WORK:CONTENDER")?;
        Ok(Self {
            work: work.parse()?,
            contender: contender.parse()?,
        })
    }
}
