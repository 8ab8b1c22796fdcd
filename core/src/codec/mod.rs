//! Typed events and states to bytes and back.
//!
//! One law stands above all: a variant's *own fields* are encoded, never the enum around them.
//! The event type, a text in the envelope, picks the variant. postcard numbers variants by their
//! place, so an encoded enum would change its meaning whenever a variant is added in front.

mod checked;
mod content_de;
mod content_ser;
mod fault;
mod json_check;
mod postcard_de;
mod postcard_ser;
mod rows;

use std::any::TypeId;
use std::sync::Arc;

use bytes::Bytes;
use serde::de::DeserializeOwned;

use crate::aggregate::Aggregate;
use crate::content_type::ContentType;
use crate::error::Error;
use crate::event::Event;

use checked::Kind;
use content_de::ContentReader;
use content_ser::ContentWriter;
use fault::Fault;
use json_check::JsonCheck;

pub(crate) use rows::{RowsOf, decode_row, encode_row};

const STAYS_READABLE: &str = "the fields of a recorded revision must stay as they were: give \
    changed fields a new revision and read the old one in Event::upcast";

/// The shared name and the payload of `event`.
pub(crate) fn encode_event<E: Event>(event: &E) -> Result<(Arc<str>, Bytes), Error> {
    let event_type = event.event_type();
    let revision = event.revision();
    let content_type = event.content_type();
    let encode = || {
        let bytes = write_event(event, event_type, &content_type)?;
        let kind = Kind {
            rust_type: TypeId::of::<E>(),
            name: event_type,
            revision,
            json: content_type == ContentType::Json,
        };
        let name = checked::check(kind, &bytes, || {
            let read_back = decode_event::<E>(event_type, revision, &content_type, &bytes)
                .map_err(Fault::new)?;
            write_event(&read_back, event_type, &content_type)
        })?;
        Ok((name, Bytes::from(bytes)))
    };
    encode().map_err(|fault: Fault| codec_error("encoding an event", event_type, revision, &fault))
}

fn write_event<E: Event>(
    event: &E,
    event_type: &str,
    content_type: &ContentType,
) -> Result<Vec<u8>, Fault> {
    let variant = E::variant_name(event_type);
    match content_type {
        ContentType::Postcard => {
            postcard_ser::to_vec(|inner| event.serialize(ContentWriter { inner, variant }))
        }
        ContentType::Json => {
            let inner = JsonCheck::default();
            event.serialize(ContentWriter { inner, variant })?;
            let mut bytes = Vec::with_capacity(128);
            let inner = &mut serde_json::Serializer::new(&mut bytes);
            event.serialize(ContentWriter { inner, variant })?;
            Ok(bytes)
        }
        other => Err(unsupported(other)),
    }
}

/// Decodes the payload of an event as it was recorded.
///
/// Most callers have a whole envelope and use [`EventEnvelope::decode`](crate::EventEnvelope).
///
/// # Errors
/// [`Error::Codec`] when the event type is unknown, the revision is not the program's own and
/// [`Event::upcast`] does not read it, or the bytes are not this event and nothing else.
///
/// ```
/// use serde::{Deserialize, Serialize};
/// use tidelog_core::{ContentType, Event, decode_event};
///
/// #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
/// enum Fact { Deposited { cents: u64 } }
/// impl Event for Fact {
///     fn event_type(&self) -> &'static str { "Deposited" }
/// }
///
/// let payload = br#"{"cents":500}"#;
/// let fact: Fact = decode_event("Deposited", 1, &ContentType::Json, payload)?;
/// assert_eq!(fact, Fact::Deposited { cents: 500 });
/// assert!(decode_event::<Fact>("Withdrawn", 1, &ContentType::Json, payload).is_err());
/// # Ok::<(), tidelog_core::Error>(())
/// ```
pub fn decode_event<E: Event>(
    event_type: &str,
    revision: u32,
    content_type: &ContentType,
    payload: &[u8],
) -> Result<E, Error> {
    let recorded = RecordedEvent {
        event_type,
        revision,
        content_type,
        payload,
    };
    if let Some(event) = E::upcast(&recorded)? {
        return Ok(event);
    }
    let variant = E::variant_name(event_type);
    let event: E = match content_type {
        ContentType::Postcard => postcard_de::from_slice(payload, |inner| {
            E::deserialize(ContentReader { inner, variant })
        }),
        ContentType::Json => read_json(payload, |inner| {
            E::deserialize(ContentReader { inner, variant })
        }),
        other => Err(unsupported(other)),
    }
    .map_err(|fault| recorded.error(&Fault::new(format_args!("{fault}; {STAYS_READABLE}"))))?;

    let found = event.event_type();
    if E::variant_name(found) != variant {
        return Err(recorded.error(&Fault::new(format_args!(
            "it was decoded as {found:?}: the program's type has no such event, or serde's \
             untagged chose another; add it, or map its name in Event::variant_name"
        ))));
    }
    if event.revision() != revision {
        return Err(recorded.error(&Fault::new(format_args!(
            "this program has revision {}; {STAYS_READABLE}",
            event.revision()
        ))));
    }
    Ok(event)
}

/// An event as it was recorded, for [`Event::upcast`] to read in its old form.
#[derive(Clone, Copy, Debug)]
pub struct RecordedEvent<'a> {
    event_type: &'a str,
    revision: u32,
    content_type: &'a ContentType,
    payload: &'a [u8],
}

impl RecordedEvent<'_> {
    /// The event type it was recorded with.
    pub fn event_type(&self) -> &str {
        self.event_type
    }

    /// The revision it was recorded with.
    pub fn revision(&self) -> u32 {
        self.revision
    }

    /// Its payload, read as `T`: a struct with the fields of that revision, in their order then.
    ///
    /// # Errors
    /// [`Error::Codec`] when the payload is not that.
    pub fn fields<T: DeserializeOwned>(&self) -> Result<T, Error> {
        match self.content_type {
            ContentType::Postcard => {
                postcard_de::from_slice(self.payload, |reader| T::deserialize(reader))
            }
            ContentType::Json => read_json(self.payload, |reader| T::deserialize(reader)),
            other => Err(unsupported(other)),
        }
        .map_err(|fault| self.error(&fault))
    }

    /// An [`Error::Codec`] about this event.
    pub fn refuse(&self, reason: impl std::fmt::Display) -> Error {
        self.error(&Fault::new(reason))
    }

    fn error(&self, fault: &Fault) -> Error {
        codec_error("decoding an event", self.event_type, self.revision, fault)
    }
}

fn read_json<'de, T>(
    bytes: &'de [u8],
    read: impl FnOnce(
        &mut serde_json::Deserializer<serde_json::de::SliceRead<'de>>,
    ) -> Result<T, serde_json::Error>,
) -> Result<T, Fault> {
    let mut input = serde_json::Deserializer::from_slice(bytes);
    let value = read(&mut input)?;
    input.end()?;
    Ok(value)
}

fn unsupported(content_type: &ContentType) -> Fault {
    Fault::new(format_args!(
        "typed events are postcard or JSON, not {content_type}; work with its bytes instead"
    ))
}

/// The state of an aggregate for a snapshot: postcard, whole, under its own revision.
pub(crate) fn encode_state<A: Aggregate>(state: &A) -> Result<Bytes, Error> {
    let encode = || {
        let bytes = postcard_ser::to_vec(|writer| state.serialize(writer))?;
        let kind = Kind {
            rust_type: TypeId::of::<A>(),
            name: A::TYPE,
            revision: A::SNAPSHOT_REVISION,
            json: false,
        };
        checked::check(kind, &bytes, || {
            let read_back = postcard_de::from_slice(&bytes, |reader| A::deserialize(reader))?;
            postcard_ser::to_vec(|writer| read_back.serialize(writer))
        })?;
        Ok(Bytes::from(bytes))
    };
    encode().map_err(|fault: Fault| {
        codec_error("encoding a snapshot", A::TYPE, A::SNAPSHOT_REVISION, &fault)
    })
}

/// The state from a snapshot of revision `revision`.
pub(crate) fn decode_state<A: Aggregate>(
    revision: u32,
    content_type: &ContentType,
    bytes: &[u8],
) -> Result<A, Error> {
    let decode = || {
        if revision != A::SNAPSHOT_REVISION {
            return Err(Fault::new(format_args!(
                "this program has revision {}; replay the events instead",
                A::SNAPSHOT_REVISION
            )));
        }
        if *content_type != ContentType::Postcard {
            return Err(Fault::new(format_args!(
                "snapshots are postcard, not {content_type}; replay the events instead"
            )));
        }
        postcard_de::from_slice(bytes, |reader| A::deserialize(reader))
    };
    decode().map_err(|fault| codec_error("decoding a snapshot", A::TYPE, revision, &fault))
}

fn codec_error(what: &'static str, type_name: &str, revision: u32, fault: &Fault) -> Error {
    Error::Codec {
        what,
        type_name: type_name.into(),
        revision,
        recorded: None,
        reason: fault.to_string().into(),
    }
}
