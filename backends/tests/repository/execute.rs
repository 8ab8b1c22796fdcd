//! One command at a time.

use std::sync::Arc;

use tidelog_core::{
    ACTOR, AggregateRepository, CORRELATION_ID, CommandHandler, CommandResponse, ContentType,
    Context, Error, ExecuteError, ExpectedVersion, IdSource, ManualClock, NewEvent, TRACE_ID,
    TRACEPARENT, Timestamp, TypedEventStore,
};
use uuid::Uuid;

use crate::bank::{Account, AccountEvent, Do, No, What, on};
use crate::probe::Probe;
use crate::{cached, cents, envelopes, events, now, opened, stream, uncached};

#[test]
fn a_command_is_decided_recorded_and_answered() {
    let store = Probe::default();
    let accounts = uncached(&store);
    let opened = accounts.execute(on("a", What::Open)).unwrap();
    assert_eq!(
        opened,
        CommandResponse {
            aggregate_id: "a".into(),
            sequence: 1,
            position: Some(1),
            events: 1,
            already_executed: false,
        }
    );
    let split = accounts
        .execute(on("a", What::Split(vec![1, 2, 3])))
        .unwrap();
    assert_eq!(
        (split.sequence, split.position, split.events),
        (4, Some(4), 3)
    );

    let loaded = accounts.load("a").unwrap().unwrap();
    assert_eq!((loaded.state.cents, loaded.sequence), (6, 4));
    assert_eq!(loaded.event_id, events(&store)[3].event_id);
    assert_eq!(loaded.stream, stream());
    assert!(accounts.load("b").unwrap().is_none());
}

#[test]
fn a_rejected_command_records_nothing() {
    for accounts in [cached, uncached] {
        let store = opened();
        let accounts = accounts(&store);
        let error = accounts.execute(on("a", What::Withdraw(1))).unwrap_err();
        assert_eq!(error.code(), "rejected");
        assert!(matches!(
            error,
            ExecuteError::Rejected(No::TooLittle { cents: 0 })
        ));
        assert_eq!(events(&store).len(), 1);
    }
}

#[test]
fn a_command_that_leads_to_no_events_appends_nothing() {
    for accounts in [cached, uncached] {
        let store = opened();
        let done = accounts(&store).execute(on("a", What::Nothing)).unwrap();
        assert_eq!((done.sequence, done.position, done.events), (1, None, 0));
        assert!(!done.already_executed);
        assert_eq!(events(&store).len(), 1);
    }
}

#[test]
fn events_that_the_aggregate_cannot_apply_are_never_recorded() {
    for accounts in [cached, uncached] {
        let store = opened();
        let accounts = accounts(&store);
        accounts.load("a").unwrap();
        let error = accounts.execute(on("a", What::Impossible)).unwrap_err();
        let ExecuteError::Store(Error::Apply { sequence: 3, .. }) = error else {
            panic!("{error}");
        };
        assert_eq!(events(&store).len(), 1);
        accounts.execute(on("a", What::Deposit(5))).unwrap();
        assert_eq!(cents(&accounts), 5);
    }
}

#[test]
fn a_history_that_cannot_be_applied_is_an_error_naming_the_place() {
    let store = opened();
    let bad = NewEvent::encode(&AccountEvent::Impossible, tidelog_core::EventId::generate());
    let batch = tidelog_core::AppendBatch::new(stream(), ExpectedVersion::Any, vec![bad.unwrap()]);
    store.memory.blocking().append(batch).unwrap();
    let error = uncached(&store).load("a").unwrap_err();
    assert_eq!(error.code(), "apply");
    assert!(
        error
            .to_string()
            .contains("Account/a cannot apply its event at sequence 2"),
        "{error}"
    );
}

#[test]
fn an_impossible_aggregate_id_is_an_error() {
    let store = Probe::default();
    let error = uncached(&store).execute(on("", What::Open)).unwrap_err();
    assert_eq!(error.code(), "invalid_input");
}

#[test]
fn time_identity_and_metadata_of_the_context_stand_in_every_event() {
    let store = opened();
    let traceparent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let context = Context::new()
        .with_event_time(Timestamp::from_micros(77))
        .with_actor("till 3")
        .with_correlation_id("c-1")
        .with_traceparent(&traceparent.parse().unwrap());
    let command = on("a", What::Split(vec![1, 2]));
    uncached(&store)
        .execute_with(command, context.clone())
        .unwrap();

    for (index, event) in (0..).zip(&envelopes(&store)[1..]) {
        assert_eq!(event.event_id, context.event_id(index));
        assert_eq!(event.event_time, Timestamp::from_micros(77));
        assert_eq!(event.metadata.get(ACTOR), Some("till 3"));
        assert_eq!(event.metadata.get(CORRELATION_ID), Some("c-1"));
        assert_eq!(event.metadata.get(TRACEPARENT), Some(traceparent));
        assert_eq!(
            event.metadata.get(TRACE_ID),
            Some("4bf92f3577b34da6a3ce929d0e0e4736")
        );
    }
}

#[test]
fn execute_takes_time_and_ids_from_where_it_is_told() {
    struct Counted(std::sync::atomic::AtomicU64);
    impl IdSource for Counted {
        fn next_uuid(&self) -> Uuid {
            let next = self.0.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
            Uuid::from_u64_pair(0, next)
        }
    }
    let run = || {
        let store = Probe::default();
        let accounts = AggregateRepository::<Account, _>::new(store.clone())
            .with_clock(Arc::new(ManualClock::new(Timestamp::from_micros(5))))
            .with_ids(Arc::new(Counted(1.into())))
            .blocking();
        accounts.execute(on("a", What::Open)).unwrap();
        accounts.execute(on("a", What::Deposit(5))).unwrap();
        let all = envelopes(&store);
        assert!(
            all.iter()
                .all(|event| event.event_time == Timestamp::from_micros(5))
        );
        all.iter().map(|event| event.event_id).collect::<Vec<_>>()
    };
    assert_eq!(run(), run());
}

#[test]
fn an_aggregate_without_an_id_gets_one_which_it_is_told() {
    let store = Probe::default();
    let accounts = uncached(&store);
    let open = |context| {
        let command = Do {
            id: None,
            ..on("", What::Open)
        };
        accounts.execute_with(command, context).unwrap()
    };
    let one = open(Context::new());
    let other = open(Context::new());
    assert_ne!(one.aggregate_id, other.aggregate_id);
    let loaded = accounts.load(&one.aggregate_id).unwrap().unwrap();
    assert_eq!(loaded.state.id_seen, one.aggregate_id);
}

#[test]
fn a_repository_is_a_command_handler_whose_futures_move_between_threads() {
    fn handle<H: CommandHandler<Do>>(
        handler: &H,
        command: Do,
    ) -> impl Future<Output = Result<CommandResponse, H::Error>> + Send {
        handler.handle(command)
    }
    let accounts = AggregateRepository::<Account, _>::new(Probe::default());
    let done = now(handle(&accounts, on("a", What::Open))).unwrap();
    assert_eq!(done.sequence, 1);
}

#[test]
fn long_streams_are_loaded_whole() {
    let store = opened();
    let accounts = uncached(&store);
    for _ in 0..7 {
        accounts
            .execute(on("a", What::Split(vec![1; 500])))
            .unwrap();
    }
    assert_eq!(cents(&accounts), 3_500);
    assert_eq!(accounts.load("a").unwrap().unwrap().sequence, 3_501);
}

#[test]
fn a_history_that_cannot_be_decoded_is_named_by_stream_and_sequence() {
    let store = opened();
    let foreign = NewEvent::new("Renamed", 4, ContentType::Postcard, vec![1]);
    now(store
        .memory
        .persist_encoded(&stream(), ExpectedVersion::Any, vec![foreign]))
    .unwrap();
    for accounts in [cached(&store), uncached(&store)] {
        let error = accounts.load("a").unwrap_err();
        assert_eq!(error.code(), "codec");
        let said = format!("Renamed revision 4, sequence 2 of {}", stream());
        assert!(error.to_string().contains(&said), "{error}");
        let executed = accounts.execute(on("a", What::Deposit(1))).unwrap_err();
        assert!(executed.to_string().contains(&said), "{executed}");
    }
}
