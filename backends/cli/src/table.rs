//! Tables for people, a part at a time, so that a long one needs no memory.

use comfy_table::{CellAlignment, ColumnConstraint, ContentArrangement, Width, presets};
use console::measure_text_width;

use crate::error::CliError;
use crate::output::Output;
use crate::text::{shown, wrapped};

/// Rows of one part.
const ROWS: usize = 1000;
/// Between two columns.
const SPACE: usize = 2;
/// Columns of texts are broken into lines, but not into narrower ones.
const TEXT: usize = 14;

/// One column.
#[derive(Clone, Copy)]
pub struct Column {
    head: &'static str,
    is: Is,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Is {
    Text,
    /// Times and words, which are never broken.
    Word,
    Number,
}

/// Names and reasons, broken into lines where there is no room.
pub const fn text(head: &'static str) -> Column {
    let is = Is::Text;
    Column { head, is }
}

/// What is never broken.
pub const fn word(head: &'static str) -> Column {
    let is = Is::Word;
    Column { head, is }
}

/// To the right, and never broken.
pub const fn number(head: &'static str) -> Column {
    let is = Is::Number;
    Column { head, is }
}

/// A table under way. Texts are made safe here.
pub struct Table {
    columns: &'static [Column],
    rows: Vec<Vec<String>>,
    any: bool,
}

impl Table {
    pub fn new(columns: &'static [Column]) -> Self {
        Self {
            columns,
            rows: Vec::new(),
            any: false,
        }
    }

    pub fn row(&mut self, out: &mut Output, row: Vec<String>) -> Result<(), CliError> {
        let row = row.into_iter().map(|cell| shown(&cell).into_owned());
        self.rows.push(row.collect());
        if self.rows.len() >= ROWS {
            self.print(out)?;
        }
        Ok(())
    }

    /// Writes what is left, or `none` where there was no row.
    pub fn end(mut self, out: &mut Output, none: &str) -> Result<(), CliError> {
        if self.rows.is_empty() && !self.any {
            return out.line(none);
        }
        self.print(out)
    }

    fn print(&mut self, out: &mut Output) -> Result<(), CliError> {
        if self.rows.is_empty() {
            return Ok(());
        }
        let rows = std::mem::take(&mut self.rows);
        if out.width.is_some_and(|width| self.least(&rows) > width) {
            self.any = true;
            return self.blocks(out, &rows);
        }
        let mut table = comfy_table::Table::new();
        let heads = self.columns.iter().map(|column| column.head);
        table.load_preset(presets::NOTHING).set_header(heads);
        if let Some(width) = out.width {
            let columns = u16::try_from(width).unwrap_or(u16::MAX);
            table.set_width(columns);
            table.set_content_arrangement(ContentArrangement::Dynamic);
        }
        for row in rows {
            table.add_row(row);
        }
        for (shown, column) in table.column_iter_mut().zip(self.columns) {
            shown.set_padding((0, u16::try_from(SPACE).unwrap_or_default()));
            match column.is {
                Is::Text => {
                    let least = Width::Fixed(u16::try_from(TEXT + SPACE).unwrap_or_default());
                    shown.set_constraint(ColumnConstraint::LowerBoundary(least));
                }
                Is::Word => {
                    shown.set_constraint(ColumnConstraint::ContentWidth);
                }
                Is::Number => {
                    shown.set_constraint(ColumnConstraint::ContentWidth);
                    shown.set_cell_alignment(CellAlignment::Right);
                }
            }
        }
        self.any = true;
        for line in table.to_string().lines() {
            out.line(line)?;
        }
        Ok(())
    }

    /// The room that these rows need side by side.
    fn least(&self, rows: &[Vec<String>]) -> usize {
        let width = |(at, column): (usize, &Column)| {
            let cells = rows.iter().filter_map(|row| row.get(at));
            let cells = cells.map(|cell| measure_text_width(cell));
            let widest = cells.max().unwrap_or(0).max(column.head.len());
            match column.is {
                Is::Text => TEXT,
                Is::Word | Is::Number => widest,
            }
        };
        let columns = self.columns.iter().enumerate().map(width);
        columns.map(|width| width + SPACE).sum::<usize>()
    }

    /// Where there is no room for a table: each row by itself.
    fn blocks(&self, out: &mut Output, rows: &[Vec<String>]) -> Result<(), CliError> {
        for row in rows {
            let heads = self.columns.iter().map(|column| column.head);
            let named: Vec<_> = heads.zip(row.iter().cloned()).collect();
            facts(out, &named)?;
            out.line("")?;
        }
        Ok(())
    }
}

/// Names and values, one below the other.
pub fn facts(out: &mut Output, facts: &[(&str, String)]) -> Result<(), CliError> {
    let widest = facts.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
    for (name, value) in facts {
        let room = out.width.map(|width| width.saturating_sub(widest + SPACE));
        let mut name = *name;
        for part in wrapped(&shown(value), room) {
            out.line(&format!("{name:widest$}  {part}"))?;
            name = "";
        }
    }
    Ok(())
}
