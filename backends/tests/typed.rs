//! Typed events in and out of a store, and payloads that are changed on their way.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests fail by panicking")]

use std::sync::Arc;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use tidelog_backends::MemoryStore;
use tidelog_core::{
    ACTOR, Aggregate, AggregateRepository, AppendBatch, AppendOutcome, Command, CommandId,
    ContentType, Context, Decide, Error, Event, EventEnvelope, EventId, EventLog, EventStore,
    ExpectedVersion, LogQuery, MultiStreamStore, NewEvent, PayloadCodec, PayloadCodecError,
    PayloadContext, SnapshotStore, SnapshotStrategy, StreamId, StreamQuery, Subscribe, Tags,
    Timestamp, TypedEventStore, WithCodec,
};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
enum Fact {
    Noted { text: String },
    Counted(u64),
}

impl Event for Fact {
    fn event_type(&self) -> &'static str {
        match self {
            Self::Noted { .. } => "Noted",
            Self::Counted(_) => "Counted",
        }
    }

    fn content_type(&self) -> ContentType {
        match self {
            Self::Noted { .. } => ContentType::Json,
            Self::Counted(_) => ContentType::Postcard,
        }
    }

    fn tags(&self) -> Tags {
        Tags::new(["kind:fact"]).unwrap()
    }
}

fn noted(text: &str) -> Fact {
    Fact::Noted { text: text.into() }
}

fn stream() -> StreamId {
    StreamId::new("Book", "1").unwrap()
}

/// The output of a future that is ready at once, as all of the store in memory are.
fn now<F: Future>(future: F) -> F::Output {
    let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
    match std::pin::pin!(future).as_mut().poll(&mut cx) {
        std::task::Poll::Ready(output) => output,
        std::task::Poll::Pending => panic!("it is not ready"),
    }
}

fn facts(envelopes: Vec<EventEnvelope<Fact>>) -> Vec<Fact> {
    envelopes
        .into_iter()
        .map(|envelope| envelope.event)
        .collect()
}

#[test]
fn typed_events_go_in_and_come_out_with_all_that_travels_with_them() {
    let store = MemoryStore::new();
    let context = Context::new()
        .with_event_time(Timestamp::from_micros(7))
        .with_actor("Ada");
    let all = vec![noted("a"), Fact::Counted(300)];
    let receipt =
        now(store.persist_events(&stream(), ExpectedVersion::NoStream, all.clone(), &context))
            .unwrap();
    assert_eq!((receipt.first_sequence, receipt.last_sequence), (1, 2));

    let read = now(store.read_events::<Fact>(&stream())).unwrap();
    assert_eq!(read[1].event_id, context.event_id(1));
    assert_eq!(read[1].event_time, Timestamp::from_micros(7));
    assert_eq!(read[1].metadata.get(ACTOR), Some("Ada"));
    assert!(read[1].tags.contains("kind:fact"));
    assert_eq!((read[0].sequence, &*read[0].event_type), (1, "Noted"));
    assert_eq!(facts(read), all);

    let tail = now(store.read_events_from::<Fact>(&stream(), 2)).unwrap();
    assert_eq!(facts(tail), [Fact::Counted(300)]);
    assert!(
        now(store.read_events::<Fact>(&StreamId::new("Book", "2").unwrap()))
            .unwrap()
            .is_empty()
    );
}

#[test]
fn persisting_again_with_the_same_context_is_a_retry() {
    let store = MemoryStore::new();
    let context = Context::new().with_command_id(CommandId::new("c").unwrap());
    let persist =
        || now(store.persist_events(&stream(), ExpectedVersion::Any, vec![noted("a")], &context));
    assert_eq!(persist().unwrap().outcome, AppendOutcome::Appended);
    assert_eq!(persist().unwrap().outcome, AppendOutcome::AlreadyAppended);
    let other =
        now(store.persist_events(&stream(), ExpectedVersion::Any, vec![noted("b")], &context));
    assert_eq!(other.unwrap_err().code(), "id_conflict");
}

#[test]
fn encoded_events_are_recorded_as_they_are() {
    let store = MemoryStore::new();
    let event = NewEvent::encode(&Fact::Counted(5), EventId::from_bytes([3; 16])).unwrap();
    now(store.persist_encoded(&stream(), ExpectedVersion::Exact(0), vec![event])).unwrap();
    let read = now(store.read_events::<Fact>(&stream())).unwrap();
    assert_eq!(read[0].event_id, EventId::from_bytes([3; 16]));
    assert!(read[0].metadata.is_empty());
}

#[test]
fn what_is_no_such_event_is_an_error_naming_it() {
    let store = MemoryStore::new();
    let context = Context::new();
    now(store.persist_events(&stream(), ExpectedVersion::Any, vec![noted("a")], &context)).unwrap();
    let foreign = NewEvent::new("Foreign", 1, ContentType::Postcard, vec![1]);
    now(store.persist_encoded(&stream(), ExpectedVersion::Any, vec![foreign])).unwrap();
    let error = now(store.read_events::<Fact>(&stream())).unwrap_err();
    assert_eq!(error.code(), "codec");
    let said = format!("Foreign revision 1, sequence 2 of {}", stream());
    assert!(error.to_string().contains(&said), "{error}");
    let Error::Codec {
        type_name,
        recorded,
        ..
    } = error
    else {
        panic!("{error}");
    };
    assert_eq!(
        (&*type_name, recorded),
        ("Foreign", Some(Box::new((stream(), 2))))
    );
}

/// A toy: XOR with a key that depends on all that it is told, so that a wrong word shows.
struct Xor;

impl Xor {
    fn turn(payload: &[u8], about: &PayloadContext<'_>) -> Bytes {
        let words = format!("{about:?}");
        let key = words
            .bytes()
            .fold(0x5a, |key: u8, byte| key.rotate_left(3) ^ byte);
        payload.iter().map(|byte| byte ^ key).collect()
    }
}

impl PayloadCodec for Xor {
    fn encode(
        &self,
        payload: Bytes,
        about: &PayloadContext<'_>,
    ) -> Result<Bytes, PayloadCodecError> {
        if payload.ends_with(b"refuse\"}") {
            return Err("not this one".into());
        }
        Ok([b"xor:", &Self::turn(&payload, about)[..]].concat().into())
    }

    fn decode(
        &self,
        stored: Bytes,
        about: &PayloadContext<'_>,
    ) -> Result<Bytes, PayloadCodecError> {
        let hidden = stored.strip_prefix(b"xor:").ok_or("it was never hidden")?;
        Ok(Self::turn(hidden, about))
    }
}

fn hidden() -> WithCodec<MemoryStore> {
    WithCodec::new(MemoryStore::new(), Arc::new(Xor))
}

fn persist(store: &impl EventStore, facts: Vec<Fact>) -> Result<(), Error> {
    let context = Context::new().with_actor("Ada");
    now(store.persist_events(&stream(), ExpectedVersion::Any, facts, &context)).map(drop)
}

#[test]
fn a_store_with_a_codec_hides_payloads_below_and_shows_them_above() {
    let store = hidden();
    let all = vec![noted("secret"), Fact::Counted(7)];
    persist(&store, all.clone()).unwrap();

    let below = now(store
        .inner()
        .read_stream(StreamQuery::new(stream()))
        .collect())
    .unwrap();
    for envelope in below {
        assert!(envelope.event.starts_with(b"xor:"));
        assert!(!envelope.event.windows(6).any(|window| window == b"secret"));
        assert!(envelope.decode::<Fact>().is_err());
    }
    assert_eq!(facts(now(store.read_events(&stream())).unwrap()), all);

    let id = now(store.head(&stream())).unwrap().unwrap().event_id;
    let found = now(store.find_event(&stream(), id)).unwrap().unwrap();
    assert_eq!(found.decode_event::<Fact>().unwrap(), all[1]);
    let logged = now(store.read_all(LogQuery::all()).collect()).unwrap();
    assert_eq!(logged[0].decode_event::<Fact>().unwrap(), all[0]);
    let mut followed = store.subscribe(Subscribe::All { after: 1 });
    assert_eq!(
        now(followed.next())
            .unwrap()
            .unwrap()
            .decode_event::<Fact>()
            .unwrap(),
        all[1]
    );
    assert_eq!((store.first_position(), store.last_position()), (1, 2));
}

#[test]
fn a_store_with_a_codec_recognizes_retries_and_takes_batches_over_several_streams() {
    let store = hidden();
    let part = |id: &str| {
        let stream = StreamId::new("Book", id).unwrap();
        let event = NewEvent::encode(&noted(id), EventId::generate()).unwrap();
        AppendBatch::new(stream, ExpectedVersion::Any, vec![event])
    };
    let parts = vec![part("1"), part("2")];
    now(store.append_streams(parts.clone())).unwrap();
    let again = now(store.append_streams(parts)).unwrap();
    assert_eq!(again[0].outcome, AppendOutcome::AlreadyAppended);
    assert_eq!(
        facts(now(store.read_events(&stream())).unwrap()),
        [noted("1")]
    );
}

#[test]
fn a_codec_that_fails_is_an_error_with_its_reason() {
    let store = hidden();
    let error = persist(&store, vec![noted("fine"), noted("refuse")]).unwrap_err();
    assert!(error.to_string().contains("not this one"), "{error}");
    assert_eq!(store.last_position(), 0, "nothing is recorded");

    persist(store.inner(), vec![noted("open")]).unwrap();
    let error = now(store.read_events::<Fact>(&stream())).unwrap_err();
    assert!(error.to_string().contains("it was never hidden"), "{error}");
    let said = format!("Noted revision 1, sequence 1 of {}", stream());
    assert!(error.to_string().contains(&said), "{error}");
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Book {
    facts: Vec<Fact>,
}

impl Aggregate for Book {
    const TYPE: &'static str = "Book";
    type Event = Fact;
    type Error = std::convert::Infallible;

    fn apply(state: Option<Self>, event: &Fact) -> Result<Self, Self::Error> {
        let mut facts = state.map_or_else(Vec::new, |book| book.facts);
        facts.push(event.clone());
        Ok(Self { facts })
    }
}

struct Note(&'static str);

impl Command for Note {
    type Aggregate = Book;
    fn target_aggregate_identifier(&self) -> Option<&str> {
        Some("1")
    }
}

impl Decide<Note> for Book {
    type Rejection = std::convert::Infallible;
    fn decide(_: Option<&Self>, note: &Note, _: &Context) -> Result<Vec<Fact>, Self::Rejection> {
        Ok(vec![noted(note.0)])
    }
}

#[test]
fn a_repository_over_a_store_with_a_codec_hides_events_and_snapshots() {
    let store = hidden();
    let books = AggregateRepository::<Book, _>::new(store.clone())
        .with_snapshots(store.clone(), SnapshotStrategy::EveryEvents(2))
        .blocking();
    for text in ["one", "two", "three"] {
        books.execute(Note(text)).unwrap();
    }
    let below = now(SnapshotStore::read(store.inner(), &stream()))
        .unwrap()
        .unwrap();
    assert_eq!(below.sequence, 2);
    assert!(below.state.starts_with(b"xor:"));
    let error = below.decode::<Book>().unwrap_err().to_string();
    let said = format!(
        "Book revision {}, sequence 2 of {}",
        Book::SNAPSHOT_REVISION,
        stream()
    );
    assert!(error.contains(&said), "{error}");

    let above = now(SnapshotStore::read(&store, &stream()))
        .unwrap()
        .unwrap();
    assert_eq!(
        above.decode::<Book>().unwrap().state.facts,
        [noted("one"), noted("two")]
    );
    let loaded = books.load("1").unwrap().unwrap();
    assert_eq!(
        loaded.state.facts,
        [noted("one"), noted("two"), noted("three")]
    );
}
