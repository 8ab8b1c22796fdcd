//! One append that waits for the writer.

use tidelog_core::{AppendBatch, AppendReceipt, Durability, Error};

use super::gate::Permit;
use super::hash::StreamKey;
use crate::primitives::oneshot;

/// Bytes of a record beside names, texts and payload, at most.
const RECORD_OVERHEAD: usize = 112;

pub(crate) type Reply = oneshot::Sender<Result<Vec<AppendReceipt>, Error>>;

/// One append that waits to be committed.
pub(crate) struct Request {
    pub parts: Vec<AppendBatch>,
    pub keys: Vec<StreamKey>,
    pub durability: Durability,
    /// What it takes in a frame, at most.
    pub bytes: usize,
    pub reply: Reply,
    /// Gives its room in the queue back when the request is answered.
    pub permit: Option<Permit>,
}

impl Request {
    pub(crate) fn size(parts: &[AppendBatch]) -> usize {
        let mut bytes = 0;
        for part in parts {
            for event in &part.events {
                bytes += RECORD_OVERHEAD + part.stream.as_str().len() + event.event_type.len();
                bytes += event.content_type.as_str().len() + event.payload.len();
                bytes += event.metadata.size() + event.metadata.len() * 20;
                bytes += event.tags.size() + event.tags.as_slice().len() * 10;
            }
        }
        bytes
    }

    /// Gives the room in the queue back and answers.
    pub(crate) fn answer(self, result: Result<Vec<AppendReceipt>, Error>) {
        drop(self.permit);
        // Nobody may be waiting any more; the events stand all the same.
        let _ = self.reply.send(result);
    }
}
