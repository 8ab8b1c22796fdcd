//! Opening: what cannot be opened is refused with an error that names path and remedy, and nothing
//! on disk is changed.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::cast_possible_truncation,
    reason = "a test that fails shall stop, and its numbers are small"
)]

mod tools;

use std::fs;
use std::ops::ControlFlow;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};

use tidelog_backends::SledStore;
use tidelog_core::*;
use tools::{Entry, differences, event, read_all, segment, segments, stream, tree};

const CHILD: &str = "TIDELOG_TEST_OPEN_AND_TELL";

fn open(dir: &Path) -> Result<SledStore, Error> {
    SledStore::builder(dir).segment_size(64 << 10).open()
}

fn fill(store: &SledStore, from: u64, to: u64) {
    for n in from..to {
        let batch = AppendBatch::new(stream("s"), ExpectedVersion::Any, vec![event(n, 700)])
            .with_durability(Durability::Process);
        store.blocking().append(batch).unwrap();
    }
}

/// A store with several segments, closed.
fn filled(dir: &Path) {
    let store = open(dir).unwrap();
    fill(&store, 0, 330);
    store.drain().unwrap();
    store.close_blocking().unwrap();
}

/// Opens what must be refused, and answers the error. Nothing may be changed.
#[track_caller]
fn refused(dir: &Path) -> Error {
    let before = tree(dir);
    let error = open(dir).map(drop).unwrap_err();
    let changed = differences(&before, &tree(dir));
    assert!(changed.is_empty(), "{error}\nchanged {changed:?}");
    let text = error.to_string();
    assert!(text.contains(dir.to_str().unwrap()), "no path in {text}");
    assert!(text.contains([';', ':']), "no remedy in {text}");
    eprintln!("{text}");
    error
}

#[track_caller]
fn assert_damaged(error: &Error, at: &Path) {
    match error {
        Error::Damaged { path, .. } => assert_eq!(path, at),
        other => panic!("expected damage of {}, got {other:?}", at.display()),
    }
}

#[track_caller]
fn assert_not_a_store(error: &Error) {
    assert!(matches!(error, Error::NotAStore { .. }), "{error:?}");
}

/// Not a test by itself: the second process of the test below.
#[test]
fn child_opens_and_tells() {
    let Some(dir) = std::env::var_os(CHILD) else {
        return;
    };
    match open(Path::new(&dir)) {
        Ok(store) => println!("opened at {}", store.blocking().last_position()),
        Err(error) => println!("{} {error}", error.code()),
    }
}

fn opened_by_another_process(dir: &Path) -> String {
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "child_opens_and_tells", "--nocapture"])
        .env(CHILD, dir)
        .stderr(Stdio::inherit())
        .output()
        .unwrap();
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn a_store_in_use_names_its_holder_to_the_same_and_to_another_process() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).unwrap();
    fill(&store, 0, 3);
    let before = tree(dir.path());
    let pid = format!("process {}", std::process::id());
    match open(dir.path()) {
        Err(Error::Locked { path, holder }) => {
            assert_eq!(path, dir.path());
            assert!(holder.contains(&pid), "{holder}");
        }
        other => panic!("{other:?}"),
    }
    let told = opened_by_another_process(dir.path());
    assert!(told.contains("locked ") && told.contains(&pid), "{told}");
    assert!(told.contains("close it there first"), "{told}");
    assert_eq!(
        differences(&before, &tree(dir.path())),
        Vec::<PathBuf>::new()
    );
    fill(&store, 3, 5);
    store.close_blocking().unwrap();
    let told = opened_by_another_process(dir.path());
    assert!(told.contains("opened at 5"), "{told}");
}

#[test]
fn missing_parents_are_made_and_a_new_store_is_small_and_private() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a/b/store");
    let store = SledStore::open(&path).unwrap();
    assert!(store.info().unwrap().log_bytes > 0);
    store.close_blocking().unwrap();
    let mut bytes = 0;
    for (inside, entry) in tree(&path) {
        match entry {
            Entry::Dir(mode) => {
                let blobs = inside.ends_with("blobs")
                    && fs::read_dir(path.join(&inside)).unwrap().count() > 0;
                assert!(!blobs, "sled spilled into {}", inside.display());
                // What sled makes has sled's modes, but stands in a directory that is ours alone.
                assert!(
                    mode == 0o700 || inside.components().count() > 2,
                    "{inside:?} {mode:o}"
                );
            }
            Entry::File(mode, content) => {
                bytes += content.len();
                let ours = !inside.starts_with("index");
                assert!(!ours || mode == 0o600, "{inside:?} {mode:o}");
            }
        }
    }
    assert!(bytes <= 4 << 20, "{bytes} bytes");
    eprintln!("an empty store takes {bytes} bytes");
    for made in [&path, &dir.path().join("a"), &dir.path().join("a/b")] {
        let mode = fs::metadata(made).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode, 0o700, "{}", made.display());
    }
}

#[test]
fn a_path_that_cannot_be_a_store_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    fs::write(&file, "text").unwrap();
    assert_not_a_store(&refused(&file));
    assert_not_a_store(&refused(&file.join("below")));
    assert_not_a_store(&refused(&file.join("far/below")));
    assert_eq!(fs::read(&file).unwrap(), b"text");
    let foreign = dir.path().join("foreign");
    fs::create_dir(&foreign).unwrap();
    fs::write(foreign.join("letter.txt"), "dear").unwrap();
    assert_not_a_store(&refused(&foreign));
    assert!(!foreign.join("LOCK").exists());
}

/// A directory that nobody can write to, until this is dropped.
struct ReadOnly(PathBuf, bool);

impl ReadOnly {
    /// `None` when this user can write everywhere and the filesystem has no such flag.
    fn make(dir: &Path) -> Option<Self> {
        let immutable = Command::new("chattr").args(["-R", "+i"]).arg(dir).output();
        let immutable = immutable.is_ok_and(|output| output.status.success());
        let guard = Self(dir.into(), immutable);
        if !immutable {
            fs::set_permissions(dir, fs::Permissions::from_mode(0o500)).unwrap();
        }
        fs::write(dir.join("probe"), "").is_err().then_some(guard)
    }
}

impl Drop for ReadOnly {
    fn drop(&mut self) {
        if self.1 {
            let _ = Command::new("chattr")
                .args(["-R", "-i"])
                .arg(&self.0)
                .status();
        } else {
            let _ = fs::set_permissions(&self.0, fs::Permissions::from_mode(0o700));
        }
    }
}

#[test]
fn a_read_only_directory_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let (empty, store) = (dir.path().join("empty"), dir.path().join("store"));
    fs::create_dir(&empty).unwrap();
    filled(&store);
    for path in [&empty, &store] {
        let Some(_guard) = ReadOnly::make(path) else {
            return tools::skipped("a read-only directory: neither modes nor chattr +i hold here");
        };
        assert_not_a_store(&refused(path));
        if path == &empty {
            assert_not_a_store(&refused(&empty.join("below")));
        }
    }
    assert_eq!(read_all(&open(&store).unwrap()).unwrap().len(), 330);
}

/// Names and contents.
type Files<'a> = &'a [(&'a str, &'a [u8])];

/// Sets the flags of a class in `format`: 4 compatible, 8 read-only compatible, 12 incompatible.
fn set_format(dir: &Path, version: u32, class: usize, flags: u32) {
    let path = dir.join("format");
    let mut bytes = fs::read(&path).unwrap();
    bytes[16..20].copy_from_slice(&version.to_le_bytes());
    bytes[16 + class..20 + class].copy_from_slice(&flags.to_le_bytes());
    let crc = crc32c::crc32c(&bytes[16..]);
    bytes[12..16].copy_from_slice(&crc.to_le_bytes());
    fs::write(&path, bytes).unwrap();
}

#[test]
fn a_newer_format_opens_only_when_its_flags_allow() {
    let dir = tempfile::tempdir().unwrap();
    filled(dir.path());
    set_format(dir.path(), 2, 4, 1 << 9);
    let store = open(dir.path()).unwrap();
    let info = store.info().unwrap();
    assert_eq!((info.format_version, info.compatible_flags), (2, 1 << 9));
    assert_eq!(read_all(&store).unwrap().len(), 330);
    drop(store);
    // `golden_stores` holds that such a store is not written.
    set_format(dir.path(), 2, 8, 1 << 9);
    let store = open(dir.path()).unwrap();
    assert_eq!(read_all(&store).unwrap().len(), 330);
    drop(store);
    set_format(dir.path(), 2, 8, 0);
    set_format(dir.path(), 2, 12, 1 << 9);
    match refused(dir.path()) {
        Error::UnsupportedFormat {
            version,
            class,
            flags,
            ..
        } => assert_eq!((version, class, flags), (2, "incompatible", 1 << 9)),
        other => panic!("{other:?}"),
    }
    set_format(dir.path(), 2, 12, 0);
    assert_eq!(read_all(&open(dir.path()).unwrap()).unwrap().len(), 330);
}

#[test]
fn a_log_without_its_format_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    filled(dir.path());
    fs::remove_file(dir.path().join("format")).unwrap();
    refused(dir.path());
    // Even when only the log is left, it is not taken for an interrupted creation.
    for beside in ["state", "manifest"] {
        fs::remove_file(dir.path().join(beside)).unwrap();
    }
    fs::remove_dir_all(dir.path().join("index")).unwrap();
    assert_damaged(&refused(dir.path()), &dir.path().join("format"));
}

#[test]
fn a_missing_segment_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let (path, image) = (dir.path().join("store"), dir.path().join("image"));
    filled(&path);
    tools::copy_tree(&path, &image);
    let begun = |number: &&u64| {
        fs::read(segment(&image, **number))
            .unwrap()
            .starts_with(b"TIDESEG1")
    };
    let newest = *segments(&image).iter().rfind(begun).unwrap();
    for missing in [1, newest / 2, newest] {
        tools::put_back(&image, &path);
        for number in segments(&path)
            .into_iter()
            .filter(|n| *n == missing || (missing == newest && *n > newest))
        {
            fs::remove_file(segment(&path, number)).unwrap();
        }
        let error = refused(&path);
        assert!(matches!(error, Error::Damaged { .. }), "{error:?}");
    }
    tools::put_back(&image, &path);
    fs::remove_dir_all(path.join("log")).unwrap();
    let error = refused(&path);
    assert!(matches!(error, Error::Damaged { .. }), "{error:?}");
}

#[test]
fn a_log_rolled_back_behind_its_index_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let (path, early) = (dir.path().join("store"), dir.path().join("early"));
    let store = open(&path).unwrap();
    fill(&store, 0, 100);
    tools::copy_tree(&path.join("log"), &early);
    fill(&store, 100, 500);
    store.drain().unwrap();
    store.crash();
    drop(store);
    tools::put_back(&early, &path.join("log"));
    let error = refused(&path);
    assert!(matches!(error, Error::Damaged { .. }), "{error:?}");
}

#[test]
fn a_segment_of_another_store_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let (path, other) = (dir.path().join("store"), dir.path().join("other"));
    filled(&path);
    filled(&other);
    for number in [1, 2] {
        let image = dir.path().join(format!("image-{number}"));
        tools::copy_tree(&path, &image);
        tools::make_writable(&segment(&path, number));
        fs::copy(segment(&other, number), segment(&path, number)).unwrap();
        assert_damaged(&refused(&path), &segment(&path, number));
        tools::put_back(&image, &path);
    }
}

#[test]
fn an_open_that_was_cancelled_can_be_done_again() {
    let dir = tempfile::tempdir().unwrap();
    filled(dir.path());
    fs::remove_dir_all(dir.path().join("index")).unwrap();
    for stop_at in 0..4 {
        let calls = AtomicU64::new(0);
        let cancelled = SledStore::builder(dir.path())
            .segment_size(64 << 10)
            .progress(move |_| {
                if calls.fetch_add(1, Ordering::Relaxed) == stop_at {
                    ControlFlow::Break(())
                } else {
                    ControlFlow::Continue(())
                }
            })
            .open();
        assert!(
            matches!(cancelled, Err(Error::Cancelled { .. })),
            "{cancelled:?}"
        );
    }
    let store = open(dir.path()).unwrap();
    assert_eq!(read_all(&store).unwrap().len(), 330);
    assert_eq!(store.verify().unwrap().indexed, 330);
}

#[test]
fn an_interrupted_creation_is_finished_by_the_next_open() {
    let dir = tempfile::tempdir().unwrap();
    let (whole, path) = (dir.path().join("whole"), dir.path().join("store"));
    open(&whole).unwrap().close_blocking().unwrap();
    let first = fs::read(segment(&whole, 1)).unwrap();
    let zeros = vec![0; first.len()];
    let steps: [(&str, Files<'_>); 7] = [
        ("only the directory", &[]),
        ("the lock", &[("LOCK", b"")]),
        (
            "half a segment",
            &[("LOCK", b""), ("log/00000001.seg.new", &zeros[..100])],
        ),
        (
            "a prepared segment",
            &[("LOCK", b""), ("log/00000001.seg", &zeros)],
        ),
        ("its header", &[("LOCK", b""), ("log/00000001.seg", &first)]),
        (
            "half a format file",
            &[("log/00000001.seg", &first), ("format.new", b"TIDE")],
        ),
        (
            "a whole one, not renamed",
            &[("log/00000001.seg", &first), ("format.new", b"TIDEFMT1")],
        ),
    ];
    for (step, files) in steps {
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(path.join("log")).unwrap();
        for (name, content) in files {
            fs::write(path.join(name), content).unwrap();
        }
        let store = open(&path).unwrap_or_else(|error| panic!("{step}: {error}"));
        fill(&store, 0, 3);
        store.close_blocking().unwrap();
        let store = open(&path).unwrap();
        assert_eq!(store.verify().unwrap().records, 3, "{step}");
    }
    // `format` written, nothing else since: the index is made.
    let _ = fs::remove_dir_all(&path);
    tools::copy_tree(&whole, &path);
    for gone in ["manifest", "state"] {
        fs::remove_file(path.join(gone)).unwrap();
    }
    fs::remove_dir_all(path.join("index")).unwrap();
    assert_eq!(open(&path).unwrap().verify().unwrap().records, 0);
}

#[test]
fn a_store_whose_segments_are_holes_is_opened_after_a_crash_like_any_other() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("store");
    let store = SledStore::builder(&path)
        .segment_size(64 << 10)
        .sparse_segments()
        .open()
        .unwrap();
    fill(&store, 0, 330);
    store.crash();
    let newest = segments(&path).pop().unwrap();
    let found = fs::metadata(segment(&path, newest)).unwrap();
    let allocated = std::os::unix::fs::MetadataExt::blocks(&found) * 512;
    assert!(allocated < found.len(), "{allocated} of {}", found.len());
    let store = open(&path).unwrap();
    let all = read_all(&store).unwrap();
    assert_eq!(all.iter().filter(|event| event.sequence > 0).count(), 330);
    store.close_blocking().unwrap();
}
