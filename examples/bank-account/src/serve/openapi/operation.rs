//! One thing that can be asked, and how it is written down.

use serde_json::{Map, Value, json};

use crate::serve::problem::{
    INTERNAL, Kind, MALFORMED, METHOD, SLOW, TIMED_OUT, TOO_LARGE, TOO_MANY, UNAVAILABLE,
    WRONG_HOST,
};

/// Problems that any request may meet.
pub(super) const ANY: &[&Kind] = &[
    MALFORMED,
    SLOW,
    TOO_LARGE,
    WRONG_HOST,
    TOO_MANY,
    INTERNAL,
    UNAVAILABLE,
    TIMED_OUT,
];

/// One thing that can be asked.
pub(super) struct Operation {
    pub(super) id: &'static str,
    pub(super) says: &'static str,
    pub(super) parameters: Vec<Value>,
    pub(super) body: Option<&'static str>,
    pub(super) answers: Vec<(u16, Value)>,
    pub(super) problems: Vec<&'static [&'static Kind]>,
}

impl Operation {
    pub(super) fn shown(self) -> Value {
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

pub(super) fn plain(id: &'static str, says: &'static str, content: &Value) -> Value {
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

pub(super) fn reference(schema: &str) -> Value {
    json!({ "$ref": format!("#/components/schemas/{schema}") })
}

pub(super) fn content(kind: &str, schema: Value) -> Value {
    let mut content = Map::new();
    content.insert(kind.into(), json!({ "schema": schema }));
    Value::Object(content)
}

pub(super) fn answer(says: &str, headers: &[&str], content: &Value) -> Value {
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

pub(super) fn done() -> Value {
    let content = content("application/json", reference("Done"));
    answer(
        "It is done, and on the disk; `Idempotency-Replayed: true` if it was before",
        &["ETag", "Location"],
        &content,
    )
}
