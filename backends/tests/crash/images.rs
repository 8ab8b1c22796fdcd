//! The child that makes crash images from a recording and opens each. The shim plays the filesystem
//! with or without the inode flag below it.

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use crate::consumers::Kept;
use crate::disk::Image;
use crate::durable::Names;
use crate::oracle::{History, Promised, Seen};
use crate::recording::{Change, Recording};
use crate::shim::{self, Flag, say};
use crate::sweep::Random;
use crate::tools::copy_tree;
use crate::trace;
use crate::workload::STORE;

/// Every so many images, the reopening itself is recorded and cut.
const REOPENINGS: u64 = 25;
/// Images of one reopening.
const OF_REOPENING: u64 = 10;
/// Nothing that is done to an image may take longer.
const HANG: Duration = Duration::from_secs(60);

/// Which images to make, of what.
#[derive(Clone, Debug)]
pub struct Order {
    /// Holds `root` and `trace`, as recorded.
    pub recorded: PathBuf,
    /// Where images stand; for this child alone.
    pub scratch: PathBuf,
    pub library: PathBuf,
    pub flag: Flag,
    /// `false`: a disk that forgets what was synced, to see that this is noticed.
    pub honest: bool,
    pub seed: u64,
    /// The images `from..to`, every `step`th.
    pub from: u64,
    pub to: u64,
    pub step: u64,
}

impl Order {
    pub fn line(&self) -> String {
        format!(
            "images {} {} {} {} {} {} {} {} {}",
            self.recorded.display(),
            self.scratch.display(),
            self.library.display(),
            self.flag.word(),
            self.honest,
            self.seed,
            self.from,
            self.to,
            self.step
        )
    }

    pub fn parse(words: &[&str]) -> Self {
        let [
            recorded,
            scratch,
            library,
            flag,
            honest,
            seed,
            from,
            to,
            step,
        ] = words
        else {
            panic!("{words:?} is no order");
        };
        Self {
            recorded: recorded.into(),
            scratch: scratch.into(),
            library: library.into(),
            flag: Flag::parse(flag),
            honest: honest.parse().unwrap(),
            seed: seed.parse().unwrap(),
            from: from.parse().unwrap(),
            to: to.parse().unwrap(),
            step: step.parse().unwrap(),
        }
    }

    fn random(&self, image: u64) -> Random {
        Random(Random(self.seed ^ image.rotate_left(32)).next())
    }
}

pub fn run(order: &Order) {
    let recording = Recording::new(None, trace::read(&order.recorded.join("trace")));
    let history = history(&order.recorded.join("root").join(STORE), &order.scratch);
    let cuts = Cuts::of(&recording);
    let mut image = order.from;
    while image < order.to {
        let mut random = order.random(image);
        let (cut, names) = cuts.choose(&mut random);
        let mut case = Case {
            order,
            image,
            text: String::new(),
        };
        case.say(&recording, cut, names);
        let made = Image::after_cut(&recording, cut, names, order.honest, &mut random);
        let promised = Promised::default().until(&recording, cut);
        if image.is_multiple_of(REOPENINGS) && order.honest {
            case.cut_reopening(&made, &history, &promised, &mut random);
        } else {
            case.check(&made, &history, &promised);
        }
        image += order.step;
    }
    say("done");
}

/// Reads the history from a copy: the original is looked at again when something is wrong.
fn history(store: &Path, scratch: &Path) -> History {
    let copy = scratch.join("whole");
    copy_tree(store, &copy);
    let history = History::of(&copy);
    fs::remove_dir_all(&copy).unwrap();
    history
}

/// Moments worth a cut.
struct Cuts {
    all: usize,
    /// About names and lengths.
    metadata: Vec<usize>,
    /// Content of the log.
    log: Vec<usize>,
}

impl Cuts {
    fn of(recording: &Recording) -> Self {
        let mut cuts = Self {
            all: recording.changes.len(),
            metadata: Vec::new(),
            log: Vec::new(),
        };
        for (at, change) in recording.changes.iter().enumerate() {
            match change {
                Change::Write { sync: false, .. } | Change::SyncEnd { .. } => cuts.log.push(at),
                Change::Link { .. }
                | Change::Rename { .. }
                | Change::Unlink { .. }
                | Change::Truncate { .. } => cuts.metadata.push(at),
                _ => {}
            }
        }
        cuts
    }

    fn choose(&self, random: &mut Random) -> (usize, Names) {
        let names = if random.one_in(2) {
            Names::OneJournal
        } else {
            Names::EachDirectory
        };
        let cut = match random.below(4) {
            0 if !self.metadata.is_empty() => *random.pick(&self.metadata) + random.below(4),
            1 | 2 if !self.log.is_empty() => *random.pick(&self.log),
            _ => random.below(self.all),
        };
        (cut.min(self.all - 1), names)
    }
}

struct Case<'a> {
    order: &'a Order,
    image: u64,
    text: String,
}

impl Case<'_> {
    fn say(&mut self, recording: &Recording, cut: usize, names: Names) {
        let change = format!("{:?}", recording.changes[cut]);
        let change: String = change.chars().take(90).collect();
        self.text = format!(
            "cut at {cut} of {}: {change}, {names:?}",
            recording.changes.len()
        );
        say(&format!("image {} {}", self.image, self.text));
    }

    fn check(&self, made: &Image, history: &History, promised: &Promised) {
        let folder = self.order.scratch.join("image");
        fs::create_dir(&folder).unwrap();
        made.write_to(&folder);
        let store = folder.join(STORE);
        let began = Instant::now();
        let checked = catch_unwind(AssertUnwindSafe(|| {
            history.check(&store, promised, self.writes_through())
        }));
        match checked.unwrap_or_else(|_| Err("a panic".into())) {
            Ok(_) if began.elapsed() > HANG => {
                self.keep(made);
                say(&format!("wrong it took {:?}", began.elapsed()));
            }
            Ok(Seen { rebuilt, .. }) if self.should_stand(rebuilt.as_deref()) => {
                self.keep(made);
                let rebuilt = rebuilt.unwrap_or_default();
                say(&format!(
                    "wrong the index did not outlive the cut: {rebuilt}"
                ));
            }
            Ok(seen) => {
                let whole = u64::from(seen.survivors >= promised.acknowledged);
                let rebuilt = seen.rebuilt.as_deref().map_or("", kind_of);
                let Kept { checkpoints, slots } = seen.kept;
                say(&format!("seen {whole} {checkpoints} {slots} {rebuilt}"));
            }
            Err(wrong) => {
                self.keep(made);
                say(&format!("wrong {wrong}"));
            }
        }
        // What a panic left open keeps its files; the names go.
        fs::remove_dir_all(&folder).unwrap();
    }

    /// Whether the index was made again for no reason that a cut gives: where sled's writes are
    /// durable, it is lost only while it is made or opened.
    fn should_stand(&self, rebuilt: Option<&str>) -> bool {
        let explained = ["there is no manifest", "opening it before never ended"];
        self.writes_through()
            && rebuilt.is_some_and(|why| !explained.iter().any(|known| why.starts_with(known)))
    }

    /// Whether what sled has written is on the disk.
    fn writes_through(&self) -> bool {
        self.order.flag != Flag::Refused && self.order.honest
    }

    /// Opens the image in a process of its own, which is recorded, and cuts that one's life as well.
    fn cut_reopening(
        &mut self,
        made: &Image,
        before_cut: &History,
        promised: &Promised,
        random: &mut Random,
    ) {
        let folder = self.order.scratch.join("reopened");
        let (root, before) = (folder.join("root"), folder.join("before"));
        for folder in [&folder, &root, &before] {
            fs::create_dir(folder).unwrap();
        }
        made.write_to(&root);
        made.write_to(&before);
        let (seed, store) = (random.next() >> 1, root.join(STORE));
        let work = format!("life {} {seed} 20 {}", store.display(), 1_u64 << 40);
        let mut child = shim::child(&self.order.library, &root, self.order.flag, &work);
        child.env("TIDELOG_SHIM_TRACE", folder.join("trace"));
        shim::flagged(&mut child, &folder.join("flagged"), &root, &made.flagged());
        if let Err(wrong) = wait(&mut child, &folder) {
            self.keep(made);
            say(&format!("wrong reopening: {wrong}"));
        } else {
            let records = trace::read(&folder.join("trace"));
            let recording = Recording::new(Some((&before, &made.flagged())), records);
            let history = history(&root.join(STORE), &folder);
            let reopened = Promised::default().until(&recording, recording.changes.len());
            if let Err(wrong) = history.goes_on_from(before_cut, reopened.opened) {
                self.keep(made);
                say(&format!("wrong reopening: {wrong}"));
            }
            let cuts = Cuts::of(&recording);
            let first = self.text.clone();
            for _ in 0..OF_REOPENING {
                let (cut, names) = cuts.choose(random);
                self.say(&recording, cut, names);
                self.text = format!("{first}; reopened, {}", self.text);
                let made = Image::after_cut(&recording, cut, names, true, random);
                let promised = promised.clone().until(&recording, cut);
                self.check(&made, &history, &promised);
            }
        }
        fs::remove_dir_all(&folder).unwrap();
    }

    /// Leaves the image as it was before it was opened.
    fn keep(&self, made: &Image) {
        let kept = self.order.recorded.join(format!("image-{}", self.image));
        if fs::create_dir(&kept).is_ok() {
            made.write_to(&kept);
            fs::write(kept.join("why"), &self.text).unwrap();
        }
    }
}

/// The part of a reason that does not name places or numbers.
fn kind_of(reason: &str) -> &str {
    let end = reason.find(|c: char| c.is_ascii_digit() || c == '/' || c == '"');
    reason[..end.unwrap_or(reason.len())].trim()
}

/// Waits for a child that must end well.
fn wait(command: &mut Command, folder: &Path) -> Result<(), String> {
    let said = folder.join("said");
    let output = fs::File::create(&said).unwrap();
    command.stdout(output.try_clone().unwrap()).stderr(output);
    let mut child = command.spawn().unwrap();
    let began = Instant::now();
    loop {
        if let Some(status) = child.try_wait().unwrap() {
            if status.success() {
                return Ok(());
            }
            return Err(format!("{status}: {}", fs::read_to_string(said).unwrap()));
        }
        if began.elapsed() > HANG {
            child.kill().unwrap();
            child.wait().unwrap();
            return Err("it hangs".into());
        }
        std::thread::sleep(Duration::from_millis(3));
    }
}
