//! Writing a log out.

use std::fmt;
use std::fs::OpenOptions;
use std::io::{self, Write};
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;

use tidelog_backends::LogReader;
use tidelog_core::cloudevents::{BatchPlace, write_line};
use tidelog_core::{
    BlockingEventStream, Error, EventEnvelope, EventLog, LogIdentity, LogQuery, RecordKind,
    StreamId, StreamQuery, Timestamp,
};

use super::thread::Stopped;

/// Bytes gathered before they are written.
const BUFFER: usize = 1 << 16;

/// Records looked at between two looks whether to go on.
const LOOKED: u64 = 4096;

/// Told how many events are done; may end the work.
pub(super) type Progress = Arc<dyn Fn(u64) -> ControlFlow<()> + Send + Sync>;

/// Which events are written; all of them unless narrowed. Each condition narrows further.
///
/// ```
/// use tidelog::ExportQuery;
/// let deposits = ExportQuery::all().aggregate_type("BankAccount").event_type("Deposited");
/// ```
#[derive(Clone)]
pub struct ExportQuery {
    from: u64,
    to: u64,
    aggregate_type: Option<Box<str>>,
    stream: Option<StreamId>,
    event_type: Option<Box<str>>,
    tag: Option<Box<str>>,
    since: Option<Timestamp>,
    until: Option<Timestamp>,
    progress: Option<Progress>,
    stopped: Stopped,
}

impl ExportQuery {
    /// Everything up to the newest event when the export begins.
    pub fn all() -> Self {
        Self {
            from: 1,
            to: u64::MAX,
            aggregate_type: None,
            stream: None,
            event_type: None,
            tag: None,
            since: None,
            until: None,
            progress: None,
            stopped: Stopped::default(),
        }
    }

    /// Only from this position on: one above [`ExportReport::last_position`] to go on after an
    /// earlier export.
    pub fn from(mut self, position: u64) -> Self {
        self.from = position;
        self
    }

    /// Only up to this position, itself included.
    pub fn to(mut self, position: u64) -> Self {
        self.to = position;
        self
    }

    /// Only aggregates of this type.
    pub fn aggregate_type(mut self, name: impl Into<Box<str>>) -> Self {
        self.aggregate_type = Some(name.into());
        self
    }

    /// Only this stream.
    pub fn stream(mut self, stream: StreamId) -> Self {
        self.stream = Some(stream);
        self
    }

    /// Only events of this type.
    pub fn event_type(mut self, name: impl Into<Box<str>>) -> Self {
        self.event_type = Some(name.into());
        self
    }

    /// Only events with this tag, `key:value`.
    pub fn tag(mut self, tag: impl Into<Box<str>>) -> Self {
        self.tag = Some(tag.into());
        self
    }

    /// Only events that happened then or later, by their own time.
    pub fn since(mut self, time: Timestamp) -> Self {
        self.since = Some(time);
        self
    }

    /// Only events that happened before then, by their own time.
    pub fn until(mut self, time: Timestamp) -> Self {
        self.until = Some(time);
        self
    }

    /// Called now and then with the number of events written; `Break` ends the export with
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

    fn selects(&self, event: &EventEnvelope) -> bool {
        let position = event.position.unwrap_or_default();
        // What a store says of itself is about that store alone.
        event.kind != RecordKind::Control
            && (self.from..=self.to).contains(&position)
            && is_or_any(self.aggregate_type.as_deref(), event.aggregate_type())
            && is_or_any(self.event_type.as_deref(), &event.event_type)
            && self.tag.as_ref().is_none_or(|tag| event.tags.contains(tag))
            && self.since.is_none_or(|since| event.event_time >= since)
            && self.until.is_none_or(|until| event.event_time < until)
    }

    fn read<S: EventLog>(&self, store: &S) -> BlockingEventStream {
        let events = match &self.stream {
            Some(stream) => store.read_stream(StreamQuery::new(stream.clone())),
            None => store.read_all(LogQuery::from(self.from).to(self.to)),
        };
        events.into_blocking()
    }

    fn report(&self, events: u64) -> Result<(), Error> {
        let told = self.progress.as_ref().map(|progress| progress(events));
        if self.stopped.is_set() || told.is_some_and(|told| told.is_break()) {
            return Err(Error::Cancelled { what: "an export" });
        }
        Ok(())
    }
}

fn is_or_any(wanted: Option<&str>, found: &str) -> bool {
    wanted.is_none_or(|wanted| wanted == found)
}

impl fmt::Debug for ExportQuery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ExportQuery")
            .field("from", &self.from)
            .field("to", &self.to)
            .field("aggregate_type", &self.aggregate_type)
            .field("stream", &self.stream)
            .field("event_type", &self.event_type)
            .field("tag", &self.tag)
            .field("since", &self.since)
            .field("until", &self.until)
            .finish_non_exhaustive()
    }
}

/// What an export wrote.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ExportReport {
    /// Events, a line each.
    pub events: u64,
    /// Appends that they are of.
    pub batches: u64,
    /// Bytes.
    pub bytes: u64,
    /// Everything up to this position was looked at.
    pub last_position: u64,
}

/// Writes what `query` selects to `out`, oldest first, a line an event. Blocks; events appended
/// meanwhile are left out.
///
/// Events of one append stand one after another and say so; of one that the selection cuts, those
/// that are left. An append is held in memory whole. Events that gave way to another origin's are left
/// out; of those that did so after an earlier export, that one still has them.
///
/// # Errors
/// [`Error::Io`] from `out`, [`Error::Gap`] where a repair has left events out: go on behind it by
/// [`ExportQuery::from`]; [`Error::Cancelled`], [`Error::Closed`]. Whole lines were written up to
/// there.
pub fn export<S: EventLog>(
    store: &S,
    query: &ExportQuery,
    out: impl Write,
) -> Result<ExportReport, Error> {
    let last = store.last_position();
    let mut lines = Lines {
        out,
        log: store.identity(),
        buffer: Vec::new(),
        batch: Vec::new(),
        report: ExportReport {
            last_position: last.min(query.to),
            ..ExportReport::default()
        },
    };
    // What has given way is not in its stream any more; importing it would put it back.
    let stands = |event: &EventEnvelope| store.superseded_at(event).is_none_or(|at| at > last);
    let done = lines.take_all(query, last, &stands, query.read(store));
    // What is whole is written whatever happened.
    lines.flush()?;
    done.map(|()| lines.report)
}

/// [`export`] of a log that is read without its store's lock, also beside whoever has that open: of what
/// survives a power cut, as [`LogReader`] knows it. Payloads are those of the log, so those of a store with a
/// [`PayloadCodec`](tidelog_core::PayloadCodec) are what that made, and are to be imported without it.
///
/// # Errors
/// As [`export`], and [`Error::Damaged`] where the log is.
pub fn export_log(
    log: &LogReader,
    query: &ExportQuery,
    out: impl Write,
) -> Result<ExportReport, Error> {
    let last = log.last_position();
    let mut lines = Lines {
        out,
        log: log.identity(),
        buffer: Vec::new(),
        batch: Vec::new(),
        report: ExportReport {
            last_position: last.min(query.to),
            ..ExportReport::default()
        },
    };
    let stands = |event: &EventEnvelope| log.superseded_at(event).is_none();
    let records = log.read(LogQuery::from(query.from).to(query.to));
    let of_stream = |event: &EventEnvelope| {
        let wanted = query.stream.as_ref();
        wanted.is_none_or(|stream| *stream == event.stream)
    };
    let records = records.filter(|read| read.as_ref().map_or(true, of_stream));
    let done = lines.take_all(query, last, &stands, records);
    lines.flush()?;
    done.map(|()| lines.report)
}

struct Lines<W> {
    out: W,
    log: LogIdentity,
    buffer: Vec<u8>,
    /// Events of one append.
    batch: Vec<EventEnvelope>,
    report: ExportReport,
}

impl<W: Write> Lines<W> {
    fn take_all(
        &mut self,
        query: &ExportQuery,
        last: u64,
        stands: &dyn Fn(&EventEnvelope) -> bool,
        events: impl Iterator<Item = Result<EventEnvelope, Error>>,
    ) -> Result<(), Error> {
        for (looked, event) in (1_u64..).zip(events) {
            let event = event?;
            // Also where nothing is selected for long.
            if looked.is_multiple_of(LOOKED) {
                query.report(self.report.events)?;
            }
            if event.position.is_some_and(|position| position > last) {
                break;
            }
            if !query.selects(&event) || !stands(&event) {
                continue;
            }
            let before = self.batch.last().map(|before| before.batch);
            if before.is_some_and(|before| before != event.batch) {
                self.end_batch()?;
                query.report(self.report.events)?;
            }
            self.batch.push(event);
        }
        self.end_batch()?;
        query.report(self.report.events)
    }

    fn end_batch(&mut self) -> Result<(), Error> {
        if self.batch.is_empty() {
            return Ok(());
        }
        // A batch counts its events in 32 bits.
        let count = u32::try_from(self.batch.len()).unwrap_or(u32::MAX);
        for (index, event) in (0..).zip(std::mem::take(&mut self.batch)) {
            let place = BatchPlace { index, count };
            write_line(&event, &self.log, place, &mut self.buffer);
        }
        self.report.events += u64::from(count);
        self.report.batches += 1;
        if self.buffer.len() >= BUFFER {
            self.write()?;
        }
        Ok(())
    }

    fn write(&mut self) -> Result<(), Error> {
        self.out.write_all(&self.buffer).map_err(failed)?;
        self.report.bytes += self.buffer.len() as u64;
        self.buffer.clear();
        Ok(())
    }

    fn flush(&mut self) -> Result<(), Error> {
        self.write()?;
        self.out.flush().map_err(failed)
    }
}

fn failed(error: io::Error) -> Error {
    Error::io("write", "the export", error)
}

pub(super) fn to_file<S: EventLog>(
    store: &S,
    query: &ExportQuery,
    path: &Path,
) -> Result<ExportReport, Error> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let file = options
        .open(path)
        .map_err(|error| Error::io("create", path, error))?;
    let report = export(store, query, &file)?;
    file.sync_all()
        .map_err(|error| Error::io("sync", path, error))?;
    // A new file is lost with its name.
    #[cfg(unix)]
    {
        let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty());
        let dir = dir.unwrap_or(Path::new("."));
        std::fs::File::open(dir)
            .and_then(|dir| dir.sync_all())
            .map_err(|error| Error::io("sync", dir, error))?;
    }
    Ok(report)
}
