//! Rows of read models: postcard, whole, under the projection's name and version.

use std::any::TypeId;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::checked::{self, Kind};
use super::fault::Fault;
use super::{codec_error, postcard_de, postcard_ser};
use crate::error::Error;

/// Which projection a row is of, for messages.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RowsOf {
    pub(crate) name: &'static str,
    pub(crate) version: u32,
}

pub(crate) fn encode_row<V>(of: RowsOf, row: &V) -> Result<Vec<u8>, Error>
where
    V: Serialize + DeserializeOwned + 'static,
{
    let encode = || {
        let bytes = postcard_ser::to_vec(|writer| row.serialize(writer))?;
        let kind = Kind {
            rust_type: TypeId::of::<V>(),
            name: of.name,
            revision: of.version,
            json: false,
        };
        checked::check(kind, &bytes, || {
            let read_back = postcard_de::from_slice(&bytes, |reader| V::deserialize(reader))?;
            postcard_ser::to_vec(|writer| read_back.serialize(writer))
        })?;
        Ok(bytes)
    };
    encode().map_err(|fault: Fault| codec_error("encoding a row", of.name, of.version, &fault))
}

pub(crate) fn decode_row<V: DeserializeOwned>(of: RowsOf, bytes: &[u8]) -> Result<V, Error> {
    postcard_de::from_slice(bytes, |reader| V::deserialize(reader)).map_err(|fault| {
        let fault = Fault::new(format_args!(
            "{fault}; raise the projection's VERSION when its rows change"
        ));
        codec_error("decoding a row", of.name, of.version, &fault)
    })
}
