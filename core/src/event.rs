//! Events: what happened.

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::content_type::ContentType;
use crate::metadata::Tags;

/// A fact of the domain. Facts are immutable; an aggregate's state is derived from them.
///
/// Usually an enum with one variant a fact. On disk a variant is its *own fields* under its event
/// type: the enum around it is never encoded, so variants may be added, reordered or removed
/// without touching what was recorded.
///
/// ```
/// use serde::{Deserialize, Serialize};
/// use tidelog_core::Event;
///
/// #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
/// enum BankAccountEvent {
///     Opened { owner: String },
///     Deposited { cents: u64 },
/// }
///
/// impl Event for BankAccountEvent {
///     fn event_type(&self) -> &'static str {
///         match self {
///             Self::Opened { .. } => "Opened",
///             Self::Deposited { .. } => "Deposited",
///         }
///     }
/// }
/// ```
pub trait Event: Serialize + DeserializeOwned + Clone + Send + Sync + 'static {
    /// The event type, which names this variant for ever: 1 to 128 bytes.
    fn event_type(&self) -> &'static str;

    /// Schema revision of this event type, from 1. A changed set of fields is a new revision.
    fn revision(&self) -> u32 {
        1
    }

    /// How this event type is encoded: [`ContentType::Postcard`] or [`ContentType::Json`].
    fn content_type(&self) -> ContentType {
        ContentType::Postcard
    }

    /// What this event can be selected by across streams.
    fn tags(&self) -> Tags {
        Tags::none()
    }

    /// The serde name of the variant that `event_type` stands for; only needed when the two
    /// differ. Unknown types may be returned as they are: decoding then fails by name.
    fn variant_name(event_type: &str) -> &str {
        event_type
    }
}
