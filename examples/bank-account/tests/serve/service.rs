//! The service in a process of its own.

use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::http::{Answer, ask};

pub struct Service {
    pub address: SocketAddr,
    child: Child,
}

impl Service {
    /// Serves the bank in `store` at a port that is free.
    pub fn start(store: &Path) -> Self {
        Self::start_with(store, &["--listen", "127.0.0.1:0"])
    }

    pub fn start_with(store: &Path, args: &[&str]) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_bank-account"));
        command.arg("--store").arg(store).arg("serve").args(args);
        if !args.contains(&"--listen") {
            command.args(["--listen", "127.0.0.1:0"]);
        }
        command
            .env("RUST_LOG", "warn")
            .stdin(Stdio::null())
            .stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut said = String::new();
        let out = child.stdout.take().unwrap();
        BufReader::new(out).read_line(&mut said).unwrap();
        let address = said.trim().strip_prefix("listening on http://");
        let address = address
            .unwrap_or_else(|| panic!("it said {said:?}"))
            .parse()
            .unwrap();
        Self { address, child }
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
