//! Transfers: asked for, then looked at until they have ended.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use serde_json::json;
use tidelog::Subscribe;

use super::App;
use super::command::{Request, done};
use super::headers::Around;
use super::input::{Asking, Body, Id, Transferring, stream_of};
use super::problem::{NO_TRANSFER, Problem};
use super::view;
use crate::transfer::{Phase, RequestTransfer, Transfer, TransferEvent};

/// The longest that somebody waits for the end of a transfer.
const WAIT: Duration = Duration::from_secs(5);

pub(super) async fn request(
    State(app): State<Arc<App>>,
    around: Around,
    Body(asked): Body<Transferring>,
) -> Result<Response, Problem> {
    let (amount, within) = (view::amount(asked.amount), asked.within_seconds.to_string());
    let request = Request {
        route: "transfer",
        about: "",
        says: &[&asked.from, &asked.to, &amount, &within],
    };
    let command = RequestTransfer {
        transfer_id: None,
        from: asked.from.clone(),
        to: asked.to.clone(),
        cents: asked.amount,
        within: Duration::from_secs(asked.within_seconds.into()),
    };
    let requested = done(&app, &request, around.of_what_is_new(), command).await?;
    let at = format!("/v1/transfers/{}", requested.aggregate_id);
    Ok(requested.answer(StatusCode::ACCEPTED, &at))
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Waiting {
    /// Answer when it has ended, or some seconds have passed.
    #[serde(default)]
    wait: bool,
}

pub(super) async fn show(
    State(app): State<Arc<App>>,
    Id(id): Id,
    Asking(waiting): Asking<Waiting>,
) -> Result<Response, Problem> {
    let none = || Problem::new(NO_TRANSFER, format_args!("there is no transfer {id}"));
    let stream = stream_of::<Transfer>(&app, &id, NO_TRANSFER)?;
    let mut loaded = app.bank.load::<Transfer>(&id).await?.ok_or_else(none)?;
    if waiting.wait && !loaded.state.phase.is_end() {
        let after = loaded.sequence;
        let mut news = app.bank.subscribe(Subscribe::Stream {
            stream: stream.clone(),
            after,
        });
        let mut closing = app.closing.clone();
        let ends = async {
            while news.next().await.transpose()?.is_some() {
                loaded = app.bank.load::<Transfer>(&id).await?.ok_or_else(none)?;
                if loaded.state.phase.is_end() {
                    break;
                }
            }
            Ok::<(), Problem>(())
        };
        tokio::select! {
            ended = ends => ended?,
            () = tokio::time::sleep(WAIT.min(app.patience / 2)) => {}
            _ = closing.wait_for(|closing| *closing) => {}
        }
    }
    let transfer = &loaded.state;
    let mut reason = None;
    for envelope in app.bank.read_events::<TransferEvent>(&stream).await? {
        match envelope.event {
            TransferEvent::Refused { reason: why }
            | TransferEvent::CreditRefused { reason: why, .. }
            | TransferEvent::RefundFailed { reason: why, .. } => reason = Some(why),
            _ => {}
        }
    }
    let body = json!({
        "id": id,
        "from": transfer.from,
        "to": transfer.to,
        "amount": view::amount(transfer.cents),
        "phase": phase(transfer.phase),
        "ended": transfer.phase.is_end(),
        "reason": reason,
        "sequence": loaded.sequence,
    });
    Ok(Json(body).into_response())
}

fn phase(phase: Phase) -> &'static str {
    match phase {
        Phase::Requested => "requested",
        Phase::Debited => "debited",
        Phase::CreditRefused => "credit-refused",
        Phase::Expired => "expired",
        Phase::Completed => "completed",
        Phase::Refused => "refused",
        Phase::Refunded => "refunded",
        Phase::RefundFailed => "refund-failed",
    }
}
