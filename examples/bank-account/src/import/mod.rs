//! Imports a purchase log: each customer an account, each purchase a deposit.
//!
//! Every line is a command of its own, appended and made durable by itself; what makes it fast is
//! that many are under way at once and share the disk's work. Commands of one customer follow each
//! other, so that the account is opened before its first deposit.

mod line;
mod report;
mod source;

use std::collections::HashSet;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use indicatif::ProgressBar;
use tidelog::{CommandId, Context, Error, ExecuteError, Tidelog};
use tokio::sync::{Mutex, OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::task::JoinSet;
use tokio::time::Interval;

use crate::commands::{DepositForCds, OpenAccount, Refusal};

pub use line::{Purchase, is_header, parse};
pub use report::{Report, bytes_on_disk};
pub use source::{Line, Source};

/// Commands under way at once.
const LANES: usize = 512;
/// Purchases read ahead, all lanes together: they bound the import's memory, and let the other lanes
/// go on while one has a customer of many purchases.
const READ_AHEAD: usize = 8_192;

/// Why an import stopped. What was imported until then stays; importing again goes on.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// The file cannot be read.
    #[error("cannot read {path}: {source}", path = path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
    /// A line is no purchase, and the import is strict.
    #[error("line {number}: {reason}; correct it, or import without --strict to pass it over")]
    BadLine {
        /// The line, from 1.
        number: u64,
        /// What is wrong with it.
        reason: String,
    },
    /// The store failed.
    #[error("line {number}: {source}")]
    Store {
        /// The line, from 1.
        number: u64,
        /// Its error.
        source: ExecuteError<Refusal>,
    },
    /// A part of the import ended without an answer.
    #[error("a part of the import was lost; import again: what is there already is passed over")]
    Lost,
}

/// What an import did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Imported {
    /// Accounts opened by it.
    pub opened: u64,
    /// Deposits made by it.
    pub deposited: u64,
    /// Purchases that an earlier import had deposited.
    pub already: u64,
    /// Purchases that the rules refused.
    pub refused: u64,
    /// Lines that are no purchase.
    pub bad: u64,
    /// How long it took.
    pub elapsed: Duration,
}

impl Imported {
    /// Events recorded in one second.
    #[allow(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss
    )]
    pub fn events_per_second(&self) -> u64 {
        let events = (self.opened + self.deposited) as f64;
        (events / self.elapsed.as_secs_f64().max(1e-6)).round() as u64
    }
}

/// Whose purchases are imported. Two banks that take half of the customers each have no account in
/// common.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Customers {
    /// Everybody's.
    #[default]
    All,
    /// Of customers with an odd number.
    Odd,
    /// Of those with an even one.
    Even,
}

impl Customers {
    fn are(self, purchase: &Purchase) -> bool {
        let last = purchase.customer.bytes().last().unwrap_or(b'0');
        match self {
            Self::All => true,
            Self::Odd => !last.is_multiple_of(2),
            Self::Even => last.is_multiple_of(2),
        }
    }
}

/// What of a file is imported, and how.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Selection {
    /// Whose purchases.
    pub customers: Customers,
    /// Whether to stop at the first bad line.
    pub strict: bool,
    /// Most purchases deposited in a second; as many as go, unless set.
    pub pace: Option<u32>,
}

/// Imports `file` into `bank`, for all customers and as fast as it goes.
///
/// # Errors
/// See [`ImportError`].
pub async fn import(
    bank: &Tidelog,
    file: &Path,
    strict: bool,
    progress: &ProgressBar,
) -> Result<Imported, ImportError> {
    let selection = Selection {
        strict,
        ..Selection::default()
    };
    import_of(bank, file, selection, progress).await
}

/// Imports a part of `file` into `bank`.
///
/// Command ids derive from the file's name and the line, so importing again records nothing again.
/// A bad line is reported on stderr and passed over, or ends the import when it is `strict`.
///
/// # Errors
/// See [`ImportError`].
pub async fn import_of(
    bank: &Tidelog,
    file: &Path,
    selection: Selection,
    progress: &ProgressBar,
) -> Result<Imported, ImportError> {
    let begun = Instant::now();
    let failed = |source| ImportError::File {
        path: file.into(),
        source,
    };
    let mut source = Source::open(file).map_err(failed)?;
    progress.set_length(source.lines);
    let name = file
        .file_name()
        .unwrap_or(file.as_os_str())
        .to_string_lossy();
    let shared = Arc::new(Shared {
        bank: bank.clone(),
        name: name.into_owned(),
        progress: progress.clone(),
        counts: Counts::default(),
        pace: selection.pace.map(|pace| {
            let each = Duration::from_secs(1) / pace.max(1);
            Mutex::new(tokio::time::interval(each))
        }),
    });
    let read_ahead = Arc::new(Semaphore::new(READ_AHEAD));
    let mut tasks = JoinSet::new();
    let mut lanes = Vec::with_capacity(LANES);
    for _ in 0..LANES {
        let (lane, purchases) = mpsc::unbounded_channel();
        lanes.push(lane);
        tasks.spawn(Arc::clone(&shared).work(purchases));
    }

    let mut stopped = None;
    while let Some(line) = source.next_line().map_err(failed)? {
        if line.number == 1 && is_header(&line.bytes) {
            progress.inc(1);
            continue;
        }
        let purchase = match parse(&line.bytes) {
            Ok(purchase) => purchase,
            Err(reason) if selection.strict => {
                stopped = Some(ImportError::BadLine {
                    number: line.number,
                    reason,
                });
                break;
            }
            Err(reason) => {
                shared.counts.bad.fetch_add(1, Ordering::Relaxed);
                progress.suspend(|| eprintln!("line {}: {reason}; passed over", line.number));
                progress.inc(1);
                continue;
            }
        };
        if !selection.customers.are(&purchase) {
            progress.inc(1);
            continue;
        }
        // The semaphore is never closed, so there is always a permit in the end.
        let permit = Arc::clone(&read_ahead).acquire_owned().await.ok();
        let waiting = Waiting {
            number: line.number,
            purchase,
            _permit: permit,
        };
        // A lane that takes nothing any more has failed: its task says why.
        let lane = lanes.get(lane_of(&waiting.purchase.customer));
        if lane.is_none_or(|lane| lane.send(waiting).is_err()) {
            break;
        }
    }
    drop(lanes);
    while let Some(task) = tasks.join_next().await {
        if let Err(error) = task.unwrap_or(Err(ImportError::Lost)) {
            stopped.get_or_insert(error);
        }
    }
    match stopped {
        Some(error) => Err(error),
        None => Ok(shared.counts.sum_up(begun.elapsed())),
    }
}

/// The lane of a customer: always the same one, so that its purchases follow each other.
fn lane_of(customer: &str) -> usize {
    let number = customer.bytes().fold(0_usize, |number, digit| {
        number.wrapping_mul(10).wrapping_add(usize::from(digit))
    });
    number % LANES
}

/// A purchase on its way through its lane.
struct Waiting {
    number: u64,
    purchase: Purchase,
    /// Room in what is read ahead, given back when the purchase is done.
    _permit: Option<OwnedSemaphorePermit>,
}

#[derive(Default)]
struct Counts {
    opened: AtomicU64,
    deposited: AtomicU64,
    already: AtomicU64,
    refused: AtomicU64,
    bad: AtomicU64,
}

impl Counts {
    fn sum_up(&self, elapsed: Duration) -> Imported {
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Imported {
            opened: count(&self.opened),
            deposited: count(&self.deposited),
            already: count(&self.already),
            refused: count(&self.refused),
            bad: count(&self.bad),
            elapsed,
        }
    }
}

struct Shared {
    bank: Tidelog,
    name: String,
    progress: ProgressBar,
    counts: Counts,
    /// Ticks once for every deposit that may be made.
    pace: Option<Mutex<Interval>>,
}

impl Shared {
    /// Executes the purchases of one lane, one after the other.
    async fn work(
        self: Arc<Self>,
        mut purchases: mpsc::UnboundedReceiver<Waiting>,
    ) -> Result<(), ImportError> {
        let mut met = HashSet::new();
        while let Some(waiting) = purchases.recv().await {
            let Waiting {
                number,
                purchase,
                _permit,
            } = waiting;
            let failed = |source| ImportError::Store { number, source };
            if !met.contains(&purchase.customer) {
                self.open(number, &purchase).await.map_err(failed)?;
                met.insert(purchase.customer.clone());
            }
            self.deposit(number, purchase).await.map_err(failed)?;
            self.progress.inc(1);
        }
        Ok(())
    }

    /// Opens the account of a customer met for the first time.
    async fn open(&self, number: u64, purchase: &Purchase) -> Result<(), ExecuteError<Refusal>> {
        let context = context(format!("{}:{number}:open", self.name), purchase)?;
        let command = OpenAccount {
            account_id: Some(purchase.customer.clone()),
            holder: format!("CDNOW customer {}", purchase.customer),
        };
        match self.bank.execute_with(command, context).await {
            Ok(response) => {
                if !response.already_executed {
                    self.counts.opened.fetch_add(1, Ordering::Relaxed);
                }
                Ok(())
            }
            // Somebody has opened it by other means. If it is closed, each deposit is refused.
            Err(ExecuteError::Rejected(_)) => Ok(()),
            Err(error) => Err(error),
        }
    }

    async fn deposit(&self, number: u64, purchase: Purchase) -> Result<(), ExecuteError<Refusal>> {
        let context = context(format!("{}:{number}", self.name), &purchase)?;
        let command = DepositForCds {
            account_id: purchase.customer,
            cents: purchase.cents,
            cds: purchase.cds.into(),
        };
        let counts = &self.counts;
        let done = self.bank.execute_with(command, context).await;
        let is_new = done
            .as_ref()
            .is_ok_and(|response| !response.already_executed);
        let counter = match done {
            Ok(response) if response.already_executed => &counts.already,
            Ok(_) => &counts.deposited,
            Err(ExecuteError::Rejected(_)) => &counts.refused,
            Err(error) => return Err(error),
        };
        counter.fetch_add(1, Ordering::Relaxed);
        // What was there already costs nothing.
        if let Some(pace) = self.pace.as_ref()
            && is_new
        {
            pace.lock().await.tick().await;
        }
        Ok(())
    }
}

/// What surrounds the commands of one purchase.
fn context(command_id: String, purchase: &Purchase) -> Result<Context, Error> {
    let command_id = CommandId::new(command_id)?;
    Ok(Context::new()
        .with_command_id(command_id)
        .with_event_time(purchase.date))
}
