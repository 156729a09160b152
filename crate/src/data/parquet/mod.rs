//! Parquet files as rows of text cells. Lists and structures become JSON, as `json.rs` leaves them.
//!
//! The parquet crate unpacks what its codecs have packed (`unpack.rs`) and nothing else: its readers of footers, levels and
//! values trust the sizes that a file gives and end in a panic where these are wrong, which in a tab ends the worker. So all
//! of that is read here, with every size held to the bytes that are there or to a bound.

mod column;
mod encoding;
mod footer;
mod inflate;
mod page;
mod record;
mod schema;
mod thrift;
mod unpack;
mod value;

use super::MOST_BYTES;
use super::table::{Format, Table, tidy_columns};
use crate::error::{Error, Result};
use column::Column;
use record::Records;
use schema::Schema;

/// How such a file begins and ends; the second where its footer is encrypted.
const MAGIC: &[u8] = b"PAR1";
const ENCRYPTED: &[u8] = b"PARE";

/// More values than that in all columns together are refused: each takes some ten bytes beside its text.
const MOST_VALUES: usize = 1 << 26;

type Read<T> = std::result::Result<T, Fault>;

/// Why a file is not read.
#[derive(Debug)]
enum Fault {
    /// It is not what the format says.
    Damaged(String),
    /// It is sound, and not read here.
    Refused { what: String, advice: String },
}

fn damaged<T>(what: impl Into<String>) -> Read<T> {
    Err(Fault::Damaged(what.into()))
}

impl Fault {
    fn of(self, column: &str) -> Self {
        let place = |what: String| format!("column `{column}`: {what}");
        match self {
            Self::Damaged(what) => Self::Damaged(place(what)),
            Self::Refused { what, advice } => Self::Refused { what: place(what), advice },
        }
    }

    fn error(self, file: &str) -> Error {
        match self {
            Self::Damaged(what) => {
                let advice = "Copy or download the file again, or write it anew.";
                Error::data(file, format!("this Parquet file is damaged: {what}"), advice)
            }
            Self::Refused { what, advice } => Error::data(file, what, advice),
        }
    }
}

/// What may still be read.
struct Budget {
    /// Bytes of pages, unpacked.
    bytes: usize,
    /// Values, missing ones too.
    values: usize,
    /// Bytes of values as text, and of the cells that they make.
    text: usize,
    cells: usize,
}

impl Budget {
    fn new() -> Self {
        Self { bytes: MOST_BYTES, values: MOST_VALUES, text: MOST_BYTES, cells: MOST_BYTES }
    }

    fn unpack(&mut self, bytes: usize) -> Read<()> {
        Self::spend(&mut self.bytes, bytes, || format!("unpacked it has more than {} MiB", MOST_BYTES >> 20))
    }

    fn values(&mut self, count: usize) -> Read<()> {
        Self::spend(&mut self.values, count, || format!("it has more than {MOST_VALUES} values"))
    }

    fn text(&mut self, bytes: usize) -> Read<()> {
        Self::spend(&mut self.text, bytes, Self::too_much_text)
    }

    fn cells(&mut self, bytes: usize) -> Read<()> {
        Self::spend(&mut self.cells, bytes, Self::too_much_text)
    }

    fn too_much_text() -> String {
        format!("it has more than {} MiB of text", MOST_BYTES >> 20)
    }

    fn spend(left: &mut usize, wanted: usize, what: impl FnOnce() -> String) -> Read<()> {
        match left.checked_sub(wanted) {
            Some(less) => {
                *left = less;
                Ok(())
            }
            None => Err(Fault::Refused {
                what: what(),
                advice: "Keep the columns that are needed, or split the file and use a part of it.".to_owned(),
            }),
        }
    }
}

/// Whether a file begins as one does.
pub(super) fn looks_like(bytes: &[u8]) -> bool {
    bytes.starts_with(MAGIC) || bytes.starts_with(ENCRYPTED)
}

/// # Errors
/// A file that is damaged, too large, or written in a way that is not read; the column is named where there is one.
pub(super) fn read(name: &str, bytes: &[u8]) -> Result<Table> {
    read_within(name, bytes, &mut Budget::new())
}

fn read_within(name: &str, bytes: &[u8], budget: &mut Budget) -> Result<Table> {
    let fault = |fault: Fault| fault.error(name);
    let (footer, data) = footer::read(bytes).map_err(fault)?;
    let schema = Schema::new(&footer).map_err(fault)?;
    let mut warnings = Vec::new();
    let header = schema.roots.iter().map(|root| root.name.clone()).collect();
    let columns = tidy_columns(name, header, &mut warnings)?;
    let mut table = Table::new(name, Format::Parquet, columns);
    table.encoding = "UTF-8".to_owned();
    table.warnings = warnings;
    let mut binary = vec![false; schema.leaves.len()];
    let mut number = 0;
    for group in &footer.groups {
        let mut columns = Vec::with_capacity(schema.leaves.len());
        for ((leaf, chunk), binary) in schema.leaves.iter().zip(&group.chunks).zip(&mut binary) {
            let column = Column::read(data, leaf, chunk, group.rows, budget);
            let column = column.map_err(|fault| fault.of(&leaf.path).error(name))?;
            *binary |= column.binary;
            columns.push(column);
        }
        let mut records = Records::new(&schema, &columns);
        for _ in 0..group.rows {
            number += 1;
            let cells = records.row(budget).map_err(|fault| match fault {
                Fault::Damaged(what) => Error::row(name, number, what, "Write the file anew."),
                other => other.error(name),
            })?;
            table.push(number, cells.iter().map(String::as_str));
        }
        records.end().map_err(fault)?;
    }
    for (leaf, _) in schema.leaves.iter().zip(&binary).filter(|(_, binary)| **binary) {
        let path = &leaf.path;
        table.warnings.push(format!("{name}: `{path}` holds bytes that are no text; such cells are left empty"));
    }
    if table.is_empty() {
        return Err(Error::data(name, "there are columns and no rows", "Choose a file with rows."));
    }
    Ok(table)
}

#[cfg(test)]
mod tests;
