//! Events: what happened.

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::codec::RecordedEvent;
use crate::content_type::ContentType;
use crate::error::Error;
use crate::metadata::Tags;
use crate::upcast::{EventType, Unknown, Upcasters};

/// A fact of the domain. Facts are immutable; an aggregate's state is derived from them.
///
/// Usually an enum with one variant a fact. On disk a variant is its *own fields* under its event
/// type: the enum around it is never encoded, so variants may be added, reordered or removed
/// without touching what was recorded. A struct works too, as a single fact.
///
/// # Encoding
/// The payload is the variant's fields: as a JSON object (or array, value, `null`, by the shape of
/// the variant), or as postcard, which is the fields in order with nothing around them. postcard is
/// compact, but it is read by exactly the type that wrote it. So with postcard
/// * a changed set of fields is a new [`revision`](Event::revision), and
///   [`upcasters`](Event::upcasters) read the old ones; enums *inside* an event may only grow at their end;
/// * serde attributes that need a self-describing format are refused with an error when such an
///   event is encoded: `skip_serializing_if`, `flatten`, `untagged`, `tag`, and `tag` with
///   `content`;
/// * fields of types that serialize in no fixed order (`HashMap`) work, but equal events then may
///   differ in their bytes; take a `BTreeMap`.
///
/// JSON keeps numbers exact up to `u128` and every finite float; what it would silently turn into
/// `null` is refused.
///
/// # Deriving
/// `#[derive(Event)]` writes the implementation; the macro's page has its attributes. By hand it is:
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
    /// differ, as after the variant was renamed. Unknown types may be returned as they are: decoding
    /// then fails by name. Where there are [`types`](Event::types), only those are read by it;
    /// other recorded names are renamed by [`upcasters`](Event::upcasters).
    fn variant_name(event_type: &str) -> &str {
        event_type
    }

    /// Reads an event of an earlier revision, or of a type that is no more, as an event of today;
    /// `None`, the default, for one that is read as it stands.
    ///
    /// It is asked about every event that is read. An event whose recorded revision is not its
    /// [`revision`](Event::revision) of today is an error unless it is read here.
    ///
    /// # Errors
    /// What [`RecordedEvent::fields`] returns, or [`RecordedEvent::refuse`].
    ///
    /// ```
    /// use serde::{Deserialize, Serialize};
    /// use tidelog_core::{ContentType, Error, Event, RecordedEvent, decode_event};
    ///
    /// #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
    /// enum BankAccountEvent {
    ///     Deposited { cents: u64, currency: String },
    /// }
    ///
    /// /// Revision 1 knew no currency.
    /// #[derive(Deserialize)]
    /// struct DepositedV1 { cents: u64 }
    ///
    /// impl Event for BankAccountEvent {
    ///     fn event_type(&self) -> &'static str { "Deposited" }
    ///     fn revision(&self) -> u32 { 2 }
    ///     fn upcast(recorded: &RecordedEvent<'_>) -> Result<Option<Self>, Error> {
    ///         match (recorded.event_type(), recorded.revision()) {
    ///             ("Deposited", 1) => {
    ///                 let DepositedV1 { cents } = recorded.fields()?;
    ///                 Ok(Some(Self::Deposited { cents, currency: "EUR".into() }))
    ///             }
    ///             _ => Ok(None),
    ///         }
    ///     }
    /// }
    ///
    /// let old: BankAccountEvent = decode_event("Deposited", 1, &ContentType::Postcard, &[5])?;
    /// assert_eq!(old, BankAccountEvent::Deposited { cents: 5, currency: "EUR".into() });
    /// # Ok::<(), Error>(())
    /// ```
    fn upcast(recorded: &RecordedEvent<'_>) -> Result<Option<Self>, Error> {
        let _ = recorded;
        Ok(None)
    }

    /// How events of earlier revisions, and of types that are no more, are read today.
    ///
    /// They come before [`upcast`](Event::upcast), which is for what they cannot say. Usually they
    /// stand in a `LazyLock`. An event that has no step among them costs one look-up.
    fn upcasters() -> Option<&'static Upcasters> {
        None
    }

    /// All event types with their revisions of today, which a recorded event must be one of to be
    /// known. None, the default, judges nothing unknown: it is an error then.
    fn types() -> &'static [EventType] {
        &[]
    }

    /// What becomes of a recorded event that is none of [`types`](Event::types), or of a later
    /// revision.
    fn unknown(recorded: &RecordedEvent<'_>) -> Unknown<Self> {
        let _ = recorded;
        Unknown::Fail
    }
}
