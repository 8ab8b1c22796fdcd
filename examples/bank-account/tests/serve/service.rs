//! The service in a process of its own.

use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::http::{Answer, ask};

#[allow(dead_code, reason = "most tests ask for ports alone")]
#[path = "../../../../sync/tests/tools/services.rs"]
pub mod services;

/// What has not come by then does not come.
pub const PATIENCE: Duration = Duration::from_secs(120);

pub struct Service {
    pub address: SocketAddr,
    child: Child,
}

/// The program that serves `store`, not started yet.
pub fn command(store: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_bank-account"));
    command.arg("--store").arg(store).arg("serve").args(args);
    command.env("RUST_LOG", "warn").stdin(Stdio::null());
    command
}

impl Service {
    /// Serves the bank in `store` at a port that is free.
    pub fn start(store: &Path) -> Self {
        Self::start_with(store, &[])
    }

    pub fn start_with(store: &Path, args: &[&str]) -> Self {
        let listen = if args.contains(&"--listen") {
            &[][..]
        } else {
            &["--listen", "127.0.0.1:0"]
        };
        Self::of(command(store, &[args, listen].concat())).unwrap_or_else(|said| panic!("{said}"))
    }

    /// Serves it at a port that nobody else is given while the service is away: none of those that the
    /// system gives to connections.
    pub fn start_to_come_back(store: &Path, args: &[&str]) -> Self {
        let started = (0..20).find_map(|_| {
            let listen = format!("127.0.0.1:{}", services::free_port());
            Self::of(command(store, &[args, &["--listen", &listen]].concat())).ok()
        });
        started.expect("of twenty ports that are free one can be had")
    }

    /// What `command` serves; what it said instead of where, if it ended.
    pub fn of(mut command: Command) -> Result<Self, String> {
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let mut said = String::new();
        let out = child.stdout.take().unwrap();
        BufReader::new(out).read_line(&mut said).unwrap();
        let Some(address) = said.trim().strip_prefix("listening on http://") else {
            return Err(format!(
                "it said {said:?}, and ended: {}",
                child.wait().unwrap()
            ));
        };
        let address = address.parse().unwrap();
        Ok(Self { address, child })
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Ends it as a crash does.
    pub fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    pub fn tell_to_end(&self) {
        let pid = Pid::from_raw(self.child.id().try_into().unwrap()).unwrap();
        kill_process(pid, Signal::TERM).unwrap();
    }

    pub fn ended(&mut self) -> ExitStatus {
        self.child.wait().unwrap()
    }

    pub fn get(&self, path: &str) -> Answer {
        ask(self.address, "GET", path, &[], None)
    }

    /// What `path` answers once it is as `is` says.
    pub fn until(&self, path: &str, is: impl Fn(&Value) -> bool) -> Value {
        let began = Instant::now();
        loop {
            let answer = self.get(path).json();
            if is(&answer) {
                return answer;
            }
            assert!(began.elapsed() < PATIENCE, "it stays {answer}");
        }
    }

    pub fn post(&self, path: &str, headers: &[(&str, &str)], body: &str) -> Answer {
        ask(self.address, "POST", path, headers, Some(body))
    }

    pub fn open(&self, id: &str, holder: &str) {
        let body = serde_json::json!({ "holder": holder }).to_string();
        let path = format!("/v1/accounts/{id}");
        let answer = ask(self.address, "PUT", &path, &[], Some(&body));
        assert_eq!(answer.status, 201, "{answer:?}");
    }

    /// Deposits, and returns the position of that.
    pub fn deposit(&self, id: &str, amount: &str) -> u64 {
        let body = serde_json::json!({ "amount": amount }).to_string();
        let answer = self.post(&format!("/v1/accounts/{id}/deposits"), &[], &body);
        assert_eq!(answer.status, 201, "{answer:?}");
        answer.json()["event"]["position"].as_u64().unwrap()
    }

    pub fn account(&self, id: &str) -> Value {
        let answer = self.get(&format!("/v1/accounts/{id}"));
        assert_eq!(answer.status, 200, "{answer:?}");
        answer.json()
    }

    pub fn balance(&self, id: &str) -> String {
        self.account(id)["balance"].as_str().unwrap().to_owned()
    }

    /// The figure of this name.
    pub fn metric(&self, name: &str) -> u64 {
        let text = String::from_utf8(self.get("/metrics").body).unwrap();
        let line = text
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.unwrap_or_else(|| panic!("no {name} in\n{text}"))
            .parse()
            .unwrap()
    }

    /// Bytes of memory that it has now.
    pub fn resident(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid())).unwrap();
        let line = status
            .lines()
            .find_map(|line| line.strip_prefix("VmRSS:"))
            .unwrap();
        line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        // It may have ended before.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
