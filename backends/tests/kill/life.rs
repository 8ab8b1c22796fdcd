//! One store from its first open on, through child after child.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use tempfile::TempDir;
use tidelog_backends::{SledStore, repair, restore_backup};
use tidelog_core::*;
use uuid::Uuid;

use crate::child::{
    MARK, NEW, ORDER, Order, Work, backup_in, copy_in, damaged_in, new_in, open, open_copy,
    repaired_in, restored_in, store_in,
};
use crate::history::parts;
use crate::oracle::{Ack, Oracle};
use crate::sweep::{Random, Tally};
use crate::tools::{self, copy_tree, read_all};

/// A child that has not said its word by then hangs.
const PATIENCE: Duration = Duration::from_secs(120);
/// A larger store makes each look slow and finds no more.
const LARGEST: u64 = 2 << 20;

/// What a child is at between everything else: nothing unanswered, or something.
const APPENDING: [&str; 2] = ["between appends", "an append under way"];

pub struct Life {
    root: Option<TempDir>,
    oracle: Oracle,
    random: Random,
    children: u64,
    pub tally: Tally,
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
            oracle: Oracle::default(),
            random: Random(seed),
            children: 0,
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

    pub fn acknowledged(&self) -> usize {
        self.oracle.acknowledged()
    }

    /// Lets a child work, kills it, and looks at what is left.
    pub fn kill(&mut self, work: Work) {
        self.children += 1;
        if self.random.one_in(8) {
            // The next open makes it again from the log.
            let _ = fs::remove_dir_all(self.store().join("index"));
        }
        let order = Order {
            work,
            root: self.root().into(),
            first: self.children << 32,
            retry: self.oracle.unknown(2),
        };
        let phase = self.run_and_kill(&order);
        self.tally.count(format!("{work:?}, killed while"), &*phase);
        for trace in traces(&self.store()) {
            self.tally.count("what the kills left", trace);
        }
        self.look();
        self.look_at_new(&phase);
        self.look_at_repair(&phase);
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
        let (word, most, micros) = *self.random.pick(order.work.moments());
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
                    let how = if why == RecvTimeoutError::Timeout {
                        "hangs"
                    } else {
                        "ended"
                    };
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
        let number = |at: usize| words[at].parse::<u64>().unwrap();
        match words[0] {
            "try" => {
                self.oracle.tries(number(1));
                if APPENDING.contains(&phase.as_str()) {
                    *phase = APPENDING[1].into();
                }
            }
            "ack" => {
                let sequences = words[3].split(',').map(|n| n.parse().unwrap());
                let ack = Ack {
                    first_position: number(2),
                    first_sequences: sequences.collect(),
                };
                self.oracle.acknowledges(number(1), ack);
                if APPENDING.contains(&phase.as_str()) {
                    *phase = APPENDING[0].into();
                }
            }
            "backed-up" => {
                self.oracle.backed_up = Some(number(1));
                *phase = APPENDING[0].into();
            }
            "copied" => {
                self.oracle.copied = number(1);
                *phase = words[0].into();
            }
            "removing" => {
                self.oracle.copied = 0;
                *phase = words[0].into();
            }
            "opened" | "kept" | "rebuilt" | "superseded" => *phase = APPENDING[0].into(),
            begun => *phase = begun.into(),
        }
    }

    fn look(&mut self) {
        // A copy, so that the next child meets what the kill left.
        let copy = TempDir::new_in(self.root()).unwrap();
        copy_tree(&self.store(), copy.path());
        let store = open(copy.path()).unwrap();
        if store.info().unwrap().index_rebuilt.is_some() {
            self.tally
                .count("what the kills left", "an index that is made again");
        }
        self.oracle.check(&store);
        self.look_at_copy(&store);
        self.oracle.check_appends(&store, 1 << 63);
        store.close_blocking().unwrap();
        if self.random.one_in(4) {
            let store = open(copy.path()).unwrap();
            assert_eq!(store.info().unwrap().index_rebuilt, None);
            store.verify().unwrap();
        }
        self.look_at_backup();
        if self.random.one_in(6) {
            // The store itself, healed and ended one way or the other.
            let store = open(&self.store()).unwrap();
            self.oracle.check(&store);
            if self.random.one_in(2) {
                store.close_blocking().unwrap();
            } else {
                store.crash();
            }
        }
    }

    /// A copy of the log has what was synced of it, and nothing else; it may be a store by then.
    fn look_at_copy(&mut self, store: &SledStore) {
        let dir = copy_in(self.root());
        if !dir.exists() {
            return;
        }
        let half = TempDir::new_in(self.root()).unwrap();
        copy_tree(&dir, half.path());
        let made = match open_copy(half.path(), store) {
            Ok(copy) => {
                let all = read_all(copy.store()).unwrap();
                assert_eq!(copy.next().position, all.len() as u64);
                self.tally.count("copy", "goes on");
                let page = store.commits(copy.next().position).next(64 << 10).unwrap();
                let mut copy = copy;
                for commit in &page {
                    copy.push(commit.number, &commit.body, commit.hash).unwrap();
                }
                copy.finish(Uuid::from_u128(78)).unwrap()
            }
            Err(Error::NotAStore { .. }) => {
                self.tally.count("copy", "had become a store");
                open(half.path()).unwrap()
            }
            Err(error) => panic!("a killed copy left {error:?}"),
        };
        let (all, seen) = (read_all(&made).unwrap(), self.oracle.seen());
        let same = all.iter().zip(seen).take_while(|(a, b)| a == b).count();
        assert!(same as u64 >= self.oracle.copied, "{same} of it are there");
        let is_epoch = |record: &EventEnvelope| record.kind == RecordKind::Control;
        assert!(same < all.len() && all[same..].iter().all(is_epoch));
        assert_eq!(made.verify().unwrap().records, all.len() as u64);
        made.close_blocking().unwrap();
    }

    /// A store that was being made is made, with what was acknowledged in it.
    fn look_at_new(&mut self, phase: &str) {
        let dir = new_in(self.root());
        if !dir.exists() {
            return;
        }
        let before = dir.join("format").exists();
        self.tally
            .count("new store", if before { "whole" } else { "made again" });
        let store = open(&dir).unwrap();
        let there = read_all(&store).unwrap().len();
        let events: usize = parts(NEW).iter().map(|part| part.events.len()).sum();
        assert!(
            there == events || (there == 0 && phase != "created"),
            "{there} of {events}"
        );
        let again = store.blocking().append_streams(parts(NEW)).unwrap();
        assert_eq!(again[0].outcome == AppendOutcome::Appended, there == 0);
        assert_eq!(store.verify().unwrap().records, events as u64);
        store.close_blocking().unwrap();
        fs::remove_dir_all(dir).unwrap();
    }

    /// A repair is done, or says that it is not and is begun again.
    fn look_at_repair(&mut self, phase: &str) {
        let (damaged, to) = (damaged_in(self.root()), repaired_in(self.root()));
        let _ = fs::remove_dir_all(self.root().join("half"));
        if !damaged.exists() {
            return;
        }
        let before = tools::tree(&damaged);
        let unfinished = to.join("repair").exists() || !to.join("format").exists();
        if unfinished {
            if to.join("repair").exists() {
                assert_ne!(phase, "repaired");
                let refused = open(&to).map(drop).map_err(|error| error.code());
                assert_eq!(refused, Err("not_a_store"));
            }
            let report = repair(&damaged, &to).unwrap();
            assert!(!report.lost.is_empty());
            self.tally.count("repair", "not done, said so, done again");
        } else {
            self.tally.count("repair", "done");
        }
        assert!(tools::tree(&damaged) == before, "repair changed its source");
        self.check_repaired(&open(&to).unwrap());
        fs::remove_dir_all(&to).unwrap();
        fs::remove_dir_all(&damaged).unwrap();
    }

    /// What is left stands where it stood, and is all that was not damaged.
    fn check_repaired(&mut self, store: &SledStore) {
        let mut from = 1;
        let (mut events, mut lost) = (0, 0);
        loop {
            let mut gap = None;
            for found in store.blocking().read_all(LogQuery::from(from)) {
                match found {
                    Ok(found) if found.kind == RecordKind::Event => {
                        let position = found.position.unwrap() as usize;
                        assert!(self.oracle.seen()[position - 1] == found);
                        events += 1;
                    }
                    Ok(_) => {}
                    Err(Error::Gap { first, last, .. }) => {
                        gap = Some(last);
                        lost += last - first + 1;
                    }
                    Err(error) => panic!("{error:?}"),
                }
            }
            match gap {
                Some(last) => from = last + 1,
                None => break,
            }
        }
        assert!(events > 0 && lost > 0);
        assert_eq!(store.verify().unwrap().lost, lost);
        store.accept_all_losses().unwrap();
        self.oracle.check_appends_after_loss(store);
    }

    fn look_at_backup(&mut self) {
        let (backup, half) = (backup_in(self.root()), restored_in(self.root()));
        let _ = fs::remove_dir_all(self.root().join("gone"));
        if half.join("backup").exists() || half.join("format").exists() {
            match open(&half) {
                Ok(store) => self.check_restored(&store),
                Err(Error::NotAStore { .. }) => {
                    self.tally.count("restore", "not done, and said so");
                }
                Err(error) => panic!("a killed restore left {error:?}"),
            }
        }
        let _ = fs::remove_dir_all(&half);
        if !backup.exists() {
            return;
        }
        match restore_backup(&backup, &half) {
            Ok(()) => {
                self.check_restored(&open(&half).unwrap());
                fs::remove_dir_all(&half).unwrap();
            }
            Err(Error::NotAStore { .. }) if self.oracle.backed_up.is_none() => {
                self.tally.count("backup", "not complete, and said so");
            }
            Err(error) => panic!("a killed backup spoiled the one before: {error:?}"),
        }
    }

    /// A prefix of the log, then the records that begin new epochs: one for each time it was opened
    /// and not killed before that was noted down.
    fn check_restored(&mut self, store: &SledStore) {
        let all = read_all(store).unwrap();
        let seen = self.oracle.seen().iter();
        let events = all.iter().zip(seen).take_while(|(a, b)| a == b).count();
        let least = self.oracle.backed_up.unwrap_or(0);
        assert!(
            events as u64 >= least,
            "{events} records of at least {least} were restored"
        );
        let epochs = &all[events..];
        assert!(
            !epochs.is_empty()
                && epochs
                    .iter()
                    .all(|record| record.kind == RecordKind::Control)
        );
        assert_eq!(store.verify().unwrap().records, all.len() as u64);
        self.tally.count("backup", "restored whole");
    }
}

/// Signs of what was under way, in the files.
fn traces(store: &Path) -> Vec<&'static str> {
    let mut traces = Vec::new();
    let names = |dir: PathBuf| {
        let entries = fs::read_dir(dir).into_iter().flatten().flatten();
        let names = entries.map(|entry| PathBuf::from(entry.file_name()));
        names.collect::<Vec<_>>()
    };
    let is_new = |name: &PathBuf| name.extension().is_some_and(|last| last == "new");
    if names(store.join("log")).iter().any(is_new) {
        traces.push("a segment half made");
    }
    if names(store.into()).iter().any(is_new) {
        traces.push("a file half replaced");
    }
    let (marks, generations): (Vec<_>, Vec<_>) = names(store.join("index"))
        .into_iter()
        .partition(|name| name.with_extension("") == Path::new("opening"));
    if !marks.is_empty() {
        traces.push("sled half opened");
    }
    if generations.len() > 1 {
        traces.push("two generations of sled");
    }
    let begun = tools::segments(store).into_iter().filter(|number| {
        fs::read(tools::segment(store, *number))
            .unwrap()
            .starts_with(b"TIDESEG1")
    });
    let writable = begun.filter(|number| {
        let mode = fs::metadata(tools::segment(store, *number))
            .unwrap()
            .permissions();
        !mode.readonly()
    });
    if writable.count() > 1 {
        traces.push("a full segment not sealed");
    }
    traces
}
