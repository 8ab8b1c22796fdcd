//! What is generated, and what a wrong type is answered with.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use proc_macro2::TokenStream;
use quote::quote;

use crate::expand;

fn assert_expands(input: TokenStream, expected: &TokenStream) {
    let found = expand::event(input).unwrap().to_string();
    assert_eq!(found, expected.to_string());
}

/// All messages, in order.
fn refusals(input: TokenStream) -> Vec<String> {
    let errors = expand::event(input).unwrap_err();
    errors.into_iter().map(|error| error.to_string()).collect()
}

#[test]
fn an_enum_without_attributes_needs_two_methods() {
    let input = quote! {
        enum Fact { Opened { holder: String }, Deposited(u64), Closed }
    };
    assert_expands(
        input,
        &quote! {
            #[automatically_derived]
            impl ::tidelog::Event for Fact {
                fn event_type(&self) -> &'static str {
                    match self {
                        Self::Opened { .. } => "Opened",
                        Self::Deposited { .. } => "Deposited",
                        Self::Closed { .. } => "Closed",
                    }
                }
                fn types() -> &'static [::tidelog::EventType] {
                    const { &[
                        ::tidelog::EventType::new("Opened", 1u32),
                        ::tidelog::EventType::new("Deposited", 1u32),
                        ::tidelog::EventType::new("Closed", 1u32),
                    ] }
                }
            }
        },
    );
}

#[test]
fn every_attribute_has_its_method() {
    let input = quote! {
        #[event(content_type = "json", tags = by_holder, upcast = old::read)]
        #[event(upcasters = upcasters, crate = tidelog_core)]
        enum Fact {
            #[event(type = "AccountOpened")]
            Opened { holder: String },
            #[event(revision = 3)]
            #[serde(rename = "paid_in")]
            Deposited { cents: u64 },
            #[event(unknown)]
            Other(tidelog_core::RawEvent),
        }
    };
    assert_expands(
        input,
        &quote! {
            #[automatically_derived]
            impl tidelog_core::Event for Fact {
                fn event_type(&self) -> &'static str {
                    match self {
                        Self::Opened { .. } => "AccountOpened",
                        Self::Deposited { .. } => "Deposited",
                        Self::Other { .. } => tidelog_core::RawEvent::TYPE,
                    }
                }
                fn revision(&self) -> u32 {
                    match self {
                        Self::Deposited { .. } => 3u32,
                        _ => 1u32,
                    }
                }
                fn content_type(&self) -> tidelog_core::ContentType {
                    tidelog_core::ContentType::Json
                }
                fn tags(&self) -> tidelog_core::Tags {
                    by_holder(self)
                }
                fn variant_name(event_type: &str) -> &str {
                    match event_type {
                        "AccountOpened" => "Opened",
                        "Deposited" => "paid_in",
                        other => other,
                    }
                }
                fn types() -> &'static [tidelog_core::EventType] {
                    const { &[
                        tidelog_core::EventType::new("AccountOpened", 1u32),
                        tidelog_core::EventType::new("Deposited", 3u32),
                    ] }
                }
                fn upcasters() -> ::core::option::Option<&'static tidelog_core::Upcasters> {
                    ::core::option::Option::Some(upcasters())
                }
                fn upcast(
                    recorded: &tidelog_core::RecordedEvent<'_>,
                ) -> ::core::result::Result<::core::option::Option<Self>, tidelog_core::Error> {
                    old::read(recorded)
                }
                fn unknown(
                    recorded: &tidelog_core::RecordedEvent<'_>
                ) -> tidelog_core::Unknown<Self> {
                    tidelog_core::Unknown::Keep(Self::Other(recorded.to_raw()))
                }
            }
        },
    );
}

#[test]
fn a_struct_is_one_event() {
    let input = quote! {
        #[event(type = "MoneyDeposited", revision = 2, unknown = "skip")]
        struct Deposited<C> where C: Currency { cents: u64, currency: C }
    };
    assert_expands(
        input,
        &quote! {
            #[automatically_derived]
            impl<C> ::tidelog::Event for Deposited<C> where C: Currency {
                fn event_type(&self) -> &'static str {
                    "MoneyDeposited"
                }
                fn revision(&self) -> u32 {
                    2u32
                }
                fn types() -> &'static [::tidelog::EventType] {
                    const { &[::tidelog::EventType::new("MoneyDeposited", 2u32),] }
                }
                fn unknown(_: &::tidelog::RecordedEvent<'_>) -> ::tidelog::Unknown<Self> {
                    ::tidelog::Unknown::Skip
                }
            }
        },
    );
}

#[test]
fn where_all_revisions_are_raised_no_arm_is_left_over() {
    let input = quote! {
        enum Fact { #[event(revision = 2)] Opened, #[event(revision = 3)] Closed }
    };
    let found = expand::event(input).unwrap().to_string();
    let wanted = quote! {
        match self { Self::Opened { .. } => 2u32, Self::Closed { .. } => 3u32, }
    };
    assert!(found.contains(&wanted.to_string()), "{found}");
}

#[test]
fn a_raw_name_is_an_event_type_without_its_prefix() {
    let found = expand::event(quote! { enum Fact { r#Move } }).unwrap();
    let wanted = quote! { Self::r#Move { .. } => "Move", };
    assert!(found.to_string().contains(&wanted.to_string()), "{found}");
}

#[test]
fn functions_of_the_type_itself_can_be_named() {
    let found = expand::event(quote! { #[event(tags = Self::by_holder)] struct Opened; }).unwrap();
    let wanted = quote! { Self::by_holder(self) };
    assert!(found.to_string().contains(&wanted.to_string()), "{found}");
}

#[test]
fn two_variants_of_one_type_are_refused() {
    let input = quote! {
        enum Fact { Opened, #[event(type = "Opened")] Reopened }
    };
    assert_eq!(
        refusals(input),
        [
            "\"Opened\" is the event type of Opened already; give one of them another by \
          `#[event(type = \"…\")]`"
        ]
    );
}

#[test]
fn impossible_event_types_are_refused() {
    let long = "x".repeat(129);
    let input = quote! {
        enum Fact {
            #[event(type = "")] A,
            #[event(type = #long)] B,
            #[event(type = "a\nb")] C,
            #[event(type = "$raw")] D,
        }
    };
    assert_eq!(
        refusals(input),
        [
            "an event type has at least one letter",
            "an event type has at most 128 bytes, this one 129",
            "an event type holds no control characters",
            "names that begin with `$` are the library's own",
        ]
    );
}

#[test]
fn revisions_begin_at_1() {
    let input = quote! { enum Fact { #[event(revision = 0)] A } };
    assert_eq!(refusals(input), ["revisions begin at 1"]);
}

#[test]
fn types_that_cannot_be_events_are_refused() {
    assert_eq!(
        refusals(quote! { enum Fact {} }),
        ["an enum without variants has no events; add one"]
    );
    assert_eq!(
        refusals(quote! { union Fact { a: u8, b: i8 } }),
        ["an event is an enum or a struct; a union cannot be encoded"]
    );
    assert_eq!(
        refusals(quote! { enum Fact { #[event(unknown)] Other(RawEvent) } }),
        ["an enum that only keeps what it does not know has no events; add one"]
    );
}

#[test]
fn unknown_keys_are_refused_with_those_there_are() {
    assert_eq!(
        refusals(quote! { #[event(codec = "json")] enum Fact { A } }),
        ["unknown key; there are content_type, upcasters, upcast, tags, unknown, crate"]
    );
    assert_eq!(
        refusals(quote! { #[event(codec = "json")] struct Fact; }),
        [
            "unknown key; there are type, revision, content_type, upcasters, upcast, tags, unknown, \
          crate"
        ]
    );
    assert_eq!(
        refusals(quote! { enum Fact { #[event(name = "A")] A } }),
        ["unknown key on a variant; there are type, revision, unknown"]
    );
    assert_eq!(
        refusals(quote! { #[event(revision = 2)] enum Fact { A } }),
        ["it belongs on a variant; the enum is many events"]
    );
    assert_eq!(
        refusals(quote! { struct Fact { #[event(revision = 2)] cents: u64 } }),
        ["fields take no `#[event(…)]`; it belongs on the variant or on the whole type"]
    );
}

#[test]
fn wrong_values_are_refused() {
    assert_eq!(
        refusals(quote! { #[event(content_type = "xml")] enum Fact { A } }),
        ["typed events are \"postcard\" or \"json\""]
    );
    assert_eq!(
        refusals(quote! { #[event(unknown = "keep")] enum Fact { A } }),
        [
            "it can only be \"skip\"; what is to be kept goes into a variant with \
          `#[event(unknown)]`"
        ]
    );
    assert_eq!(
        refusals(quote! { #[event(unknown)] enum Fact { A } }),
        [
            "write `unknown = \"skip\"` here, or `#[event(unknown)]` on a variant that holds one \
          RawEvent"
        ]
    );
    assert_eq!(
        refusals(quote! { #[event(tags = "by_holder")] enum Fact { A } }),
        ["write the path without quotes"]
    );
    assert_eq!(
        refusals(quote! { enum Fact { #[event(revision = 2, revision = 3)] A } }),
        ["it is given twice; leave one"]
    );
}

#[test]
fn a_variant_that_keeps_what_is_unknown_holds_one_raw_event() {
    let wrong = [
        quote! { Other },
        quote! { Other(String) },
        quote! { Other(RawEvent, u8) },
        quote! { Other { raw: RawEvent } },
    ];
    for variant in wrong {
        assert_eq!(
            refusals(quote! { enum Fact { A, #[event(unknown)] #variant } }),
            ["write `Other(RawEvent)`: it holds the event as recorded"],
            "{variant}"
        );
    }
    assert_eq!(
        refusals(quote! {
            enum Fact { A, #[event(unknown)] B(RawEvent), #[event(unknown)] C(RawEvent) }
        }),
        ["only one variant can keep what is not known"]
    );
    assert_eq!(
        refusals(quote! {
            #[event(unknown = "skip")]
            enum Fact { A, #[event(unknown)] B(RawEvent) }
        }),
        ["unknown events are kept in a variant or skipped, not both; leave one"]
    );
    assert_eq!(
        refusals(quote! { enum Fact { A, #[event(unknown, revision = 2)] B(RawEvent) } }),
        ["what is not known has no type and revision here; leave only `unknown`"]
    );
}

#[test]
fn serde_attributes_that_lose_the_variant_are_refused() {
    let whole = "an event is recorded under its event type, without the enum around it; remove it";
    let names = "it renames the variants; give names by `#[event(type = \"…\")]`";
    let cases = [
        (quote!(tag = "t"), whole),
        (quote!(untagged), whole),
        (quote!(rename_all = "snake_case"), names),
    ];
    for (attribute, reason) in cases {
        for json in [quote!(), quote!(#[event(content_type = "json")])] {
            let input = quote! { #json #[serde(#attribute)] enum Fact { A } };
            assert_eq!(refusals(input), [reason], "{attribute}");
        }
    }
    let adjacent = quote! { #[serde(tag = "t", content = "c")] enum Fact { A } };
    assert_eq!(refusals(adjacent), [whole]);

    let lost = "such an event could not be recorded and read; remove it";
    let unknown = "what the program does not know goes into a variant with `#[event(unknown)]` \
        that holds one RawEvent";
    let one_name = "serde must write and read a variant under one name; give names by \
        `#[event(type = \"…\")]`";
    let cases = [
        (quote!(skip), lost),
        (quote!(skip_deserializing), lost),
        (quote!(other), unknown),
        (quote!(untagged), unknown),
        (quote!(rename(serialize = "a", deserialize = "b")), one_name),
    ];
    for (attribute, reason) in cases {
        let input = quote! { enum Fact { #[serde(#attribute)] A } };
        assert_eq!(refusals(input), [reason], "{attribute}");
    }
}

#[test]
fn serde_attributes_that_leave_fields_out_are_refused_with_postcard_alone() {
    let reason = "postcard cannot read this back; remove it, or record as JSON by \
        `#[event(content_type = \"json\")]`";
    let attributes = [
        quote!(flatten),
        quote!(default, skip_serializing_if = "Option::is_none"),
        quote!(skip_serializing),
        quote!(skip_deserializing),
    ];
    for attribute in attributes {
        let fact = quote! { enum Fact { A { #[serde(#attribute)] note: Option<u8> } } };
        assert_eq!(refusals(fact.clone()), [reason], "{attribute}");
        expand::event(quote! { #[event(content_type = "json")] #fact }).unwrap();
    }
}

#[test]
fn other_serde_attributes_are_passed_over() {
    let input = quote! {
        #[serde(rename_all_fields = "camelCase", bound(serialize = "", deserialize = ""))]
        enum Fact { A { #[serde(default = "one", with = "cents", rename = "c")] cents: u64 } }
    };
    expand::event(input).unwrap();
    expand::event(quote! { #[serde(rename_all = "camelCase")] struct Fact { cents: u64 } })
        .unwrap();
}

#[test]
fn all_errors_of_a_type_are_shown_at_once() {
    let input = quote! {
        #[serde(untagged)]
        enum Fact { #[event(revision = 0)] A, #[event(type = "")] B }
    };
    assert_eq!(refusals(input).len(), 3);
}

#[test]
fn each_message_points_at_what_is_wrong() {
    let cases = [
        (
            "enum Fact { Opened, #[event(type = \"Opened\")] Reopened }",
            "\"Opened\"",
        ),
        ("enum Fact { Opened, Opened }", "Opened"),
        ("enum Fact { #[event(type = \"\")] A }", "\"\""),
        ("enum Fact { #[event(revision = 0)] A }", "0"),
        ("enum Fact { #[event(name = \"A\")] A }", "name"),
        (
            "#[event(content_type = \"xml\")] enum Fact { A }",
            "\"xml\"",
        ),
        ("enum Fact {}", "Fact"),
        ("union Fact { a: u8 }", "Fact"),
        ("enum Fact { A, #[event(unknown)] B(String) }", "unknown"),
        ("#[serde(untagged)] enum Fact { A }", "untagged"),
        ("enum Fact { A { #[serde(flatten)] rest: u8 } }", "flatten"),
        (
            "struct Fact { #[event(revision = 2)] a: u8 }",
            "#[event(revision = 2)]",
        ),
    ];
    for (source, wrong) in cases {
        let error = expand::event(source.parse().unwrap()).unwrap_err();
        assert_eq!(
            error.span().source_text().as_deref(),
            Some(wrong),
            "{source}: {error}"
        );
    }
}
