//! How the bank is, for people.

use std::sync::Arc;
#[cfg(any(feature = "scylla", feature = "kafka"))]
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use serde_json::{Value, json};
use tidelog::{ListenerPhase, Projection as _, ProjectionState, StreamId, Timers};

use super::App;
use super::input::{Asking, NoQuery};
use super::problem::Problem;
use super::view;
use crate::read_models::{Accounts, Months};
use crate::transfer::Transfers;

/// Most parked streams that are listed of each that has some.
const LISTED: usize = 100;

/// Dollars deposited by month, oldest first.
pub(super) async fn months(
    State(app): State<Arc<App>>,
    Asking(NoQuery {}): Asking<NoQuery>,
) -> Result<Json<Value>, Problem> {
    // A row a month: a thousand of them are more than eighty years.
    let months = app.months.scan(.., 1_000).await?;
    let months = months
        .iter()
        .map(|(month, cents)| json!({ "month": month, "deposited": view::amount(*cents) }));
    let position = app.months.progress().position;
    Ok(Json(
        json!({ "months": months.collect::<Vec<_>>(), "position": position }),
    ))
}

/// How far everything is, and what stands still.
pub(super) async fn status(
    State(app): State<Arc<App>>,
    Asking(NoQuery {}): Asking<NoQuery>,
) -> Result<Json<Value>, Problem> {
    let status = app.bank.status();
    let transfers = app.transfers.status();
    let mut parked = Parked::default();
    let waiting = app.transfers.parked();
    parked.add(
        "transfers",
        waiting.iter().map(|one| (&one.stream, &*one.reason)),
    );
    for (by, streams) in [
        (Accounts::NAME, app.accounts.parked().await?),
        (Months::NAME, app.months.parked().await?),
        (Timers::<Transfers>::NAME, app.timers.parked().await?),
    ] {
        parked.add(by, streams.iter().map(|one| (&one.stream, &*one.reason)));
    }
    let projections = app.bank.projections().into_iter().map(|projection| {
        json!({
            "name": projection.name,
            "state": state_of(&projection.state),
            "position": projection.position,
            "rows": projection.rows,
            "parked": projection.parked,
        })
    });
    let projections: Vec<_> = projections.collect();
    let replication = replication(&app, &status, &mut parked);
    let publishing = publishing(&app, &status, &mut parked);
    Ok(Json(json!({
        "committed": status.committed,
        "durable": status.durable,
        "accounts": app.accounts.progress().rows,
        "projections": projections,
        "transfers": {
            "state": phase_of(&transfers.phase),
            "settled": transfers.settled,
            "retrying": transfers.retrying,
            "parked": transfers.parked,
        },
        "replication": replication,
        "publishing": publishing,
        "parked": parked.listed,
        "parked_count": parked.count,
        "readers": app.feed.sizes().0,
    })))
}

/// Streams that are set aside, by whom, and why.
#[derive(Default)]
struct Parked {
    listed: Vec<Value>,
    /// Those that are not listed among them.
    count: usize,
}

impl Parked {
    fn add<'a>(
        &mut self,
        by: &str,
        streams: impl ExactSizeIterator<Item = (&'a StreamId, &'a str)>,
    ) {
        self.count += streams.len();
        let shown = streams.take(LISTED);
        let shown = shown.map(
            |(stream, reason)| json!({ "by": by, "stream": stream.as_str(), "reason": reason }),
        );
        self.listed.extend(shown);
    }
}

fn state_of(state: &ProjectionState) -> String {
    match state {
        ProjectionState::Checking => "checking".into(),
        ProjectionState::CatchingUp => "catching up".into(),
        ProjectionState::Live => "live".into(),
        ProjectionState::Rebuilding { position } => format!("made anew, at {position}"),
        ProjectionState::Waiting { reason, .. } => format!("tries again: {reason}"),
        ProjectionState::Stopped(error) => format!("stands still: {error}"),
        _ => "closed".into(),
    }
}

fn phase_of(phase: &ListenerPhase) -> String {
    match phase {
        ListenerPhase::Waiting => "waiting".into(),
        ListenerPhase::Running => "running".into(),
        ListenerPhase::Stopped(error) => format!("stands still: {error}"),
        _ => "ended".into(),
    }
}

/// How far a server is.
#[cfg(any(feature = "scylla", feature = "kafka"))]
fn far(state: &str, settled: u64, (events, time): (u64, Duration), parked: usize) -> Value {
    json!({
        "state": state,
        "settled": settled,
        "lag_events": events,
        "lag_seconds": time.as_secs_f64(),
        "parked": parked,
    })
}

#[cfg(feature = "scylla")]
fn replication(app: &App, status: &tidelog::Status, parked: &mut Parked) -> Value {
    let Some(at) = &status.replicated else {
        return Value::Null;
    };
    let held = app.bank.replication().parked();
    let held: Vec<_> = held
        .iter()
        .map(|one| (&one.stream, one.reason.to_string()))
        .collect();
    parked.add(
        "replication",
        held.iter().map(|(stream, reason)| (*stream, &**reason)),
    );
    let state = crate::cli::replication_state(at);
    far(&state, at.settled, (at.lag_events, at.lag), at.parked)
}

#[cfg(not(feature = "scylla"))]
fn replication(_: &App, _: &tidelog::Status, _: &mut Parked) -> Value {
    Value::Null
}

#[cfg(feature = "kafka")]
fn publishing(app: &App, status: &tidelog::Status, parked: &mut Parked) -> Value {
    let Some(at) = &status.published else {
        return Value::Null;
    };
    let held = app.bank.publishing().parked();
    let held: Vec<_> = held
        .iter()
        .map(|one| (&one.stream, one.reason.to_string()))
        .collect();
    parked.add(
        "publishing",
        held.iter().map(|(stream, reason)| (*stream, &**reason)),
    );
    let state = crate::cli::publishing_state(at);
    far(&state, at.settled, (at.lag_events, at.lag), at.parked)
}

#[cfg(not(feature = "kafka"))]
fn publishing(_: &App, _: &tidelog::Status, _: &mut Parked) -> Value {
    Value::Null
}
