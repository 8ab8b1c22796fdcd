//! Damage case by case, with the outcome that each must have.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use tidelog_core::Error;

use crate::image::{FIRST_FRAME, Image, frames_of, open};
use crate::look::{Outcome, look};
use crate::tools::{self, Entry, segment, tree};

/// Bytes at the end of the newest segment where the mark of the last commit stands.
const MARK_ROOM: usize = 4096;

const PATIENCE: Duration = Duration::from_secs(60);

impl Image {
    /// The bytes of a segment that only fill a frame up to a multiple of 8.
    fn paddings(&self, number: u64) -> Vec<std::ops::Range<usize>> {
        let frames = frames_of(&self.files, number);
        let fills = frames.iter().map(|frame| frame.used.end..frame.range.end);
        fills.filter(|fill| !fill.is_empty()).collect()
    }

    /// Where the frames of a segment begin, and where the last ends.
    fn edges(&self, number: u64) -> Vec<usize> {
        let frames = frames_of(&self.files, number);
        let mut edges = vec![FIRST_FRAME];
        edges.extend(frames.iter().map(|frame| frame.range.end));
        edges
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
        let dir = self.dir();
        tools::put_back(&self.files, &dir);
        damage(&dir);
        let (sender, receiver) = mpsc::channel();
        let events = self.events.clone();
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

/// Takes the mark away, as a power cut may until the next sync.
fn unmark(bytes: &mut [u8]) {
    let at = bytes.len() - MARK_ROOM;
    assert!(bytes[at..].starts_with(b"TLF1"), "there is a mark");
    bytes[at..].fill(0);
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
    let image = Image::plain(false);
    let (newest, all) = (image.newest(), image.events.len());
    let frames = image.edges(newest);
    let [.., start, end] = frames[..] else {
        panic!("no frame")
    };
    let mut cases = 0;
    for cut in (start..end).step_by(8) {
        let outcome = image.with(&log(newest), |bytes| {
            unmark(bytes);
            bytes[cut..end].fill(0);
        });
        assert_eq!(outcome, Outcome::Whole(all - 1), "cut at {cut}");
        cases += 1;
    }
    // Sectors of one write may arrive in any order: its front may be what is missing.
    for cut in (start + 8..end).step_by(64) {
        let outcome = image.with(&log(newest), |bytes| {
            unmark(bytes);
            bytes[start..cut].fill(0);
        });
        assert_eq!(outcome, Outcome::Whole(all - 1), "front missing to {cut}");
        cases += 1;
    }
    eprintln!("{cases} torn commits");
}

#[test]
fn a_flipped_bit_in_the_last_commit_costs_at_most_that_commit() {
    let image = Image::plain(false);
    let (newest, all) = (image.newest(), image.events.len());
    let frames = image.edges(newest);
    let [.., start, end] = frames[..] else {
        panic!("no frame")
    };
    let mut places = sample(start..start + 88, 44);
    places.extend(sample(start + 88..end, 50));
    for at in &places {
        let outcome = image.with(&log(newest), |bytes| {
            unmark(bytes);
            bytes[*at] ^= 1 << (at % 8);
        });
        assert_eq!(outcome, Outcome::Whole(all - 1), "byte {at}");
    }
    eprintln!("{} bits flipped in the last commit", places.len());
}

#[test]
fn the_last_commit_of_a_store_that_was_not_closed_is_vouched_for_by_its_mark() {
    let image = Image::plain(false);
    let (newest, all) = (image.newest(), image.events.len());
    let frames = image.edges(newest);
    let [.., before, start, end] = frames[..] else {
        panic!("no frame")
    };
    let mut cases = 0;
    for at in sample(start..start + 88, 20)
        .into_iter()
        .chain(sample(start + 88..end, 30))
    {
        let outcome = image.with(&log(newest), |bytes| bytes[at] ^= 1 << (at % 8));
        assert_eq!(outcome, Outcome::Refused, "byte {at}");
        cases += 1;
    }
    for gone in [start..end, before..end] {
        let outcome = image.with(&log(newest), |bytes| bytes[gone.clone()].fill(0));
        assert_eq!(outcome, Outcome::Refused, "zero at {gone:?}");
        cases += 1;
    }
    // The mark is needed by nobody as long as the commit is there.
    for at in sample(0..88, 20) {
        let outcome = image.with(&log(newest), |bytes| {
            let mark = bytes.len() - MARK_ROOM;
            bytes[mark + at] ^= 1 << (at % 8);
        });
        assert_eq!(outcome, Outcome::Whole(all), "byte {at} of the mark");
        cases += 1;
    }
    eprintln!("{cases} faults in a marked commit and its mark");
}

#[test]
fn the_last_commit_of_a_closed_store_is_vouched_for() {
    let image = Image::plain(true);
    let newest = image.newest();
    let frames = image.edges(newest);
    let [.., start, end] = frames[..] else {
        panic!("no frame")
    };
    let mut places = sample(start..start + 88, 20);
    places.extend(sample(start + 88..end, 30));
    for at in &places {
        let outcome = image.with(&log(newest), |bytes| bytes[*at] ^= 1 << (at % 8));
        assert_eq!(outcome, Outcome::Refused, "byte {at}");
        // What fills it up is zero anyway.
        let at = (*at).min(end - 8);
        let outcome = image.with(&log(newest), |bytes| bytes[at..end].fill(0));
        assert_eq!(outcome, Outcome::Refused, "zero from byte {at}");
    }
    eprintln!(
        "{} faults in a closed store's last commit",
        places.len() * 2
    );
}

#[test]
fn damage_before_a_vouched_commit_is_refused_at_open() {
    let image = Image::plain(false);
    let newest = image.newest();
    let frames = image.edges(newest);
    assert!(frames.len() > 4, "{frames:?}");
    let mut cases = 0;
    for pair in frames.windows(2).take(frames.len() - 2) {
        let mut places = sample(pair[0]..pair[0] + 88, 6);
        places.extend(sample(pair[0] + 88..pair[1], 6));
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
    let image = Image::plain(false);
    let (newest, mut cases) = (image.newest(), 0);
    for number in 1..newest {
        let end = *image.edges(number).last().unwrap();
        let mut places = sample(0..180, 4);
        places.extend(sample(FIRST_FRAME..end, 12));
        for at in places {
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
fn what_fills_a_commit_up_is_no_place_to_change_unseen() {
    let mut cases = 0;
    for closed in [false, true] {
        let image = Image::plain(closed);
        let newest = image.newest();
        for number in 1..=newest {
            let paddings = image.paddings(number);
            let step = paddings.len() / 8 + 1;
            let chosen = paddings.iter().step_by(step).chain(paddings.last());
            for at in chosen.flat_map(|fill| [fill.start, fill.end - 1]) {
                let outcome = image.with(&log(number), |bytes| bytes[at] = 1);
                let right = match outcome {
                    Outcome::Whole(_) => false,
                    Outcome::Refused => true,
                    Outcome::FoundLater => number < newest,
                };
                assert!(right, "segment {number} byte {at}, {closed}: {outcome:?}");
                cases += 1;
            }
        }
    }
    assert!(cases > 20, "{cases}");
    eprintln!("{cases} bytes that fill commits up");
}

#[test]
fn what_fills_a_commit_up_is_looked_at_by_those_who_read() {
    let image = Image::plain(true);
    let at = image.paddings(1)[0].start;
    let dir = image.dir();
    tools::put_back(&image.files, &dir);
    let store = open(&dir).unwrap();
    assert!(tools::read_all(&store).unwrap() == image.events);
    let path = segment(&dir, 1);
    tools::make_writable(&path);
    let mut bytes = fs::read(&path).unwrap();
    bytes[at] = 1;
    fs::write(&path, bytes).unwrap();
    for error in [
        tools::read_all(&store).unwrap_err(),
        store.verify().unwrap_err(),
    ] {
        assert_eq!(error.code(), "damaged");
        assert!(error.to_string().contains("is not zero"), "{error}");
    }
}

#[test]
fn a_newest_segment_that_lost_its_end_is_refused() {
    let image = Image::plain(false);
    let newest = image.newest();
    let len = fs::metadata(segment(&image.files, newest)).unwrap().len() as usize;
    for len in [0, 8, 179, FIRST_FRAME, FIRST_FRAME + 100, len / 2, len - 1] {
        let outcome = image.with(&log(newest), |bytes| bytes.truncate(len));
        assert_eq!(outcome, Outcome::Refused, "cut to {len}");
    }
}

#[test]
fn a_damaged_index_costs_no_event() {
    let mut cases = 0;
    for closed in [false, true] {
        let image = Image::plain(closed);
        let all = Outcome::Whole(image.events.len());
        let files = tree(&image.files);
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
    let image = Image::plain(true);
    let mut cases = 0;
    for file in ["format", "state"] {
        let len = fs::metadata(image.files.join(file)).unwrap().len() as usize;
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

#[test]
fn a_store_that_lost_its_format_names_it() {
    let image = Image::plain(true);
    for also in [
        &[][..],
        &["state"],
        &["manifest", "index"],
        &["state", "manifest", "index"],
    ] {
        let outcome = image.after(|dir| {
            fs::remove_file(dir.join("format")).unwrap();
            for name in also {
                let path = dir.join(name);
                if path.is_dir() {
                    fs::remove_dir_all(path).unwrap();
                } else {
                    fs::remove_file(path).unwrap();
                }
            }
        });
        assert_eq!(outcome, Outcome::Refused, "without format and {also:?}");
        match open(&image.dir()) {
            Err(Error::Damaged { path, .. }) => assert_eq!(path, image.dir().join("format")),
            other => panic!("without format and {also:?}: {other:?}"),
        }
    }
}
