//! What a store is.

use std::path::Path;
use std::process::ExitCode;

use serde::Serialize;
use tidelog::{LogReader, StoreKind};

use crate::error::{CliError, DAMAGED, DONE};
use crate::output::Output;
use crate::saved::{self, State};
use crate::table::{Column, Table, facts, number, text};
use crate::text::{counted, grouped, hex};

const LISTENERS: [Column; 4] = [
    text("listener"),
    number("position"),
    number("behind"),
    number("parked"),
];

#[derive(Serialize)]
struct Info {
    path: String,
    kind: &'static str,
    format_version: u32,
    compatible_flags: u32,
    read_only_flags: u32,
    incompatible_flags: u32,
    origin: String,
    epoch: String,
    created: String,
    first_position: u64,
    last_position: u64,
    commits: u64,
    chain_hash: String,
    pending_commits: u64,
    segments: u64,
    log_bytes: u64,
    indexed_segments: Option<u64>,
    closed: bool,
    in_use: Option<bool>,
    last_opened: Option<String>,
    lost_positions: u64,
    lost_streams: u64,
    loss_accepted: Option<bool>,
    listeners: Vec<Listener>,
    damage: Option<String>,
}

/// How far a listener or a sink is; nothing is known of a later version's but its name.
#[derive(Serialize)]
struct Listener {
    name: String,
    position: Option<u64>,
    behind: Option<u64>,
    parked: Option<u64>,
}

pub fn info(path: &Path, out: &mut Output) -> Result<ExitCode, CliError> {
    let log = LogReader::open(path)?;
    let found = log.info()?;
    let losses = log.losses();
    let mut damage = found.damage.clone();
    let mut listeners = Vec::new();
    for saved in saved::of(&log, &found)? {
        let (position, parked) = match saved.state {
            Ok(State::Listener(state)) => {
                let held = state.parked.values().filter(|parked| parked.held() > 0);
                (Some(state.mark.position), Some(held.count() as u64))
            }
            Ok(State::Sink(sink)) => {
                let held = sink.parked.iter().filter(|parked| !parked.accepted);
                (Some(sink.settled), Some(held.count() as u64))
            }
            Ok(State::Other) => (None, None),
            Err(error) => {
                damage.get_or_insert_with(|| error.to_string());
                (None, None)
            }
        };
        listeners.push(Listener {
            name: saved.name,
            position,
            behind: position.map(|position| found.last_position.saturating_sub(position)),
            parked,
        });
    }
    let ranges = losses.ranges.iter().map(|range| &range.positions);
    let lost: u64 = ranges.map(|gone| gone.end() + 1 - gone.start()).sum();
    let is_lossy = lost > 0 || !losses.streams.is_empty();
    let info = Info {
        path: found.path.display().to_string(),
        kind: match found.kind {
            StoreKind::Backup => "backup",
            StoreKind::Copy => "copy",
            _ => "store",
        },
        format_version: found.format_version,
        compatible_flags: found.compatible_flags,
        read_only_flags: found.read_only_flags,
        incompatible_flags: found.incompatible_flags,
        origin: found.origin.to_string(),
        epoch: found.epoch.to_string(),
        created: found.created.to_string(),
        first_position: found.first_position,
        last_position: found.last_position,
        commits: found.commits,
        chain_hash: hex(&found.chain_hash),
        pending_commits: found.pending_commits,
        segments: found.segments,
        log_bytes: found.log_bytes,
        indexed_segments: found.indexed_segments,
        closed: found.closed,
        in_use: found.in_use,
        last_opened: found.last_opened,
        lost_positions: lost,
        lost_streams: losses.streams.len() as u64,
        loss_accepted: is_lossy.then_some(losses.accepted),
        listeners,
        damage,
    };
    if out.json {
        out.object(&info)?;
    } else {
        write(&info, out)?;
    }
    let code = if info.damage.is_some() { DAMAGED } else { DONE };
    Ok(ExitCode::from(code))
}

fn write(info: &Info, out: &mut Output) -> Result<(), CliError> {
    let holder = info.last_opened.clone().unwrap_or_default();
    let open = match info.in_use {
        Some(true) => format!("yes, by {holder}"),
        Some(false) if info.closed => "no, closed in order".into(),
        Some(false) => "no, and it was not closed in order".into(),
        None if holder.is_empty() => "not known".into(),
        None => format!("not known; opened last by {holder}"),
    };
    let commits = match info.pending_commits {
        0 => grouped(info.commits),
        pending => format!(
            "{}, and {} whole of which nothing says yet that they are on the disk",
            grouped(info.commits),
            grouped(pending)
        ),
    };
    let mut all = vec![
        ("store", info.path.clone()),
        ("kind", info.kind.to_owned()),
        ("open", open),
        (
            "records",
            if info.last_position == 0 {
                "none".to_owned()
            } else {
                format!("{} to {}", info.first_position, info.last_position)
            },
        ),
        ("commits", commits),
        ("chain hash", info.chain_hash.clone()),
        (
            "log",
            format!(
                "{} bytes in {}",
                grouped(info.log_bytes),
                counted(info.segments, "segment")
            ),
        ),
        (
            "indexed",
            info.indexed_segments.map_or_else(
                || "no segment yet".into(),
                |last| format!("up to segment {last}"),
            ),
        ),
        ("origin", info.origin.clone()),
        ("epoch", info.epoch.clone()),
        ("created", info.created.clone()),
        ("format", format!("version {}", info.format_version)),
    ];
    if let Some(accepted) = info.loss_accepted {
        let state = if accepted { "accepted" } else { "not accepted" };
        let (positions, streams) = (grouped(info.lost_positions), grouped(info.lost_streams));
        all.push((
            "lost",
            format!("{positions} records, of {streams} streams that are known; {state}"),
        ));
    }
    if let Some(damage) = &info.damage {
        all.push(("DAMAGED", damage.clone()));
    }
    facts(out, &all)?;
    if info.listeners.is_empty() {
        return Ok(());
    }
    out.line("")?;
    let mut table = Table::new(&LISTENERS);
    let known = |number: Option<u64>| number.map_or_else(|| "–".into(), grouped);
    for listener in &info.listeners {
        let row = vec![
            listener.name.clone(),
            known(listener.position),
            known(listener.behind),
            known(listener.parked),
        ];
        table.row(out, row)?;
    }
    table.end(out, "")
}
