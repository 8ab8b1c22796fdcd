//! What `#[event(…)]` says.

use proc_macro2::Span;
use syn::meta::ParseNestedMeta;
use syn::{Attribute, Error, LitInt, LitStr, Path, Result};

/// Most bytes of an event type; the same as `NewEvent::MAX_TYPE_BYTES`.
const MAX_TYPE_BYTES: usize = 128;

/// The attributes of an enum or a struct.
#[derive(Default)]
pub(crate) struct OfContainer {
    pub(crate) json: bool,
    pub(crate) skips_unknown: Option<Span>,
    pub(crate) upcasters: Option<Path>,
    pub(crate) upcast: Option<Path>,
    pub(crate) tags: Option<Path>,
    pub(crate) path_of_crate: Option<Path>,
    /// Of a struct, which is its own one event.
    pub(crate) event: OfEvent,
}

/// The attributes of one event: of a variant, or of a struct.
#[derive(Default)]
pub(crate) struct OfEvent {
    pub(crate) event_type: Option<LitStr>,
    pub(crate) revision: Option<(u32, Span)>,
    pub(crate) keeps_unknown: Option<Span>,
}

pub(crate) fn of_container(attributes: &[Attribute], is_struct: bool) -> Result<OfContainer> {
    let mut of = OfContainer::default();
    for attribute in named(attributes, "event") {
        attribute.parse_nested_meta(|meta| {
            if meta.path.is_ident("content_type") {
                let value: LitStr = meta.value()?.parse()?;
                of.json = match value.value().as_str() {
                    "json" => true,
                    "postcard" => false,
                    _ => {
                        let reason = "typed events are \"postcard\" or \"json\"";
                        return Err(Error::new(value.span(), reason));
                    }
                };
                Ok(())
            } else if meta.path.is_ident("unknown") {
                if !meta.input.peek(syn::Token![=]) {
                    return Err(meta.error(
                        "write `unknown = \"skip\"` here, or `#[event(unknown)]` on a variant that \
                         holds one RawEvent",
                    ));
                }
                let value: LitStr = meta.value()?.parse()?;
                if value.value() != "skip" {
                    let reason = "it can only be \"skip\"; what is to be kept goes into a variant \
                        with `#[event(unknown)]`";
                    return Err(Error::new(value.span(), reason));
                }
                once(&mut of.skips_unknown, value.span(), &meta)
            } else if meta.path.is_ident("upcasters") {
                let value = path(&meta)?;
                once(&mut of.upcasters, value, &meta)
            } else if meta.path.is_ident("upcast") {
                let value = path(&meta)?;
                once(&mut of.upcast, value, &meta)
            } else if meta.path.is_ident("tags") {
                let value = path(&meta)?;
                once(&mut of.tags, value, &meta)
            } else if meta.path.is_ident("crate") {
                let value = path(&meta)?;
                once(&mut of.path_of_crate, value, &meta)
            } else if is_struct && one_of_event(&mut of.event, &meta)? {
                Ok(())
            } else if meta.path.is_ident("type") || meta.path.is_ident("revision") {
                Err(meta.error("it belongs on a variant; the enum is many events"))
            } else {
                let more = if is_struct { "type, revision, " } else { "" };
                Err(meta.error(format_args!(
                    "unknown key; there are {more}content_type, upcasters, upcast, tags, unknown, \
                     crate"
                )))
            }
        })?;
    }
    Ok(of)
}

pub(crate) fn of_variant(attributes: &[Attribute]) -> Result<OfEvent> {
    let mut of = OfEvent::default();
    for attribute in named(attributes, "event") {
        attribute.parse_nested_meta(|meta| {
            if one_of_event(&mut of, &meta)? {
                Ok(())
            } else if meta.path.is_ident("unknown") {
                let span = meta.path.segments[0].ident.span();
                once(&mut of.keeps_unknown, span, &meta)
            } else {
                Err(meta.error("unknown key on a variant; there are type, revision, unknown"))
            }
        })?;
    }
    if let Some(span) = of.keeps_unknown
        && (of.event_type.is_some() || of.revision.is_some())
    {
        let reason = "what is not known has no type and revision here; leave only `unknown`";
        return Err(Error::new(span, reason));
    }
    Ok(of)
}

/// An error when one of `attributes` is ours: they are of a field, which takes none.
pub(crate) fn none_on_field(attributes: &[Attribute]) -> Result<()> {
    match named(attributes, "event").next() {
        None => Ok(()),
        Some(attribute) => Err(Error::new_spanned(
            attribute,
            "fields take no `#[event(…)]`; it belongs on the variant or on the whole type",
        )),
    }
}

pub(crate) fn named<'a>(
    attributes: &'a [Attribute],
    name: &'a str,
) -> impl Iterator<Item = &'a Attribute> {
    attributes
        .iter()
        .filter(move |attribute| attribute.path().is_ident(name))
}

/// Takes in `type` and `revision`; false for any other key.
fn one_of_event(of: &mut OfEvent, meta: &ParseNestedMeta<'_>) -> Result<bool> {
    if meta.path.is_ident("type") {
        let value: LitStr = meta.value()?.parse()?;
        check_type(&value.value()).map_err(|reason| Error::new(value.span(), reason))?;
        once(&mut of.event_type, value, meta)?;
    } else if meta.path.is_ident("revision") {
        let value: LitInt = meta.value()?.parse()?;
        let revision: u32 = value.base10_parse()?;
        if revision == 0 {
            return Err(Error::new(value.span(), "revisions begin at 1"));
        }
        once(&mut of.revision, (revision, value.span()), meta)?;
    } else {
        return Ok(false);
    }
    Ok(true)
}

pub(crate) fn check_type(name: &str) -> std::result::Result<(), String> {
    if name.is_empty() {
        return Err("an event type has at least one letter".into());
    }
    if name.len() > MAX_TYPE_BYTES {
        return Err(format!(
            "an event type has at most {MAX_TYPE_BYTES} bytes, this one {}",
            name.len()
        ));
    }
    if name.chars().any(char::is_control) {
        return Err("an event type holds no control characters".into());
    }
    if name.starts_with('$') {
        return Err("names that begin with `$` are the library's own".into());
    }
    Ok(())
}

fn path(meta: &ParseNestedMeta<'_>) -> Result<Path> {
    let input = meta.value()?;
    if input.peek(LitStr) {
        return Err(input.error("write the path without quotes"));
    }
    input.call(Path::parse_mod_style)
}

fn once<T>(slot: &mut Option<T>, value: T, meta: &ParseNestedMeta<'_>) -> Result<()> {
    if slot.replace(value).is_some() {
        return Err(meta.error("it is given twice; leave one"));
    }
    Ok(())
}
