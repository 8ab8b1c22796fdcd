//! Whatever makes files, and however the process makes files otherwise: nobody but the owner can
//! read what stands in a store or a backup.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};

use tempfile::TempDir;
use tidelog_backends::restore_backup;
use tidelog_core::{AppendBatch, Durability, ExpectedVersion};

use crate::image::open;
use crate::names::snapshot;
use crate::tools::{self, Entry, event, tree};

/// Set for the child: where it works.
pub const CHILD: &str = "TIDELOG_TEST_MODES";

/// What the child does: everything that makes files.
pub fn child(root: &Path) {
    let [dir, backup, restored] = ["deep/store", "backup", "restored"].map(|name| root.join(name));
    for round in 0..3_u64 {
        let store = open(&dir).unwrap();
        for n in 0..200 {
            let to = tools::stream(&(n % 7).to_string());
            let batch =
                AppendBatch::new(to, ExpectedVersion::Any, vec![event(round << 32 | n, 900)]);
            store
                .blocking()
                .append(batch.with_durability(Durability::Process))
                .unwrap();
        }
        store.drain().unwrap();
        snapshot(&store, &tools::stream("0"));
        store.rebuild_index().unwrap();
        store.backup(&backup).unwrap();
        println!("look: open");
        assert_private(root);
        if round == 1 {
            store.crash();
        } else {
            store.close_blocking().unwrap();
        }
    }
    restore_backup(&backup, &restored).unwrap();
    open(&restored).unwrap().close_blocking().unwrap();
    assert_private(root);
    println!("look: all private");
}

/// Only the owner may do anything with anything.
fn assert_private(root: &Path) {
    for (path, entry) in tree(root) {
        match entry {
            Entry::Dir(mode) => assert_eq!(mode, 0o700, "{}", path.display()),
            // Sealed segments are made read-only.
            Entry::File(mode, _) => {
                assert!(matches!(mode, 0o600 | 0o400), "{} {mode:o}", path.display());
            }
        }
    }
    let lock = root.join("deep/store/LOCK");
    assert_eq!(
        fs::metadata(lock).unwrap().permissions().mode() & 0o777,
        0o600
    );
}

#[test]
fn everything_in_a_store_is_its_owners_alone() {
    let root = TempDir::new().unwrap();
    let output = Command::new("sh")
        .args(["-c", "umask 000; exec \"$@\"", "sh"])
        .arg(std::env::current_exe().unwrap())
        .args([
            "--exact",
            "child_makes_files_without_a_umask",
            "--nocapture",
        ])
        .env(CHILD, root.path())
        .stderr(Stdio::inherit())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        output.status.success() && said.contains("all private"),
        "{said}"
    );
}
