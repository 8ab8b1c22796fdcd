//! For whoever starts, stops and watches the service: whether it lives, whether it is ready, and what is
//! counted.

use std::sync::Arc;
use std::time::Instant;

use axum::Json;
use axum::extract::{MatchedPath, Request, State};
use axum::http::header::CONTENT_TYPE;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use serde_json::{Value, json};
use tidelog::{Error, ProjectionState};

use super::App;
use super::problem::{Problem, UNAVAILABLE};

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
