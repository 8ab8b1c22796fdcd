//! Writes what stands in an enum's variant, without the enum around it.

use serde::ser::{
    Error as _, Serialize, SerializeStruct, SerializeStructVariant, SerializeTuple,
    SerializeTupleVariant, Serializer,
};

/// The serializer for the outermost value: a variant's own fields go to `inner` as a struct, a
/// tuple, a value or nothing; whatever is no variant goes to `inner` as it is.
pub(super) struct ContentWriter<'e, S> {
    pub(super) inner: S,
    /// What serde has to call the variant, or decoding could not find it again.
    pub(super) variant: &'e str,
}

impl<S: Serializer> ContentWriter<'_, S> {
    fn check_variant(&self, variant: &str) -> Result<(), S::Error> {
        if variant == self.variant {
            return Ok(());
        }
        let expected = self.variant;
        Err(S::Error::custom(format_args!(
            "serde calls its variant {variant:?} but Event::variant_name says {expected:?}; \
             make it return {variant:?} for this event type"
        )))
    }
}

/// Whatever is no variant is handed on.
macro_rules! hand_on {
    ($($method:ident($($name:ident: $kind:ty),*) -> $answer:ty;)*) => {$(
        fn $method(self, $($name: $kind),*) -> Result<$answer, S::Error> {
            self.inner.$method($($name),*)
        }
    )*};
}

impl<S: Serializer> Serializer for ContentWriter<'_, S> {
    type Ok = S::Ok;
    type Error = S::Error;
    type SerializeSeq = S::SerializeSeq;
    type SerializeTuple = S::SerializeTuple;
    type SerializeTupleStruct = S::SerializeTupleStruct;
    type SerializeTupleVariant = Fields<S::SerializeTuple>;
    type SerializeMap = S::SerializeMap;
    type SerializeStruct = S::SerializeStruct;
    type SerializeStructVariant = Fields<S::SerializeStruct>;

    fn serialize_unit_variant(
        self,
        _name: &'static str,
        _index: u32,
        variant: &'static str,
    ) -> Result<S::Ok, S::Error> {
        self.check_variant(variant)?;
        self.inner.serialize_unit()
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _name: &'static str,
        _index: u32,
        variant: &'static str,
        value: &T,
    ) -> Result<S::Ok, S::Error> {
        self.check_variant(variant)?;
        value.serialize(self.inner)
    }

    fn serialize_tuple_variant(
        self,
        _name: &'static str,
        _index: u32,
        variant: &'static str,
        length: usize,
    ) -> Result<Fields<S::SerializeTuple>, S::Error> {
        self.check_variant(variant)?;
        self.inner.serialize_tuple(length).map(Fields)
    }

    fn serialize_struct_variant(
        self,
        _name: &'static str,
        _index: u32,
        variant: &'static str,
        length: usize,
    ) -> Result<Fields<S::SerializeStruct>, S::Error> {
        self.check_variant(variant)?;
        // Nameless: the name would be taken for that of a struct around an adjacent tag.
        self.inner.serialize_struct("", length).map(Fields)
    }

    // `struct AccountEvent(Inner)` is no more than another name for the enum inside.
    fn serialize_newtype_struct<T: Serialize + ?Sized>(
        self,
        _name: &'static str,
        value: &T,
    ) -> Result<S::Ok, S::Error> {
        value.serialize(self)
    }

    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<S::Ok, S::Error> {
        self.inner.serialize_some(value)
    }

    fn collect_str<T: std::fmt::Display + ?Sized>(self, value: &T) -> Result<S::Ok, S::Error> {
        self.inner.collect_str(value)
    }

    fn is_human_readable(&self) -> bool {
        self.inner.is_human_readable()
    }

    hand_on! {
        serialize_bool(value: bool) -> S::Ok;
        serialize_i8(value: i8) -> S::Ok;
        serialize_i16(value: i16) -> S::Ok;
        serialize_i32(value: i32) -> S::Ok;
        serialize_i64(value: i64) -> S::Ok;
        serialize_i128(value: i128) -> S::Ok;
        serialize_u8(value: u8) -> S::Ok;
        serialize_u16(value: u16) -> S::Ok;
        serialize_u32(value: u32) -> S::Ok;
        serialize_u64(value: u64) -> S::Ok;
        serialize_u128(value: u128) -> S::Ok;
        serialize_f32(value: f32) -> S::Ok;
        serialize_f64(value: f64) -> S::Ok;
        serialize_char(value: char) -> S::Ok;
        serialize_str(value: &str) -> S::Ok;
        serialize_bytes(value: &[u8]) -> S::Ok;
        serialize_none() -> S::Ok;
        serialize_unit() -> S::Ok;
        serialize_unit_struct(name: &'static str) -> S::Ok;
        serialize_seq(length: Option<usize>) -> S::SerializeSeq;
        serialize_tuple(length: usize) -> S::SerializeTuple;
        serialize_tuple_struct(name: &'static str, length: usize) -> S::SerializeTupleStruct;
        serialize_map(length: Option<usize>) -> S::SerializeMap;
        serialize_struct(name: &'static str, length: usize) -> S::SerializeStruct;
    }
}

/// A variant's fields on their way into a struct or a tuple.
pub(super) struct Fields<S>(S);

impl<S: SerializeTuple> SerializeTupleVariant for Fields<S> {
    type Ok = S::Ok;
    type Error = S::Error;

    fn serialize_field<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), S::Error> {
        self.0.serialize_element(value)
    }

    fn end(self) -> Result<S::Ok, S::Error> {
        self.0.end()
    }
}

impl<S: SerializeStruct> SerializeStructVariant for Fields<S> {
    type Ok = S::Ok;
    type Error = S::Error;

    fn serialize_field<T: Serialize + ?Sized>(
        &mut self,
        field: &'static str,
        value: &T,
    ) -> Result<(), S::Error> {
        self.0.serialize_field(field, value)
    }

    fn skip_field(&mut self, field: &'static str) -> Result<(), S::Error> {
        self.0.skip_field(field)
    }

    fn end(self) -> Result<S::Ok, S::Error> {
        self.0.end()
    }
}
