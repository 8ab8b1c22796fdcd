//! Events of a stream give way to others: one commit, and the stream goes on from there.

use std::sync::Arc;

use tidelog_core::{
    AppendBatch, AppendReceipt, Error, ExpectedVersion, StreamHead, Supersede, Supersession,
};

use super::commit::Committer;
use super::format;
use super::segment::About;
use super::shared::Shared;
use super::store::SledStore;

impl Supersede for SledStore {
    /// Adopted payloads are recorded as they stand, without the store's codec: they come from another
    /// log.
    async fn supersede(&self, mut what: Supersession) -> Result<AppendReceipt, Error> {
        self.ensure_open()?;
        self.shared().ensure_own()?;
        if let Some(codec) = self.codec().filter(|_| !what.reissued.is_empty()) {
            let stream = what.stream.clone();
            let reissued = std::mem::take(&mut what.reissued);
            let own = AppendBatch::new(stream, ExpectedVersion::Any, reissued);
            what.reissued = codec.encode_batch(own)?.events;
        }
        what.check(&self.shared().limits)?;
        let handle = self.handle_arc();
        self.read(move |shared| {
            // A segment is made in milliseconds: not under the lock, where appends wait for it.
            let segment = handle.lock().ask_segment_for(&what)?;
            shared.add_flag(format::BRANCHES)?;
            if let Some((number, capacity)) = segment {
                shared.preparer.wait(number, capacity);
                shared.indexer.wait_for_room()?;
            }
            let done = {
                let mut committer = handle.lock();
                let done = committer.supersede(&what);
                committer.prepare_ahead();
                done.and_then(|receipt| committer.leave_mark().map(|()| receipt))
            };
            // Wakers are foreign code: not under the lock.
            shared.live.notify();
            done
        })
        .await
    }
}

/// Refuses it unless the stream is where it is meant to be.
pub(crate) fn check_head(shared: &Arc<Shared>, what: &Supersession) -> Result<(), Error> {
    if let Some(refusal) = shared.log.losses.refusal(&what.stream) {
        return Err(refusal);
    }
    let hash = shared.hash.stream(&what.stream);
    let newest = shared.streams.head(hash, &what.stream, u64::MAX)?;
    let actual = newest.map_or(0, |(sequence, _)| sequence);
    let event = shared.read_event(&what.stream, hash, actual, u64::MAX)?;
    let is_head = |head: &StreamHead| {
        let id = event.as_ref().map(|event| event.event_id);
        actual == head.sequence && id == Some(head.event_id)
    };
    if is_head(&what.head) {
        return Ok(());
    }
    Err(Error::WrongVersion {
        stream: what.stream.clone(),
        expected: ExpectedVersion::Exact(what.head.sequence),
        actual,
    })
}

impl Committer {
    /// The segment, and the length of the one before it, that is to be ready when events give way now;
    /// `None` where they may do so in the present one.
    ///
    /// # Errors
    /// As [`supersede`](Self::supersede), which looks again.
    fn ask_segment_for(&mut self, what: &Supersession) -> Result<Option<(u64, u64)>, Error> {
        if let Some(refusal) = self.refusal() {
            return Err(refusal);
        }
        check_head(self.shared(), what)?;
        self.refuse_known(what)?;
        Ok(self.needs_front(About::BRANCHES))
    }

    /// Lets events give way to others; durable when this returns.
    pub(crate) fn supersede(&mut self, what: &Supersession) -> Result<AppendReceipt, Error> {
        if let Some(refusal) = self.refusal() {
            return Err(refusal);
        }
        check_head(self.shared(), what)?;
        self.begin_branch(what)
    }
}
