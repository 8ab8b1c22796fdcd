//! What can be asked and what is answered, in the form of `OpenAPI` 3.1: served, and held to what is
//! true by the tests.
//!
//! | file | subject |
//! |---|---|
//! | `paths` | each address, method by method |
//! | `operation` | how one of them is written down |
//! | `parameters` | what stands in paths, queries and headers |
//! | `schemas` | the forms of bodies |

#![allow(
    clippy::needless_pass_by_value,
    reason = "schemas are written where they are used"
)]

mod operation;
mod parameters;
mod paths;
mod schemas;

use std::sync::LazyLock;

use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

pub(super) async fn serve() -> Response {
    static TEXT: LazyLock<String> = LazyLock::new(|| document().to_string());
    ([(CONTENT_TYPE, "application/json")], TEXT.as_str()).into_response()
}

fn document() -> Value {
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "bank-account",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "A bank whose accounts live in an embedded event store. Amounts are texts, `12.34`. \
                Sequences count the events of one account, positions those of the whole log. A POST or PUT with an \
                `Idempotency-Key` may be repeated, also after a restart of the service: it is recognized while its event \
                is among the newest 10,000 of its account, and gets the first answer again. A refusal is not remembered. Errors are problem details; only what cannot be \
                read as a request (400), or has a head of more than 32 KiB or 64 headers (414, 431), is answered without a body.",
        },
        "paths": paths::all(),
        "components": { "schemas": schemas::all() },
    })
}
