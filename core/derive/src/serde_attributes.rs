//! What `#[serde(…)]` attributes mean for recorded events: the name of a variant, and what could not
//! be read back.

use syn::meta::ParseNestedMeta;
use syn::{Attribute, LitStr, Result, Token, token};

use crate::attributes::named;

const BY_TYPE: &str = "give names by `#[event(type = \"…\")]`";
const NOT_POSTCARD: &str = "postcard cannot read this back; remove it, or record as JSON by \
    `#[event(content_type = \"json\")]`";

pub(crate) fn check_container(attributes: &[Attribute], is_enum: bool) -> Result<()> {
    each(attributes, &mut |meta| {
        let is = |name| meta.path.is_ident(name);
        if is_enum && is("rename_all") {
            return Err(meta.error(format_args!("it renames the variants; {BY_TYPE}")));
        }
        if is_enum && (is("tag") || is("content") || is("untagged")) {
            return Err(meta.error(
                "an event is recorded under its event type, without the enum around it; remove it",
            ));
        }
        skip_value(meta)
    })
}

/// The name that serde gives a variant, when it is not its own.
pub(crate) fn name_of_variant(attributes: &[Attribute], keeps: bool) -> Result<Option<LitStr>> {
    let mut name = None;
    each(attributes, &mut |meta| {
        if meta.path.is_ident("rename") {
            if !meta.input.peek(Token![=]) {
                return Err(meta.error(format_args!(
                    "serde must write and read a variant under one name; {BY_TYPE}"
                )));
            }
            name = Some(meta.value()?.parse::<LitStr>()?);
            return Ok(());
        }
        let lost = ["skip", "skip_serializing", "skip_deserializing"];
        if !keeps && lost.iter().any(|lost| meta.path.is_ident(lost)) {
            return Err(meta.error("such an event could not be recorded and read; remove it"));
        }
        if meta.path.is_ident("other") || meta.path.is_ident("untagged") {
            return Err(meta.error(
                "what the program does not know goes into a variant with `#[event(unknown)]` that \
                 holds one RawEvent",
            ));
        }
        skip_value(meta)
    })?;
    Ok(name)
}

pub(crate) fn check_field(attributes: &[Attribute], json: bool) -> Result<()> {
    each(attributes, &mut |meta| {
        let shifts = [
            "flatten",
            "skip_serializing_if",
            "skip_serializing",
            "skip_deserializing",
        ];
        if !json && shifts.iter().any(|shifts| meta.path.is_ident(shifts)) {
            return Err(meta.error(NOT_POSTCARD));
        }
        skip_value(meta)
    })
}

fn each(
    attributes: &[Attribute],
    see: &mut dyn FnMut(&ParseNestedMeta<'_>) -> Result<()>,
) -> Result<()> {
    for attribute in named(attributes, "serde") {
        attribute.parse_nested_meta(|meta| see(&meta))?;
    }
    Ok(())
}

/// Passes over what stands behind a key that means nothing here.
fn skip_value(meta: &ParseNestedMeta<'_>) -> Result<()> {
    if meta.input.peek(Token![=]) {
        meta.value()?.parse::<syn::Expr>()?;
    } else if meta.input.peek(token::Paren) {
        let inside;
        syn::parenthesized!(inside in meta.input);
        inside.parse::<proc_macro2::TokenStream>()?;
    }
    Ok(())
}
