//! Small stores as they stand on the disk, made once a process.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::LazyLock;

use tidelog_backends::{SledStore, fuzzing};
use tidelog_core::{
    AppendBatch, ContentType, Durability, Error, EventEnvelope, EventId, ExpectedVersion, LogQuery,
    NewEvent, RecordKind, StreamId,
};

/// Files by path.
pub type Image = BTreeMap<String, Vec<u8>>;

/// Stores with their events: closed, not closed, and a backup.
pub static IMAGES: LazyLock<Vec<(Image, Vec<EventEnvelope>)>> =
    LazyLock::new(|| make().expect("small stores can be made"));

pub fn open(dir: &Path) -> Result<SledStore, Error> {
    let builder = SledStore::builder(dir)
        .durability(Durability::Process)
        .segment_size(64 << 10)
        .stress_index(64, 2);
    fuzzing::without_sled(builder).open()
}

pub fn stream(n: u64) -> StreamId {
    StreamId::new("T", &n.to_string()).expect("a name")
}

pub fn event(n: u64, bytes: usize) -> NewEvent {
    let id = EventId::from_bytes((u128::from(n) << 64 | 7).to_be_bytes());
    NewEvent::new("E", 1, ContentType::Bytes, vec![n as u8; bytes]).with_id(id)
}

fn make() -> Result<Vec<(Image, Vec<EventEnvelope>)>, Error> {
    let root = tempfile::tempdir().expect("a directory");
    let (dir, backup) = (root.path().join("store"), root.path().join("backup"));
    let store = open(&dir)?;
    for n in 0..12 {
        let events = (0..1 + n % 3).map(|at| event(n << 8 | at, 5_000)).collect();
        let batch = AppendBatch::new(stream(n % 4), ExpectedVersion::Any, events);
        store.blocking().append(batch)?;
    }
    store.drain()?;
    store.backup(&backup)?;
    let events: Result<Vec<_>, _> = store.blocking().read_all(LogQuery::all()).collect();
    let mut events = events?;
    events.retain(|event| event.kind == RecordKind::Event);
    store.crash();
    drop(store);
    let crashed = read(&dir);
    open(&dir)?.close_blocking()?;
    let images = [read(&dir), crashed, read(&backup)];
    Ok(images.map(|image| (image, events.clone())).into())
}

fn read(dir: &Path) -> Image {
    let mut image = Image::new();
    let mut left = vec![dir.to_path_buf()];
    while let Some(at) = left.pop() {
        for entry in fs::read_dir(at).expect("it is there") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                left.push(path);
                continue;
            }
            let name = path.strip_prefix(dir).expect("inside");
            let bytes = fs::read(&path).expect("it can be read");
            image.insert(name.to_string_lossy().into_owned(), bytes);
        }
    }
    image
}

/// Puts an image into a new directory; what is in the way of something else is left out.
pub fn put(image: &Image, dirs: &[&str], dir: &Path) {
    fs::create_dir(dir).expect("a directory");
    for name in dirs {
        let _ = fs::create_dir_all(dir.join(name));
    }
    for (name, bytes) in image {
        let path = dir.join(name);
        if let Some(parent) = path.parent() {
            let _ = fs::create_dir_all(parent);
        }
        let _ = fs::write(path, bytes);
    }
}
