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

    /// Makes the first connection.
    pub(crate) async fn connect(&self) -> Result<(), WireError> {
        let mut attempt = 1;
        loop {
            match self.wire.renew().await {
                Err(error) if passes(&error) => self.wait(attempt, error).await?,
                done => return done,
            }
            attempt += 1;
        }
    }

    /// Waits before the next attempt; gives `error` back when there is none.
    async fn wait(&self, attempt: u32, error: WireError) -> Result<(), WireError> {
        // The low half of an id is random.
        #[allow(clippy::cast_possible_truncation, reason = "the low half is meant")]
        let random = self.ids.next_uuid().as_u128() as u64;
        let Some(delay) = self.retry.delay(attempt, random) else {
            return Err(error);
        };
        tracing::debug!(%error, attempt, "asked again");
        self.sleeper.sleep(delay).await;
        Ok(())
    }

    async fn repeat(&self, request: Request) -> Result<Reply, WireError> {
        let mut attempt = 1;
        loop {
            let error = match self.wire.ask(request.clone()).await {
                Err(error) if passes(&error) => error,
                answer => return answer,
            };
            // Who asks for a page asks for a smaller one then, and waits for the smallest.
            if attempt >= 2 && error.class == ErrorClass::Unclear && may_be_smaller(&request) {
                return Err(error);
            }
            self.wait(attempt, error).await?;
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

/// Whether the same may be answered later.
fn passes(error: &WireError) -> bool {
    matches!(error.class, ErrorClass::NotSent | ErrorClass::Unclear)
}

fn may_be_smaller(request: &Request) -> bool {
    match request {
        Request::Events { page, .. } => page.rows > 1,
        Request::Log { page, records, .. } => *records && page.rows > 1,
        _ => false,
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
