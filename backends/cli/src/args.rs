//! What can be said on the command line.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::select::Selection;

/// Looks into stores of tidelog, backs them up and repairs them.
///
/// Verbs that read need no lock: they read the log alone, also beside a running application, and show what
/// survives a power cut. Those that need the index or change something say who has the store open. Nothing
/// changes a store but `import`, `rebuild-index` and `accept-loss`; `backup`, `restore`, `repair` and `export`
/// write to another place, over nothing.
///
/// Exit codes: 0 done; 1 failed; 2 the command line is wrong, or a change was not confirmed; 3 another
/// process has the store open; 4 there is no store, one of a newer format, or a place where none may
/// be made; 5 the store is damaged, or
/// events are gone; 130 ended by a signal.
#[derive(Debug, Parser)]
#[command(name = "tidelog", bin_name = "tidelog", version, max_term_width = 100)]
pub struct Cli {
    /// Answer in JSON: one object, or one a line for what can be many.
    #[arg(long, global = true)]
    pub json: bool,
    /// What to do.
    #[command(subcommand)]
    pub verb: Verb,
}

/// What can be done.
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Show what a store is, how far it is, and who has it open.
    Info(Store),
    /// Check every byte of the log, and what listeners have saved.
    Verify {
        #[command(flatten)]
        store: Store,
        /// The index as well, in a copy of it. Nobody may have the store open.
        #[arg(long)]
        index: bool,
    },
    /// List streams. Reads the whole log; needs some 200 bytes of memory a stream.
    Streams {
        #[command(flatten)]
        store: Store,
        /// Only of aggregates of this type.
        #[arg(long, value_name = "TYPE")]
        aggregate_type: Option<String>,
        /// In which order.
        #[arg(long, value_enum, default_value_t)]
        sort: Sort,
        /// Most streams shown.
        #[arg(long, value_name = "N")]
        limit: Option<usize>,
    },
    /// Show events, oldest first.
    #[command(
        after_help = "Examples:\n  tidelog events shop --stream Till/7 --since 2h\n  \
                            tidelog events shop --type Sold --json | jq .payload"
    )]
    Events {
        #[command(flatten)]
        store: Store,
        #[command(flatten)]
        select: Selection,
        /// Only the first N.
        #[arg(long, value_name = "N", conflicts_with = "last")]
        limit: Option<u64>,
        /// Only the last N.
        #[arg(long, value_name = "N")]
        last: Option<usize>,
        #[command(flatten)]
        show: Show,
    },
    /// Show the newest events, and with -f those that come.
    Tail {
        #[command(flatten)]
        store: Store,
        #[command(flatten)]
        select: Selection,
        /// How many.
        #[arg(short = 'n', long, value_name = "N", default_value_t = 10)]
        lines: usize,
        /// Go on with what comes, each event once, until it is ended.
        #[arg(short, long)]
        follow: bool,
        #[command(flatten)]
        show: Show,
    },
    /// List snapshots, from a copy of the index. Nobody may have the store open.
    Snapshots {
        #[command(flatten)]
        store: Store,
        /// Only of aggregates of this type.
        #[arg(long, value_name = "TYPE")]
        aggregate_type: Option<String>,
    },
    /// List the read models that are kept in a store, from a copy of the index. Nobody may have it open.
    Projections(Store),
    /// List the streams that listeners, replication and publishing have set aside, and why.
    Parked {
        #[command(flatten)]
        store: Store,
        /// Those of read models as well, from a copy of the index. Nobody may have the store open.
        #[arg(long)]
        projections: bool,
    },
    /// Copy a store, also beside a running application. Into the same directory again it copies what is new.
    Backup {
        #[command(flatten)]
        store: Store,
        /// Where to: missing, empty, or an earlier backup of this store.
        to: PathBuf,
    },
    /// Put a backup back as a store.
    Restore {
        /// The backup.
        backup: PathBuf,
        /// Where to: missing or empty.
        to: PathBuf,
    },
    /// Copy all that is whole of a damaged store to a new one, which says what is gone.
    Repair {
        #[command(flatten)]
        store: Store,
        /// Where to: missing or empty.
        to: PathBuf,
    },
    /// Let streams of a repaired store go on without the events that are gone.
    AcceptLoss {
        #[command(flatten)]
        store: Store,
        /// The stream, type/id; all of them if left out.
        stream: Option<String>,
        #[command(flatten)]
        confirm: Confirm,
    },
    /// Make the index again from the log. Snapshots and rows of read models go with the old one.
    RebuildIndex {
        #[command(flatten)]
        store: Store,
        #[command(flatten)]
        confirm: Confirm,
    },
    /// Write events out as CloudEvents, a line each.
    #[command(after_help = "Examples:\n  tidelog export shop shop.jsonl\n  \
                            tidelog export shop | tidelog import copy -")]
    Export {
        #[command(flatten)]
        store: Store,
        /// Where to; left out, or `-`, to stdout. A file must not be there yet.
        file: Option<PathBuf>,
        /// Only from this position on.
        #[arg(long, value_name = "POSITION")]
        from: Option<u64>,
        /// Only up to this position.
        #[arg(long, value_name = "POSITION")]
        to: Option<u64>,
        /// Only this stream, type/id.
        #[arg(long, value_name = "STREAM")]
        stream: Option<String>,
        /// Only of aggregates of this type.
        #[arg(long, value_name = "TYPE")]
        aggregate_type: Option<String>,
        /// Only events of this type.
        #[arg(long = "type", value_name = "TYPE")]
        event_type: Option<String>,
        /// Only events with this tag, key:value.
        #[arg(long, value_name = "TAG")]
        tag: Option<String>,
    },
    /// Take the events of an export into a store.
    Import {
        /// Directory of the store: missing or empty, unless --into-existing.
        store: PathBuf,
        /// The file; `-` is stdin.
        file: PathBuf,
        /// Into a store that has events already; also to go on with an import that was ended.
        #[arg(long)]
        into_existing: bool,
        /// Number events anew behind what their streams hold: for exports of a selection.
        #[arg(long)]
        renumber: bool,
    },
}

/// The store that is meant.
#[derive(Debug, Args)]
pub struct Store {
    /// Directory of the store.
    #[arg(value_name = "STORE")]
    pub path: PathBuf,
}

/// Changes that are asked for twice.
#[derive(Debug, Args)]
pub struct Confirm {
    /// Do not ask.
    #[arg(long, short)]
    pub yes: bool,
}

/// How events are shown to people.
#[derive(Debug, Args)]
pub struct Show {
    /// All of each event, in several lines.
    #[arg(long)]
    pub long: bool,
    /// Whole payloads, also where they do not fit into the terminal.
    #[arg(long)]
    pub full: bool,
}

/// The order of streams.
#[derive(Clone, Copy, Debug, Default, ValueEnum)]
pub enum Sort {
    /// By name.
    #[default]
    Name,
    /// Those with the most events first.
    Events,
    /// Those with the newest events first.
    Newest,
}
