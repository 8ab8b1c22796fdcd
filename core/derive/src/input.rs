//! The type that an event is derived for, checked.

use proc_macro2::{Span, TokenStream};
use syn::{Data, DeriveInput, Error, Fields, Generics, Ident, Path, Result, Type};

use crate::attributes::{self, OfContainer, OfEvent};
use crate::serde_attributes;

/// An enum or a struct with what its attributes say.
pub(crate) struct Input {
    pub(crate) name: Ident,
    pub(crate) generics: Generics,
    pub(crate) of: OfContainer,
    pub(crate) events: Events,
}

pub(crate) enum Events {
    /// A struct: one event.
    One(Event),
    /// An enum: an event a variant.
    Variants {
        known: Vec<Event>,
        /// The variant for what is not known.
        unknown: Option<Ident>,
    },
}

pub(crate) struct Event {
    /// The variant, or the struct.
    pub(crate) ident: Ident,
    pub(crate) name: String,
    pub(crate) revision: u32,
    /// What serde calls the variant.
    pub(crate) serde_name: String,
    /// Where its event type is given.
    span: Span,
}

pub(crate) fn parse(tokens: TokenStream) -> Result<Input> {
    let input: DeriveInput = syn::parse2(tokens)?;
    let is_struct = matches!(input.data, Data::Struct(_));
    let mut errors = Errors::default();
    let of = attributes::of_container(&input.attrs, is_struct);
    let of = errors.or_default(of);
    errors.note(serde_attributes::check_container(&input.attrs, !is_struct));
    let events = match &input.data {
        Data::Struct(data) => {
            errors.note(check_fields(&data.fields, of.json));
            let event = Event::new(input.ident.clone(), &of.event, None);
            Events::One(errors.or(event, &input.ident))
        }
        Data::Enum(data) => {
            if data.variants.is_empty() {
                errors.note(Err(Error::new_spanned(
                    &input.ident,
                    "an enum without variants has no events; add one",
                )));
            }
            variants(data, &of, &mut errors)
        }
        Data::Union(_) => {
            return Err(Error::new_spanned(
                &input.ident,
                "an event is an enum or a struct; a union cannot be encoded",
            ));
        }
    };
    errors.finish(Input {
        name: input.ident,
        generics: input.generics,
        of,
        events,
    })
}

fn variants(data: &syn::DataEnum, of: &OfContainer, errors: &mut Errors) -> Events {
    let mut known: Vec<Event> = Vec::new();
    let mut unknown = None;
    for variant in &data.variants {
        let of_variant = attributes::of_variant(&variant.attrs);
        let of_variant = errors.or_default(of_variant);
        let keeps = of_variant.keeps_unknown;
        let serde_name = serde_attributes::name_of_variant(&variant.attrs, keeps.is_some());
        let serde_name = errors.or_default(serde_name);
        if let Some(span) = keeps {
            if !holds_raw_event(&variant.fields) {
                errors.note(Err(Error::new(
                    span,
                    format_args!(
                        "write `{}(RawEvent)`: it holds the event as recorded",
                        variant.ident
                    ),
                )));
            } else if let Some(skips) = of.skips_unknown {
                errors.note(Err(Error::new(
                    skips,
                    "unknown events are kept in a variant or skipped, not both; leave one",
                )));
            } else if unknown.is_some() {
                let reason = "only one variant can keep what is not known";
                errors.note(Err(Error::new(span, reason)));
            }
            unknown = Some(variant.ident.clone());
            continue;
        }
        errors.note(check_fields(&variant.fields, of.json));
        let serde_name = serde_name.map(|name| name.value());
        let event = Event::new(variant.ident.clone(), &of_variant, serde_name);
        let event = errors.or(event, &variant.ident);
        if let Some(first) = known.iter().find(|other| other.name == event.name) {
            errors.note(Err(Error::new(
                event.span,
                format_args!(
                    "{:?} is the event type of {} already; give one of them another by \
                     `#[event(type = \"…\")]`",
                    event.name, first.ident
                ),
            )));
        }
        known.push(event);
    }
    if known.is_empty()
        && let Some(unknown) = &unknown
    {
        let reason = "an enum that only keeps what it does not know has no events; add one";
        errors.note(Err(Error::new_spanned(unknown, reason)));
    }
    Events::Variants { known, unknown }
}

impl Event {
    fn new(ident: Ident, of: &OfEvent, serde_name: Option<String>) -> Result<Self> {
        use syn::ext::IdentExt as _;
        let own = ident.unraw().to_string();
        let (name, span) = match &of.event_type {
            Some(given) => (given.value(), given.span()),
            None => (own.clone(), ident.span()),
        };
        attributes::check_type(&name).map_err(|reason| Error::new(span, reason))?;
        Ok(Self {
            ident,
            name,
            revision: of.revision.map_or(1, |(revision, _)| revision),
            serde_name: serde_name.unwrap_or(own),
            span,
        })
    }
}

fn check_fields(fields: &Fields, json: bool) -> Result<()> {
    let mut errors = Errors::default();
    for field in fields {
        errors.note(attributes::none_on_field(&field.attrs));
        errors.note(serde_attributes::check_field(&field.attrs, json));
    }
    errors.finish(())
}

fn holds_raw_event(fields: &Fields) -> bool {
    let Fields::Unnamed(fields) = fields else {
        return false;
    };
    let mut types = fields.unnamed.iter().map(|field| &field.ty);
    let (Some(Type::Path(only)), None) = (types.next(), types.next()) else {
        return false;
    };
    last_is(&only.path, "RawEvent")
}

fn last_is(path: &Path, name: &str) -> bool {
    path.segments.last().is_some_and(|last| last.ident == name)
}

/// All errors of one type, so that they are shown together.
#[derive(Default)]
struct Errors(Option<Error>);

impl Errors {
    fn note(&mut self, result: Result<()>) {
        self.or_default(result);
    }

    fn or_default<T: Default>(&mut self, result: Result<T>) -> T {
        result.unwrap_or_else(|error| {
            self.add(error);
            T::default()
        })
    }

    /// The event, or one that stands for it until the error is shown.
    fn or(&mut self, event: Result<Event>, ident: &Ident) -> Event {
        event.unwrap_or_else(|error| {
            self.add(error);
            Event {
                ident: ident.clone(),
                name: String::new(),
                revision: 1,
                serde_name: String::new(),
                span: ident.span(),
            }
        })
    }

    fn add(&mut self, error: Error) {
        match &mut self.0 {
            Some(all) => all.combine(error),
            none => *none = Some(error),
        }
    }

    fn finish<T>(self, value: T) -> Result<T> {
        match self.0 {
            Some(all) => Err(all),
            None => Ok(value),
        }
    }
}
