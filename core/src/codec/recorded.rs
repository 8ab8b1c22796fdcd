//! An event as it was recorded, before it is read as one of today.

use bytes::Bytes;
use serde::de::DeserializeOwned;

use crate::clock::Timestamp;
use crate::content_type::ContentType;
use crate::envelope::EventEnvelope;
use crate::error::Error;
use crate::metadata::{Metadata, Tags};
use crate::upcast::RawEvent;

use super::fault::Fault;
use super::{codec_error, postcard_de, read_json, unsupported};

/// An event as it was recorded, for upcasters and [`Event::upcast`](crate::Event::upcast) to read
/// in its old form.
#[derive(Clone, Copy, Debug)]
pub struct RecordedEvent<'a> {
    pub(crate) event_type: &'a str,
    pub(crate) revision: u32,
    pub(crate) content_type: &'a ContentType,
    pub(crate) payload: &'a [u8],
    /// Whether an upcaster made it, and nobody recorded it so.
    pub(crate) made: bool,
    /// What its envelope says beside it, when it is read from one.
    beside: Option<Beside<'a>>,
}

#[derive(Clone, Copy, Debug)]
struct Beside<'a> {
    metadata: &'a Metadata,
    tags: &'a Tags,
    event_time: Timestamp,
}

impl<'a> RecordedEvent<'a> {
    /// An event of which only type, revision and bytes are known.
    pub(crate) fn from_bytes(
        event_type: &'a str,
        revision: u32,
        content_type: &'a ContentType,
        payload: &'a [u8],
    ) -> Self {
        Self {
            event_type,
            revision,
            content_type,
            payload,
            made: false,
            beside: None,
        }
    }

    pub(crate) fn from_envelope(envelope: &'a EventEnvelope) -> Self {
        Self {
            event_type: &envelope.event_type,
            revision: envelope.revision,
            content_type: &envelope.content_type,
            payload: &envelope.event,
            made: false,
            beside: Some(Beside {
                metadata: &envelope.metadata,
                tags: &envelope.tags,
                event_time: envelope.event_time,
            }),
        }
    }

    /// The same record with other contents.
    pub(crate) fn read_as(
        self,
        event_type: &'a str,
        revision: u32,
        payload: &'a [u8],
    ) -> RecordedEvent<'a> {
        Self {
            event_type,
            revision,
            payload,
            ..self
        }
    }

    /// The event type it was recorded with.
    pub fn event_type(&self) -> &str {
        self.event_type
    }

    /// The revision it was recorded with.
    pub fn revision(&self) -> u32 {
        self.revision
    }

    /// Its metadata; `None` when it is decoded from its bytes alone.
    pub fn metadata(&self) -> Option<&'a Metadata> {
        self.beside.map(|beside| beside.metadata)
    }

    /// Its tags; `None` when it is decoded from its bytes alone.
    pub fn tags(&self) -> Option<&'a Tags> {
        self.beside.map(|beside| beside.tags)
    }

    /// When it happened; `None` when it is decoded from its bytes alone.
    pub fn event_time(&self) -> Option<Timestamp> {
        self.beside.map(|beside| beside.event_time)
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

    /// A copy of it as it stands, to be kept.
    pub fn to_raw(&self) -> RawEvent {
        RawEvent {
            event_type: self.event_type.into(),
            revision: self.revision,
            content_type: self.content_type.clone(),
            payload: Bytes::copy_from_slice(self.payload),
        }
    }

    /// An [`Error::Codec`] about this event.
    pub fn refuse(&self, reason: impl std::fmt::Display) -> Error {
        self.error(&Fault::new(reason))
    }

    pub(super) fn error(&self, fault: &Fault) -> Error {
        codec_error("decoding an event", self.event_type, self.revision, fault)
    }
}
