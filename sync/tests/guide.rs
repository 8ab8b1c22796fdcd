//! The guide has every building block of an event-sourced application, in code that runs.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use std::fs;
use std::path::{Path, PathBuf};

/// A building block, the chapter that has it, and what its code says there.
const BLOCKS: &[(&str, &str, &[&str])] = &[
    (
        "an event with its type and revision",
        "01_events.md",
        &[
            "#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Event)]",
            "impl Event for BankAccountEvent",
            "fn event_type(&self)",
            "fn revision(&self) -> u32",
        ],
    ),
    (
        "an aggregate with its type, apply and apply_all",
        "02_aggregates.md",
        &[
            "impl Aggregate for BankAccount",
            "const TYPE",
            "fn apply(state: Option<Self>",
            "BankAccount::apply_all(None, &history)",
        ],
    ),
    (
        "a command without a target at creation",
        "03_commands.md",
        &[
            "impl Command for OpenAccount",
            "fn target_aggregate_identifier(&self) -> Option<&str>",
            "None // it does not exist yet",
        ],
    ),
    (
        "a command handler by hand",
        "03_commands.md",
        &[
            "impl<S: EventStore> CommandHandler<OpenAccount> for OpenAccountHandler<S>",
            "async fn handle(&self, command: OpenAccount) -> Result<CommandResponse",
            "next_sequence(&events, None)",
            "TRACE_ID",
            "CORRELATION_ID",
            "persist_encoded(&stream, expected",
            "Ok(CommandResponse {",
        ],
    ),
    (
        "a command decided by its aggregate",
        "03_commands.md",
        &[
            "impl Decide<CloseDay> for BankAccount",
            "AggregateRepository::<BankAccount, _>::new",
        ],
    ),
    (
        "the diagram of a command's execution",
        "03_commands.md",
        &[
            "sequenceDiagram",
            "Handler->>+Store",
            "Handler->>+Aggregate",
            "Store->>+Log",
        ],
    ),
    (
        "a query handler over a repository",
        "06_reading_and_queries.md",
        &[
            "impl<R: Repository<String, u64>> QueryHandler<EventsOf> for Questions<R>",
            "async fn handle(&self, query: EventsOf)",
            ".wait_for(done.last_position)",
            ".scan((after, Bound::Unbounded), 100)",
        ],
    ),
    (
        "a snapshot read and kept",
        "04_snapshots.md",
        &[
            "store.read(&stream).await?",
            ".persist(SnapshotEnvelope {",
            "SnapshotStrategy::EveryEvents(",
        ],
    ),
    (
        "an envelope with type, times, sequence, revision and metadata",
        "05_envelopes_and_metadata.md",
        &[
            "envelope.event_type, envelope.revision",
            "envelope.sequence",
            "envelope.event_time",
            "TRACE_ID",
            "CORRELATION_ID",
            ".with_traceparent(",
            ".with_correlation_id(",
        ],
    ),
    (
        "the diagram of a query",
        "06_reading_and_queries.md",
        &[
            "sequenceDiagram",
            "Caller->>+QueryHandler",
            "QueryHandler->>+Repository",
            "Repository->>+Sled",
        ],
    ),
    (
        "a projection with its rows, lookups and failures",
        "07_projections.md",
        &[
            "impl Projection for Accounts",
            "rows.update(",
            "Lookup::by(\"holder\"",
            ".inline_projection(Accounts)",
            "Poison::Park",
            "counts.resume(&stream)",
        ],
    ),
    (
        "a snapshot read and kept",
        "04_snapshots.md",
        &[
            "store.read(&stream).await?",
            ".persist(SnapshotEnvelope {",
            "SnapshotStrategy::EveryEvents(",
        ],
    ),
    (
        "an envelope with type, times, sequence, revision and metadata",
        "05_envelopes_and_metadata.md",
        &[
            "envelope.event_type, envelope.revision",
            "envelope.sequence",
            "envelope.event_time",
            "TRACE_ID",
            "CORRELATION_ID",
            ".with_traceparent(",
            ".with_correlation_id(",
        ],
    ),
    (
        "the diagram of a query",
        "06_reading_and_queries.md",
        &[
            "sequenceDiagram",
            "QueryHandler->>+Repository",
            "Repository->>+Sled",
        ],
    ),
    (
        "a query handler over a repository",
        "06_reading_and_queries.md",
        &[
            "QueryHandler<EventsOf> for Questions<R>",
            "impl Repository<String, u64>",
        ],
    ),
    (
        "a read model",
        "07_projections.md",
        &["impl Projection for Accounts"],
    ),
    (
        "events of earlier programs",
        "08_changing_events.md",
        &[
            "Upcasters::new()",
            ".rename(",
            ".revise(",
            ".split(",
            ".drop_event(",
            "#[event(unknown)]",
        ],
    ),
    (
        "a listener and its container",
        "09_listeners.md",
        &["impl EventListener for", "EventListenerContainer::builder("],
    ),
    (
        "a process manager with a timer",
        "10_process_managers.md",
        &["impl ProcessManager for Transfers", "fn on_timer("],
    ),
    (
        "export and import",
        "12_export_and_import.md",
        &[".export(&mut ", "ImportOptions"],
    ),
    (
        "tests of a domain",
        "11_testing.md",
        &[
            "Scenario::<BankAccount>::given(",
            "ProjectionScenario::new(",
            "ProcessScenario::new(",
            "aggregate_check(",
        ],
    ),
];

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src/guide")
}

fn chapters() -> Vec<(String, String)> {
    let mut chapters: Vec<(String, String)> = fs::read_dir(folder())
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "md"))
        .map(|path| {
            let name = path.file_name().unwrap().to_str().unwrap().to_owned();
            (name, fs::read_to_string(path).unwrap())
        })
        .collect();
    chapters.sort();
    chapters
}

/// The lines between fences, with the language of each block.
fn blocks(text: &str) -> Vec<(String, String)> {
    let mut blocks = Vec::new();
    let mut open: Option<(String, String)> = None;
    for line in text.lines() {
        match (line.strip_prefix("```"), &mut open) {
            (Some(language), None) => open = Some((language.to_owned(), String::new())),
            (Some(_), Some(_)) => blocks.extend(open.take()),
            (None, Some((_, code))) => {
                code.push_str(line);
                code.push('\n');
            }
            (None, None) => {}
        }
    }
    assert!(open.is_none(), "a block is not closed");
    blocks
}

#[test]
fn every_building_block_is_in_the_code_of_its_chapter() {
    let chapters = chapters();
    for (what, file, parts) in BLOCKS {
        let chapter = chapters.iter().find(|(name, _)| name == file);
        let (_, text) = chapter.unwrap_or_else(|| panic!("there is no chapter {file}"));
        let code: String = blocks(text).into_iter().map(|(_, code)| code).collect();
        for part in *parts {
            assert!(
                code.contains(part),
                "{what}: {file} has no code with {part:?}"
            );
        }
    }
}

#[test]
fn all_code_of_the_guide_runs() {
    let mut rust = 0;
    for (name, text) in chapters() {
        for (language, code) in blocks(&text) {
            match language.as_str() {
                "rust" => rust += 1,
                "mermaid" | "text" | "toml" | "sh" | "json" => {}
                other => panic!("{name}: a block of {other:?} is not run:\n{code}"),
            }
        }
    }
    assert!(rust >= BLOCKS.len(), "{rust} blocks");
}

#[test]
fn every_chapter_is_listed_and_short() {
    let index = fs::read_to_string(folder().join("mod.rs")).unwrap();
    for (name, text) in chapters() {
        assert!(
            index.contains(&format!("\"{name}\"")),
            "{name} is no chapter of mod.rs"
        );
        let number = name.split('_').next().unwrap().trim_start_matches('0');
        assert!(
            index.contains(&format!("| [{number} ")),
            "{name} is not in the table"
        );
        let lines = text.lines().count();
        assert!(lines <= 200, "{name} has {lines} lines");
        assert!(
            text.contains("## What can fail"),
            "{name} does not say what can fail"
        );
    }
}
