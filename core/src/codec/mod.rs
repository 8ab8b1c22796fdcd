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
mod recorded;
mod rows;

use std::any::TypeId;
use std::sync::Arc;

use bytes::Bytes;
use serde::Serialize;

use crate::aggregate::Aggregate;
use crate::content_type::ContentType;
use crate::error::Error;
use crate::event::Event;
use crate::upcast::{Decoded, RawEvent, Unknown, Upcasters};

use checked::Kind;
use content_de::ContentReader;
use content_ser::ContentWriter;
use fault::Fault;
use json_check::JsonCheck;

pub use recorded::RecordedEvent;
pub(crate) use rows::{RowsOf, decode_row, encode_row};

const STAYS_READABLE: &str = "the fields of a recorded revision must stay as they were: give \
    changed fields a new revision and let an upcaster read the old one";

/// The shared name and the payload of `event`.
pub(crate) fn encode_event<E: Event>(event: &E) -> Result<(Arc<str>, Bytes), Error> {
    let event_type = event.event_type();
    let revision = event.revision();
    let content_type = event.content_type();
    let encode = || {
        if event_type == RawEvent::TYPE {
            return Err(Fault::new(
                "it was kept because this program does not know it; what is not known cannot be \
                 recorded again",
            ));
        }
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
/// [`Error::Codec`] when the event type is unknown, the revision is not the program's own and no
/// upcaster reads it, the bytes are not this event and nothing else, or it is read as none or as
/// several events.
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
    decode_exactly_one(RecordedEvent::from_bytes(
        event_type,
        revision,
        content_type,
        payload,
    ))
}

/// The events of a payload without an envelope around it.
#[cfg(feature = "proptest")]
pub(crate) fn decode_bytes<E: Event>(
    event_type: &str,
    revision: u32,
    content_type: &ContentType,
    payload: &[u8],
) -> Result<Decoded<E>, Error> {
    decode_events(RecordedEvent::from_bytes(
        event_type,
        revision,
        content_type,
        payload,
    ))
}

/// The one event that a record is read as.
#[inline]
pub(crate) fn decode_exactly_one<E: Event>(recorded: RecordedEvent<'_>) -> Result<E, Error> {
    if let Some(upcasters) = steps::<E>(recorded) {
        return exactly_one(recorded, follow(upcasters, recorded)?);
    }
    match decode_today(recorded) {
        Err(error) => exactly_one(recorded, not_of_today(recorded, error)?.into()),
        read => read,
    }
}

/// The events that a record is read as: what all typed reading goes through.
#[inline]
pub(crate) fn decode_events<E: Event>(recorded: RecordedEvent<'_>) -> Result<Decoded<E>, Error> {
    if let Some(upcasters) = steps::<E>(recorded) {
        return follow(upcasters, recorded);
    }
    match decode_today(recorded) {
        Ok(event) => Ok(Decoded::one(event)),
        Err(error) => Ok(not_of_today(recorded, error)?.into()),
    }
}

/// The upcasters of the type, if they have anything to do with this record.
#[inline]
fn steps<E: Event>(recorded: RecordedEvent<'_>) -> Option<&'static Upcasters> {
    E::upcasters().filter(|upcasters| upcasters.concern(recorded.event_type, recorded.revision))
}

fn follow<E: Event>(
    upcasters: &Upcasters,
    recorded: RecordedEvent<'_>,
) -> Result<Decoded<E>, Error> {
    let mut events = Vec::new();
    upcasters.follow(&recorded, &mut |&recorded| {
        match decode_today(recorded) {
            Ok(event) => events.push(event),
            Err(error) => events.extend(not_of_today(recorded, error)?),
        }
        Ok(())
    })?;
    Ok(events.into())
}

#[cold]
fn exactly_one<E>(recorded: RecordedEvent<'_>, decoded: Decoded<E>) -> Result<E, Error> {
    let count = decoded.len();
    decoded.into_one().ok_or_else(|| {
        recorded.refuse(format_args!(
            "it is read as {count} events, where exactly one was asked for; use decode_all"
        ))
    })
}

/// What becomes of a record that could not be read as an event of today: whether it is known is only
/// asked now, so that what is known costs nothing for it.
#[cold]
fn not_of_today<E: Event>(recorded: RecordedEvent<'_>, error: Error) -> Result<Option<E>, Error> {
    let Some(why) = unknown::<E>(recorded) else {
        return Err(error);
    };
    // No newer program has recorded it: passing it over would lose what this one has forgotten to
    // read.
    if recorded.made && E::types().iter().any(|of| of.name == recorded.event_type) {
        return Err(recorded.refuse(
            "an upcaster leads to this revision, and the program's own is lower; raise it",
        ));
    }
    match E::unknown(&recorded) {
        Unknown::Skip => Ok(None),
        Unknown::Keep(event) => Ok(Some(event)),
        Unknown::Fail => Err(recorded.refuse(why)),
    }
}

/// Why this program does not know `recorded`; `None` when it should be able to read it.
fn unknown<E: Event>(recorded: RecordedEvent<'_>) -> Option<String> {
    let types = E::types();
    match types.iter().find(|of| of.name == recorded.event_type) {
        Some(known) if recorded.revision > known.revision => Some(format!(
            "this program knows it up to revision {}; run the newer program, or say in \
             Event::unknown what becomes of it",
            known.revision
        )),
        Some(_) => None,
        None if types.is_empty() => None,
        None => {
            let names: Vec<&str> = types.iter().map(|of| of.name).collect();
            Some(format!(
                "this program knows no such event, only {}; add it, let an upcaster read it, or say \
                 in Event::unknown what becomes of it",
                names.join(", ")
            ))
        }
    }
}

#[inline]
fn decode_today<E: Event>(recorded: RecordedEvent<'_>) -> Result<E, Error> {
    if let Some(event) = E::upcast(&recorded)? {
        return Ok(event);
    }
    let RecordedEvent {
        event_type,
        revision,
        content_type,
        payload,
        ..
    } = recorded;
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
    if found != event_type && (!E::types().is_empty() || E::variant_name(found) != variant) {
        return Err(recorded.error(&Fault::new(format_args!(
            "it was decoded as {found:?}: the program's type has no such event, or serde's \
             untagged chose another; add it, let an upcaster rename it, or map its name in \
             Event::variant_name"
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

/// The fields of an event on its way to today's, as bytes.
pub(crate) fn encode_fields<F: Serialize>(
    event_type: &str,
    revision: u32,
    content_type: &ContentType,
    fields: &F,
) -> Result<Vec<u8>, Error> {
    match content_type {
        ContentType::Postcard => postcard_ser::to_vec(|writer| fields.serialize(writer)),
        ContentType::Json => to_json(fields),
        other => Err(unsupported(other)),
    }
    .map_err(|fault| codec_error("encoding an upcast event", event_type, revision, &fault))
}

fn to_json<F: Serialize>(fields: &F) -> Result<Vec<u8>, Fault> {
    fields.serialize(JsonCheck::default())?;
    Ok(serde_json::to_vec(fields)?)
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
