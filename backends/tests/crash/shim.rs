//! Builds the shim, and starts this test program again under it.

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::sync::mpsc::{self, Receiver};
use std::thread;

/// What the child is to do; see `child` in `main.rs`.
pub const ORDER: &str = "TIDELOG_CRASH_CHILD";

/// Stands before everything a child says: the test harness writes to the same output.
const MARK: &str = "~ ";

/// How a child ends that the shim killed.
pub const DIED: i32 = 42;

/// What the filesystem that is played makes of the inode flag.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flag {
    /// Files get it from their directory.
    Inherited,
    /// Each file must be given it.
    PerFile,
    /// It lacks the flag.
    Refused,
}

impl Flag {
    pub fn word(self) -> &'static str {
        match self {
            Self::Inherited => "inherited",
            Self::PerFile => "per-file",
            Self::Refused => "refused",
        }
    }

    pub fn parse(word: &str) -> Self {
        let all = [Self::Inherited, Self::PerFile, Self::Refused];
        all.into_iter().find(|flag| flag.word() == word).unwrap()
    }
}

/// The shim as a shared object; `None`, said loudly, where there is no C compiler.
pub fn library() -> Option<&'static Path> {
    static BUILT: OnceLock<Option<PathBuf>> = OnceLock::new();
    let sources = ["shim.c", "faults.c"];
    let arguments = ["-fPIC", "-shared", "-ldl", "-lpthread"];
    let built = BUILT.get_or_init(|| build(&sources, "shim.so", &arguments));
    built.as_deref()
}

/// The program that takes a filesystem down.
pub fn helper() -> Option<&'static Path> {
    static BUILT: OnceLock<Option<PathBuf>> = OnceLock::new();
    let built = BUILT.get_or_init(|| build(&["goingdown.c"], "goingdown", &[]));
    built.as_deref()
}

fn build(sources: &[&str], name: &str, arguments: &[&str]) -> Option<PathBuf> {
    if !cfg!(target_os = "linux") {
        crate::tools::skipped("the shim is written for Linux: no power cut, no failing disk");
        return None;
    }
    let tests = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/shim");
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let fresh = folder.join(format!("{name}-{}", std::process::id()));
    let compiler = std::env::var_os("CC").unwrap_or_else(|| "cc".into());
    let built = Command::new(&compiler)
        .args(["-std=gnu11", "-O1", "-g", "-Wall", "-Wextra", "-Werror"])
        .arg("-o")
        .arg(&fresh)
        .args(sources.iter().map(|source| tests.join(source)))
        .args(arguments)
        .status();
    match built {
        Ok(status) => assert!(status.success(), "{sources:?} do not compile"),
        Err(error) => {
            crate::tools::skipped(&format!(
                "no C compiler ({}: {error}): no power cut, no failing disk was tried",
                compiler.display()
            ));
            return None;
        }
    }
    // Tests of two runs at once must not see half of it.
    let done = folder.join(name);
    std::fs::rename(&fresh, &done).unwrap();
    Some(done)
}

/// This program again, under the shim, watching `root`.
pub fn child(library: &Path, root: &Path, flag: Flag, order: &str) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command
        .args(["--exact", "child", "--nocapture", "--test-threads=1"])
        .env(ORDER, order)
        .env("LD_PRELOAD", library)
        .env("TIDELOG_SHIM_ROOT", root)
        .env("TIDELOG_SHIM_FLAG", flag.word())
        .stdin(Stdio::null());
    command
}

/// Names what has the flag already, for a child that goes on with an image.
pub fn flagged(command: &mut Command, list: &Path, root: &Path, paths: &[String]) {
    let mut file = std::fs::File::create(list).unwrap();
    for path in paths {
        writeln!(file, "{}", root.join(path).display()).unwrap();
    }
    command.env("TIDELOG_SHIM_FLAGGED", list);
}

/// Says something to whoever started this child.
pub fn say(line: &str) {
    println!("{MARK}{}", line.replace('\n', " "));
}

/// What the child says, line by line, until its output ends.
pub fn listen(child: &mut Child) -> Receiver<String> {
    let output = BufReader::new(child.stdout.take().unwrap());
    let (said, hear) = mpsc::channel();
    thread::spawn(move || {
        for line in output.lines().map_while(Result::ok) {
            // The harness leaves its own line unfinished.
            if let Some((_, line)) = line.split_once(MARK) {
                let _ = said.send(line.to_owned());
            }
        }
    });
    hear
}
