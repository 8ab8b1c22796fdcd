//! Refuses what JSON would take and give back as something else.
//!
//! `NaN` and the infinities become `null`; `Some(None)` and `Some(())` become `null` and come back
//! as `None`; what is nested too deeply is never read again. A look at the value before it is
//! written costs a fraction of writing it.

use serde::ser::{self, Serialize, Serializer};

use super::fault::{Fault, MAX_DEPTH};

/// Walks over a value; answers whether JSON writes it as `null`.
#[derive(Clone, Copy, Default)]
pub(super) struct JsonCheck {
    depth: u8,
}

const NOT_FINITE: &str = "it holds a float that is not finite, which JSON writes as null; leave \
    the value out by an Option or encode as postcard";
const SOME_NULL: &str = "it holds an Option of something that JSON writes as null, so Some would \
    be read back as None; encode as postcard";

impl JsonCheck {
    fn deeper(self, levels: u8) -> Result<Self, Fault> {
        let depth = self.depth + levels;
        if depth > MAX_DEPTH {
            return Err(Fault::too_deep());
        }
        Ok(Self { depth })
    }
}

macro_rules! fine {
    ($($method:ident: $scalar:ty),* $(,)?) => {$(
        fn $method(self, _value: $scalar) -> Result<bool, Fault> {
            Ok(false)
        }
    )*};
}

impl Serializer for JsonCheck {
    type Ok = bool;
    type Error = Fault;
    type SerializeSeq = Self;
    type SerializeTuple = Self;
    type SerializeTupleStruct = Self;
    type SerializeTupleVariant = Self;
    type SerializeMap = Self;
    type SerializeStruct = Self;
    type SerializeStructVariant = Self;

    fine! {
        serialize_bool: bool,
        serialize_i8: i8, serialize_i16: i16, serialize_i32: i32, serialize_i64: i64,
        serialize_i128: i128,
        serialize_u8: u8, serialize_u16: u16, serialize_u32: u32, serialize_u64: u64,
        serialize_u128: u128,
        serialize_char: char, serialize_str: &str, serialize_bytes: &[u8],
    }

    fn serialize_f32(self, value: f32) -> Result<bool, Fault> {
        self.serialize_f64(value.into())
    }

    fn serialize_f64(self, value: f64) -> Result<bool, Fault> {
        if value.is_finite() {
            Ok(false)
        } else {
            Err(Fault::new(NOT_FINITE))
        }
    }

    fn serialize_none(self) -> Result<bool, Fault> {
        Ok(true)
    }

    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<bool, Fault> {
        if value.serialize(self)? {
            Err(Fault::new(SOME_NULL))
        } else {
            Ok(false)
        }
    }

    fn serialize_unit(self) -> Result<bool, Fault> {
        Ok(true)
    }

    fn serialize_unit_struct(self, _name: &'static str) -> Result<bool, Fault> {
        Ok(true)
    }

    fn serialize_unit_variant(
        self,
        _name: &'static str,
        _index: u32,
        _variant: &'static str,
    ) -> Result<bool, Fault> {
        Ok(false)
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(
        self,
        _name: &'static str,
        value: &T,
    ) -> Result<bool, Fault> {
        value.serialize(self)
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _name: &'static str,
        _index: u32,
        _variant: &'static str,
        value: &T,
    ) -> Result<bool, Fault> {
        value.serialize(self.deeper(1)?)?;
        Ok(false)
    }

    fn serialize_seq(self, _length: Option<usize>) -> Result<Self, Fault> {
        self.deeper(1)
    }

    fn serialize_tuple(self, _length: usize) -> Result<Self, Fault> {
        self.deeper(1)
    }

    fn serialize_tuple_struct(self, _name: &'static str, _length: usize) -> Result<Self, Fault> {
        self.deeper(1)
    }

    fn serialize_tuple_variant(
        self,
        _name: &'static str,
        _index: u32,
        _variant: &'static str,
        _length: usize,
    ) -> Result<Self, Fault> {
        self.deeper(2)
    }

    fn serialize_map(self, _length: Option<usize>) -> Result<Self, Fault> {
        self.deeper(1)
    }

    fn serialize_struct(self, _name: &'static str, _length: usize) -> Result<Self, Fault> {
        self.deeper(1)
    }

    fn serialize_struct_variant(
        self,
        _name: &'static str,
        _index: u32,
        _variant: &'static str,
        _length: usize,
    ) -> Result<Self, Fault> {
        self.deeper(2)
    }

    fn collect_str<T: std::fmt::Display + ?Sized>(self, _value: &T) -> Result<bool, Fault> {
        Ok(false)
    }
}

/// All compounds look at each of their values and are never `null` themselves.
macro_rules! compounds {
    ($($compound:ident: $($method:ident($($name:ident: $kind:ty)?)),+;)*) => {$(
        impl ser::$compound for JsonCheck {
            type Ok = bool;
            type Error = Fault;

            $(fn $method<T: Serialize + ?Sized>(
                &mut self,
                $($name: $kind,)?
                value: &T,
            ) -> Result<(), Fault> {
                value.serialize(*self).map(drop)
            })+

            fn end(self) -> Result<bool, Fault> {
                Ok(false)
            }
        }
    )*};
}

compounds! {
    SerializeSeq: serialize_element();
    SerializeTuple: serialize_element();
    SerializeTupleStruct: serialize_field();
    SerializeTupleVariant: serialize_field();
    SerializeMap: serialize_key(), serialize_value();
    SerializeStruct: serialize_field(_field: &'static str);
    SerializeStructVariant: serialize_field(_field: &'static str);
}
