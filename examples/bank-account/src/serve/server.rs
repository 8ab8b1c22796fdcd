//! The accept loop: how many connections there are, how long they may take, and how all of it ends.

use std::future::Future;
use std::net::IpAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_io_timeout::TimeoutStream;
use tower::ServiceExt as _;

/// Most headers of a request; more of them are answered by 431.
const HEADERS: usize = 64;
/// Most bytes of a request's head; more of them are answered by 431.
const HEAD: usize = 32 << 10;
/// Most bytes of a connection that wait, to be read or to be written.
const BUFFER: usize = 64 << 10;
/// How long to wait when the system has no more connections to give.
const PAUSE: Duration = Duration::from_millis(50);

/// What connections may take.
pub(super) struct Bounds {
    pub(super) connections: u32,
    pub(super) head: Duration,
    pub(super) stall: Duration,
    pub(super) grace: Duration,
}

/// The other end of the connection that a request came over.
#[derive(Clone, Copy, Debug)]
pub(super) struct Peer(pub(super) IpAddr);

/// Answers connections until `ends`, then takes no more and lets those it has finish.
pub(super) async fn serve(
    listener: TcpListener,
    routes: Router,
    bounds: &Bounds,
    ends: impl Future<Output = ()>,
) {
    let room = Arc::new(Semaphore::new(bounds.connections as usize));
    let open = GracefulShutdown::new();
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new())
        .header_read_timeout(bounds.head)
        .max_headers(HEADERS)
        .max_header_size(HEAD)
        .max_buf_size(BUFFER)
        // Who has said all and listens on gets an answer.
        .half_close(true);
    let mut ends = pin!(ends);
    loop {
        let accepted = async {
            // It is never closed.
            let permit = Arc::clone(&room).acquire_owned().await.ok();
            (permit, listener.accept().await)
        };
        let (permit, accepted) = tokio::select! {
            accepted = accepted => accepted,
            () = &mut ends => break,
        };
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                // One that went away before it was taken is nothing; no files left passes.
                tracing::warn!(%error, "a connection could not be taken");
                tokio::time::sleep(PAUSE).await;
                continue;
            }
        };
        let peer = Peer(peer.ip());
        let routes = routes.clone();
        let service = hyper::service::service_fn(move |mut request: Request<Incoming>| {
            request.extensions_mut().insert(peer);
            routes.clone().oneshot(request)
        });
        let connection = http.serve_connection(io(stream, bounds.stall), service);
        let connection = open.watch(connection);
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "a connection ended early");
            }
            drop(permit);
        });
    }
    drop(listener);
    if tokio::time::timeout(bounds.grace, open.shutdown())
        .await
        .is_err()
    {
        tracing::warn!("requests that did not end in time are cut off");
    }
}

/// A connection that fails when nothing of what is written to it is taken for `stall`.
fn io(stream: TcpStream, stall: Duration) -> TokioIo<std::pin::Pin<Box<TimeoutStream<TcpStream>>>> {
    // An answer is written at once; a failure only makes it wait for the next packet.
    let _ = stream.set_nodelay(true);
    let mut stream = TimeoutStream::new(stream);
    stream.set_write_timeout(Some(stall));
    TokioIo::new(Box::pin(stream))
}

/// Returns once the process is told to end.
#[cfg(unix)]
pub(super) async fn told_to_end() {
    use tokio::signal::unix::{SignalKind, signal};
    match signal(SignalKind::terminate()) {
        Ok(mut terminate) => tokio::select! {
            _ = terminate.recv() => {}
            // Without a handler the signal ends the process by itself.
            _ = tokio::signal::ctrl_c() => {}
        },
        Err(_) => drop(tokio::signal::ctrl_c().await),
    }
}

/// Returns once the process is told to end.
#[cfg(not(unix))]
pub(super) async fn told_to_end() {
    drop(tokio::signal::ctrl_c().await);
}

/// Each connection is a file: as many as the system allows this process at all.
pub(super) fn take_all_files() {
    #[cfg(unix)]
    {
        use rustix::process::{Resource, getrlimit, setrlimit};
        let mut limit = getrlimit(Resource::Nofile);
        limit.current = limit.maximum;
        if let Err(error) = setrlimit(Resource::Nofile, limit) {
            tracing::warn!(%error, "the limit on open files stays as it is");
        }
    }
}
