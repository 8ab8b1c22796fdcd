//! A wire that does not wait for a dead connection twice: a request without an answer is followed by
//! a ping, and where that has none either, nothing more is sent before it is renewed.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tidelog_backends::wire::{ErrorClass, Reply, Request, Wire, WireError};
use tidelog_core::BoxFuture;

pub(super) struct Doubting {
    wire: Arc<dyn Wire>,
    is_dead: AtomicBool,
}

impl Doubting {
    pub(super) fn new(wire: Arc<dyn Wire>) -> Self {
        Self {
            wire,
            is_dead: AtomicBool::new(false),
        }
    }

    /// Whether it answers nothing before it is renewed.
    pub(super) fn is_dead(&self) -> bool {
        self.is_dead.load(Ordering::Relaxed)
    }

    async fn answer(&self, request: Request) -> Result<Reply, WireError> {
        if self.is_dead() {
            return Err(WireError {
                class: ErrorClass::NotSent,
                text: "its connections do not answer any more".into(),
            });
        }
        let is_ping = matches!(request, Request::Ping);
        let answer = self.wire.ask(request).await;
        if answer.as_ref().is_err_and(is_unclear) {
            let is_dead = is_ping || self.wire.ask(Request::Ping).await.is_err();
            if is_dead {
                self.is_dead.store(true, Ordering::Relaxed);
            }
        }
        answer
    }
}

fn is_unclear(error: &WireError) -> bool {
    error.class == ErrorClass::Unclear
}

impl Wire for Doubting {
    fn ask(&self, request: Request) -> BoxFuture<'_, Result<Reply, WireError>> {
        Box::pin(self.answer(request))
    }

    fn renew(&self) -> BoxFuture<'_, Result<(), WireError>> {
        Box::pin(async {
            let renewed = self.wire.renew().await;
            if renewed.is_ok() {
                self.is_dead.store(false, Ordering::Relaxed);
            }
            renewed
        })
    }
}
