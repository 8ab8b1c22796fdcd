//! A store whose newest segment holds arbitrary bytes opens or answers a typed error; it never
//! panics, and what it serves afterwards verifies.
#![no_main]

use std::os::unix::fs::FileExt;

use libfuzzer_sys::fuzz_target;
use tidelog_backends::SledStore;
use tidelog_core::{AppendBatch, ContentType, ExpectedVersion, NewEvent, StreamId};

fuzz_target!(|input: (u16, Vec<u8>)| {
    let (offset, bytes) = input;
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("store");
    let open = || SledStore::builder(&path).segment_size(64 << 10).open();
    let store = open().expect("a new store opens");
    let stream = StreamId::new("T", "1").expect("a name");
    let event = NewEvent::new("E", 1, ContentType::Bytes, vec![7; 300]);
    let batch = AppendBatch::new(stream, ExpectedVersion::Any, vec![event]);
    store.blocking().append(batch).expect("an append");
    store.crash();
    drop(store);
    let segment = path.join("log/00000001.seg");
    let file = std::fs::File::options()
        .write(true)
        .open(segment)
        .expect("the segment");
    let room = (64_usize << 10) - usize::from(offset);
    file.write_all_at(&bytes[..bytes.len().min(room)], u64::from(offset))
        .expect("a write");
    if let Ok(store) = open() {
        store.verify().expect("what opens verifies");
    }
});
