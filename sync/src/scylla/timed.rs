//! A wire whose requests are timed, for whoever collects metrics.

use std::sync::Arc;

use tidelog_backends::wire::{ErrorClass, Reply, Request, Wire, WireError};
use tidelog_core::{BoxFuture, Ticks};

/// Passes everything on.
pub(crate) struct Timed {
    wire: Arc<dyn Wire>,
    ticks: Arc<dyn Ticks>,
}

impl Timed {
    pub(crate) fn new(wire: Arc<dyn Wire>, ticks: Arc<dyn Ticks>) -> Self {
        Self { wire, ticks }
    }
}

impl Wire for Timed {
    fn ask(&self, request: Request) -> BoxFuture<'_, Result<Reply, WireError>> {
        let name = request.name();
        Box::pin(async move {
            let since = self.ticks.now();
            let answer = self.wire.ask(request).await;
            let took = self.ticks.now().saturating_sub(since);
            let outcome = match &answer {
                Ok(Reply::Applied(false)) => "not_applied",
                Ok(_) => "done",
                Err(error) => match error.class {
                    ErrorClass::NotSent => "not_sent",
                    ErrorClass::Refused | ErrorClass::Schema => "refused",
                    ErrorClass::Unclear => "unclear",
                },
            };
            metrics::histogram!(
                "tidelog_sink_request_seconds",
                "sink" => "scylla", "request" => name, "outcome" => outcome
            )
            .record(took.as_secs_f64());
            answer
        })
    }

    fn renew(&self) -> BoxFuture<'_, Result<(), WireError>> {
        self.wire.renew()
    }
}
