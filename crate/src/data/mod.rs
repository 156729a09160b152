//! Bytes of a data file in, a [`Table`] of text cells out; from a table, the [`Examples`] of a task.
//!
//! Every row that cannot be used is counted and named. Rows are numbered as an editor shows them: by the line where
//! the row begins (by the item's number in a JSON array or a Parquet file), from 1.

mod conversation;
mod decode;
mod delimited;
mod examples;
mod json;
mod parquet;
mod shape;
mod split;
mod squad;
mod summary;
mod table;

pub use conversation::conversation;
pub use examples::{Example, Examples, Exchange, LabelSource, Target, examples, exchanges};
pub use shape::{Fields, Mapping, Role, Shape};
pub use split::{sample, shuffle, split};
pub use squad::answers;
pub use table::{Format, Skipped, SkippedRow, Table};

/// Larger files are refused: a whole file is held in memory, and a tab has about four times as much of it.
pub const MOST_BYTES: usize = 512 << 20;
/// More columns than that are a file of another kind.
pub const MOST_COLUMNS: usize = 1000;
/// How many unusable rows are named; the rest are counted.
pub const MOST_NAMED: usize = 100;
