//! What each verb answers where it cannot do what it was asked for: the code that is documented, and words
//! that say what to do.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod common;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use common::{Scene, code, fill, flip, lines, ok, picture, text, tidelog};
use tidelog::SledStore;

/// Each verb with what else it needs: `TO` is a place that is free, `FILE` a file of events.
const VERBS: [&[&str]; 18] = [
    &["info", "STORE"],
    &["verify", "STORE"],
    &["verify", "STORE", "--index"],
    &["streams", "STORE"],
    &["events", "STORE"],
    &["events", "STORE", "--last", "3"],
    &["tail", "STORE"],
    &["tail", "STORE", "--follow"],
    &["snapshots", "STORE"],
    &["projections", "STORE"],
    &["parked", "STORE"],
    &["backup", "STORE", "TO"],
    &["restore", "STORE", "TO"],
    &["repair", "STORE", "TO"],
    &["accept-loss", "STORE", "--yes"],
    &["rebuild-index", "STORE", "--yes"],
    &["export", "STORE", "TO"],
    &["import", "STORE", "FILE", "--into-existing"],
];

struct Place {
    scene: Scene,
    file: PathBuf,
}

impl Place {
    fn new() -> Self {
        let scene = Scene::new();
        let from = scene.at("from");
        fill(&from, 3);
        let file = scene.at("events.jsonl");
        ok("export", &from, &[file.to_str().unwrap()]);
        Self { scene, file }
    }

    fn command(&self, verb: &[&str], store: &Path) -> Command {
        let mut command = tidelog(&[]);
        for word in verb {
            match *word {
                "STORE" => command.arg(store),
                "TO" => command.arg(self.scene.at("to")),
                "FILE" => command.arg(&self.file),
                other => command.arg(other),
            };
        }
        command
    }

    fn run(&self, verb: &[&str], store: &Path) -> Output {
        self.command(verb, store).output().unwrap()
    }

    /// All of `VERBS` on `store` answer `wanted`, and say each of `words`.
    fn all_answer(&self, store: &Path, wanted: i32, words: &[&str]) {
        for verb in VERBS {
            let output = self.run(verb, store);
            let errors = text(&output.stderr);
            assert_eq!(code(&output), wanted, "{verb:?}: {errors}");
            assert!(errors.starts_with("error: "), "{verb:?}: {errors}");
            let says = |word: &&str| errors.contains(*word);
            assert!(words.iter().any(says), "{verb:?}: {errors}");
            assert!(!self.scene.at("to").exists(), "{verb:?}");
        }
    }
}

#[test]
fn where_there_is_no_store_each_verb_says_what_is_there_and_makes_nothing() {
    let place = Place::new();
    let (missing, empty) = (place.scene.at("missing"), place.scene.at("empty"));
    fs::create_dir(&empty).unwrap();
    let file = place.scene.at("a-file");
    fs::write(&file, "x").unwrap();
    let words = [
        "give the d",
        "there is nothing",
        "no log in it",
        "not a complete backup",
    ];
    for path in [&missing, &empty, &file] {
        place.all_answer(path, 4, &words);
    }
    assert!(!missing.exists());
    assert_eq!(fs::read_dir(&empty).unwrap().count(), 0);
}

#[test]
fn a_store_of_a_newer_format_is_left_alone_by_each_verb() {
    let place = Place::new();
    let store = place.scene.at("store");
    fill(&store, 3);
    let path = store.join("format");
    let mut bytes = fs::read(&path).unwrap();
    // A version to come, and a flag without which it must not be opened.
    bytes[16] = 9;
    bytes[16 + 12 + 3] = 0x80;
    let crc = crc32c::crc32c(&bytes[16..]).to_le_bytes();
    bytes[12..16].copy_from_slice(&crc);
    fs::write(&path, bytes).unwrap();
    let before = picture(&store);
    // It is no backup, whatever its format.
    let words = ["version of tidelog that wrote it", "not a complete backup"];
    place.all_answer(&store, 4, &words);
    assert_eq!(picture(&store), before);
}

#[test]
fn a_damaged_store_is_told_by_each_verb_that_comes_to_the_damage() {
    let place = Place::new();
    let whole = place.scene.at("whole");
    fill(&whole, 160);
    for verb in VERBS {
        let store = place.scene.at("store");
        let _ = fs::remove_dir_all(&store);
        common::copy(&whole, &store);
        let flipped = match verb[0] {
            "restore" => {
                let backup = place.scene.at("backup");
                let _ = fs::remove_dir_all(&backup);
                ok("backup", &whole, &[backup.to_str().unwrap()]);
                fs::remove_dir_all(&store).unwrap();
                fs::rename(&backup, &store).unwrap();
                "log/00000001.seg"
            }
            // What they show stands in the index alone.
            "snapshots" | "projections" => "manifest",
            _ => "log/00000002.seg",
        };
        flip(&store.join(flipped), None);
        if matches!(
            verb[0],
            "info" | "parked" | "tail" | "accept-loss" | "import"
        ) {
            // They come to the newest end alone.
            fs::remove_file(store.join("log/00000002.seg")).unwrap();
        }
        if verb.contains(&"--last") {
            let segment = |n: &u32| store.join(format!("log/{n:08}.seg"));
            let newest = (1..99).take_while(|n| segment(n).exists()).last();
            flip(&segment(&newest.unwrap()), Some(b"\"n\": 1598}"));
        }
        if verb[0] == "rebuild-index" {
            fs::remove_file(store.join("manifest")).unwrap();
        }
        let output = place.run(verb, &store);
        let wanted = if verb[0] == "repair" { 0 } else { 5 };
        let said = text(&output.stdout) + &text(&output.stderr);
        assert_eq!(code(&output), wanted, "{verb:?}: {said}");
        let to = place.scene.at("to");
        let _ = fs::remove_dir_all(&to).or_else(|_| fs::remove_file(&to));
        let remedies = ["repair", "rebuilding the index", "another backup", "lost"];
        assert!(
            remedies.iter().any(|word| said.contains(word)),
            "{verb:?}: {said}"
        );
    }
}

#[test]
fn what_is_said_wrongly_is_told_before_anything_is_done() {
    let place = Place::new();
    let store = place.scene.at("store");
    fill(&store, 3);
    let before = picture(&store);
    for verb in VERBS {
        for wrong in ["--no-such-option", "--json=maybe"] {
            let mut command = place.command(verb, &store);
            let output = command.arg(wrong).output().unwrap();
            assert_eq!(code(&output), 2, "{verb:?}");
            assert!(text(&output.stderr).contains("Usage: tidelog"), "{verb:?}");
        }
        let output = tidelog(&verb[..1]).output().unwrap();
        assert_eq!(code(&output), 2, "{verb:?}");
    }
    let json = tidelog(&["events", "--json"]).output().unwrap();
    let error = &lines(&text(&json.stderr))[0]["error"];
    assert_eq!((code(&json), &error["code"]), (2, &"usage".into()));
    assert_eq!(picture(&store), before);
    assert!(!place.scene.at("to").exists());
}

#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_is_an_error_that_says_so() {
    let place = Place::new();
    let store = place.scene.at("from");
    let full = || {
        fs::OpenOptions::new()
            .write(true)
            .open("/dev/full")
            .unwrap()
    };
    for verb in VERBS {
        if matches!(verb[0], "restore" | "accept-loss") || verb.contains(&"--follow") {
            continue;
        }
        let output = place.command(verb, &store).stdout(full()).output().unwrap();
        let errors = text(&output.stderr);
        let to = place.scene.at("to");
        let _ = fs::remove_dir_all(&to).or_else(|_| fs::remove_file(&to));
        assert_eq!(code(&output), 1, "{verb:?}: {errors}");
        assert!(errors.contains("No space left"), "{verb:?}: {errors}");
    }
    // An export has no other place beside a device than the device itself.
    let output = tidelog(&["export"])
        .arg(&store)
        .arg("-")
        .stdout(full())
        .output();
    assert_eq!(code(&output.unwrap()), 1);
}

#[cfg(unix)]
#[test]
fn names_that_are_no_text_are_names_of_stores_and_files_all_the_same() {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;
    let place = Place::new();
    let odd = |name: &[u8]| place.scene.dir.path().join(OsStr::from_bytes(name));
    let store = odd(b"st\xff\xfeore");
    let import = |store: &Path| {
        let mut command = tidelog(&["import"]);
        command.arg(store).arg(&place.file).output().unwrap()
    };
    assert_eq!(code(&import(&store)), 0);
    for (verb, to) in [
        ("info", None),
        ("verify", None),
        ("events", None),
        ("backup", Some(odd(b"back\xffup"))),
        ("export", Some(odd(b"fi\xffle"))),
        ("repair", Some(odd(b"re\xffpaired"))),
    ] {
        for json in [&[][..], &["--json"]] {
            let mut command = tidelog(&[verb]);
            let output = command.arg(&store).args(&to).args(json).output().unwrap();
            let done = code(&output);
            // The second time something is there already.
            assert!(
                matches!(done, 0 | 1 | 4),
                "{verb}: {}",
                text(&output.stderr)
            );
        }
    }
    let mut command = tidelog(&["restore"]);
    command.arg(odd(b"back\xffup")).arg(odd(b"again\xff"));
    assert_eq!(code(&command.output().unwrap()), 0);
    let mut missing = tidelog(&["events"]);
    assert_eq!(code(&missing.arg(odd(b"no\xff")).output().unwrap()), 4);
    let mut wrong = tidelog(&["events", "x", "--stream"]);
    let output = wrong.arg(OsStr::from_bytes(b"a/\xff")).output().unwrap();
    assert_eq!(code(&output), 2, "{}", text(&output.stderr));
}

#[cfg(target_os = "linux")]
#[test]
fn a_store_that_may_only_be_read_is_read_and_folders_that_may_not_be_written_are_named() {
    use std::os::unix::fs::PermissionsExt;
    use std::os::unix::process::CommandExt;
    let place = Place::new();
    let root = place.scene.dir.path();
    let store = place.scene.at("store");
    fill(&store, 160);
    // Who reads it is somebody else; the program stands where he can run it.
    let program = place.scene.at("tidelog");
    fs::copy(env!("CARGO_BIN_EXE_tidelog"), &program).unwrap();
    let is_root =
        fs::metadata("/proc/self").is_ok_and(|it| std::os::unix::fs::MetadataExt::uid(&it) == 0);
    let open = |path: &Path, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode));
    each(root, &|path| {
        let mode = if path.is_dir() || path == program {
            0o555
        } else {
            0o444
        };
        open(path, mode).unwrap();
    });
    let run_in = |temporary: &Path, verb: &[&str]| {
        let mut command = place.command(verb, &store);
        let words: Vec<_> = command.get_args().map(ToOwned::to_owned).collect();
        command = Command::new(&program);
        command
            .args(words)
            .env("TMPDIR", temporary)
            .current_dir("/");
        if is_root {
            command.uid(65_534).gid(65_534);
        }
        command.output().unwrap()
    };
    let run = |verb: &[&str]| run_in(Path::new("/tmp"), verb);
    let before = picture(&store);
    for verb in VERBS {
        if verb.contains(&"--follow") || verb[0] == "restore" {
            continue;
        }
        let output = run(verb);
        let errors = text(&output.stderr);
        let writes = matches!(
            verb[0],
            "backup" | "repair" | "accept-loss" | "rebuild-index" | "export" | "import"
        );
        if writes {
            // A place where this process may have no store is answered as none.
            let is_store_s = ["accept-loss", "rebuild-index", "import"].contains(&verb[0]);
            let wanted = if is_store_s { 4 } else { 1 };
            assert_eq!(code(&output), wanted, "{verb:?}: {errors}");
            assert!(errors.contains("Permission denied"), "{verb:?}: {errors}");
            assert!(
                errors.contains(root.to_str().unwrap()),
                "{verb:?}: {errors}"
            );
        } else {
            assert_eq!(code(&output), 0, "{verb:?}: {errors}");
        }
    }
    assert_eq!(picture(&store), before);
    // Who needs no place of its own asks for none.
    assert_eq!(code(&run_in(root, &["verify", "STORE"])), 0);
    let output = run_in(root, &["snapshots", "STORE"]);
    let errors = text(&output.stderr);
    assert_eq!(code(&output), 1, "{errors}");
    assert!(errors.contains("create a directory in"), "{errors}");
    // One that may not even be read is named, too.
    open(&store, 0o000).unwrap();
    if is_root {
        let output = run(&["events", "STORE"]);
        let errors = text(&output.stderr);
        assert_eq!(code(&output), 1, "{errors}");
        assert!(errors.contains("Permission denied"), "{errors}");
    }
    each_back(root);
    assert!(SledStore::open(&store).is_ok());
}

/// What stands in a folder, itself first.
#[cfg(target_os = "linux")]
fn each(dir: &Path, act: &impl Fn(&Path)) {
    act(dir);
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            each(&path, act);
        } else {
            act(&path);
        }
    }
}

/// So that it can be taken away again.
#[cfg(target_os = "linux")]
fn each_back(dir: &Path) {
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(dir, fs::Permissions::from_mode(0o700)).unwrap();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            each_back(&path);
        } else {
            fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        }
    }
}
