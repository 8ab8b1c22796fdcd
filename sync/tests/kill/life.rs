//! One store from its first open on, through child after child.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use tempfile::TempDir;
use tidelog::{EventEnvelope, LogQuery, Tidelog};

use crate::child::{MARK, ORDER, Order, builder, store_in};
use crate::sweep::{Random, Tally};
use crate::{listeners, projections, transfers};

/// A child that has not said its word by then hangs.
const PATIENCE: Duration = Duration::from_secs(120);
/// A larger store makes each look slow and finds no more.
const LARGEST: u64 = 768 << 10;

pub struct Life {
    root: Option<TempDir>,
    random: Random,
    children: u64,
    healed: u64,
    listeners: listeners::Oracle,
    transfers: transfers::Oracle,
    tally: Tally,
}

impl Drop for Life {
    fn drop(&mut self) {
        if thread::panicking()
            && let Some(root) = self.root.take()
        {
            eprintln!("the store is kept in {}", root.keep().display());
        }
    }
}

impl Life {
    pub fn new(seed: u64) -> Self {
        Self {
            root: Some(TempDir::new().unwrap()),
            random: Random(seed),
            children: 0,
            healed: 0,
            listeners: listeners::Oracle::default(),
            transfers: transfers::Oracle::default(),
            tally: Tally::default(),
        }
    }

    fn root(&self) -> &Path {
        self.root.as_ref().unwrap().path()
    }

    fn store(&self) -> PathBuf {
        store_in(self.root())
    }

    /// Whether the store has grown enough to begin another.
    pub fn is_old(&self) -> bool {
        let log = fs::read_dir(self.store().join("log")).into_iter().flatten();
        let bytes = log.filter_map(|entry| Some(entry.ok()?.metadata().ok()?.len()));
        bytes.sum::<u64>() > LARGEST
    }

    /// Lets a child work, kills it, and looks at what is left.
    pub fn kill(&mut self) {
        self.children += 1;
        self.disturb_index();
        let order = Order {
            child: self.children,
            seed: self.random.next(),
            healed: self.healed,
            root: self.root().into(),
        };
        let phase = self.run_and_kill(&order);
        self.tally.count("killed while", phase);
        self.look();
    }

    /// What stands in the index is only ever made again from the log.
    fn disturb_index(&mut self) {
        let (index, old) = (self.store().join("index"), self.root().join("old-index"));
        let how = match self.random.below(16) {
            0 | 1 => {
                let _ = fs::remove_dir_all(&index);
                "removed"
            }
            2 if old.exists() => {
                let _ = fs::remove_dir_all(&index);
                copy_tree(&old, &index);
                "put back from some kills ago"
            }
            3 => {
                let files = files_in(&index);
                if let Some(file) = files.get(self.random.below(files.len())) {
                    let mut bytes = fs::read(file).unwrap();
                    let at = self.random.below(bytes.len());
                    if let Some(byte) = bytes.get_mut(at) {
                        *byte ^= 1 << self.random.below(8);
                    }
                    fs::write(file, bytes).unwrap();
                }
                "a bit flipped"
            }
            4 if index.exists() => {
                let _ = fs::remove_dir_all(&old);
                copy_tree(&index, &old);
                "left alone"
            }
            _ => "left alone",
        };
        self.tally.count("the index before a child", how);
    }

    /// Answers what the child was at when it was killed.
    fn run_and_kill(&mut self, order: &Order) -> String {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "child_works_until_it_is_killed", "--nocapture"])
            .env(ORDER, order.line())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let (sender, said) = mpsc::channel();
        let out = child.stdout.take().unwrap();
        let reader = thread::spawn(move || {
            for line in BufReader::new(out).split(b'\n').map_while(Result::ok) {
                let line = String::from_utf8_lossy(&line).into_owned();
                if let Some((_, said)) = line.split_once(MARK) {
                    let _ = sender.send(said.to_owned());
                }
            }
        });
        let moments = [
            ("did", 60, 6_000),
            ("did", 60, 6_000),
            ("did", 5, 40_000),
            ("opening", 1, 60_000),
            ("opened", 1, 10_000),
            ("closing", 1, 10_000),
            ("rebuilding", 1, 5_000),
        ];
        let (word, most, micros) = *self.random.pick(&moments);
        let mut left = 1 + self.random.below(most);
        let delay = Duration::from_micros(self.random.below(micros) as u64);
        let mut phase = String::from("starting");
        let deadline = Instant::now() + PATIENCE;
        while left > 0 {
            match said.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(line) => {
                    left -= usize::from(line.split(' ').next() == Some(word));
                    self.hear(&line, &mut phase);
                }
                Err(why) => {
                    let _ = child.kill();
                    let status = child.wait().unwrap();
                    let hangs = why == RecvTimeoutError::Timeout;
                    let how = if hangs { "hangs" } else { "ended" };
                    panic!("a child {how} while {phase}: {order:?}, {status}");
                }
            }
        }
        self.listen(&said, delay, &mut phase);
        let ended = child.try_wait().unwrap();
        assert_eq!(
            ended, None,
            "a child ended by itself while {phase}: {order:?}"
        );
        child.kill().unwrap();
        child.wait().unwrap();
        reader.join().unwrap();
        // What it said before it died counts.
        for line in said.try_iter() {
            self.hear(&line, &mut phase);
        }
        phase
    }

    /// Lets the child go on for a moment.
    fn listen(&mut self, said: &Receiver<String>, moment: Duration, phase: &mut String) {
        let until = Instant::now() + moment;
        while let Ok(line) = said.recv_timeout(until.saturating_duration_since(Instant::now())) {
            self.hear(&line, phase);
        }
    }

    fn hear(&mut self, line: &str, phase: &mut String) {
        let words: Vec<&str> = line.split(' ').collect();
        match words[0] {
            "did" | "opened" => *phase = "working".into(),
            "opening" | "closing" | "rebuilding" => *phase = words[0].into(),
            _ => self.transfers.hear(&words),
        }
    }

    /// A copy, so that the next child meets what the kill left.
    fn look(&mut self) {
        if !self.store().join("format").exists() {
            return;
        }
        let root = self.root().to_path_buf();
        let copy = TempDir::new_in(&root).unwrap();
        copy_tree(&self.store(), copy.path());
        // Without anything that runs on it: nothing may change while it is looked at.
        let log = Tidelog::open(copy.path()).unwrap();
        let events = read_all(&log);
        let store = log.store();
        self.listeners.look(store, &events, &root, &mut self.tally);
        self.transfers.look(store, &events);
        log.blocking().close().unwrap();
        let (child, healed) = (self.children, self.healed);
        projections::look(copy.path(), child, healed, &events, &mut self.tally);
        if self.random.one_in(4) {
            // The cause of what was poisoned so far is gone.
            self.healed = events.len() as u64;
            self.listeners.heals(self.healed);
        }
    }

    /// Lets everything come to an end, and looks at the results.
    pub fn rest(mut self) -> Tally {
        let root = self.root().to_path_buf();
        if self.children == 0 {
            return std::mem::take(&mut self.tally);
        }
        let log = builder(&self.store(), self.children, u64::MAX);
        let log = log.open().unwrap().blocking();
        transfers::Oracle::rest(&log, &mut self.tally);
        let order = Order {
            child: self.children + 1,
            seed: 0,
            healed: u64::MAX,
            root: self.root().into(),
        };
        listeners::rest(&log, &order);
        projections::rest(&log);
        let events = read_all(log.inner());
        self.listeners.heals(u64::MAX);
        self.listeners
            .look(log.store().inner(), &events, &root, &mut self.tally);
        self.listeners.look_at_rest(&events, &mut self.tally);
        self.transfers.look(log.store().inner(), &events);
        log.verify().unwrap();
        log.close().unwrap();
        drop(log);
        let (store, child) = (self.store(), self.children);
        projections::look(&store, child, u64::MAX, &events, &mut self.tally);
        std::mem::take(&mut self.tally)
    }
}

fn read_all(log: &Tidelog) -> Vec<EventEnvelope> {
    let events = log.blocking().read_all(LogQuery::all());
    events.map(Result::unwrap).collect()
}

fn files_in(dir: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(dir).into_iter().flatten() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.extend(files_in(&path));
        } else {
            files.push(path);
        }
    }
    files.sort();
    files
}

fn copy_tree(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy_tree(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}
