//! Which rows a projection makes.

use std::fmt::Debug;

use crate::clock::Timestamp;
use crate::envelope::{EventEnvelope, NewEvent};
use crate::event::Event;
use crate::projection::{Projection, RowKey, RowTable};
use crate::stream_id::StreamId;

use super::history::History;
use super::story::{Story, line, lines};

/// The test of a projection: events, and the rows that must come of them.
///
/// ```
/// # use serde::{Deserialize, Serialize};
/// # use tidelog_core::{EventEnvelope, HandlerError, Lookup, Projection, Rows, Event};
/// # #[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Event)]
/// # #[event(crate = tidelog_core)]
/// # struct Deposited { cents: u64 }
/// # struct Balances;
/// # impl Projection for Balances {
/// #     const NAME: &'static str = "balances";
/// #     type Key = String;
/// #     type Row = u64;
/// #     fn apply(&self, event: &EventEnvelope, rows: &mut Rows<'_, String, u64>) -> Result<(), HandlerError> {
/// #         let deposited: Deposited = event.decode_event()?;
/// #         rows.update(event.aggregate_id().to_owned(), |cents| *cents += deposited.cents)
/// #     }
/// #     fn lookups() -> Vec<Lookup<String, u64>> { vec![Lookup::by("cents", |_, cents: &u64| Some(*cents))] }
/// # }
/// use tidelog_core::testing::scenario::ProjectionScenario;
///
/// ProjectionScenario::new(Balances)
///     .given("BankAccount/ada", [Deposited { cents: 300 }])
///     .when("BankAccount/bob", [Deposited { cents: 500 }, Deposited { cents: 1 }])
///     .then_row(&"bob".into(), Some(501))
///     .then_rows([("ada".into(), 300), ("bob".into(), 501)])
///     .then_found("cents", &300_u64, ["ada".into()]);
/// ```
pub struct ProjectionScenario<P: Projection> {
    story: Story,
    history: History,
    table: RowTable<P>,
}

impl<P> ProjectionScenario<P>
where
    P: Projection<Key: Debug, Row: Debug + PartialEq>,
{
    /// No rows yet.
    #[track_caller]
    #[must_use = "a scenario tests something once it is asked `when` and `then`"]
    pub fn new(projection: P) -> Self {
        let story = Story::default();
        match RowTable::new(projection) {
            Ok(table) => Self {
                story,
                history: History::new(),
                table,
            },
            Err(error) => story.fails(&error.to_string()),
        }
    }

    /// The time at which the events that follow happen; the beginning of 2000 unless set.
    pub fn at(mut self, time: Timestamp) -> Self {
        self.history.now = time;
        self
    }

    /// A metadata key of the events that follow.
    pub fn with_metadata(mut self, key: &str, value: &str) -> Self {
        self.history.metadata.insert(key, value);
        self
    }

    /// These events of the stream `type/id` are taken in.
    #[track_caller]
    pub fn given<E: Event + Debug>(
        self,
        stream: &str,
        events: impl IntoIterator<Item = E>,
    ) -> Self {
        self.take_in_all("given", stream, events)
    }

    /// These events of the stream `type/id` are taken in; what they do is then looked at.
    #[track_caller]
    pub fn when<E: Event + Debug>(self, stream: &str, events: impl IntoIterator<Item = E>) -> Self {
        self.take_in_all("when", stream, events)
    }

    /// This record of the stream `type/id`, which may be of an earlier revision, is taken in.
    #[track_caller]
    pub fn when_recorded(mut self, stream: &str, record: NewEvent) -> Self {
        let what = format!(
            "{stream}: {} revision {}",
            record.event_type, record.revision
        );
        self.story.tell("when", what);
        let stream = self.stream(stream);
        let record = self.history.record_encoded(&stream, record);
        self.take_in(&record);
        self
    }

    /// The row under `key` is this one, or there is none.
    #[track_caller]
    pub fn then_row(self, key: &P::Key, expected: Option<P::Row>) -> Self {
        let found = self.read(self.table.get(key));
        if found != expected {
            let text = |row: &Option<P::Row>| match row {
                Some(row) => format!("{key:?}: {}", lines(row)),
                None => format!("{key:?}: no row\n"),
            };
            self.story.differs(&text(&expected), &text(&found));
        }
        self
    }

    /// The rows are exactly these, in any order.
    #[track_caller]
    pub fn then_rows(self, expected: impl IntoIterator<Item = (P::Key, P::Row)>) -> Self {
        let mut expected: Vec<_> = expected.into_iter().collect();
        expected.sort_by(|(one, _), (other, _)| one.cmp(other));
        let found = self.read(self.table.scan(..));
        if found != expected {
            let text = |rows: &[(P::Key, P::Row)]| {
                let row = |(key, row): &(P::Key, P::Row)| format!("{key:?}: {}", lines(row));
                match rows {
                    [] => "no rows\n".to_owned(),
                    rows => rows.iter().map(row).collect(),
                }
            };
            self.story.differs(&text(&expected), &text(&found));
        }
        self
    }

    /// `lookup` finds the rows of exactly these keys under `by`.
    #[track_caller]
    pub fn then_found<L: RowKey + Debug>(
        self,
        lookup: &str,
        by: &L,
        expected: impl IntoIterator<Item = P::Key>,
    ) -> Self {
        let mut expected: Vec<P::Key> = expected.into_iter().collect();
        expected.sort();
        let found = self.read(self.table.find(lookup, by.clone()..=by.clone()));
        let found: Vec<P::Key> = found.into_iter().map(|(_, key, _)| key).collect();
        if found != expected {
            let text = |keys: &Vec<P::Key>| format!("{lookup} {by:?}: {}", lines(keys));
            self.story.differs(&text(&expected), &text(&found));
        }
        self
    }

    #[track_caller]
    fn take_in_all<E: Event + Debug>(
        mut self,
        heading: &'static str,
        stream: &str,
        events: impl IntoIterator<Item = E>,
    ) -> Self {
        let id = self.stream(stream);
        for event in events {
            self.story
                .tell(heading, format!("{stream}: {}", line(&event)));
            match self.history.record(&id, &event) {
                Ok(record) => self.take_in(&record),
                Err(error) => self.story.fails(&format!("it cannot be recorded: {error}")),
            }
        }
        self
    }

    #[track_caller]
    fn take_in(&mut self, record: &EventEnvelope) {
        if let Err(error) = self.table.apply(record) {
            let why = format!("the projection {} does not take it in: {error}", P::NAME);
            self.story.fails(&why);
        }
    }

    #[track_caller]
    fn stream(&self, name: &str) -> StreamId {
        self.read(name.parse())
    }

    #[track_caller]
    fn read<T>(&self, result: Result<T, crate::Error>) -> T {
        match result {
            Ok(found) => found,
            Err(error) => self.story.fails(&error.to_string()),
        }
    }
}
