//! One account: opened, changed, closed, looked at.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::header::{ETAG, IF_NONE_MATCH};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use tidelog::{Command, Decide};

use super::App;
use super::command::{Request, done};
use super::headers::{Around, Tags, etag};
use super::input::{Asking, Body, Id, Moving, NoQuery, Opening, check_new_id, stream_of};
use super::problem::{NO_ACCOUNT, Problem};
use super::view;
use crate::aggregate::BankAccount;
use crate::commands::{CloseAccount, Deposit, OpenAccount, Refusal, Withdraw};

/// Opens an account whose id is made; of a key always the same one.
pub(super) async fn open(
    State(app): State<Arc<App>>,
    around: Around,
    Body(opening): Body<Opening>,
) -> Result<Response, Problem> {
    let request = Request {
        route: "open",
        about: "",
        says: &[&opening.holder],
    };
    let command = OpenAccount {
        account_id: None,
        holder: opening.holder.clone(),
    };
    let opened = done(&app, &request, around.of_what_is_new(), command).await?;
    let at = format!("/v1/accounts/{}", opened.aggregate_id);
    Ok(opened.answer(StatusCode::CREATED, &at))
}

/// Opens an account under a chosen id.
pub(super) async fn open_as(
    State(app): State<Arc<App>>,
    Id(id): Id,
    around: Around,
    Body(opening): Body<Opening>,
) -> Result<Response, Problem> {
    check_new_id(&id)?;
    let holder = opening.holder.clone();
    let command = OpenAccount {
        account_id: Some(id.clone()),
        holder,
    };
    change(&app, "open", &id, &[&opening.holder], around, command).await
}

pub(super) async fn deposit(
    State(app): State<Arc<App>>,
    Id(id): Id,
    around: Around,
    Body(moving): Body<Moving>,
) -> Result<Response, Problem> {
    let command = Deposit {
        account_id: id.clone(),
        cents: moving.amount,
    };
    let says = view::amount(moving.amount);
    change(&app, "deposit", &id, &[&says], around, command).await
}

pub(super) async fn withdraw(
    State(app): State<Arc<App>>,
    Id(id): Id,
    around: Around,
    Body(moving): Body<Moving>,
) -> Result<Response, Problem> {
    let command = Withdraw {
        account_id: id.clone(),
        cents: moving.amount,
    };
    let says = view::amount(moving.amount);
    change(&app, "withdraw", &id, &[&says], around, command).await
}

pub(super) async fn close(
    State(app): State<Arc<App>>,
    Id(id): Id,
    around: Around,
) -> Result<Response, Problem> {
    let command = CloseAccount {
        account_id: id.clone(),
    };
    change(&app, "close", &id, &[], around, command).await
}

async fn change<C>(
    app: &App,
    route: &'static str,
    id: &str,
    says: &[&str],
    around: Around,
    command: C,
) -> Result<Response, Problem>
where
    C: Command<Aggregate = BankAccount>,
    BankAccount: Decide<C, Rejection = Refusal>,
{
    stream_of::<BankAccount>(app, id, NO_ACCOUNT)?;
    let request = Request {
        route,
        about: id,
        says,
    };
    let changed = done(app, &request, around, command).await?;
    Ok(changed.answer(StatusCode::CREATED, &address(id)))
}

/// The account as it is now: from the log, so it has whatever was answered before.
pub(super) async fn show(
    State(app): State<Arc<App>>,
    Id(id): Id,
    Asking(NoQuery {}): Asking<NoQuery>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    stream_of::<BankAccount>(&app, &id, NO_ACCOUNT)?;
    let known = Tags::of(&headers, &IF_NONE_MATCH)?;
    let loaded = app.bank.load::<BankAccount>(&id).await?;
    let loaded = loaded.ok_or_else(|| Problem::from(Refusal::NoAccount(id.clone())))?;
    let sequence = loaded.sequence;
    let tag = [(ETAG, etag(sequence))];
    if known.is_some_and(|known| known.has(sequence)) {
        return Ok((StatusCode::NOT_MODIFIED, tag).into_response());
    }
    Ok((tag, Json(view::account(&id, &loaded.state, sequence))).into_response())
}

/// Where an account is found; other characters than those of plain ids are escaped.
fn address(id: &str) -> String {
    use std::fmt::Write as _;
    let mut at = String::from("/v1/accounts/");
    for byte in id.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'~' | b'-') {
            at.push(byte.into());
        } else {
            // Writing to a text does not fail.
            let _ = write!(at, "%{byte:02X}");
        }
    }
    at
}
