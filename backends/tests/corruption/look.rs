//! What a damaged store may do: be whole, or name the damage by a typed error. Never anything else.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use tidelog_backends::{LogReader, SledStore};
use tidelog_core::*;

use crate::consumers;
use crate::image::{End, Image, open};
use crate::repaired::check_repair;
use crate::tools::{self, Entry, differences, event, segment, tree};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Opened, with this many events, all of them right.
    Whole(usize),
    /// Opened; reading or verifying says that something is damaged.
    FoundLater,
    /// Refused as damaged; the log and the files beside it are as they were.
    Refused,
}

/// Opens, reads everything, verifies.
pub fn look(dir: &Path, events: &[EventEnvelope]) -> Outcome {
    match opened(dir) {
        Ok(store) => read_and_verify(&store, dir, events).0,
        Err(_) => Outcome::Refused,
    }
}

/// The open store, or the file that is said to be damaged.
fn opened(dir: &Path) -> Result<SledStore, PathBuf> {
    let before = tree(dir);
    match open(dir) {
        Ok(store) => Ok(store),
        Err(Error::Damaged { path, .. }) => {
            assert!(path.starts_with(dir), "{}", path.display());
            assert_unchanged(&before, &tree(dir));
            Err(path)
        }
        Err(other) => panic!("not a typed damage: {other:?}"),
    }
}

/// What was found, and where verifying says the damage is.
fn read_and_verify(
    store: &SledStore,
    dir: &Path,
    events: &[EventEnvelope],
) -> (Outcome, Option<PathBuf>) {
    let mut read = 0;
    let mut damaged = false;
    for found in store.blocking().read_all(LogQuery::all()) {
        match found {
            Ok(found) => {
                assert!(
                    events.get(read) == Some(&found),
                    "position {} is wrong",
                    read + 1
                );
                read += 1;
            }
            Err(error) => damaged |= is_damage(&error, dir),
        }
    }
    let named = match store.verify() {
        Ok(report) => {
            assert_eq!(report.records, read as u64);
            None
        }
        Err(Error::Damaged { path, .. }) => Some(path),
        Err(other) => panic!("not a typed damage: {other:?}"),
    };
    if damaged || named.is_some() {
        assert!(named.is_some(), "a read found damage, verify none");
        return (Outcome::FoundLater, named);
    }
    assert_eq!(store.blocking().last_position(), read as u64);
    (Outcome::Whole(read), None)
}

fn is_damage(error: &Error, dir: &Path) -> bool {
    match error {
        Error::Damaged { path, .. } => {
            assert!(path.starts_with(dir), "{error}");
            true
        }
        other => panic!("not a typed damage: {other:?}"),
    }
}

/// All that is not made again from the log.
/// What a refusal leaves as it was: all but the index, which is made again from the log. A segment that was
/// whole, and met before the damage, may have been closed to writing.
fn assert_unchanged(before: &BTreeMap<PathBuf, Entry>, after: &BTreeMap<PathBuf, Entry>) {
    let closed = |was: &Entry, is: &Entry| match (was, is) {
        (Entry::File(0o600, was), Entry::File(0o400, is)) => was == is,
        _ => false,
    };
    let (before, after) = (truth(before), truth(after));
    let same = before.len() == after.len()
        && before
            .iter()
            .zip(&after)
            .all(|((was_at, was), (is_at, is))| {
                was_at == is_at && (was == is || (was_at.starts_with("log") && closed(was, is)))
            });
    assert!(
        same,
        "a refusal changed files: {before:?} are now {after:?}"
    );
}

fn truth(tree: &BTreeMap<PathBuf, Entry>) -> Vec<(&PathBuf, &Entry)> {
    tree.iter()
        .filter(|(path, _)| !path.starts_with("index") && !path.starts_with("manifest"))
        .collect()
}

/// What came of one image, for the table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    pub outcome: String,
    /// Commits at the end that are cleanly gone.
    pub gone: usize,
}

/// Opens the damaged copy of `image` in `dir`, reads it in every way, verifies, appends to every
/// stream, closes, and opens it again. Panics on whatever is not allowed. `step` hears what comes
/// next.
pub fn examine(image: &Image, dir: &Path, reads_first: bool, step: impl Fn(&str)) -> Verdict {
    let changed = Changed::of(image, dir);
    let kept = Kept::of(image, dir);
    let verdict = |outcome: String, gone| Verdict { outcome, gone };
    // Looking at it may change it; whoever repairs one is given what was found.
    let as_damaged = dir.with_file_name("as-damaged");
    if changed.in_log {
        tools::put_back(dir, &as_damaged);
    }

    step("reading it without its lock");
    let beside = Beside::look(image, dir);

    step("opening");
    let store = match opened(dir) {
        Ok(store) => store,
        Err(path) => {
            assert!(beside.said, "{} refused, and read beside", path.display());
            assert!(!changed.only_beside, "{} refused", path.display());
            changed.assert_named(&path, dir);
            step("repairing");
            let repaired = check_repair(image, dir, &kept, changed.in_state);
            return verdict(format!("refused, {repaired}"), 0);
        }
    };
    step("asking for checkpoints and rows");
    let found = consumers::examine(&store, image, dir);
    let there = store.blocking().last_position();
    let gone = kept.gone(image, there, changed.in_state);
    assert!(beside.durable <= there, "what was read beside it is gone");
    let mut events = image.events[..there as usize].to_vec();
    if !reads_first {
        step("appending");
        append_everywhere(&store, image, &mut events, changed.in_log);
    }
    step("reading");
    let (mut outcome, mut named) = read_and_verify(&store, dir, &events);
    read_streams(&store, image, dir, &events, changed.in_log);
    let by_verify = changed.only_beside && outcome == Outcome::FoundLater;
    if by_verify {
        // What open did not look at is named, and healed when asked.
        let path = named.take().unwrap();
        assert!(path.starts_with(dir.join("index")), "{}", path.display());
        step("rebuilding");
        store.rebuild_index().unwrap();
        (outcome, named) = read_and_verify(&store, dir, &events);
    }
    if reads_first {
        step("appending");
        append_everywhere(&store, image, &mut events, changed.in_log);
    }
    assert!(beside.said || named.is_none(), "damage not said beside it");
    // Whoever only reads names a newest segment that is too short. The store takes one whose first commit is
    // torn for not begun.
    assert!(
        !beside.said || named.is_some() || gone > 0,
        "damage said beside it alone"
    );
    if let Some(path) = named {
        assert!(changed.in_log, "damage found without any");
        changed.assert_named(&path, dir);
        drop(store);
        step("repairing");
        let repaired = check_repair(image, &as_damaged, &kept, changed.in_state);
        return verdict(format!("found by verify, {repaired}"), gone);
    }
    assert!(matches!(outcome, Outcome::Whole(_)), "{outcome:?}");
    kept.assert_unread_bytes_are_whole(there);
    let rebuilt = store.info().unwrap().index_rebuilt.is_some();
    step("making rows again");
    consumers::make_again(&store);
    step("closing");
    store.close_blocking().unwrap();
    drop(store);
    step("reopening");
    let store = open(dir).unwrap();
    let (outcome, _) = read_and_verify(&store, dir, &events);
    assert_eq!(outcome, Outcome::Whole(events.len()), "opened again");
    let again = consumers::examine(&store, image, dir);
    assert_eq!((again.damaged, again.slots), (found.damaged, 1));
    assert_eq!(store.info().unwrap().index_rebuilt, None, "it heals once");
    let outcome = match (gone > 0, by_verify, rebuilt) {
        (true, ..) => "newest commits cleanly gone",
        (_, true, _) => "whole, index named by verify",
        (_, _, true) => "whole, index made again",
        _ if changed.paths.is_empty() => "nothing was changed",
        _ if found.damaged > 0 => "whole, checkpoint named",
        _ if found.slots < 2 => "whole, rows lost",
        _ => "whole",
    };
    verdict(outcome.into(), gone)
}

/// What is read without the store's lock.
struct Beside {
    /// Whether damage was named.
    said: bool,
    /// The newest position that is said to survive.
    durable: u64,
}

impl Beside {
    fn look(image: &Image, dir: &Path) -> Self {
        let before = tree(dir);
        let reader = match LogReader::open(dir) {
            Ok(reader) => reader,
            Err(error) => {
                assert!(is_damage(&error, dir));
                return Self {
                    said: true,
                    durable: 0,
                };
            }
        };
        let mut said = false;
        for (at, found) in reader.read(LogQuery::all()).enumerate() {
            match found {
                Ok(found) => assert!(image.events.get(at) == Some(&found), "position {}", at + 1),
                Err(error) => said |= is_damage(&error, dir),
            }
        }
        match reader.verify(None) {
            Ok(_) => assert!(!said, "a read found damage, verify none"),
            Err(error) => said |= is_damage(&error, dir),
        }
        assert_eq!(before, tree(dir), "reading changed files");
        Self {
            said,
            durable: reader.last_position(),
        }
    }
}

/// Which files are not as they were.
struct Changed {
    paths: Vec<PathBuf>,
    in_log: bool,
    in_state: bool,
    /// Nothing but what stands beside the log: the index, and listeners' checkpoints.
    only_beside: bool,
}

impl Changed {
    fn of(image: &Image, dir: &Path) -> Self {
        let paths = differences(&tree(&image.files), &tree(dir));
        let any_in = |name| paths.iter().any(|path| path.starts_with(name));
        let is_beside = |path: &PathBuf| {
            let beside = ["index", "manifest", "listeners"];
            beside.into_iter().any(|name| path.starts_with(name))
        };
        Self {
            in_log: any_in("log"),
            in_state: any_in("state"),
            only_beside: paths.iter().all(is_beside),
            paths,
        }
    }

    /// The error names a damaged file, or, where files are missing or too many, one beside it.
    fn assert_named(&self, path: &Path, dir: &Path) {
        let inside = path.strip_prefix(dir).unwrap();
        let folder = |path: &Path| path.iter().next().map(PathBuf::from);
        let named = |changed: &PathBuf| {
            // Where `format` or `state` is of another time or store, it is the log that disagrees.
            let beside = changed.starts_with("format") || changed.starts_with("state");
            folder(changed) == folder(inside) || (beside && inside.starts_with("log"))
        };
        let changed = &self.paths;
        assert!(
            changed.iter().any(named),
            "{} is named, {changed:?} are damaged",
            inside.display()
        );
    }
}

/// Every stream goes on where it ended, or says why not: no sequence is used twice.
fn append_everywhere(
    store: &SledStore,
    image: &Image,
    events: &mut Vec<EventEnvelope>,
    may_fail: bool,
) {
    let face = store.blocking();
    let end = events.len() as u64;
    for (stream, n) in image.streams().into_iter().zip(1 << 40..) {
        let head = events.iter().filter(|event| event.stream == stream).count() as u64;
        let batch = AppendBatch::new(stream, ExpectedVersion::Exact(head), vec![event(n, 100)]);
        match face.append(batch) {
            Ok(receipt) => assert_eq!(receipt.first_sequence, head + 1),
            Err(Error::Damaged { .. } | Error::Refused { .. }) if may_fail => {}
            Err(error) => panic!("an append after the damage: {error:?}"),
        }
    }
    let appended = face.read_all(LogQuery::from(end + 1));
    events.extend(appended.map(Result::unwrap));
}

/// Forwards, backwards, by id, and snapshots.
fn read_streams(
    store: &SledStore,
    image: &Image,
    dir: &Path,
    events: &[EventEnvelope],
    may_fail: bool,
) {
    let face = store.blocking();
    let allowed = |error: &Error| assert!(is_damage(error, dir) && may_fail, "{error}");
    for stream in image.streams() {
        let of: Vec<_> = events
            .iter()
            .filter(|event| event.stream == stream)
            .collect();
        let query = StreamQuery::new(stream.clone());
        let forward = face.read_stream(query.clone());
        compare(forward, of.iter().copied(), &allowed);
        compare(
            face.read_stream(query.backward()),
            of.iter().rev().copied(),
            &allowed,
        );
        for wanted in [of.first(), of.get(of.len() / 2), of.last()]
            .into_iter()
            .flatten()
        {
            match face.find_event(&stream, wanted.event_id) {
                Ok(found) => assert!(
                    found.as_ref() == Some(wanted),
                    "{} was not found",
                    wanted.event_id
                ),
                Err(error) => allowed(&error),
            }
        }
        match face.read_snapshot(&stream) {
            Ok(None) => {}
            Ok(Some(snapshot)) => {
                let event = of[snapshot.sequence as usize - 1];
                assert_eq!(snapshot.event_id, event.event_id);
                let state = crate::image::state_at(&stream, snapshot.sequence);
                assert!(snapshot.state == state, "a snapshot is not what was kept");
            }
            Err(error) => allowed(&error),
        }
    }
}

/// What is read is right as far as it goes, and goes to the end or to an error.
fn compare<'a>(
    read: impl Iterator<Item = Result<EventEnvelope, Error>>,
    mut expected: impl Iterator<Item = &'a EventEnvelope>,
    allowed: &impl Fn(&Error),
) {
    for found in read {
        match found {
            Ok(found) => assert!(
                expected.next() == Some(&found),
                "{} {}",
                found.stream,
                found.sequence
            ),
            Err(error) => return allowed(&error),
        }
    }
    assert!(expected.next().is_none(), "a stream ends too early");
}

/// Which commits still stand in the files as they were written.
pub struct Kept(Vec<(u64, bool)>);

impl Kept {
    fn of(image: &Image, dir: &Path) -> Self {
        let mut files: BTreeMap<u64, (Vec<u8>, Vec<u8>)> = BTreeMap::new();
        let kept = image.frames().into_iter().map(|frame| {
            let (before, after) = files.entry(frame.segment).or_insert_with(|| {
                let read = |dir| fs::read(segment(dir, frame.segment)).unwrap_or_default();
                (read(&image.files), read(dir))
            });
            let same = after.get(frame.used.clone()) == before.get(frame.used.clone());
            (frame.last_position, same)
        });
        Self(kept.collect())
    }

    /// Whether any commit does.
    pub fn any(&self) -> bool {
        self.0.iter().any(|(_, same)| *same)
    }

    /// The last positions of those that do.
    pub fn whole(&self) -> impl Iterator<Item = u64> + '_ {
        self.0
            .iter()
            .filter(|(_, same)| *same)
            .map(|(last, _)| *last)
    }

    /// How many commits are cleanly gone from the end, when that can be nobody's fault but the
    /// damage's: a store that was closed, or commits that were not touched, lose nothing.
    fn gone(&self, image: &Image, there: u64, state_is_gone: bool) -> usize {
        let gone: Vec<_> = self.0.iter().filter(|(last, _)| *last > there).collect();
        if gone.is_empty() {
            return 0;
        }
        let on_an_edge = there == 0 || self.0.iter().any(|(last, _)| *last == there);
        assert!(on_an_edge, "a commit is torn at position {there}");
        assert!(
            image.end != End::Closed || state_is_gone,
            "a closed store lost commits"
        );
        let untouched = gone.iter().filter(|(_, same)| *same).count();
        assert!(
            untouched == 0 || image.end.is_unsynced(),
            "{untouched} commits are gone that were synced and whole"
        );
        assert!(!gone[0].1, "the first commit that is gone was whole");
        gone.len()
    }

    /// A store is not called whole over bytes that are not.
    fn assert_unread_bytes_are_whole(&self, there: u64) {
        let changed = self.0.iter().find(|(last, same)| *last <= there && !same);
        assert!(
            changed.is_none(),
            "{changed:?} was changed, and nobody says so"
        );
    }
}
