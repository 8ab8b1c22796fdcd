//! Questions to the server with the type of their answer.

use tidelog_backends::wire::{
    Bucket, Chunk, ErrorClass, EventRow, ForkRows, HeadRow, IdRow, LogRow, MetaRow, OriginRow,
    PageAt, ParkedRow, Reply, Request, Rows, Wire, WireError,
};
use tidelog_core::{Direction, Error};
use uuid::Uuid;

/// The keyspace's row about itself.
pub(crate) async fn meta<W: Wire + ?Sized>(wire: &W) -> Result<Option<MetaRow>, WireError> {
    ask(wire, Request::Meta, |reply| match reply {
        Reply::Meta(row) => Some(row),
        _ => None,
    })
    .await
}

/// Every epoch of `origin`, at SERIAL.
pub(crate) async fn origins<W: Wire + ?Sized>(
    wire: &W,
    origin: Uuid,
) -> Result<Vec<OriginRow>, WireError> {
    ask(wire, Request::Origins(origin), epochs).await
}

/// Every epoch of every origin, at the configured consistency.
pub(crate) async fn all_origins<W: Wire + ?Sized>(wire: &W) -> Result<Vec<OriginRow>, WireError> {
    ask(wire, Request::AllOrigins, epochs).await
}

fn epochs(reply: Reply) -> Option<Vec<OriginRow>> {
    match reply {
        Reply::Origins(rows) => Some(rows),
        _ => None,
    }
}

/// What an epoch has parked, resolved or not.
pub(crate) async fn parked<W: Wire + ?Sized>(
    wire: &W,
    origin: Uuid,
    epoch: Uuid,
) -> Result<Vec<ParkedRow>, WireError> {
    ask(
        wire,
        Request::Parked { origin, epoch },
        |reply| match reply {
            Reply::Parked(rows) => Some(rows),
            _ => None,
        },
    )
    .await
}

/// A page of the rows of a log.
pub(crate) async fn log<W: Wire + ?Sized>(
    wire: &W,
    chunk: Chunk,
    from: u64,
    (wide, records): (bool, bool),
    page: PageAt,
) -> Result<Rows<LogRow>, WireError> {
    let request = Request::Log {
        chunk,
        from,
        wide,
        records,
        page,
    };
    ask(wire, request, |reply| match reply {
        Reply::Log(rows) => Some(rows),
        _ => None,
    })
    .await
}

/// Whether a smaller page may be answered where this one was not: it was too much at once, or took too
/// long.
pub(crate) fn is_of_size(error: &WireError) -> bool {
    matches!(error.class, ErrorClass::Refused | ErrorClass::Unclear)
}

/// A bucket's head, at SERIAL.
pub(crate) async fn head<W: Wire + ?Sized>(
    wire: &W,
    bucket: Bucket,
) -> Result<Option<HeadRow>, WireError> {
    ask(wire, Request::Head(bucket), |reply| match reply {
        Reply::Head(row) => Some(row),
        _ => None,
    })
    .await
}

/// A page of a bucket's events, oldest first, at SERIAL.
pub(crate) async fn events<W: Wire + ?Sized>(
    wire: &W,
    bucket: Bucket,
    (from, to): (u64, u64),
    page: PageAt,
) -> Result<Rows<EventRow>, WireError> {
    let request = Request::Events {
        bucket,
        from,
        to,
        direction: Direction::Forward,
        serial: true,
        page,
    };
    ask(wire, request, |reply| match reply {
        Reply::Events(rows) => Some(rows),
        _ => None,
    })
    .await
}

/// Notes that a stream is parked; whether it was not yet.
pub(crate) async fn park<W: Wire + ?Sized>(wire: &W, row: ParkedRow) -> Result<bool, WireError> {
    applied(wire, Request::Park(Box::new(row))).await
}

/// Makes an epoch known and gives another up; whether both stood as they were seen.
pub(crate) async fn fork<W: Wire + ?Sized>(wire: &W, rows: ForkRows) -> Result<bool, WireError> {
    applied(wire, Request::Fork(Box::new(rows))).await
}

/// Asks for a conditional write: whether it was applied.
pub(crate) async fn applied<W: Wire + ?Sized>(
    wire: &W,
    request: Request,
) -> Result<bool, WireError> {
    ask(wire, request, |reply| match reply {
        Reply::Applied(applied) => Some(applied),
        _ => None,
    })
    .await
}

/// Ids of events, as one request asks for them.
pub(crate) async fn ids<W: Wire + ?Sized>(
    wire: &W,
    request: Request,
) -> Result<Vec<IdRow>, WireError> {
    ask(wire, request, |reply| match reply {
        Reply::Ids(rows) => Some(rows),
        _ => None,
    })
    .await
}

/// Asks for what has no answer but that it is done.
pub(crate) async fn done<W: Wire + ?Sized>(wire: &W, request: Request) -> Result<(), WireError> {
    ask(wire, request, |reply| match reply {
        Reply::Done => Some(()),
        _ => None,
    })
    .await
}

/// Asks, and takes out of the answer what `take` finds in it.
pub(crate) async fn ask<W: Wire + ?Sized, T>(
    wire: &W,
    request: Request,
    take: impl FnOnce(Reply) -> Option<T>,
) -> Result<T, WireError> {
    let name = request.name();
    let reply = wire.ask(request).await?;
    take(reply).ok_or_else(|| WireError {
        class: ErrorClass::Unclear,
        text: format!("the answer to `{name}` is of another kind").into(),
    })
}

/// The error that a user sees when the server could not be asked to `action`.
pub(crate) fn trouble(action: &str, error: &WireError) -> Error {
    let (server, action, reason) = ("the replica".into(), action.into(), error.text.clone());
    match error.class {
        ErrorClass::Refused | ErrorClass::Schema => Error::ServerRefused {
            server,
            action,
            reason,
        },
        ErrorClass::NotSent | ErrorClass::Unclear => Error::Unreachable {
            server,
            action,
            reason,
        },
    }
}
