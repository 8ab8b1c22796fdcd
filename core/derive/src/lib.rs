//! `#[derive(Event)]` of the tidelog event store. Users take it from `tidelog`, where it stands
//! beside the trait of the same name.

mod attributes;
mod expand;
mod input;
mod serde_attributes;
#[cfg(test)]
mod tests;

/// Implements `Event` for an enum with one variant a fact, or for a struct that is one fact.
///
/// Without attributes each variant is an event type of its own name, of revision 1, recorded as
/// postcard. What is generated is what one would write by hand, and nothing else.
///
/// ```
/// use serde::{Deserialize, Serialize};
/// use tidelog_core::{Event, RawEvent};
///
/// #[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Event)]
/// #[event(crate = tidelog_core)] // only needed where `tidelog` itself is no dependency
/// enum BankAccountEvent {
///     Opened { holder: String },
///     #[event(type = "MoneyDeposited", revision = 2)]
///     Deposited { cents: u64, currency: String },
///     Closed,
///     #[event(unknown)]
///     Other(RawEvent),
/// }
///
/// let deposited = BankAccountEvent::Deposited { cents: 500, currency: "EUR".into() };
/// assert_eq!((deposited.event_type(), deposited.revision()), ("MoneyDeposited", 2));
/// assert_eq!(BankAccountEvent::Closed.event_type(), "Closed");
/// ```
///
/// # On the enum or struct: `#[event(…)]`
///
/// | key | what |
/// |---|---|
/// | `content_type = "json"` | payloads are JSON instead of postcard |
/// | `upcasters = path` | a `fn() -> &'static Upcasters` |
/// | `upcast = path` | a function like `Event::upcast` |
/// | `tags = path` | a `fn(&Self) -> Tags` |
/// | `unknown = "skip"` | recorded events that the program does not know are read as none |
/// | `crate = path` | where `Event` and its companions are; `::tidelog` unless set |
///
/// # On a variant, or on a struct
///
/// | key | what |
/// |---|---|
/// | `type = "…"` | the event type, when it is not the variant's name |
/// | `revision = 2` | the revision of today, when it is not 1 |
/// | `unknown` (variant) | keeps what the program does not know; it holds one `RawEvent` |
///
/// Renaming a variant changes its event type: give the old name by `type` then, or let an upcaster
/// read it. What could not be read back is a compile error: `#[serde(…)]` attributes that change how
/// an enum names its variants, and with postcard those that leave fields out.
///
/// ```compile_fail
/// # use serde::{Deserialize, Serialize};
/// # use tidelog_core::Event;
/// #[derive(Clone, Serialize, Deserialize, Event)]
/// #[event(crate = tidelog_core)]
/// enum Fact {
///     #[event(type = "Opened")]
///     Opened,
///     #[event(type = "Opened")] // the event type of two variants
///     OpenedAgain,
/// }
/// ```
#[proc_macro_derive(Event, attributes(event))]
pub fn derive_event(input: proc_macro::TokenStream) -> proc_macro::TokenStream {
    expand::event(input.into())
        .unwrap_or_else(syn::Error::into_compile_error)
        .into()
}
