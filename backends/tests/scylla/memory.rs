//! Reading takes bounded memory, however long the stream and however slow the reader.

use std::process::Command;

use tidelog_core::{ContentType, NewEvent, StreamQuery};

use crate::keyspaces::{namespace, server, shared};
use crate::kit::{append, connect, stream};

const MIB: usize = 1 << 20;
/// Events of one MiB.
const LARGE: usize = 64;

/// Bytes of this process in memory.
fn resident() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:"));
    let kib = line.and_then(|line| line.split_whitespace().nth(1));
    kib.unwrap().parse::<usize>().unwrap() * 1_024
}

/// The other tests must not be in the measure: it is taken in a process of its own.
#[test]
fn reading_a_long_stream_takes_a_few_pages() {
    if server().is_none() || !cfg!(target_os = "linux") {
        return;
    }
    let child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "memory::in_a_process_of_its_own", "--ignored"])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&child.stdout);
    assert!(child.status.success(), "{said}");
    assert!(said.contains("1 passed"), "{said}");
}

#[test]
#[ignore = "run by the test above"]
fn in_a_process_of_its_own() {
    let store = connect(shared("memory", |config| config).namespace(namespace()));
    let stream = stream("large");
    for n in 0..LARGE {
        let payload = vec![u8::try_from(n).unwrap(); MIB];
        let event = NewEvent::new("Large", 1, ContentType::Bytes, payload);
        append(&store, &stream, &[event]);
    }
    let before = resident();
    let mut most = 0;
    for query in [
        StreamQuery::new(stream.clone()),
        StreamQuery::new(stream.clone()).backward(),
    ] {
        let mut read = 0;
        for event in store.read_stream(query) {
            read += event.unwrap().event.len();
            most = most.max(resident().saturating_sub(before));
        }
        assert_eq!(read, LARGE * MIB);
    }
    // One that is not read on holds what was read ahead, and no more.
    let mut slow = store.read_stream(StreamQuery::new(stream.clone()));
    slow.next().unwrap().unwrap();
    for _ in 0..20 {
        store.head(&stream).unwrap();
        most = most.max(resident().saturating_sub(before));
    }
    println!("{} MiB at most", most / MIB);
    assert!(most < 40 * MIB, "{} MiB", most / MIB);
}
