//! Projections: folds of the log into rows that can be asked.

mod row_store;

pub use row_store::{Change, Checkpoint, Entry, ModelSlots, RowStore, RowsError, Slot, Space};
