//! One recorded event as one line of JSON or one message of Kafka, by CloudEvents 1.0, and back
//! without loss.
//!
//! | attribute | what | form |
//! |---|---|---|
//! | `specversion` | – | `"1.0"` |
//! | `id` | event id | UUID |
//! | `source` | the store that recorded it first | `"urn:uuid:…"` |
//! | `type` | event type | text |
//! | `subject` | stream | `"BankAccount/acc-1"` |
//! | `time` | event time | RFC 3339 with microseconds; outside the years 1 to 9999 `eventmicros` instead |
//! | `datacontenttype` | content type | media type |
//! | `sequence`, `revision` | same | decimal text |
//! | `position` | where it stood in the log that recorded it first | decimal text |
//! | `epoch` | the history that this log was in | UUID |
//! | `recordedtime` | when it was recorded there | as `time`, or `recordedmicros` |
//! | `batchindex`, `batchcount` | its place in its append from 0, and how many of it there are | numbers |
//! | `metadata`, `tags` | same, left out when empty | text that holds a JSON object, or an array |
//! | `traceparent` | that of the metadata, for others | text |
//! | `data` | the payload, when it is JSON that stands in one line | as it is |
//! | `data_base64` | any other payload | base64 with padding |
//!
//! Numbers of 64 bits are text, since those of CloudEvents have 32. Equal events make equal lines.
//!
//! Lines of other systems are read as well: `id`, `source`, `type`, a `subject` of the form
//! `type/id`, and `data` suffice. Such an event is new here; attributes that have no place in an
//! event become metadata, `cloudevents-<attribute>`.
//!
//! A message of Kafka has the same attributes, with the same texts, as headers `ce_<attribute>`, and the
//! payload as its value; or its value is the line, without its line break ([`to_message`]).

mod attributes;
mod binding;
mod foreign;
mod headers;
mod own;
mod write;

use crate::envelope::NewEvent;
use crate::error::Error;
use crate::stream_id::StreamId;

use self::attributes::Attributes;
pub use self::binding::{MessageEvent, MessageMode, from_message, to_message};
pub use self::headers::Headers;
pub use self::write::write_line;

/// The place of an event among those of its append that are in one file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchPlace {
    /// From 0.
    pub index: u32,
    /// How many there are.
    pub count: u32,
}

impl BatchPlace {
    /// Of an event that was appended alone.
    pub const ALONE: Self = Self { index: 0, count: 1 };
}

/// What a line says.
#[derive(Clone, Debug, PartialEq)]
pub struct LineEvent {
    /// The stream it belongs to.
    pub stream: StreamId,
    /// Its place there; `None` when the line is of another system.
    pub sequence: Option<u64>,
    /// Its place in its append.
    pub batch: BatchPlace,
    /// The event, with its birth when the line is of a tidelog.
    pub event: NewEvent,
}

/// Reads one line, with or without its line break.
///
/// It is one of a tidelog when its source is a `urn:uuid:` and it has `epoch` and `position`; then
/// every attribute must be what [`write_line`] makes.
///
/// # Errors
/// [`Error::InvalidInput`], naming the attribute.
///
/// ```
/// use tidelog_core::cloudevents::read_line;
///
/// let line = r#"{"specversion":"1.0","id":"A-17","source":"/tills/3","type":"Sold","subject":"Till/3","data":{"article":"tea"}}"#;
/// let sold = read_line(line.as_bytes())?;
/// assert_eq!((sold.stream.as_str(), sold.sequence), ("Till/3", None));
/// assert_eq!(&sold.event.payload[..], br#"{"article":"tea"}"#);
/// assert_eq!(sold.event.metadata.get("cloudevents-source"), Some("/tills/3"));
/// # Ok::<(), tidelog_core::Error>(())
/// ```
pub fn read_line(line: &[u8]) -> Result<LineEvent, Error> {
    let mut attributes = Attributes::read(line)?;
    let version = attributes.text("specversion")?;
    if version != "1.0" {
        return Err(refused("specversion", &version, "only 1.0 is known"));
    }
    let source = attributes.text("source")?;
    let origin = source.strip_prefix("urn:uuid:");
    match origin.and_then(attributes::uuid) {
        Some(origin) if attributes.has("epoch") && attributes.has("position") => {
            own::read(origin, attributes)
        }
        _ => foreign::read(&source, attributes),
    }
}

fn refused(attribute: &str, value: &str, reason: &str) -> Error {
    if value.is_empty() {
        return Error::invalid("attribute", attribute, reason);
    }
    Error::invalid("attribute", format_args!("{attribute}: {value}"), reason)
}
