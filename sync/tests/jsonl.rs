//! Exports and imports: nothing is lost on the way, halves are never taken, and whatever ended an
//! import, beginning it again goes on.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test that fails shall stop"
)]

use std::io::Cursor;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tidelog::*;

fn stream(id: &str) -> StreamId {
    StreamId::new("Account", id).unwrap()
}

fn event(n: u64) -> NewEvent {
    let (content_type, payload) = match n % 3 {
        0 => (
            ContentType::Json,
            format!("{{\"cents\": {n}}}").into_bytes(),
        ),
        1 => (ContentType::Json, b"{\n}".to_vec()),
        _ => (ContentType::Postcard, n.to_le_bytes().to_vec()),
    };
    let event_type = if n.is_multiple_of(2) {
        "Deposited"
    } else {
        "Withdrawn"
    };
    let mut event = NewEvent::new(event_type, 1 + (n % 4) as u32, content_type, payload);
    if !n.is_multiple_of(5) {
        event = event
            .with_metadata(Metadata::new().with("actor", format!("actor {n}")))
            .with_tags(Tags::new([format!("till:{}", n % 3)]).unwrap())
            .with_event_time(Timestamp::from_micros(
                852_119_999_000_000 + n.cast_signed(),
            ));
    }
    event
}

fn part(id: &str, numbers: std::ops::Range<u64>) -> AppendBatch {
    AppendBatch::new(
        stream(id),
        ExpectedVersion::Any,
        numbers.map(event).collect(),
    )
}

/// 60 events in appends of one, of several, and over several streams.
fn fill(store: &impl MultiStreamStore) {
    let append = |parts: Vec<AppendBatch>| {
        pollster::block_on(store.append_streams(parts)).unwrap();
    };
    for n in 0..10 {
        let id = (n % 3).to_string();
        append(vec![part(&id, n * 6..n * 6 + 1)]);
        append(vec![part(&id, n * 6 + 1..n * 6 + 3)]);
        append(vec![
            part("0", n * 6 + 3..n * 6 + 5),
            part("new", n * 6 + 5..n * 6 + 6),
        ]);
    }
}

fn lines_of<S: EventLog>(store: &S, query: &ExportQuery) -> String {
    let mut out = Vec::new();
    let report = export(store, query, &mut out).unwrap();
    assert_eq!(report.bytes, out.len() as u64);
    let text = String::from_utf8(out).unwrap();
    assert_eq!(report.events, text.lines().count() as u64);
    text
}

fn take<S: MultiStreamStore>(store: &S, lines: &str) -> Result<ImportReport, ImportError> {
    import(lines.as_bytes(), store, &ImportOptions::default())
}

fn events<S: EventLog>(store: &S) -> Vec<EventEnvelope> {
    let all = store.read_all(LogQuery::all()).into_blocking();
    all.map(Result::unwrap)
        .filter(|event| event.kind != RecordKind::Control)
        .collect()
}

#[test]
fn an_export_imported_and_exported_again_is_the_same_byte_for_byte() {
    let dir = tempfile::tempdir().unwrap();
    let first = Tidelog::open(dir.path().join("first")).unwrap().blocking();
    fill(first.store().inner());
    let lines = lines_of(first.store().inner(), &ExportQuery::all());
    assert_eq!(lines.lines().count(), 60);

    let second = Tidelog::open(dir.path().join("second")).unwrap().blocking();
    // So that positions and times are others.
    let own = AppendBatch::new(
        StreamId::new("Own", "1").unwrap(),
        ExpectedVersion::Any,
        vec![event(0)],
    );
    second.append(own).unwrap();
    let report = second
        .import(lines.as_bytes(), &ImportOptions::default())
        .unwrap();
    assert_eq!((report.events, report.batches, report.already), (60, 30, 0));
    let adopted = ExportQuery::all().aggregate_type("Account");
    assert_eq!(lines_of(second.store().inner(), &adopted), lines);
    let third = MemoryStore::new();
    take(&third, &lines).unwrap();
    assert_eq!(lines_of(&third, &ExportQuery::all()), lines);

    let before = events(first.store().inner());
    for (there, here) in events(&third).iter().zip(&before) {
        assert_eq!(
            (&there.stream, there.sequence),
            (&here.stream, here.sequence)
        );
        assert_eq!(
            (there.event_id, there.event_time),
            (here.event_id, here.event_time)
        );
        assert_eq!((&there.metadata, &there.tags), (&here.metadata, &here.tags));
        assert_eq!((&there.event, there.revision), (&here.event, here.revision));
        assert_eq!(there.kind, RecordKind::Adopted);
        let birth = there.birth.as_deref().unwrap();
        assert_eq!(
            (Some(birth.position), birth.recorded_time),
            (here.position, here.recorded_time)
        );
        assert_eq!(birth.origin, first.store().identity().origin);
        assert_eq!(there.origin_position(), here.position);
    }
    assert_eq!(events(&third).len(), before.len());
    // Appends stay whole: what was one is one again.
    let counts =
        |events: &[EventEnvelope]| events.iter().map(|e| e.batch.count).collect::<Vec<_>>();
    assert_eq!(counts(&events(&third)), counts(&before));
}

#[test]
fn what_gave_way_is_not_exported_and_what_took_its_place_is() {
    let (store, again) = (MemoryStore::new(), MemoryStore::new());
    fill(&store);
    let head = pollster::block_on(store.head(&stream("0")))
        .unwrap()
        .unwrap();
    let birth = Birth {
        origin: store.identity().origin,
        epoch: store.identity().epoch,
        position: 900,
        recorded_time: Timestamp::from_micros(5),
    };
    let adopted = vec![event(100).with_birth(birth), event(101).with_birth(birth)];
    let what = Supersession::new(stream("0"), head, 10).with_adopted(adopted);
    pollster::block_on(store.supersede(what)).unwrap();
    let lines = lines_of(&store, &ExportQuery::all());
    take(&again, &lines).unwrap();
    assert_eq!(lines_of(&again, &ExportQuery::all()), lines);
    let ids = |store: &MemoryStore| {
        let query = StreamQuery::new(stream("0"));
        let events = pollster::block_on(store.read_stream(query).collect()).unwrap();
        let ids = events.iter().map(|event| event.event_id);
        ids.collect::<Vec<_>>()
    };
    assert_eq!(ids(&store).len(), 11);
    assert_eq!(ids(&again), ids(&store));
}

#[test]
fn importing_again_takes_nothing_also_into_the_store_it_is_from() {
    let store = MemoryStore::new();
    fill(&store);
    let lines = lines_of(&store, &ExportQuery::all());
    let there = events(&store);
    let again = take(&store, &lines).unwrap();
    assert_eq!((again.events, again.already), (60, 60));
    assert!(events(&store) == there);
    let other = MemoryStore::new();
    // Ended anywhere, beginning anew goes on.
    for half in [0, 7, 31, 60] {
        let part: Vec<&str> = lines.split_inclusive('\n').take(half).collect();
        let _ = take(&other, &part.concat());
        let whole: Vec<_> = events(&other).iter().map(|event| event.batch).collect();
        let complete =
            |batch: &Batch| whole.iter().filter(|b| *b == batch).count() == batch.count as usize;
        assert!(whole.iter().all(complete), "half an append was taken");
    }
    let last = take(&other, &lines).unwrap();
    assert_eq!((last.events, last.already), (60, 60));
    assert_eq!(lines_of(&other, &ExportQuery::all()), lines);
}

#[test]
fn another_history_at_the_same_place_is_refused_and_the_line_named() {
    let store = MemoryStore::new();
    fill(&store);
    let lines = lines_of(&store, &ExportQuery::all());
    let other = MemoryStore::new();
    pollster::block_on(other.append(part("1", 100..101))).unwrap();
    let error = take(&other, &lines).unwrap_err();
    match &*error.error {
        Error::WrongVersion {
            stream: of,
            actual: 1,
            ..
        } => assert_eq!(*of, stream("1")),
        other => panic!("{other:?}"),
    }
    // Six lines are an append of one, of two, of three: the next begins in line 7.
    assert_eq!((error.line, error.done.events), (7, 6));
    assert!(
        error
            .to_string()
            .starts_with("line 7: stream Account/1 is at sequence 1"),
        "{error}"
    );
    assert_eq!(events(&other).len(), 1 + 6);
}

type Selects = Box<dyn Fn(&EventEnvelope) -> bool>;

#[test]
fn selections_say_what_they_select() {
    let store = MemoryStore::new();
    fill(&store);
    let all = events(&store);
    let time = |n: i64| Timestamp::from_micros(852_119_999_000_000 + n);
    let at = |event: &EventEnvelope| event.position.unwrap();
    let queries: Vec<(ExportQuery, Selects)> = vec![
        (ExportQuery::all(), Box::new(|_| true)),
        (
            ExportQuery::all().from(10).to(20),
            Box::new(move |e| (10..=20).contains(&at(e))),
        ),
        (ExportQuery::all().from(61), Box::new(|_| false)),
        (
            ExportQuery::all().stream(stream("0")),
            Box::new(|e| e.stream == stream("0")),
        ),
        (
            ExportQuery::all().stream(stream("0")).from(30),
            Box::new(move |e| e.stream == stream("0") && at(e) >= 30),
        ),
        (
            ExportQuery::all()
                .aggregate_type("Account")
                .event_type("Deposited"),
            Box::new(|e| &*e.event_type == "Deposited"),
        ),
        (
            ExportQuery::all().aggregate_type("Other"),
            Box::new(|_| false),
        ),
        (
            ExportQuery::all().tag("till:1"),
            Box::new(|e| e.tags.contains("till:1")),
        ),
        (
            ExportQuery::all().since(time(0)).until(time(30)),
            Box::new(move |e| e.event_time >= time(0) && e.event_time < time(30)),
        ),
    ];
    for (query, selects) in queries {
        let lines = lines_of(&store, &query);
        let ids: Vec<_> = all
            .iter()
            .filter(|e| selects(e))
            .map(|e| e.event_id.to_string())
            .collect();
        let read: Vec<_> = lines
            .lines()
            .map(|line| cloudevents::read_line(line.as_bytes()).unwrap())
            .collect();
        let found: Vec<_> = read
            .iter()
            .map(|event| event.event.event_id.to_string())
            .collect();
        assert_eq!(found, ids, "{query:?}");
        // What is left of an append counts itself, so that it can be taken whole.
        let other = MemoryStore::new();
        let renumber = ImportOptions::default().sequences(Sequences::Renumber);
        let report = import(lines.as_bytes(), &other, &renumber).unwrap();
        assert_eq!((report.events, report.already), (ids.len() as u64, 0));
        let again = import(lines.as_bytes(), &other, &renumber).unwrap();
        assert_eq!(
            (again.events, again.already),
            (ids.len() as u64, ids.len() as u64)
        );
        let dense = |id: &StreamId| {
            let read = other.blocking().read_stream(StreamQuery::new(id.clone()));
            let sequences: Vec<_> = read.map(|event| event.unwrap().sequence).collect();
            assert!(sequences.iter().copied().eq(1..=sequences.len() as u64));
        };
        for event in &read {
            dense(&event.stream);
        }
    }
}

#[test]
fn a_selection_with_holes_is_refused_unless_it_is_numbered_anew() {
    let store = MemoryStore::new();
    pollster::block_on(store.append(part("1", 0..6))).unwrap();
    let lines = lines_of(&store, &ExportQuery::all().event_type("Deposited"));
    let other = MemoryStore::new();
    let error = take(&other, &lines).unwrap_err();
    assert!(
        matches!(
            &*error.error,
            Error::InvalidInput {
                what: "sequence",
                ..
            }
        ),
        "{error}"
    );
    assert!(error.to_string().contains("Sequences::Renumber"), "{error}");
    assert_eq!((error.line, events(&other).len()), (1, 0));
}

#[test]
fn an_export_goes_on_where_the_one_before_ended() {
    let store = MemoryStore::new();
    fill(&store);
    let mut first = Vec::new();
    let done = export(&store, &ExportQuery::all(), &mut first).unwrap();
    assert_eq!(done.last_position, 60);
    pollster::block_on(store.append(part("late", 100..104))).unwrap();
    let rest = lines_of(&store, &ExportQuery::all().from(done.last_position + 1));
    assert_eq!(rest.lines().count(), 4);
    let whole = lines_of(&store, &ExportQuery::all());
    assert_eq!(String::from_utf8(first).unwrap() + &rest, whole);
}

#[test]
fn what_is_no_event_is_refused_with_its_line_and_what_was_whole_before_is_taken() {
    let store = MemoryStore::new();
    fill(&store);
    let lines = lines_of(&store, &ExportQuery::all());
    let lines: Vec<&str> = lines.lines().collect();
    // Lines 1 to 6 are appends of one, two and three events.
    let with = |at: usize, line: &str| {
        let mut changed: Vec<&str> = lines[..9].to_vec();
        changed[at] = line;
        changed.join("\n")
    };
    let cases = [
        (with(0, "nonsense"), 1, 0),
        (with(1, "{}"), 2, 1),
        (with(2, lines[3]), 3, 1),
        (with(4, lines[0]), 5, 3),
        (with(4, lines[3]), 5, 3),
        (lines[..5].join("\n"), 4, 3),
        (lines[..3].join("\n") + "\n" + lines[2], 4, 3),
        (
            with(3, &lines[3].replace("\"batchcount\":3", "\"batchcount\":9")),
            5,
            3,
        ),
        (with(8, "\u{feff}{}"), 9, 7),
    ];
    for (text, line, taken) in cases {
        let other = MemoryStore::new();
        let error = take(&other, &text).unwrap_err();
        assert_eq!((error.line, error.done.events), (line, taken), "{error}");
        assert!(
            matches!(*error.error, Error::InvalidInput { .. }),
            "{error}"
        );
        assert_eq!(events(&other).len() as u64, taken);
    }
    // Of a batch that cannot be taken and a line behind it, the batch comes first.
    let error = take(
        &MemoryStore::new(),
        &(lines[1..3].join("\n") + "\nnonsense"),
    )
    .unwrap_err();
    assert!(
        matches!(*error.error, Error::WrongVersion { .. }),
        "{error}"
    );
    assert_eq!((error.line, error.done.events), (1, 0));
    // Blank lines, and breaks as Windows makes them, are none.
    let other = MemoryStore::new();
    let windows = format!("\n{}\r\n\r\n", lines[..6].join("\r\n"));
    assert_eq!(take(&other, &windows).unwrap().events, 6);
    assert_eq!(
        take(&MemoryStore::new(), "").unwrap(),
        ImportReport::default()
    );
}

#[test]
fn lines_and_appends_over_their_limits_are_refused() {
    let store = MemoryStore::new();
    fill(&store);
    let lines = lines_of(&store, &ExportQuery::all());
    let longest = lines.lines().map(str::len).max().unwrap();
    let first_long = 1 + lines
        .lines()
        .position(|line| line.len() == longest)
        .unwrap() as u64;
    let other = MemoryStore::new();
    let at_most = |bytes| ImportOptions::default().max_line(bytes);
    let error = import(lines.as_bytes(), &other, &at_most(longest - 1)).unwrap_err();
    assert_eq!(error.line, first_long);
    match *error.error {
        Error::TooLarge {
            what: "line",
            size,
            limit,
        } => {
            assert_eq!((size, limit), (longest as u64, longest as u64 - 1));
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(
        import(lines.as_bytes(), &other, &at_most(longest))
            .unwrap()
            .events,
        60
    );
    // No limit at all is none that wraps round to nothing.
    let again = import(lines.as_bytes(), &other, &at_most(usize::MAX)).unwrap();
    assert_eq!((again.events, again.already), (60, 60));
    let limits = Limits {
        batch_events: 2,
        ..Limits::default()
    };
    let small = MemoryStore::with_limits(limits);
    let error = take(&small, &lines).unwrap_err();
    assert!(matches!(*error.error, Error::TooLarge { .. }), "{error}");
    assert_eq!((error.line, events(&small).len()), (4, 3));
}

#[test]
fn the_greatest_numbers_are_refused_like_others() {
    let source = MemoryStore::new();
    pollster::block_on(source.append(part("1", 0..3))).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let log = Tidelog::open(dir.path().join("log")).unwrap().blocking();
    let lines = lines_of(&source, &ExportQuery::all());
    for last in [u64::MAX, u64::MAX - 1, u64::MAX - 2] {
        let sequences = [last.saturating_sub(1), last, last.saturating_add(1)];
        let text: String = (1..)
            .zip(lines.lines())
            .zip(sequences)
            .map(|((n, line), to)| {
                let (from, to) = (
                    format!("\"sequence\":\"{n}\""),
                    format!("\"sequence\":\"{to}\""),
                );
                let positions = format!("\"position\":\"{n}\"");
                let greatest = format!("\"position\":\"{}\"", u64::MAX);
                line.replace(&from, &to).replace(&positions, &greatest) + "\n"
            })
            .collect();
        for store in ["memory", "log"] {
            let done = match store {
                "memory" => take(&MemoryStore::new(), &text),
                _ => log.import(text.as_bytes(), &ImportOptions::default()),
            };
            let error = done.unwrap_err();
            assert_eq!((error.line, error.done.events), (1, 0), "{error}");
            assert!(
                matches!(
                    *error.error,
                    Error::WrongVersion { .. } | Error::InvalidInput { .. }
                ),
                "{error}"
            );
        }
    }
}

/// Lines that promise an append without end would otherwise fill the memory.
#[test]
fn an_append_over_its_limits_is_refused_before_it_is_gathered() {
    let store = MemoryStore::new();
    fill(&store);
    let lines = lines_of(&store, &ExportQuery::all());
    let first = lines.lines().next().unwrap();
    let of = |index: u32, count: u32| {
        let place = format!("\"batchindex\":{index},\"batchcount\":{count}");
        first.replace("\"batchindex\":0,\"batchcount\":1", &place) + "\n"
    };
    let error = take(&store, &(of(0, u32::MAX) + "nonsense")).unwrap_err();
    assert!(
        matches!(*error.error, Error::TooLarge { size, .. } if size == u64::from(u32::MAX)),
        "{error}"
    );
    let limits = Limits {
        batch_bytes: 30,
        ..Limits::default()
    };
    let endless: String = (0..100).map(|n| of(n, 200)).collect();
    let error = take(&MemoryStore::with_limits(limits), &endless).unwrap_err();
    assert!(
        matches!(*error.error, Error::TooLarge { size, .. } if size < 60),
        "{error}"
    );
    assert_eq!(error.line, 1);
}

#[test]
fn lines_of_other_systems_are_new_events() {
    let store = MemoryStore::new();
    let line = |id: u32| {
        format!(
            "{{\"specversion\":\"1.0\",\"id\":\"{id}\",\"source\":\"/shop\",\"type\":\"sold\",\"subject\":\"Till/3\",\"data\":{id}}}\n"
        )
    };
    let lines = line(1) + &line(2) + &line(3);
    let report = take(&store, &lines).unwrap();
    assert_eq!((report.events, report.batches, report.already), (3, 3, 0));
    let there = events(&store);
    assert!(
        there
            .iter()
            .all(|event| event.kind == RecordKind::Event && event.birth.is_none())
    );
    assert_eq!(
        there.iter().map(|event| event.sequence).collect::<Vec<_>>(),
        [1, 2, 3]
    );
    let again = take(&store, &(lines + &line(4))).unwrap();
    assert_eq!((again.events, again.already), (4, 3));
}

/// Acknowledged by the report, they are on the disk: also when an import ends early.
#[test]
fn what_an_import_has_taken_is_durable_however_it_ended() {
    let dir = tempfile::tempdir().unwrap();
    let source = MemoryStore::new();
    fill(&source);
    let lines = lines_of(&source, &ExportQuery::all());
    let cut: String = lines.split_inclusive('\n').take(20).collect();
    for (n, text) in [lines.clone(), cut.clone() + "nonsense", cut]
        .into_iter()
        .enumerate()
    {
        let log = Tidelog::open(dir.path().join(n.to_string()))
            .unwrap()
            .blocking();
        let taken = match log.import(text.as_bytes(), &ImportOptions::default()) {
            Ok(done) => done.events,
            Err(error) => error.done.events,
        };
        assert_eq!(log.store().last_position(), taken);
        assert_eq!(log.info().unwrap().durable_position, taken);
    }
    let other = Tidelog::open(dir.path().join("other")).unwrap().blocking();
    other.append(part("1", 100..101)).unwrap();
    other
        .import(lines.as_bytes(), &ImportOptions::default())
        .unwrap_err();
    assert_eq!(other.info().unwrap().durable_position, 7);
    // The same, when nothing comes behind the append that is refused.
    let last = Tidelog::open(dir.path().join("last")).unwrap().blocking();
    last.append(part("1", 100..101)).unwrap();
    let cut: String = lines.split_inclusive('\n').take(7).collect();
    let error = last
        .import(cut.as_bytes(), &ImportOptions::default())
        .unwrap_err();
    assert_eq!((error.line, error.done.events), (7, 6), "{error}");
    assert_eq!(last.info().unwrap().durable_position, 7);
}

#[test]
fn progress_is_told_and_may_end_it_between_appends() {
    let store = MemoryStore::new();
    fill(&store);
    let told = Arc::new(AtomicU64::new(0));
    let count = |most: u64| {
        let told = Arc::clone(&told);
        move |events| {
            told.store(events, Ordering::SeqCst);
            if events > most {
                ControlFlow::Break(())
            } else {
                ControlFlow::Continue(())
            }
        }
    };
    let mut out = Vec::new();
    let cancelled = export(&store, &ExportQuery::all().progress(count(10)), &mut out);
    assert!(
        matches!(cancelled, Err(Error::Cancelled { .. })),
        "{cancelled:?}"
    );
    let written = String::from_utf8(out).unwrap();
    assert_eq!(written.lines().count() as u64, told.load(Ordering::SeqCst));
    assert!(written.ends_with('\n'), "whole lines are written");

    let lines = lines_of(&store, &ExportQuery::all().progress(count(60)));
    let other = MemoryStore::new();
    let options = ImportOptions::default().progress(count(10));
    let error = import(lines.as_bytes(), &other, &options).unwrap_err();
    assert!(matches!(*error.error, Error::Cancelled { .. }), "{error}");
    assert_eq!(error.done.events, told.load(Ordering::SeqCst));
    assert_eq!(events(&other).len() as u64, error.done.events);
    take(&other, &lines).unwrap();
    assert_eq!(lines_of(&other, &ExportQuery::all()), lines);
}

#[tokio::test]
async fn files_are_written_and_read_on_threads_of_their_own() {
    let dir = tempfile::tempdir().unwrap();
    let log = Tidelog::open(dir.path().join("log")).unwrap();
    fill(log.store());
    let path = dir.path().join("export.jsonl");
    let report = log.export_file(&path, &ExportQuery::all()).await.unwrap();
    assert_eq!((report.events, report.batches), (60, 30));
    let again = log
        .export_file(&path, &ExportQuery::all())
        .await
        .unwrap_err();
    assert!(
        matches!(again, Error::Io { .. }),
        "it is not written over: {again}"
    );
    let other = Tidelog::open(dir.path().join("other")).unwrap();
    let taken = other
        .import_file(&path, &ImportOptions::default())
        .await
        .unwrap();
    assert_eq!(taken.events, 60);
    let lines = std::fs::read(&path).unwrap();
    let mut third = Vec::new();
    other
        .blocking()
        .export(&mut third, &ExportQuery::all())
        .unwrap();
    assert!(third == lines);
    let missing = other
        .import_file(dir.path().join("none"), &ImportOptions::default())
        .await;
    assert_eq!(missing.unwrap_err().line, 0);
    let reader = Cursor::new(lines);
    assert_eq!(
        other
            .import(reader, &ImportOptions::default())
            .await
            .unwrap()
            .already,
        60
    );
    let (out, written) = pipe();
    log.export(out, &ExportQuery::all().to(3)).await.unwrap();
    assert_eq!(
        String::from_utf8(written.lock().clone())
            .unwrap()
            .lines()
            .count(),
        3
    );
    other.close().await.unwrap();
    log.close().await.unwrap();
    let closed = log.export(std::io::sink(), &ExportQuery::all()).await;
    assert!(matches!(closed, Err(Error::Closed)), "{closed:?}");
}

#[test]
fn inline_projections_have_what_was_imported_when_the_call_returns() {
    struct Seen;
    impl Projection for Seen {
        const NAME: &'static str = "seen";
        type Key = StreamId;
        type Row = u64;
        fn apply(
            &self,
            event: &EventEnvelope,
            rows: &mut Rows<'_, StreamId, u64>,
        ) -> Result<(), HandlerError> {
            rows.update(event.stream.clone(), |seen| *seen += 1)
        }
    }
    let dir = tempfile::tempdir().unwrap();
    let source = MemoryStore::new();
    fill(&source);
    let lines = lines_of(&source, &ExportQuery::all());
    let builder = Tidelog::builder(dir.path().join("log")).inline_projection(Seen);
    let log = builder.open().unwrap().blocking();
    let seen = log.projection::<Seen>().unwrap();
    log.import(lines.as_bytes(), &ImportOptions::default())
        .unwrap();
    let counts: Vec<u64> = seen
        .scan(.., 9)
        .unwrap()
        .into_iter()
        .map(|(_, n)| n)
        .collect();
    assert_eq!(counts.iter().sum::<u64>(), 60);
    let more = lines_of(&source, &ExportQuery::all().to(3)) + "nonsense";
    let renumber = ImportOptions::default().sequences(Sequences::Renumber);
    log.import(more.as_bytes(), &renumber).unwrap_err();
    assert_eq!(seen.progress().position, log.store().last_position());
}

/// Whoever drops the future does not leave work behind.
#[tokio::test]
async fn a_dropped_export_ends() {
    let dir = tempfile::tempdir().unwrap();
    let log = Tidelog::open(dir.path().join("log")).unwrap();
    fill(log.store());
    let (begun, has_begun) = std::sync::mpsc::channel();
    let (go, may_go) = std::sync::mpsc::channel();
    let may_go = parking_lot::Mutex::new(may_go);
    let query = ExportQuery::all().progress(move |events| {
        begun.send(events).unwrap();
        // From the second time on there is nobody to wait for.
        let _ = may_go.lock().recv();
        ControlFlow::Continue(())
    });
    let mut export = Box::pin(log.export(std::io::sink(), &query));
    let polled = std::future::poll_fn(|cx| std::task::Poll::Ready(export.as_mut().poll(cx))).await;
    assert!(polled.is_pending());
    let first = has_begun.recv().unwrap();
    drop(export);
    drop(query);
    go.send(()).unwrap();
    drop(go);
    // It ends when the thread has let go of the query.
    let later: Vec<u64> = has_begun.iter().collect();
    assert_eq!((first, later), (1, Vec::new()));
}

type Written = Arc<parking_lot::Mutex<Vec<u8>>>;

fn pipe() -> (impl std::io::Write + Send + 'static, Written) {
    struct Shared(Written);
    impl std::io::Write for Shared {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().extend_from_slice(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let written = Written::default();
    (Shared(Arc::clone(&written)), written)
}
