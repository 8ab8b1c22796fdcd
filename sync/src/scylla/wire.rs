//! Answers of the server as they are wanted.

use tidelog_backends::wire::{
    ErrorClass, MetaRow, OriginRow, ParkedRow, Reply, Request, Wire, WireError,
};
use uuid::Uuid;

/// An answer that fits no question of ours.
pub(super) fn unexpected(reply: &Reply) -> WireError {
    let name = match reply {
        Reply::Done => "done",
        Reply::Applied(_) => "applied",
        Reply::Meta(_) => "meta",
        Reply::Head(_) => "head",
        Reply::Ids(_) => "ids",
        Reply::Events(_) => "events",
        Reply::Log(_) => "log",
        Reply::Origins(_) => "origins",
        Reply::Parked(_) => "parked",
        Reply::Snapshot(_) => "snapshot",
        Reply::Part(_) => "part",
    };
    WireError {
        class: ErrorClass::Unclear,
        text: format!("the answer is of another kind: {name}").into(),
    }
}

/// A conditional write; whether it was applied.
pub(super) async fn apply(wire: &dyn Wire, request: Request) -> Result<bool, WireError> {
    match wire.ask(request).await? {
        Reply::Applied(applied) => Ok(applied),
        other => Err(unexpected(&other)),
    }
}

pub(super) async fn meta(wire: &dyn Wire) -> Result<Option<MetaRow>, WireError> {
    match wire.ask(Request::Meta).await? {
        Reply::Meta(meta) => Ok(meta),
        other => Err(unexpected(&other)),
    }
}

pub(super) async fn origins(wire: &dyn Wire, origin: Uuid) -> Result<Vec<OriginRow>, WireError> {
    match wire.ask(Request::Origins(origin)).await? {
        Reply::Origins(rows) => Ok(rows),
        other => Err(unexpected(&other)),
    }
}

pub(super) async fn parked(
    wire: &dyn Wire,
    origin: Uuid,
    epoch: Uuid,
) -> Result<Vec<ParkedRow>, WireError> {
    match wire.ask(Request::Parked { origin, epoch }).await? {
        Reply::Parked(rows) => Ok(rows),
        other => Err(unexpected(&other)),
    }
}
