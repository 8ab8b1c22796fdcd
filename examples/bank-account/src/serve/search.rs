//! All accounts, page by page, and those that words lead to.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use serde_json::json;
use tidelog::Error;

use super::App;
use super::input::{Asking, limit};
use super::problem::{GONE, MALFORMED, Problem};
use super::view;
use crate::read_models::{AccountRow, Accounts, words};

/// Accounts of a page, unless said.
const PAGE: usize = 50;
/// Most accounts of a page.
const MAX_PAGE: usize = 200;
/// Most entries that are looked at for one page: a search for common words goes on in the next.
const LOOK: usize = 4_000;
/// What sorts behind whatever begins with a word.
const END: char = '\u{10ffff}';

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Search {
    /// Words; each must begin the id or a word of the holder.
    #[serde(default)]
    q: String,
    /// What the page before said.
    after: Option<String>,
    limit: Option<usize>,
    /// A position that the answer must know.
    at_least: Option<u64>,
}

pub(super) async fn list(
    State(app): State<Arc<App>>,
    Asking(search): Asking<Search>,
) -> Result<Response, Problem> {
    let limit = limit(search.limit.unwrap_or(PAGE), MAX_PAGE)?;
    if search.q.chars().count() > 200 {
        return Err(Problem::new(MALFORMED, "q has at most 200 characters"));
    }
    if let Some(position) = search.at_least {
        let last = app.bank.last_position();
        if position > last {
            return Err(Problem::new(
                GONE,
                format_args!("the log ends at position {last}"),
            ));
        }
        app.accounts.wait_for(position).await?;
    }
    let position = app.accounts.progress().position;
    let asked = words(&search.q);
    let (rows, next) = match rarest(&app, &asked, search.after.as_deref()).await? {
        None => all(&app, search.after, limit).await?,
        Some(word) => found(&app, word, &asked, search.after, limit).await?,
    };
    let rows: Vec<_> = rows.iter().map(|(id, row)| view::row(id, row)).collect();
    let body = json!({ "accounts": rows, "next": next, "position": position });
    Ok(Json(body).into_response())
}

type Page = (Vec<(String, AccountRow)>, Option<String>);

async fn all(app: &App, after: Option<String>, limit: usize) -> Result<Page, Error> {
    let rows = match after {
        None => app.accounts.scan(.., limit + 1).await?,
        Some(after) => app.accounts.scan(above(after).., limit + 1).await?,
    };
    Ok(cut(rows, limit, |(id, _)| id.clone()))
}

/// The word that leads to the fewest accounts, as far as a look tells; of a search that goes on, the one
/// that it goes by.
async fn rarest<'a>(
    app: &App,
    asked: &'a [String],
    after: Option<&str>,
) -> Result<Option<&'a str>, Error> {
    if let Some(after) = after {
        let goes_by = asked.iter().filter(|word| after.starts_with(word.as_str()));
        if let Some(word) = goes_by.max_by_key(|word| word.len()) {
            return Ok(Some(word));
        }
    }
    let mut rarest: Option<(usize, &str)> = None;
    for word in asked {
        let range = (word.clone(), String::new())..(format!("{word}{END}"), String::new());
        let entries = app
            .accounts
            .find_range(Accounts::WORD, range, MAX_PAGE)
            .await?;
        let count = entries.len();
        let better = rarest.is_none_or(|(least, other)| {
            count < least || (count == least && word.len() > other.len())
        });
        if better {
            rarest = Some((count, word));
        }
    }
    Ok(rarest.map(|(_, word)| word))
}

/// The accounts that `word` leads to, as far as all other words do, too.
async fn found(
    app: &App,
    word: &str,
    all: &[String],
    after: Option<String>,
    limit: usize,
) -> Result<Page, Error> {
    let mut from = match &after {
        // A word holds no space, an id may.
        Some(after) => match after.split_once(' ') {
            Some((word, id)) => (word.to_owned(), above(id.to_owned())),
            None => (above(after.clone()), String::new()),
        },
        None => (word.to_owned(), String::new()),
    };
    let end = (format!("{word}{END}"), String::new());
    let mut rows = Vec::new();
    let mut looked = 0;
    while looked < LOOK && from < end {
        let portion = limit.max(100) + 1;
        let range = from.clone()..end.clone();
        let entries = app
            .accounts
            .find_range(Accounts::WORD, range, portion)
            .await?;
        let last = entries.len() < portion;
        for (at, id, row) in entries {
            looked += 1;
            if rows.len() == limit {
                return Ok((rows, Some(format!("{} {}", from.0, below(&from.1)))));
            }
            let words = words_of(&id, &row);
            // Several words of one account may begin with this one: the first counts.
            let first = words.iter().filter(|one| one.starts_with(word)).min();
            let is_first = first.is_none_or(|first| *first == at.0);
            let meets = |asked: &String| words.iter().any(|one| one.starts_with(asked.as_str()));
            if is_first && all.iter().all(meets) {
                rows.push((id.clone(), row));
            }
            from = (at.0, above(id));
        }
        if last {
            return Ok((rows, None));
        }
    }
    Ok((rows, Some(format!("{} {}", from.0, below(&from.1)))))
}

fn words_of(id: &str, row: &AccountRow) -> Vec<String> {
    Accounts::words_of(id, row)
}

/// The smallest text above `id`.
fn above(mut id: String) -> String {
    id.push('\0');
    id
}

fn below(above: &str) -> &str {
    above.strip_suffix('\0').unwrap_or(above)
}

fn cut<T>(mut rows: Vec<T>, limit: usize, name: impl Fn(&T) -> String) -> (Vec<T>, Option<String>) {
    let more = rows.len() > limit;
    rows.truncate(limit);
    let next = rows.last().filter(|_| more).map(name);
    (rows, next)
}
