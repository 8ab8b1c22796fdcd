//! Stores whose history is known, as files.

use std::fs;
use std::ops::Range;
use std::path::{Path, PathBuf};

use tempfile::TempDir;
use tidelog_backends::SledStore;
use tidelog_core::*;

use crate::consumers::{self, Time};
use crate::sweep::Random;
use crate::tools::{self, event, read_all, segment, segments, stream};

/// Where the first frame of a segment stands.
pub const FIRST_FRAME: usize = 4096;
/// Bytes of a frame's header.
pub const FRAME_HEADER: usize = 88;

pub fn open(dir: &Path) -> Result<SledStore, Error> {
    SledStore::builder(dir).segment_size(64 << 10).open()
}

/// How a store came to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    Closed,
    /// Every commit was synced before.
    Crashed,
    /// Most commits were left to the operating system.
    CrashedUnsynced,
    /// Closed and opened some times, its runs merged, then crashed.
    CrashedLater,
    /// With a segment just begun: what it says is all that vouches for the one before.
    CrashedAtNewSegment,
    /// With full segments that were not sealed or indexed yet.
    CrashedBusy,
}

impl End {
    pub const ALL: [Self; 6] = [
        Self::Closed,
        Self::Crashed,
        Self::CrashedUnsynced,
        Self::CrashedLater,
        Self::CrashedAtNewSegment,
        Self::CrashedBusy,
    ];

    /// Whether most commits were left to the operating system.
    pub fn is_unsynced(self) -> bool {
        use End::{CrashedBusy, CrashedLater, CrashedUnsynced};
        matches!(self, CrashedUnsynced | CrashedLater | CrashedBusy)
    }
}

/// A store's files, and what was acknowledged.
pub struct Image {
    root: TempDir,
    pub end: End,
    /// As they were at the end.
    pub files: PathBuf,
    /// As they were at half of its life.
    pub older: PathBuf,
    /// Of another store.
    pub foreign: PathBuf,
    pub events: Vec<EventEnvelope>,
}

impl Image {
    /// Several sealed segments and one that is not, one event a commit, each commit synced; closed
    /// cleanly or not.
    pub fn plain(closed: bool) -> Self {
        Self::build(
            if closed { End::Closed } else { End::Crashed },
            |face, from, to| {
                for n in from * 330 / 100..to * 330 / 100 {
                    let to = stream(&(n % 5).to_string());
                    let batch = AppendBatch::new(to, ExpectedVersion::Any, vec![event(n, 700)]);
                    face.append(batch).unwrap();
                }
            },
        )
    }

    /// Commits of many kinds and sizes, over one or several streams.
    pub fn rich(end: End) -> Self {
        Self::build(end, |face, from, to| {
            for n in from * 4..to * 4 {
                face.append_streams(rich_parts(n, end)).unwrap();
            }
        })
    }

    /// `fill` appends what belongs between two percentages of the whole.
    fn build(end: End, fill: impl Fn(&Blocking<SledStore>, u64, u64)) -> Self {
        let root = TempDir::new().unwrap();
        let [dir, files, older, foreign] =
            ["store", "files", "older", "foreign"].map(|name| root.path().join(name));
        let other = open(&foreign).unwrap();
        fill(&other.blocking(), 0, 60);
        consumers::work(&other, Time::Elsewhere);
        other.drain().unwrap();
        other.close_blocking().unwrap();
        let mut store = open_for(&dir, end);
        fill(&store.blocking(), 0, 40);
        store.drain().unwrap();
        take_snapshots(&store);
        consumers::work(&store, Time::Early);
        tools::copy_tree(&dir, &older);
        for from in [40, 60, 80] {
            if end == End::CrashedLater {
                store.close_blocking().unwrap();
                store = open_for(&dir, end);
            }
            if from == 80 {
                consumers::work(&store, Time::Late);
            }
            fill(&store.blocking(), from, from + 20);
        }
        if end == End::CrashedAtNewSegment {
            let last = newest(&dir);
            let mut at = (100..).take_while(|_| newest(&dir) == last);
            at.by_ref()
                .for_each(|at| fill(&store.blocking(), at, at + 1));
        }
        if end != End::CrashedBusy {
            store.drain().unwrap();
            take_snapshots(&store);
        }
        let events = read_all(&store).unwrap();
        match end {
            End::Closed => store.close_blocking().unwrap(),
            End::CrashedBusy => store.crash(),
            _ => {
                // What a kill leaves: sled writes nothing more to it.
                tools::copy_tree(&dir, &files);
                store.crash();
            }
        }
        if !files.exists() {
            tools::copy_tree(&dir, &files);
        }
        for of in [&files, &older, &foreign] {
            let _ = fs::remove_file(of.join("LOCK"));
        }
        assert!(segments(&files).len() >= 4);
        Self {
            root,
            end,
            files,
            older,
            foreign,
            events,
        }
    }

    /// Where a damaged copy stands.
    pub fn dir(&self) -> PathBuf {
        self.root.path().join("store")
    }

    /// The newest segment that was begun: one made ahead, all zero, may follow it.
    pub fn newest(&self) -> u64 {
        newest(&self.files)
    }

    /// All frames of the log, oldest first, with their segments.
    pub fn frames(&self) -> Vec<Frame> {
        let numbers = segments(&self.files);
        let each = numbers
            .into_iter()
            .map(|number| frames_of(&self.files, number));
        each.flatten().collect()
    }

    /// The streams that have events.
    pub fn streams(&self) -> Vec<StreamId> {
        let mut streams: Vec<_> = self
            .events
            .iter()
            .map(|event| event.stream.clone())
            .collect();
        streams.sort();
        streams.dedup();
        streams
    }
}

pub fn newest(files: &Path) -> u64 {
    let begun = |number: &&u64| {
        fs::read(segment(files, **number))
            .unwrap()
            .starts_with(b"TIDESEG1")
    };
    *segments(files).iter().rfind(begun).unwrap()
}

/// Where one commit stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    pub segment: u64,
    /// From its first byte to the next frame's.
    pub range: Range<usize>,
    /// Its bytes without those that only fill it up to a multiple of 8: nothing depends on them.
    pub used: Range<usize>,
    pub last_position: u64,
}

/// The frames of one segment, by their stated lengths.
pub fn frames_of(files: &Path, number: u64) -> Vec<Frame> {
    let bytes = fs::read(segment(files, number)).unwrap();
    let mut frames = Vec::new();
    let mut at = FIRST_FRAME;
    while bytes.get(at..at + 4) == Some(b"TLF1") {
        let word =
            |from: usize| u32::from_le_bytes(bytes[at + from..at + from + 4].try_into().unwrap());
        let position = u64::from_le_bytes(bytes[at + 64..at + 72].try_into().unwrap());
        let used = at + FRAME_HEADER + word(4) as usize;
        let end = used.next_multiple_of(8);
        frames.push(Frame {
            segment: number,
            range: at..end,
            used: at..used,
            last_position: position + u64::from(word(72)) - 1,
        });
        at = end;
    }
    frames
}

fn open_for(dir: &Path, end: End) -> SledStore {
    let durability = if end.is_unsynced() {
        Durability::Process
    } else {
        Durability::Power
    };
    let builder = SledStore::builder(dir)
        .segment_size(64 << 10)
        .durability(durability);
    let builder = if end == End::CrashedLater {
        builder.stress_index(64, 2)
    } else {
        builder
    };
    builder.open().unwrap()
}

fn rich_parts(n: u64, end: End) -> Vec<AppendBatch> {
    let mut random = Random(n);
    let (parts, events) = match random.below(10) {
        0..6 => (1, 1),
        6..9 => (1, 2 + random.below(5)),
        _ => (3, 1 + random.below(2)),
    };
    let first = random.below(7);
    let mut index = n * 1000;
    let mut one = |random: &mut Random| {
        index += 1;
        let bytes = if random.one_in(25) {
            5_000
        } else {
            30 + random.below(700)
        };
        let mut metadata = Metadata::new();
        if random.one_in(3) {
            metadata = [("actor".to_owned(), n.to_string())].into_iter().collect();
        }
        event(index, bytes).with_metadata(metadata)
    };
    let part = |of: usize| {
        let to = stream(&((first + of) % 7).to_string());
        let events = (0..events).map(|_| one(&mut random)).collect();
        let mut part = AppendBatch::new(to, ExpectedVersion::Any, events);
        // Some are synced all the same, and vouch for those before them.
        if end == End::CrashedUnsynced && n.is_multiple_of(40) {
            part.durability = Some(Durability::Power);
        }
        part
    };
    (0..parts).map(part).collect()
}

/// What a snapshot of `stream` at `sequence` holds.
pub fn state_at(stream: &StreamId, sequence: u64) -> Vec<u8> {
    format!("{stream} at {sequence};")
        .into_bytes()
        .repeat(40 * (1 + sequence as usize % 9))
}

fn take_snapshots(store: &SledStore) {
    let face = store.blocking();
    for id in ["0", "2", "4"] {
        let stream = stream(id);
        let head = face.head(&stream).unwrap().unwrap();
        let snapshot = SnapshotEnvelope {
            sequence: head.sequence,
            event_id: head.event_id,
            revision: 1,
            content_type: ContentType::Bytes,
            taken_time: Timestamp::from_micros(0),
            state: state_at(&stream, head.sequence).into(),
            stream,
        };
        face.persist_snapshot(snapshot).unwrap();
    }
}
