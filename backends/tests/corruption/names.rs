//! No name leads out of the store's folder: not a stream's, not one in a file, not a link that lies
//! where the store writes.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use tempfile::TempDir;
use tidelog_backends::restore_backup;
use tidelog_core::*;

use crate::forge;
use crate::image::{End, Image, open};
use crate::tools::{self, Entry, event, read_all, read_stream, tree};

const LEADING_OUT: [&str; 14] = [
    "../x",
    "../../../../../../tmp/x",
    "/etc/x",
    ".",
    "..",
    "a/../../b",
    "a\\..\\b",
    "C:\\x",
    "NUL",
    "%2e%2e%2fx",
    "~/x",
    "$(touch x)",
    "-rf",
    "\u{202e}x",
];

pub fn snapshot(store: &tidelog_backends::SledStore, stream: &StreamId) {
    let head = store.blocking().head(stream).unwrap().unwrap();
    let outcome = store.blocking().persist_snapshot(SnapshotEnvelope {
        stream: stream.clone(),
        sequence: head.sequence,
        event_id: head.event_id,
        revision: 1,
        content_type: ContentType::Bytes,
        taken_time: Timestamp::from_micros(0),
        state: vec![7; 9_000].into(),
    });
    assert_eq!(outcome.unwrap(), PersistOutcome::Persisted);
}

/// Whether the library, or sled, gives files such names.
fn is_ours(path: &Path) -> bool {
    let mut parts = path.iter().map(|part| part.to_str().unwrap());
    let is_number = |text: &str| text.len() == 8 && text.bytes().all(|b| b.is_ascii_digit());
    match (
        parts.next().unwrap(),
        parts.next(),
        parts.next(),
        parts.next(),
    ) {
        ("LOCK" | "format" | "state" | "manifest" | "backup" | "log" | "index", None, ..) => true,
        ("log", Some(file), None, _) => file.strip_suffix(".seg").is_some_and(is_number),
        ("index", Some(folder), None | Some("conf" | "db" | "blobs"), None) => is_number(folder),
        ("index", Some(folder), Some(file), None) => is_number(folder) && file.starts_with("snap."),
        _ => false,
    }
}

#[test]
fn streams_with_the_names_of_paths_stay_inside() {
    let root = TempDir::new().unwrap();
    let [dir, backup, restored] =
        ["store", "backup", "restored"].map(|name| root.path().join(name));
    let long = "../".repeat(85);
    let ids = LEADING_OUT.into_iter().chain([long.as_str()]);
    let types = LEADING_OUT
        .into_iter()
        .filter(|name| !name.contains('/') && !name.starts_with('$'));
    let streams = ids.map(|id| StreamId::new("Test", id).unwrap());
    let streams = streams.chain(types.map(|name| StreamId::new(name, name).unwrap()));
    let streams: Vec<StreamId> = streams.collect();
    let store = open(&dir).unwrap();
    for (stream, n) in streams.iter().zip(0..) {
        let mut events = vec![event(n * 2, 9_000), event(n * 2 + 1, 100)];
        events[0].event_type = stream
            .aggregate_id()
            .chars()
            .take(60)
            .collect::<String>()
            .into();
        events[1].content_type = ContentType::parse(&stream.aggregate_type().repeat(2)).unwrap();
        let batch = AppendBatch::new(stream.clone(), ExpectedVersion::NoStream, events);
        store.blocking().append(batch).unwrap();
        snapshot(&store, stream);
    }
    store.drain().unwrap();
    store.backup(&backup).unwrap();
    store.close_blocking().unwrap();
    restore_backup(&backup, &restored).unwrap();
    for path in [&dir, &restored] {
        let store = open(path).unwrap();
        for stream in &streams {
            assert_eq!(read_stream(&store, stream).unwrap().len(), 2, "{stream}");
            let kept = store.blocking().read_snapshot(stream).unwrap();
            assert_eq!(kept.is_some(), path == &dir, "{stream}");
        }
        store.verify().unwrap();
    }
    let mut beside: Vec<_> = fs::read_dir(root.path())
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    beside.sort();
    assert_eq!(beside, [backup.clone(), restored.clone(), dir.clone()]);
    for path in [&dir, &backup, &restored] {
        let strange: Vec<_> = tree(path)
            .into_keys()
            .filter(|path| !is_ours(path))
            .collect();
        assert_eq!(strange, Vec::<PathBuf>::new(), "in {}", path.display());
    }
}

#[test]
fn names_that_no_stream_may_have_are_refused() {
    let long = "x".repeat(257);
    for (aggregate_type, id) in [
        ("Test", "a\0"),
        ("Test", "a\0/../x"),
        ("Te\0st", "a"),
        ("Test", "a\nb"),
        ("Test", ""),
        ("", "a"),
        ("Test", long.as_str()),
        ("../x", "a"),
        ("$tidelog", "control"),
    ] {
        let refused = StreamId::new(aggregate_type, id).map_err(|error| error.code());
        assert!(
            matches!(refused, Err("invalid_input" | "too_large")),
            "{aggregate_type:?} {id:?}"
        );
    }
    let dir = TempDir::new().unwrap();
    let store = open(dir.path()).unwrap();
    for event_type in ["", "a\0b", "a\nb"] {
        let mut event = event(1, 10);
        event.event_type = event_type.into();
        let batch = AppendBatch::new(tools::stream("s"), ExpectedVersion::Any, vec![event]);
        let refused = store.blocking().append(batch).map_err(|error| error.code());
        assert_eq!(refused, Err("invalid_input"), "{event_type:?}");
    }
}

/// A file beside the store that must stay as it is.
struct Outside(PathBuf);

const PRECIOUS: &str = "not the store's";

impl Outside {
    fn new(image: &Image) -> Self {
        let path = image.dir().with_file_name("outside");
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(path.join("20190101")).unwrap();
        fs::write(path.join("precious"), PRECIOUS).unwrap();
        fs::write(path.join("20190101/precious"), PRECIOUS).unwrap();
        Self(path)
    }

    #[track_caller]
    fn assert_untouched(&self) {
        let files = tree(&self.0).into_iter().map(|(path, entry)| match entry {
            Entry::File(_, bytes) => (path, bytes),
            Entry::Dir(_) => (path, Vec::new()),
        });
        let files: Vec<_> = files.filter(|(_, bytes)| !bytes.is_empty()).collect();
        let precious = PRECIOUS.as_bytes().to_vec();
        let paths = ["20190101/precious", "precious"];
        assert_eq!(
            files,
            paths.map(|path| (PathBuf::from(path), precious.clone()))
        );
    }
}

#[test]
fn links_in_a_store_do_not_lead_writes_out_of_it() {
    let image = Image::rich(End::Crashed);
    let dir = image.dir();
    let ahead = image.newest() + 2;
    let segment = format!("log/{ahead:08}.seg.new");
    let links = [
        "LOCK",
        "format.new",
        "state.new",
        "manifest.new",
        "index/opening.new",
        "index/opening",
        "manifest",
        segment.as_str(),
        "index/00000001/db",
        "index/00000001/conf",
        "index/00000001/snap.0000000000000001.generating",
    ];
    for link in links {
        tools::put_back(&image.files, &dir);
        let outside = Outside::new(&image);
        let _ = fs::remove_file(dir.join(link));
        symlink(outside.0.join("precious"), dir.join(link)).unwrap();
        let opened = open(&dir).map(|store| {
            // Enough to be sealed, indexed and closed.
            for n in 0..90 {
                let batch = AppendBatch::new(
                    tools::stream("s"),
                    ExpectedVersion::Any,
                    vec![event(1 << 40 | n, 1_000)],
                );
                store.blocking().append(batch).unwrap();
            }
            store.drain().unwrap();
            store.backup(dir.with_file_name("backup")).unwrap();
            store.close_blocking().unwrap();
        });
        eprintln!(
            "{link}: {}",
            opened.map_or_else(|error| error.to_string(), |()| "whole".into())
        );
        outside.assert_untouched();
        let _ = fs::remove_dir_all(dir.with_file_name("backup"));
    }
}

#[test]
fn folders_that_a_link_leads_to_are_not_removed() {
    let image = Image::rich(End::Crashed);
    let dir = image.dir();
    for generation in ["00000099", "index"] {
        tools::put_back(&image.files, &dir);
        let outside = Outside::new(&image);
        let link = if generation == "index" {
            fs::remove_dir_all(dir.join("index")).unwrap();
            dir.join("index")
        } else {
            dir.join("index").join(generation)
        };
        symlink(&outside.0, link).unwrap();
        let store = open(&dir).unwrap();
        store.rebuild_index().unwrap();
        assert!(read_all(&store).unwrap() == image.events);
        store.close_blocking().unwrap();
        let kept = fs::read(outside.0.join("20190101/precious")).unwrap();
        assert_eq!(kept, PRECIOUS.as_bytes(), "{generation}");
    }
}

/// The number is all that a manifest says of where sled stands.
#[test]
fn a_manifest_names_no_folder_but_its_own() {
    let image = Image::rich(End::Closed);
    let dir = image.dir();
    tools::put_back(&image.files, &dir);
    let outside = Outside::new(&image);
    forge::manifest(&dir, |manifest| manifest.generation = 20_190_101);
    symlink(outside.0.join("20190101"), dir.join("index/20190101")).unwrap();
    let store = open(&dir).unwrap();
    assert!(read_all(&store).unwrap() == image.events);
    store.close_blocking().unwrap();
    outside.assert_untouched();
}
