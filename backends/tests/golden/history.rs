//! The history of the golden store: every kind of record and field that format version 1 writes,
//! with a clock and ids of its own, so that it comes out the same, byte for byte, each time.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tidelog_backends::{SledStore, restore_backup};
use tidelog_core::{
    AppendBatch, ContentType, Error, EventEnvelope, EventId, ExpectedVersion, IdSource,
    ManualClock, Metadata, NewEvent, SnapshotEnvelope, StreamId, Tags, Timestamp,
};
use uuid::Uuid;

/// The new year of 2020.
const START: Timestamp = Timestamp::from_micros(1_577_836_800_000_000);

struct Machine {
    clock: Arc<ManualClock>,
    ids: Arc<Ids>,
}

/// Different each time, the same in each run.
#[derive(Default)]
struct Ids(AtomicU64);

impl IdSource for Ids {
    fn next_uuid(&self) -> Uuid {
        let count = u128::from(self.0.fetch_add(1, Ordering::SeqCst) + 1);
        Uuid::from_u128(count.wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835))
    }
}

impl Machine {
    fn open(&self, dir: &Path) -> Result<SledStore, Error> {
        let builder = SledStore::builder(dir)
            .segment_size(64 << 10)
            .stress_index(64, 2);
        builder
            .clock(self.clock.clone())
            .ids(self.ids.clone())
            .open()
    }

    fn append(&self, store: &SledStore, parts: Vec<AppendBatch>) -> Result<(), Error> {
        self.clock.advance_micros(1_000_000);
        store.blocking().append_streams(parts).map(drop)
    }
}

/// Makes `root/backup`, a backup, and `root/store`, restored from it and gone on with.
pub fn make(root: &Path) -> Result<(), Error> {
    let machine = Machine {
        clock: Arc::new(ManualClock::new(START)),
        ids: Arc::default(),
    };
    let store = machine.open(&root.join("first"))?;
    for parts in before_the_backup()? {
        machine.append(&store, parts)?;
    }
    store.drain()?;
    store.backup(root.join("backup"))?;
    store.close_blocking()?;
    restore_backup(root.join("backup"), root.join("store"))?;
    let store = machine.open(&root.join("store"))?;
    for parts in after_the_restore()? {
        machine.append(&store, parts)?;
    }
    for (stream, state) in snapshots()? {
        let head = store.blocking().head(&stream)?.ok_or(Error::Closed)?;
        store.blocking().persist_snapshot(SnapshotEnvelope {
            stream,
            sequence: head.sequence,
            event_id: head.event_id,
            revision: 3,
            content_type: ContentType::Json,
            taken_time: START,
            state: state.into(),
        })?;
    }
    store.drain()?;
    store.close_blocking()
}

fn before_the_backup() -> Result<Vec<Vec<AppendBatch>>, Error> {
    let (ada, bob) = (
        StreamId::new("Account", "ada")?,
        StreamId::new("Account", "bob")?,
    );
    let unusual = StreamId::new("Größe", "a/b ü 🜚")?;
    let metadata: Metadata = [
        ("actor", "till 4"),
        ("trace-id", "0af7651916cd43dd8448eb211c80319c"),
    ]
    .into_iter()
    .map(|(key, value)| (key.to_owned(), value.to_owned()))
    .collect();
    let tags = Tags::new(["course:c1", "student:s9"])?;
    let cbor = ContentType::parse("application/cbor")?;
    let opened = event(1, "Opened", ContentType::Postcard, b"\x03Ada\x00");
    let deposited = event(2, "Deposited", ContentType::Json, br#"{"cents":500}"#)
        .with_metadata(metadata.clone())
        .with_tags(tags.clone());
    let image = event(3, "Scanned", ContentType::Bytes, &[0, 255, 128, 10, 13])
        .with_event_time(Timestamp::from_micros(-62_135_596_800_000_000));
    let named = event(4, "Measured", cbor, b"\xa1\x61a\x01").with_tags(tags);
    let far = event(5, "Foreseen", ContentType::Json, b"")
        .with_event_time(Timestamp::from_micros(i64::MAX))
        .with_metadata(metadata);
    let mut revised = event(6, "Opened", ContentType::Postcard, b"\x03Bob\x01\x07");
    revised.revision = u32::MAX;
    Ok(vec![
        vec![batch(&ada, ExpectedVersion::NoStream, vec![opened])],
        vec![batch(
            &ada,
            ExpectedVersion::Exact(1),
            vec![deposited, image],
        )],
        vec![
            batch(&bob, ExpectedVersion::NoStream, vec![revised]),
            batch(&unusual, ExpectedVersion::Any, vec![named, far]),
            batch(&ada, ExpectedVersion::StreamExists, vec![numbered(7, 40)]),
        ],
        // A segment has no room for two neighbours of these.
        vec![many(&ada, 20..35)],
        vec![many(&bob, 40..82)],
        vec![many(&ada, 100..115)],
        vec![batch(&ada, ExpectedVersion::Any, vec![numbered(8, 2_000)])],
    ])
}

fn after_the_restore() -> Result<Vec<Vec<AppendBatch>>, Error> {
    let (ada, cy) = (
        StreamId::new("Account", "ada")?,
        StreamId::new("Account", "cy")?,
    );
    Ok(vec![
        vec![batch(
            &ada,
            ExpectedVersion::Exact(35),
            vec![numbered(9, 100)],
        )],
        vec![many(&ada, 120..162)],
        vec![batch(
            &cy,
            ExpectedVersion::NoStream,
            (10..13).map(|n| numbered(n, 20)).collect(),
        )],
    ])
}

/// One that fits into a page of sled, and one that takes several.
pub fn snapshots() -> Result<Vec<(StreamId, Vec<u8>)>, Error> {
    let (ada, bob) = (
        StreamId::new("Account", "ada")?,
        StreamId::new("Account", "bob")?,
    );
    Ok(vec![
        (ada, br#"{"cents":500}"#.to_vec()),
        (bob, vec![b'7'; 9_000]),
    ])
}

fn batch(stream: &StreamId, expected: ExpectedVersion, events: Vec<NewEvent>) -> AppendBatch {
    AppendBatch::new(stream.clone(), expected, events)
}

fn many(stream: &StreamId, numbers: std::ops::Range<u8>) -> AppendBatch {
    let events = numbers.map(|n| numbered(n, 1_100)).collect();
    batch(stream, ExpectedVersion::StreamExists, events)
}

fn event(n: u8, event_type: &str, content_type: ContentType, payload: &[u8]) -> NewEvent {
    let id = EventId::from_bytes([n; 16]);
    NewEvent::new(event_type, 1, content_type, payload.to_vec()).with_id(id)
}

fn numbered(n: u8, bytes: usize) -> NewEvent {
    let text = format!("{n} little ducks, ").into_bytes();
    let payload: Vec<u8> = text.into_iter().cycle().take(bytes).collect();
    event(n, "Counted", ContentType::Bytes, &payload)
}

/// All that an envelope says, on one line.
pub fn describe(record: &EventEnvelope) -> String {
    let payload = match record.event.len() {
        0..=48 => record.event.escape_ascii().to_string(),
        len => format!("{len} bytes {}", blake3::hash(&record.event)),
    };
    let metadata: BTreeMap<_, _> = record.metadata.iter().collect();
    format!(
        "{position} {kind:?} {id} {stream} {sequence} {event_type} r{revision} {content_type} \
         at {event_time} recorded {recorded} batch {first}+{count} {metadata:?} {tags:?} [{payload}]",
        position = record.position.unwrap_or_default(),
        kind = record.kind,
        id = record.event_id,
        stream = record.stream,
        sequence = record.sequence,
        event_type = record.event_type,
        revision = record.revision,
        content_type = record.content_type,
        event_time = record.event_time.as_micros(),
        recorded = record.recorded_time.as_micros(),
        first = record.batch.first,
        count = record.batch.count,
        tags = record.tags.as_slice(),
    )
}

/// The pages that stand in the sled folder `dir`; the empty entries between them say nothing.
pub fn pages(dir: &Path) -> sled::Result<BTreeMap<Vec<u8>, Vec<u8>>> {
    let tree = sled::open(dir)?.open_tree("index")?;
    let pairs = tree
        .iter()
        .map(|pair| pair.map(|(key, value)| (key.to_vec(), value.to_vec())));
    pairs
        .filter(|pair| pair.as_ref().map_or(true, |(_, page)| !page.is_empty()))
        .collect()
}
