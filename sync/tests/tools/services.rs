//! Servers for tests: one that all share and nobody hurts, and those that a test has for itself.

use std::io::Write;
use std::net::TcpListener;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

/// What starts and ends them.
pub const SERVICES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/services/services");

/// The server that all tests share, as `host:port`: that of `TIDELOG_TEST_SCYLLA`, or else one that
/// is started now and left for `services down`. `None` where that cannot be, which is said.
///
/// Tests make keyspaces of their own there, and never stop it.
pub fn scylla() -> Option<String> {
    static SHARED: OnceLock<Option<String>> = OnceLock::new();
    SHARED
        .get_or_init(|| shared("TIDELOG_TEST_SCYLLA", "cassandra"))
        .clone()
}

/// The same of Kafka: `TIDELOG_TEST_KAFKA`.
pub fn kafka() -> Option<String> {
    static SHARED: OnceLock<Option<String>> = OnceLock::new();
    SHARED
        .get_or_init(|| shared("TIDELOG_TEST_KAFKA", "kafka"))
        .clone()
}

fn shared(variable: &str, service: &str) -> Option<String> {
    if let Ok(address) = std::env::var(variable) {
        return Some(address);
    }
    if !can_start(service) {
        return None;
    }
    call(Command::new(SERVICES).args(["up", service]));
    let printed = Command::new(SERVICES)
        .args(["env", service])
        .output()
        .unwrap();
    let printed = String::from_utf8(printed.stdout).unwrap();
    let address = printed.trim().split_once('=').unwrap().1;
    Some(address.to_owned())
}

/// Whether this machine has what servers need. Where CI must have it, its absence fails the test.
fn can_start(service: &str) -> bool {
    let missing: Vec<_> = ["python3", "java", "mvn"]
        .into_iter()
        .filter(|tool| !is_there(tool))
        .collect();
    if missing.is_empty() {
        return true;
    }
    let missing = missing.join(", ");
    assert!(
        std::env::var("CI").as_deref() != Ok("true"),
        "{missing} not found: tests against {service} cannot run, and with CI=true they have to"
    );
    left_out(&format!("{missing} not found, so there is no {service}"));
    false
}

/// Says that a test was left out, past what cargo catches of a test that passes.
pub fn left_out(why: &str) {
    let thread = std::thread::current();
    let test = thread.name().unwrap_or("a test");
    let _ = writeln!(std::io::stderr(), "*** LEFT OUT: {test}: {why}");
}

fn is_there(tool: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|folder| folder.join(tool).is_file())
}

/// A Cassandra of a test's own, which it may hurt. It goes, with its data, when this is dropped.
#[derive(Debug)]
pub struct Own {
    name: String,
    port: u16,
    storage: u16,
}

impl Own {
    /// Starts it on free ports. `None` where that cannot be, which is said.
    pub fn start() -> Option<Self> {
        if !can_start("cassandra") {
            return None;
        }
        let port = free_port();
        let own = Self {
            name: format!("{}-{port}", std::process::id()),
            port,
            storage: free_port(),
        };
        own.tell("up");
        Some(own)
    }

    /// Where it answers.
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Ends it by SIGKILL; its data stays.
    pub fn kill(&self) {
        self.tell("kill");
    }

    /// Starts it again on its data; returns when it answers.
    pub fn start_again(&self) {
        self.tell("start");
    }

    /// Stops it by SIGSTOP.
    pub fn pause(&self) {
        self.tell("pause");
    }

    /// Lets it go on.
    pub fn resume(&self) {
        self.tell("resume");
    }

    fn tell(&self, verb: &str) {
        call(&mut self.command(verb));
    }

    fn command(&self, verb: &str) -> Command {
        let mut command = Command::new(SERVICES);
        command.args([verb, "cassandra"]);
        command.env("SERVICES_NAME", &self.name);
        command.env("CQL_PORT", self.port.to_string());
        command.env("CQL_STORAGE_PORT", self.storage.to_string());
        command
    }
}

impl Drop for Own {
    fn drop(&mut self) {
        let _ = self.command("down").stdout(Stdio::null()).status();
    }
}

fn call(command: &mut Command) {
    assert!(
        Path::new(SERVICES).is_file(),
        "{SERVICES} is a part of the project"
    );
    let done = command.stdin(Stdio::null()).output().unwrap();
    assert!(
        done.status.success(),
        "{command:?}: {}{}",
        String::from_utf8_lossy(&done.stdout),
        String::from_utf8_lossy(&done.stderr)
    );
}

/// A port that was free a moment ago, below those that the system gives to connections: while a server
/// is down, one of those might be its client's.
pub fn free_port() -> u16 {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    loop {
        let number = std::process::id().wrapping_mul(64);
        let number = number.wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed));
        let port = 20_000 + u16::try_from(number % 12_000).unwrap();
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}
