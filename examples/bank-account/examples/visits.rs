//! Shows visits by page, as soon as they are recorded: the second example of the README.
use tidelog::{
    AppendBatch, ContentType, Error, EventEnvelope, ExpectedVersion, HandlerError, NewEvent,
    Projection, Rows, StreamId, Tidelog,
};
struct Visits;
impl Projection for Visits {
    const NAME: &'static str = "visits";
    type Key = String;
    type Row = u64;
    fn apply(
        &self,
        event: &EventEnvelope,
        rows: &mut Rows<'_, String, u64>,
    ) -> Result<(), HandlerError> {
        rows.update(event.aggregate_id().to_owned(), |visits| *visits += 1)
    }
}
fn main() -> Result<(), Error> {
    let log = Tidelog::builder("./.data/visits").inline_projection(Visits);
    let log = log.open()?.blocking();
    let visited = NewEvent::new("Visited", 1, ContentType::Json, "{}");
    let home = StreamId::new("Page", "home")?;
    log.append(AppendBatch::new(home, ExpectedVersion::Any, vec![visited]))?;
    let visits = log.projection::<Visits>()?;
    println!("{:?}", visits.scan(.., 10)?); // [("home", 1)] at first
    Ok(())
}
