//! Python with the CloudEvents SDK and a Kafka client, from its own registry.

use std::path::PathBuf;
use std::process::Command;
use std::sync::OnceLock;

use serde::Deserialize;

use crate::java::output;
use crate::services;

/// What is installed.
const PACKAGES: [&str; 2] = ["cloudevents==2.2.0", "confluent-kafka==2.16.1"];
const SCRIPT: &str = include_str!("cloudevents.py");

/// Python that knows CloudEvents.
#[derive(Clone, Debug)]
pub struct Python {
    program: PathBuf,
}

/// A message as the SDK understands it.
#[derive(Clone, Debug, Deserialize)]
pub struct Understood {
    pub partition: i32,
    pub offset: i64,
    /// Attributes as text, extensions among them.
    pub attributes: std::collections::BTreeMap<String, String>,
    /// The bytes of the data in hex; JSON as the SDK writes it again. `None` when there are none.
    pub data: Option<String>,
    pub is_json: bool,
}

impl Python {
    /// `None` where there is none, or no network to fetch the packages, which is said.
    pub fn find() -> Option<Self> {
        static FOUND: OnceLock<Option<Python>> = OnceLock::new();
        FOUND.get_or_init(Self::look).clone()
    }

    fn look() -> Option<Self> {
        let dir = std::env::var_os("SERVICES_DIR").map(PathBuf::from);
        let dir =
            dir.unwrap_or_else(|| services::services().with_file_name("../../target/services"));
        let dir = dir.join("python");
        let (program, stamp) = (dir.join("bin/python"), dir.join("packages"));
        let wanted = PACKAGES.join(" ");
        if std::fs::read_to_string(&stamp).ok().as_deref() != Some(&wanted) {
            let mut venv = Command::new("python3");
            venv.args(["-m", "venv", "--clear"]).arg(&dir);
            let mut pip = Command::new(&program);
            pip.args(["-m", "pip", "install", "--quiet"]).args(PACKAGES);
            for command in [&mut venv, &mut pip] {
                let done = command.output();
                if !done.as_ref().is_ok_and(|done| done.status.success()) {
                    let why = format!("{command:?}: {done:?}");
                    assert!(
                        std::env::var("CI").as_deref() != Ok("true"),
                        "{why}; with CI=true it has to work"
                    );
                    services::left_out(&why);
                    return None;
                }
            }
            std::fs::write(&stamp, wanted).unwrap();
        }
        Some(Self { program })
    }

    /// Everything that stands in a topic, by the SDK.
    pub fn read(&self, address: &str, topic: &str) -> Vec<Understood> {
        let printed = self.script(&["read", address, topic]);
        let lines = printed.lines();
        lines
            .map(|line| {
                serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"))
            })
            .collect()
    }

    /// Puts `CloudEvents` of the SDK's own making into a topic, and what is none; what it sent, one a
    /// line: name, tab, key.
    pub fn write(&self, address: &str, topic: &str) -> String {
        self.script(&["write", address, topic])
    }

    fn script(&self, args: &[&str]) -> String {
        let mut python = Command::new(&self.program);
        let printed = output(python.arg("-").args(args), SCRIPT.as_bytes());
        String::from_utf8(printed.stdout).unwrap()
    }
}
