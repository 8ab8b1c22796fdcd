//! One file a subject; each verb is one function.

mod changing;
mod copies;
mod events;
mod index;
mod info;
mod lines;
mod opened;
mod parked;
mod streams;
mod verify;

use std::process::ExitCode;

use crate::args::Verb;
use crate::error::{CliError, DONE};
use crate::output::Output;

/// Does what was asked for; the exit code where that is not simply done.
pub fn run(verb: Verb, out: &mut Output) -> Result<ExitCode, CliError> {
    let done = match verb {
        Verb::Info(store) => return info::info(&store.path, out),
        Verb::Verify { store, index } => return verify::verify(&store.path, index, out),
        Verb::Parked { store, projections } => {
            return parked::parked(&store.path, projections, out);
        }
        Verb::Streams {
            store,
            aggregate_type,
            sort,
            limit,
        } => streams::streams(&store.path, aggregate_type.as_deref(), (sort, limit), out),
        Verb::Events {
            store,
            select,
            limit,
            last,
            show,
        } => events::events(&store.path, &select, (limit, last), &show, out),
        Verb::Tail {
            store,
            select,
            lines,
            follow,
            show,
        } => events::tail(&store.path, &select, (lines, follow), &show, out),
        Verb::Snapshots {
            store,
            aggregate_type,
        } => index::snapshots(&store.path, aggregate_type.as_deref(), out),
        Verb::Projections(store) => index::projections(&store.path, out),
        Verb::Backup { store, to } => copies::backup(&store.path, &to, out),
        Verb::Restore { backup, to } => copies::restore(&backup, &to, out),
        Verb::Repair { store, to } => copies::repair_into(&store.path, &to, out),
        Verb::AcceptLoss {
            store,
            stream,
            confirm,
        } => changing::accept_loss(&store.path, stream.as_deref(), confirm.yes, out),
        Verb::RebuildIndex { store, confirm } => {
            changing::rebuild_index(&store.path, confirm.yes, out)
        }
        Verb::Export {
            store,
            file,
            from,
            to,
            stream,
            aggregate_type,
            event_type,
            tag,
        } => {
            let select = lines::Select {
                from,
                to,
                stream,
                aggregate_type,
                event_type,
                tag,
            };
            lines::export(&store.path, file.as_deref(), select, out)
        }
        Verb::Import {
            store,
            file,
            into_existing,
            renumber,
        } => lines::import_from(&store, &file, (into_existing, renumber), out),
    };
    done.map(|()| ExitCode::from(DONE))
}
