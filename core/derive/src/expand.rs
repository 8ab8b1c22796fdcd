//! The implementation that is generated.

use proc_macro2::TokenStream;
use quote::quote;
use syn::Result;

use crate::input::{self, Event, Events, Input};

pub(crate) fn event(tokens: TokenStream) -> Result<TokenStream> {
    let input = input::parse(tokens)?;
    let lib = match &input.of.path_of_crate {
        Some(path) => quote!(#path),
        None => quote!(::tidelog),
    };
    let methods = [
        Some(event_type(&input, &lib)),
        revision(&input),
        input.of.json.then(|| {
            quote! {
                fn content_type(&self) -> #lib::ContentType {
                    #lib::ContentType::Json
                }
            }
        }),
        input.of.tags.as_ref().map(|tags| {
            quote! {
                fn tags(&self) -> #lib::Tags {
                    #tags(self)
                }
            }
        }),
        variant_name(&input),
        Some(types(&input, &lib)),
        input.of.upcasters.as_ref().map(|upcasters| {
            quote! {
                fn upcasters() -> ::core::option::Option<&'static #lib::Upcasters> {
                    ::core::option::Option::Some(#upcasters())
                }
            }
        }),
        input.of.upcast.as_ref().map(|upcast| {
            quote! {
                fn upcast(
                    recorded: &#lib::RecordedEvent<'_>,
                ) -> ::core::result::Result<::core::option::Option<Self>, #lib::Error> {
                    #upcast(recorded)
                }
            }
        }),
        unknown(&input, &lib),
    ];
    let methods = methods.into_iter().flatten();
    let name = &input.name;
    let (generics, of_type, bounds) = input.generics.split_for_impl();
    Ok(quote! {
        #[automatically_derived]
        impl #generics #lib::Event for #name #of_type #bounds {
            #(#methods)*
        }
    })
}

fn event_type(input: &Input, lib: &TokenStream) -> TokenStream {
    let body = match &input.events {
        Events::One(event) => {
            let name = &event.name;
            quote!(#name)
        }
        Events::Variants { known, unknown } => {
            let arms = known.iter().map(|event| {
                let (variant, name) = (&event.ident, &event.name);
                quote!(Self::#variant { .. } => #name,)
            });
            let unknown = unknown
                .as_ref()
                .map(|variant| quote!(Self::#variant { .. } => #lib::RawEvent::TYPE,));
            quote! {
                match self {
                    #(#arms)*
                    #unknown
                }
            }
        }
    };
    quote! {
        fn event_type(&self) -> &'static str {
            #body
        }
    }
}

/// Only where one of them is not 1.
fn revision(input: &Input) -> Option<TokenStream> {
    let body = match &input.events {
        Events::One(event) => {
            let revision = (event.revision > 1).then_some(event.revision)?;
            quote!(#revision)
        }
        Events::Variants { known, unknown } => {
            let raised = known.iter().filter(|event| event.revision > 1);
            let arms: Vec<_> = raised
                .map(|event| {
                    let (variant, revision) = (&event.ident, event.revision);
                    quote!(Self::#variant { .. } => #revision,)
                })
                .collect();
            if arms.is_empty() {
                return None;
            }
            let all = arms.len() == known.len() && unknown.is_none();
            let rest = (!all).then(|| quote!(_ => 1u32,));
            quote! {
                match self {
                    #(#arms)*
                    #rest
                }
            }
        }
    };
    Some(quote! {
        fn revision(&self) -> u32 {
            #body
        }
    })
}

/// Only where an event type is not what serde calls its variant.
fn variant_name(input: &Input) -> Option<TokenStream> {
    let Events::Variants { known, .. } = &input.events else {
        return None;
    };
    let differ = known.iter().filter(|event| event.name != event.serde_name);
    let arms: Vec<_> = differ
        .map(|event| {
            let (name, serde) = (&event.name, &event.serde_name);
            quote!(#name => #serde,)
        })
        .collect();
    if arms.is_empty() {
        return None;
    }
    Some(quote! {
        fn variant_name(event_type: &str) -> &str {
            match event_type {
                #(#arms)*
                other => other,
            }
        }
    })
}

fn types(input: &Input, lib: &TokenStream) -> TokenStream {
    let of = |event: &Event| {
        let (name, revision) = (&event.name, event.revision);
        quote!(#lib::EventType::new(#name, #revision),)
    };
    let types: Vec<_> = match &input.events {
        Events::One(event) => vec![of(event)],
        Events::Variants { known, .. } => known.iter().map(of).collect(),
    };
    quote! {
        fn types() -> &'static [#lib::EventType] {
            const { &[#(#types)*] }
        }
    }
}

fn unknown(input: &Input, lib: &TokenStream) -> Option<TokenStream> {
    let kept = match &input.events {
        Events::Variants { unknown, .. } => unknown.as_ref(),
        Events::One(_) => None,
    };
    let (argument, answer) = match kept {
        Some(variant) => (
            quote!(recorded),
            quote!(#lib::Unknown::Keep(Self::#variant(recorded.to_raw()))),
        ),
        None => {
            input.of.skips_unknown?;
            (quote!(_), quote!(#lib::Unknown::Skip))
        }
    };
    Some(quote! {
        fn unknown(#argument: &#lib::RecordedEvent<'_>) -> #lib::Unknown<Self> {
            #answer
        }
    })
}
