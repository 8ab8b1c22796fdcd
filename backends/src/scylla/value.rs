//! A value for a statement, of whichever type its column has.

use scylla::cluster::metadata::ColumnType;
use scylla::errors::SerializationError;
use scylla::serialize::value::SerializeValue;
use scylla::serialize::writers::{CellWriter, WrittenCellProof};
use scylla::value::Unset;
use uuid::Uuid;

/// A value for a statement.
#[derive(Clone, Debug)]
pub(crate) enum Value<'a> {
    Text(&'a str),
    Owned(String),
    Big(i64),
    Int(i32),
    Tiny(i8),
    Uuid(Uuid),
    Blob(&'a [u8]),
    /// Leaves the column as it is. (Null would write a tombstone.)
    Unset,
}

impl Value<'_> {
    /// A sequence, position or number. Those above `i64::MAX` come back as they were: both ways
    /// wrap.
    pub(crate) const fn of(number: u64) -> Self {
        Self::Big(number.cast_signed())
    }

    /// The highest of numbers at most `number` that are compared by the server.
    pub(crate) fn bound(number: u64) -> Self {
        Self::Big(i64::try_from(number).unwrap_or(i64::MAX))
    }

    /// `value`, or nothing.
    pub(crate) fn set(value: Option<Self>) -> Self {
        value.unwrap_or(Self::Unset)
    }
}

impl SerializeValue for Value<'_> {
    fn serialize<'b>(
        &self,
        typ: &ColumnType<'_>,
        writer: CellWriter<'b>,
    ) -> Result<WrittenCellProof<'b>, SerializationError> {
        match self {
            Self::Text(text) => text.serialize(typ, writer),
            Self::Owned(text) => text.serialize(typ, writer),
            Self::Big(number) => number.serialize(typ, writer),
            Self::Int(number) => number.serialize(typ, writer),
            Self::Tiny(number) => number.serialize(typ, writer),
            Self::Uuid(id) => id.serialize(typ, writer),
            Self::Blob(bytes) => bytes.serialize(typ, writer),
            Self::Unset => Unset.serialize(typ, writer),
        }
    }
}
