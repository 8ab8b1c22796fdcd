//! Damage to the files of a store, case by case: either all that something vouches for is there,
//! or a typed error says what is damaged and nothing is changed. Never a panic, a hang, or an event
//! that is wrong or missing in the middle.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::cast_possible_truncation,
    reason = "a test that fails shall stop, and its numbers are small"
)]

mod tools;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use tempfile::TempDir;
use tidelog_backends::SledStore;
use tidelog_core::*;
use tools::{Entry, event, read_all, segment, segments, stream, tree};

const PATIENCE: Duration = Duration::from_secs(60);
const FIRST_FRAME: usize = 4096;

fn open(dir: &Path) -> Result<SledStore, Error> {
    SledStore::builder(dir).segment_size(64 << 10).open()
}

/// A store's files, and what was acknowledged.
struct Image {
    _root: TempDir,
    copy: PathBuf,
    dir: PathBuf,
    events: Vec<EventEnvelope>,
}

#[derive(Debug, PartialEq, Eq)]
enum Outcome {
    /// Opened, with this many events, all of them right.
    Whole(usize),
    /// Opened; reading or verifying says that something is damaged.
    FoundLater,
    /// Refused as damaged; the log and the files beside it are as they were.
    Refused,
}

impl Image {
    /// Several sealed segments and one that is not, each commit synced; closed cleanly or not.
    fn new(closed: bool) -> Self {
        let root = TempDir::new().unwrap();
        let (dir, image) = (root.path().join("store"), root.path().join("image"));
        let store = open(&dir).unwrap();
        let face = store.blocking();
        for n in 0..330 {
            let batch = AppendBatch::new(
                stream(&(n % 5).to_string()),
                ExpectedVersion::Any,
                vec![event(n, 700)],
            );
            face.append(batch).unwrap();
        }
        store.drain().unwrap();
        let events = read_all(&store).unwrap();
        if closed {
            store.close_blocking().unwrap();
            tools::copy_tree(&dir, &image);
        } else {
            tools::copy_tree(&dir, &image);
            store.crash();
        }
        let _ = fs::remove_file(image.join("LOCK"));
        assert!(segments(&image).len() >= 4);
        Self {
            _root: root,
            copy: image,
            dir,
            events,
        }
    }

    /// The newest segment that was begun: one made ahead, all zero, may follow it.
    fn newest(&self) -> u64 {
        let begun = |number: &&u64| {
            let bytes = fs::read(segment(&self.copy, **number)).unwrap();
            bytes.starts_with(b"TIDESEG1")
        };
        *segments(&self.copy).iter().rfind(begun).unwrap()
    }

    /// Whether this byte only fills a frame up to a multiple of 8: nothing depends on it.
    fn is_padding(&self, number: u64, at: usize) -> bool {
        let bytes = fs::read(segment(&self.copy, number)).unwrap();
        let start = self.frames(number).into_iter().rfind(|start| *start <= at);
        start.is_some_and(|start| {
            let len = u32::from_le_bytes(bytes[start + 4..start + 8].try_into().unwrap());
            at >= start + 88 + len as usize
        })
    }

    /// Where the frames of a segment begin, and where the last ends.
    fn frames(&self, number: u64) -> Vec<usize> {
        let bytes = fs::read(segment(&self.copy, number)).unwrap();
        let mut starts = vec![FIRST_FRAME];
        while let Some(&at) = starts.last()
            && bytes.get(at..at + 4) == Some(b"TLF1")
        {
            let len = u32::from_le_bytes(bytes[at + 4..at + 8].try_into().unwrap()) as usize;
            starts.push((at + 88 + len).next_multiple_of(8));
        }
        starts
    }

    /// Puts the image back, lets `damage` at the bytes of `file`, opens and looks.
    fn with(&self, file: &Path, damage: impl FnOnce(&mut Vec<u8>)) -> Outcome {
        self.after(|dir| {
            let path = dir.join(file);
            tools::make_writable(&path);
            let mut bytes = fs::read(&path).unwrap();
            damage(&mut bytes);
            fs::write(&path, bytes).unwrap();
        })
    }

    fn after(&self, damage: impl FnOnce(&Path)) -> Outcome {
        tools::put_back(&self.copy, &self.dir);
        damage(&self.dir);
        let (sender, receiver) = mpsc::channel();
        let (dir, events) = (self.dir.clone(), self.events.clone());
        let looker = thread::spawn(move || {
            let outcome = look(&dir, &events);
            sender.send(()).unwrap();
            outcome
        });
        let waited = receiver.recv_timeout(PATIENCE);
        assert_ne!(waited, Err(mpsc::RecvTimeoutError::Timeout), "it hangs");
        looker.join().unwrap()
    }
}

fn look(dir: &Path, events: &[EventEnvelope]) -> Outcome {
    let before = tree(dir);
    let store = match open(dir) {
        Ok(store) => store,
        Err(Error::Damaged { path, .. }) => {
            assert!(path.starts_with(dir), "{}", path.display());
            assert_eq!(truth(&before), truth(&tree(dir)), "a refusal changed files");
            return Outcome::Refused;
        }
        Err(other) => panic!("not a typed damage: {other:?}"),
    };
    let mut read = 0;
    let mut damaged = false;
    for found in store.blocking().read_all(LogQuery::all()) {
        match found {
            Ok(found) => {
                assert!(found == events[read], "position {} is wrong", read + 1);
                read += 1;
            }
            Err(Error::Damaged { .. }) => damaged = true,
            Err(other) => panic!("not a typed damage: {other:?}"),
        }
    }
    let verified = store.verify();
    match &verified {
        Ok(report) => assert_eq!(report.records, read as u64),
        Err(Error::Damaged { .. }) => damaged = true,
        Err(other) => panic!("not a typed damage: {other:?}"),
    }
    if damaged {
        assert!(verified.is_err(), "a read found damage, verify none");
        return Outcome::FoundLater;
    }
    assert_eq!(store.blocking().last_position(), read as u64);
    Outcome::Whole(read)
}

/// All that is not made again from the log.
fn truth(tree: &BTreeMap<PathBuf, Entry>) -> Vec<(&PathBuf, &Entry)> {
    tree.iter()
        .filter(|(path, _)| !path.starts_with("index") && !path.starts_with("manifest"))
        .collect()
}

fn log(number: u64) -> PathBuf {
    segment(Path::new(""), number)
}

/// Places in `range`: its edges, and about `count` between.
fn sample(range: std::ops::Range<usize>, count: usize) -> Vec<usize> {
    let step = (range.len() / count).max(1);
    let mut places: Vec<_> = range.clone().step_by(step).collect();
    places.push(range.end - 1);
    places
}

#[test]
fn a_torn_last_commit_is_cut_away_and_nothing_else() {
    let image = Image::new(false);
    let (newest, all) = (image.newest(), image.events.len());
    let frames = image.frames(newest);
    let [.., start, end] = frames[..] else {
        panic!("no frame")
    };
    let mut cases = 0;
    for cut in (start..end).step_by(8) {
        let outcome = image.with(&log(newest), |bytes| bytes[cut..end].fill(0));
        assert_eq!(outcome, Outcome::Whole(all - 1), "cut at {cut}");
        cases += 1;
    }
    // Sectors of one write may arrive in any order: its front may be what is missing.
    for cut in (start + 8..end).step_by(64) {
        let outcome = image.with(&log(newest), |bytes| bytes[start..cut].fill(0));
        assert_eq!(outcome, Outcome::Whole(all - 1), "front missing to {cut}");
        cases += 1;
    }
    eprintln!("{cases} torn commits");
}

#[test]
fn a_flipped_bit_in_the_last_commit_costs_at_most_that_commit() {
    let image = Image::new(false);
    let (newest, all) = (image.newest(), image.events.len());
    let frames = image.frames(newest);
    let [.., start, end] = frames[..] else {
        panic!("no frame")
    };
    let mut places = sample(start..start + 88, 44);
    places.extend(sample(start + 88..end, 50));
    for at in &places {
        let outcome = image.with(&log(newest), |bytes| bytes[*at] ^= 1 << (at % 8));
        let harmless = outcome == Outcome::Whole(all) && image.is_padding(newest, *at);
        assert!(
            outcome == Outcome::Whole(all - 1) || harmless,
            "byte {at}: {outcome:?}"
        );
    }
    eprintln!("{} bits flipped in the last commit", places.len());
}

#[test]
fn the_last_commit_of_a_closed_store_is_vouched_for() {
    let image = Image::new(true);
    let newest = image.newest();
    let frames = image.frames(newest);
    let [.., start, end] = frames[..] else {
        panic!("no frame")
    };
    let mut places = sample(start..start + 88, 20);
    places.extend(sample(start + 88..end - 8, 30));
    for at in &places {
        let outcome = image.with(&log(newest), |bytes| bytes[*at] ^= 1 << (at % 8));
        assert_eq!(outcome, Outcome::Refused, "byte {at}");
        let outcome = image.with(&log(newest), |bytes| bytes[*at..end].fill(0));
        assert_eq!(outcome, Outcome::Refused, "zero from byte {at}");
    }
    eprintln!(
        "{} faults in a closed store's last commit",
        places.len() * 2
    );
}

#[test]
fn damage_before_a_vouched_commit_is_refused_at_open() {
    let image = Image::new(false);
    let newest = image.newest();
    let frames = image.frames(newest);
    assert!(frames.len() > 4, "{frames:?}");
    let mut cases = 0;
    for pair in frames.windows(2).take(frames.len() - 2) {
        let mut places = sample(pair[0]..pair[0] + 88, 6);
        places.extend(sample(pair[0] + 88..pair[1] - 8, 6));
        for at in places.into_iter().step_by(frames.len() / 10 + 1) {
            let outcome = image.with(&log(newest), |bytes| bytes[at] ^= 1 << (at % 8));
            assert_eq!(outcome, Outcome::Refused, "byte {at}");
            cases += 1;
        }
    }
    // The segment's own header.
    for at in sample(0..180, 30) {
        let outcome = image.with(&log(newest), |bytes| bytes[at] ^= 1 << (at % 8));
        assert_eq!(outcome, Outcome::Refused, "header byte {at}");
        cases += 1;
    }
    eprintln!("{cases} faults in the middle of the newest segment");
}

#[test]
fn damage_in_older_segments_is_refused_or_found_and_never_read() {
    let image = Image::new(false);
    let (newest, mut cases) = (image.newest(), 0);
    for number in 1..newest {
        let end = *image.frames(number).last().unwrap();
        let mut places = sample(0..180, 4);
        places.extend(sample(FIRST_FRAME..end - 8, 12));
        for at in places {
            if at >= FIRST_FRAME && image.is_padding(number, at) {
                continue;
            }
            let outcome = image.with(&log(number), |bytes| bytes[at] ^= 1 << (at % 8));
            let told = matches!(outcome, Outcome::Refused | Outcome::FoundLater);
            assert!(told, "segment {number} byte {at}: {outcome:?}");
            cases += 1;
        }
        for len in [0, 100, FIRST_FRAME, end / 2, end - 8] {
            let outcome = image.with(&log(number), |bytes| bytes.truncate(len));
            let told = matches!(outcome, Outcome::Refused | Outcome::FoundLater);
            assert!(told, "segment {number} cut to {len}: {outcome:?}");
            cases += 1;
        }
    }
    eprintln!("{cases} faults in older segments");
}

#[test]
fn a_newest_segment_that_lost_its_end_is_refused() {
    let image = Image::new(false);
    let newest = image.newest();
    let len = fs::metadata(segment(&image.copy, newest)).unwrap().len() as usize;
    for len in [0, 8, 179, FIRST_FRAME, FIRST_FRAME + 100, len / 2, len - 1] {
        let outcome = image.with(&log(newest), |bytes| bytes.truncate(len));
        assert_eq!(outcome, Outcome::Refused, "cut to {len}");
    }
}

#[test]
fn a_damaged_index_costs_no_event() {
    let mut cases = 0;
    for closed in [false, true] {
        let image = Image::new(closed);
        let all = Outcome::Whole(image.events.len());
        let files = tree(&image.copy);
        let index = files.iter().filter_map(|(path, entry)| match entry {
            Entry::File(_, bytes) if path.starts_with("index") || path.ends_with("manifest") => {
                Some((path, bytes))
            }
            _ => None,
        });
        for (path, bytes) in index {
            let used = bytes.iter().rposition(|byte| *byte != 0).unwrap_or(0) + 1;
            for at in sample(0..used, 25) {
                if let Some(bit) = bytes.get(at).map(|_| 1 << (at % 8)) {
                    let outcome = image.with(path, |bytes| bytes[at] ^= bit);
                    assert_eq!(outcome, all, "{} byte {at}", path.display());
                    cases += 1;
                }
            }
            for len in [0, used / 2] {
                let outcome = image.with(path, |bytes| bytes.truncate(len));
                assert_eq!(outcome, all, "{} cut to {len}", path.display());
                cases += 1;
            }
            let outcome = image.after(|dir| fs::remove_file(dir.join(path)).unwrap());
            assert_eq!(outcome, all, "without {}", path.display());
            cases += 1;
        }
    }
    eprintln!("{cases} faults in index and manifest");
}

#[test]
fn damage_to_format_or_state_is_refused() {
    let image = Image::new(true);
    let mut cases = 0;
    for file in ["format", "state"] {
        let len = fs::metadata(image.copy.join(file)).unwrap().len() as usize;
        for at in 0..len {
            let outcome = image.with(Path::new(file), |bytes| bytes[at] ^= 1 << (at % 8));
            assert_eq!(outcome, Outcome::Refused, "{file} byte {at}");
            cases += 1;
        }
        for len in [0, 15, len - 1] {
            let outcome = image.with(Path::new(file), |bytes| bytes.truncate(len));
            assert_eq!(outcome, Outcome::Refused, "{file} cut to {len}");
            cases += 1;
        }
    }
    eprintln!("{cases} faults in format and state");
}
