//! What stands in paths, queries and headers.

use serde_json::{Value, json};

pub(super) fn place() -> Value {
    json!({ "type": "integer", "minimum": 0 })
}

/// `*`, or a list of tags in quotes.
pub(super) fn tags() -> Value {
    json!({ "type": "string", "examples": ["\"7\""] })
}

pub(super) fn query(name: &str, says: &str, schema: Value) -> Value {
    json!({ "name": name, "in": "query", "description": says, "schema": schema })
}

pub(super) fn header(name: &str, says: &str, schema: Value) -> Value {
    json!({ "name": name, "in": "header", "description": says, "schema": schema })
}

pub(super) fn path(name: &str, says: &str) -> Value {
    let schema = json!({ "type": "string", "minLength": 1, "maxLength": 256 });
    json!({ "name": name, "in": "path", "required": true, "description": says, "schema": schema })
}

pub(super) fn new_id() -> Value {
    let schema = json!({ "type": "string", "pattern": "^[A-Za-z0-9][A-Za-z0-9._~-]{0,63}$" });
    json!({ "name": "id", "in": "path", "required": true, "description": "The account", "schema": schema })
}

/// What may surround a command.
pub(super) fn commands(of_account: bool) -> Vec<Value> {
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
