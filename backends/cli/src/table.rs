//! Tables for people, a part at a time, so that a long one needs no memory.

use comfy_table::{CellAlignment, ContentArrangement, presets};

use crate::error::CliError;
use crate::output::Output;
use crate::text::shown;

/// Rows of one part.
const ROWS: usize = 1000;

/// A table under way. Texts are made safe here.
pub struct Table {
    heads: &'static [&'static str],
    /// Columns with numbers.
    right: &'static [usize],
    rows: Vec<Vec<String>>,
    any: bool,
}

impl Table {
    pub fn new(heads: &'static [&'static str], right: &'static [usize]) -> Self {
        Self {
            heads,
            right,
            rows: Vec::new(),
            any: false,
        }
    }

    pub fn row(&mut self, out: &mut Output, row: Vec<String>) -> Result<(), CliError> {
        self.rows.push(row);
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
        let mut table = comfy_table::Table::new();
        table.load_preset(presets::NOTHING).set_header(self.heads);
        if let Some(width) = out.width {
            let columns = u16::try_from(width).unwrap_or(u16::MAX);
            table.set_width(columns);
            table.set_content_arrangement(ContentArrangement::Dynamic);
        }
        for row in self.rows.drain(..) {
            table.add_row(row.iter().map(|cell| shown(cell)));
        }
        for column in table.column_iter_mut() {
            column.set_padding((0, 2));
        }
        for at in self.right {
            if let Some(column) = table.column_mut(*at) {
                column.set_cell_alignment(CellAlignment::Right);
            }
        }
        self.any = true;
        for line in table.to_string().lines() {
            out.line(line)?;
        }
        Ok(())
    }
}

/// Names and values, one below the other.
pub fn facts(out: &mut Output, facts: &[(&str, String)]) -> Result<(), CliError> {
    let widest = facts.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
    for (name, value) in facts {
        out.line(&format!("{name:widest$}  {}", shown(value)))?;
    }
    Ok(())
}
