//! A handshake record as JSON.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::kafka::broker::OriginRecord;

const FORMAT: u32 = 1;

#[derive(Serialize, Deserialize)]
struct Written {
    format: u32,
    origin: Uuid,
    first_epoch: Uuid,
    epoch: Uuid,
    parent: Option<Uuid>,
    session: Uuid,
    position: u64,
    commit: u64,
    hash: String,
    name: String,
    retired: Vec<Uuid>,
}

pub(super) fn encode(record: &OriginRecord) -> Vec<u8> {
    let written = Written {
        format: FORMAT,
        origin: record.origin,
        first_epoch: record.first_epoch,
        epoch: record.epoch,
        parent: record.parent,
        session: record.session,
        position: record.position,
        commit: record.commit,
        hash: hex(&record.hash),
        name: record.name.to_string(),
        retired: record.retired.clone(),
    };
    // Texts and numbers always encode.
    serde_json::to_vec(&written).unwrap_or_default()
}

/// # Errors
/// What is wrong with it, and the remedy.
pub(super) fn decode(bytes: &[u8]) -> Result<OriginRecord, String> {
    #[derive(Deserialize)]
    struct Format {
        format: u32,
    }
    let not_ours = |error: serde_json::Error| format!("it was not written by tidelog: {error}");
    let Format { format } = serde_json::from_slice(bytes).map_err(not_ours)?;
    if format != FORMAT {
        return Err(format!(
            "it has format {format}, this program knows {FORMAT}: use a newer version"
        ));
    }
    let written: Written = serde_json::from_slice(bytes).map_err(not_ours)?;
    let hash = unhex(&written.hash).ok_or("its hash has not 64 hexadecimal digits")?;
    Ok(OriginRecord {
        origin: written.origin,
        first_epoch: written.first_epoch,
        epoch: written.epoch,
        parent: written.parent,
        session: written.session,
        position: written.position,
        commit: written.commit,
        hash,
        name: written.name.into(),
        retired: written.retired,
    })
}

fn hex(bytes: &[u8; 32]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex(text: &str) -> Option<[u8; 32]> {
    let mut bytes = [0; 32];
    if text.len() != 64 || !text.is_ascii() {
        return None;
    }
    for (at, byte) in bytes.iter_mut().enumerate() {
        *byte = u8::from_str_radix(text.get(2 * at..2 * at + 2)?, 16).ok()?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn record(number: u128, position: u64, name: &str, parent: bool) -> OriginRecord {
        OriginRecord {
            origin: Uuid::from_u128(number),
            first_epoch: Uuid::from_u128(number ^ 1),
            epoch: Uuid::from_u128(number ^ 2),
            parent: parent.then(|| Uuid::from_u128(number ^ 3)),
            session: Uuid::from_u128(number ^ 4),
            position,
            commit: position ^ 7,
            hash: [u8::try_from(position % 256).unwrap(); 32],
            name: name.into(),
            retired: vec![Uuid::from_u128(number ^ 5)],
        }
    }

    proptest! {
        #[test]
        fn a_record_comes_back_as_it_was(number: u128, position: u64, name in ".{0,40}", parent: bool) {
            let record = record(number, position, &name, parent);
            prop_assert_eq!(decode(&encode(&record)), Ok(record));
        }

        #[test]
        fn garbage_is_none_and_never_a_panic(bytes: Vec<u8>) {
            prop_assert!(decode(&bytes).is_err());
        }
    }

    #[test]
    fn its_bytes_stay_as_they_are() {
        let bytes = encode(&record(0x10, 3, "till 3", false));
        assert_eq!(
            String::from_utf8(bytes).unwrap(),
            r#"{"format":1,"origin":"00000000-0000-0000-0000-000000000010","first_epoch":"00000000-0000-0000-0000-000000000011","epoch":"00000000-0000-0000-0000-000000000012","parent":null,"session":"00000000-0000-0000-0000-000000000014","position":3,"commit":4,"hash":"0303030303030303030303030303030303030303030303030303030303030303","name":"till 3","retired":["00000000-0000-0000-0000-000000000015"]}"#
        );
        let newer = br#"{"format":2,"what":"ever"}"#;
        assert!(decode(newer).unwrap_err().contains("newer version"));
    }
}
