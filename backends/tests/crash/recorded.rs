//! Lives of a store, recorded by the shim.

use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::thread;

use tempfile::TempDir;

use crate::disk::Image;
use crate::images::Order;
use crate::recording::Recording;
use crate::shim::{self, Flag};
use crate::sweep::Random;
use crate::trace::Record;
use crate::watch::{Found, watch};
use crate::workload::STORE;
use crate::{scratch, trace};

/// The disk's answer to a sync that fails.
const EIO: i32 = 5;

/// The lives of one store, and what the shim wrote down of them.
pub struct Recorded {
    folder: TempDir,
    library: &'static Path,
    flag: Flag,
    seed: u64,
    /// What is done in each life.
    work: &'static str,
}

/// How a life ends.
#[derive(Clone, Copy, Debug)]
pub enum Ends {
    ByItself,
    /// When this many calls are recorded.
    Killed(usize),
    /// This sync fails, and the store with it.
    SyncFails(usize),
}

impl Recorded {
    /// Lets a store live `lives` times, each in a process of its own. Half of them end before their
    /// time: killed after some call, or by a sync that fails.
    pub fn new(library: &'static Path, flag: Flag, seed: u64, lives: u64) -> Self {
        let recorded = Self::empty(library, flag, seed);
        let mut random = Random(seed);
        for life in 0..lives {
            recorded.live(life, &mut random);
        }
        recorded
    }

    /// The same with lives that end as told.
    pub fn ending(library: &'static Path, flag: Flag, seed: u64, lives: &[Ends]) -> Self {
        Self::of("life", library, flag, seed, lives)
    }

    /// The same with lives in which only checkpoints are saved.
    pub fn saving(library: &'static Path, seed: u64, lives: &[Ends]) -> Self {
        Self::of("saving", library, Flag::Inherited, seed, lives)
    }

    /// The same with lives in which a log is copied.
    pub fn copying(library: &'static Path, seed: u64, lives: &[Ends]) -> Self {
        Self::of("copying", library, Flag::Inherited, seed, lives)
    }

    fn of(
        work: &'static str,
        library: &'static Path,
        flag: Flag,
        seed: u64,
        lives: &[Ends],
    ) -> Self {
        let mut recorded = Self::empty(library, flag, seed);
        recorded.work = work;
        let mut random = Random(seed);
        for (life, ends) in (0..).zip(lives) {
            recorded.live_until(life, *ends, &mut random);
        }
        recorded
    }

    fn empty(library: &'static Path, flag: Flag, seed: u64) -> Self {
        let recorded = Self {
            folder: scratch::folder(),
            library,
            flag,
            seed,
            work: "life",
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
        let work = self.work;
        let order = format!("{work} {} {seed} 60 {}", store.display(), life << 32);
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

    pub fn root(&self) -> PathBuf {
        self.folder.path().join("root")
    }

    pub fn recording(&self) -> Recording {
        Recording::new(None, self.records())
    }

    /// The calls as they were recorded.
    pub fn records(&self) -> Vec<Record> {
        trace::read(&self.folder.path().join("trace"))
    }

    /// Makes and opens `images` images, in as many children as there are processors.
    pub fn images(&self, images: u64, honest: bool) -> Found {
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

impl Recorded {
    /// Leaves everything where it is, to be looked at.
    pub fn keep(self) -> PathBuf {
        self.folder.keep()
    }
}
