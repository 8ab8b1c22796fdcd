//! Reading ahead: what is wanted next is read and decoded while the caller is busy with what it has.
//!
//! Pages are made in pieces that need nothing of each other. Whoever asks for a page works on pieces
//! itself; reader threads that have nothing else to do help. So a read is never slower than without
//! help, and a busy store spends nothing on handing over.

use std::collections::VecDeque;
use std::sync::Arc;

use tidelog_core::{Error, EventEnvelope};

use super::panics::caught;
use super::workers::Workers;
use crate::primitives::{Condvar, Mutex};

/// So many pieces are made before they are asked for, once a few pages were. Each holds its share of a page, about 1 MiB
/// unless single records are larger, and its decoded form.
pub(crate) const AHEAD: usize = 3;

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
    source: Box<dyn Pieces>,
    /// Why nothing more comes from the source, once it ended.
    ended: Option<Result<(), Error>>,
    /// Pieces that are asked for next, in order.
    slots: VecDeque<Arc<Slot>>,
    desk: Arc<Desk>,
    workers: Workers,
    fresh: VecDeque<Piece>,
    /// How many slots are filled before the first is waited for. Many reads end with the first page.
    depth: usize,
}

/// Where pieces lie that nobody works on yet.
#[derive(Default)]
struct Desk(Mutex<Waiting>);

#[derive(Default)]
struct Waiting {
    pieces: VecDeque<(Arc<Slot>, Piece)>,
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
        Self {
            source: Box::new(source),
            ended: None,
            slots: VecDeque::new(),
            desk: Arc::default(),
            workers,
            fresh: VecDeque::new(),
            depth: 0,
        }
    }

    /// The next page that is not empty; `None` at the end.
    pub(crate) fn next_page(&mut self) -> Result<Option<Page>, Error> {
        self.depth = (self.depth + 1).min(AHEAD);
        loop {
            self.lay_out();
            let Some(slot) = self.slots.pop_front() else {
                return self.ended.take().unwrap_or(Ok(())).map(|()| None);
            };
            let page = self.wait(&slot)?;
            if !page.is_empty() {
                return Ok(Some(page));
            }
        }
    }

    /// Puts the pieces that come next on the desk, and asks for help with them.
    fn lay_out(&mut self) {
        while self.slots.len() < self.depth && self.ended.is_none() {
            match self.source.next_pieces(&mut self.fresh) {
                Ok(true) => {}
                Ok(false) => self.ended = Some(Ok(())),
                Err(error) => self.ended = Some(Err(error)),
            }
            let mut desk = self.desk.0.lock();
            for piece in self.fresh.drain(..) {
                let slot = Arc::<Slot>::default();
                self.slots.push_back(Arc::clone(&slot));
                desk.pieces.push_back((slot, piece));
            }
        }
        let wanted = {
            let mut waiting = self.desk.0.lock();
            // A lone piece is read sooner here than handed over.
            let wanted = waiting.pieces.len() > 1 && !waiting.helped;
            waiting.helped |= wanted;
            wanted
        };
        if wanted {
            let help = Help(Arc::clone(&self.desk), self.workers.clone());
            self.workers.offer(move || help.run());
        }
    }

    /// The answer in `slot`; works on what lies on the desk until it is there.
    fn wait(&mut self, slot: &Slot) -> Result<Page, Error> {
        loop {
            if let Some(answer) = slot.answer.lock().take() {
                return answer;
            }
            if !self.desk.work() {
                break;
            }
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
        self.0.0.lock().helped = false;
    }
}

impl Desk {
    /// Works on the piece that comes first; `false` when there is none.
    fn work(&self) -> bool {
        let next = self.0.lock().pieces.pop_front();
        let Some((slot, piece)) = next else {
            return false;
        };
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
            origin_position: Some(sequence),
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
