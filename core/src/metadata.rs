//! What travels with an event beside its payload: metadata and tags.

use std::collections::BTreeMap;
use std::collections::btree_map;
use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::error::Error;

/// Well-known key: the W3C trace id (32 hex digits) of the request that caused the event.
pub const TRACE_ID: &str = "trace-id";
/// Well-known key: groups everything that belongs to one business conversation.
pub const CORRELATION_ID: &str = "correlation-id";
/// Well-known key: the id of the event or command that caused this event.
pub const CAUSATION_ID: &str = "causation-id";
/// Well-known key: who did it.
pub const ACTOR: &str = "actor";
/// Well-known key: the W3C `traceparent` header as it came, so that it can be passed on.
pub const TRACEPARENT: &str = "traceparent";

/// An ordered map of texts that travels with an event. Cloning is cheap.
///
/// ```
/// use tidelog_core::{CORRELATION_ID, Metadata};
/// let metadata = Metadata::new().with(CORRELATION_ID, "order-7").with("till", "3");
/// assert_eq!(metadata.get("till"), Some("3"));
/// assert_eq!(metadata.iter().next(), Some((CORRELATION_ID, "order-7")));
/// ```
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "BTreeMap<String, String>", into = "BTreeMap<String, String>")]
pub struct Metadata(Option<Arc<BTreeMap<String, String>>>);

impl Metadata {
    /// No metadata; takes no memory.
    pub const fn new() -> Self {
        Self(None)
    }

    /// The same with `key` set to `value`.
    pub fn with(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.insert(key, value);
        self
    }

    /// Sets `key` to `value`, replacing what was there.
    pub fn insert(&mut self, key: impl Into<String>, value: impl Into<String>) {
        let map = self.0.get_or_insert_with(Arc::default);
        Arc::make_mut(map).insert(key.into(), value.into());
    }

    /// The value of `key`.
    pub fn get(&self, key: &str) -> Option<&str> {
        self.0.as_ref()?.get(key).map(String::as_str)
    }

    /// Number of keys.
    pub fn len(&self) -> usize {
        self.0.as_ref().map_or(0, |map| map.len())
    }

    /// Whether there are no keys.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Keys and values, ordered by key.
    pub fn iter(&self) -> MetadataIter<'_> {
        MetadataIter(self.0.as_ref().map(|map| map.iter()))
    }

    /// Bytes of all keys and values together: what the metadata limit counts.
    pub fn size(&self) -> usize {
        self.iter()
            .map(|(key, value)| key.len() + value.len())
            .sum()
    }

    /// Adds the keys of `other` that are not here yet.
    pub fn merge_missing(&mut self, other: &Self) {
        if self.is_empty() {
            self.clone_from(other);
            return;
        }
        for (key, value) in other {
            if self.get(key).is_none() {
                self.insert(key, value);
            }
        }
    }
}

/// Keys and values of a [`Metadata`], ordered by key.
#[derive(Clone, Debug)]
pub struct MetadataIter<'a>(Option<btree_map::Iter<'a, String, String>>);

impl<'a> Iterator for MetadataIter<'a> {
    type Item = (&'a str, &'a str);

    fn next(&mut self) -> Option<Self::Item> {
        self.0
            .as_mut()?
            .next()
            .map(|(key, value)| (key.as_str(), value.as_str()))
    }
}

impl<'a> IntoIterator for &'a Metadata {
    type Item = (&'a str, &'a str);
    type IntoIter = MetadataIter<'a>;

    fn into_iter(self) -> MetadataIter<'a> {
        self.iter()
    }
}

impl From<BTreeMap<String, String>> for Metadata {
    fn from(map: BTreeMap<String, String>) -> Self {
        if map.is_empty() {
            Self(None)
        } else {
            Self(Some(Arc::new(map)))
        }
    }
}

impl From<Metadata> for BTreeMap<String, String> {
    fn from(metadata: Metadata) -> Self {
        metadata.0.map(Arc::unwrap_or_clone).unwrap_or_default()
    }
}

impl<K: Into<String>, V: Into<String>> FromIterator<(K, V)> for Metadata {
    fn from_iter<I: IntoIterator<Item = (K, V)>>(pairs: I) -> Self {
        let map: BTreeMap<String, String> = pairs
            .into_iter()
            .map(|(key, value)| (key.into(), value.into()))
            .collect();
        Self::from(map)
    }
}

impl fmt::Debug for Metadata {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter()).finish()
    }
}

/// A W3C `traceparent` header, version 00: `00-<trace id>-<parent id>-<flags>`.
///
/// Source: W3C Trace Context, section 3.2.
///
/// ```
/// use tidelog_core::TraceParent;
/// let parent: TraceParent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01".parse()?;
/// assert_eq!(parent.trace_id(), "4bf92f3577b34da6a3ce929d0e0e4736");
/// # Ok::<(), tidelog_core::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TraceParent(Box<str>);

impl TraceParent {
    /// The 32 hex digits that all spans of one trace share.
    pub fn trace_id(&self) -> &str {
        self.0.get(3..35).unwrap_or_default()
    }

    /// The 16 hex digits of the calling span.
    pub fn parent_id(&self) -> &str {
        self.0.get(36..52).unwrap_or_default()
    }

    /// The whole header, to be passed on.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl std::str::FromStr for TraceParent {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let bad = |reason: &str| Err(Error::invalid("traceparent", text, reason));
        let mut parts = text.split('-');
        let (Some(version), Some(trace), Some(parent), Some(flags)) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return bad("it needs four parts separated by '-'");
        };
        let is_hex = |part: &str, len: usize| {
            part.len() == len && part.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
        };
        if !is_hex(version, 2) || version == "ff" {
            return bad("its version must be two lower-case hex digits other than ff");
        }
        if version == "00" && parts.next().is_some() {
            return bad("version 00 has exactly four parts");
        }
        if !is_hex(trace, 32) || trace.bytes().all(|b| b == b'0') {
            return bad("its trace id must be 32 lower-case hex digits, not all zero");
        }
        if !is_hex(parent, 16) || parent.bytes().all(|b| b == b'0') {
            return bad("its parent id must be 16 lower-case hex digits, not all zero");
        }
        if !is_hex(flags, 2) {
            return bad("its flags must be two lower-case hex digits");
        }
        Ok(Self(text.into()))
    }
}

/// A set of `key:value` texts by which events are selected across streams. Cloning is cheap.
///
/// ```
/// use tidelog_core::Tags;
/// let tags = Tags::new(["course:c1", "student:s9"])?;
/// assert!(tags.contains("student:s9"));
/// assert!(Tags::new(["no-colon"]).is_err());
/// # Ok::<(), tidelog_core::Error>(())
/// ```
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Vec<String>", into = "Vec<String>")]
pub struct Tags(Option<Arc<[Box<str>]>>);

impl Tags {
    /// Most bytes of one tag.
    pub const MAX_TAG_BYTES: usize = 256;

    /// No tags; takes no memory.
    pub const fn none() -> Self {
        Self(None)
    }

    /// The set of these tags; order and doubles do not matter.
    ///
    /// # Errors
    /// [`Error::InvalidInput`] for one without a key before its first `:`, or with a control
    /// character; [`Error::TooLarge`] for one over 256 bytes.
    pub fn new<T: Into<Box<str>>>(tags: impl IntoIterator<Item = T>) -> Result<Self, Error> {
        let mut tags: Vec<Box<str>> = tags.into_iter().map(Into::into).collect();
        for tag in &tags {
            if tag.len() > Self::MAX_TAG_BYTES {
                return Err(Error::too_large("tag", tag.len(), Self::MAX_TAG_BYTES));
            }
            if !matches!(tag.find(':'), Some(at) if at > 0) {
                return Err(Error::invalid("tag", tag, "it must be written key:value"));
            }
            if tag.chars().any(char::is_control) {
                return Err(Error::invalid(
                    "tag",
                    tag.escape_debug(),
                    "it holds a control character",
                ));
            }
        }
        tags.sort_unstable();
        tags.dedup();
        Ok(if tags.is_empty() {
            Self(None)
        } else {
            Self(Some(tags.into()))
        })
    }

    /// Whether `tag` is among them.
    pub fn contains(&self, tag: &str) -> bool {
        self.as_slice()
            .binary_search_by(|probe| probe.as_ref().cmp(tag))
            .is_ok()
    }

    /// The tags in byte order.
    pub fn as_slice(&self) -> &[Box<str>] {
        self.0.as_deref().unwrap_or_default()
    }

    /// Bytes of all tags together; counted with the metadata.
    pub fn size(&self) -> usize {
        self.as_slice().iter().map(|tag| tag.len()).sum()
    }
}

impl TryFrom<Vec<String>> for Tags {
    type Error = Error;

    fn try_from(tags: Vec<String>) -> Result<Self, Error> {
        Self::new(tags)
    }
}

impl From<Tags> for Vec<String> {
    fn from(tags: Tags) -> Self {
        tags.as_slice().iter().map(ToString::to_string).collect()
    }
}

impl fmt::Debug for Tags {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.as_slice()).finish()
    }
}
