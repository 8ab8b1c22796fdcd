//! Calls of librdkafka that wait for the network, one after the other on a thread of their own.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::Duration;

use parking_lot::Mutex;
use tidelog_core::{BoxFuture, Error};

use super::origins::Origins;
use crate::kafka::broker::BrokerError;
use crate::kafka::config::KafkaConfig;
use crate::kafka::voice::Voice;

/// How often clients that nobody uses are asked what they have to say, so that it does not heap up.
const LISTEN: Duration = Duration::from_secs(60);

type Call = Box<dyn FnOnce(&mut Origins) + Send>;

/// Where calls are handed in; the thread is started by the first one, and ends with this.
pub(super) struct Desk {
    config: Arc<KafkaConfig>,
    voice: Arc<Voice>,
    thread: Mutex<Option<Sender<Call>>>,
}

impl Desk {
    pub(super) fn new(config: Arc<KafkaConfig>, voice: Arc<Voice>) -> Self {
        Self {
            config,
            voice,
            thread: Mutex::default(),
        }
    }

    /// Lets `call` be done; what nobody waits for any more when its turn comes is not begun.
    pub(super) fn ask<T: Send + 'static>(
        &self,
        call: impl FnOnce(&mut Origins) -> Result<T, BrokerError> + Send + 'static,
    ) -> BoxFuture<'static, Result<T, BrokerError>> {
        let (reply, answer) = oneshot::async_channel();
        let call: Call = Box::new(move |origins| {
            if !reply.is_closed() {
                let answered = call(origins);
                let _ = reply.send(answered);
            }
        });
        let handed_in = self.hand_in(call);
        Box::pin(async move {
            handed_in.map_err(BrokerError::Passing)?;
            // Without an answer the thread has panicked: the next call begins another one.
            answer
                .await
                .unwrap_or(Err(BrokerError::Passing(Error::Closed)))
        })
    }

    fn hand_in(&self, call: Call) -> Result<(), Error> {
        let mut thread = self.thread.lock();
        let call = match &*thread {
            Some(alive) => match alive.send(call) {
                Ok(()) => return Ok(()),
                Err(unsent) => unsent.0,
            },
            None => call,
        };
        let (calls, come) = channel();
        let origins = Origins::new(Arc::clone(&self.config), Arc::clone(&self.voice));
        thread::Builder::new()
            .name("tidelog-kafka-ask".to_owned())
            .spawn(move || serve(origins, &come))
            .map_err(|error| Error::io("start a thread for", "kafka", error))?;
        // It has just been started.
        let _ = calls.send(call);
        *thread = Some(calls);
        Ok(())
    }
}

fn serve(mut origins: Origins, calls: &Receiver<Call>) {
    loop {
        match calls.recv_timeout(LISTEN) {
            Ok(call) => call(&mut origins),
            Err(RecvTimeoutError::Timeout) => origins.listen(),
            Err(RecvTimeoutError::Disconnected) => return,
        }
    }
}
