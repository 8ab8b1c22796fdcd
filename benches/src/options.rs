//! The command line: what to run, how much of it, where.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use clap::Parser;

use crate::Failure;
use crate::contenders::{Kind, Tuning};
use crate::load::{PayloadKind, Payloads};
use crate::measures::{Measure, Step};
use crate::works::Work;

/// The ledger that stands beside the example that imports it.
const PURCHASES: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/../examples/bank-account/data/CDNOW_master.txt"
);

/// tidelog beside its peers: the same work, on the same disk, in the same run.
#[derive(Clone, Debug, Parser)]
#[allow(clippy::struct_excessive_bools, reason = "each is a flag")]
pub struct Options {
    /// Small sizes and two rounds, for a look that takes about two minutes; writes no results file.
    #[arg(long)]
    pub quick: bool,
    /// Rounds; each runs every contender once on every work.
    #[arg(long)]
    pub rounds: Option<usize>,
    /// Rounds in which SQLite, redb and fjall take part, the first ones.
    #[arg(long)]
    pub peer_rounds: Option<usize>,
    /// Rounds with payloads of JSON.
    #[arg(long)]
    pub json_rounds: Option<usize>,
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
    /// Measurements of tidelog alone.
    #[arg(long, value_delimiter = ',', default_values_t = Measure::ALL)]
    pub measures: Vec<Measure>,
    /// Commands of X1.
    #[arg(long)]
    pub x1_commands: Option<u64>,
    /// Accounts that X1 deposits to.
    #[arg(long)]
    pub accounts: Option<u64>,
    /// Aggregates of 1,000 events that R3 loads.
    #[arg(long)]
    pub r3_aggregates: Option<u64>,
    /// Appends of T1, one at a time.
    #[arg(long)]
    pub t1_appends: Option<u64>,
    /// Milliseconds that T1 appends at half the rate of W2.
    #[arg(long)]
    pub t1_millis: Option<u64>,
    /// Seconds for which an idle store is watched.
    #[arg(long)]
    pub idle_seconds: Option<u64>,
    /// Events that replication catches up with; a multiple of 100.
    #[arg(long)]
    pub replicated_events: Option<u64>,
    /// Events that are published in 10,000 streams; a multiple of 10,000.
    #[arg(long)]
    pub published_events: Option<u64>,
    /// Also the works at ten million events and at a million streams: 4 GB of disk.
    #[arg(long)]
    pub large: bool,
    /// Rounds of the large works.
    #[arg(long, default_value_t = 1)]
    pub large_rounds: usize,
    /// Events of the large works; a multiple of 1,000,000, at least 2,000,000.
    #[arg(long, default_value_t = 10_000_000)]
    pub large_events: u64,
    /// Seconds after which W3 or W4 of that size is ended.
    #[arg(long, default_value_t = 240)]
    pub large_seconds: u64,
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
    /// One step of a measurement of tidelog alone, in this process; prints its figures as JSON.
    #[arg(long, hide = true)]
    pub step: Option<Step>,
    /// Appends a second that T1 makes under load.
    #[arg(long, hide = true, default_value_t = 0.0)]
    pub rate: f64,
    /// Events that each stream has already.
    #[arg(long, hide = true, default_value_t = 0)]
    pub already: u64,
    /// Appends to each of W3's streams once before the clock starts, as whoever has run for a while.
    #[arg(long, hide = true)]
    pub warm_up: bool,
    /// Number of the first stream that is appended to.
    #[arg(long, hide = true, default_value_t = 0)]
    pub first_stream: usize,
    /// Streams of one client of W1 and W2.
    #[arg(long, hide = true, default_value_t = 16)]
    pub streams_a_client: usize,
    /// How many of the streams R2 loads, the first ones; all unless given.
    #[arg(long, hide = true)]
    pub r2_loads: Option<u64>,
    /// W3 and W4 print how many events are acknowledged, after each batch.
    #[arg(long, hide = true)]
    pub tell: bool,
    /// Memory budget of tidelog's store.
    #[arg(long, hide = true)]
    pub memory_budget: Option<usize>,
    /// tidelog's segments are holes, not zeros written ahead.
    #[arg(long, hide = true)]
    pub sparse: bool,
    /// tidelog replicates: to this node, or `accept` to one in the process that accepts all.
    #[arg(long, hide = true)]
    pub replicate: Option<String>,
}

impl Options {
    /// The same with every size decided.
    pub fn settled(mut self) -> Self {
        let pick = |quick, full| if self.quick { quick } else { full };
        self.rounds.get_or_insert(if self.quick { 2 } else { 5 });
        self.peer_rounds
            .get_or_insert(if self.quick { 1 } else { 3 });
        self.json_rounds
            .get_or_insert(if self.quick { 1 } else { 2 });
        self.w1_events.get_or_insert(pick(1_500, 6_000));
        self.w2_events.get_or_insert(pick(40_000, 250_000));
        self.w3_events.get_or_insert(pick(200_000, 1_000_000));
        self.streams.get_or_insert(pick(2_000, 10_000));
        self.w4_events.get_or_insert(pick(100_000, 1_000_000));
        self.x1_commands.get_or_insert(pick(20_000, 100_000));
        self.accounts.get_or_insert(pick(2_000, 10_000));
        self.r3_aggregates.get_or_insert(pick(20, 100));
        self.t1_appends.get_or_insert(pick(200, 2_000));
        self.t1_millis.get_or_insert(pick(500, 2_000));
        self.idle_seconds.get_or_insert(pick(5, 60));
        self.replicated_events.get_or_insert(pick(10_000, 100_000));
        self.published_events
            .get_or_insert(pick(100_000, 1_000_000));
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
        for (_, options) in &mut all {
            if !options.is_about_goals() {
                options.measures.clear();
                options.rounds = options.rounds.min(options.json_rounds);
            }
        }
        all
    }

    /// Whether goals are about what it measures: payloads that do not compress.
    pub fn is_about_goals(&self) -> bool {
        self.payload_kind.first() == Some(&PayloadKind::Random)
    }

    /// The payloads of this run.
    pub fn payloads(&self) -> Payloads {
        let kind = self.payload_kind.first().copied();
        Payloads::of(kind.unwrap_or(PayloadKind::Random), self.seed, self.payload)
    }

    /// How many streams R2 loads.
    pub fn loads(&self) -> u64 {
        let streams = self.streams.unwrap_or_default();
        self.r2_loads.unwrap_or(streams).min(streams)
    }

    /// The options of tidelog's store, when they are not the default ones.
    pub fn tuning(&self) -> Option<Tuning> {
        let tuned = self.sparse || self.memory_budget.is_some() || self.replicate.is_some();
        tuned.then(|| Tuning {
            memory_budget: self.memory_budget,
            sparse: self.sparse,
            replicate: self.replicate.clone(),
        })
    }

    /// Where the results are written, if they are.
    pub fn results_file(&self) -> Option<PathBuf> {
        let usual = (!self.quick).then(|| PathBuf::from("benches/results.md"));
        self.out.clone().or(usual)
    }

    /// The flags that give a child the same sizes.
    pub fn sizes(&self) -> Vec<String> {
        let mut flags = vec![
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
            format!("--x1-commands={}", self.x1_commands.unwrap_or_default()),
            format!("--accounts={}", self.accounts.unwrap_or_default()),
            format!("--r3-aggregates={}", self.r3_aggregates.unwrap_or_default()),
            format!("--t1-appends={}", self.t1_appends.unwrap_or_default()),
            format!("--t1-millis={}", self.t1_millis.unwrap_or_default()),
            format!("--idle-seconds={}", self.idle_seconds.unwrap_or_default()),
            format!(
                "--replicated-events={}",
                self.replicated_events.unwrap_or_default()
            ),
            format!(
                "--published-events={}",
                self.published_events.unwrap_or_default()
            ),
            format!("--rate={}", self.rate),
            format!("--already={}", self.already),
            format!("--first-stream={}", self.first_stream),
            format!("--streams-a-client={}", self.streams_a_client),
            format!("--r2-loads={}", self.loads()),
        ];
        if let Some(bytes) = self.memory_budget {
            flags.push(format!("--memory-budget={bytes}"));
        }
        flags.extend(self.replicate.iter().map(|to| format!("--replicate={to}")));
        flags.extend(self.warm_up.then(|| "--warm-up".into()));
        flags.extend(self.tell.then(|| "--tell".into()));
        flags.extend(self.sparse.then(|| "--sparse".into()));
        flags
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
