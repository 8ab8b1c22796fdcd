//! Follows the children that go through the images, and ends those that hang.

use std::process::Stdio;
use std::sync::mpsc::RecvTimeoutError;
use std::time::Duration;

use tempfile::TempDir;

use crate::images::Order;
use crate::shim;
use crate::sweep::Tally;

/// A child that says nothing for so long hangs. It reads a recording meanwhile, or waits for a child
/// of its own; how long a store takes it measures itself.
const HANG: Duration = Duration::from_secs(120);

/// What came of many images.
#[derive(Debug, Default)]
pub struct Found {
    pub images: u64,
    /// Second cuts among them, during the reopening after the first.
    pub second: u64,
    /// Where all that was acknowledged had survived, unsynced appends included.
    pub whole: u64,
    /// Checkpoints of listeners, and slots of rows, that were there and right.
    pub checkpoints: u64,
    pub slots: u64,
    /// Why the index was made again.
    pub rebuilt: Tally,
    pub wrong: Vec<String>,
}

impl Found {
    pub fn add(&mut self, other: Self) {
        self.images += other.images;
        self.second += other.second;
        self.whole += other.whole;
        self.checkpoints += other.checkpoints;
        self.slots += other.slots;
        self.rebuilt.add(&other.rebuilt);
        self.wrong.extend(other.wrong);
    }

    pub fn print(&self, what: &str) {
        eprintln!(
            "{what}: {} images ({} of a cut while reopening), {} lost unsynced appends, \
             {} made the index again, {} checkpoints and {} slots of rows compared, {} wrong",
            self.images,
            self.second,
            self.images - self.whole - self.wrong.len() as u64,
            self.rebuilt.total(),
            self.checkpoints,
            self.slots,
            self.wrong.len()
        );
    }
}

/// Follows one child after the other through the images: a new one whenever one hangs or dies.
pub fn watch(mut order: Order, scratch: &TempDir) -> Found {
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
        let mut now = Now {
            image: order.from,
            ..Now::default()
        };
        let ended = loop {
            match hear.recv_timeout(HANG) {
                Ok(line) if line == "done" => break None,
                Ok(line) => now.hear(&line, &mut found),
                Err(RecvTimeoutError::Timeout) => break Some("it hangs"),
                Err(RecvTimeoutError::Disconnected) => break Some("the process died"),
            }
        };
        let _ = child.kill();
        let status = child.wait().unwrap();
        let Some(ended) = ended else { break };
        now.hear(&format!("wrong {ended} ({status})"), &mut found);
        order.from = now.image + order.step;
    }
    found
}

/// The image that a child is at.
#[derive(Default)]
struct Now {
    image: u64,
    text: String,
    /// Cuts of its reopening before.
    cuts: u64,
}

impl Now {
    fn hear(&mut self, line: &str, found: &mut Found) {
        let (word, rest) = line.split_once(' ').unwrap();
        match word {
            "image" => {
                let (number, text) = rest.split_once(' ').unwrap();
                let number = number.parse().unwrap();
                self.cuts = if number == self.image {
                    self.cuts + 1
                } else {
                    0
                };
                self.image = number;
                text.clone_into(&mut self.text);
            }
            "seen" => {
                let mut words = rest.splitn(4, ' ');
                let mut number = || words.next().unwrap().parse::<u64>().unwrap();
                let (whole, checkpoints, slots) = (number(), number(), number());
                let rebuilt = words.next().unwrap();
                found.images += 1;
                found.second += u64::from(self.cuts > 0);
                found.whole += whole;
                found.checkpoints += checkpoints;
                found.slots += slots;
                if !rebuilt.is_empty() {
                    found.rebuilt.count("index made again", rebuilt);
                }
            }
            _ => {
                found.images += 1;
                let Self { image, text, .. } = self;
                found.wrong.push(format!("image {image}, {text}: {rest}"));
            }
        }
    }
}
