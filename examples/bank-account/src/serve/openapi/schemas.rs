//! The forms of bodies.

use serde_json::{Value, json};

use super::operation::reference;
use crate::serve::input::MAX_HOLDER;

pub(super) fn all() -> Value {
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
