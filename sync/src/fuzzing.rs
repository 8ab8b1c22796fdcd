//! What the fuzz targets call; behind the feature `fuzzing`, and no part of the API.

pub use crate::kafka::listen::fuzzing::{
    Message, kafka_entry, kafka_letter, kafka_parked_set, kafka_record,
};
