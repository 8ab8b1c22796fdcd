//! A log as lines of JSON, one event each, and back without loss: to move it, to keep it, to look
//! at it with other tools.
//!
//! What a line holds says [`cloudevents`](tidelog_core::cloudevents). Payloads stand in it as the
//! program sees them: the export of a store that encrypts is plain text.
//!
//! An imported event is [adopted](tidelog_core::RecordKind::Adopted): it keeps its id, sequence,
//! times, metadata and payload, gets a position of its own, and says by its
//! [`birth`](tidelog_core::EventEnvelope::birth) where it was recorded first. Exported again it
//! makes the same line, byte for byte.

mod export;
mod import;
mod thread;

use std::io::{BufRead, Write};
use std::path::Path;

use tidelog_core::Error;

pub use export::{ExportQuery, ExportReport, export, export_log};
pub use import::{ImportError, ImportOptions, ImportReport, Sequences, import};

use crate::blocking::BlockingTidelog;
use crate::tidelog::Tidelog;

impl Tidelog {
    /// Writes what `query` selects to `out`, a line an event, on a thread of its own. Dropping the
    /// future ends it.
    ///
    /// # Errors
    /// As [`export`].
    pub async fn export(
        &self,
        out: impl Write + Send + 'static,
        query: &ExportQuery,
    ) -> Result<ExportReport, Error> {
        let (log, query) = (self.blocking(), query.clone());
        thread::run("export", move |stopped| {
            log.export(out, &query.stopped_by(stopped))
        })
        .await?
    }

    /// The same to a new file, which is on the disk when this answers.
    ///
    /// # Errors
    /// As [`export`], and [`Error::Io`] when something stands there already.
    pub async fn export_file(
        &self,
        path: impl AsRef<Path>,
        query: &ExportQuery,
    ) -> Result<ExportReport, Error> {
        let (log, path) = (self.blocking(), path.as_ref().to_owned());
        let query = query.clone();
        thread::run("export", move |stopped| {
            log.export_file(path, &query.stopped_by(stopped))
        })
        .await?
    }

    /// Takes over the events that `from` has, a line each, on a thread of its own. Dropping the
    /// future ends it between two appends.
    ///
    /// # Errors
    /// As [`import`].
    pub async fn import(
        &self,
        from: impl BufRead + Send + 'static,
        options: &ImportOptions,
    ) -> Result<ImportReport, ImportError> {
        let (log, options) = (self.blocking(), options.clone());
        thread::run("import", move |stopped| {
            log.import(from, &options.stopped_by(stopped))
        })
        .await?
    }

    /// The same from a file.
    ///
    /// # Errors
    /// As [`import`].
    pub async fn import_file(
        &self,
        path: impl AsRef<Path>,
        options: &ImportOptions,
    ) -> Result<ImportReport, ImportError> {
        let (log, path) = (self.blocking(), path.as_ref().to_owned());
        let options = options.clone();
        thread::run("import", move |stopped| {
            log.import_file(path, &options.stopped_by(stopped))
        })
        .await?
    }
}

impl BlockingTidelog {
    /// Writes what `query` selects to `out`, a line an event.
    ///
    /// # Errors
    /// As [`export`].
    pub fn export(&self, out: impl Write, query: &ExportQuery) -> Result<ExportReport, Error> {
        export(self.store().inner(), query, out)
    }

    /// The same to a new file, which is on the disk when this returns.
    ///
    /// # Errors
    /// As [`export`], and [`Error::Io`] when something stands there already.
    pub fn export_file(
        &self,
        path: impl AsRef<Path>,
        query: &ExportQuery,
    ) -> Result<ExportReport, Error> {
        export::to_file(self.store().inner(), query, path.as_ref())
    }

    /// Takes over the events that `from` has, a line each.
    ///
    /// # Errors
    /// As [`import`].
    pub fn import(
        &self,
        from: impl BufRead,
        options: &ImportOptions,
    ) -> Result<ImportReport, ImportError> {
        self.check_managers(options)?;
        let done = import(from, self.store().inner(), options);
        self.fold_in();
        done
    }

    /// The same from a file.
    ///
    /// # Errors
    /// As [`import`].
    pub fn import_file(
        &self,
        path: impl AsRef<Path>,
        options: &ImportOptions,
    ) -> Result<ImportReport, ImportError> {
        self.check_managers(options)?;
        let done = import::from_file(path.as_ref(), self.store().inner(), options);
        self.fold_in();
        done
    }

    /// A manager that runs meets steps whose outcomes are not imported yet, and would take them again
    /// at the sequences that the outcomes need.
    fn check_managers(&self, options: &ImportOptions) -> Result<(), Error> {
        if self.inner().inner().processes().is_empty() || !options.keeps_sequences() {
            return Ok(());
        }
        let reason = "process managers run over this store; open it without them for the import, or \
                      number anew by Sequences::Renumber";
        Err(Error::invalid("import", "Sequences::Keep", reason))
    }

    /// Inline projections have what was imported when the call returns, however it ended.
    fn fold_in(&self) {
        let last = self.store().last_position();
        pollster::block_on(self.inner().inner().applied(Some(last)));
    }
}
