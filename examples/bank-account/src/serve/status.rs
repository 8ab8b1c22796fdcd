//! How the bank is: for people, for who starts and stops it, and for who counts.

use std::sync::Arc;
use std::time::Instant;

use axum::Json;
use axum::extract::{MatchedPath, Request, State};
use axum::http::header::CONTENT_TYPE;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use serde_json::{Value, json};
use tidelog::{Error, ListenerPhase, ProjectionState};

use super::App;
use super::input::{Asking, NoQuery};
use super::problem::{Problem, UNAVAILABLE};
use super::view;

/// Most parked streams that are listed.
const LISTED: usize = 100;
/// Seconds that requests are counted by.
const SECONDS: [f64; 10] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 1.0, 5.0];

/// Collects what is counted from now on, in this process.
pub(super) fn recorder() -> Result<PrometheusHandle, Error> {
    let seconds = Matcher::Full("bank_http_request_seconds".into());
    let recorder = PrometheusBuilder::new()
        .set_buckets_for_metric(seconds, &SECONDS)
        .and_then(PrometheusBuilder::install_recorder);
    recorder.map_err(|error| Error::invalid("metrics", "recorder", error.to_string()))
}

/// Counts requests by route and status; addresses that users make up are no names of their own.
pub(super) async fn counted(request: Request, next: Next) -> Response {
    let route = request
        .extensions()
        .get::<MatchedPath>()
        .map(|path| path.as_str().to_owned());
    let route = route.unwrap_or_else(|| "none".into());
    let method = match request.method().as_str() {
        known @ ("GET" | "HEAD" | "POST" | "PUT" | "DELETE" | "OPTIONS" | "PATCH") => {
            known.to_owned()
        }
        _ => "other".to_owned(),
    };
    let began = Instant::now();
    let response = next.run(request).await;
    let status = response.status().as_u16().to_string();
    metrics::histogram!("bank_http_request_seconds", "route" => route.clone())
        .record(began.elapsed().as_secs_f64());
    metrics::counter!("bank_http_requests_total", "method" => method, "route" => route, "status" => status)
        .increment(1);
    response
}

#[allow(
    clippy::cast_precision_loss,
    reason = "figures to look at, far below 2^52"
)]
pub(super) async fn metrics(State(app): State<Arc<App>>) -> Response {
    let set = |name: &'static str, value: u64| metrics::gauge!(name).set(value as f64);
    let status = app.bank.status();
    let (readers, events, bytes) = app.feed.sizes();
    set("bank_log_position", status.committed);
    set("bank_log_durable_position", status.durable);
    set("bank_event_readers", readers.into());
    set("bank_event_ring_events", events as u64);
    set("bank_event_ring_bytes", bytes as u64);
    for projection in app.bank.projections() {
        let name = projection.name.to_string();
        metrics::gauge!("bank_projection_position", "projection" => name.clone())
            .set(projection.position as f64);
        metrics::gauge!("bank_projection_parked_streams", "projection" => name)
            .set(projection.parked as f64);
    }
    let text = app.metrics.render();
    (
        [(CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")],
        text,
    )
        .into_response()
}

/// The process answers.
pub(super) async fn live() -> Json<Value> {
    Json(json!({ "status": "live" }))
}

/// It takes requests, and its figures are those of now.
pub(super) async fn ready(State(app): State<Arc<App>>) -> Result<Json<Value>, Problem> {
    let not = |why: &str| Err(Problem::new(UNAVAILABLE, why));
    if *app.closing.borrow() {
        return not("it is ending");
    }
    if app.bank.info().await?.refused.is_some() {
        return not("the store takes nothing until it is opened again");
    }
    for projection in app.bank.projections() {
        match projection.state {
            ProjectionState::Live | ProjectionState::CatchingUp => {}
            _ => {
                return not(&format!(
                    "the read model {} does not follow",
                    projection.name
                ));
            }
        }
    }
    Ok(Json(json!({ "status": "ready" })))
}

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
    let mut parked: Vec<Value> = Vec::new();
    for stream in app.transfers.parked() {
        parked.push(held("transfers", stream.stream.as_str(), &stream.reason));
    }
    for stream in app.accounts.parked().await? {
        parked.push(held("accounts", stream.stream.as_str(), &stream.reason));
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
    let count = parked.len();
    parked.truncate(LISTED);
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
        "parked": parked,
        "parked_count": count,
        "readers": app.feed.sizes().0,
    })))
}

fn held(by: &str, stream: &str, reason: &str) -> Value {
    json!({ "by": by, "stream": stream, "reason": reason })
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

#[cfg(feature = "scylla")]
fn replication(app: &App, status: &tidelog::Status, parked: &mut Vec<Value>) -> Value {
    let Some(far) = &status.replicated else {
        return Value::Null;
    };
    for one in app.bank.replication().parked().iter().take(LISTED) {
        parked.push(held(
            "replication",
            one.stream.as_str(),
            &one.reason.to_string(),
        ));
    }
    json!({
        "state": crate::cli::replication_state(far),
        "settled": far.settled,
        "lag_events": far.lag_events,
        "lag_seconds": far.lag.as_secs_f64(),
        "parked": far.parked,
    })
}

#[cfg(not(feature = "scylla"))]
fn replication(_: &App, _: &tidelog::Status, _: &mut Vec<Value>) -> Value {
    Value::Null
}

#[cfg(feature = "kafka")]
fn publishing(app: &App, status: &tidelog::Status, parked: &mut Vec<Value>) -> Value {
    let Some(far) = &status.published else {
        return Value::Null;
    };
    for one in app.bank.publishing().parked().iter().take(LISTED) {
        parked.push(held(
            "publishing",
            one.stream.as_str(),
            &one.reason.to_string(),
        ));
    }
    json!({
        "state": crate::cli::publishing_state(far),
        "settled": far.settled,
        "lag_events": far.lag_events,
        "lag_seconds": far.lag.as_secs_f64(),
        "parked": far.parked,
    })
}

#[cfg(not(feature = "kafka"))]
fn publishing(_: &App, _: &tidelog::Status, _: &mut Vec<Value>) -> Value {
    Value::Null
}
