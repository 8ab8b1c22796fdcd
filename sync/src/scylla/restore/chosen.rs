//! Which store, and which of its epochs, is restored.

use tidelog_backends::wire::{MetaRow, OriginRow, Wire};
use tidelog_core::Error;
use uuid::Uuid;

use super::RestoreOptions;
use crate::scylla::ask::{self, trouble};
use crate::scylla::copy_target::Claim;

pub(super) struct Found {
    pub meta: MetaRow,
    pub origin: Uuid,
    pub rows: Vec<OriginRow>,
}

pub(super) async fn find<W: Wire + ?Sized>(
    wire: &W,
    options: &RestoreOptions,
) -> Result<Found, Error> {
    let meta = ask::meta(wire).await;
    let meta = meta.map_err(|error| trouble("restore a store", &error))?;
    let Some(meta) = meta else {
        return Err(Error::Schema {
            keyspace: "to restore from".into(),
            found: None,
            wanted: 1,
            remedy: "name the keyspace that the store was replicated to",
        });
    };
    let origin = match options.origin {
        Some(origin) => origin,
        None => only_origin(wire).await?,
    };
    let rows = origins(wire, origin).await?;
    Ok(Found { meta, origin, rows })
}

async fn only_origin<W: Wire + ?Sized>(wire: &W) -> Result<Uuid, Error> {
    let rows = ask::all_origins(wire).await;
    let rows = rows.map_err(|error| trouble("list its stores", &error))?;
    let first = rows.first().map(|row| row.origin);
    let first = first.ok_or_else(|| Error::invalid("keyspace", "", "no store replicates to it"))?;
    if rows.iter().any(|row| row.origin != first) {
        let reason = format!("choose one of several: {}", list(&rows));
        return Err(Error::invalid("origin", "none", reason));
    }
    Ok(first)
}

pub(super) async fn origins<W: Wire + ?Sized>(
    wire: &W,
    origin: Uuid,
) -> Result<Vec<OriginRow>, Error> {
    let rows = ask::origins(wire, origin).await;
    rows.map_err(|error| trouble("read how far a store is", &error))
}

pub(super) fn nothing_there(options: &RestoreOptions) -> Error {
    let origin = options.origin.unwrap_or_default();
    Error::invalid("origin", origin, "this keyspace knows no such store")
}

/// The epoch asked for, or the only live one.
pub(super) fn chosen<'a>(
    rows: &'a [OriginRow],
    options: &RestoreOptions,
) -> Result<&'a OriginRow, Error> {
    if let Some(epoch) = options.epoch {
        return find_epoch(rows, epoch);
    }
    let mut live = rows.iter().filter(|row| row.successor.is_none());
    match (live.next(), live.next()) {
        (Some(row), None) => Ok(row),
        (None, _) => {
            let reason = format!("none is live, choose one: {}", list(rows));
            Err(Error::invalid("epoch", "none", reason))
        }
        (Some(_), Some(_)) => {
            let reason = format!("more than one is live, choose one: {}", list(rows));
            Err(Error::invalid("epoch", "none", reason))
        }
    }
}

pub(super) fn find_epoch(rows: &[OriginRow], epoch: Uuid) -> Result<&OriginRow, Error> {
    let row = rows.iter().find(|row| row.epoch == epoch);
    row.ok_or_else(|| {
        let reason = format!("the store has only these: {}", list(rows));
        Error::invalid("epoch", epoch, reason)
    })
}

fn list(rows: &[OriginRow]) -> String {
    let each = rows.iter().map(|row| {
        let given_up = if row.successor.is_some() {
            ", given up"
        } else {
            ""
        };
        let (name, position) = (&row.name, row.watermark.position);
        let (origin, epoch) = (row.origin, row.epoch);
        format!("{name:?} (origin {origin}, epoch {epoch}) up to position {position}{given_up}")
    });
    each.collect::<Vec<_>>().join("; ")
}

/// The row that a claim has made.
pub(super) fn own<'a>(rows: &'a [OriginRow], claim: &Claim) -> Option<&'a OriginRow> {
    rows.iter()
        .find(|row| row.epoch == claim.epoch && row.watermark.session == claim.session)
}
