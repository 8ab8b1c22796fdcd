//! A directory whose files were changed at will opens with a beginning of what was in it, or with a
//! typed error. What opens and verifies goes on.
//!
//! sled's own files are left out: it may abort, which only a process of its own survives (see
//! `backends/tests/corruption`).
#![no_main]

mod images;

use std::path::Path;

use arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;
use tidelog_backends::SledStore;
use tidelog_core::{AppendBatch, Error, EventEnvelope, ExpectedVersion, LogQuery, RecordKind};

use images::{IMAGES, Image, event, open, stream};

#[derive(Arbitrary, Debug)]
struct Input {
    image: u8,
    changes: Vec<Change>,
}

#[derive(Arbitrary, Debug)]
enum Change {
    Remove(u8),
    Write {
        file: u8,
        at: u32,
        bytes: Vec<u8>,
    },
    Flip {
        file: u8,
        at: u32,
        bit: u8,
    },
    Zero {
        file: u8,
        at: u32,
        len: u16,
    },
    Cut {
        file: u8,
        len: u32,
    },
    Grow {
        file: u8,
        by: u16,
    },
    Move {
        from: u8,
        to: u8,
    },
    Copy {
        from: u8,
        to: u8,
    },
    /// Changes the body of a small file, and makes its length and checksum right.
    Reseal {
        file: u8,
        at: u8,
        bytes: Vec<u8>,
    },
    /// A file with a name that may mean something.
    Junk {
        name: u8,
        bytes: Vec<u8>,
    },
    Dir {
        name: u8,
    },
}

const NAMES: [&str; 12] = [
    "format",
    "format.new",
    "state",
    "manifest",
    "backup",
    "LOCK",
    "log",
    "log/00000004.seg",
    "log/00000003.seg.new",
    "index/opening",
    "index/00000001",
    "index/99999999/db",
];

fn change(image: &mut Image, dirs: &mut Vec<&str>, change: Change) {
    let names: Vec<String> = image.keys().cloned().collect();
    let name = |at: u8| names.get(usize::from(at) % names.len().max(1));
    let file = match &change {
        Change::Remove(file)
        | Change::Write { file, .. }
        | Change::Flip { file, .. }
        | Change::Zero { file, .. }
        | Change::Cut { file, .. }
        | Change::Grow { file, .. }
        | Change::Reseal { file, .. } => *file,
        Change::Move { from, .. } | Change::Copy { from, .. } => *from,
        Change::Junk { name, bytes } => {
            let name = NAMES[usize::from(*name) % NAMES.len()];
            image.insert(name.into(), bytes.clone());
            return;
        }
        Change::Dir { name } => {
            dirs.push(NAMES[usize::from(*name) % NAMES.len()]);
            return;
        }
    };
    let Some(file) = name(file).cloned() else {
        return;
    };
    let Some(bytes) = image.get_mut(&file) else {
        return;
    };
    let place = |at: u32| at as usize % (bytes.len() + 16);
    match change {
        Change::Remove(_) => drop(image.remove(&file)),
        Change::Write { at, bytes: new, .. } => {
            let at = place(at);
            bytes.resize(bytes.len().max(at + new.len()), 0);
            bytes[at..at + new.len()].copy_from_slice(&new);
        }
        Change::Flip { at, bit, .. } => {
            let at = place(at);
            if let Some(byte) = bytes.get_mut(at) {
                *byte ^= 1 << (bit % 8);
            }
        }
        Change::Zero { at, len, .. } => {
            let at = place(at).min(bytes.len());
            let end = (at + usize::from(len)).min(bytes.len());
            bytes[at..end].fill(0);
        }
        Change::Cut { len, .. } => bytes.truncate(place(len)),
        Change::Grow { by, .. } => bytes.resize(bytes.len() + usize::from(by), 0),
        Change::Move { to, .. } | Change::Copy { to, .. } => {
            let bytes = bytes.clone();
            if let Some(to) = name(to).cloned() {
                if matches!(change, Change::Move { .. }) {
                    image.remove(&file);
                }
                image.insert(to, bytes);
            }
        }
        Change::Reseal { at, bytes: new, .. } if bytes.len() >= 16 => {
            let at = 16 + usize::from(at);
            bytes.resize(bytes.len().max(at + new.len()), 0);
            bytes[at..at + new.len()].copy_from_slice(&new);
            let len = (bytes.len() - 16) as u32;
            bytes[8..12].copy_from_slice(&len.to_le_bytes());
            let crc = crc32c::crc32c(&bytes[16..]);
            bytes[12..16].copy_from_slice(&crc.to_le_bytes());
        }
        _ => {}
    }
}

fn read(store: &SledStore) -> Result<Vec<EventEnvelope>, Error> {
    let all: Result<Vec<_>, _> = store.blocking().read_all(LogQuery::all()).collect();
    Ok(all?
        .into_iter()
        .filter(|event| event.kind == RecordKind::Event)
        .collect())
}

fn go_on(dir: &Path, store: SledStore) -> Result<(), Error> {
    let before = read(&store)?.len();
    let batch = AppendBatch::new(stream(9), ExpectedVersion::Any, vec![event(1 << 30, 40)]);
    store.blocking().append(batch)?;
    store.close_blocking()?;
    drop(store);
    let store = open(dir)?;
    store.verify()?;
    assert_eq!(read(&store)?.len(), before + 1);
    store.close_blocking()
}

fuzz_target!(|input: Input| {
    let (image, known) = &IMAGES[usize::from(input.image) % IMAGES.len()];
    let mut image = image.clone();
    let mut dirs = Vec::new();
    for one in input.changes.into_iter().take(8) {
        change(&mut image, &mut dirs, one);
    }
    let root = tempfile::tempdir().expect("a directory");
    let dir = root.path().join("store");
    images::put(&image, &dirs, &dir);
    let Ok(store) = open(&dir) else { return };
    if let Ok(found) = read(&store) {
        assert!(
            known.starts_with(&found),
            "{} events of {} are not its beginning",
            found.len(),
            known.len()
        );
    }
    if store.verify().is_ok() {
        match go_on(&dir, store) {
            // A flag of a later version: it may be read alone.
            Err(Error::UnsupportedFormat { .. }) => {}
            done => done.expect("what verifies goes on"),
        }
    }
});
