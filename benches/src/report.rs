//! The tables: medians, ratios inside each round, and their spread.

use std::fmt::Write as _;

use comfy_table::{CellAlignment, Table, presets::ASCII_MARKDOWN};

use crate::child::Measured;
use crate::contenders::Kind;
use crate::options::{Job, Options};
use crate::rounds::Rounds;
use crate::works::Work;

/// Makes one number of a measurement.
type Figure = fn(&Measured) -> f64;

/// A row of the table of rates.
const ROWS: [(Work, &str, Figure); 7] = [
    (Work::W1, "", rate),
    (Work::W2, "", rate),
    (Work::I1, "", rate),
    (Work::W3, " acknowledged", rate),
    (Work::W3, " sustained", sustained),
    (Work::R1, "", rate),
    (Work::R2, "", rate),
];

/// The whole report, as Markdown.
pub fn write(options: &Options, facts: &[String], rounds: &Rounds) -> String {
    let mut text = String::from("# Results\n\n");
    let rounds_run = options.rounds.unwrap_or_default();
    let date = options.date.clone().unwrap_or_else(today);
    // Writing to a string cannot fail.
    let _ = writeln!(
        text,
        "{date}, `{}`; {rounds_run} interleaved rounds, payloads of {} random bytes, seed {}. Each cell \
         is a median; ratios are taken inside a round, with their lowest and highest. What is not \
         alike between contenders stands beside each adapter in `src/contenders/`.\n",
        command(),
        options.payload,
        options.seed,
    );
    for fact in facts {
        let _ = writeln!(text, "- {fact}");
    }
    text.push('\n');
    for work in Work::ALL.iter().filter(|work| options.works.contains(work)) {
        let _ = writeln!(text, "- **{work}**: {}", work.describe(options));
    }
    let _ = write!(
        text,
        "\n## Rates\n\nPer second; R2 in streams.\n\n{}\n",
        rates(rounds)
    );
    let _ = write!(
        text,
        "\n## Processor time\n\nMicroseconds a count, over all threads and with background work; holds \
         on a busy machine too.\n\n{}\n",
        processor(rounds)
    );
    let _ = write!(text, "\n## Ratios\n\n{}\n", ratios(rounds));
    let _ = write!(
        text,
        "\n## Disk, memory, opening\n\nMiB allocated after W3 with the store closed; MiB of peak resident memory of each process; \
         milliseconds to open what W3 wrote.\n\n{}\n",
        costs(rounds)
    );
    text
}

fn rate(measured: &Measured) -> f64 {
    measured.timing.count as f64 / measured.timing.seconds
}

fn sustained(measured: &Measured) -> f64 {
    let timing = &measured.timing;
    timing.count as f64 / timing.drained_seconds.unwrap_or(timing.seconds)
}

/// Microseconds of processor time a count.
fn cpu(measured: &Measured) -> f64 {
    measured.timing.cpu_seconds * 1e6 / measured.timing.count as f64
}

fn rates(rounds: &Rounds) -> Table {
    let mut table = table(&["work", "tidelog", "tidelog async", "raw file", "tephra"]);
    for (work, label, figure) in ROWS {
        let mut row = vec![format!("{work}{label}")];
        row.extend(
            Kind::ALL.map(|kind| match figures(rounds, work, kind, figure) {
                Some(all) => grouped(median(&all)),
                None => "–".into(),
            }),
        );
        table.add_row(row);
    }
    table
}

fn processor(rounds: &Rounds) -> Table {
    let mut table = table(&["work", "tidelog", "tidelog async", "raw file", "tephra"]);
    for work in Work::ALL {
        let mut row = vec![work.to_string()];
        row.extend(
            Kind::ALL.map(|kind| match figures(rounds, work, kind, cpu) {
                Some(all) => format!("{:.2}", median(&all)),
                None => "–".into(),
            }),
        );
        table.add_row(row);
    }
    table
}

fn ratios(rounds: &Rounds) -> Table {
    let mut table = table(&[
        "work",
        "tidelog / raw",
        "tidelog / tephra",
        "async / raw",
        "async / tephra",
    ]);
    for (work, label, figure) in ROWS {
        // No peer imports; what comes nearest is many clients at once.
        if work == Work::I1 {
            let ours = figures(rounds, work, Kind::TidelogAsync, figure);
            let raw = figures(rounds, Work::W2, Kind::Raw, figure);
            table.add_row(["I1 / W2 raw", "–", "–", &ratio(ours, raw), "–"]);
            continue;
        }
        let mut row = vec![format!("{work}{label}")];
        for ours in [Kind::Tidelog, Kind::TidelogAsync] {
            for peer in [Kind::Raw, Kind::Tephra] {
                let ours = figures(rounds, work, ours, figure);
                let peer = figures(rounds, work, peer, figure);
                row.push(ratio(ours, peer));
            }
        }
        table.add_row(row);
    }
    table
}

fn costs(rounds: &Rounds) -> Table {
    let rows: [(Work, &str, Figure); 9] = [
        (Work::W3, "disk after W3", |m| mebi(m.disk_bytes)),
        (Work::W1, "peak memory, W1", |m| mebi(m.peak_kib << 10)),
        (Work::W2, "peak memory, W2", |m| mebi(m.peak_kib << 10)),
        (Work::I1, "peak memory, I1", |m| mebi(m.peak_kib << 10)),
        (Work::W3, "peak memory, W3", |m| mebi(m.peak_kib << 10)),
        (Work::R1, "peak memory, R1", |m| mebi(m.peak_kib << 10)),
        (Work::R2, "peak memory, R2", |m| mebi(m.peak_kib << 10)),
        (Work::R1, "open after W3", |m| m.open_seconds * 1e3),
        (Work::W3, "close after W3", |m| m.close_seconds * 1e3),
    ];
    let mut table = table(&["", "tidelog", "tidelog async", "raw file", "tephra"]);
    for (work, label, figure) in rows {
        let mut row = vec![label.to_owned()];
        row.extend(
            Kind::ALL.map(|kind| match figures(rounds, work, kind, figure) {
                Some(all) => format!("{:.1}", median(&all)),
                None => "–".into(),
            }),
        );
        table.add_row(row);
    }
    table
}

fn table(head: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_preset(ASCII_MARKDOWN).set_header(head);
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table
}

fn figures(rounds: &Rounds, work: Work, contender: Kind, figure: Figure) -> Option<Vec<f64>> {
    let measured = rounds.get(&Job { work, contender })?;
    Some(measured.iter().map(figure).collect())
}

/// Median of the ratios of each round, lowest and highest.
fn ratio(ours: Option<Vec<f64>>, peer: Option<Vec<f64>>) -> String {
    let Some((ours, peer)) = ours.zip(peer) else {
        return "–".into();
    };
    let ratios: Vec<_> = ours
        .iter()
        .zip(peer)
        .map(|(ours, peer)| ours / peer)
        .collect();
    let lowest = ratios.iter().copied().fold(f64::INFINITY, f64::min);
    let highest = ratios.iter().copied().fold(0.0, f64::max);
    format!("{:.2} ({lowest:.2}–{highest:.2})", median(&ratios))
}

fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let upper = sorted.get(sorted.len() / 2).copied().unwrap_or(f64::NAN);
    if sorted.len() % 2 == 1 {
        return upper;
    }
    let lower = sorted.get((sorted.len() / 2).wrapping_sub(1)).copied();
    f64::midpoint(lower.unwrap_or(f64::NAN), upper)
}

fn mebi(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}

/// A whole number with its thousands apart.
fn grouped(value: f64) -> String {
    let digits = format!("{value:.0}");
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// How this run was asked for.
fn command() -> String {
    let flags: Vec<_> = std::env::args().skip(1).collect();
    let run = "cargo run --release -p tidelog-benches";
    if flags.is_empty() {
        run.into()
    } else {
        format!("{run} -- {}", flags.join(" "))
    }
}

#[allow(clippy::disallowed_methods, reason = "a report says when it was made")]
fn today() -> String {
    chrono::Utc::now().date_naive().to_string()
}
