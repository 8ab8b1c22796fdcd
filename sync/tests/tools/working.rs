//! A process of a test's own: this program again, told what to do, heard line by line, killed or let come
//! to rest.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};

/// Stands before everything that a child says: the harness writes to the same output.
const MARK: &str = "~ ";

/// A child at work.
#[derive(Debug)]
pub struct Working {
    process: Child,
    input: Option<ChildStdin>,
    reader: Option<JoinHandle<()>>,
}

impl Working {
    /// Starts the test of this name, which finds its order in `variable`. What it says is heard a line at
    /// a time.
    pub fn start(
        test: &str,
        (variable, order): (&str, String),
        mut hear: impl FnMut(&str) + Send + 'static,
    ) -> Self {
        let mut process = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", test, "--nocapture"])
            .env(variable, order)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let input = process.stdin.take();
        let out = process.stdout.take().unwrap();
        let reader = thread::spawn(move || {
            for line in BufReader::new(out).split(b'\n').map_while(Result::ok) {
                let line = String::from_utf8_lossy(&line).into_owned();
                if let Some((_, line)) = line.split_once(MARK) {
                    hear(line);
                }
            }
        });
        Self {
            process,
            input,
            reader: Some(reader),
        }
    }

    /// Kills it by SIGKILL.
    pub fn kill(mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
        self.reader.take().unwrap().join().unwrap();
    }

    /// Lets it come to rest: it hears [`told_to_stop`], and ends by itself.
    pub fn rest(mut self) {
        drop(self.input.take());
        let status = self.process.wait().unwrap();
        self.reader.take().unwrap().join().unwrap();
        assert!(status.success(), "the child failed: {status}");
    }
}

impl Drop for Working {
    fn drop(&mut self) {
        // When a test fails its child shall not go on.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// In a child: its order; `None` in a process that is none. Whatever fails from now on is said.
pub fn order(variable: &str) -> Option<String> {
    let order = std::env::var(variable).ok()?;
    let report = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        say(&format!("failed: {}", info.to_string().replace('\n', " ")));
        report(info);
        std::process::exit(101);
    }));
    Some(order)
}

/// In a child: becomes true when it is to come to rest.
pub fn told_to_stop() -> Arc<AtomicBool> {
    let stop = Arc::new(AtomicBool::new(false));
    let told = Arc::clone(&stop);
    thread::spawn(move || {
        // Ends with the parent's end of it, too.
        let _ = std::io::stdin().lines().count();
        told.store(true, Ordering::Relaxed);
    });
    stop
}

/// Most memory that this process ever had.
pub fn peak_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with("VmHWM"));
    let number = line.and_then(|line| line.split_whitespace().nth(1));
    number.and_then(|number| number.parse().ok()).unwrap_or(0)
}

/// Says one line, with one call.
pub fn say(line: &str) {
    let mut out = std::io::stdout().lock();
    let _ = out.write_all(format!("{MARK}{line}\n").as_bytes());
    let _ = out.flush();
}
