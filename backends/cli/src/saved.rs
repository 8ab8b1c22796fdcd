//! What is saved beside a log, by whom.

use tidelog::{Error, ListenerState, LogInfo, LogReader, SavedSink, StoreKind};

/// One thing that is saved, or why it cannot be read.
pub struct Saved {
    /// Whose it is.
    pub name: String,
    pub state: Result<State, Error>,
}

pub enum State {
    Listener(ListenerState),
    Sink(SavedSink),
    /// Of the library, and for it alone: of a later version, or of another store's log that is kept here.
    Other,
}

/// All that is saved beside `log`, by name.
pub fn of(log: &LogReader, info: &LogInfo) -> Result<Vec<Saved>, Error> {
    let decoded = |name: &str, bytes: &[u8]| {
        if let Some(sink) = SavedSink::decode(name, bytes)? {
            return Ok(State::Sink(sink));
        }
        let is_the_library_s = ["sink.", "peer."].iter().any(|kept| name.starts_with(kept));
        if is_the_library_s || info.kind == StoreKind::Copy {
            return Ok(State::Other);
        }
        ListenerState::decode(name, bytes).map(State::Listener)
    };
    let saved = log.saved()?.into_iter();
    let saved = saved.map(|saved| Saved {
        state: saved.state.and_then(|bytes| decoded(&saved.name, &bytes)),
        name: saved.name,
    });
    Ok(saved.collect())
}
