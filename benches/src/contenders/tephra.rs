//! tephra 0.4.1, as its README does it: 256 MiB segments, default writer configuration.
//!
//! Fairness:
//! - A stream is a tag; the expected version is an append condition on that tag after the highest
//!   position that the client has observed, as its documentation asks. With a recent position its
//!   table of each tag's newest position can answer without the index.
//! - One client uses the blocking call; many use `append_async` from tokio tasks, as the raw file's
//!   and tidelog's async clients do. As many threads, or `append_submit`, were not tried.
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

use super::{AGGREGATE, Contender, EVENT, stream_name};
use crate::Outcome;
use crate::load::{Append, Client, Seen};

/// What its README opens a log with.
const SEGMENT_BYTES: usize = 256 << 20;

/// An open store.
pub struct Tephra {
    coordinator: WriteCoordinator,
    handle: WriteHandle,
    event_type: EventType,
    streams: Vec<Tags>,
}

impl Tephra {
    /// Opens the store in `dir`.
    pub fn open(dir: &Path, streams: usize) -> Outcome<Self> {
        let set = SegmentSet::open(dir.join("store"), SegmentConfig::new(SEGMENT_BYTES))?;
        let (coordinator, handle) = WriteCoordinator::start(set, WriterConfig::default())?;
        let tags = (0..streams).map(|stream| {
            let tag = Tag::new(format!("{AGGREGATE}:{}", stream_name(stream)))?;
            Outcome::Ok(Tags::new([tag])?)
        });
        Ok(Self {
            coordinator,
            handle,
            event_type: EventType::new(EVENT)?,
            streams: tags.collect::<Result<_, _>>()?,
        })
    }
}

fn event(event_type: &EventType, tags: &Tags, append: &Append<'_>) -> Outcome<Event> {
    Ok(Event::new(event_type, tags, append.payload)?)
}

fn guard(tags: &Tags, observed: Position) -> AppendCondition {
    AppendCondition::new(Query::item(QueryItem::with_tags(tags.clone()))).after(observed)
}

impl Contender for Tephra {
    fn clients(&mut self, clients: Vec<Client>) -> Outcome<()> {
        let start = self.handle.head();
        if let [client] = &clients[..] {
            let mut observed = start;
            for append in client.appends() {
                let tags = &self.streams[append.stream];
                let event = event(&self.event_type, tags, &append)?;
                let written = self
                    .handle
                    .append(vec![event], Some(guard(tags, observed)))?;
                observed = written.last;
            }
            return Ok(());
        }
        let runtime = Runtime::new()?;
        let tasks: Vec<_> = clients
            .into_iter()
            .map(|client| {
                let (handle, event_type) = (self.handle.clone(), self.event_type.clone());
                let own = client.first_stream..client.first_stream + client.streams;
                let streams = self.streams[own].to_vec();
                runtime.spawn(async move {
                    let mut observed = start;
                    for append in client.appends() {
                        let tags = &streams[append.stream - client.first_stream];
                        let event = event(&event_type, tags, &append)?;
                        let guard = guard(tags, observed);
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
            let tags = &self.streams[append.stream];
            events.push(event(&self.event_type, tags, append)?);
            items.push(QueryItem::with_tags(tags.clone()));
        }
        let guard = AppendCondition::new(Query::items(items)).after(self.handle.head());
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
        let query = Query::item(QueryItem::with_tags(self.streams[stream].clone()));
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
