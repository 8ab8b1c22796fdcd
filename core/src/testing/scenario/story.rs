//! What a scenario has told so far, and how it says that something is not as expected.

use std::fmt::{Debug, Write};

use similar::{ChangeTag, TextDiff};

/// Most characters of one line about an event or a command.
const LINE: usize = 200;
/// Most lines told before the failure; the newest are kept.
const TOLD: usize = 60;
/// Most lines of a diff.
const DIFF: usize = 200;
/// Equal lines shown around those that differ.
const AROUND: usize = 3;

/// Lines, each with a heading where a new part begins.
#[derive(Clone, Default)]
pub(super) struct Story {
    heading: &'static str,
    lines: Vec<String>,
}

impl Story {
    /// Adds a line below `heading`, which is written when it is another one than before.
    pub(super) fn tell(&mut self, heading: &'static str, line: impl Into<String>) {
        if self.heading != heading {
            self.heading = heading;
            self.lines.push(heading.to_owned());
        }
        self.lines.push(format!("    {}", cut(line.into())));
    }

    /// Fails, because what came is another one than expected.
    #[track_caller]
    pub(super) fn differs(&self, expected: &str, found: &str) -> ! {
        let what = if expected == found {
            "they look alike by Debug, and are not equal by PartialEq:"
        } else {
            "expected (-) is not what came (+):"
        };
        self.fails(&format!("{what}\n{}", diff(expected, found)))
    }

    /// Fails with `why`.
    #[track_caller]
    pub(super) fn fails(&self, why: &str) -> ! {
        let more = self.lines.len().saturating_sub(TOLD);
        let mut told = String::new();
        if more > 0 {
            let _ = writeln!(told, "… {more} lines before");
        }
        for line in self.lines.iter().skip(more) {
            let _ = writeln!(told, "{line}");
        }
        panic!("\n{told}{}\n", why.trim_end());
    }
}

/// One line about a value.
pub(super) fn line(value: &impl Debug) -> String {
    cut(format!("{value:?}"))
}

/// A value over several lines.
pub(super) fn lines(value: &(impl Debug + ?Sized)) -> String {
    format!("{value:#?}\n")
}

fn cut(mut text: String) -> String {
    if let Some((at, _)) = text.char_indices().nth(LINE) {
        text.truncate(at);
        text.push('…');
    }
    text
}

fn diff(expected: &str, found: &str) -> String {
    let diff = TextDiff::from_lines(expected, found);
    let mut lines: Vec<String> = Vec::new();
    let groups = diff.grouped_ops(AROUND);
    let mut at = 0;
    for group in &groups {
        let begins = group.first().map_or(0, |op| op.old_range().start);
        if begins > at {
            lines.push(format!("  … {} equal lines", begins - at));
        }
        for change in group.iter().flat_map(|op| diff.iter_changes(op)) {
            let sign = match change.tag() {
                ChangeTag::Equal => ' ',
                ChangeTag::Delete => '-',
                ChangeTag::Insert => '+',
            };
            lines.push(format!("{sign} {}", change.value().trim_end_matches('\n')));
        }
        at = group.last().map_or(at, |op| op.old_range().end);
    }
    if groups.is_empty() {
        lines.extend(found.lines().map(|line| format!("  {line}")));
    } else if diff.old_len() > at {
        lines.push(format!("  … {} equal lines", diff.old_len() - at));
    }
    if lines.len() > DIFF {
        let more = lines.len() - DIFF;
        lines.truncate(DIFF);
        lines.push(format!("… {more} lines more"));
    }
    lines.join("\n")
}
