//! Power cuts of real filesystems: ext4 and XFS on a loop device, taken down at random moments of a
//! store's life. Only in the whole sweep, as root, with loop devices; anything else is said loudly.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc::RecvTimeoutError;
use std::thread;
use std::time::Duration;

use tempfile::TempDir;
use tidelog_core::*;

use crate::consumers::{Consumed, Consumers, Kept};
use crate::faulty::{batch, first_of, is_prefix};
use crate::scratch;
use crate::shim::{self, say};
use crate::sweep::{self, Random, Tally};
use crate::workload::{STORE, builder, only_the_disk};

const CUTS: u64 = 60;
/// A new filesystem after so many cuts.
const CUTS_A_STORE: u64 = 6;
/// A child or a helper that says nothing for so long hangs.
const HANG: Duration = Duration::from_secs(60);

/// A kind of filesystem, and how large it is at least.
const KINDS: [(&str, u64); 2] = [("ext4", 64 << 20), ("xfs", 320 << 20)];

/// The child: appends after what is there until the disk is gone, and lets consumers work, whose
/// states have numbers above `first`.
pub fn live(dir: &Path, first: u64) {
    say("opening");
    let store = match builder(dir).open() {
        Ok(store) => store,
        Err(error) => return only_the_disk(&error),
    };
    let is_anew = store.info().unwrap().index_rebuilt.is_some();
    say(&format!("opened {is_anew}"));
    let (mut consumers, mut random) = (Consumers::new(first), Random(first));
    let mut answered: Vec<String> = Vec::new();
    let last = store.blocking().last_position();
    let mut next = appends_in(last).expect("the log ends between appends");
    say(&format!("durable {next}"));
    loop {
        let batch = batch(next);
        let durability = batch.durability;
        match store.blocking().append(batch) {
            Ok(_) => next += 1,
            Err(error) => return only_the_disk(&error),
        }
        if durability == Some(Durability::Power) {
            say(&format!("durable {next}"));
            // XFS answers syncs of a directory when it is down already, but none of a file: these
            // were answered before.
            answered.drain(..).for_each(|line| say(&line));
        }
        let mut note = |line: &str| {
            if line.starts_with("saved") || line.starts_with("flushed") {
                answered.push(line.to_owned());
            } else {
                say(line);
            }
        };
        let worked = match random.below(8) {
            0 => consumers.save(&store, &mut random, &mut note),
            1 => consumers.commit(&store, &mut random, &mut note),
            _ => Ok(()),
        };
        if let Err(error) = worked {
            return only_the_disk(&error);
        }
    }
}

/// What children have said so far.
#[derive(Default)]
struct Heard {
    durable: u64,
    consumed: Consumed,
}

impl Heard {
    /// Whether the child is at work.
    fn hear(&mut self, line: &str) -> bool {
        if self.consumed.note(line) {
            return false;
        }
        let (word, what) = line.split_once(' ').unwrap();
        if word == "opened" {
            self.consumed.opened(what == "true");
            return false;
        }
        self.durable = self.durable.max(what.parse().unwrap());
        true
    }
}

/// How many appends end at this position, if one does.
fn appends_in(position: u64) -> Option<u64> {
    (0..)
        .map_while(|n| (first_of(n) <= position + 1).then_some(n))
        .find(|n| first_of(*n) == position + 1)
}

/// A filesystem in a file, mounted; taken away when dropped.
struct Mounted {
    folder: TempDir,
    kind: &'static str,
}

impl Mounted {
    fn new(kind: &'static str, size: u64) -> Result<Self, String> {
        let folder = scratch::folder();
        let mounted = Self { folder, kind };
        fs::create_dir(mounted.point()).unwrap();
        let file = fs::File::create(mounted.image()).unwrap();
        file.set_len(size).unwrap();
        let force = if kind == "xfs" { "-f" } else { "-F" };
        run(Command::new(format!("mkfs.{kind}"))
            .args(["-q", force])
            .arg(mounted.image()))?;
        mounted.mount()?;
        Ok(mounted)
    }

    fn point(&self) -> PathBuf {
        self.folder.path().join("mounted")
    }

    fn image(&self) -> PathBuf {
        self.folder.path().join("image")
    }

    fn mount(&self) -> Result<(), String> {
        let mut command = Command::new("mount");
        run(command
            .args(["-t", self.kind, "-o", "loop"])
            .arg(self.image())
            .arg(self.point()))
    }

    fn unmount(&self) -> Result<(), String> {
        run(Command::new("umount").arg(self.point()))
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        // Fails where it is not mounted.
        let _ = self.unmount();
    }
}

fn run(command: &mut Command) -> Result<(), String> {
    let done = command
        .output()
        .map_err(|error| format!("{command:?}: {error}"))?;
    if done.status.success() {
        return Ok(());
    }
    Err(format!(
        "{command:?}: {}",
        String::from_utf8_lossy(&done.stderr)
    ))
}

/// Lets a child work until the filesystem goes down at a random moment; then opens what is left.
fn cut(
    mounted: &Mounted,
    helper: &Path,
    random: &mut Random,
    (cut, heard): (u64, &mut Heard),
) -> Result<(String, Kept), String> {
    let store = mounted.point().join(STORE);
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "child", "--nocapture", "--test-threads=1"])
        .env(
            shim::ORDER,
            format!("mounted {} {}", store.display(), cut << 32),
        )
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let hear = shim::listen(&mut child);
    // Some cuts meet the opening, most the work.
    if !random.one_in(4) {
        let next = || hear.recv_timeout(HANG);
        while !heard.hear(&next().map_err(|_| String::from("it never begins to work"))?) {}
    }
    thread::sleep(Duration::from_millis(random.below(250) as u64));
    run(Command::new(helper).arg(mounted.point()))?;
    loop {
        match hear.recv_timeout(HANG) {
            Ok(line) => drop(heard.hear(&line)),
            Err(RecvTimeoutError::Disconnected) => break,
            Err(RecvTimeoutError::Timeout) => {
                let _ = child.kill();
                return Err("it hangs on a disk that is gone".into());
            }
        }
    }
    let ended = child.wait_with_output().unwrap();
    if !ended.status.success() {
        return Err(String::from_utf8_lossy(&ended.stderr).into_owned());
    }
    mounted.unmount()?;
    mounted.mount()?;
    look(&store, heard)
}

fn look(dir: &Path, heard: &mut Heard) -> Result<(String, Kept), String> {
    let durable = heard.durable;
    let store = builder(dir)
        .open()
        .map_err(|error| format!("opening: {error}"))?;
    let last = store.blocking().last_position();
    let appends = appends_in(last).ok_or_else(|| format!("half a batch ends at {last}"))?;
    if appends < durable {
        return Err(format!("{appends} appends are left of {durable}"));
    }
    is_prefix(&store, appends)?;
    store
        .verify()
        .map_err(|error| format!("verifying: {error}"))?;
    let info = store.info().map_err(|error| format!("asking: {error}"))?;
    let stands = info.index_rebuilt.is_none();
    let kept = heard.consumed.check(&store, stands)?;
    heard.consumed.opened(!stands);
    store
        .close_blocking()
        .map_err(|error| format!("closing: {error}"))?;
    if !info.write_through {
        return Err("the filesystem lacks the inode flag".into());
    }
    match info.index_rebuilt {
        None => Ok(("whole".into(), kept)),
        Some(why) if why.contains("never ended") || why.contains("no manifest") => {
            Ok(("index made again: cut while it was opened".into(), kept))
        }
        Some(why) => Err(format!("the index did not outlive the cut: {why}")),
    }
}

#[test]
fn a_filesystem_taken_down_keeps_what_was_promised() {
    if !sweep::is_full() {
        eprintln!("cuts of mounted filesystems are part of the whole sweep: TIDELOG_SWEEP=full");
        return;
    }
    let Some(helper) = shim::helper() else { return };
    let seed = sweep::seed();
    eprintln!("TIDELOG_SEED={seed}");
    let mut random = Random(seed);
    let mut wrong = Vec::new();
    for (kind, size) in KINDS {
        let mut tally = Tally::default();
        let (mut checkpoints, mut slots) = (0, 0);
        for store in 0..CUTS / CUTS_A_STORE {
            let mounted = match Mounted::new(kind, size) {
                Ok(mounted) => mounted,
                Err(why) => {
                    eprintln!("\n*** LEFT OUT: no cut of {kind} was tried: {why} ***\n");
                    break;
                }
            };
            let mut heard = Heard::default();
            for nth in 0..CUTS_A_STORE {
                match cut(&mounted, helper, &mut random, (nth, &mut heard)) {
                    Ok((outcome, kept)) => {
                        tally.count(kind, outcome);
                        checkpoints += kept.checkpoints;
                        slots += kept.slots;
                    }
                    Err(why) => {
                        tally.count(kind, "wrong");
                        wrong.push(format!("{kind}, store {store}: {why}"));
                        break;
                    }
                }
            }
        }
        eprint!("{}", tally.table());
        eprintln!("{kind}: {checkpoints} checkpoints and {slots} slots of rows compared");
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
