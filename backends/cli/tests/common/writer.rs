//! A process that has a store open and appends, beside which the program is run.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use tidelog::{Error, SledStore};

use super::append;

/// Between two appends.
const PACE: Duration = Duration::from_millis(1);

/// A process that has `store` open, and appends until it is told to end.
pub struct Writer {
    child: std::process::Child,
}

impl Writer {
    pub fn start(store: &Path) -> Self {
        let child = Command::new(std::env::current_exe().unwrap())
            .args(["writes_beside", "--exact", "--ignored", "--nocapture"])
            .env("TIDELOG_CLI_WRITER", store)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut writer = Self { child };
        writer.wait_for("ready");
        writer
    }

    pub fn id(&self) -> String {
        self.child.id().to_string()
    }

    fn wait_for(&mut self, word: &str) {
        use std::io::{BufRead, BufReader};
        let stdout = self.child.stdout.as_mut().unwrap();
        let mut reader = BufReader::with_capacity(1, stdout);
        let mut line = String::new();
        loop {
            line.clear();
            assert!(reader.read_line(&mut line).unwrap() > 0, "the writer ended");
            if line.trim().ends_with(word) {
                return;
            }
        }
    }

    /// Lets it close the store.
    pub fn end(mut self) {
        drop(self.child.stdin.take());
        self.wait_for("closed");
        assert!(self.child.wait().unwrap().success());
    }

    pub fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

/// What the child does: see [`Writer`].
pub fn write_beside() -> Result<(), Error> {
    use std::io::Read;
    use std::sync::atomic::{AtomicBool, Ordering};
    let Some(path) = std::env::var_os("TIDELOG_CLI_WRITER") else {
        return Ok(());
    };
    let store = SledStore::builder(path).segment_size(64 << 10).open()?;
    append(&store, 0);
    println!("ready");
    let ended = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            // Ends when whoever started it lets go of the pipe.
            let _ = std::io::stdin().read_to_end(&mut Vec::new());
            ended.store(true, Ordering::SeqCst);
        });
        let mut n = 1;
        while !ended.load(Ordering::SeqCst) {
            append(&store, n);
            n += 1;
            // Where a sync costs nothing it would be ahead of whoever reads for ever.
            std::thread::sleep(PACE);
        }
    });
    store.close_blocking()?;
    println!("closed");
    Ok(())
}
