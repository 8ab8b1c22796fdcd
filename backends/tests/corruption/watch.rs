//! Lets workers go through images, and ends those that hang.

use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;
use std::time::Duration;

use tempfile::TempDir;

use crate::sweep::Tally;
use crate::worker::{MARK, ORDER, Order};

/// No step of looking at a store may take longer.
const HANG: Duration = Duration::from_secs(60);
/// Making the images and damaging them may.
const PATIENCE: Duration = Duration::from_secs(120);

/// What came of many images.
#[derive(Default)]
pub struct Found {
    /// By damage and outcome.
    pub tally: Tally,
    pub wrong: Vec<String>,
    /// Most commits that were cleanly gone from one image.
    pub most_gone: usize,
}

/// The image being looked at.
#[derive(Default)]
struct Now {
    number: u64,
    text: String,
    dir: PathBuf,
    step: String,
}

/// Goes through the images `from..to`, with a new worker whenever one has died.
pub fn sweep(seed: u64, from: u64, to: u64) -> Found {
    let mut found = Found::default();
    let scratch = TempDir::new().unwrap();
    let mut from = from;
    while from < to {
        let (mut child, said) = spawn(&Order::Images { seed, from, to }, &scratch);
        let mut now = Now {
            number: from,
            step: "beginning".into(),
            ..Now::default()
        };
        let ended = listen(&said, &mut now, &mut found);
        let _ = child.kill();
        let status = child.wait().unwrap();
        from = now.number + 1;
        match ended {
            Ended::Done => return found,
            Ended::Hung => {
                found
                    .wrong
                    .push(format!("{} hangs while {}", now.text, now.step));
            }
            Ended::Died if now.dir.join("index/opening").exists() && heals(&now.dir, &scratch) => {
                found
                    .tally
                    .count("sled aborted the process", "whole at the next open");
            }
            Ended::Died => found
                .wrong
                .push(format!("{}: {status} while {}", now.text, now.step)),
        }
        if !found.wrong.is_empty() && now.dir.exists() {
            eprintln!("kept: {}", scratch.keep().display());
            return found;
        }
    }
    found
}

enum Ended {
    Done,
    Hung,
    Died,
}

fn listen(said: &Receiver<String>, now: &mut Now, found: &mut Found) -> Ended {
    loop {
        let patience = if now.step == "beginning" {
            PATIENCE
        } else {
            HANG
        };
        let line = match said.recv_timeout(patience) {
            Ok(line) => line,
            Err(RecvTimeoutError::Timeout) => return Ended::Hung,
            Err(RecvTimeoutError::Disconnected) => return Ended::Died,
        };
        let (word, rest) = line.split_once(' ').unwrap_or((&line, ""));
        match word {
            "begin" => {
                let (number, text) = rest.split_once(' ').unwrap();
                now.number = number.parse().unwrap();
                now.text = format!("image {number}, {text}");
            }
            "in" => now.dir = rest.into(),
            "step" => now.step = rest.into(),
            "sled" => found.tally.count("sled panicked and was caught", "once"),
            "end" => {
                let (numbers, labels) = rest.split_once('|').unwrap();
                let (_, gone) = numbers.split_once(' ').unwrap();
                found.most_gone = found.most_gone.max(gone.parse().unwrap());
                let (label, outcome) = labels.split_once('|').unwrap();
                found.tally.count(label, outcome);
                now.step = "beginning".into();
            }
            "wrong" => {
                found
                    .wrong
                    .push(format!("{} while {}: {rest}", now.text, now.step));
                now.step = "beginning".into();
            }
            _ => return Ended::Done,
        }
    }
}

fn heals(dir: &std::path::Path, scratch: &TempDir) -> bool {
    let (mut child, said) = spawn(&Order::Heal(dir.into()), scratch);
    let healed = said.recv_timeout(HANG).is_ok_and(|line| line == "done");
    let _ = child.kill();
    let _ = child.wait();
    healed
}

fn spawn(order: &Order, scratch: &TempDir) -> (Child, Receiver<String>) {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "worker_looks_at_damaged_stores", "--nocapture"])
        .env(ORDER, order.line())
        .env("TMPDIR", scratch.path())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let (sender, said) = mpsc::channel();
    let out = child.stdout.take().unwrap();
    thread::spawn(move || {
        for line in BufReader::new(out).split(b'\n').map_while(Result::ok) {
            let line = String::from_utf8_lossy(&line).into_owned();
            if let Some((_, said)) = line.split_once(MARK) {
                let _ = sender.send(said.to_owned());
            }
        }
    });
    (child, said)
}
