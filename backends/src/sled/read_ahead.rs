//! Reading ahead: what is wanted next is read and decoded while the caller is busy with what it has.
//!
//! Pages are made in pieces that need nothing of each other. Whoever asks for a page works on pieces
//! itself; a reader thread that has nothing else to do helps, and looks for what comes next as well, so
//! that what it decodes is what it has just read. So a read is never slower than without help, and a
//! busy store spends nothing on handing over.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use tidelog_core::{Error, EventEnvelope};

use super::panics::caught;
use super::spin::spin;
use super::workers::Workers;
use crate::primitives::{Condvar, Mutex};

/// With so many pieces ahead no more are laid out before they are asked for. Each holds its share of
/// a page, about 1 MiB unless single records are larger, and its decoded form.
pub(crate) const AHEAD: usize = 3;

/// For so long whoever asks stays awake for a piece that another thread is at.
const SPIN: Duration = Duration::from_micros(50);

type Page = Vec<EventEnvelope>;

/// Part of a page, read already or still to be read.
pub(crate) enum Piece {
    Done(Page),
    Work(Box<dyn FnOnce() -> Result<Page, Error> + Send>),
}

impl Piece {
    pub(crate) fn new(work: impl FnOnce() -> Result<Page, Error> + Send + 'static) -> Self {
        Self::Work(Box::new(work))
    }

    pub(crate) fn done(page: Page) -> Self {
        Self::Done(page)
    }

    pub(crate) fn read(self) -> Result<Page, Error> {
        match self {
            Self::Done(page) => Ok(page),
            Self::Work(work) => work(),
        }
    }
}

/// Something that is read in pieces.
pub(crate) trait Pieces: Send + 'static {
    /// Adds the pieces that come next; `false` when nothing does.
    fn next_pieces(&mut self, pieces: &mut VecDeque<Piece>) -> Result<bool, Error>;
}

/// Page after page of something, read ahead.
pub(crate) struct ReadAhead {
    desk: Arc<Desk>,
    workers: Workers,
    /// How many slots are filled before the first is waited for. Many reads end with the first page.
    depth: usize,
}

/// What whoever asks and whoever helps share.
struct Desk {
    /// Locked while what comes next is looked for, which may read files; always before `waiting`.
    source: Mutex<Source>,
    waiting: Mutex<Waiting>,
}

struct Source {
    pieces: Box<dyn Pieces>,
    fresh: VecDeque<Piece>,
}

#[derive(Default)]
struct Waiting {
    /// Pieces that are asked for next, in order.
    slots: VecDeque<Arc<Slot>>,
    /// Those of them that nobody works on yet.
    pieces: VecDeque<(Arc<Slot>, Piece)>,
    /// Why nothing more comes from the source, once it ended.
    ended: Option<Result<(), Error>>,
    depth: usize,
    /// Whether a reader thread is at work here, or about to be. A second one would take the
    /// processor from who asks.
    helped: bool,
}

/// Where the answer to one piece is put.
#[derive(Default)]
struct Slot {
    answer: Mutex<Option<Result<Page, Error>>>,
    answered: Condvar,
}

impl ReadAhead {
    pub(crate) fn new(source: impl Pieces, workers: Workers) -> Self {
        let source = Source {
            pieces: Box::new(source),
            fresh: VecDeque::new(),
        };
        let desk = Desk {
            source: Mutex::new(source),
            waiting: Mutex::default(),
        };
        Self {
            desk: Arc::new(desk),
            workers,
            depth: 0,
        }
    }

    /// The next page that is not empty; `None` at the end.
    pub(crate) fn next_page(&mut self) -> Result<Option<Page>, Error> {
        self.depth = (self.depth + 1).min(AHEAD);
        loop {
            let Some(slot) = self.next_slot() else {
                let mut waiting = self.desk.waiting.lock();
                return waiting
                    .ended
                    .replace(Ok(()))
                    .unwrap_or(Ok(()))
                    .map(|()| None);
            };
            let page = self.desk.wait(&slot)?;
            if !page.is_empty() {
                return Ok(Some(page));
            }
        }
    }

    /// The slot that comes next, and asks for help with those behind it; `None` at the end.
    fn next_slot(&self) -> Option<Arc<Slot>> {
        loop {
            let mut waiting = self.desk.waiting.lock();
            waiting.depth = self.depth;
            // A helper lays out itself what it works on.
            if waiting.wants_more() && (waiting.slots.is_empty() || !waiting.helped) {
                drop(waiting);
                self.desk.lay_out();
                continue;
            }
            // A lone piece is read sooner here than handed over.
            if waiting.pieces.len() > 1 && !waiting.helped {
                waiting.helped = true;
                drop(waiting);
                let help = Help(Arc::clone(&self.desk), self.workers.clone());
                self.workers.offer(move || help.run());
                waiting = self.desk.waiting.lock();
            }
            return waiting.slots.pop_front();
        }
    }
}

impl Drop for ReadAhead {
    fn drop(&mut self) {
        let mut waiting = self.desk.waiting.lock();
        waiting.depth = 0;
        let unread = std::mem::take(&mut waiting.pieces);
        drop(waiting);
        drop(unread);
    }
}

/// What a reader thread does for a read, as long as there is something and nobody else waits for it.
struct Help(Arc<Desk>, Workers);

impl Help {
    fn run(self) {
        while !self.1.busy() && self.0.work() {}
    }
}

impl Drop for Help {
    fn drop(&mut self) {
        self.0.waiting.lock().helped = false;
    }
}

impl Waiting {
    fn wants_more(&self) -> bool {
        self.slots.len() < self.depth && self.ended.is_none()
    }
}

impl Desk {
    /// Puts the pieces that come next on the desk, if more are wanted and none lies there.
    fn lay_out(&self) {
        let mut source = self.source.lock();
        if !self.waiting.lock().wants_more() {
            return;
        }
        let Source { pieces, fresh } = &mut *source;
        let found = caught("a reader", "read", || pieces.next_pieces(fresh));
        let mut waiting = self.waiting.lock();
        match found {
            Ok(true) => {}
            Ok(false) => waiting.ended = Some(Ok(())),
            Err(error) => waiting.ended = Some(Err(error)),
        }
        for piece in fresh.drain(..) {
            let slot = Arc::<Slot>::default();
            waiting.slots.push_back(Arc::clone(&slot));
            waiting.pieces.push_back((slot, piece));
        }
    }

    /// The answer in `slot`; works on what is wanted next until it is there.
    fn wait(&self, slot: &Slot) -> Result<Page, Error> {
        loop {
            if let Some(answer) = slot.answer.lock().take() {
                return answer;
            }
            if !self.work() {
                break;
            }
        }
        if let Some(answer) = spin(SPIN, || slot.answer.lock().take()) {
            return answer;
        }
        let mut answer = slot.answer.lock();
        loop {
            match answer.take() {
                Some(answer) => return answer,
                // Nothing lies on the desk, so a thread is at it and will answer.
                None => slot.answered.wait(&mut answer),
            }
        }
    }

    /// Works on the piece that comes first; `false` when nothing is wanted that nobody works on.
    fn work(&self) -> bool {
        let mut waiting = self.waiting.lock();
        let Some((slot, piece)) = waiting.pieces.pop_front() else {
            let more = waiting.wants_more();
            drop(waiting);
            if more {
                self.lay_out();
            }
            return more;
        };
        drop(waiting);
        let answer = caught("a reader", "read", || piece.read());
        *slot.answer.lock() = Some(answer);
        slot.answered.notify_one();
        true
    }
}

#[cfg(test)]
#[cfg(not(feature = "shuttle"))]
mod tests {
    use super::*;
    use bytes::Bytes;
    use tidelog_core::{
        Batch, ContentType, EventId, Metadata, RecordKind, StreamId, Tags, Timestamp,
    };

    fn envelope(sequence: u64) -> EventEnvelope {
        EventEnvelope {
            event_id: EventId::from_bytes([7; 16]),
            stream: StreamId::new("Read", "ahead").unwrap(),
            sequence,
            position: Some(sequence),
            birth: None,
            kind: RecordKind::Event,
            event_type: "Numbered".into(),
            revision: 1,
            content_type: ContentType::Bytes,
            event_time: Timestamp::from_micros(0),
            recorded_time: Timestamp::from_micros(0),
            metadata: Metadata::new(),
            tags: Tags::none(),
            batch: Batch { first: 1, count: 1 },
            event: Bytes::new(),
        }
    }

    /// Hands out pieces one a time, each with the events of its numbers.
    struct Numbers(VecDeque<Result<Vec<u64>, &'static str>>);

    impl Pieces for Numbers {
        fn next_pieces(&mut self, pieces: &mut VecDeque<Piece>) -> Result<bool, Error> {
            match self.0.pop_front() {
                Some(Ok(numbers)) => {
                    pieces.push_back(Piece::new(move || {
                        assert!(!numbers.contains(&u64::MAX), "a piece that panics");
                        Ok(numbers.into_iter().map(envelope).collect())
                    }));
                    Ok(true)
                }
                Some(Err(reason)) => Err(Error::invalid("piece", 0, reason)),
                None => Ok(false),
            }
        }
    }

    fn pages(pieces: Vec<Result<Vec<u64>, &'static str>>) -> (Vec<Vec<u64>>, Option<Error>) {
        let workers = Workers::new();
        std::thread::scope(|scope| {
            let readers = [(); 2].map(|()| scope.spawn(|| workers.run()));
            let mut read = ReadAhead::new(Numbers(pieces.into()), workers.clone());
            let mut pages = Vec::new();
            let end = loop {
                match read.next_page() {
                    Ok(Some(page)) => pages.push(page.iter().map(|event| event.sequence).collect()),
                    Ok(None) => break None,
                    Err(error) => break Some(error),
                }
            };
            workers.stop();
            for reader in readers {
                reader.join().unwrap();
            }
            (pages, end)
        })
    }

    #[test]
    fn pages_come_in_order_whoever_reads_them_and_none_is_empty() {
        let lengths = (0..3).cycle();
        let pieces: Vec<_> = (0..500)
            .zip(lengths)
            .map(|(piece, len)| vec![piece; len])
            .collect();
        let (read, end) = pages(pieces.iter().cloned().map(Ok).collect());
        let wanted: Vec<_> = pieces
            .into_iter()
            .filter(|piece| !piece.is_empty())
            .collect();
        assert_eq!((read, end.is_none()), (wanted, true));
    }

    #[test]
    fn an_error_comes_after_what_was_read_before_it() {
        let (read, end) = pages(vec![Ok(vec![1]), Ok(vec![2]), Err("gone"), Ok(vec![3])]);
        assert_eq!(read, [[1], [2]]);
        assert!(end.unwrap().to_string().contains("gone"));
    }

    #[test]
    fn a_piece_that_panics_is_an_error_of_the_read() {
        let (read, end) = pages(vec![Ok(vec![1]), Ok(vec![u64::MAX]), Ok(vec![2])]);
        assert_eq!(read, [[1]]);
        assert!(end.unwrap().to_string().contains("a piece that panics"));
    }
}
