//! What happened to one account, newest first, with what was in it after each event.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use serde_json::{Value, json};
use tidelog::StreamQuery;

use super::App;
use super::headers::digits;
use super::input::{Asking, Id, limit, stream_of};
use super::problem::{MALFORMED, NO_ACCOUNT, Problem};
use super::view;
use crate::aggregate::BankAccount;
use crate::commands::Refusal;
use crate::event::BankAccountEvent;

const PAGE: usize = 100;
const MAX_PAGE: usize = 1_000;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Page {
    /// What the page before said: the sequence to begin below, and what was in the account there. So
    /// a page costs what it shows, however long the account's history is.
    before: Option<String>,
    limit: Option<usize>,
}

pub(super) async fn events(
    State(app): State<Arc<App>>,
    Id(id): Id,
    Asking(page): Asking<Page>,
) -> Result<Response, Problem> {
    let stream = stream_of::<BankAccount>(&app, &id, NO_ACCOUNT)?;
    let limit = limit(page.limit.unwrap_or(PAGE), MAX_PAGE)?;
    let loaded = app.bank.load::<BankAccount>(&id).await?;
    let loaded = loaded.ok_or_else(|| Problem::from(Refusal::NoAccount(id.clone())))?;
    let (to, mut cents) = match &page.before {
        None => (loaded.sequence, loaded.state.cents),
        Some(before) => place(before)?,
    };
    let query = StreamQuery::new(stream)
        .to(to)
        .backward()
        .limit(limit as u64);
    let mut read = app.bank.read_stream(query);
    let mut events = Vec::new();
    let mut next = None;
    while let Some(envelope) = read.next().await.transpose()? {
        if let Some(Value::Object(mut shown)) = view::event(&envelope)? {
            shown.insert("balance".into(), view::amount(cents).into());
            events.push(Value::Object(shown));
        }
        for fact in envelope.of::<BankAccount>()? {
            cents = match fact {
                BankAccountEvent::Deposited { cents: moved, .. } => cents.saturating_sub(moved),
                BankAccountEvent::Withdrawn { cents: moved } => cents.saturating_add(moved),
                BankAccountEvent::Opened { .. } | BankAccountEvent::Closed => cents,
            };
        }
        let below = envelope.sequence.saturating_sub(1);
        next = (below > 0).then(|| format!("{below}.{cents}"));
    }
    // Fewer came than were asked for: that was the first of them.
    let next = next.filter(|_| events.len() >= limit);
    Ok(Json(json!({ "id": id, "events": events, "next": next })).into_response())
}

fn place(before: &str) -> Result<(u64, u64), Problem> {
    let numbers = before.split_once('.');
    let numbers = numbers.and_then(|(to, cents)| Some((digits(to, 20)?, digits(cents, 20)?)));
    numbers
        .filter(|(to, _)| *to > 0)
        .ok_or_else(|| Problem::new(MALFORMED, "before is what the page before said as next"))
}
