//! A store that is opened for work on it, and closed whatever came of that; where one may be made.

use std::fs;
use std::io::ErrorKind;
use std::path::Path;

use tidelog::{Error, SledStore, SledStoreBuilder};

use crate::error::CliError;
use crate::stop::Stop;

/// Opens, does `work`, closes. Where it was ended, `next` says what to do: first of opening, then of the
/// work.
pub fn opened<T, E: Into<CliError>>(
    builder: SledStoreBuilder,
    stop: &Stop,
    next: (&str, &str),
    work: impl FnOnce(&SledStore) -> Result<T, E>,
) -> Result<T, CliError> {
    let told = stop.callback();
    let store = builder.progress(move |progress| told(progress)).open();
    let store = stop.end(store, next.0)?;
    let done = stop.end(work(&store), next.1);
    let closed = store.close_blocking();
    let done = done?;
    closed?;
    Ok(done)
}

/// Whether nothing stands there but perhaps an empty directory.
pub fn is_free(dir: &Path) -> Result<bool, Error> {
    match fs::read_dir(dir) {
        Ok(mut entries) => Ok(entries.next().is_none()),
        Err(error) => match error.kind() {
            ErrorKind::NotFound => Ok(true),
            ErrorKind::NotADirectory => Ok(false),
            _ => Err(Error::io("look at", dir, error)),
        },
    }
}
