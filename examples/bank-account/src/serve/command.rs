//! Commands over HTTP: each is done once, however often it is asked for.
//!
//! The key of a request names its command, so the ids of its events follow from it, and the log itself
//! tells a retry: after a lost answer, a restart, or a backup that was put back. What was asked under
//! the key stands in the events' metadata, so another request under the same key is told apart.

use axum::Json;
use axum::http::header::{ETAG, LOCATION};
use axum::http::{HeaderName, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};
use tidelog::{
    AppendBatch, AppendOutcome, Command, CommandId, CommandResponse, Context, Decide, Error,
    EventStore as _, ExpectedVersion, NewEvent, Rejection, StreamId, StreamQuery,
};

use super::App;
use super::headers::{Around, Tags, etag};
use super::problem::{CHANGED, INTERNAL, KEY_REUSED, Problem};
use super::view;

/// The metadata key under which an event has what was asked for under an idempotency key.
const REQUEST: &str = "http-request";
const REPLAYED: HeaderName = HeaderName::from_static("idempotency-replayed");

/// What is asked for, apart from the command: a route, the thing it is about (empty when that is made
/// by it), and what the body means.
pub(super) struct Request<'a> {
    pub(super) route: &'static str,
    pub(super) about: &'a str,
    pub(super) says: &'a [&'a str],
}

/// A command that was done, now or before.
pub(super) struct Done {
    pub(super) aggregate_id: String,
    sequence: u64,
    event: Value,
    replayed: bool,
}

impl Done {
    /// The answer, the same however often it is given; `at` is where the thing is found.
    pub(super) fn answer(self, status: StatusCode, at: &str) -> Response {
        let body = json!({
            "id": self.aggregate_id,
            "sequence": self.sequence,
            "event": self.event,
        });
        let mut response = (status, Json(body)).into_response();
        let headers = response.headers_mut();
        headers.insert(ETAG, etag(self.sequence));
        // Ids of accounts opened elsewhere may hold what no header does.
        if let Ok(at) = HeaderValue::try_from(at) {
            headers.insert(LOCATION, at);
        }
        if self.replayed {
            headers.insert(REPLAYED, HeaderValue::from_static("true"));
        }
        response
    }
}

/// Does `command`, unless it was done before.
pub(super) async fn done<C>(
    app: &App,
    request: &Request<'_>,
    around: Around,
    command: C,
) -> Result<Done, Problem>
where
    C: Command,
    C::Aggregate: Decide<C>,
    Rejection<C>: Into<Problem>,
{
    let mut context = Context::new();
    let mut meaning = None;
    if let Some(key) = &around.key {
        let asked = request.digest();
        context = context
            .with_command_id(request.command_id(key)?)
            .with_metadata(REQUEST, &*asked);
        meaning = Some(asked);
    }
    if let Some(trace) = &around.trace {
        context = context.with_traceparent(trace);
    }
    let turn = app.turns.of(request.about).await;
    let response = match &around.if_match {
        None => app.bank.execute_with(command, context).await?,
        Some(tags) => at_sequence(app, command, context, tags).await?,
    };
    drop(turn);
    let stream = app
        .bank
        .repository::<C::Aggregate>()
        .stream_id(&response.aggregate_id)?;
    let query = StreamQuery::new(stream)
        .from(response.sequence)
        .to(response.sequence);
    let recorded = app.bank.read_stream(query).next().await.transpose()?;
    let lost = || Problem::new(INTERNAL, "what was recorded cannot be found");
    let recorded = recorded.ok_or_else(lost)?;
    if response.already_executed && recorded.metadata.get(REQUEST) != meaning.as_deref() {
        let detail = "this Idempotency-Key was used for another request; choose a new one";
        return Err(Problem::new(KEY_REUSED, detail));
    }
    tracing::Span::current().record("position", response.position);
    Ok(Done {
        aggregate_id: response.aggregate_id,
        sequence: response.sequence,
        event: view::event(&recorded)?.ok_or_else(lost)?,
        replayed: response.already_executed,
    })
}

/// Does `command` if its aggregate is at a sequence that `tags` name: looked at in one step with the
/// append.
async fn at_sequence<C>(
    app: &App,
    command: C,
    context: Context,
    tags: &Tags,
) -> Result<CommandResponse, Problem>
where
    C: Command,
    C::Aggregate: Decide<C>,
    Rejection<C>: Into<Problem>,
{
    let bank = &app.bank;
    let id = command.target_aggregate_identifier().unwrap_or_default();
    let stream = bank.repository::<C::Aggregate>().stream_id(id)?;
    if let Some(before) = done_before(app, &stream, &context).await? {
        return Ok(before);
    }
    let refused = match decided(app, &stream, &command, &context, tags).await? {
        Ok(batch) => match bank.append(batch).await {
            Ok(receipt) => {
                return Ok(CommandResponse {
                    aggregate_id: id.to_owned(),
                    sequence: receipt.last_sequence,
                    position: receipt.last_position,
                    events: 1,
                    already_executed: receipt.outcome == AppendOutcome::AlreadyAppended,
                });
            }
            Err(error) => Err(error),
        },
        Err(problem) => Ok(problem),
    };
    // It may have been done by the same request at the same time, which may be what is in its way.
    match (done_before(app, &stream, &context).await?, refused) {
        (Some(before), _) => Ok(before),
        (None, Ok(problem)) => Err(problem),
        (None, Err(Error::WrongVersion { actual, .. })) => Err(changed(actual)),
        (None, Err(error)) => Err(error.into()),
    }
}

/// What to append, or why nothing is.
async fn decided<C>(
    app: &App,
    stream: &StreamId,
    command: &C,
    context: &Context,
    tags: &Tags,
) -> Result<Result<AppendBatch, Problem>, Problem>
where
    C: Command,
    C::Aggregate: Decide<C>,
    Rejection<C>: Into<Problem>,
{
    let loaded = app.bank.load::<C::Aggregate>(stream.aggregate_id()).await?;
    let sequence = loaded.as_ref().map_or(0, |loaded| loaded.sequence);
    let context = context.clone().with_aggregate_id(stream.aggregate_id());
    let state = loaded.as_ref().map(|loaded| &*loaded.state);
    // Of what is not there, that is what to say.
    let events = match C::Aggregate::decide(state, command, &context) {
        Err(refusal) if sequence == 0 || tags.has(sequence) => return Ok(Err(refusal.into())),
        Ok(events) if tags.has(sequence) => events,
        _ => return Ok(Err(changed(sequence))),
    };
    let mut encoded = Vec::with_capacity(events.len());
    for (index, event) in (0..).zip(&events) {
        let event = NewEvent::encode(event, context.event_id(index))?;
        let event = event.with_event_time(context.event_time());
        encoded.push(event.with_metadata(context.metadata().clone()));
    }
    let expected = ExpectedVersion::Exact(sequence);
    let mut batch = AppendBatch::new(stream.clone(), expected, encoded);
    batch.after = loaded.map(|loaded| loaded.event_id);
    Ok(Ok(batch))
}

fn changed(sequence: u64) -> Problem {
    let detail = format!("it is at sequence {sequence} now; look at it again and decide anew");
    Problem::new(CHANGED, detail).at_sequence(sequence)
}

/// The answer of an earlier execution under the same key.
async fn done_before(
    app: &App,
    stream: &StreamId,
    context: &Context,
) -> Result<Option<CommandResponse>, Problem> {
    let Some(command_id) = context.command_id() else {
        return Ok(None);
    };
    let found = app
        .bank
        .store()
        .find_event(stream, command_id.event_id(0))
        .await?;
    Ok(found.map(|event| CommandResponse {
        aggregate_id: stream.aggregate_id().to_owned(),
        sequence: event.sequence,
        position: event.position,
        events: 1,
        already_executed: true,
    }))
}

impl Request<'_> {
    /// The name of the command: of the thing and the key alone, so that whatever is asked about it
    /// under the same key meets what was done first.
    fn command_id(&self, key: &str) -> Result<CommandId, Error> {
        let made = if self.about.is_empty() {
            self.route
        } else {
            ""
        };
        CommandId::new(format!("http:{}", digest(&[made, self.about, key])))
    }

    /// All that is asked, in short.
    fn digest(&self) -> String {
        let mut parts = vec![self.route, self.about];
        parts.extend(self.says);
        digest(&parts)
    }
}

fn digest(parts: &[&str]) -> String {
    let mut hasher = blake3::Hasher::new();
    for part in parts {
        // With its length before it, no part can pass for the end of another.
        hasher.update(&(part.len() as u64).to_le_bytes());
        hasher.update(part.as_bytes());
    }
    let hex = hasher.finalize().to_hex();
    hex.as_str().get(..32).unwrap_or_default().to_owned()
}
