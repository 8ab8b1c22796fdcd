//! How events stand on a terminal: a line each where there is room, else a few.

use std::borrow::Cow;

use console::{Alignment, pad_str, truncate_str};

use crate::output::Output;

/// Below so many columns a payload has a line of its own.
const ONE_LINE: usize = 110;
/// Below so many the type and the time have one, too.
const TWO_LINES: usize = 72;
/// What stands in further lines begins here.
const INDENT: usize = 10;

/// The texts of one event, safe for a terminal.
pub struct Cells<'a> {
    pub position: u64,
    pub time: String,
    pub stream: Cow<'a, str>,
    pub sequence: u64,
    pub event_type: Cow<'a, str>,
    pub payload: Cow<'a, str>,
}

/// How wide what is.
#[derive(Clone, Copy)]
pub struct Layout {
    /// Columns of the terminal; `None` where nothing is cut.
    width: Option<usize>,
}

impl Layout {
    /// For where the answer goes; `full` cuts nothing.
    pub fn of(out: &Output, full: bool) -> Self {
        Self {
            width: out.width.filter(|_| !full),
        }
    }

    /// At most so much of a payload is seen.
    pub fn payload(self) -> Option<usize> {
        self.width
    }

    pub fn head(self) -> String {
        match self.width {
            Some(width) if width < TWO_LINES => {
                let stream = cell("stream", narrow_stream(width));
                format!("position  {stream}  {:>5}", "seq")
            }
            Some(width) if width < ONE_LINE => {
                let stream = cell("stream", middle_stream(width));
                format!(
                    "position  {:<20}  {stream}  {:>5}  {:<16}",
                    "time", "seq", "type"
                )
            }
            _ => format!(
                "position  {:<27}  {}  {:>5}  {:<16}  payload",
                "time",
                cell("stream", self.wide_stream()),
                "seq",
                "type"
            ),
        }
    }

    /// The lines of one event.
    pub fn lines(self, event: &Cells<'_>) -> Vec<String> {
        let (position, sequence) = (event.position, event.sequence);
        let kind = &event.event_type;
        match self.width {
            Some(width) if width < TWO_LINES => {
                let stream = cell(&event.stream, narrow_stream(width));
                let seconds = in_seconds(&event.time);
                let left = width.saturating_sub(INDENT);
                let kind = truncate_str(kind, left.saturating_sub(seconds.len() + 2).max(8), "…");
                vec![
                    format!("{position:>8}  {stream}  {sequence:>5}"),
                    indented(&format!("{kind}  {seconds}"), width),
                    indented(&event.payload, width),
                ]
            }
            Some(width) if width < ONE_LINE => {
                let stream = cell(&event.stream, middle_stream(width));
                let (seconds, kind) = (in_seconds(&event.time), truncate_str(kind, 16, "…"));
                vec![
                    format!("{position:>8}  {seconds:<20}  {stream}  {sequence:>5}  {kind}"),
                    indented(&event.payload, width),
                ]
            }
            Some(width) => {
                let stream = cell(&event.stream, self.wide_stream());
                let (time, kind) = (&event.time, cell(kind, 16));
                let line = format!(
                    "{position:>8}  {time:<27}  {stream}  {sequence:>5}  {kind}  {}",
                    event.payload
                );
                vec![truncate_str(&line, width, "…").into_owned()]
            }
            None => {
                let stream = pad_str(&event.stream, self.wide_stream(), Alignment::Left, None);
                let kind = pad_str(kind, 16, Alignment::Left, None);
                let (time, payload) = (&event.time, &event.payload);
                vec![format!(
                    "{position:>8}  {time:<27}  {stream}  {sequence:>5}  {kind}  {payload}"
                )]
            }
        }
    }

    fn wide_stream(self) -> usize {
        let more = self.width.unwrap_or(ONE_LINE).saturating_sub(ONE_LINE) / 3;
        (24 + more).min(64)
    }
}

/// What is left between position, time, sequence and type.
fn middle_stream(width: usize) -> usize {
    width.saturating_sub(8 + 2 + 20 + 2 + 2 + 5 + 2 + 16)
}

/// What is left between position and sequence.
fn narrow_stream(width: usize) -> usize {
    width.saturating_sub(8 + 2 + 2 + 5).max(8)
}

/// A text in so many columns, cut where it has more.
fn cell(text: &str, width: usize) -> String {
    let cut = truncate_str(text, width, "…");
    // A wide character may not have fitted by half.
    pad_str(&cut, width, Alignment::Left, None).into_owned()
}

fn indented(text: &str, width: usize) -> String {
    let left = width.saturating_sub(INDENT).max(8);
    format!("{:INDENT$}{}", "", truncate_str(text, left, "…"))
}

/// `2026-11-26T09:00:00.123456Z` without what few look for.
fn in_seconds(time: &str) -> Cow<'_, str> {
    match time.split_once('.') {
        Some((seconds, _)) => Cow::Owned(format!("{seconds}Z")),
        None => Cow::Borrowed(time),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(stream: &str, payload: &str) -> Cells<'static> {
        Cells {
            position: 12_345,
            time: "2026-11-26T09:00:00.123456Z".into(),
            stream: stream.to_owned().into(),
            sequence: 7,
            event_type: "GeldEingezahltUndNochMehr".into(),
            payload: payload.to_owned().into(),
        }
    }

    #[test]
    fn no_line_is_wider_than_the_terminal_and_columns_stand_below_their_heads() {
        let wide = "漢字".repeat(100);
        let names = ["Till/7", "👩‍👩‍👧/👍🏽", &"x".repeat(300), &wide];
        for width in 30..300 {
            let layout = Layout { width: Some(width) };
            let head = layout.head();
            assert!(
                console::measure_text_width(&head) <= width,
                "{width}: {head}"
            );
            let (before, _) = head.split_once("seq").unwrap();
            let numbers_end = console::measure_text_width(before) + 3;
            for name in names {
                let lines = layout.lines(&event(name, &wide));
                for line in &lines {
                    assert!(
                        console::measure_text_width(line) <= width,
                        "{width}: {line}"
                    );
                }
                let ends = lines[0].char_indices().map(|(at, _)| &lines[0][..at]);
                let mut cut = ends.filter(|cut| console::measure_text_width(cut) == numbers_end);
                let cut = cut.next_back().unwrap_or(&lines[0]);
                assert!(cut.ends_with("    7"), "{width}: {lines:?}");
            }
        }
    }

    #[test]
    fn nothing_is_cut_where_there_is_no_terminal() {
        let layout = Layout { width: None };
        let payload = "y".repeat(5_000);
        let lines = layout.lines(&event(&"x".repeat(300), &payload));
        assert_eq!(lines.len(), 1);
        assert!(lines[0].contains(&"x".repeat(300)) && lines[0].ends_with(&payload));
    }
}
