//! Writes postcard and refuses what postcard could not read back.
//!
//! postcard does not describe itself: a field left out, or a map without a length, shifts all that
//! follows. The wrapper goes down into every nested value, so nothing is left out anywhere.

use postcard::ser_flavors::ExtendFlavor;
use serde::ser::{self, Serialize, Serializer};

use super::fault::{Fault, MAX_DEPTH};

type Out = postcard::Serializer<ExtendFlavor<Vec<u8>>>;

const LEFT_OUT: &str = "serde leaves the field out (skip_serializing_if), which postcard cannot \
    read back; remove that attribute or encode as JSON";
const UNKNOWN_LENGTH: &str = "it is a map or a sequence of unknown length (serde's flatten makes \
    one), which postcard cannot write; remove that attribute or encode as JSON";
const ADJACENT_TAG: &str = "it is an adjacently tagged enum (serde's tag and content), whose tag \
    postcard writes as a place in the enum; remove these attributes or encode as JSON";

/// Encodes by `write`, which gets the serializer for the outermost value.
pub(super) fn to_vec(
    write: impl FnOnce(PostcardWriter<'_>) -> Result<(), Fault>,
) -> Result<Vec<u8>, Fault> {
    let mut out = Out {
        output: ExtendFlavor::new(Vec::with_capacity(64)),
    };
    write(PostcardWriter {
        out: &mut out,
        within: "",
        depth: 0,
    })?;
    Ok(postcard::ser_flavors::Flavor::finalize(out.output)?)
}

/// A serializer, and at the same time the compound it is in the middle of.
pub(super) struct PostcardWriter<'a> {
    out: &'a mut Out,
    /// Name of the struct whose field is being written; how an adjacently tagged enum is known.
    within: &'static str,
    depth: u8,
}

impl PostcardWriter<'_> {
    fn deeper(self, within: &'static str) -> Result<Self, Fault> {
        if self.depth == MAX_DEPTH {
            return Err(Fault::too_deep());
        }
        Ok(Self {
            depth: self.depth + 1,
            within,
            out: self.out,
        })
    }

    fn write<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Fault> {
        value.serialize(PostcardWriter {
            out: &mut *self.out,
            within: self.within,
            depth: self.depth,
        })
    }

    fn with_length(self, length: Option<usize>) -> Result<Self, Fault> {
        let length = length.ok_or_else(|| Fault::new(UNKNOWN_LENGTH))?;
        self.out.serialize_u64(length as u64)?;
        self.deeper("")
    }

    fn variant(self, index: u32) -> Result<Self, Fault> {
        self.out.serialize_u32(index)?;
        self.deeper("")
    }
}

/// Scalars stand alone: postcard itself writes them.
macro_rules! scalars {
    ($($method:ident: $scalar:ty),* $(,)?) => {$(
        fn $method(self, value: $scalar) -> Result<(), Fault> {
            Ok(self.out.$method(value)?)
        }
    )*};
}

impl Serializer for PostcardWriter<'_> {
    type Ok = ();
    type Error = Fault;
    type SerializeSeq = Self;
    type SerializeTuple = Self;
    type SerializeTupleStruct = Self;
    type SerializeTupleVariant = Self;
    type SerializeMap = Self;
    type SerializeStruct = Self;
    type SerializeStructVariant = Self;

    scalars! {
        serialize_bool: bool,
        serialize_i8: i8, serialize_i16: i16, serialize_i32: i32, serialize_i64: i64,
        serialize_i128: i128,
        serialize_u8: u8, serialize_u16: u16, serialize_u32: u32, serialize_u64: u64,
        serialize_u128: u128,
        serialize_f32: f32, serialize_f64: f64, serialize_char: char,
        serialize_str: &str, serialize_bytes: &[u8],
        serialize_unit_struct: &'static str,
    }

    fn serialize_none(self) -> Result<(), Fault> {
        Ok(self.out.serialize_none()?)
    }

    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<(), Fault> {
        self.out.serialize_u8(1)?;
        self.deeper("")?.write(value)
    }

    fn serialize_unit(self) -> Result<(), Fault> {
        Ok(())
    }

    fn serialize_unit_variant(
        self,
        name: &'static str,
        index: u32,
        _variant: &'static str,
    ) -> Result<(), Fault> {
        if name == self.within {
            return Err(Fault::new(ADJACENT_TAG));
        }
        self.variant(index).map(drop)
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(
        self,
        _name: &'static str,
        value: &T,
    ) -> Result<(), Fault> {
        self.deeper("")?.write(value)
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _name: &'static str,
        index: u32,
        _variant: &'static str,
        value: &T,
    ) -> Result<(), Fault> {
        self.variant(index)?.write(value)
    }

    fn serialize_seq(self, length: Option<usize>) -> Result<Self, Fault> {
        self.with_length(length)
    }

    fn serialize_tuple(self, _length: usize) -> Result<Self, Fault> {
        self.deeper("")
    }

    fn serialize_tuple_struct(self, _name: &'static str, _length: usize) -> Result<Self, Fault> {
        self.deeper("")
    }

    fn serialize_tuple_variant(
        self,
        _name: &'static str,
        index: u32,
        _variant: &'static str,
        _length: usize,
    ) -> Result<Self, Fault> {
        self.variant(index)
    }

    fn serialize_map(self, length: Option<usize>) -> Result<Self, Fault> {
        self.with_length(length)
    }

    fn serialize_struct(self, name: &'static str, _length: usize) -> Result<Self, Fault> {
        self.deeper(name)
    }

    fn serialize_struct_variant(
        self,
        _name: &'static str,
        index: u32,
        _variant: &'static str,
        _length: usize,
    ) -> Result<Self, Fault> {
        self.variant(index)
    }

    fn collect_str<T: std::fmt::Display + ?Sized>(self, value: &T) -> Result<(), Fault> {
        Ok(self.out.collect_str(value)?)
    }

    fn is_human_readable(&self) -> bool {
        false
    }
}

impl ser::SerializeSeq for PostcardWriter<'_> {
    type Ok = ();
    type Error = Fault;

    fn serialize_element<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Fault> {
        self.write(value)
    }

    fn end(self) -> Result<(), Fault> {
        Ok(())
    }
}

impl ser::SerializeTuple for PostcardWriter<'_> {
    type Ok = ();
    type Error = Fault;

    fn serialize_element<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Fault> {
        self.write(value)
    }

    fn end(self) -> Result<(), Fault> {
        Ok(())
    }
}

impl ser::SerializeTupleStruct for PostcardWriter<'_> {
    type Ok = ();
    type Error = Fault;

    fn serialize_field<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Fault> {
        self.write(value)
    }

    fn end(self) -> Result<(), Fault> {
        Ok(())
    }
}

impl ser::SerializeTupleVariant for PostcardWriter<'_> {
    type Ok = ();
    type Error = Fault;

    fn serialize_field<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Fault> {
        self.write(value)
    }

    fn end(self) -> Result<(), Fault> {
        Ok(())
    }
}

impl ser::SerializeMap for PostcardWriter<'_> {
    type Ok = ();
    type Error = Fault;

    fn serialize_key<T: Serialize + ?Sized>(&mut self, key: &T) -> Result<(), Fault> {
        self.write(key)
    }

    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Fault> {
        self.write(value)
    }

    fn end(self) -> Result<(), Fault> {
        Ok(())
    }
}

impl ser::SerializeStruct for PostcardWriter<'_> {
    type Ok = ();
    type Error = Fault;

    fn serialize_field<T: Serialize + ?Sized>(
        &mut self,
        _field: &'static str,
        value: &T,
    ) -> Result<(), Fault> {
        self.write(value)
    }

    fn skip_field(&mut self, field: &'static str) -> Result<(), Fault> {
        Err(Fault::new(format_args!("field {field:?}: {LEFT_OUT}")))
    }

    fn end(self) -> Result<(), Fault> {
        Ok(())
    }
}

impl ser::SerializeStructVariant for PostcardWriter<'_> {
    type Ok = ();
    type Error = Fault;

    fn serialize_field<T: Serialize + ?Sized>(
        &mut self,
        _field: &'static str,
        value: &T,
    ) -> Result<(), Fault> {
        self.write(value)
    }

    fn skip_field(&mut self, field: &'static str) -> Result<(), Fault> {
        Err(Fault::new(format_args!("field {field:?}: {LEFT_OUT}")))
    }

    fn end(self) -> Result<(), Fault> {
        Ok(())
    }
}
