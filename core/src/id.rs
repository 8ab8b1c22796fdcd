//! Event ids and command ids: what makes a retry recognizable.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::error::Error;

/// The identity of one event, the same wherever it is copied: in the log, in a replica, on a topic.
///
/// It is a UUID. The library makes version 7 (ordered by time) for events that come with no
/// command id, and version 8, derived by BLAKE3, for events of a command with an id, so that the
/// same command always carries the same event ids. A command id that is used on two aggregates
/// gives both the same event ids: do not.
///
/// ```
/// use tidelog_core::{CommandId, EventId};
/// let import = CommandId::new("purchases.txt:17")?;
/// assert_eq!(import.event_id(0), import.event_id(0));
/// assert_ne!(import.event_id(0), import.event_id(1));
/// let read_back: EventId = import.event_id(0).to_string().parse()?;
/// assert_eq!(read_back, import.event_id(0));
/// # Ok::<(), tidelog_core::Error>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct EventId(Uuid);

impl EventId {
    /// A new version 7 id from the machine's clock and random source.
    ///
    /// Make it once per intended event and keep it: retrying an append with the same id is safe,
    /// retrying with a fresh one appends twice.
    pub fn generate() -> Self {
        Self(SystemIds.next_uuid())
    }

    /// An id chosen by the caller.
    pub const fn from_uuid(uuid: Uuid) -> Self {
        Self(uuid)
    }

    /// An id from its 16 bytes.
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(Uuid::from_bytes(bytes))
    }

    /// The id as a UUID.
    pub const fn as_uuid(&self) -> &Uuid {
        &self.0
    }

    /// The id's 16 bytes, as they stand on disk.
    pub const fn as_bytes(&self) -> &[u8; 16] {
        self.0.as_bytes()
    }
}

impl fmt::Display for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl fmt::Debug for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl FromStr for EventId {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        text.parse().map(Self).map_err(|_| Error::InvalidInput {
            what: "event id",
            value: text.into(),
            reason: "it is not a UUID".into(),
        })
    }
}

/// A caller's own name for one command, 1 to 256 bytes of text: with it, `execute` may be repeated
/// safely after a lost answer, a crash, or a second delivery.
///
/// Event ids derive from it, so it must be as unique as an event: `"orders.csv:42"`, not `"import"`.
/// It names one command to one aggregate: whatever is executed there under the same id again gets
/// the first answer, and it is recognized while the command's events are among the newest
/// [`Limits::retry_window`](crate::Limits::retry_window) of their stream.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CommandId(Box<str>);

impl CommandId {
    /// Most bytes of a command id.
    pub const MAX_BYTES: usize = 256;

    /// A command id from the caller's text.
    ///
    /// # Errors
    /// [`Error::InvalidInput`] when it is empty, [`Error::TooLarge`] above 256 bytes.
    pub fn new(id: impl Into<Box<str>>) -> Result<Self, Error> {
        let id = id.into();
        if id.is_empty() {
            return Err(Error::InvalidInput {
                what: "command id",
                value: id,
                reason: "it is empty; leave it out instead".into(),
            });
        }
        if id.len() > Self::MAX_BYTES {
            return Err(Error::too_large("command id", id.len(), Self::MAX_BYTES));
        }
        Ok(Self(id))
    }

    /// The caller's text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The id of the `index`-th event (from 0) that this command records: a version 8 UUID from
    /// BLAKE3 over the command id and the index.
    pub fn event_id(&self, index: u32) -> EventId {
        EventId(self.derive(b"tidelog event id v1", index))
    }

    /// The id of the aggregate that this command creates when it names none.
    pub(crate) fn aggregate_uuid(&self) -> Uuid {
        self.derive(b"tidelog aggregate id v1", 0)
    }

    pub(crate) fn derive(&self, domain: &[u8], index: u32) -> Uuid {
        let mut hasher = blake3::Hasher::new();
        hasher.update(domain);
        hasher.update(&index.to_le_bytes());
        hasher.update(self.0.as_bytes());
        let mut bytes = [0; 16];
        hasher.finalize_xof().fill(&mut bytes);
        Uuid::new_v8(bytes)
    }
}

impl fmt::Display for CommandId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Where new UUIDs come from; injected, so that tests and simulations repeat exactly.
pub trait IdSource: Send + Sync + 'static {
    /// A UUID never returned before.
    fn next_uuid(&self) -> Uuid;
}

/// Version 7 UUIDs from the machine's clock and random source.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemIds;

impl IdSource for SystemIds {
    #[allow(
        clippy::disallowed_methods,
        reason = "this is the one place that asks the machine"
    )]
    fn next_uuid(&self) -> Uuid {
        Uuid::now_v7()
    }
}
