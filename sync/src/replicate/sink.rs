//! Where commits go: what a sink is to the replicator.

use std::future::Future;
use std::sync::Arc;
use std::task::{Context, Poll};

use tidelog_backends::commits::{Commit, CommitEnd};
use tidelog_core::{Error, Halt};

use super::keeper::{Keeper, KeptState};
use super::outbox::{Identity, Outbox};
use super::status::SinkStatus;

/// A place that the log is sent to.
///
/// All its work under way stands in futures of its own, polled by [`poll_step`](Self::poll_step):
/// dropping the sink, or [`disconnect`](Self::disconnect), is the same to the server as a crash.
pub(crate) trait Sink: Send {
    /// Its state is saved as `sink.<NAME>`, and it is the label of its metrics.
    const NAME: &'static str;
    /// The name that its state is saved under.
    const STATE: &'static str;

    /// What it keeps between two runs.
    type Kept: KeptState;
    /// What users ask of it.
    type Ask: Asked;
    /// What users are told of it.
    type Status: SinkStatus;

    /// What all it does is recorded in.
    fn span(identity: &Identity) -> tracing::Span;

    /// Connects and shakes hands; answers where to begin. May be dropped at every await.
    fn connect<'a>(
        &'a mut self,
        outbox: &'a Arc<dyn Outbox>,
        keeper: &'a mut Keeper<Self::Kept>,
    ) -> impl Future<Output = Result<Begin, Stop>> + Send + 'a;

    /// Takes the next commit.
    fn take(
        &mut self,
        commit: &Arc<Commit>,
        outbox: &dyn Outbox,
        keeper: &mut Keeper<Self::Kept>,
    ) -> Result<(), Stop>;

    /// Works on what it has taken, until something is to be told. Answers `Pending` when all that is
    /// left waits for the server, for a save, or for the next commit.
    fn poll_step(
        &mut self,
        cx: &mut Context<'_>,
        outbox: &Arc<dyn Outbox>,
        keeper: &mut Keeper<Self::Kept>,
    ) -> Poll<Result<Step, Stop>>;

    /// Everything up to here is settled; always the end of a commit.
    fn settled(&self) -> CommitEnd;

    /// How much is taken and not settled.
    fn load(&self) -> Load;

    /// Whether nothing is under way or waits.
    fn is_idle(&self) -> bool;

    /// Whether the server knows how far this is.
    fn is_level(&self) -> bool;

    /// The server is to be told how far this is, if it does not know. Called once a second while
    /// something moves, and when all is settled.
    fn note(&mut self, keeper: &Keeper<Self::Kept>);

    /// It is to be looked whether the server still has what it had.
    fn probe(&mut self, keeper: &Keeper<Self::Kept>);

    /// Drops what is under way. `fresh` says that the connections are not to be trusted any more.
    fn disconnect(&mut self, fresh: bool);

    /// Does what a user asked for, while connected or while it stands still; a refusal is the user's
    /// to see. `Again` when the sink is to connect anew.
    fn message<'a>(
        &'a mut self,
        message: Self::Ask,
        outbox: &'a Arc<dyn Outbox>,
        keeper: &'a mut Keeper<Self::Kept>,
    ) -> impl Future<Output = Result<After, Error>> + Send + 'a;

    /// What happened so far, since the sink was made.
    fn counts(&self) -> <Self::Status as SinkStatus>::Counts;

    /// What users are shown of the streams that a state has set aside.
    fn listed(state: &Self::Kept) -> Arc<[<Self::Status as SinkStatus>::Parked]>;
}

/// What a user asks of a sink.
pub(crate) trait Asked: Send + 'static {
    /// Whether it can only be done while there is a connection.
    fn needs_connection(&self) -> bool;

    /// Whether a failure half way leaves a connection with knowledge that may not hold any more.
    fn changes_what_is_known(&self) -> bool;
}

/// Where a connection begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Begin {
    /// Commits are read after this position: from the one on that holds the next.
    pub after: u64,
    /// What is settled, by what the server says; above `after` by the overlap.
    pub settled: CommitEnd,
    /// Up to here everything was settled before, and is sent again; 0 when nothing is.
    pub rewinds_to: u64,
}

/// What a step came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// Something settled, or there is something else to look at.
    Progress,
    /// The sink is to connect anew.
    Again,
    /// The server lost what it had: all is to be sent again from the log's beginning.
    Rewind,
}

/// How much is taken and not settled.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Load {
    pub bytes: usize,
    pub records: usize,
}

/// Why a sink cannot go on.
#[derive(Clone, Debug)]
pub(crate) enum Stop {
    /// Until a person decides.
    Halt(Box<Halt>),
    /// For now: it is tried again.
    Trouble(Error),
    /// The store is closed.
    Closed,
}

impl Stop {
    /// What an error of the local store comes to.
    pub(crate) fn local(error: Error) -> Self {
        match error {
            Error::Closed => Self::Closed,
            damaged @ (Error::Damaged { .. } | Error::Gap { .. }) => {
                Self::Halt(Box::new(Halt::LocalDamage {
                    reason: damaged.to_string().into(),
                }))
            }
            other => Self::Trouble(other),
        }
    }
}

impl From<Halt> for Stop {
    fn from(halt: Halt) -> Self {
        Self::Halt(Box::new(halt))
    }
}

/// What becomes of an epoch that another one takes the place of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Other {
    /// Nobody has it any more: it is retired, and whoever comes with it is refused.
    Gone,
    /// Another copy of this store goes on with it.
    Lives,
}

/// What follows a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum After {
    /// Nothing else.
    GoOn,
    /// The sink connects anew.
    Again,
}
