//! The attributes of one line or message, taken out one by one.

use std::borrow::Cow;
use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;
use uuid::Uuid;

use super::refused;
use crate::clock::Timestamp;
use crate::error::Error;
use crate::metadata::{Metadata, Tags};
use crate::stream_id::StreamId;

/// What is left of a line, or of a message's headers, in its order.
pub(super) struct Attributes<'a> {
    left: Vec<(Cow<'a, str>, Value<'a>)>,
    payload: Payload,
}

/// Where the payload stands.
enum Payload {
    /// In attributes of its own.
    Within,
    /// Beside the attributes, if there is one.
    Beside(Option<Bytes>),
}

#[derive(Clone, Copy)]
pub(super) enum Value<'a> {
    Json(&'a RawValue),
    /// Of a header, which says no more of its type.
    Text(&'a str),
}

impl<'a> Value<'a> {
    /// As it stands there.
    pub(super) fn get(self) -> &'a str {
        match self {
            Self::Json(json) => json.get(),
            Self::Text(text) => text,
        }
    }

    /// Text as it is, anything else as its JSON.
    pub(super) fn as_text(self) -> Cow<'a, str> {
        self.text().unwrap_or(Cow::Borrowed(self.get()))
    }

    fn text(self) -> Option<Cow<'a, str>> {
        match self {
            Self::Json(json) => {
                let text = serde_json::from_str::<Text<'a>>(json.get());
                text.ok().map(|Text(text)| text)
            }
            Self::Text(text) => Some(Cow::Borrowed(text)),
        }
    }
}

/// A payload, and whether it stood there as JSON.
pub(super) enum Data<'a> {
    Json(&'a RawValue),
    Bytes(Bytes),
}

impl<'a> Attributes<'a> {
    pub(super) fn read(line: &'a [u8]) -> Result<Self, Error> {
        serde_json::from_slice(line).map_err(|error| {
            let begin = String::from_utf8_lossy(line.get(..40).unwrap_or(line));
            Error::invalid("event line", begin.escape_debug(), error.to_string())
        })
    }

    /// Those of headers, without what their names begin with, and the payload beside them.
    pub(super) fn of_headers(
        headers: Vec<(Cow<'a, str>, &'a str)>,
        payload: Option<Bytes>,
    ) -> Self {
        let headers = headers.into_iter();
        let payload = Payload::Beside(payload);
        let left = headers.map(|(name, text)| (name, Value::Text(text)));
        let left = left.collect();
        Self { left, payload }
    }

    /// Whether they are those of headers.
    pub(super) fn is_of_headers(&self) -> bool {
        matches!(self.payload, Payload::Beside(_))
    }

    pub(super) fn has(&self, name: &str) -> bool {
        self.left.iter().any(|(known, _)| known == name)
    }

    pub(super) fn is_empty_text(&self, name: &str) -> bool {
        let mut all = self.left.iter();
        let found = all.find(|(known, _)| known == name);
        found.is_some_and(|(_, value)| value.text().is_some_and(|text| text.is_empty()))
    }

    /// By the standard an attribute that is null is none; a payload may be.
    pub(super) fn forget_unset(&mut self) {
        self.left.retain(|(name, value)| match value {
            Value::Json(json) => name == "data" || json.get() != "null",
            Value::Text(_) => true,
        });
    }

    pub(super) fn take(&mut self, name: &str) -> Option<Value<'a>> {
        let at = self.left.iter().position(|(known, _)| known == name)?;
        Some(self.left.remove(at).1)
    }

    pub(super) fn optional_text(&mut self, name: &str) -> Result<Option<Cow<'a, str>>, Error> {
        let Some(value) = self.take(name) else {
            return Ok(None);
        };
        match value.text() {
            Some(text) => Ok(Some(text)),
            None => Err(refused(name, value.get(), "it must be text")),
        }
    }

    pub(super) fn text(&mut self, name: &str) -> Result<Cow<'a, str>, Error> {
        self.optional_text(name)?
            .ok_or_else(|| refused(name, "", "it is missing"))
    }

    pub(super) fn uuid(&mut self, name: &str) -> Result<Uuid, Error> {
        let text = self.text(name)?;
        uuid(&text).ok_or_else(|| refused(name, &text, "it must be a UUID in small letters"))
    }

    /// A number in decimal text, in the one form that it is written in.
    pub(super) fn number<N: std::str::FromStr + ToString>(
        &mut self,
        name: &str,
    ) -> Result<N, Error> {
        let text = self.text(name)?;
        number(name, &text)
    }

    /// A JSON number, or one of a header, when it is there.
    pub(super) fn count(&mut self, name: &str) -> Result<Option<u32>, Error> {
        let count = self.take(name).map(|value| match value {
            Value::Json(json) => serde_json::from_str(json.get())
                .map_err(|_| refused(name, json.get(), "it must be a number below 2^32")),
            Value::Text(text) => number(name, text),
        });
        count.transpose()
    }

    /// A time, by `name` or in microseconds by `micros`.
    pub(super) fn time(&mut self, name: &str, micros: &str) -> Result<Option<Timestamp>, Error> {
        if let Some(text) = self.optional_text(name)? {
            let time = chrono::DateTime::parse_from_rfc3339(&text);
            let time = time.map_err(|_| refused(name, &text, "it must be a time by RFC 3339"))?;
            return Ok(Some(Timestamp::from(time.to_utc())));
        }
        let text = self.optional_text(micros)?;
        text.map(|text| number(micros, &text).map(Timestamp::from_micros))
            .transpose()
    }

    pub(super) fn subject(&mut self) -> Result<StreamId, Error> {
        let subject = self.text("subject")?;
        let Some((aggregate_type, aggregate_id)) = subject.split_once('/') else {
            let reason = "it must name a stream, as BankAccount/acc-1";
            return Err(refused("subject", &subject, reason));
        };
        StreamId::new(aggregate_type, aggregate_id)
    }

    pub(super) fn metadata(&mut self) -> Result<Metadata, Error> {
        let Some(text) = self.optional_text("metadata")? else {
            return Ok(Metadata::new());
        };
        let map: Result<std::collections::BTreeMap<String, String>, _> =
            serde_json::from_str(&text);
        let map =
            map.map_err(|_| refused("metadata", &text, "it must hold a JSON object of texts"))?;
        as_written("metadata", &text, &map)?;
        Ok(Metadata::from(map))
    }

    pub(super) fn tags(&mut self) -> Result<Tags, Error> {
        let Some(text) = self.optional_text("tags")? else {
            return Ok(Tags::none());
        };
        let list: Result<Vec<String>, _> = serde_json::from_str(&text);
        let list =
            list.map_err(|_| refused("tags", &text, "it must hold a JSON array of texts"))?;
        let tags = Tags::new(list)?;
        as_written("tags", &text, tags.as_slice())?;
        Ok(tags)
    }

    pub(super) fn data(&mut self) -> Result<Option<Data<'a>>, Error> {
        if let Payload::Beside(payload) = &mut self.payload {
            return Ok(payload.take().map(Data::Bytes));
        }
        let json = self.take("data");
        let base64 = self.optional_text("data_base64")?;
        match (json, base64) {
            (None, None) => Ok(None),
            (Some(Value::Json(json)), None) => Ok(Some(Data::Json(json))),
            // Those of headers were answered above.
            (Some(Value::Text(text)), None) => {
                Ok(Some(Data::Bytes(text.as_bytes().to_vec().into())))
            }
            (None, Some(base64)) => {
                let bytes = STANDARD.decode(base64.as_bytes()).map_err(|_| {
                    let begin: String = base64.chars().take(20).collect();
                    refused("data_base64", &begin, "it must be base64 with padding")
                })?;
                Ok(Some(Data::Bytes(bytes.into())))
            }
            (Some(_), Some(_)) => {
                let reason = "there is data_base64 beside it; which one is the payload?";
                Err(refused("data", "", reason))
            }
        }
    }

    /// What is left.
    pub(super) fn rest(self) -> impl Iterator<Item = (Cow<'a, str>, Value<'a>)> {
        self.left.into_iter()
    }
}

/// In the one form that it is written in.
pub(super) fn uuid(text: &str) -> Option<Uuid> {
    let uuid = Uuid::try_parse(text).ok()?;
    let mut buffer = Uuid::encode_buffer();
    (uuid.hyphenated().encode_lower(&mut buffer) == text).then_some(uuid)
}

/// A key that stands twice would be lost.
fn as_written<T: serde::Serialize + ?Sized>(
    name: &str,
    text: &str,
    value: &T,
) -> Result<(), Error> {
    if serde_json::to_string(value).is_ok_and(|written| written == text) {
        return Ok(());
    }
    let reason = "each must stand in it once, in order and without blanks";
    Err(refused(name, text, reason))
}

fn number<N: std::str::FromStr + ToString>(name: &str, text: &str) -> Result<N, Error> {
    let number = text.parse::<N>().ok();
    number
        .filter(|number| number.to_string() == text)
        .ok_or_else(|| refused(name, text, "it must be a whole number, as text"))
}

/// Borrowed where nothing in it is escaped.
#[derive(Deserialize)]
#[serde(transparent)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

impl<'de> Deserialize<'de> for Attributes<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Line;
        impl<'de> Visitor<'de> for Line {
            type Value = Attributes<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("one event as a JSON object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut attributes: Vec<(Cow<'de, str>, Value<'de>)> = Vec::with_capacity(20);
                while let Some(Text(name)) = map.next_key()? {
                    if attributes.iter().any(|(known, _)| *known == name) {
                        let twice = format!("attribute {name:?} stands twice");
                        return Err(serde::de::Error::custom(twice));
                    }
                    // A line has some twenty; who sends thousands is not to be searched by each.
                    if attributes.len() >= 256 {
                        return Err(serde::de::Error::custom("more than 256 attributes"));
                    }
                    attributes.push((name, Value::Json(map.next_value()?)));
                }
                Ok(Attributes {
                    left: attributes,
                    payload: Payload::Within,
                })
            }
        }
        deserializer.deserialize_map(Line)
    }
}
