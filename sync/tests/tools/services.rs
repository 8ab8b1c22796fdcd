//! Servers for tests: one that all share and nobody hurts, and those that a test has for itself.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

#[path = "ports.rs"]
mod ports;
pub use ports::free_port;

/// What starts and ends them, from whichever package of the project a test is of.
pub fn services() -> PathBuf {
    let folders = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors();
    let mut found = folders.map(|folder| folder.join("sync/services/services"));
    found
        .find(|path| path.is_file())
        .expect("it is a part of the project")
}

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
    call(Command::new(services()).args(["up", service]));
    let printed = Command::new(services())
        .args(["env", service])
        .output()
        .unwrap();
    let printed = String::from_utf8(printed.stdout).unwrap();
    let address = printed.trim().split_once('=').unwrap().1;
    Some(address.to_owned())
}

/// Whether this machine has what servers need. Where CI must have it, its absence fails the test.
pub fn can_start(service: &str) -> bool {
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

pub fn is_there(tool: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|folder| folder.join(tool).is_file())
}

/// A server of a test's own, which it may hurt. It goes, with its data, when this is dropped.
#[derive(Debug)]
pub struct Own {
    service: &'static str,
    name: String,
    port: u16,
    environment: Vec<(&'static str, String)>,
}

/// What a broker is to be.
#[derive(Debug, Default)]
pub struct Broker<'a> {
    /// Settings of the broker's own, such as `auto.create.topics.enable`.
    pub settings: &'a [(&'a str, &'a str)],
    /// Who may come to [`Own::with_password`], by PLAIN or SCRAM.
    pub user: Option<(&'a str, &'a str)>,
    /// A file with a key and its certificate, for [`Own::by_tls`].
    pub tls: Option<&'a Path>,
}

impl Own {
    /// Starts a Cassandra on free ports. `None` where that cannot be, which is said.
    pub fn start() -> Option<Self> {
        Self::begin(
            "cassandra",
            "CQL_PORT",
            vec![("CQL_STORAGE_PORT", free_port().to_string())],
        )
    }

    /// Starts a Kafka broker on free ports. `None` where that cannot be, which is said.
    pub fn kafka() -> Option<Self> {
        Self::kafka_with(&Broker::default())
    }

    /// The same, otherwise than the one that all share.
    pub fn kafka_with(broker: &Broker<'_>) -> Option<Self> {
        Self::begin("kafka", "KAFKA_PORT", broker.environment())
    }

    fn begin(
        service: &'static str,
        port_variable: &'static str,
        mut environment: Vec<(&'static str, String)>,
    ) -> Option<Self> {
        if !can_start(service) {
            return None;
        }
        let port = free_port();
        environment.push((port_variable, port.to_string()));
        let own = Self {
            service,
            name: format!("{}-{port}", std::process::id()),
            port,
            environment,
        };
        own.tell("up");
        Some(own)
    }

    /// Where it answers.
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Where a broker asks for the name and password of its [`Broker::user`].
    pub fn with_password(&self) -> String {
        self.listener("KAFKA_SASL_PORT")
    }

    /// Where a broker speaks TLS.
    pub fn by_tls(&self) -> String {
        self.listener("KAFKA_TLS_PORT")
    }

    fn listener(&self, variable: &str) -> String {
        let mut all = self.environment.iter();
        let port = all.find(|(name, _)| *name == variable);
        let (_, port) = port.expect("it was started with such a listener");
        format!("127.0.0.1:{port}")
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

    /// Where its data is.
    pub fn folder(&self) -> PathBuf {
        let dir = std::env::var_os("SERVICES_DIR").map(PathBuf::from);
        let dir = dir.unwrap_or_else(|| services().with_file_name("../../target/services"));
        let state = dir.join(format!("state-{}.json", self.name));
        let state = std::fs::read_to_string(state).unwrap();
        // {"dir": "…", …}, as `services` writes it.
        let mut parts = state.split('"').skip_while(|part| *part != "dir");
        Path::new(parts.nth(2).unwrap()).join(self.service)
    }

    fn tell(&self, verb: &str) {
        call(&mut self.command(verb));
    }

    fn command(&self, verb: &str) -> Command {
        let mut command = Command::new(services());
        command.args([verb, self.service]);
        command.env("SERVICES_NAME", &self.name);
        for variable in OPTIONS {
            command.env_remove(variable);
        }
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        command
    }
}

impl Drop for Own {
    fn drop(&mut self) {
        let _ = self.command("down").stdout(Stdio::null()).status();
    }
}

/// What an environment may say of the broker that all share, and not of one of a test's own.
const OPTIONS: [&str; 5] = [
    "KAFKA_SET",
    "KAFKA_SASL_PORT",
    "KAFKA_USER",
    "KAFKA_TLS_PORT",
    "KAFKA_TLS_PEM",
];

impl Broker<'_> {
    fn environment(&self) -> Vec<(&'static str, String)> {
        let settings = self.settings.iter();
        let settings: Vec<_> = settings
            .map(|(name, value)| format!("{name}={value}"))
            .collect();
        let mut environment = vec![
            ("KAFKA_CONTROLLER_PORT", free_port().to_string()),
            ("KAFKA_SET", settings.join("\n")),
        ];
        if let Some((name, password)) = self.user {
            environment.push(("KAFKA_SASL_PORT", free_port().to_string()));
            environment.push(("KAFKA_USER", format!("{name}:{password}")));
        }
        if let Some(file) = self.tls {
            environment.push(("KAFKA_TLS_PORT", free_port().to_string()));
            environment.push(("KAFKA_TLS_PEM", file.display().to_string()));
        }
        environment
    }
}

fn call(command: &mut Command) {
    let done = command.stdin(Stdio::null()).output().unwrap();
    assert!(
        done.status.success(),
        "{command:?}: {}{}",
        String::from_utf8_lossy(&done.stdout),
        String::from_utf8_lossy(&done.stderr)
    );
}
