//! Listeners' checkpoints as files: their bytes, their modes, and what becomes of them with the store.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test that fails shall stop"
)]

mod tools;

use std::fs;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use pollster::block_on;
use tidelog_backends::{SledStore, repair, restore_backup};
use tidelog_core::*;
use tools::{event, stream};

fn open(dir: &Path) -> SledStore {
    SledStore::open(dir).unwrap()
}

fn folder() -> (tempfile::TempDir, PathBuf) {
    let root = tempfile::tempdir().unwrap();
    let dir = root.path().join("store");
    (root, dir)
}

/// Appends `count` events, to the operating system alone.
fn fill(store: &SledStore, count: u64) {
    let last = store.last_position();
    for n in last..last + count {
        let append = AppendBatch::new(stream("s"), ExpectedVersion::Any, vec![event(n, 50)]);
        let append = append.with_durability(Durability::Process);
        store.blocking().append(append).unwrap();
    }
}

fn save(store: &SledStore, name: &str, position: u64, state: &str) -> Result<(), Error> {
    let state = Bytes::copy_from_slice(state.as_bytes());
    block_on(store.save(name, position, state))
}

fn load(store: &SledStore, name: &str) -> Result<Option<String>, Error> {
    let state = block_on(store.load(name))?;
    Ok(state.map(|state| String::from_utf8(state.to_vec()).unwrap()))
}

fn names(store: &SledStore) -> Vec<String> {
    block_on(store.names()).unwrap()
}

fn file(dir: &Path, name: &str) -> PathBuf {
    dir.join("listeners").join(name)
}

#[test]
fn golden_bytes_and_private_modes_of_a_checkpoint() {
    let (_root, dir) = folder();
    let store = open(&dir);
    assert!(
        !dir.join("listeners").exists(),
        "a store without listeners has no folder for them"
    );
    save(&store, "mail", 0, "body").unwrap();
    let golden = *b"TIDELSN1\x04\0\0\0\x91\x99\x98\xfdbody";
    assert_eq!(fs::read(file(&dir, "mail")).unwrap(), golden);
    let listed: Vec<_> = fs::read_dir(dir.join("listeners")).unwrap().collect();
    assert_eq!(listed.len(), 1, "{listed:?}");
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&dir.join("listeners")), 0o700);
        assert_eq!(mode(&file(&dir, "mail")), 0o600);
    }
}

#[test]
fn a_damaged_checkpoint_is_an_error_until_it_is_removed_or_saved_anew() {
    let (root, dir) = folder();
    let store = open(&dir);
    save(&store, "mail", 0, "a state").unwrap();
    save(&store, "other", 0, "whole").unwrap();
    let path = file(&dir, "mail");
    let whole = fs::read(&path).unwrap();
    let longer = [&whole[..], b"\0"].concat();
    let mut damages = vec![Vec::new(), whole[..whole.len() - 1].to_vec(), longer];
    damages.extend((0..whole.len() * 8).map(|bit| {
        let mut changed = whole.clone();
        changed[bit / 8] ^= 1 << (bit % 8);
        changed
    }));
    for damage in damages {
        fs::write(&path, &damage).unwrap();
        match load(&store, "mail") {
            Err(Error::Damaged {
                path: named,
                remedy,
                ..
            }) => {
                assert_eq!(named, path);
                assert!(remedy.contains("remove this checkpoint"), "{remedy}");
            }
            other => panic!("{other:?} from {damage:?}"),
        }
    }
    assert_eq!(load(&store, "other").unwrap().as_deref(), Some("whole"));
    // Nor is another's state ever taken for its own: events between the two would be passed over.
    fs::copy(file(&dir, "other"), &path).unwrap();
    let error = load(&store, "mail").unwrap_err();
    assert!(error.to_string().contains("under another name"), "{error}");
    // A backup does not carry it away silently, and does not leave it out either.
    let backup = store.backup(root.path().join("backup"));
    assert!(matches!(backup, Err(Error::Damaged { .. })), "{backup:?}");
    assert_eq!(names(&store), ["mail", "other"]);
    block_on(store.remove("mail")).unwrap();
    assert_eq!(load(&store, "mail").unwrap(), None);
    store.backup(root.path().join("backup")).unwrap();
}

#[test]
fn what_is_no_checkpoint_in_the_folder_is_left_alone() {
    let (_root, dir) = folder();
    let store = open(&dir);
    save(&store, "mail", 0, "state").unwrap();
    fs::write(file(&dir, "mail.new"), b"half of").unwrap();
    fs::write(file(&dir, "README"), b"notes").unwrap();
    fs::create_dir(file(&dir, "folder")).unwrap();
    assert_eq!(names(&store), ["mail"]);
    assert_eq!(load(&store, "mail").unwrap().as_deref(), Some("state"));
    save(&store, "mail", 0, "later").unwrap();
    store.close_blocking().unwrap();
    let store = open(&dir);
    assert_eq!(load(&store, "mail").unwrap().as_deref(), Some("later"));
    assert!(!file(&dir, "mail.new").exists());
}

#[test]
fn checkpoints_outlive_the_index() {
    let (_root, dir) = folder();
    let store = open(&dir);
    fill(&store, 3);
    save(&store, "mail", 3, "state").unwrap();
    store.close_blocking().unwrap();
    fs::remove_dir_all(dir.join("index")).unwrap();
    fs::remove_file(dir.join("state")).unwrap();
    let store = open(&dir);
    assert_eq!(load(&store, "mail").unwrap().as_deref(), Some("state"));
}

#[test]
fn a_backup_takes_checkpoints_along_and_a_restored_store_goes_on_from_them() {
    let (root, dir) = folder();
    let (backup, restored) = (root.path().join("backup"), root.path().join("restored"));
    let store = open(&dir);
    fill(&store, 5);
    save(&store, "mail", 5, "five").unwrap();
    save(&store, "gone", 5, "five").unwrap();
    store.backup(&backup).unwrap();
    fill(&store, 5);
    save(&store, "mail", 10, "ten").unwrap();
    save(&store, "new", 10, "ten").unwrap();
    block_on(store.remove("gone")).unwrap();
    restore_backup(&backup, &restored).unwrap();
    let first = open(&restored);
    assert_eq!(names(&first), ["gone", "mail"]);
    assert_eq!(load(&first, "mail").unwrap().as_deref(), Some("five"));
    first.close_blocking().unwrap();

    // Made again into the same directory, it follows what is saved now.
    store.backup(&backup).unwrap();
    fs::remove_dir_all(&restored).unwrap();
    restore_backup(&backup, &restored).unwrap();
    let second = open(&restored);
    assert_eq!(names(&second), ["mail", "new"]);
    assert_eq!(load(&second, "mail").unwrap().as_deref(), Some("ten"));
    assert!(second.last_position() >= 10);
    save(&second, "mail", 10, "later").unwrap();
}

#[test]
fn a_damaged_checkpoint_of_a_backup_is_not_restored() {
    let (root, dir) = folder();
    let (backup, restored) = (root.path().join("backup"), root.path().join("restored"));
    let store = open(&dir);
    save(&store, "mail", 0, "state").unwrap();
    store.backup(&backup).unwrap();
    fs::write(file(&backup, "mail"), b"TIDELSN1").unwrap();
    let refused = restore_backup(&backup, &restored);
    assert!(matches!(refused, Err(Error::Damaged { .. })), "{refused:?}");
    assert!(
        !restored.join("format").exists(),
        "it must not be taken for a store"
    );
}

/// Whatever goes on while a backup is made, no checkpoint in it is ahead of its log.
#[test]
fn no_checkpoint_of_a_backup_is_ahead_of_its_log() {
    let (root, dir) = folder();
    let store = open(&dir);
    let done = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(std::sync::atomic::Ordering::SeqCst) {
                fill(&store, 1);
                let last = store.last_position();
                save(&store, "mail", last, &last.to_string()).unwrap();
            }
        });
        for round in 0..8 {
            let backup = root.path().join("backup");
            store.backup(&backup).unwrap();
            let restored = root.path().join(format!("restored {round}"));
            restore_backup(&backup, &restored).unwrap();
            let there = open(&restored);
            let records = there.blocking().read_all(LogQuery::all());
            let last = records.map(Result::unwrap);
            let last = last.filter(|record| record.kind == RecordKind::Event);
            let last = last.map(|record| record.position.unwrap()).max();
            let saved = load(&there, "mail").unwrap();
            let saved: u64 = saved.map_or(0, |saved| saved.parse().unwrap());
            assert!(saved <= last.unwrap_or(0), "{saved} of {last:?}");
        }
        done.store(true, std::sync::atomic::Ordering::SeqCst);
    });
}

#[test]
fn a_repair_takes_checkpoints_along_as_they_stand() {
    let (root, dir) = folder();
    let store = open(&dir);
    fill(&store, 5);
    save(&store, "mail", 5, "five").unwrap();
    save(&store, "damaged", 5, "five").unwrap();
    store.close_blocking().unwrap();
    fs::write(file(&dir, "damaged"), b"nothing whole").unwrap();
    let repaired = root.path().join("repaired");
    repair(&dir, &repaired).unwrap();
    assert_eq!(
        load(&open(&repaired), "mail").unwrap().as_deref(),
        Some("five")
    );
    // It is not taken for a fresh start: a million mails would be sent again.
    let store = open(&repaired);
    assert!(matches!(
        load(&store, "damaged"),
        Err(Error::Damaged { .. })
    ));
    store.close_blocking().unwrap();

    // Begun again after it was killed, it leaves nothing of before.
    fs::write(repaired.join("repair"), b"unfinished").unwrap();
    fs::remove_file(file(&dir, "damaged")).unwrap();
    for left in ["index", "state", "manifest"] {
        let path = repaired.join(left);
        let _ = fs::remove_dir_all(&path);
        let _ = fs::remove_file(&path);
    }
    repair(&dir, &repaired).unwrap();
    assert_eq!(names(&open(&repaired)), ["mail"]);
}
