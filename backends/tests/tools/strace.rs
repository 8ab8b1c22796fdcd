//! What a process asks of the system, seen from outside by `strace`.

use std::path::Path;
use std::process::Command;

/// One system call; one that others interrupted is two of these.
#[derive(Debug)]
pub struct Call {
    pub thread: u32,
    /// The call as `strace` writes it, each file descriptor with its path.
    pub text: String,
}

/// Runs the test `child` of this test's own executable with `variable` set to `value`, and answers
/// its calls of the kinds `traced`; `None`, said loudly, where that cannot be done.
pub fn run(child: &str, (variable, value): (&str, &str), traced: &str) -> Option<Vec<Call>> {
    if Command::new("strace").arg("-V").output().is_err() {
        super::skipped("strace is not installed; no system call was looked at");
        return None;
    }
    let dir = tempfile::tempdir().unwrap();
    let trace = dir.path().join("trace");
    let done = Command::new("strace")
        .args(["-f", "-qq", "-y", "-s", "60", "-e"])
        .arg(format!("trace={traced}"))
        .arg("-o")
        .arg(&trace)
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", child, "--nocapture", "--test-threads=1"])
        .env(variable, value)
        .output()
        .unwrap();
    if !done.status.success() {
        let why = String::from_utf8_lossy(&done.stderr);
        assert!(why.contains("ptrace"), "{why}");
        super::skipped("strace may not trace here; no system call was looked at");
        return None;
    }
    Some(read(&trace))
}

fn read(trace: &Path) -> Vec<Call> {
    let text = std::fs::read_to_string(trace).unwrap();
    let calls = text.lines().map(|line| {
        let (thread, text) = line.split_once(' ').unwrap();
        Call {
            thread: thread.parse().unwrap(),
            text: text.trim_start().into(),
        }
    });
    calls.collect()
}

/// In the child: one `write` call, which the trace shows between the others.
pub fn mark(what: &str) {
    use std::io::Write;
    let mut out = std::io::stderr().lock();
    out.write_all(format!("<{what}>\n").as_bytes()).unwrap();
}

/// In the child: waits for `work` on this thread, between two marks.
pub fn polled<T>(name: &str, work: impl Future<Output = T>) -> T {
    mark(&format!("begin {name}"));
    let done = pollster::block_on(work);
    mark(&format!("end {name}"));
    done
}

impl Call {
    /// What was marked by this call.
    pub fn marked(&self) -> Option<&str> {
        let (_, written) = self
            .text
            .strip_prefix("write(2<")
            .and_then(|rest| rest.split_once("\"<"))?;
        Some(written.split_once(">\\n\"")?.0)
    }

    /// Whether it is about a file or another descriptor that a store has anything to do with; of a
    /// call in two parts, the first is.
    fn is_io(&self) -> bool {
        let resumed = self.text.starts_with("<... ");
        let anonymous = self.text.starts_with("mmap(") && self.text.contains("MAP_ANONYMOUS");
        // The allocator asks how many processors there are.
        let of_the_system = ["</sys/", "</proc/", "\"/sys/", "\"/proc/"];
        !resumed && !anonymous && !of_the_system.iter().any(|path| self.text.contains(path))
    }
}

/// Holds that whatever was [`polled`] under one of `names` did no I/O on the thread that polled it,
/// while other threads did.
pub fn assert_no_io_inside_poll(calls: &[Call], names: &[&str]) {
    for name in names {
        let at = |mark: String| {
            let found = calls.iter().position(|call| call.marked() == Some(&mark));
            found.unwrap_or_else(|| panic!("{mark} is not in the trace"))
        };
        let (begin, end) = (at(format!("begin {name}")), at(format!("end {name}")));
        let thread = calls[begin].thread;
        let io = calls[begin + 1..end].iter().filter(|call| call.is_io());
        let (inside, elsewhere): (Vec<_>, Vec<_>) = io.partition(|call| call.thread == thread);
        assert!(inside.is_empty(), "{name} polled: {inside:#?}");
        assert!(!elsewhere.is_empty(), "{name} did no I/O at all");
        eprintln!(
            "{name}: 0 calls inside poll, {} on other threads",
            elsewhere.len()
        );
    }
}
