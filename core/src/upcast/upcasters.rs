//! How events of earlier programs are read today.

use std::collections::BTreeMap;
use std::fmt;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::codec::{self, RecordedEvent};
use crate::content_type::ContentType;
use crate::error::Error;

/// The ways from recorded events to those of today, one step after another.
///
/// A step reads one revision of one event type as another one, which may have a step of its own; so
/// each change of an event is one step, written when the change is made and never touched again.
/// Records are not rewritten. An event type says by [`Event::upcasters`](crate::Event::upcasters)
/// which ones it has.
///
/// Fields are plain structs in the shape of that revision: `Old` with the fields that were recorded,
/// `New` with those of the next revision, the last `New` with those of today's variant, in their
/// order. A variant without fields is `()`, one with several unnamed fields a tuple.
///
/// ```
/// use std::sync::LazyLock;
/// use serde::{Deserialize, Serialize};
/// use tidelog_core::{ContentType, Error, Event, Upcasters, decode_event};
///
/// #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
/// enum BankAccountEvent {
///     Deposited { cents: u64, currency: String },
/// }
///
/// #[derive(Deserialize)]
/// struct DepositedV1 { euros: u32 }
/// #[derive(Serialize, Deserialize)]
/// struct DepositedV2 { cents: u64 }
/// #[derive(Serialize)]
/// struct DepositedV3 { cents: u64, currency: &'static str }
///
/// static UPCASTERS: LazyLock<Upcasters> = LazyLock::new(|| {
///     Upcasters::new()
///         .rename("PaidIn", "Deposited")
///         .revise("Deposited", 1, |v1: DepositedV1| DepositedV2 { cents: u64::from(v1.euros) * 100 })
///         .revise("Deposited", 2, |v2: DepositedV2| DepositedV3 { cents: v2.cents, currency: "EUR" })
/// });
///
/// impl Event for BankAccountEvent {
///     fn event_type(&self) -> &'static str { "Deposited" }
///     fn revision(&self) -> u32 { 3 }
///     fn upcasters() -> Option<&'static Upcasters> { Some(&UPCASTERS) }
/// }
///
/// let five_euros: BankAccountEvent = decode_event("PaidIn", 1, &ContentType::Postcard, &[5])?;
/// assert_eq!(five_euros, BankAccountEvent::Deposited { cents: 500, currency: "EUR".into() });
/// # Ok::<(), Error>(())
/// ```
#[derive(Default)]
pub struct Upcasters(BTreeMap<&'static str, OfType>);

/// The steps of one recorded event type.
#[derive(Default)]
struct OfType {
    /// For revisions that have no step of their own.
    renamed: Option<Step>,
    revisions: Vec<(u32, Step)>,
}

/// What one revision of one event type is read as.
pub(super) enum Step {
    Rename(&'static str),
    Become(Box<Become>),
    /// It was given twice; which one is meant cannot be known.
    Twice,
}

type Become = dyn Fn(&RecordedEvent<'_>) -> Result<Vec<Upcast>, Error> + Send + Sync;

impl Upcasters {
    /// None yet.
    pub const fn new() -> Self {
        Self(BTreeMap::new())
    }

    /// What was recorded as `from` is read as `to`, of the same revision; for revisions of `from`
    /// that have no other step.
    pub fn rename(mut self, from: &'static str, to: &'static str) -> Self {
        let renamed = &mut self.0.entry(from).or_default().renamed;
        *renamed = Some(match renamed {
            None => Step::Rename(to),
            Some(_) => Step::Twice,
        });
        self
    }

    /// Revision `revision` of `event_type` is read as the next one, whose fields `to` makes.
    pub fn revise<Old, New>(
        self,
        event_type: &'static str,
        revision: u32,
        to: impl Fn(Old) -> New + Send + Sync + 'static,
    ) -> Self
    where
        Old: DeserializeOwned,
        New: Serialize + 'static,
    {
        self.try_revise(event_type, revision, move |old, _| Ok(to(old)))
    }

    /// As [`revise`](Self::revise), where `to` can fail, or needs what stands beside the payload.
    ///
    /// [`RecordedEvent::refuse`] makes the error.
    pub fn try_revise<Old, New>(
        self,
        event_type: &'static str,
        revision: u32,
        to: impl Fn(Old, &RecordedEvent<'_>) -> Result<New, Error> + Send + Sync + 'static,
    ) -> Self
    where
        Old: DeserializeOwned,
        New: Serialize + 'static,
    {
        self.step(event_type, revision, move |recorded| {
            let new = to(recorded.fields()?, recorded)?;
            let next = revision.saturating_add(1);
            Ok(vec![Upcast::to(event_type, next, new)])
        })
    }

    /// Revision `revision` of `event_type` is read as the events that `into` makes, none included.
    /// Each goes on by the steps of its own type and revision.
    pub fn split<Old: DeserializeOwned>(
        self,
        event_type: &'static str,
        revision: u32,
        into: impl Fn(Old) -> Vec<Upcast> + Send + Sync + 'static,
    ) -> Self {
        self.try_split(event_type, revision, move |old, _| Ok(into(old)))
    }

    /// As [`split`](Self::split), where `into` can fail, or needs what stands beside the payload.
    pub fn try_split<Old: DeserializeOwned>(
        self,
        event_type: &'static str,
        revision: u32,
        into: impl Fn(Old, &RecordedEvent<'_>) -> Result<Vec<Upcast>, Error> + Send + Sync + 'static,
    ) -> Self {
        self.step(event_type, revision, move |recorded| {
            into(recorded.fields()?, recorded)
        })
    }

    /// Revision `revision` of `event_type` is not read any more. Its sequence stays used.
    pub fn drop_event(self, event_type: &'static str, revision: u32) -> Self {
        self.step(event_type, revision, |_| Ok(Vec::new()))
    }

    fn step(
        mut self,
        event_type: &'static str,
        revision: u32,
        step: impl Fn(&RecordedEvent<'_>) -> Result<Vec<Upcast>, Error> + Send + Sync + 'static,
    ) -> Self {
        let of_type = self.0.entry(event_type).or_default();
        let known = of_type.revisions.iter_mut();
        match known.into_iter().find(|(of, _)| *of == revision) {
            Some((_, first)) => *first = Step::Twice,
            None => of_type
                .revisions
                .push((revision, Step::Become(Box::new(step)))),
        }
        self
    }

    /// The step of one recorded event; `None` for one that is read as it stands.
    pub(super) fn find(&self, event_type: &str, revision: u32) -> Option<&Step> {
        let of_type = self.0.get(event_type)?;
        let own = of_type.revisions.iter().find(|(of, _)| *of == revision);
        own.map(|(_, step)| step).or(of_type.renamed.as_ref())
    }
}

impl fmt::Debug for Upcasters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let revisions = |of_type: &OfType| -> Vec<u32> {
            of_type.revisions.iter().map(|(of, _)| *of).collect()
        };
        let types = self.0.iter().map(|(name, of)| (name, revisions(of)));
        f.debug_map().entries(types).finish()
    }
}

/// One event that a record is split into: its type, revision and fields.
///
/// ```
/// use serde::{Deserialize, Serialize};
/// use tidelog_core::{Upcast, Upcasters};
///
/// #[derive(Deserialize)]
/// struct Exchanged { sold: u64, bought: u64 }
/// #[derive(Serialize)]
/// struct Amount { cents: u64 }
///
/// let upcasters = Upcasters::new().split("Exchanged", 1, |old: Exchanged| {
///     vec![
///         Upcast::to("Withdrawn", 1, Amount { cents: old.sold }),
///         Upcast::to("Deposited", 1, Amount { cents: old.bought }),
///     ]
/// });
/// # let _ = upcasters;
/// ```
pub struct Upcast {
    pub(super) event_type: &'static str,
    pub(super) revision: u32,
    encode: Box<Encode>,
}

type Encode = dyn Fn(&ContentType) -> Result<Vec<u8>, Error>;

impl Upcast {
    /// The event `event_type` of `revision` with these fields. They are encoded as the record is
    /// that they come from.
    pub fn to<F: Serialize + 'static>(event_type: &'static str, revision: u32, fields: F) -> Self {
        let encode = move |content_type: &ContentType| {
            codec::encode_fields(event_type, revision, content_type, &fields)
        };
        Self {
            event_type,
            revision,
            encode: Box::new(encode),
        }
    }

    pub(super) fn encode(&self, content_type: &ContentType) -> Result<Vec<u8>, Error> {
        (self.encode)(content_type)
    }
}

impl fmt::Debug for Upcast {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Upcast")
            .field("event_type", &self.event_type)
            .field("revision", &self.revision)
            .finish_non_exhaustive()
    }
}
