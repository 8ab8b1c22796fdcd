//! Listeners of any type, behind a pointer, whose panics are failures.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use futures_util::FutureExt;
use tidelog_core::{BoxFuture, EventEnvelope, EventListener, HandlerError, RecordKind, Superseded};

/// A listener as the container holds it.
pub(crate) type Handler = Arc<dyn DynListener>;

pub(crate) trait DynListener: Send + Sync {
    /// Whether the event goes to [`handle`](Self::handle).
    fn takes(&self, event: &EventEnvelope) -> bool;
    /// One attempt: of an event, or of the record that some gave way.
    fn handle(
        self: Arc<Self>,
        event: Arc<EventEnvelope>,
    ) -> BoxFuture<'static, Result<(), HandlerError>>;
}

impl<L: EventListener> DynListener for L {
    fn takes(&self, event: &EventEnvelope) -> bool {
        // One that panics is taken, so that its panic is met again where it counts as a failure.
        catch_unwind(AssertUnwindSafe(|| self.wants(event))).unwrap_or(true)
    }

    fn handle(
        self: Arc<Self>,
        event: Arc<EventEnvelope>,
    ) -> BoxFuture<'static, Result<(), HandlerError>> {
        Box::pin(async move {
            let attempt = async {
                if event.kind == RecordKind::Control {
                    if let Some(what) = Superseded::decode(&event.event) {
                        self.superseded(&what).await?;
                    }
                } else if self.wants(&event) {
                    self.on(&event).await?;
                }
                Ok(())
            };
            AssertUnwindSafe(attempt)
                .catch_unwind()
                .await
                .unwrap_or_else(|panic| Err(HandlerError::panicked(&*panic)))
        })
    }
}
