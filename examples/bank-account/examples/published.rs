//! A store that is published to Kafka: the fourth example of the README.
use tidelog::{
    AppendBatch, ContentType, DistributedConfig, Error, ExpectedVersion, KafkaConfig, NewEvent,
    Stage, StreamId, Tidelog, TopicSpec,
};
fn main() -> Result<(), Error> {
    let broker = std::env::args().nth(1).unwrap_or("127.0.0.1:9092".into());
    let kafka = KafkaConfig::new([broker]).topic_prefix("shop.");
    let distributed = DistributedConfig::new().kafka(kafka);
    let log = Tidelog::builder("./.data/shop").distributed(distributed);
    let log = log.open()?.blocking(); // does not wait for the network, now or later
    log.publishing()
        .ensure_topics(&["Till"], TopicSpec::new(12, 1))?; // once, by whoever deploys
    let sold = NewEvent::new("Sold", 1, ContentType::Json, r#"{"book": "Dune"}"#);
    let till = StreamId::new("Till", "7")?;
    let done = log.append(AppendBatch::new(till, ExpectedVersion::Any, vec![sold]))?;
    log.wait_for(done.last_position.unwrap_or(0), Stage::Published)?; // only for who wants to know
    println!("{:?}", log.publishing().status().state); // Live
    Ok(())
}
