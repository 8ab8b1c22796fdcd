//! Java programs among the classes of Kafka's own clients.

use std::io::Write as _;
use std::process::{Command, Output, Stdio};
use std::sync::OnceLock;

use crate::services;

/// Between the parts of a message, and behind it: no text of the tests has these.
const PART: &str = "\u{1}part\u{1}";
const END: &str = "\u{1}end\u{1}";
/// What a value that is missing is shown as.
const NULL: &str = "\u{1}null\u{1}";

/// Java with Kafka's classes.
#[derive(Clone, Debug)]
pub struct Java {
    classes: String,
}

/// A message as the console consumer shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shown {
    pub partition: i32,
    pub offset: i64,
    /// `name:value`, in order.
    pub headers: Vec<String>,
    pub key: String,
    /// `None` is a tombstone.
    pub value: Option<Vec<u8>>,
}

impl Java {
    /// `None` where there is none, which is said.
    pub fn find() -> Option<Self> {
        static FOUND: OnceLock<Option<Java>> = OnceLock::new();
        FOUND.get_or_init(Self::look).clone()
    }

    fn look() -> Option<Self> {
        if !services::can_start("Kafka's own client") {
            return None;
        }
        let mut jars = Command::new(services::services());
        let jars = output(jars.args(["jars", "kafka", "tools"]), b"");
        let jars = String::from_utf8(jars.stdout).unwrap();
        let folders: Vec<_> = jars.lines().map(|folder| format!("{folder}/*")).collect();
        Some(Self {
            classes: folders.join(":"),
        })
    }

    /// Runs a class from its text, with `input` to read; what it prints.
    pub fn run(&self, class: &str, text: &str, input: &[u8]) -> String {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join(format!("{class}.java"));
        std::fs::write(&file, text).unwrap();
        let mut java = self.java();
        let printed = output(java.arg(file), input);
        String::from_utf8(printed.stdout).unwrap()
    }

    /// What Kafka's console consumer shows of a topic that has `count` messages.
    pub fn console_consumer(&self, address: &str, topic: &str, count: usize) -> Vec<Shown> {
        let mut java = self.java();
        java.arg("org.apache.kafka.tools.consumer.ConsoleConsumer");
        java.args(["--bootstrap-server", address, "--topic", topic]);
        java.args(["--from-beginning", "--timeout-ms", "60000"]);
        java.args(["--max-messages", &count.to_string()]);
        for what in ["partition", "offset", "headers", "key", "value"] {
            java.args(["--formatter-property", &format!("print.{what}=true")]);
        }
        for (name, text) in [
            ("key.separator", PART),
            ("headers.separator", "\u{2}"),
            ("line.separator", END),
            ("null.literal", NULL),
        ] {
            java.args(["--formatter-property", &format!("{name}={text}")]);
        }
        let printed = output(&mut java, b"").stdout;
        let shown = split(&printed, END.as_bytes());
        assert!(shown.last().is_none_or(|rest| rest.is_empty()), "{shown:?}");
        let shown = &shown[..shown.len().saturating_sub(1)];
        shown.iter().map(|message| Shown::read(message)).collect()
    }

    fn java(&self) -> Command {
        let mut java = Command::new("java");
        java.args(["-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-cp"]);
        java.args([&self.classes, "-Dfile.encoding=UTF-8"]);
        java
    }
}

impl Shown {
    fn read(message: &[u8]) -> Self {
        let parts = split(message, PART.as_bytes());
        let [partition, offset, headers, key, value] = parts[..] else {
            panic!("{:?}", String::from_utf8_lossy(message));
        };
        let text = |part: &[u8]| String::from_utf8(part.to_vec()).unwrap();
        let number = |part: &[u8], name: &str| text(part).strip_prefix(name).unwrap().to_owned();
        Self {
            partition: number(partition, "Partition:").parse().unwrap(),
            offset: number(offset, "Offset:").parse().unwrap(),
            headers: text(headers).split('\u{2}').map(str::to_owned).collect(),
            key: text(key),
            value: (value != NULL.as_bytes()).then(|| value.to_vec()),
        }
    }
}

fn split<'a>(mut bytes: &'a [u8], by: &[u8]) -> Vec<&'a [u8]> {
    let mut parts = Vec::new();
    while let Some(at) = bytes.windows(by.len()).position(|window| window == by) {
        parts.push(&bytes[..at]);
        bytes = &bytes[at + by.len()..];
    }
    parts.push(bytes);
    parts
}

/// What a command prints; it has to succeed.
pub fn output(command: &mut Command, input: &[u8]) -> Output {
    command.stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
    let mut pipe = child.stdin.take().unwrap();
    let input = input.to_vec();
    let writer = std::thread::spawn(move || {
        // Who ends before all is read does so with an error of its own.
        let _ = pipe.write_all(&input);
    });
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {errors}");
    output
}
