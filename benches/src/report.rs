//! The tables: medians, ratios inside each round, and their spread.

use std::fmt::Write as _;

use comfy_table::{CellAlignment, Table, presets::ASCII_MARKDOWN};

use crate::child::Measured;
use crate::contenders::{Face, Kind, peers};
use crate::goals;
use crate::load::PayloadKind;
use crate::measures::{self, Found};
use crate::options::{Job, Options};
use crate::rounds::Rounds;
use crate::works::Work;

/// Makes one number of a measurement.
type Figure = fn(&Measured) -> f64;

/// A row of the table of rates.
const ROWS: [(Work, &str, Figure); 9] = [
    (Work::W1, "", rate),
    (Work::W2, "", rate),
    (Work::I1, "", rate),
    (Work::W3, " acknowledged", rate),
    (Work::W3, " sustained", sustained),
    (Work::W4, " acknowledged", rate),
    (Work::W4, " sustained", sustained),
    (Work::R1, "", rate),
    (Work::R2, "", rate),
];

/// The engines, one column each; the first is set beside the others.
const ENGINES: [&str; 6] = ["tidelog", "raw file", "tephra", "SQLite", "redb", "fjall"];

/// The whole report, as Markdown, of what was measured with each kind of payload.
pub fn write(
    options: &Options,
    facts: &[String],
    measured: &[(PayloadKind, Rounds)],
    found: &Found,
) -> String {
    let mut text = String::from("# Results\n\n");
    let rounds_run = options.rounds.unwrap_or_default();
    let date = options.date.clone().unwrap_or_else(today);
    // Writing to a string cannot fail.
    let _ = writeln!(
        text,
        "{date}, `{}`; {rounds_run} interleaved rounds, SQLite, redb and fjall in the first {} of them, \
         JSON in {}; payloads of {} bytes, seed {}; {}. Each cell \
         is a median; ratios are taken inside a round, with their lowest and highest. What is not \
         alike between contenders stands at the top of each adapter in `src/contenders/`.\n",
        command(),
        options.peer_rounds.unwrap_or_default().min(rounds_run),
        options.json_rounds.unwrap_or_default().min(rounds_run),
        options.payload,
        options.seed,
        peers(),
    );
    for fact in facts {
        let _ = writeln!(text, "- {fact}");
    }
    let _ = write!(text, "\n## Goals\n\n{}\n\n", goals::goals(found));
    let _ = write!(text, "{}\n## Works\n\n", include_str!("../bounds.md"));
    for work in Work::ALL.iter().filter(|work| options.works.contains(work)) {
        let _ = writeln!(text, "- **{work}**: {}", work.describe(options));
    }
    for measure in &options.measures {
        let _ = writeln!(text, "- **{measure}**: {}", measure.describe(options));
    }
    if options.large {
        let _ = writeln!(
            text,
            "- **large**: {rounds} rounds of W3, R1, R2 and W2 with {events} events over {streams} streams \
             against a tenth of both; a million streams: {streams_many} streams of one event, to each of \
             which W3 appends again, just opened and in a process that has met each of them before, as W2 \
             does; W4 with {events} events. W3 and W4 are ended after {seconds} s",
            rounds = options.large_rounds,
            events = options.large_events,
            streams = options.large_events / measures::LONG,
            seconds = options.large_seconds,
            streams_many = options.large_events / measures::SMALLER,
        );
    }
    let _ = writeln!(
        text,
        "\nWhere many clients wait as tokio tasks a row says async, where each is a thread it says \
         threads; like is set beside like. A lone client has no face, so W1 of a peer stands against \
         both of tidelog's."
    );
    for (kind, rounds) in measured {
        sections(&mut text, &format!("{kind} payloads"), rounds);
    }
    let _ = write!(
        text,
        "\n## tidelog alone\n\nBytes written (wear) are those of the process and, from one sync to another, of the whole \
         device, for each byte of payload.\n\n{}\n",
        goals::figures(found)
    );
    let _ = write!(text, "\n{}", include_str!("../faults.md"));
    text
}

/// The tables of one kind of payload.
fn sections(text: &mut String, of: &str, rounds: &Rounds) {
    let _ = write!(
        text,
        "\n## Rates, {of}\n\nPer second; R2 in streams.\n\n{}\n",
        rates(rounds)
    );
    let _ = write!(
        text,
        "\n## Ratios, {of}\n\ntidelog to each peer: median (lowest–highest) of the rounds; above 1 tidelog is ahead.\n\n{}\n",
        ratios(rounds)
    );
    let _ = write!(
        text,
        "\n## Processor time, {of}\n\nMicroseconds a count, over all threads and with background work; holds \
         on a busy machine too.\n\n{}\n",
        processor(rounds)
    );
    let _ = write!(
        text,
        "\n## Disk, memory, opening, {of}\n\nMiB allocated with the store closed; MiB of peak resident memory of each process, in \
         which the file that SQLite maps counts, and caches of up to 1 GiB that redb and fjall were \
         given; milliseconds to open what W3 wrote, and to close.\n\n{}\n",
        costs(rounds)
    );
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
    let mut table = by_engine();
    for (work, label, figure) in ROWS {
        add_rows(&mut table, rounds, (work, label, figure), grouped);
    }
    table
}

fn processor(rounds: &Rounds) -> Table {
    let mut table = by_engine();
    for work in Work::ALL {
        add_rows(&mut table, rounds, (work, "", cpu), |micros| {
            format!("{micros:.2}")
        });
    }
    table
}

fn ratios(rounds: &Rounds) -> Table {
    let [tidelog, peers @ ..] = ENGINES;
    let mut head = vec!["tidelog /"];
    head.extend(peers);
    let mut table = table(&head);
    for (work, label, figure) in ROWS {
        for face in [Face::Threads, Face::Async] {
            let Some(ours) = of_engine(rounds, work, tidelog, face, figure) else {
                continue;
            };
            let label = if work == Work::I1 { " / W2" } else { label };
            let mut row = vec![row_label(work, label, face)];
            for peer in peers {
                // No peer imports; what comes nearest is many clients at once.
                let nearest = if work == Work::I1 { Work::W2 } else { work };
                let mut theirs = of_engine(rounds, nearest, peer, face, figure);
                if work == Work::W1 {
                    theirs = of_engine(rounds, work, peer, Face::Threads, figure);
                }
                row.push(ratio(Some(ours.clone()), theirs));
            }
            table.add_row(row);
        }
    }
    table
}

fn costs(rounds: &Rounds) -> Table {
    let rows: [(Work, &str, Figure); 11] = [
        (Work::W3, ", disk", |m| mebi(m.disk_bytes)),
        (Work::W4, ", disk", |m| mebi(m.disk_bytes)),
        (Work::W1, ", peak memory", |m| mebi(m.peak_kib << 10)),
        (Work::W2, ", peak memory", |m| mebi(m.peak_kib << 10)),
        (Work::I1, ", peak memory", |m| mebi(m.peak_kib << 10)),
        (Work::W3, ", peak memory", |m| mebi(m.peak_kib << 10)),
        (Work::W4, ", peak memory", |m| mebi(m.peak_kib << 10)),
        (Work::R1, ", peak memory", |m| mebi(m.peak_kib << 10)),
        (Work::R2, ", peak memory", |m| mebi(m.peak_kib << 10)),
        (Work::R1, ", opening", |m| m.open_seconds * 1e3),
        (Work::W3, ", closing", |m| m.close_seconds * 1e3),
    ];
    let mut table = by_engine();
    for row in rows {
        add_rows(&mut table, rounds, row, |value| format!("{value:.1}"));
    }
    table
}

/// A table with a column for each engine.
fn by_engine() -> Table {
    let mut head = vec!["work"];
    head.extend(ENGINES);
    table(&head)
}

/// Adds a row of medians for each face that any contender has in the work.
fn add_rows(
    table: &mut Table,
    rounds: &Rounds,
    (work, label, figure): (Work, &str, Figure),
    show: fn(f64) -> String,
) {
    for face in [Face::Threads, Face::Async] {
        let all = ENGINES.map(|engine| of_engine(rounds, work, engine, face, figure));
        if all.iter().all(Option::is_none) {
            continue;
        }
        let mut row = vec![row_label(work, label, face)];
        row.extend(all.map(|all| all.map_or("–".into(), |all| show(median(&all)))));
        table.add_row(row);
    }
}

fn row_label(work: Work, label: &str, face: Face) -> String {
    match (work, face) {
        (Work::W2, Face::Threads) => format!("{work} threads{label}"),
        (Work::W1 | Work::W2, Face::Async) => format!("{work} async{label}"),
        _ => format!("{work}{label}"),
    }
}

/// Figures of the contender that is `engine` with `face`, if it took part.
fn of_engine(
    rounds: &Rounds,
    work: Work,
    engine: &str,
    face: Face,
    figure: Figure,
) -> Option<Vec<f64>> {
    let mut all = Kind::ALL.into_iter();
    let is = |kind: &Kind| kind.does(work) && kind.engine() == engine && kind.face(work) == face;
    figures(rounds, work, all.find(is)?, figure)
}

/// An empty table; all columns but the first are numbers.
pub fn table(head: &[&str]) -> Table {
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

pub fn median(values: &[f64]) -> f64 {
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
pub fn grouped(value: f64) -> String {
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
