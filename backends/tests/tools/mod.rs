//! What the tests of the embedded store on disk share.
#![allow(dead_code, reason = "no test uses all of it")]

mod folder;
pub mod strace;

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use tidelog_backends::SledStore;
use tidelog_core::*;

pub use folder::copy_tree;

/// What stands at one path: mode, and for a file its bytes.
#[derive(Clone, PartialEq, Eq)]
pub enum Entry {
    Dir(u32),
    File(u32, Vec<u8>),
}

impl std::fmt::Debug for Entry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Dir(mode) => write!(f, "dir {mode:o}"),
            Self::File(mode, bytes) => write!(f, "file {mode:o} of {} bytes", bytes.len()),
        }
    }
}

/// Everything in `dir` but `LOCK`, whose content is information only.
pub fn tree(dir: &Path) -> BTreeMap<PathBuf, Entry> {
    let mut found = BTreeMap::new();
    walk(dir, dir, &mut found);
    found.remove(Path::new("LOCK"));
    found
}

fn walk(root: &Path, at: &Path, found: &mut BTreeMap<PathBuf, Entry>) {
    let Ok(entries) = fs::read_dir(at) else {
        return;
    };
    for entry in entries {
        let path = entry.unwrap().path();
        let inside = path.strip_prefix(root).unwrap().to_path_buf();
        let metadata = fs::metadata(&path).unwrap();
        let mode = metadata.permissions().mode() & 0o777;
        if metadata.is_dir() {
            found.insert(inside, Entry::Dir(mode));
            walk(root, &path, found);
        } else {
            found.insert(inside, Entry::File(mode, fs::read(&path).unwrap()));
        }
    }
}

/// The paths whose entries differ.
pub fn differences(
    before: &BTreeMap<PathBuf, Entry>,
    after: &BTreeMap<PathBuf, Entry>,
) -> Vec<PathBuf> {
    let paths = before.keys().chain(after.keys());
    let mut differing: Vec<_> = paths
        .filter(|path| before.get(*path) != after.get(*path))
        .cloned()
        .collect();
    differing.sort();
    differing.dedup();
    differing
}

/// Puts a directory back as `image` has it.
pub fn put_back(image: &Path, dir: &Path) {
    if dir.exists() {
        fs::remove_dir_all(dir).unwrap();
    }
    copy_tree(image, dir);
}

/// Makes a sealed segment writable, for tests that damage it.
pub fn make_writable(path: &Path) {
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
}

pub fn segment(dir: &Path, number: u64) -> PathBuf {
    dir.join("log").join(format!("{number:08}.seg"))
}

/// Numbers of the segments there, ascending.
pub fn segments(dir: &Path) -> Vec<u64> {
    let mut numbers: Vec<u64> = fs::read_dir(dir.join("log"))
        .unwrap()
        .filter_map(|entry| {
            let name = entry.unwrap().file_name().into_string().unwrap();
            name.strip_suffix(".seg")?.parse().ok()
        })
        .collect();
    numbers.sort_unstable();
    numbers
}

pub fn stream(id: &str) -> StreamId {
    StreamId::new("Test", id).unwrap()
}

/// An event whose id and payload follow from `n`.
pub fn event(n: u64, payload_bytes: usize) -> NewEvent {
    let mut payload = n.to_le_bytes().to_vec();
    payload.resize(payload_bytes.max(8), n.to_le_bytes()[0]);
    NewEvent::new("Noted", 1, ContentType::Bytes, payload).with_id(id(n))
}

pub fn id(n: u64) -> EventId {
    EventId::from_bytes((u128::from(n) << 64 | 0x0705_8080).to_be_bytes())
}

pub fn read_all(store: &SledStore) -> Result<Vec<EventEnvelope>, Error> {
    store.blocking().read_all(LogQuery::all()).collect()
}

pub fn read_stream(store: &SledStore, stream: &StreamId) -> Result<Vec<EventEnvelope>, Error> {
    store
        .blocking()
        .read_stream(StreamQuery::new(stream.clone()))
        .collect()
}

/// Of each stream the events of its newest branch, by what was recorded up to some place.
pub fn newest_branches(events: &[EventEnvelope]) -> BTreeMap<StreamId, Vec<EventEnvelope>> {
    let mut streams: BTreeMap<StreamId, Vec<EventEnvelope>> = BTreeMap::new();
    for event in events {
        if let Some(what) = Superseded::of(event) {
            let gives_way = |event: &EventEnvelope| {
                let position = event.position.unwrap();
                what.concerns(&event.stream, event.sequence, position)
            };
            let of = streams.entry(what.stream.clone()).or_default();
            of.retain(|event| !gives_way(event));
        } else if event.kind != RecordKind::Control {
            let of = streams.entry(event.stream.clone()).or_default();
            of.push(event.clone());
        }
    }
    streams
}

/// Says loudly that something was not tested; a failure where everything must be.
pub fn skipped(what: &str) {
    eprintln!("\n*** SKIPPED: {what} ***\n");
    assert!(
        std::env::var_os("CI").is_none_or(|ci| ci != "true"),
        "skipped although CI=true: {what}"
    );
}
