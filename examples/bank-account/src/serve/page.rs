//! The page: a few files inside the program, as they are.

use axum::Router;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE, ETAG, HeaderMap, IF_NONE_MATCH};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::get;

const HTML: &str = "text/html; charset=utf-8";
const CSS: &str = "text/css; charset=utf-8";
const JS: &str = "text/javascript; charset=utf-8";

/// Address, kind and content.
const FILES: [(&str, &str, &str); 9] = [
    ("/", HTML, include_str!("page/index.html")),
    ("/assets/style.css", CSS, include_str!("page/style.css")),
    (
        "/assets/icon.svg",
        "image/svg+xml",
        include_str!("page/icon.svg"),
    ),
    ("/assets/main.js", JS, include_str!("page/main.js")),
    ("/assets/bank.js", JS, include_str!("page/bank.js")),
    ("/assets/dom.js", JS, include_str!("page/dom.js")),
    ("/assets/charts.js", JS, include_str!("page/charts.js")),
    ("/assets/account.js", JS, include_str!("page/account.js")),
    ("/assets/status.js", JS, include_str!("page/status.js")),
];

/// `routes`, and these files.
pub(super) fn added_to(routes: Router) -> Router {
    FILES
        .into_iter()
        .fold(routes, |routes, (at, kind, content)| {
            let hash = blake3::hash(content.as_bytes()).to_hex();
            let tag = format!("\"{}\"", hash.as_str().get(..16).unwrap_or_default());
            routes.route(
                at,
                get(async move |headers: HeaderMap| file(kind, content, &tag, &headers)),
            )
        })
}

fn file(kind: &'static str, content: &'static str, tag: &str, asked: &HeaderMap) -> Response {
    let known = asked
        .get(IF_NONE_MATCH)
        .is_some_and(|known| known.as_bytes() == tag.as_bytes());
    let mut response = if known {
        StatusCode::NOT_MODIFIED.into_response()
    } else {
        content.into_response()
    };
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    // Always asked for again, so that a page never meets another version's files.
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    if let Ok(tag) = HeaderValue::try_from(tag) {
        headers.insert(ETAG, tag);
    }
    response
}
