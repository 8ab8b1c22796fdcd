//! Processes of the bank that are killed and started again.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use crate::common::bank;

/// Whoever has run so long runs for ever.
const PATIENCE: Duration = Duration::from_secs(300);

/// One command of the bank, which goes on where it was whenever it is started again.
pub struct Process {
    pub name: &'static str,
    pub store: PathBuf,
    args: Vec<String>,
    child: Option<Child>,
    log: PathBuf,
    pub kills: usize,
    pub ended: bool,
}

impl Process {
    /// Starts it; what it says goes to a file beside its store.
    pub fn start(name: &'static str, store: &Path, args: &[&str]) -> Self {
        let mut process = Self {
            name,
            store: store.to_owned(),
            args: args.iter().map(|&arg| arg.to_owned()).collect(),
            child: None,
            log: store.with_extension("log"),
            kills: 0,
            ended: false,
        };
        process.start_again();
        process
    }

    pub fn start_again(&mut self) {
        let args: Vec<_> = self.args.iter().map(String::as_str).collect();
        let mut command = bank(&self.store, &args);
        let log = File::options().create(true).append(true).open(&self.log);
        let log = log.unwrap();
        command.stdout(log.try_clone().unwrap()).stderr(log);
        command.stdin(Stdio::null());
        self.child = Some(command.spawn().unwrap());
    }

    /// Whether it still runs; one that failed by itself fails the test.
    pub fn runs(&mut self) -> bool {
        let Some(child) = &mut self.child else {
            return false;
        };
        if let Some(status) = child.try_wait().unwrap() {
            self.has_ended(status);
        }
        self.child.is_some()
    }

    /// Kills it, if it runs, and starts it again; whether it ran.
    pub fn kill(&mut self) -> bool {
        if !self.runs() {
            return false;
        }
        if let Some(mut child) = self.child.take() {
            child.kill().unwrap();
            child.wait().unwrap();
            self.kills += 1;
        }
        self.start_again();
        true
    }

    /// Waits until it ends by itself.
    pub fn end(&mut self) {
        let begun = Instant::now();
        while self.runs() {
            assert!(
                begun.elapsed() < PATIENCE,
                "{} does not end: {}",
                self.name,
                self.said()
            );
            std::thread::sleep(Duration::from_millis(50));
        }
        assert!(self.ended, "{}: {}", self.name, self.said());
    }

    /// What it has said, the last of it.
    pub fn said(&self) -> String {
        let said = std::fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<_> = said.lines().collect();
        lines[lines.len().saturating_sub(30)..].join("\n")
    }

    fn has_ended(&mut self, status: ExitStatus) {
        self.child = None;
        assert!(
            status.success(),
            "{} failed: {status}: {}",
            self.name,
            self.said()
        );
        self.ended = true;
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}
