//! What the bank holds, as a table. Every number is read from the store, save those that no store
//! can know: what was refused, and how fast it went.

use std::fmt;
use std::fs;
use std::io;
use std::path::Path;

use comfy_table::{CellAlignment, Table, presets};
use tidelog::{Error, QueryHandler, Tidelog};

use crate::import::Imported;
use crate::money::{self, group};
use crate::query::{Bank, DepositsByMonth, LargestAccounts, Totals, TotalsAnswer};
use crate::read_models::AccountRow;

/// Columns of the longest bar.
const BAR: u64 = 40;

/// The bank in numbers; shown as a table.
#[derive(Clone, Debug)]
pub struct Report {
    totals: TotalsAnswer,
    largest: Vec<(String, AccountRow)>,
    months: Vec<(String, u64)>,
    bytes: u64,
    imported: Option<Imported>,
}

impl Report {
    /// Asks the read models of `bank`, which stands in directory `store`.
    ///
    /// # Errors
    /// What reading met.
    pub async fn read(
        bank: &Tidelog,
        store: &Path,
        imported: Option<Imported>,
    ) -> Result<Self, Error> {
        let queries = Bank::of(bank).await?;
        let bytes = bytes_on_disk(store).map_err(|error| Error::io("measure", store, error))?;
        Ok(Self {
            totals: queries.handle(Totals).await?,
            largest: queries.handle(LargestAccounts { count: 5 }).await?,
            months: queries.handle(DepositsByMonth).await?,
            bytes,
            imported,
        })
    }

    /// The sums over all accounts.
    pub fn totals(&self) -> TotalsAnswer {
        self.totals
    }

    fn summary(&self) -> Table {
        let mut rows = vec![
            ("accounts", group(self.totals.accounts)),
            ("deposits", group(self.totals.deposits)),
        ];
        if let Some(imported) = &self.imported {
            rows.push(("refused", group(imported.refused)));
        }
        rows.push(("total", money::format(self.totals.deposited_cents)));
        rows.push(("CDs in accepted deposits", group(self.totals.cds)));
        if let Some(imported) = &self.imported {
            rows.push(("bad lines", group(imported.bad)));
            rows.push(("imported before", group(imported.already)));
            rows.push((
                "events recorded",
                group(imported.opened + imported.deposited),
            ));
            rows.push(("seconds", format!("{:.2}", imported.elapsed.as_secs_f64())));
            rows.push(("events per second", group(imported.events_per_second())));
        }
        rows.push(("bytes on disk", group(self.bytes)));
        let mut table = Table::new();
        table.load_preset(presets::UTF8_BORDERS_ONLY);
        for (what, value) in rows {
            table.add_row([what, &value]);
        }
        align_right(&mut table, 1);
        table
    }

    fn largest(&self) -> Table {
        let mut table = Table::new();
        table.load_preset(presets::UTF8_HORIZONTAL_ONLY);
        table.set_header(["largest accounts", "deposits", "balance"]);
        for (id, row) in &self.largest {
            table.add_row([id, &group(row.deposits), &money::format(row.cents)]);
        }
        align_right(&mut table, 1);
        align_right(&mut table, 2);
        table
    }

    fn months(&self) -> Table {
        let most = self
            .months
            .iter()
            .map(|(_, cents)| *cents)
            .max()
            .unwrap_or(0)
            .max(1);
        let mut table = Table::new();
        table.load_preset(presets::NOTHING);
        table.set_header(["month", "deposited", ""]);
        for (month, cents) in &self.months {
            let length = u128::from(*cents) * u128::from(BAR) / u128::from(most);
            let bar = "█".repeat(usize::try_from(length).unwrap_or(0));
            table.add_row([month, &money::format(*cents), &bar]);
        }
        align_right(&mut table, 1);
        table
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.summary())?;
        if self.totals.accounts > 0 {
            writeln!(f, "\n{}", self.largest())?;
        }
        if !self.months.is_empty() {
            writeln!(f, "\n{}", self.months())?;
        }
        Ok(())
    }
}

fn align_right(table: &mut Table, column: usize) {
    if let Some(column) = table.column_mut(column) {
        column.set_cell_alignment(CellAlignment::Right);
    }
}

/// Lengths of all files under `dir` together.
///
/// # Errors
/// When a directory cannot be read.
pub fn bytes_on_disk(dir: &Path) -> io::Result<u64> {
    let mut bytes = 0;
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let found = match entry.metadata() {
            Ok(found) => found,
            // The store replaces files while it works.
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(error),
        };
        bytes += if found.is_dir() {
            bytes_on_disk(&entry.path())?
        } else {
            found.len()
        };
    }
    Ok(bytes)
}
