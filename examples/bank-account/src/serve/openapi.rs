//! What can be asked and what is answered, in the form of `OpenAPI` 3.1: served, and held to what is
//! true by the tests.

#![allow(
    clippy::needless_pass_by_value,
    reason = "schemas are written where they are used"
)]

use std::sync::LazyLock;

use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use serde_json::{Map, Value, json};

use super::input::MAX_HOLDER;
use super::problem::{
    BUSY, CHANGED, CLOSED, FOREIGN, GONE, HELD, INTERNAL, INVALID, KEY_REUSED, Kind, MALFORMED,
    METHOD, NO_ACCOUNT, NO_TRANSFER, NOT_FOUND, NOT_JSON, OPEN_ALREADY, OVERDRAFT, READERS, SLOW,
    TIMED_OUT, TOO_LARGE, TOO_MANY, TOO_MUCH, UNAVAILABLE, WRONG_HOST,
};

/// Problems that any request may meet.
const ANY: &[&Kind] = &[
    MALFORMED,
    SLOW,
    TOO_LARGE,
    WRONG_HOST,
    TOO_MANY,
    INTERNAL,
    UNAVAILABLE,
    TIMED_OUT,
];
/// Problems that whatever changes something may meet, too.
const CHANGES: &[&Kind] = &[FOREIGN, BUSY, HELD, INVALID, KEY_REUSED];
/// Problems that whatever changes an account may meet, too.
const OF_ACCOUNT: &[&Kind] = &[NO_ACCOUNT, CLOSED, CHANGED];

pub(super) async fn serve() -> Response {
    static TEXT: LazyLock<String> = LazyLock::new(|| document().to_string());
    ([(CONTENT_TYPE, "application/json")], TEXT.as_str()).into_response()
}

/// One thing that can be asked.
struct Operation {
    id: &'static str,
    says: &'static str,
    parameters: Vec<Value>,
    body: Option<&'static str>,
    answers: Vec<(u16, Value)>,
    problems: Vec<&'static [&'static Kind]>,
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
                is among the newest 10,000 of its account, and gets the first answer again. A refusal is not remembered.",
        },
        "paths": paths(),
        "components": { "schemas": schemas() },
    })
}

fn paths() -> Value {
    let account = || path("id", "The account");
    let json_of = |schema: &str| content("application/json", reference(schema));
    json!({
        "/v1/accounts": {
            "get": Operation {
                id: "listAccounts",
                says: "Accounts in the order of their ids, or those that words lead to",
                parameters: vec![
                    query("q", "Words; each begins the id or a word of the holder", json!({ "type": "string", "maxLength": 200 })),
                    query("after", "What the page before said as `next`", json!({ "type": "string" })),
                    query("limit", "Most accounts", json!({ "type": "integer", "minimum": 1, "maximum": 200 })),
                    query("at_least", "A position that the answer must know", place()),
                ],
                body: None,
                answers: vec![(200, answer("A page", &[], &json_of("Accounts")))],
                problems: vec![ANY, &[GONE]],
            }.shown(),
            "post": Operation {
                id: "openAccount",
                says: "Open an account; its id is made, from the Idempotency-Key if there is one",
                parameters: commands(false),
                body: Some("Opening"),
                answers: vec![(201, done())],
                problems: vec![ANY, CHANGES, &[NOT_JSON, OPEN_ALREADY, CLOSED]],
            }.shown(),
        },
        "/v1/accounts/{id}": {
            "get": Operation {
                id: "showAccount",
                says: "The account as it is now",
                parameters: vec![account(), header("If-None-Match", "What is known already", tags())],
                body: None,
                answers: vec![
                    (200, answer("The account", &["ETag"], &json_of("Account"))),
                    (304, answer("Nothing has changed", &["ETag"], &Value::Null)),
                ],
                problems: vec![ANY, &[NO_ACCOUNT]],
            }.shown(),
            "put": Operation {
                id: "openAccountAs",
                says: "Open an account under a chosen id",
                parameters: [vec![new_id()], commands(true)].concat(),
                body: Some("Opening"),
                answers: vec![(201, done())],
                problems: vec![ANY, CHANGES, OF_ACCOUNT, &[NOT_JSON, OPEN_ALREADY]],
            }.shown(),
        },
        "/v1/accounts/{id}/deposits": {
            "post": Operation {
                id: "deposit",
                says: "Put money in",
                parameters: [vec![account()], commands(true)].concat(),
                body: Some("Moving"),
                answers: vec![(201, done())],
                problems: vec![ANY, CHANGES, OF_ACCOUNT, &[NOT_JSON, TOO_MUCH]],
            }.shown(),
        },
        "/v1/accounts/{id}/withdrawals": {
            "post": Operation {
                id: "withdraw",
                says: "Take money out",
                parameters: [vec![account()], commands(true)].concat(),
                body: Some("Moving"),
                answers: vec![(201, done())],
                problems: vec![ANY, CHANGES, OF_ACCOUNT, &[NOT_JSON, OVERDRAFT]],
            }.shown(),
        },
        "/v1/accounts/{id}/close": {
            "post": Operation {
                id: "closeAccount",
                says: "Close the account: it takes nothing any more",
                parameters: [vec![account()], commands(true)].concat(),
                body: None,
                answers: vec![(201, done())],
                problems: vec![ANY, CHANGES, OF_ACCOUNT],
            }.shown(),
        },
        "/v1/accounts/{id}/events": {
            "get": Operation {
                id: "listAccountEvents",
                says: "What happened to the account, newest first, with its balance after each event",
                parameters: vec![
                    account(),
                    query("before", "What the page before said as `next`", json!({ "type": "string", "pattern": "^[0-9]{1,20}[.][0-9]{1,20}$" })),
                    query("limit", "Most events", json!({ "type": "integer", "minimum": 1, "maximum": 1000 })),
                ],
                body: None,
                answers: vec![(200, answer("A page", &[], &json_of("History")))],
                problems: vec![ANY, &[NO_ACCOUNT]],
            }.shown(),
        },
        "/v1/transfers": {
            "post": Operation {
                id: "requestTransfer",
                says: "Move money from one account to another; look at the transfer for how it ends",
                parameters: commands(false),
                body: Some("Transferring"),
                answers: vec![(202, done())],
                problems: vec![ANY, CHANGES, &[NOT_JSON]],
            }.shown(),
        },
        "/v1/transfers/{id}": {
            "get": Operation {
                id: "showTransfer",
                says: "How far the transfer is",
                parameters: vec![
                    path("id", "The transfer"),
                    query("wait", "Answer when it has ended, or some seconds have passed", json!({ "type": "boolean" })),
                ],
                body: None,
                answers: vec![(200, answer("The transfer", &[], &json_of("Transfer")))],
                problems: vec![ANY, &[NO_TRANSFER]],
            }.shown(),
        },
        "/v1/months": { "get": plain("listMonths", "Dollars deposited by month", &json_of("Months")) },
        "/v1/events": {
            "get": Operation {
                id: "followEvents",
                says: "All events as they come, as Server-Sent Events whose ids are positions: from now on, or behind a place",
                parameters: vec![
                    header("Last-Event-ID", "The last position that was seen", json!({ "type": "string", "pattern": "^[0-9]{1,18}$" })),
                    query("after", "The same, for who cannot say headers", place()),
                    query("follow", "Whether to go on where the log ends now", json!({ "type": "boolean" })),
                ],
                body: None,
                answers: vec![(200, answer("Events", &[], &content("text/event-stream", reference("Sent"))))],
                problems: vec![ANY, &[GONE, READERS]],
            }.shown(),
        },
        "/v1/status": { "get": plain("showStatus", "How far everything is, and what stands still", &json_of("Status")) },
        "/health/live": { "get": plain("isLive", "The process answers", &json_of("Health")) },
        "/health/ready": { "get": plain("isReady", "It takes requests", &json_of("Health")) },
        "/metrics": { "get": plain("metrics", "Figures in the text form of Prometheus", &content("text/plain", json!({ "type": "string" }))) },
        "/openapi.json": { "get": plain("openapi", "This document", &content("application/json", json!({ "type": "object" }))) },
        "/problems/{code}": {
            "get": Operation {
                id: "explainProblem",
                says: "What a type of problem means",
                parameters: vec![path("code", "Its code")],
                body: None,
                answers: vec![(200, answer("A sentence", &[], &content("text/plain", json!({ "type": "string" }))))],
                problems: vec![ANY, &[NOT_FOUND]],
            }.shown(),
        },
    })
}

impl Operation {
    fn shown(self) -> Value {
        let mut answers: Map<String, Value> = self
            .answers
            .into_iter()
            .map(|(status, answer)| (status.to_string(), answer))
            .collect();
        let mut kinds: Vec<_> = self.problems.concat();
        kinds.push(METHOD);
        kinds.sort_by_key(|kind| kind.status);
        for of_status in kinds.chunk_by(|one, other| one.status == other.status) {
            let titles = of_status
                .iter()
                .map(|kind| format!("`{}`: {}", kind.code, kind.title));
            let titles = titles.collect::<Vec<_>>().join("; ");
            let content = content("application/problem+json", reference("Problem"));
            let status = of_status.first().map_or(500, |kind| kind.status);
            // What an address answers to another method is not this operation's.
            if status != METHOD.status {
                answers.insert(status.to_string(), answer(&titles, &[], &content));
            }
        }
        let mut shown = json!({
            "operationId": self.id,
            "summary": self.says,
            "parameters": self.parameters,
            "responses": answers,
        });
        if let (Some(body), Value::Object(shown)) = (self.body, &mut shown) {
            let content = content("application/json", reference(body));
            shown.insert(
                "requestBody".into(),
                json!({ "required": true, "content": content }),
            );
        }
        shown
    }
}

fn plain(id: &'static str, says: &'static str, content: &Value) -> Value {
    let answers = vec![(200, answer("As said", &[], content))];
    Operation {
        id,
        says,
        parameters: vec![],
        body: None,
        answers,
        problems: vec![ANY],
    }
    .shown()
}

fn reference(schema: &str) -> Value {
    json!({ "$ref": format!("#/components/schemas/{schema}") })
}

fn content(kind: &str, schema: Value) -> Value {
    let mut content = Map::new();
    content.insert(kind.into(), json!({ "schema": schema }));
    Value::Object(content)
}

fn answer(says: &str, headers: &[&str], content: &Value) -> Value {
    let text = || json!({ "schema": { "type": "string" } });
    let headers: Map<_, _> = headers
        .iter()
        .map(|name| ((*name).to_owned(), text()))
        .collect();
    let mut answer = json!({ "description": says, "headers": headers });
    if let (false, Value::Object(answer)) = (content.is_null(), &mut answer) {
        answer.insert("content".into(), content.clone());
    }
    answer
}

fn done() -> Value {
    let content = content("application/json", reference("Done"));
    answer(
        "It is done, and on the disk; `Idempotency-Replayed: true` if it was before",
        &["ETag", "Location"],
        &content,
    )
}

fn place() -> Value {
    json!({ "type": "integer", "minimum": 0 })
}

/// `*`, or a list of tags in quotes.
fn tags() -> Value {
    json!({ "type": "string", "examples": ["\"7\""] })
}

fn query(name: &str, says: &str, schema: Value) -> Value {
    json!({ "name": name, "in": "query", "description": says, "schema": schema })
}

fn header(name: &str, says: &str, schema: Value) -> Value {
    json!({ "name": name, "in": "header", "description": says, "schema": schema })
}

fn path(name: &str, says: &str) -> Value {
    let schema = json!({ "type": "string", "minLength": 1, "maxLength": 256 });
    json!({ "name": name, "in": "path", "required": true, "description": says, "schema": schema })
}

fn new_id() -> Value {
    let schema = json!({ "type": "string", "pattern": "^[A-Za-z0-9][A-Za-z0-9._~-]{0,63}$" });
    json!({ "name": "id", "in": "path", "required": true, "description": "The account", "schema": schema })
}

/// What may surround a command.
fn commands(of_account: bool) -> Vec<Value> {
    let key = json!({ "type": "string", "pattern": "^[\\t -~]{1,255}$" });
    // W3C Trace Context: one that is not of its form is passed over, so any text may come.
    let trace = json!({ "type": "string" });
    let mut all = vec![
        header("Idempotency-Key", "Under which it may be repeated", key),
        header(
            "traceparent",
            "The trace that it is part of, W3C; kept with the event",
            trace,
        ),
    ];
    if of_account {
        all.push(header(
            "If-Match",
            "The sequence that the account must be at, as its ETag",
            tags(),
        ));
    }
    all
}

fn schemas() -> Value {
    let amount = json!({ "type": "string", "pattern": "^[0-9]{1,18}([.][0-9]{1,2})?$", "examples": ["12.34"] });
    let count = json!({ "type": "integer", "minimum": 0 });
    let text = json!({ "type": "string" });
    let flag = json!({ "type": "boolean" });
    let next = json!({ "type": ["string", "null"] });
    let id = json!({ "type": "string", "minLength": 1, "maxLength": 256, "pattern": "^[^\\u0000-\\u001f\\u007f-\\u009f]+$" });
    let shown = json!({ "type": "string", "pattern": "^[0-9]{1,18}[.][0-9]{2}$" });
    let object = |required: &[&str], properties: Value, closed: bool| json!({ "type": "object", "required": required, "properties": properties, "additionalProperties": !closed });
    json!({
        "Opening": object(&["holder"], json!({ "holder": {
            "type": "string", "minLength": 1, "maxLength": MAX_HOLDER, "pattern": "^[^\\u0000-\\u001f\\u007f-\\u009f]+$",
        } }), true),
        "Moving": object(&["amount"], json!({ "amount": amount }), true),
        "Transferring": object(&["from", "to", "amount"], json!({
            "from": id, "to": id, "amount": amount,
            "within_seconds": { "type": "integer", "minimum": 1, "maximum": 86400, "description": "How soon it must have been taken out of the first account; 60 unless said" },
        }), true),
        "Account": object(&["id", "holder", "balance", "closed", "sequence"], json!({
            "id": text, "holder": text, "balance": shown, "closed": flag, "sequence": count,
        }), true),
        "Accounts": object(&["accounts", "next", "position"], json!({
            "accounts": { "type": "array", "items": object(&["id", "holder", "balance", "closed", "deposits", "deposited"], json!({
                "id": text, "holder": text, "balance": shown, "closed": flag, "deposits": count, "deposited": shown,
            }), true) },
            "next": next, "position": count,
        }), true),
        "Done": object(&["id", "sequence", "event"], json!({ "id": text, "sequence": count, "event": reference("Event") }), true),
        "Event": object(&["type", "sequence", "position", "time", "recorded"], json!({
            "type": text, "sequence": count, "position": count,
            "time": { "type": "string", "format": "date-time" }, "recorded": { "type": "string", "format": "date-time" },
            "account": text, "transfer": text, "holder": text, "amount": shown, "cds": count, "balance": shown,
            "from": text, "to": text, "reason": text, "traceparent": text, "correlation-id": text,
        }), true),
        "Sent": object(&["id", "event", "data"], json!({
            "id": text, "event": text, "data": { "type": "string", "description": "JSON, an Event; of the first one, `place`, the position that is begun behind" },
            "retry": count,
        }), true),
        "History": object(&["id", "events", "next"], json!({
            "id": text, "events": { "type": "array", "items": reference("Event") }, "next": next,
        }), true),
        "Transfer": object(&["id", "from", "to", "amount", "phase", "ended", "reason", "sequence"], json!({
            "id": text, "from": text, "to": text, "amount": shown, "ended": flag, "sequence": count,
            "phase": { "enum": ["requested", "debited", "credit-refused", "expired", "completed", "refused", "refunded", "refund-failed"] },
            "reason": { "type": ["string", "null"] },
        }), true),
        "Months": object(&["months", "position"], json!({
            "months": { "type": "array", "items": object(&["month", "deposited"], json!({ "month": text, "deposited": shown }), true) },
            "position": count,
        }), true),
        "Status": object(&["committed", "durable", "accounts", "projections", "transfers", "replication", "publishing", "parked", "parked_count", "readers"], json!({
            "committed": count, "durable": count, "accounts": count, "readers": count, "parked_count": count,
            "projections": { "type": "array", "items": { "type": "object" } },
            "transfers": { "type": "object" },
            "replication": reference("Far"), "publishing": reference("Far"),
            "parked": { "type": "array", "items": object(&["by", "stream", "reason"], json!({ "by": text, "stream": text, "reason": text }), true) },
        }), true),
        "Far": { "type": ["object", "null"], "required": ["state", "settled", "lag_events", "lag_seconds", "parked"], "properties": {
            "state": text, "settled": count, "lag_events": count, "lag_seconds": { "type": "number" }, "parked": count,
        } },
        "Health": object(&["status"], json!({ "status": text }), true),
        "Problem": object(&["type", "title", "status", "detail", "code"], json!({
            "type": text, "title": text, "status": count, "detail": text, "code": text, "sequence": count,
        }), true),
    })
}
