//! One read model as everybody sees it: which slot is asked, and how far it is.

use parking_lot::{Mutex, RwLock};
use tidelog_core::{Error, ParkedStream, Slot};

use super::progress::{ProjectionState, ProjectionStatus};
use crate::signal::{Listener, Signal};

/// Shared by the runner, which writes it, and by those who ask.
pub(crate) struct Model {
    pub(crate) name: Box<str>,
    pub(crate) version: u32,
    pub(crate) inline: bool,
    /// Held for reading through one call, for writing through one commit: a call sees one state.
    pub(crate) serving: RwLock<Serving>,
    progress: Mutex<Progress>,
    changed: Signal,
}

/// Which rows are asked.
#[derive(Clone, Debug)]
pub(crate) enum Serving {
    /// Not known yet.
    Checking,
    /// These.
    Slot(Slot),
    /// None can be: they are being made anew.
    Nothing,
    /// None may be, and why.
    Refused(Error),
    Closed,
}

/// How far it is.
#[derive(Clone, Debug)]
pub(crate) struct Progress {
    pub(crate) state: ProjectionState,
    /// Whether the rows that are asked are fed; not while there are none, or only old ones.
    pub(crate) is_fed: bool,
    /// What is waited for has come when this is as far; 0 while only old rows serve.
    pub(crate) reached: u64,
    /// From this position on the rows are not what they should be: they hold events that gave way.
    pub(crate) outdated_from: u64,
    /// Where the rows that are asked stand.
    pub(crate) position: u64,
    pub(crate) rows: u64,
    pub(crate) parked: u64,
    /// The parked stream whose failing event stands first in the log.
    pub(crate) first_parked: Option<ParkedStream>,
}

impl Model {
    pub(crate) fn new(name: &str, version: u32, inline: bool) -> Self {
        Self {
            name: name.into(),
            version,
            inline,
            serving: RwLock::new(Serving::Checking),
            progress: Mutex::new(Progress {
                state: ProjectionState::Checking,
                is_fed: false,
                reached: 0,
                outdated_from: u64::MAX,
                position: 0,
                rows: 0,
                parked: 0,
                first_parked: None,
            }),
            changed: Signal::default(),
        }
    }

    /// How messages call it.
    pub(crate) fn what(&self) -> Box<str> {
        format!("projection {}", self.name).into()
    }

    pub(crate) fn publish(&self, progress: Progress) {
        let mut now = self.progress.lock();
        if !matches!(now.state, ProjectionState::Closed) {
            *now = progress;
        }
        drop(now);
        self.changed.notify();
    }

    /// Nothing is asked and nothing comes any more.
    pub(crate) fn close(&self) {
        *self.serving.write() = Serving::Closed;
        self.progress.lock().state = ProjectionState::Closed;
        self.changed.notify();
    }

    /// Wakes when something was published after this call.
    pub(crate) fn listen(&self) -> Listener<'_> {
        self.changed.listen()
    }

    pub(crate) fn status(&self, last_position: u64) -> ProjectionStatus {
        let progress = self.progress.lock().clone();
        let behind = progress.position < last_position;
        let state = match progress.state {
            ProjectionState::CatchingUp | ProjectionState::Live if behind => {
                ProjectionState::CatchingUp
            }
            ProjectionState::CatchingUp => ProjectionState::Live,
            other => other,
        };
        ProjectionStatus {
            name: self.name.clone(),
            version: self.version,
            inline: self.inline,
            state,
            position: progress.position,
            last_position,
            rows: progress.rows,
            parked: progress.parked,
        }
    }

    /// The answer to who waits for `position`; `None`: not yet.
    pub(crate) fn reached(&self, position: u64) -> Option<Result<(), Error>> {
        let progress = self.progress.lock();
        if let ProjectionState::Closed = progress.state {
            return Some(Err(Error::Closed));
        }
        let is_there = progress.reached >= position && position < progress.outdated_from;
        if is_there && !matches!(progress.state, ProjectionState::Checking) {
            let held = progress.first_parked.as_ref();
            return Some(match held.filter(|parked| parked.position <= position) {
                None => Ok(()),
                Some(parked) => Err(Error::Parked {
                    what: self.what(),
                    stream: parked.stream.clone(),
                    position: parked.position,
                    reason: parked.reason.clone(),
                }),
            });
        }
        match &progress.state {
            ProjectionState::Stopped(error) => Some(Err(error.clone())),
            _ => None,
        }
    }

    /// Whether an append up to `position` need not wait any longer.
    pub(crate) fn lets_go(&self, position: u64) -> bool {
        let progress = self.progress.lock();
        let is_ended = matches!(
            progress.state,
            ProjectionState::Stopped(_) | ProjectionState::Closed
        );
        let is_checking = matches!(progress.state, ProjectionState::Checking);
        progress.reached >= position || is_ended || (!progress.is_fed && !is_checking)
    }

    pub(crate) fn is_checking(&self) -> bool {
        matches!(self.progress.lock().state, ProjectionState::Checking)
    }

    /// Why nothing can be asked while rows are made anew.
    pub(crate) fn rebuilding(&self, last: u64) -> Error {
        let position = match self.progress.lock().state {
            ProjectionState::Rebuilding { position } => position,
            _ => 0,
        };
        Error::Rebuilding {
            what: self.what(),
            position,
            last,
        }
    }
}
