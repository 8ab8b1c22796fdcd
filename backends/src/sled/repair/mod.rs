//! Repair: a damaged store's whole commits, in a new directory, with all that is gone declared.
//!
//! Commits are copied as they stand, so their positions, chain hashes and bytes stay. Where some are
//! gone a new segment begins, whose header says where the one before it ends. A last commit begins a
//! new epoch and says what was lost.

mod source;
mod statement;
mod streams;
mod survey;
mod target;

use std::collections::{BTreeMap, HashSet};
use std::fs::File;
use std::path::Path;

use tidelog_core::{
    Clock, Error, EventId, IdSource, RecordKind, StreamId, Superseded, SystemClock, SystemIds,
    Timestamp,
};
use uuid::Uuid;

use self::source::{check_places, first_epoch, identity};
use self::statement::Gone;
use self::streams::{Asked, Streams, branch_of, named};
use self::survey::{Found, Stretch, Survey};
use self::target::Target;
use super::branches::Branches;
use super::control::{self, GapFields, HoleFields};
use super::format::{self, Format};
use super::frame;
use super::frame_reader::{FrameReader, Step, for_each_record};
use super::group::Group;
use super::lock::Lock;
use super::losses::{self, Known, Losses, LostRange};
use super::options::{FIRST_SEGMENT, Phase, Progress, ProgressCallback};
use super::record::Parsed;
use super::recover;
use super::segment::{End, Epoch, SegmentHeader};
use super::state::{self, State};

pub(crate) use target::is_unfinished;

const LOG: &str = "log";
/// Streams named by one record.
const STREAMS_A_RECORD: usize = 500;

/// What a repair kept, and what it could not.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct RepairReport {
    /// Commits kept, byte for byte.
    pub commits: u64,
    /// Records in them.
    pub records: u64,
    /// What this repair could not keep; empty when nothing was lost.
    pub lost: Vec<LostRange>,
    /// All that is gone from the repaired store, by this repair or earlier ones.
    pub losses: Losses,
    /// Commits left out although they are whole, because they belong to another history.
    pub foreign_commits: u64,
    /// Whether the stream index of the damaged store could be asked for what was lost.
    pub index_asked: bool,
    /// The epoch that the repaired store begins.
    pub epoch: Uuid,
}

/// Copies every whole commit of the damaged store in `from` to a new store in `to`, which must be
/// empty, missing, or left behind by a repair that never ended. `from` is not changed.
///
/// Whole commits keep their bytes, positions, sequences and chain hashes. What is gone is declared in
/// the log: reads end at it with [`Error::Gap`], streams that lost events take no appends
/// ([`Error::LostEvents`]) until [`accept_loss`](super::SledStore::accept_loss), and where streams
/// cannot be named no stream does until
/// [`accept_all_losses`](super::SledStore::accept_all_losses). No position and no sequence that was
/// given, or may have been, is given again. The repaired store begins a new epoch.
///
/// A write that never finished is no damage and is left out, as opening would. What listeners have
/// saved is copied as it stands; one that has handled events which are gone is told so. Snapshots and
/// the index are not copied; the index is made again at the first open. Blocks for file I/O: the log is
/// read twice.
///
/// ```
/// use tidelog_backends::{SledStore, repair};
/// # let dir = tempfile::tempdir().unwrap();
/// # let (from, to) = (dir.path().join("damaged"), dir.path().join("repaired"));
/// # SledStore::open(&from)?.close_blocking()?;
/// let report = repair(&from, &to)?;
/// assert!(report.lost.is_empty(), "{:?}", report.losses);
/// let store = SledStore::open(&to)?;
/// # Ok::<(), tidelog_core::Error>(())
/// ```
///
/// # Errors
/// [`Error::NotAStore`] when `from` has no log or `to` holds something else, [`Error::Locked`] when
/// `from` is open, [`Error::UnsupportedFormat`], [`Error::Damaged`] when no commit is whole or the
/// files of two stores are mixed, [`Error::Io`]. Call it again then: what stands in `to` is no store.
pub fn repair(from: impl AsRef<Path>, to: impl AsRef<Path>) -> Result<RepairReport, Error> {
    repair_told(from, to, None)
}

/// [`repair`] that tells how far it is, in segments read, each of them twice, and may be cancelled: what
/// stands in `to` is no store then, and the same call begins again.
///
/// # Errors
/// As there, and [`Error::Cancelled`].
pub fn repair_told(
    from: impl AsRef<Path>,
    to: impl AsRef<Path>,
    progress: Option<&ProgressCallback>,
) -> Result<RepairReport, Error> {
    let (from, to) = (from.as_ref(), to.as_ref());
    check_places(from, to)?;
    let _held = Lock::hold(from)?;
    let files = survey::files(&from.join(LOG))?;
    let format = identity(from, &files)?;
    if format.is_copy() {
        return Err(Error::NotAStore {
            path: from.into(),
            reason: "it is a copy of another store's log; remove it and copy that log again".into(),
        });
    }
    // A state that cannot be read proves nothing, and nothing else of it is copied.
    let closed = State::read(from).ok().and_then(|state| state.clean());
    let closed = closed.map(|mark| (mark.commit, mark.position));
    let target = Target::begin(to)?;
    let chain_after = |segment: u64| {
        let next = files.iter().find(|found| found.number == segment + 1)?;
        Some(next.header?.end_before().previous)
    };
    let scratch = target.scratch();
    let asked = Asked {
        from,
        scratch: &scratch,
        format: &format,
        chain_after: &chain_after,
    };
    let told = Told {
        files: files.len() as u64,
        progress,
    };
    let survey = survey::survey(&files, &format, closed, asked.promised(), &told)?;
    let repair = Repair {
        from,
        files: &files,
        told,
        end: START,
        epoch: first_epoch(&files, &format, survey.stretches.first()),
        format,
        target,
        last_recorded: Timestamp::from_micros(i64::MIN),
        streams: Streams::default(),
        branches: Branches::default(),
        begun: Vec::new(),
        met: HashSet::new(),
        before: None,
        holes: Vec::new(),
        commits: 0,
        records: 0,
        proven: true,
    };
    repair.run(&survey, &asked)
}

const START: End = End {
    commit: 1,
    position: 1,
    previous: [0; 32],
};

/// Who hears how far it is.
struct Told<'a> {
    files: u64,
    progress: Option<&'a ProgressCallback>,
}

impl Told<'_> {
    /// So many files were looked through.
    fn surveyed(&self, files: u64) -> Result<(), Error> {
        self.report(files)
    }

    /// So many of all stretches were copied.
    fn kept(&self, stretches: u64, of: u64) -> Result<(), Error> {
        self.report(self.files + self.files * stretches / of.max(1))
    }

    fn report(&self, done: u64) -> Result<(), Error> {
        let progress = Progress {
            phase: Phase::Repair,
            done,
            total: 2 * self.files,
        };
        recover::report(self.progress, progress)
    }
}

struct Repair<'a> {
    from: &'a Path,
    files: &'a [Found],
    told: Told<'a>,
    format: Format,
    target: Target<'a>,
    /// Where the log ends that was written so far.
    end: End,
    /// The epoch in force there.
    epoch: Epoch,
    last_recorded: Timestamp,
    streams: Streams,
    branches: Branches,
    /// Branches whose records are lost: what stands behind the loss shows them.
    begun: Vec<Superseded>,
    /// Positions of the records of branches that are there.
    met: HashSet<u64>,
    /// What earlier repairs have lost.
    before: Option<Known>,
    holes: Vec<HoleFields>,
    commits: u64,
    records: u64,
    /// Whether the beginning is known to be the store's.
    proven: bool,
}

impl Repair<'_> {
    fn run(mut self, survey: &Survey, asked: &Asked<'_>) -> Result<RepairReport, Error> {
        let (given_commit, given_position) = survey.given;
        let Some(first) = survey.stretches.first() else {
            if given_commit + survey.unknown == 0 {
                self.end.previous = frame::genesis(&self.format.origin, &self.epoch.id);
                let next = self.end;
                return self.conclude(next, survey.foreign, false);
            }
            return Err(Error::damaged(
                self.from.join(LOG),
                "no commit in it is whole",
                "restore the store from a backup",
            ));
        };
        if first.begins.commit == START.commit {
            self.end.previous = first.begins.previous;
            let genesis = frame::genesis(&self.format.origin, &self.epoch.id);
            self.proven = genesis == self.end.previous;
        } else {
            // The log begins with what is gone.
            self.end.previous = frame::genesis(&self.format.origin, &self.epoch.id);
            let header = target::header(&self.format, self.end, self.end, self.epoch);
            self.target.copy(header, None)?;
        }
        let known = self.ask_for_branches(asked)?;
        for (kept, stretch) in (0..).zip(&survey.stretches) {
            self.told.kept(kept, survey.stretches.len() as u64)?;
            self.keep(stretch)?;
        }
        // Those whose records were not met again.
        let met = std::mem::take(&mut self.met);
        self.begun
            .extend(known.into_iter().filter(|known| !met.contains(&known.at)));
        let next = End {
            commit: self.end.commit.max(given_commit + 1) + survey.unknown,
            position: self.end.position.max(given_position + 1) + survey.unknown,
            previous: self.end.previous,
        };
        self.note_hole(next);
        let index_asked = !self.holes.is_empty() && self.ask_index(asked)?;
        self.conclude(next, survey.foreign, index_asked)
    }

    /// Copies a stretch and notes what is in it.
    fn keep(&mut self, stretch: &Stretch) -> Result<(), Error> {
        let number = stretch.number;
        let Some(found) = self.files.iter().find(|found| found.number == number) else {
            return Ok(());
        };
        let begins = |header: &SegmentHeader| {
            stretch.bytes.0 == super::segment::DATA
                && (header.first_commit, header.previous)
                    == (stretch.begins.commit, stretch.begins.previous)
        };
        if let Some(header) = found.header.filter(begins) {
            // The record that began it may be gone.
            self.epoch = header.epoch;
        }
        self.note_hole(stretch.begins);
        let mut header = target::header(&self.format, stretch.begins, self.end, self.epoch);
        let file =
            File::open(&found.path).map_err(|error| Error::io("open", &found.path, error))?;
        let mut reader = FrameReader::new(&file, found.path.clone())?;
        reader.forgive_padding();
        reader.seek(stretch.bytes.0);
        let mut next = stretch.begins.expect(self.format.salt);
        let mut strays = Vec::new();
        while next.commit < stretch.ends.commit {
            let at = reader.offset();
            let Step::Commit { next: after, .. } = reader.step(&next)? else {
                return Err(reader.damaged(at, "a commit that was whole a moment ago is not"));
            };
            self.commits += 1;
            strays.extend(reader.stray());
            let first = next.commit == stretch.begins.commit;
            let read = for_each_record(reader.body(), |_, _, parsed| {
                header.about.branches |= first && control::superseded_by(&parsed).is_some();
                self.note(&parsed)
            })?;
            if let Err(why) = read {
                return Err(reader.damaged(at, why));
            }
            next = after;
        }
        let source = target::Source {
            path: &found.path,
            bytes: stretch.bytes,
            strays: &strays,
        };
        self.target.copy(header, Some(&source))?;
        self.end = stretch.ends;
        Ok(())
    }

    fn note(&mut self, parsed: &Parsed<'_>) -> Result<(), Error> {
        self.records += 1;
        self.last_recorded = self.last_recorded.max(parsed.recorded_time);
        if let Some(epoch) = control::epoch_of(parsed) {
            self.epoch = epoch;
        }
        if let Some(declared) = control::declared_by(parsed) {
            self.before.get_or_insert_default().apply(0, declared);
        }
        if let Some(what) = control::superseded_by(parsed) {
            if what.at == parsed.position {
                self.met.insert(what.at);
            } else if self.begun.iter().all(|begun| begun.at != what.at) {
                self.begun.push(what.clone());
            }
            self.branches.add(&what);
        }
        if parsed.kind == RecordKind::Control {
            return Ok(());
        }
        // A commit with a name that no stream may have is not whole.
        let Some(stream) = parsed.stream() else {
            return Ok(());
        };
        let (sequence, position) = (parsed.sequence, parsed.position);
        let Err(before) = self.keep_event(&stream, sequence, position) else {
            return Ok(());
        };
        // The record by which the stream went back may be gone.
        let hole = self.holes.iter().rfind(|hole| hole.first_position > before);
        if let Some(at) = hole.map(|hole| hole.last_position + 1) {
            let found = Superseded::found(stream.clone(), sequence, at);
            self.branches.add(&found);
            self.begun.push(found);
            if self.keep_event(&stream, sequence, position).is_ok() {
                return Ok(());
            }
        }
        let what = format!("{stream} has sequence {sequence} at position {position} again");
        let remedy = "its files are of two histories; restore the store from a backup";
        Err(Error::damaged(self.from.join(LOG), what, remedy))
    }

    /// Notes an event of `stream`; the position of the one before it when it cannot stand behind that.
    fn keep_event(&mut self, stream: &StreamId, sequence: u64, position: u64) -> Result<(), u64> {
        let lineage = self.branches.of(stream);
        let base = lineage.as_ref().map_or(1, |all| all.first_at(position));
        let name = lineage.and_then(|all| all.name_at(position));
        let name = name.unwrap_or_else(|| stream.clone());
        self.streams.keep(name, base, sequence, position)
    }

    fn note_hole(&mut self, next: End) {
        if next.commit > self.end.commit {
            self.holes.push(HoleFields {
                first_commit: self.end.commit,
                last_commit: next.commit - 1,
                first_position: self.end.position,
                last_position: next.position - 1,
                hash_before: self.end.previous,
                hash_after: next.previous,
            });
        }
    }

    /// The branches that the index of the damaged store knows, by the names of their events.
    fn ask_for_branches(&mut self, asked: &Asked<'_>) -> Result<Vec<Superseded>, Error> {
        let mut known: BTreeMap<u64, (StreamId, u64)> = BTreeMap::new();
        if self.format.has_branches() {
            asked.visit(|name, sequence| {
                if let Some((stream, at)) = branch_of(name) {
                    let (_, from) = known.entry(at).or_insert((stream, sequence));
                    *from = sequence.min(*from);
                }
            })?;
            self.target.forget_scratch()?;
        }
        let found = known.into_iter();
        let found = found.map(|(at, (stream, from))| Superseded::found(stream, from, at));
        let found: Vec<_> = found.collect();
        for found in &found {
            self.branches.add(found);
        }
        Ok(found)
    }

    /// Notes all events that the index of the damaged store knows; whether it could be asked.
    fn ask_index(&mut self, asked: &Asked<'_>) -> Result<bool, Error> {
        let streams = &mut self.streams;
        let heard = asked.visit(|name, sequence| {
            if let Some(name) = named(name) {
                streams.given(name, sequence);
            }
        });
        self.target.forget_scratch()?;
        heard
    }

    /// Whether the headers tell of more than `before` does: what a repair said of it is lost.
    fn has_forgotten(&self, before: Option<&Known>) -> bool {
        let said = before.map_or(&[][..], |before| &before.holes);
        let mut headers = self.files.iter().filter_map(|found| found.header);
        headers.any(|header| {
            let before = header.end_before();
            let is_it = |hole: &HoleFields| {
                (hole.first_position, hole.last_position + 1)
                    == (before.position, header.first_position)
            };
            header.gap.is_some() && !said.iter().any(is_it)
        })
    }

    /// What is to be declared, if anything is, and what of it is new.
    fn statement(&mut self) -> (Option<Known>, Vec<LostRange>) {
        let before = self.before.take();
        for (stream, loss) in before.iter().flat_map(|before| &before.streams) {
            if let Some((_, last)) = loss.lost.last() {
                self.streams.given(stream.clone(), *last);
            }
        }
        let again = self.format.has_gaps();
        let (mut streams, events) = self.streams.lost(&self.branches);
        for begun in &self.begun {
            // Where it truly began is not known: what stands below may have given way, too.
            let below = begun.from.saturating_sub(1).max(1);
            let loss = streams.entry(begun.stream.clone()).or_default();
            if loss.lost.is_empty() {
                loss.lost.push((below, below));
            }
        }
        let gone = Gone {
            holes: std::mem::take(&mut self.holes),
            streams,
            events,
            again,
            forgotten: self.has_forgotten(before.as_ref()),
        };
        let lost = gone.new_holes(before.as_ref());
        let lost = lost.iter().map(HoleFields::range).collect();
        let nothing = gone.holes.is_empty() && !again && self.proven;
        ((!nothing).then(|| gone.declare(before)), lost)
    }

    /// Begins a new epoch, and declares what is gone.
    fn conclude(
        mut self,
        next: End,
        foreign_commits: u64,
        index_asked: bool,
    ) -> Result<RepairReport, Error> {
        let (statement, lost) = self.statement();
        let epoch = Epoch {
            id: SystemIds.next_uuid(),
            parent: self.epoch.id,
            parent_position: self.end.position - 1,
            parent_hash: self.end.previous,
        };
        let mut group = Group::new();
        group.begin(
            next.position,
            SystemClock.now().max(self.last_recorded),
            None,
        );
        let stream = control::stream()?;
        let mut add = |id, kind, payload: &[u8]| group.encode_control(&stream, id, kind, payload);
        let payload = control::encode_epoch(&epoch)?;
        add(EventId::from_uuid(epoch.id), control::EPOCH, &payload);
        let mut header = target::header(&self.format, next, self.end, self.epoch);
        if let Some(known) = &statement {
            header.about.losses = true;
            self.format.incompatible |= format::GAPS;
            let gap = GapFields {
                holes: known.holes.clone(),
                unnamed: known.unnamed,
                skip: known.skip,
                accepted: known.accepted,
            };
            add(EventId::generate(), control::GAP, &state::encode(&gap)?);
            let mut streams: Vec<_> = known.streams.iter().collect();
            streams.sort_unstable_by(|a, b| a.0.cmp(b.0));
            for part in streams.chunks(STREAMS_A_RECORD) {
                let payload = control::encode_loss(part.iter().copied())?;
                add(EventId::generate(), control::LOSS, &payload);
            }
        }
        for begun in &self.begun {
            header.about.branches = true;
            add(begun.record_id()?, control::SUPERSEDE, &begun.encode()?);
        }
        let records = u32::try_from(group.records.len()).unwrap_or(u32::MAX);
        self.target
            .commit(header, records, &mut group.frame, FIRST_SEGMENT)?;
        if !self.branches.is_empty() {
            self.format.incompatible |= format::BRANCHES;
        }
        let report = RepairReport {
            commits: self.commits,
            records: self.records,
            lost,
            losses: statement.as_ref().map(losses::report).unwrap_or_default(),
            foreign_commits,
            index_asked,
            epoch: epoch.id,
        };
        self.target.end(&self.format, self.from)?;
        Ok(report)
    }
}
