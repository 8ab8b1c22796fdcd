//! Who is asked, and short ways to ask.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;
use tidelog_backends::fake::{FakeServer, FakeWire};
use tidelog_backends::wire::{
    AppendRows, Bucket, Chunk, ErrorClass, EventRow, Expected, HeadRow, IdRow, LogRow, MetaRow,
    OriginRow, Page, PageAt, Reply, Request, Watermark, Wire, WireError,
};
use tidelog_core::{
    Batch, ContentType, Direction, EventEnvelope, EventId, Metadata, RecordKind, StreamId, Tags,
    Timestamp,
};
use uuid::Uuid;

/// One case: it asks, and panics when an answer is not what it should be.
pub type Case = fn(Ask) -> Pin<Box<dyn Future<Output = ()>>>;

/// Writes a list of cases: each is an async function of [`Ask`].
macro_rules! cases {
    ($($name:ident),+ $(,)?) => {
        pub fn cases() -> Vec<(&'static str, $crate::kit::Case)> {
            vec![$((stringify!($name), |ask| Box::pin($name(ask)))),+]
        }
    };
}
pub(crate) use cases;

/// A server that is asked.
pub struct Subject {
    wire: Arc<dyn Wire>,
}

/// What a keyspace says of itself in these cases.
pub fn meta() -> MetaRow {
    MetaRow {
        keyspace_id: Uuid::from_u128(7),
        schema_version: 1,
        bucket_events: 1000,
        chunk_records: 1000,
        arbitration_dc: None,
    }
}

impl Subject {
    pub fn in_memory() -> Self {
        Self {
            wire: Arc::new(FakeWire::new(FakeServer::new(meta()))),
        }
    }

    /// The server that `TIDELOG_TEST_SCYLLA` names, with a keyspace of its own.
    #[cfg(feature = "scylla")]
    pub fn real(keyspace: &crate::keyspaces::Keyspace) -> Self {
        let config = keyspace
            .config()
            .bucket_events(meta().bucket_events)
            .chunk_records(meta().chunk_records);
        let wire = tidelog_backends::wire::Cql::new(config).unwrap();
        pollster::block_on(wire.renew()).unwrap();
        Self {
            wire: Arc::new(wire),
        }
    }

    pub fn run(&self, number: usize, name: &str, case: Case) {
        println!("{number} {name}");
        pollster::block_on(case(Ask {
            wire: self.wire.clone(),
            number: u128::try_from(number).unwrap() + 1,
        }));
    }
}

/// Asks the server; names and ids are the case's own.
#[derive(Clone)]
pub struct Ask {
    wire: Arc<dyn Wire>,
    number: u128,
}

impl Ask {
    pub async fn ask(&self, request: Request) -> Reply {
        let asked = format!("{request:?}");
        let asked: String = asked.chars().take(300).collect();
        match self.wire.ask(request).await {
            Ok(reply) => reply,
            Err(error) => panic!("{asked}: {error:?}"),
        }
    }

    /// What the lack of an answer means.
    pub async fn refused(&self, request: Request) -> ErrorClass {
        self.failed(request).await.class
    }

    pub async fn failed(&self, request: Request) -> WireError {
        match self.wire.ask(request).await {
            Ok(reply) => panic!("it was answered: {reply:?}"),
            Err(error) => {
                println!("  {error:?}");
                error
            }
        }
    }

    /// Whether a conditional write was applied; `None` when that is unclear.
    pub async fn maybe_applied(&self, request: Request) -> Option<bool> {
        match self.wire.ask(request).await {
            Ok(Reply::Applied(applied)) => Some(applied),
            Ok(other) => panic!("{other:?}"),
            Err(error) if error.class == ErrorClass::Unclear => None,
            Err(error) => panic!("{error:?}"),
        }
    }

    /// Whether a conditional write was applied.
    pub async fn applied(&self, request: Request) -> bool {
        match self.ask(request).await {
            Reply::Applied(applied) => applied,
            other => panic!("{other:?}"),
        }
    }

    pub async fn done(&self, request: Request) {
        assert_eq!(self.ask(request).await, Reply::Done);
    }

    /// An uuid of this case.
    pub fn uuid(&self, n: u64) -> Uuid {
        Uuid::from_u128(self.number << 64 | u128::from(n))
    }

    pub fn id(&self, n: u64) -> EventId {
        EventId::from_uuid(self.uuid(n))
    }

    pub fn stream(&self, name: &str) -> StreamId {
        StreamId::new(&format!("Case{}", self.number), name).unwrap()
    }

    pub fn bucket(&self, number: u64) -> Bucket {
        Bucket {
            stream: self.stream("s"),
            number,
        }
    }

    /// A plain event of the stream `s`, its id its sequence's.
    pub fn row(&self, sequence: u64) -> EventRow {
        EventRow {
            event: EventEnvelope {
                event_id: self.id(sequence),
                stream: self.stream("s"),
                sequence,
                position: None,
                birth: None,
                kind: RecordKind::Event,
                event_type: "Counted".into(),
                revision: 1,
                content_type: ContentType::Json,
                event_time: Timestamp::from_micros(5),
                recorded_time: Timestamp::from_micros(1_000_000 + (sequence >> 1).cast_signed()),
                metadata: Metadata::new(),
                tags: Tags::none(),
                batch: Batch {
                    first: sequence,
                    count: 1,
                },
                event: format!("{sequence}").into(),
            },
            place: None,
        }
    }

    pub fn rows(&self, from: u64, to: u64) -> Vec<EventRow> {
        (from..=to).map(|sequence| self.row(sequence)).collect()
    }

    /// `from..=to` into bucket 0 of `s`.
    pub fn append(&self, expected: Expected, from: u64, to: u64) -> Request {
        append_rows(0, expected, self.rows(from, to))
    }

    pub async fn head(&self, bucket: Bucket) -> Option<HeadRow> {
        match self.ask(Request::Head(bucket)).await {
            Reply::Head(head) => head,
            other => panic!("{other:?}"),
        }
    }

    pub async fn ids(&self, bucket: Bucket, from: u64, to: u64, serial: bool) -> Vec<IdRow> {
        let request = Request::Ids {
            bucket,
            from,
            to,
            serial,
        };
        match self.ask(request).await {
            Reply::Ids(ids) => ids,
            other => panic!("{other:?}"),
        }
    }

    /// Sequences of bucket 0 of `s`, at SERIAL.
    pub async fn sequences(&self) -> Vec<u64> {
        let ids = self.ids(self.bucket(0), 0, 1 << 40, true).await;
        ids.iter().map(|row| row.sequence).collect()
    }

    /// All pages of a bucket, one list a page.
    pub async fn pages(
        &self,
        bucket: Bucket,
        range: (u64, u64),
        direction: Direction,
        serial: bool,
        rows: u32,
    ) -> Vec<Vec<EventRow>> {
        let mut pages = Vec::new();
        let mut after: Option<Page> = None;
        loop {
            let request = Request::Events {
                bucket: bucket.clone(),
                from: range.0,
                to: range.1,
                direction,
                serial,
                page: PageAt { after, rows },
            };
            let Reply::Events(page) = self.ask(request).await else {
                panic!("no events");
            };
            pages.push(page.rows);
            after = page.next;
            if after.is_none() {
                return pages;
            }
        }
    }

    /// All events of bucket 0 of `s`, forward.
    pub async fn events(&self, serial: bool) -> Vec<EventRow> {
        let range = (0, 1 << 40);
        let pages = self.pages(self.bucket(0), range, Direction::Forward, serial, 5000);
        pages.await.concat()
    }

    pub fn chunk(&self, number: u64) -> Chunk {
        Chunk {
            origin: self.uuid(1),
            epoch: self.uuid(2),
            number,
        }
    }

    /// One record that is a commit, its event id its position's.
    pub fn log_row(&self, position: u64) -> LogRow {
        LogRow {
            position,
            event_id: self.id(position),
            commit_number: position,
            commit_first: position,
            commit_count: 1,
            commit_hash: [u8::try_from(position % 251).unwrap(); 32],
            record: Bytes::from(format!("record {position}")),
        }
    }

    /// All pages of a chunk.
    pub async fn log(&self, chunk: Chunk, from: u64, records: bool, rows: u32) -> Vec<Vec<LogRow>> {
        let mut pages = Vec::new();
        let mut after: Option<Page> = None;
        loop {
            let request = Request::Log {
                chunk,
                from,
                wide: rows.is_multiple_of(2),
                records,
                page: PageAt { after, rows },
            };
            let Reply::Log(page) = self.ask(request).await else {
                panic!("no log");
            };
            pages.push(page.rows);
            after = page.next;
            if after.is_none() {
                return pages;
            }
        }
    }

    /// An origin of this case at the beginning.
    pub fn origin_row(&self, epoch: u64) -> OriginRow {
        OriginRow {
            origin: self.uuid(1),
            epoch: self.uuid(epoch),
            first_epoch: self.uuid(2),
            parent: None,
            watermark: self.mark(0),
            published: 0,
            successor: None,
            name: "till 3".into(),
        }
    }

    /// A watermark of session 100.
    pub fn mark(&self, position: u64) -> Watermark {
        Watermark {
            session: self.uuid(100),
            position,
            hash: [u8::try_from(position % 251).unwrap(); 32],
            commit_number: position / 2,
        }
    }

    pub async fn origins(&self) -> Vec<OriginRow> {
        match self.ask(Request::Origins(self.uuid(1))).await {
            Reply::Origins(rows) => rows,
            other => panic!("{other:?}"),
        }
    }
}

pub fn head_of(row: &EventRow) -> HeadRow {
    HeadRow {
        sequence: row.event.sequence,
        event_id: row.event.event_id,
        recorded: row.event.recorded_time,
    }
}

pub fn append_under(
    bucket: u64,
    expected: Expected,
    rows: Vec<EventRow>,
    head: HeadRow,
) -> Request {
    Request::Append(Box::new(AppendRows {
        bucket: Bucket {
            stream: rows[0].event.stream.clone(),
            number: bucket,
        },
        expected,
        rows,
        head,
    }))
}

/// The head is the last row.
pub fn append_rows(bucket: u64, expected: Expected, rows: Vec<EventRow>) -> Request {
    let head = head_of(rows.last().unwrap());
    append_under(bucket, expected, rows, head)
}
