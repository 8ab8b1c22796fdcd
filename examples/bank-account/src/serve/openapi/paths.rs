//! Each address, method by method.

use serde_json::{Value, json};

use super::operation::{ANY, Operation, answer, content, done, plain, reference};
use super::parameters::{commands, header, new_id, path, place, query, tags};
use crate::serve::problem::{
    BUSY, CHANGED, CLOSED, FOREIGN, GONE, HELD, INVALID, KEY_REUSED, Kind, NO_ACCOUNT, NO_TRANSFER,
    NOT_FOUND, NOT_JSON, OPEN_ALREADY, OVERDRAFT, READERS, TOO_MUCH,
};

/// Problems that whatever changes something may meet, too.
const CHANGES: &[&Kind] = &[FOREIGN, BUSY, HELD, INVALID, KEY_REUSED];
/// Problems that whatever changes an account may meet, too.
const OF_ACCOUNT: &[&Kind] = &[NO_ACCOUNT, CLOSED, CHANGED];

pub(super) fn all() -> Value {
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
