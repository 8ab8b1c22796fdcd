//! The bank as a service: accounts over HTTP, events as they come, and a page to look at them.
//!
//! ```text
//! socket ─▶ server ─▶ guards ─▶ routes ─▶ command ─▶ Tidelog
//!           bounds     who may    what     once, also   the log
//!           time       how often  is asked  if repeated
//!                                   ▲                    │
//!                                   └── feed (SSE) ◀─────┘
//! ```
//!
//! No handler does file I/O: the store's async calls work on the store's own threads.

mod accounts;
mod command;
mod feed;
mod guard;
mod headers;
mod health;
mod history;
mod input;
mod openapi;
mod page;
mod problem;
mod routes;
mod search;
mod server;
mod status;
mod transfers;
mod turns;
mod view;

use std::io::Write;
use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use tidelog::{ListenerControl, ReadModel, Tidelog, Timers};
use tokio::net::TcpListener;
use tokio::sync::watch;

use crate::cli::CliError;
use crate::read_models::{Accounts, Months};
use crate::transfer::Transfers;
use feed::Feed;
use turns::Turns;

/// How the bank is served.
#[derive(Clone, Debug, Args)]
pub struct Serving {
    /// Where to listen. Whoever reaches it may do everything: there is no login.
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:8080")]
    pub listen: SocketAddr,
    /// A name that it is reached by, beside those of this machine's loopback; may be given often.
    #[arg(long = "host", value_name = "NAME")]
    pub hosts: Vec<String>,
    /// Most requests of one client in a second; 0 for no limit.
    #[arg(long, value_name = "REQUESTS", default_value_t = 2_000)]
    pub rate: u32,
    /// Most connections at once; others wait.
    #[arg(long, value_name = "CONNECTIONS", default_value_t = 2_200)]
    pub connections: u32,
    /// Most readers of live events at once.
    #[arg(long, value_name = "READERS", default_value_t = 2_000)]
    pub readers: u32,
    /// How long a request may take, and how long its head and its body may take to arrive.
    #[arg(long, value_name = "SECONDS", default_value_t = 10)]
    pub request_seconds: u32,
    /// How long a reader of events may take nothing of what is written to it.
    #[arg(long, value_name = "SECONDS", default_value_t = 30)]
    pub stall_seconds: u32,
    /// How long requests under way may still take when it ends.
    #[arg(long, value_name = "SECONDS", default_value_t = 10)]
    pub grace_seconds: u32,
    /// Tell, on stderr, of each request and of what it led to here and at the servers, once that is
    /// over. A trace that the request names (`traceparent`), and the positions of events, hold it
    /// together.
    #[arg(long)]
    pub spans: bool,
}

/// What every request finds.
struct App {
    bank: Tidelog,
    accounts: ReadModel<Accounts>,
    months: ReadModel<Months>,
    timers: ReadModel<Timers<Transfers>>,
    transfers: ListenerControl,
    feed: Arc<Feed>,
    turns: Turns,
    /// How long a request may take.
    patience: Duration,
    metrics: metrics_exporter_prometheus::PrometheusHandle,
    /// True once the service ends.
    closing: watch::Receiver<bool>,
}

impl Serving {
    /// Serves `bank` until the process is told to end (`SIGINT`, `SIGTERM`), then lets requests under
    /// way end.
    pub(crate) async fn run(self, bank: &Tidelog, out: &mut impl Write) -> Result<(), CliError> {
        log_to_stderr(self.spans);
        server::take_all_files();
        let (close, closing) = watch::channel(false);
        let feed = Feed::of(bank, self.readers, closing.clone());
        let app = Arc::new(App {
            bank: bank.clone(),
            accounts: bank.projection()?,
            months: bank.projection()?,
            timers: bank.projection()?,
            transfers: bank.process_manager::<Transfers>()?,
            feed: Arc::clone(&feed),
            turns: Turns::new(),
            patience: Duration::from_secs(self.request_seconds.into()),
            metrics: health::recorder()?,
            closing: closing.clone(),
        });
        let listener = TcpListener::bind(self.listen).await?;
        let address = listener.local_addr()?;
        let guards = guard::Guards {
            hosts: self.hosts.clone(),
            rate: NonZeroU32::new(self.rate),
        };
        let routes = routes::of(app, guards);
        let pump = tokio::spawn(feed.fill(bank.clone()));
        writeln!(out, "listening on http://{address}")?;
        out.flush()?;
        let bounds = server::Bounds {
            connections: self.connections,
            head: Duration::from_secs(self.request_seconds.into()),
            stall: Duration::from_secs(self.stall_seconds.into()),
            grace: Duration::from_secs(self.grace_seconds.into()),
        };
        let ends = async {
            server::told_to_end().await;
            tracing::info!("told to end; requests under way are let end");
            // Whoever listens is gone if this fails.
            let _ = close.send(true);
        };
        server::serve(listener, routes, &bounds, ends).await;
        pump.abort();
        Ok(())
    }
}

/// What happens is told on stderr, as `RUST_LOG` says.
fn log_to_stderr(spans: bool) {
    use tracing_subscriber::EnvFilter;
    use tracing_subscriber::fmt::format::FmtSpan;
    let (filter, ends) = if spans {
        // Those of single events are for who looks for something.
        ("info,tidelog=debug", FmtSpan::CLOSE)
    } else {
        ("info", FmtSpan::NONE)
    };
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(filter));
    // Somebody may have chosen another one before.
    let _ = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_span_events(ends)
        .with_writer(std::io::stderr)
        .with_ansi(false)
        .try_init();
}
