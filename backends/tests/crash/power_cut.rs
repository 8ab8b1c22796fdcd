//! The sweep of power cuts: records the workload, lets children go through the images, and counts.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Mutex;
use std::sync::mpsc::RecvTimeoutError;
use std::thread;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::disk::Image;
use crate::images::Order;
use crate::recording::Recording;
use crate::shim::{self, Flag};
use crate::sweep::{self, Random, Tally};
use crate::workload::{NOTES, STORE};
use crate::{scratch, tools, trace};

/// The filesystems played, one a recording, in turns.
const FLAGS: [Flag; 4] = [
    Flag::Inherited,
    Flag::Refused,
    Flag::PerFile,
    Flag::Inherited,
];
/// The disk's answer to a sync that fails.
const EIO: i32 = 5;
/// No step of looking at an image may take longer.
const HANG: Duration = Duration::from_secs(20);

/// A life of a store, and what the shim wrote down of it.
struct Recorded {
    folder: TempDir,
    library: &'static Path,
    flag: Flag,
    seed: u64,
}

/// How a life ends.
#[derive(Clone, Copy, Debug)]
enum Ends {
    ByItself,
    /// When this many calls are recorded.
    Killed(usize),
    /// This sync fails, and the store with it.
    SyncFails(usize),
}

impl Recorded {
    /// Lets a store live `lives` times, each in a process of its own. Half of them end before their
    /// time: killed after some call, or by a sync that fails.
    fn new(library: &'static Path, flag: Flag, seed: u64, lives: u64) -> Self {
        let recorded = Self::empty(library, flag, seed);
        let mut random = Random(seed);
        for life in 0..lives {
            recorded.live(life, &mut random);
        }
        recorded
    }

    fn empty(library: &'static Path, flag: Flag, seed: u64) -> Self {
        let recorded = Self {
            folder: scratch::folder(),
            library,
            flag,
            seed,
        };
        std::fs::create_dir(recorded.root()).unwrap();
        recorded
    }

    fn live(&self, life: u64, random: &mut Random) {
        // Some calls of a life are its opening, and most faults shall meet it at work.
        let most = *random.pick(&[60, 600]);
        let ends = match random.below(4) {
            0 => Ends::Killed(1 + random.below(most)),
            1 => Ends::SyncFails(1 + random.below(most / 5)),
            _ => Ends::ByItself,
        };
        self.live_until(life, ends, random);
    }

    fn live_until(&self, life: u64, ends: Ends, random: &mut Random) {
        let (root, folder) = (self.root(), self.folder.path());
        let (store, seed) = (root.join(STORE), random.next() >> 1);
        let order = format!("life {} {seed} 60 {}", store.display(), life << 32);
        let mut child = shim::child(self.library, &root, self.flag, &order);
        child.env("TIDELOG_SHIM_TRACE", folder.join("trace"));
        match ends {
            Ends::ByItself => {}
            Ends::Killed(call) => {
                child.env("TIDELOG_SHIM_DIE", call.to_string());
            }
            Ends::SyncFails(sync) => {
                let fault = format!("sync {sync} {sync} {EIO} store");
                child.env("TIDELOG_SHIM_INJECT", fault);
            }
        }
        if life > 0 {
            let flagged = Image::whole(&self.recording()).flagged();
            shim::flagged(&mut child, &folder.join("flagged"), &root, &flagged);
        }
        let ended = child.output().unwrap();
        let died = ended.status.code() == Some(shim::DIED);
        assert!(ended.status.success() || died, "{ended:?}");
    }

    fn root(&self) -> PathBuf {
        self.folder.path().join("root")
    }

    fn recording(&self) -> Recording {
        Recording::new(None, trace::read(&self.folder.path().join("trace")))
    }

    /// Makes and opens `images` images, in as many children as there are processors.
    fn images(&self, images: u64, honest: bool) -> Found {
        let workers = thread::available_parallelism().map_or(1, |n| n.get() as u64);
        let found = Mutex::new(Found::default());
        thread::scope(|scope| {
            for worker in 0..workers.min(images) {
                let found = &found;
                scope.spawn(move || {
                    let scratch = scratch::folder();
                    let order = Order {
                        recorded: self.folder.path().to_path_buf(),
                        scratch: scratch.path().to_path_buf(),
                        library: self.library.to_path_buf(),
                        flag: self.flag,
                        honest,
                        seed: self.seed,
                        from: worker,
                        to: images,
                        step: workers,
                    };
                    let ours = watch(order, &scratch);
                    found.lock().unwrap().add(ours);
                });
            }
        });
        found.into_inner().unwrap()
    }
}

/// What came of many images.
#[derive(Debug, Default)]
struct Found {
    images: u64,
    /// Second cuts among them, during the reopening after the first.
    second: u64,
    /// Where all that was acknowledged had survived, unsynced appends included.
    whole: u64,
    /// Why the index was made again.
    rebuilt: Tally,
    wrong: Vec<String>,
}

impl Found {
    fn add(&mut self, other: Self) {
        self.images += other.images;
        self.second += other.second;
        self.whole += other.whole;
        self.rebuilt.add(&other.rebuilt);
        self.wrong.extend(other.wrong);
    }

    fn print(&self, what: &str) {
        eprintln!(
            "{what}: {} images ({} of a cut while reopening), {} lost unsynced appends, \
             {} made the index again, {} wrong",
            self.images,
            self.second,
            self.images - self.whole - self.wrong.len() as u64,
            self.rebuilt.total(),
            self.wrong.len()
        );
    }
}

/// Follows one child after the other through the images: a new one whenever one hangs or dies.
fn watch(mut order: Order, scratch: &TempDir) -> Found {
    let mut found = Found::default();
    while order.from < order.to {
        let folder = scratch.path().join(format!("from-{}", order.from));
        std::fs::create_dir(&folder).unwrap();
        order.scratch = folder;
        let mut child = shim::child(&order.library, scratch.path(), order.flag, &order.line())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let hear = shim::listen(&mut child);
        let mut now = (order.from, String::from("beginning"));
        let mut cuts_of_image = 0;
        let ended = loop {
            match hear.recv_timeout(HANG) {
                Ok(line) => {
                    let (word, rest) = line.split_once(' ').unwrap_or((&line, ""));
                    match word {
                        "image" => {
                            let (number, text) = rest.split_once(' ').unwrap();
                            let number = number.parse().unwrap();
                            cuts_of_image = if number == now.0 {
                                cuts_of_image + 1
                            } else {
                                0
                            };
                            now = (number, text.to_owned());
                        }
                        "seen" => {
                            let (whole, rebuilt) = rest.split_once(' ').unwrap();
                            found.images += 1;
                            found.second += u64::from(cuts_of_image > 0);
                            found.whole += u64::from(whole == "1");
                            if !rebuilt.is_empty() {
                                found.rebuilt.count("index made again", rebuilt);
                            }
                        }
                        "wrong" => {
                            found.images += 1;
                            found
                                .wrong
                                .push(format!("image {} {}: {rest}", now.0, now.1));
                        }
                        _ => break "done",
                    }
                }
                Err(RecvTimeoutError::Timeout) => break "it hangs",
                Err(RecvTimeoutError::Disconnected) => break "the process died",
            }
        };
        let _ = child.kill();
        let status = child.wait().unwrap();
        if ended == "done" {
            break;
        }
        found.images += 1;
        found
            .wrong
            .push(format!("image {} {}: {ended} ({status})", now.0, now.1));
        order.from = now.0 + order.step;
    }
    found
}

#[test]
fn the_trace_makes_every_file_again_byte_for_byte() {
    let Some(library) = shim::library() else {
        return;
    };
    for flag in [Flag::Inherited, Flag::PerFile, Flag::Refused] {
        let recorded = Recorded::new(library, flag, sweep::seed(), 5);
        let root = recorded.root();
        let mut differences = Image::whole(&recorded.recording()).differences(&root);
        differences.retain(|path| path != NOTES);
        assert!(
            differences.is_empty(),
            "the shim missed calls: {differences:?}"
        );
        assert!(tools::segments(&root.join(STORE)).len() > 5);
    }
}

#[test]
fn a_disk_that_forgets_what_was_synced_is_noticed() {
    let Some(library) = shim::library() else {
        return;
    };
    let recorded = Recorded::new(library, Flag::Inherited, sweep::seed(), 5);
    let found = recorded.images(20, false);
    found.print("syncs that do nothing");
    assert!(found.wrong.len() > 10, "{found:?}");
}

#[test]
fn a_store_whose_making_was_cut_short_is_as_durable_as_any() {
    let Some(library) = shim::library() else {
        return;
    };
    let seed = sweep::seed();
    eprintln!("TIDELOG_SEED={seed}");
    let mut random = Random(seed);
    let mut all = Found::default();
    // What it makes first are the directories: the names of some are not synced yet when it ends.
    for ends in (2..14).map(Ends::Killed).chain((1..6).map(Ends::SyncFails)) {
        let recorded = Recorded::empty(library, Flag::Inherited, seed);
        recorded.live_until(0, ends, &mut random);
        recorded.live_until(1, Ends::ByItself, &mut random);
        let found = recorded.images(8, true);
        if !found.wrong.is_empty() {
            found.print(&format!("{ends:?}"));
        }
        all.add(found);
    }
    all.print("making cut short");
    assert!(all.wrong.is_empty(), "{}", all.wrong.join("\n"));
}

#[test]
fn after_a_power_cut_everything_promised_is_there() {
    let Some(library) = shim::library() else {
        return;
    };
    let seed = sweep::seed();
    eprintln!("TIDELOG_SEED={seed}");
    let (recordings, images) = if sweep::is_full() { (40, 100) } else { (3, 40) };
    let mut random = Random(seed);
    let mut all = Found::default();
    let began = Instant::now();
    for n in 0..recordings {
        // One in four filesystems lacks the flag.
        let flag = FLAGS[n % FLAGS.len()];
        let recorded = Recorded::new(library, flag, random.next() >> 1, 8);
        let found = recorded.images(images, true);
        found.print(&format!("recording {n}, flag {flag:?}"));
        eprint!("{}", found.rebuilt.table());
        if !found.wrong.is_empty() {
            let kept: PathBuf = recorded.folder.keep();
            eprintln!("kept: {}", kept.display());
        }
        all.add(found);
    }
    all.print("power cuts");
    eprint!("{}", all.rebuilt.table());
    eprintln!("in {:.0} s", began.elapsed().as_secs_f32());
    assert!(all.wrong.is_empty(), "{}", all.wrong.join("\n"));
}
