//! What is said to `tracing`, as text.

use std::cell::RefCell;
use std::fmt::{Debug, Write};
use std::sync::Arc;

use parking_lot::Mutex;
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Metadata, Subscriber};

/// Everything that is said, the driver's own included, in words.
#[derive(Clone, Debug, Default)]
pub struct Heard {
    text: Arc<Mutex<String>>,
    /// Names of all spans; the first one's id is 1.
    spans: Arc<Mutex<Vec<&'static str>>>,
}

thread_local! {
    /// Spans that this thread is in, the innermost last.
    static INSIDE: RefCell<Vec<u64>> = const { RefCell::new(Vec::new()) };
}

impl Heard {
    /// All of it up to now.
    pub fn text(&self) -> String {
        self.text.lock().clone()
    }
}

struct Words<'a>(&'a mut String);

impl Visit for Words<'_> {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        let _ = write!(self.0, " {field}={value:?}");
    }
}

impl Subscriber for Heard {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn new_span(&self, span: &Attributes<'_>) -> Id {
        let (mut text, mut spans) = (self.text.lock(), self.spans.lock());
        let name = span.metadata().name();
        let _ = write!(text, "\nspan {name}");
        let outer = INSIDE.with_borrow(|inside| inside.last().copied());
        if let Some(outer) = outer.and_then(|id| spans.get(usize::try_from(id).ok()? - 1)) {
            let _ = write!(text, " in {outer}");
        }
        span.record(&mut Words(&mut text));
        spans.push(name);
        Id::from_u64(spans.len() as u64)
    }

    fn record(&self, _: &Id, values: &Record<'_>) {
        values.record(&mut Words(&mut self.text.lock()));
    }

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        let mut text = self.text.lock();
        let _ = write!(text, "\n{}", event.metadata().target());
        event.record(&mut Words(&mut text));
    }

    fn enter(&self, id: &Id) {
        INSIDE.with_borrow_mut(|inside| inside.push(id.into_u64()));
    }

    fn exit(&self, id: &Id) {
        INSIDE.with_borrow_mut(|inside| {
            if let Some(at) = inside.iter().rposition(|it| *it == id.into_u64()) {
                inside.remove(at);
            }
        });
    }
}
