//! What a bad disk, a careless copy or a wrong restore does to files, chosen at random.

use std::fs;
use std::path::{Path, PathBuf};

use crate::consumers;
use crate::image::{FIRST_FRAME, Image};
use crate::sweep::Random;
use crate::tools::{self, Entry, segment, segments, tree};

/// What was done.
#[derive(Clone, Debug)]
pub struct Damage {
    /// For the table: `bit flipped`.
    pub kind: &'static str,
    /// For the table: `sealed segment`.
    pub target: &'static str,
    /// To find it again.
    pub text: String,
}

/// Damages the copy of `image` in `dir`; one in ten twice.
pub fn apply(image: &Image, dir: &Path, random: &mut Random) -> Vec<Damage> {
    let mut done = vec![one(image, dir, random)];
    if random.one_in(10) {
        done.push(one(image, dir, random));
    }
    done
}

fn one(image: &Image, dir: &Path, random: &mut Random) -> Damage {
    if random.one_in(8) {
        return whole(image, dir, random);
    }
    let (target, file) = loop {
        let target = *random.pick(&TARGETS);
        let files = files_of(target, image, dir);
        if !files.is_empty() {
            break (target, random.pick(&files).clone());
        }
    };
    let (kind, text) = file_damage(image, dir, &file, random);
    Damage {
        kind,
        target,
        text: format!("{}: {text}", file.display()),
    }
}

const TARGETS: [&str; 14] = [
    "newest segment",
    "newest segment",
    "newest segment",
    "sealed segment",
    "sealed segment",
    "segment made ahead",
    "format",
    "state",
    "manifest",
    "sled db",
    "sled db",
    "sled beside db",
    "checkpoint",
    "checkpoint",
];

/// The segments there, if the log still is.
fn numbers(dir: &Path) -> Vec<u64> {
    if dir.join("log").is_dir() {
        segments(dir)
    } else {
        Vec::new()
    }
}

/// Files of a class, relative to the store.
fn files_of(target: &str, image: &Image, dir: &Path) -> Vec<PathBuf> {
    let newest = image.newest();
    let numbered = |wanted: &dyn Fn(u64) -> bool| {
        let numbers = numbers(dir).into_iter().filter(|number| wanted(*number));
        numbers
            .map(|number| segment(Path::new(""), number))
            .collect::<Vec<_>>()
    };
    let found = match target {
        "newest segment" => numbered(&|number| number == newest),
        "sealed segment" => numbered(&|number| number < newest),
        "segment made ahead" => numbered(&|number| number > newest),
        "sled db" | "sled beside db" => {
            let files = tree(dir)
                .into_iter()
                .filter(|(_, entry)| matches!(entry, Entry::File(..)));
            let inside = files
                .map(|(path, _)| path)
                .filter(|path| path.starts_with("index"));
            inside
                .filter(|path| path.ends_with("db") == (target == "sled db"))
                .collect()
        }
        "checkpoint" => consumers::files().collect(),
        file => vec![PathBuf::from(file)],
    };
    found
        .into_iter()
        .filter(|file| dir.join(file).is_file())
        .collect()
}

/// Damage to one file: what kind, and where.
fn file_damage(
    image: &Image,
    dir: &Path,
    file: &Path,
    random: &mut Random,
) -> (&'static str, String) {
    let path = dir.join(file);
    tools::make_writable(&path);
    let before = fs::read(&path).unwrap();
    let mut bytes = before.clone();
    let at = place(&bytes, file, random);
    let block = *random.pick(&[512, 4096]);
    let range = |len: usize| {
        let start = at / block * block;
        start.min(len)..(start + block).min(len)
    };
    let (kind, text) = match random.below(17) {
        0 | 1 => {
            flip(&mut bytes, at, random);
            ("bit flipped", format!("in byte {at}"))
        }
        2 => {
            for _ in 0..8 {
                let near = at + random.below(64);
                flip(&mut bytes, near, random);
            }
            ("bits flipped", format!("from byte {at} on"))
        }
        3 | 4 => {
            let range = range(bytes.len());
            bytes[range.clone()].fill(0);
            ("block zeroed", format!("{range:?}"))
        }
        5 => {
            let range = range(bytes.len());
            bytes[range.clone()]
                .iter_mut()
                .for_each(|byte| *byte = random.next() as u8);
            ("block of noise", format!("{range:?}"))
        }
        6 | 7 => {
            let other = place(&before, file, random) / block * block;
            let range = range(bytes.len());
            let len = range.len().min(bytes.len() - other.min(bytes.len()));
            for step in 0..len {
                bytes.swap(range.start + step, other + step);
            }
            ("blocks swapped", format!("{range:?} and {other}"))
        }
        8 | 9 => {
            // A write that never reached its block.
            let range = range(bytes.len());
            let older = fs::read(image.older.join(file)).unwrap_or_default();
            for step in range.clone() {
                bytes[step] = older.get(step).copied().unwrap_or(0);
            }
            ("block of an older copy", format!("{range:?}"))
        }
        10 => {
            let len = *random.pick(&[0, 1, at, at / 512 * 512, bytes.len().saturating_sub(1)]);
            bytes.truncate(len);
            ("truncated", format!("to {len}"))
        }
        11 => {
            let noise = random.one_in(2);
            let more = 1 + random.below(6000);
            bytes.extend((0..more).map(|_| if noise { random.next() as u8 } else { 0 }));
            ("extended", format!("by {more}, noise: {noise}"))
        }
        12 => {
            fs::remove_file(&path).unwrap();
            return ("deleted", String::new());
        }
        13 => return replaced(dir, file, &image.older, "older copy of the file"),
        14 => return replaced(dir, file, &image.foreign, "file of another store"),
        15 => {
            let siblings = siblings(dir, file);
            let over = random.pick(&siblings);
            let _ = fs::remove_file(dir.join(over));
            fs::copy(&path, dir.join(over)).unwrap();
            return (
                "copied over another file",
                format!("over {}", over.display()),
            );
        }
        _ => {
            let name = beside(dir, file, random);
            fs::copy(&path, dir.join(&name)).unwrap();
            return ("copied beside", format!("as {}", name.display()));
        }
    };
    fs::write(&path, bytes).unwrap();
    (kind, text)
}

/// A byte of the file, where it holds something more often than not.
fn place(bytes: &[u8], file: &Path, random: &mut Random) -> usize {
    let used = bytes.iter().rposition(|byte| *byte != 0).unwrap_or(0) + 1;
    let is_segment = file.starts_with("log");
    match random.below(10) {
        0 => random.below(bytes.len()),
        1 if is_segment => random.below(180),
        2..5 if is_segment && used > FIRST_FRAME => {
            // The last commits: what little vouches for.
            used - 1 - random.below((used - FIRST_FRAME).min(2_000))
        }
        _ if is_segment && used > FIRST_FRAME => FIRST_FRAME + random.below(used - FIRST_FRAME),
        _ => random.below(used),
    }
}

fn flip(bytes: &mut [u8], at: usize, random: &mut Random) {
    if let Some(byte) = bytes.get_mut(at) {
        *byte ^= 1 << random.below(8);
    }
}

fn replaced(dir: &Path, file: &Path, from: &Path, kind: &'static str) -> (&'static str, String) {
    let _ = fs::remove_file(dir.join(file));
    let there = from.join(file);
    if there.is_file() {
        fs::copy(there, dir.join(file)).unwrap();
        return (kind, String::new());
    }
    (kind, "which has none".into())
}

/// Other files in the same folder.
fn siblings(dir: &Path, file: &Path) -> Vec<PathBuf> {
    let folder = file.parent().unwrap();
    let entries = fs::read_dir(dir.join(folder))
        .unwrap()
        .map(|entry| entry.unwrap());
    let files = entries
        .filter(|entry| entry.path().is_file())
        .map(|entry| folder.join(entry.file_name()));
    let others: Vec<_> = files.filter(|other| other != file).collect();
    if others.is_empty() {
        vec![folder.join("copy")]
    } else {
        others
    }
}

/// A name that nothing has, such as people and tools give to copies.
fn beside(dir: &Path, file: &Path, random: &mut Random) -> PathBuf {
    let last = numbers(dir).last().copied().unwrap_or(0);
    let name = file.file_name().unwrap().to_string_lossy().into_owned();
    let segment = |number: u64| segment(Path::new(""), number);
    match random.below(5) {
        0 if file.starts_with("log") => segment(last + 1),
        1 if file.starts_with("log") => segment(last + 5),
        2 => file.with_file_name(format!("{name}.new")),
        3 => file.with_file_name(format!("{name}.bak")),
        _ => file.with_file_name(format!("Copy of {name}")),
    }
}

/// Damage to whole folders, and files from another time.
fn whole(image: &Image, dir: &Path, random: &mut Random) -> Damage {
    let older = |names: &[&str]| {
        for name in names {
            put(&image.older, dir, name);
        }
    };
    let without = |names: &[&str]| {
        for name in names {
            remove(&dir.join(name));
        }
    };
    let (kind, target) = match random.below(14) {
        0 => {
            older(&["log"]);
            ("older copies", "log")
        }
        1 => {
            older(&["index"]);
            ("older copies", "index")
        }
        2 => {
            older(&["index", "manifest"]);
            ("older copies", "index and manifest")
        }
        3 => {
            older(&["log", "manifest"]);
            ("older copies", "log and manifest")
        }
        4 => {
            older(&["log", "state"]);
            ("older copies", "log and state")
        }
        5 => {
            without(&["log"]);
            ("deleted", "log")
        }
        6 => {
            without(&["index"]);
            ("deleted", "index")
        }
        7 => {
            without(&["index", "manifest"]);
            ("deleted", "index and manifest")
        }
        8 => {
            without(&["state", "manifest"]);
            ("deleted", "state and manifest")
        }
        9 => {
            without(&["format", "state"]);
            ("deleted", "format and state")
        }
        10 => {
            without(&["listeners"]);
            ("deleted", "checkpoints")
        }
        11 => {
            older(&["listeners"]);
            ("older copies", "checkpoints")
        }
        12 => {
            // The first of two damages may have deleted it.
            fs::create_dir_all(dir.join("index")).unwrap();
            fs::write(dir.join("index/opening"), "1\n").unwrap();
            ("left behind", "marker of an open")
        }
        _ => {
            put(&image.foreign, dir, "index");
            ("of another store", "index")
        }
    };
    Damage {
        kind,
        target,
        text: String::new(),
    }
}

fn put(from: &Path, dir: &Path, name: &str) {
    remove(&dir.join(name));
    let there = from.join(name);
    if there.is_dir() {
        tools::copy_tree(&there, &dir.join(name));
    } else if there.is_file() {
        fs::copy(there, dir.join(name)).unwrap();
    }
}

fn remove(path: &Path) {
    if path.is_dir() {
        fs::remove_dir_all(path).unwrap();
    } else {
        let _ = fs::remove_file(path);
    }
}
