//! Counts visits in an embedded event store: the example of the README.
use std::convert::Infallible;
use tidelog::{Aggregate, Command, Context, Decide, Event, Tidelog};
#[derive(Clone, serde::Serialize, serde::Deserialize, Event)]
struct Visited(u64);
#[derive(Clone, Debug, serde::Serialize, serde::Deserialize)]
struct Page(u64);
impl Aggregate for Page {
    const TYPE: &'static str = "Page";
    type Event = Visited;
    type Error = Infallible;
    fn apply(page: Option<Self>, visited: &Visited) -> Result<Self, Infallible> {
        Ok(Self(page.map_or(0, |page| page.0) + visited.0))
    }
}
struct Visit(u64);
impl Command for Visit {
    type Aggregate = Page;
    fn target_aggregate_identifier(&self) -> Option<&str> {
        Some("home")
    }
}
impl Decide<Visit> for Page {
    type Rejection = Infallible;
    fn decide(_: Option<&Self>, visit: &Visit, _: &Context) -> Result<Vec<Visited>, Infallible> {
        Ok(vec![Visited(visit.0)])
    }
}
fn main() -> Result<(), Box<dyn std::error::Error>> {
    let log = Tidelog::open("./.data/readme")?.blocking(); // or async: leave `.blocking()` out
    log.execute(Visit(3))?; // on the disk when it returns
    println!("{:?}", log.load::<Page>("home")?.map(|page| page.state)); // Some(Page(3)) at first
    Ok(())
}
