//! Reads postcard and says in words what it cannot read.

use postcard::de_flavors::Slice;
use serde::Deserialize;
use serde::de::value::U32Deserializer;
use serde::de::{
    DeserializeSeed, Deserializer, EnumAccess, MapAccess, SeqAccess, VariantAccess, Visitor,
};

use super::fault::{Fault, MAX_DEPTH};

type Input<'de> = postcard::Deserializer<'de, Slice<'de>>;

const NOT_DESCRIBED: &str = "serde asks the bytes what they are (untagged, internally tagged and \
    flattened types do, and serde_json::Value), which postcard does not record; remove that \
    attribute or encode as JSON";

/// Decodes all of `bytes` by `read`, which gets the deserializer for the outermost value.
pub(super) fn from_slice<'de, T>(
    bytes: &'de [u8],
    read: impl FnOnce(PostcardReader<'_, 'de>) -> Result<T, Fault>,
) -> Result<T, Fault> {
    let mut input = Input::from_bytes(bytes);
    let value = read(PostcardReader {
        input: &mut input,
        depth: 0,
    })?;
    match input.finalize()?.len() {
        0 => Ok(value),
        left => Err(Fault::new(format_args!("{left} bytes are left over"))),
    }
}

/// A deserializer, and at the same time the compound it is in the middle of.
pub(super) struct PostcardReader<'a, 'de> {
    input: &'a mut Input<'de>,
    depth: u8,
}

impl<'a, 'de> PostcardReader<'a, 'de> {
    fn deeper(self) -> Result<Self, Fault> {
        if self.depth == MAX_DEPTH {
            return Err(Fault::too_deep());
        }
        Ok(Self {
            depth: self.depth + 1,
            input: self.input,
        })
    }

    fn again(&mut self) -> PostcardReader<'_, 'de> {
        PostcardReader {
            input: &mut *self.input,
            depth: self.depth,
        }
    }

    fn scalar<T: Deserialize<'de>>(&mut self) -> Result<T, Fault> {
        Ok(T::deserialize(&mut *self.input)?)
    }

    fn length(&mut self) -> Result<usize, Fault> {
        usize::try_from(self.scalar::<u64>()?).map_err(Fault::new)
    }

    fn elements(self, left: usize) -> Result<Elements<'a, 'de>, Fault> {
        Ok(Elements {
            reader: self.deeper()?,
            left,
        })
    }
}

/// Scalars are read first and shown then, so that what the type says to them is not lost.
macro_rules! scalars {
    ($($method:ident: $scalar:ty => $visit:ident),* $(,)?) => {$(
        fn $method<V: Visitor<'de>>(mut self, visitor: V) -> Result<V::Value, Fault> {
            let value = self.scalar::<$scalar>()?;
            visitor.$visit(value)
        }
    )*};
}

impl<'de> Deserializer<'de> for PostcardReader<'_, 'de> {
    type Error = Fault;

    scalars! {
        deserialize_bool: bool => visit_bool,
        deserialize_i8: i8 => visit_i8, deserialize_i16: i16 => visit_i16,
        deserialize_i32: i32 => visit_i32, deserialize_i64: i64 => visit_i64,
        deserialize_i128: i128 => visit_i128,
        deserialize_u8: u8 => visit_u8, deserialize_u16: u16 => visit_u16,
        deserialize_u32: u32 => visit_u32, deserialize_u64: u64 => visit_u64,
        deserialize_u128: u128 => visit_u128,
        deserialize_f32: f32 => visit_f32, deserialize_f64: f64 => visit_f64,
        deserialize_char: char => visit_char,
        deserialize_str: &'de str => visit_borrowed_str,
        deserialize_string: &'de str => visit_borrowed_str,
        deserialize_bytes: &'de [u8] => visit_borrowed_bytes,
        deserialize_byte_buf: &'de [u8] => visit_borrowed_bytes,
    }

    fn deserialize_any<V: Visitor<'de>>(self, _visitor: V) -> Result<V::Value, Fault> {
        Err(Fault::new(NOT_DESCRIBED))
    }

    fn deserialize_identifier<V: Visitor<'de>>(self, _visitor: V) -> Result<V::Value, Fault> {
        Err(Fault::new(NOT_DESCRIBED))
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, _visitor: V) -> Result<V::Value, Fault> {
        Err(Fault::new(NOT_DESCRIBED))
    }

    fn deserialize_option<V: Visitor<'de>>(mut self, visitor: V) -> Result<V::Value, Fault> {
        match self.scalar::<u8>()? {
            0 => visitor.visit_none(),
            1 => visitor.visit_some(self.deeper()?),
            _ => Err(postcard::Error::DeserializeBadOption.into()),
        }
    }

    fn deserialize_unit<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        visitor.visit_unit()
    }

    fn deserialize_unit_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Fault> {
        visitor.visit_unit()
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Fault> {
        visitor.visit_newtype_struct(self.deeper()?)
    }

    fn deserialize_seq<V: Visitor<'de>>(mut self, visitor: V) -> Result<V::Value, Fault> {
        let length = self.length()?;
        visitor.visit_seq(self.elements(length)?)
    }

    fn deserialize_tuple<V: Visitor<'de>>(
        self,
        length: usize,
        visitor: V,
    ) -> Result<V::Value, Fault> {
        visitor.visit_seq(self.elements(length)?)
    }

    fn deserialize_tuple_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        length: usize,
        visitor: V,
    ) -> Result<V::Value, Fault> {
        visitor.visit_seq(self.elements(length)?)
    }

    fn deserialize_map<V: Visitor<'de>>(mut self, visitor: V) -> Result<V::Value, Fault> {
        let length = self.length()?;
        visitor.visit_map(self.elements(length)?)
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Fault> {
        visitor.visit_seq(self.elements(fields.len())?)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _name: &'static str,
        _variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Fault> {
        visitor.visit_enum(self.deeper()?)
    }

    fn is_human_readable(&self) -> bool {
        false
    }
}

/// The elements of a sequence, or the entries of a map, that are still to come.
struct Elements<'a, 'de> {
    reader: PostcardReader<'a, 'de>,
    left: usize,
}

impl<'de> SeqAccess<'de> for Elements<'_, 'de> {
    type Error = Fault;

    fn next_element_seed<T: DeserializeSeed<'de>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, Fault> {
        if self.left == 0 {
            return Ok(None);
        }
        self.left -= 1;
        seed.deserialize(self.reader.again()).map(Some)
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.left)
    }
}

impl<'de> MapAccess<'de> for Elements<'_, 'de> {
    type Error = Fault;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, Fault> {
        self.next_element_seed(seed)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Fault> {
        seed.deserialize(self.reader.again())
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.left)
    }
}

impl<'de> EnumAccess<'de> for PostcardReader<'_, 'de> {
    type Error = Fault;
    type Variant = Self;

    fn variant_seed<V: DeserializeSeed<'de>>(mut self, seed: V) -> Result<(V::Value, Self), Fault> {
        let index = self.scalar::<u32>()?;
        let variant = seed.deserialize(U32Deserializer::<Fault>::new(index))?;
        Ok((variant, self))
    }
}

impl<'de> VariantAccess<'de> for PostcardReader<'_, 'de> {
    type Error = Fault;

    fn unit_variant(self) -> Result<(), Fault> {
        Ok(())
    }

    fn newtype_variant_seed<T: DeserializeSeed<'de>>(self, seed: T) -> Result<T::Value, Fault> {
        seed.deserialize(self)
    }

    fn tuple_variant<V: Visitor<'de>>(self, length: usize, visitor: V) -> Result<V::Value, Fault> {
        visitor.visit_seq(Elements {
            reader: self,
            left: length,
        })
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Fault> {
        self.tuple_variant(fields.len(), visitor)
    }
}
