//! All addresses of the service.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{MatchedPath, Path, Request};
use axum::http::header::CONTENT_TYPE;
use axum::middleware::{from_fn, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use tower_http::classify::ServerErrorsFailureClass;
use tower_http::trace::TraceLayer;
use tracing::Span;

use super::problem::{ALL, METHOD, NOT_FOUND, Problem};
use super::{
    App, accounts, feed, guard, headers, health, history, openapi, page, search, status, transfers,
};

pub(super) fn of(app: Arc<App>, guards: guard::Guards) -> Router {
    let watch = guard::Watch::of(guards);
    let patience = app.patience;
    let routes = Router::new()
        .route("/v1/accounts", get(search::list).post(accounts::open))
        .route(
            "/v1/accounts/{id}",
            get(accounts::show).put(accounts::open_as),
        )
        .route("/v1/accounts/{id}/deposits", post(accounts::deposit))
        .route("/v1/accounts/{id}/withdrawals", post(accounts::withdraw))
        .route("/v1/accounts/{id}/close", post(accounts::close))
        .route("/v1/accounts/{id}/events", get(history::events))
        .route("/v1/transfers", post(transfers::request))
        .route("/v1/transfers/{id}", get(transfers::show))
        .route("/v1/months", get(status::months))
        .route("/v1/events", get(feed::events))
        .route("/v1/status", get(status::status))
        .route("/health/live", get(health::live))
        .route("/health/ready", get(health::ready))
        .route("/metrics", get(health::metrics))
        .route("/openapi.json", get(openapi::serve))
        .route("/problems/{code}", get(explain))
        .with_state(app);
    page::added_to(routes)
        .fallback(nothing)
        .method_not_allowed_fallback(other_method)
        .layer(from_fn_with_state(patience, guard::in_time))
        .layer(from_fn_with_state(watch, guard::may))
        .layer(from_fn(guard::secured))
        .layer(from_fn(health::counted))
        .layer(
            TraceLayer::new_for_http()
                .make_span_with(span)
                .on_request(())
                .on_response(|response: &Response, took: Duration, span: &Span| {
                    span.record("status", response.status().as_u16());
                    tracing::debug!(?took, "answered");
                })
                .on_eos(())
                .on_failure(|failure: ServerErrorsFailureClass, _: Duration, _: &Span| {
                    tracing::warn!(%failure, "a request failed");
                }),
        )
}

/// The span that all a request leads to is inside of. What users write stays out of it, but for the
/// trace that they name.
fn span(request: &Request) -> Span {
    let path = request.extensions().get::<MatchedPath>();
    let trace = headers::trace(request.headers());
    tracing::info_span!(
        "request",
        method = %request.method(),
        route = path.map_or("none", MatchedPath::as_str),
        trace = trace.as_ref().map(tidelog::TraceParent::trace_id),
        status = tracing::field::Empty,
        position = tracing::field::Empty,
    )
}

async fn nothing() -> Problem {
    Problem::new(NOT_FOUND, "see /openapi.json for what there is")
}

async fn other_method() -> Problem {
    Problem::new(METHOD, "see /openapi.json for what there is")
}

/// What a type of problem means.
async fn explain(Path(code): Path<String>) -> Response {
    match ALL.iter().find(|kind| kind.code == code) {
        Some(kind) => {
            let text = format!("{}: {} ({})\n", kind.code, kind.title, kind.status);
            ([(CONTENT_TYPE, "text/plain; charset=utf-8")], text).into_response()
        }
        None => nothing().await.into_response(),
    }
}
