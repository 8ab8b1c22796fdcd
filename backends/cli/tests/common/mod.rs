//! What the tests of the command line share: stores of all kinds, and the program.

#![allow(dead_code, reason = "each test uses a part of it")]

#[cfg(unix)]
pub mod pty;
pub mod sinks;
pub mod writer;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::SystemTime;

use serde_json::Value;
use tidelog::{
    AppendBatch, CheckpointStore, ContentType, Error, EventEnvelope, ExpectedVersion, HandlerError,
    ListenerState, LogQuery, Mark, Metadata, NewEvent, ParkedStream, Poison, Projection,
    ProjectionOptions, Rows, SledStore, SnapshotEnvelope, StreamId, Tags, Tidelog, Timestamp,
};

/// What a test makes and takes away.
pub struct Scene {
    pub dir: tempfile::TempDir,
}

impl Scene {
    pub fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        Self { dir }
    }

    pub fn at(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// A store with several segments, closed in order.
    pub fn store(&self) -> PathBuf {
        let path = self.at("store");
        fill(&path, 160);
        path
    }
}

pub fn fill(path: &Path, appends: u64) {
    let store = SledStore::builder(path).segment_size(64 << 10);
    let store = store.open().unwrap();
    for n in 0..appends {
        append(&store, n);
    }
    store.close_blocking().unwrap();
}

pub fn stream(name: &str) -> StreamId {
    name.parse().unwrap()
}

pub fn time(text: &str) -> Timestamp {
    text.parse().unwrap()
}

/// Ten events of one till, one of which has bytes.
pub fn append(store: &SledStore, n: u64) {
    let till = stream(&format!("Till/{}", n % 7));
    let mut events: Vec<NewEvent> = (0..9)
        .map(|k| {
            let payload = format!("{{\"article\": \"tea\",\n \"n\": {}}}", n * 10 + k);
            NewEvent::new("Sold", 1, ContentType::Json, payload)
                .with_tags(Tags::new([format!("shelf:{}", k % 3)]).unwrap())
                .with_metadata(Metadata::new().with("actor", "ada"))
        })
        .collect();
    let noon = time("1997-01-01T12:00:00Z");
    events.push(
        NewEvent::new("Counted", 2, ContentType::Bytes, vec![0, 255, 10]).with_event_time(noon),
    );
    let batch = AppendBatch::new(till, ExpectedVersion::Any, events);
    store.blocking().append(batch).unwrap();
}

/// All events of a store, as the library reads them.
pub fn events_of(path: &Path) -> Vec<EventEnvelope> {
    let store = SledStore::open(path).unwrap();
    let events = store.blocking().read_all(LogQuery::all());
    let events = events.collect::<Result<Vec<_>, _>>().unwrap();
    store.close_blocking().unwrap();
    events
        .into_iter()
        .filter(|event| event.sequence > 0)
        .collect()
}

/// The program.
pub fn tidelog(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tidelog"));
    command.args(args).stdin(Stdio::null());
    command
}

/// `verb STORE more…`
pub fn run(verb: &str, store: &Path, more: &[&str]) -> Output {
    let mut command = tidelog(&[verb]);
    command.arg(store).args(more).output().unwrap()
}

pub fn code(output: &Output) -> i32 {
    output.status.code().unwrap()
}

pub fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// What it printed; it must have succeeded.
pub fn ok(verb: &str, store: &Path, more: &[&str]) -> String {
    let output = run(verb, store, more);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{verb} {more:?}: {errors}");
    text(&output.stdout)
}

/// Each line as JSON.
pub fn lines(printed: &str) -> Vec<Value> {
    let lines = printed.lines();
    lines
        .map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}")))
        .collect()
}

/// It must fail with this code; what stood on stderr.
pub fn fails(verb: &str, store: &Path, more: &[&str], wanted: i32) -> String {
    let output = run(verb, store, more);
    let errors = text(&output.stderr);
    assert_eq!(code(&output), wanted, "{verb} {more:?}: {errors}");
    errors
}

/// A store's files in another place, where nobody has it open.
pub fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let (path, to) = (entry.path(), to.join(entry.file_name()));
        if path.is_dir() {
            copy(&path, &to);
        } else {
            fs::copy(&path, &to).unwrap();
        }
    }
}

/// Every file below `dir`: its content hashed, its length, and when it was written; and every folder.
pub fn picture(dir: &Path) -> BTreeMap<PathBuf, (String, u64, SystemTime)> {
    let mut all = BTreeMap::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        let found = path.symlink_metadata().unwrap();
        let written = found.modified().unwrap();
        if found.is_dir() {
            all.extend(picture(&path));
            all.insert(path, (String::new(), 0, written));
        } else {
            let hash = blake3::hash(&fs::read(&path).unwrap()).to_string();
            all.insert(path, (hash, found.len(), written));
        }
    }
    all
}

/// Turns one bit of the payload that has `marker` in it, or of the middle of the file.
pub fn flip(file: &Path, marker: Option<&[u8]>) {
    let mut permissions = fs::metadata(file).unwrap().permissions();
    #[allow(
        clippy::permissions_set_readonly_false,
        reason = "a file of the test's own"
    )]
    permissions.set_readonly(false);
    fs::set_permissions(file, permissions).unwrap();
    let mut bytes = fs::read(file).unwrap();
    let at = match marker {
        Some(marker) => {
            let found = bytes
                .windows(marker.len())
                .position(|found| found == marker);
            found.unwrap()
        }
        None => bytes.len() / 2,
    };
    bytes[at] ^= 1;
    fs::write(file, bytes).unwrap();
}

/// Counts events by stream, and takes none that is broken.
pub struct Counts;

impl Projection for Counts {
    const NAME: &'static str = "counts";
    type Key = String;
    type Row = u64;
    fn apply(
        &self,
        event: &EventEnvelope,
        rows: &mut Rows<'_, String, u64>,
    ) -> Result<(), HandlerError> {
        if &*event.event_type == "Broken" {
            return Err(HandlerError::permanent("it is \u{1b}[1mbroken"));
        }
        rows.update(event.aggregate_id().to_owned(), |events| *events += 1)
    }
}

/// A store with a read model that has parked a stream, a listener that has, and a snapshot.
pub fn with_rows(path: &Path) {
    let options = ProjectionOptions {
        poison: Poison::Park,
        ..ProjectionOptions::default()
    };
    let log = Tidelog::builder(path).projection_with(Counts, options);
    let log = log.open().unwrap().blocking();
    let append = |stream_name: &str, event_type: &str, n: u64| {
        let payload = format!(r#"{{"n":{n}}}"#);
        let event = NewEvent::new(event_type, 1, ContentType::Json, payload);
        let id = event.event_id;
        let to = stream(stream_name);
        let batch = AppendBatch::new(to, ExpectedVersion::Any, vec![event]);
        log.append(batch).unwrap();
        id
    };
    let mut last = append("Till/7", "Sold", 0);
    for n in 1..5 {
        last = append("Till/7", "Sold", n);
    }
    let counts = log.projection::<Counts>().unwrap();
    counts.wait_for(5).unwrap();
    let broken = append("Till/bad", "Broken", 0);
    // It answers so once it is.
    let parked = counts.wait_for(6);
    assert!(matches!(parked, Err(Error::Parked { .. })), "{parked:?}");
    let snapshot = SnapshotEnvelope {
        stream: stream("Till/7"),
        sequence: 5,
        event_id: last,
        revision: 3,
        content_type: ContentType::Postcard,
        taken_time: time("2026-01-02T03:04:05Z"),
        state: vec![7_u8; 5000].into(),
    };
    log.store().persist_snapshot(snapshot).unwrap();
    let mut state = ListenerState::after(Mark {
        position: 5,
        event_id: last,
        recorded_time: time("2026-01-02T03:04:05Z"),
    });
    let parked = ParkedStream {
        stream: stream("Till/bad"),
        event_id: broken,
        position: 6,
        sequence: 1,
        last_sequence: 1,
        attempts: 8,
        since: time("2026-01-02T03:04:05Z"),
        reason: "no \u{202e}answer".into(),
    };
    state.parked.insert(parked.stream.clone(), parked);
    let mail = log.store().inner();
    let saved = mail.save("mail", 5, state.encode().unwrap());
    pollster::block_on(saved).unwrap();
    log.close().unwrap();
}
