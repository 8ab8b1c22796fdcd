//! A wire whose reads are asked again for a while when no answer comes.

use std::sync::Arc;

use tidelog_backends::wire::{ErrorClass, Reply, Request, Wire, WireError};
use tidelog_core::{BoxFuture, IdSource, RetryPolicy, Sleeper};

/// Repeats reads that had no answer, by a policy, on fresh connections from the second failure on.
/// What writes is sent once: what became of it is for the caller to see.
pub(crate) struct Patient<W> {
    wire: W,
    retry: RetryPolicy,
    sleeper: Arc<dyn Sleeper>,
    ids: Arc<dyn IdSource>,
}

impl<W: Wire> Patient<W> {
    pub(crate) fn new(
        wire: W,
        retry: RetryPolicy,
        sleeper: Arc<dyn Sleeper>,
        ids: Arc<dyn IdSource>,
    ) -> Self {
        Self {
            wire,
            retry,
            sleeper,
            ids,
        }
    }

    async fn repeat(&self, request: Request) -> Result<Reply, WireError> {
        let mut attempt = 1;
        loop {
            let error = match self.wire.ask(request.clone()).await {
                Err(error) if matches!(error.class, ErrorClass::NotSent | ErrorClass::Unclear) => {
                    error
                }
                answer => return answer,
            };
            // The low half of an id is random.
            #[allow(clippy::cast_possible_truncation, reason = "the low half is meant")]
            let random = self.ids.next_uuid().as_u128() as u64;
            let Some(delay) = self.retry.delay(attempt, random) else {
                return Err(error);
            };
            tracing::debug!(%error, request = request.name(), attempt, "asked again");
            self.sleeper.sleep(delay).await;
            if attempt >= 2
                && let Err(error) = self.wire.renew().await
            {
                tracing::debug!(%error, "no fresh connection");
            }
            attempt += 1;
        }
    }
}

impl<W: Wire> Wire for Patient<W> {
    fn ask(&self, request: Request) -> BoxFuture<'_, Result<Reply, WireError>> {
        if reads(&request) {
            Box::pin(self.repeat(request))
        } else {
            self.wire.ask(request)
        }
    }

    fn renew(&self) -> BoxFuture<'_, Result<(), WireError>> {
        self.wire.renew()
    }
}

fn reads(request: &Request) -> bool {
    matches!(
        request,
        Request::Meta
            | Request::Ping
            | Request::Head(_)
            | Request::Ids { .. }
            | Request::Events { .. }
            | Request::Log { .. }
            | Request::Origins(_)
            | Request::AllOrigins
            | Request::Parked { .. }
            | Request::Snapshot(_)
            | Request::Part { .. }
    )
}
