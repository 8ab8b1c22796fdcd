//! A store that is replicated to ScyllaDB or Cassandra: the third example of the README.
use tidelog::{
    AppendBatch, ContentType, DistributedConfig, Error, ExpectedVersion, NewEvent, ScyllaConfig,
    Stage, StreamId, Tidelog,
};
fn main() -> Result<(), Error> {
    let node = std::env::args().nth(1).unwrap_or("127.0.0.1:9042".into());
    let scylla = ScyllaConfig::new([node]).keyspace("shop"); // one node or two: it learns the rest
    let distributed = DistributedConfig::new().scylla(scylla);
    let log = Tidelog::builder("./.data/shop").distributed(distributed);
    let log = log.open()?.blocking(); // does not wait for the network, now or later
    let sold = NewEvent::new("Sold", 1, ContentType::Json, r#"{"book": "Dune"}"#);
    let till = StreamId::new("Till", "7")?;
    let done = log.append(AppendBatch::new(till, ExpectedVersion::Any, vec![sold]))?;
    log.wait_for(done.last_position.unwrap_or(0), Stage::Replicated)?; // only for who wants to know
    println!("{:?}", log.replication().status().state); // Live
    Ok(())
}
