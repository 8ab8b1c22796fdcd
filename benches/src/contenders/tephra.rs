//! tephra 0.4.1, as its README does it: 256 MiB segments, default writer configuration.
//!
//! Fairness:
//! - A stream is a tag; the expected version is an append condition on that tag after the highest
//!   position that the client has observed, as its documentation asks; for a stream's first event
//!   it is that nothing has the tag at all. With a recent position its table of each tag's newest
//!   position can answer without the index. It cannot say which version a stream is at: a client
//!   that is wrong about it without having observed an older position is not refused.
//! - One client uses the blocking call; many use `append_async` from tokio tasks, as the raw file's
//!   and tidelog's async clients do. "tephra threads" is the blocking call from a thread a client.
//!   `append_submit` was not tried.
//! - It has no event ids, times or versions to store or to hand out: its events are smaller, and a
//!   retry is not recognized.
//! - Reads lend each event out of a buffer, without copying or allocating; tidelog's envelopes are
//!   owned.
//! - It indexes on the writer's thread, so there is nothing to drain.

use std::path::Path;

use tephra::{
    AppendCondition, Event, EventType, Position, Query, QueryItem, SegmentConfig, SegmentSet, Tag,
    Tags, WriteCoordinator, WriteHandle, WriterConfig,
};
use tokio::runtime::Runtime;

use super::{AGGREGATE, Contender, EVENT, Names, stream_name};
use crate::Outcome;
use crate::load::{Append, Client, Seen};

/// What its README opens a log with.
const SEGMENT_BYTES: usize = 256 << 20;

/// An open store.
pub struct Tephra {
    coordinator: WriteCoordinator,
    handle: WriteHandle,
    event_type: EventType,
    streams: Names<Tags>,
    on_tokio: bool,
}

impl Tephra {
    /// Opens the store in `dir`; `on_tokio` chooses tasks or threads for many clients.
    pub fn open(dir: &Path, streams: usize, on_tokio: bool) -> Outcome<Self> {
        let set = SegmentSet::open(dir.join("store"), SegmentConfig::new(SEGMENT_BYTES))?;
        let (coordinator, handle) = WriteCoordinator::start(set, WriterConfig::default())?;
        Ok(Self {
            coordinator,
            handle,
            event_type: EventType::new(EVENT)?,
            streams: Names::new(streams, tags)?,
            on_tokio,
        })
    }
}

fn tags(stream: usize) -> Outcome<Tags> {
    let tag = Tag::new(format!("{AGGREGATE}:{}", stream_name(stream)))?;
    Ok(Tags::new([tag])?)
}

fn event(event_type: &EventType, tags: &Tags, append: &Append<'_>) -> Outcome<Event> {
    Ok(Event::new(event_type, tags, append.payload)?)
}

/// Nothing may have one of the tags: at all, for a stream's first event, or since `observed`.
fn guard(query: Query, append: Option<&Append<'_>>, observed: Position) -> AppendCondition {
    let first = append.is_some_and(|append| append.expected == 0);
    let after = if first { Position::ZERO } else { observed };
    AppendCondition::new(query).after(after)
}

impl Tephra {
    /// Serves one client by the blocking call.
    fn serve(&self, client: &Client, start: Position) -> Outcome<()> {
        let mut observed = start;
        for append in client.appends() {
            let tags = self.streams.get(append.stream)?;
            let event = event(&self.event_type, &tags, &append)?;
            let query = Query::item(QueryItem::with_tags(tags.into_owned()));
            let guard = guard(query, Some(&append), observed);
            observed = self.handle.append(vec![event], Some(guard))?.last;
        }
        Ok(())
    }
}

impl Contender for Tephra {
    fn clients(&mut self, clients: Vec<Client>) -> Outcome<()> {
        let start = self.handle.head();
        if clients.len() == 1 || !self.on_tokio {
            return super::on_threads(&clients, |client| self.serve(client, start));
        }
        let runtime = Runtime::new()?;
        let tasks: Vec<_> = clients
            .into_iter()
            .map(|client| {
                let (handle, event_type) = (self.handle.clone(), self.event_type.clone());
                let streams = self.streams.clone();
                runtime.spawn(async move {
                    let mut observed = start;
                    for append in client.appends() {
                        let tags = streams.get(append.stream)?;
                        let event = event(&event_type, &tags, &append)?;
                        let query = Query::item(QueryItem::with_tags(tags.into_owned()));
                        let guard = guard(query, Some(&append), observed);
                        observed = handle.append_async(vec![event], Some(guard)).await?.last;
                    }
                    Outcome::Ok(())
                })
            })
            .collect();
        runtime.block_on(super::all(tasks))
    }

    fn append_batch(&mut self, batch: &[Append<'_>]) -> Outcome<()> {
        let mut events = Vec::with_capacity(batch.len());
        let mut items = Vec::with_capacity(batch.len());
        for append in batch {
            let tags = self.streams.get(append.stream)?;
            events.push(event(&self.event_type, &tags, append)?);
            items.push(QueryItem::with_tags(tags.into_owned()));
        }
        // The works never mix first and later events in a batch.
        let guard = guard(Query::items(items), batch.first(), self.handle.head());
        self.handle.append(events, Some(guard))?;
        Ok(())
    }

    fn drain(&mut self) -> Outcome<()> {
        Ok(())
    }

    fn scan(&mut self) -> Outcome<Seen> {
        read(&self.handle, &Query::all())
    }

    fn load(&mut self, stream: usize) -> Outcome<Seen> {
        let query = Query::item(QueryItem::with_tags(self.streams.get(stream)?.into_owned()));
        read(&self.handle, &query)
    }

    fn close(self: Box<Self>) -> Outcome<()> {
        let Self { coordinator, .. } = *self;
        coordinator.shutdown();
        Ok(())
    }
}

fn read(handle: &WriteHandle, query: &Query) -> Outcome<Seen> {
    let mut seen = Seen::default();
    let mut reads = handle.read(query, Position::ZERO, None);
    while let Some(sequenced) = reads.next() {
        let sequenced = sequenced?;
        std::hint::black_box((sequenced.position, sequenced.event.event_type()));
        seen.note(sequenced.event.data());
    }
    Ok(seen)
}
