//! Taking lines into a log.

use std::collections::HashMap;
use std::fmt;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;

use tidelog_core::cloudevents::{BatchPlace, LineEvent, read_line};
use tidelog_core::{
    AppendBatch, AppendOutcome, Durability, Error, ExpectedVersion, Limits, MultiStreamStore,
    NewEvent, StreamId,
};

use super::export::Progress;
use super::thread::Stopped;

/// Appends between two that are synced; the last one always is.
const SYNC_EVERY: u64 = 256;

/// What becomes of the sequences in a file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Sequences {
    /// They stay: each event stands at its sequence, or nothing is taken. Importing again is
    /// recognized for ever, so an import that was interrupted is simply begun again.
    #[default]
    Keep,
    /// Events are put behind what their streams hold: for selections, whose sequences have holes.
    /// Importing again is recognized while the events are among the newest of their stream, see
    /// [`Limits::retry_window`](tidelog_core::Limits::retry_window).
    Renumber,
}

/// How events are taken over.
///
/// ```
/// use tidelog::{ImportOptions, Sequences};
/// let options = ImportOptions::default().sequences(Sequences::Renumber);
/// ```
#[derive(Clone)]
pub struct ImportOptions {
    sequences: Sequences,
    max_line: usize,
    progress: Option<Progress>,
    stopped: Stopped,
}

impl Default for ImportOptions {
    fn default() -> Self {
        Self {
            sequences: Sequences::Keep,
            max_line: 128 << 20,
            progress: None,
            stopped: Stopped::default(),
        }
    }
}

impl ImportOptions {
    /// What becomes of sequences; [`Sequences::Keep`] unless set.
    pub fn sequences(mut self, sequences: Sequences) -> Self {
        self.sequences = sequences;
        self
    }

    pub(super) fn keeps_sequences(&self) -> bool {
        self.sequences == Sequences::Keep
    }

    /// Most bytes of a line, 128 MiB unless set. The store's own limits hold as ever.
    pub fn max_line(mut self, bytes: usize) -> Self {
        self.max_line = bytes;
        self
    }

    /// Called after each append with the number of events taken; `Break` ends the import with
    /// [`Error::Cancelled`].
    pub fn progress(
        mut self,
        callback: impl Fn(u64) -> ControlFlow<()> + Send + Sync + 'static,
    ) -> Self {
        self.progress = Some(Arc::new(callback));
        self
    }

    pub(super) fn stopped_by(mut self, stopped: Stopped) -> Self {
        self.stopped = stopped;
        self
    }

    fn report(&self, events: u64) -> Result<(), Error> {
        let told = self.progress.as_ref().map(|progress| progress(events));
        if self.stopped.is_set() || told.is_some_and(|told| told.is_break()) {
            return Err(Error::Cancelled { what: "an import" });
        }
        Ok(())
    }
}

impl fmt::Debug for ImportOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ImportOptions")
            .field("sequences", &self.sequences)
            .field("max_line", &self.max_line)
            .finish_non_exhaustive()
    }
}

/// What an import took.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ImportReport {
    /// Events that stand in the log now.
    pub events: u64,
    /// Appends that they were.
    pub batches: u64,
    /// Those of the events that stood there before.
    pub already: u64,
}

/// Why an import ended early. What was taken before is durable, and taken whole.
#[derive(Clone, Debug, thiserror::Error)]
#[error("line {line}: {error}")]
pub struct ImportError {
    /// The line, from 1; of an append of several, its first. 0: before the first one.
    pub line: u64,
    /// What was taken before.
    pub done: ImportReport,
    /// What was wrong: [`Error::InvalidInput`] or [`Error::TooLarge`] for a line that is no event,
    /// [`Error::WrongVersion`] where the log has another history, [`Error::IdConflict`],
    /// [`Error::Io`], and whatever else an append answers.
    #[source]
    pub error: Box<Error>,
}

impl From<Error> for ImportError {
    fn from(error: Error) -> Self {
        Self {
            line: 0,
            done: ImportReport::default(),
            error: Box::new(error),
        }
    }
}

/// Takes over the events that `from` has, a line each, in order. Blocks.
///
/// Events that were appended together are again: all of them or none. What is imported is on the
/// disk when this returns.
///
/// # Errors
/// [`ImportError`] with the line; nothing of the append that the line belongs to was taken.
pub fn import<S: MultiStreamStore>(
    from: impl BufRead,
    store: &S,
    options: &ImportOptions,
) -> Result<ImportReport, ImportError> {
    let mut importer = Importer {
        store,
        options,
        report: ImportReport::default(),
        whole: None,
        unsynced: None,
        failed: false,
    };
    importer
        .take_all(from)
        .map_err(|(line, error)| ImportError {
            line,
            done: importer.report,
            error: Box::new(error),
        })?;
    Ok(importer.report)
}

pub(super) fn from_file<S: MultiStreamStore>(
    path: &Path,
    store: &S,
    options: &ImportOptions,
) -> Result<ImportReport, ImportError> {
    let file = File::open(path).map_err(|error| Error::io("open", path, error))?;
    import(BufReader::with_capacity(1 << 16, file), store, options)
}

/// The events of one append, with the number of their first line.
struct Group {
    line: u64,
    events: Vec<LineEvent>,
    bytes: usize,
}

impl Group {
    /// What no store would take is not gathered first: the lines may never end.
    fn check(&self, count: u32, limits: &Limits) -> Result<(), Error> {
        if count as usize > limits.batch_events {
            let most = limits.batch_events;
            return Err(Error::too_large("batch (events)", count as usize, most));
        }
        if self.bytes > limits.batch_bytes {
            return Err(Error::too_large("batch", self.bytes, limits.batch_bytes));
        }
        Ok(())
    }
}

struct Importer<'a, S> {
    store: &'a S,
    options: &'a ImportOptions,
    report: ImportReport,
    /// Read and not appended: the last one is synced.
    whole: Option<Group>,
    /// Appended last, and not synced.
    unsynced: Option<Vec<AppendBatch>>,
    /// An append failed, or nothing more is wanted.
    failed: bool,
}

type Failed = (u64, Error);

impl<S: MultiStreamStore> Importer<'_, S> {
    fn take_all(&mut self, from: impl BufRead) -> Result<(), Failed> {
        let read = self.read(from);
        // Whatever ended it, what is whole is taken, and is on the disk.
        let last = match self.whole.take().filter(|_| !self.failed) {
            Some(group) => self.append(group, Durability::Power),
            None => Ok(()),
        };
        // Nothing is left to it unless the last one was not taken.
        let synced = self.sync();
        // Of several that failed the one before.
        last.and(synced).and(read)
    }

    /// Asking for the same again takes nothing, and answers when it is synced with all before it.
    fn sync(&mut self) -> Result<(), Failed> {
        let Some(mut parts) = self.unsynced.take() else {
            return Ok(());
        };
        for part in &mut parts {
            part.durability = Some(Durability::Power);
        }
        let synced = pollster::block_on(self.store.append_streams(parts));
        synced.map(drop).map_err(|error| (0, error))
    }

    fn read(&mut self, mut from: impl BufRead) -> Result<(), Failed> {
        let mut bytes = Vec::new();
        let mut number = 0;
        let limits = self.store.limits();
        let mut half: Option<Group> = None;
        loop {
            number += 1;
            let read = next_line(&mut from, self.options.max_line, &mut bytes);
            if !read.map_err(|error| (number, error))? {
                break;
            }
            if bytes.trim_ascii().is_empty() {
                continue;
            }
            let event = read_line(&bytes).map_err(|error| (number, error))?;
            let BatchPlace { index, count } = event.batch;
            let group = half.get_or_insert_with(|| Group {
                line: number,
                events: Vec::new(),
                bytes: 0,
            });
            let counted = group
                .events
                .first()
                .map_or(count, |first| first.batch.count);
            if (index as usize, count) != (group.events.len(), counted) {
                let value = format!("{index} of {count}");
                let reason = format!(
                    "event {} of {counted} of the append that begins in line {} comes next",
                    group.events.len(),
                    group.line
                );
                return Err((number, Error::invalid("batchindex", value, reason)));
            }
            let NewEvent {
                payload,
                metadata,
                tags,
                ..
            } = &event.event;
            group.bytes += payload.len() + metadata.size() + tags.size();
            group.events.push(event);
            group
                .check(count, &limits)
                .map_err(|error| (group.line, error))?;
            if group.events.len() == count as usize {
                let next = half.take();
                if let Some(before) = std::mem::replace(&mut self.whole, next) {
                    let sync = self.report.batches % SYNC_EVERY == SYNC_EVERY - 1;
                    let durability = if sync {
                        Durability::Power
                    } else {
                        Durability::Process
                    };
                    self.append(before, durability)?;
                }
            }
        }
        match half {
            None => Ok(()),
            Some(group) => {
                let count = group.events.first().map_or(0, |first| first.batch.count);
                let value = format!("{} of {count}", group.events.len());
                let reason = "the lines end within an append; its other events are missing";
                Err((group.line, Error::invalid("batchcount", value, reason)))
            }
        }
    }

    fn append(&mut self, group: Group, durability: Durability) -> Result<(), Failed> {
        let line = group.line;
        let done = self.try_append(group, durability);
        self.failed |= done.is_err();
        done.map_err(|error| (line, error))
    }

    fn try_append(&mut self, group: Group, durability: Durability) -> Result<(), Error> {
        let count = group.events.len() as u64;
        let parts = parts(group.events, self.options.sequences, durability)?;
        let unsynced = (durability == Durability::Process).then(|| parts.clone());
        let receipts = pollster::block_on(self.store.append_streams(parts))?;
        self.unsynced = unsynced;
        self.report.events += count;
        self.report.batches += 1;
        let stood = |outcome| outcome == AppendOutcome::AlreadyAppended;
        if receipts.iter().any(|receipt| stood(receipt.outcome)) {
            self.report.already += count;
        }
        self.options.report(self.report.events)
    }
}

/// One part a stream, in the order in which the streams come first.
fn parts(
    events: Vec<LineEvent>,
    sequences: Sequences,
    durability: Durability,
) -> Result<Vec<AppendBatch>, Error> {
    let mut parts: Vec<AppendBatch> = Vec::new();
    let mut places: HashMap<StreamId, usize> = HashMap::new();
    for event in events {
        let at = *places.entry(event.stream.clone()).or_insert(parts.len());
        let kept = event.sequence.filter(|_| sequences == Sequences::Keep);
        if at == parts.len() {
            // A sequence that was read is 1 or more.
            let expected = kept.map_or(ExpectedVersion::Any, |sequence| {
                ExpectedVersion::Exact(sequence.saturating_sub(1))
            });
            let part = AppendBatch::new(event.stream.clone(), expected, Vec::new());
            parts.push(part.with_durability(durability));
        }
        let Some(part) = parts.get_mut(at) else {
            continue;
        };
        let head = part.expected.implied_head();
        let taken = part.events.len() as u64;
        let next = head.map(|head| head.saturating_add(taken).saturating_add(1));
        if let (Some(next), Some(sequence)) = (next, kept)
            && next != sequence
        {
            let value = format!("{sequence} of {}", event.stream);
            let reason = format!(
                "{next} comes next; import a selection with Sequences::Renumber, which numbers anew"
            );
            return Err(Error::invalid("sequence", value, reason));
        }
        part.events.push(event.event);
    }
    Ok(parts)
}

/// The next line without its break; `false` at the end.
fn next_line(from: &mut impl BufRead, most: usize, line: &mut Vec<u8>) -> Result<bool, Error> {
    line.clear();
    let mut bounded = from.take((most as u64).saturating_add(1));
    let read = bounded.read_until(b'\n', line);
    let read = read.map_err(|error: io::Error| Error::io("read", "the import", error))?;
    if line.last() == Some(&b'\n') {
        line.pop();
    }
    if line.len() > most {
        return Err(Error::too_large("line", line.len(), most));
    }
    Ok(read > 0)
}
