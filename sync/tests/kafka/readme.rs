//! What the README shows in part, as code that compiles: it stands there as it stands here. Whole programs
//! are examples of the bank.

use tidelog::{
    Conflict, DistributedConfig, Error, EventEnvelope, EventListenerContainer, HandlerError,
    InOrder, KafkaListenerConfig, Ledger, NewEvent, StreamId, Tidelog, TopicSpec,
};

const README: &str = include_str!("../../../README.md");
const SOURCE: &str = include_str!("readme.rs");

/// What stands between `// Shown: name` and the end of its function, without indentation.
fn shown(name: &str) -> String {
    let begin = format!("    // Shown: {name}\n");
    let (_, code) = SOURCE.split_once(&begin).unwrap();
    let lines = code.lines().take_while(|line| *line != "    Ok(())");
    let lines: Vec<&str> = lines
        .map(|line| line.strip_prefix("    ").unwrap_or(line))
        .collect();
    lines.join("\n")
}

#[test]
fn parts_of_the_readme_are_code_that_compiles() {
    for name in ["conflicts", "switch", "publishing once more", "listening"] {
        let shown = format!("```rust,ignore\n{}\n```\n", shown(name));
        assert!(
            README.contains(&shown),
            "README.md must contain this:\n{shown}"
        );
    }
    // All others are whole programs, which `readme.rs` of the bank compares.
    assert_eq!(README.matches("```rust,ignore\n").count(), 4);
    assert_eq!(README.matches("```rust\n").count(), 4);
    assert_eq!(README.matches("```text\n").count(), 0);
}

#[test]
fn the_readme_says_of_each_halt_what_to_call() {
    let halts = include_str!("../../../core/src/halt.rs");
    let (halts, _) = halts.split_once("impl Halt").unwrap();
    let variants = halts.lines().filter_map(|line| {
        let name = line.strip_prefix("    ")?.strip_suffix(" {")?;
        name.chars().all(char::is_alphanumeric).then_some(name)
    });
    let variants: Vec<&str> = variants.collect();
    assert!(variants.len() >= 14, "{variants:?}");
    let rows: Vec<&str> = README
        .lines()
        .filter(|line| line.starts_with("| `"))
        .collect();
    for name in variants {
        let name = format!("`{name}`");
        let is_said = |row: &&str| {
            row.split('|')
                .nth(1)
                .is_some_and(|cell| cell.contains(&name))
        };
        assert!(
            rows.iter().any(is_said),
            "README.md does not say what to do about {name}"
        );
    }
}

#[allow(dead_code, reason = "it is shown, and compiles")]
async fn conflicts(log: Tidelog, stream: StreamId, other: StreamId) -> Result<(), Error> {
    #[allow(clippy::unnecessary_wraps, reason = "it may refuse")]
    fn decide_again(
        _: &[EventEnvelope],
        _: &[EventEnvelope],
    ) -> Result<Vec<NewEvent>, HandlerError> {
        Ok(Vec::new())
    }
    // Shown: conflicts
    let replication = log.replication();
    for parked in replication.parked() {
        println!("{}: {}", parked.stream, parked.reason);
    }
    // What happened there takes the place of what happened here …
    replication.take_remote(&stream).await?;
    // … and what is still wanted is recorded behind it.
    let again = |conflict: &Conflict| decide_again(&conflict.remote, &conflict.held);
    replication.reissue(&other, again).await?;
    Ok(())
}

#[allow(dead_code, unused_variables, reason = "it is shown, and compiles")]
fn switch() -> Result<(), Error> {
    // Shown: switch
    let config = DistributedConfig::from_toml_file("till.toml")?.overridden_by_env()?;
    let log = Tidelog::builder("./.data/shop")
        .distributed(config)
        .open()?;
    // The section [listener], which may stand in the same file.
    let config = KafkaListenerConfig::from_toml_file("mail.toml")?.overridden_by_env()?;
    Ok(())
}

#[allow(dead_code, reason = "it is shown, and compiles")]
async fn publishing_once_more(log: Tidelog) -> Result<(), Error> {
    // Shown: publishing once more
    let again = log.publishing().republish(..).await?;
    again.wait().await?; // the topic has all of it
    Ok(())
}

#[allow(dead_code, reason = "it is shown, and compiles")]
async fn listening(ledger: impl Ledger) -> Result<(), Error> {
    // Shown: listening
    let config = KafkaListenerConfig::new(["kafka1:9092"], "mail").topic_prefix("shop.");
    let config = config.types(["Till"]);
    // Topics for what cannot be handled; once, by whoever deploys.
    config.ensure_topics(TopicSpec::new(12, 3)).await?;
    let container = EventListenerContainer::kafka(config).listener(InOrder::new(ledger));
    let running = container.build()?.start()?;
    running.control().resume("Till/7").await?; // after its cause is gone; from any member
    running.stop()?; // lets handlers end, commits, leaves the group
    Ok(())
}
