//! Events that this program does not know: of a type added later, or of a later revision.

use bytes::Bytes;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::content_type::ContentType;

/// An event type with the revision in which a program records it today.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct EventType {
    /// Its name.
    pub name: &'static str,
    /// Its revision of today.
    pub revision: u32,
}

impl EventType {
    /// The event type `name` at `revision`.
    pub const fn new(name: &'static str, revision: u32) -> Self {
        Self { name, revision }
    }
}

/// What becomes of a recorded event that the program does not know.
///
/// Skipping is for read models that need not know everything. An aggregate that skips facts decides
/// on less than the truth: let it fail, or keep them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unknown<E> {
    /// Reading ends with an error that names it.
    Fail,
    /// It is read as no event; its sequence and position stay used.
    Skip,
    /// It is read as this event, which usually holds a [`RawEvent`].
    Keep(E),
}

/// A recorded event that is not decoded: what a variant for unknown events holds.
///
/// An event that holds it has the event type [`RawEvent::TYPE`] and cannot be recorded again: what
/// is not known cannot be decided.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct RawEvent {
    /// The event type it was recorded with.
    pub event_type: Box<str>,
    /// Its revision.
    pub revision: u32,
    /// How its payload is encoded.
    pub content_type: ContentType,
    /// Its payload as it was recorded.
    pub payload: Bytes,
}

impl RawEvent {
    /// The event type of an event that is kept without being known.
    pub const TYPE: &'static str = "$raw";
}

// In states and rows: a tuple of type, revision, media type and payload.
impl Serialize for RawEvent {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let fields = (
            &self.event_type,
            self.revision,
            self.content_type.as_str(),
            &self.payload[..],
        );
        fields.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for RawEvent {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let (event_type, revision, content_type, payload) =
            <(Box<str>, u32, Box<str>, Vec<u8>)>::deserialize(deserializer)?;
        Ok(Self {
            event_type,
            revision,
            content_type: ContentType::parse(&content_type).map_err(serde::de::Error::custom)?,
            payload: payload.into(),
        })
    }
}
