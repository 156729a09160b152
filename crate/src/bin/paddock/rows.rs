//! The texts of a table to classify, with the numbers by which a person finds their rows.

use std::{fs, path::Path};

use paddock::{
    config::{Config, RawConfig, Task},
    data::{MOST_BYTES, Mapping, Table},
};

use crate::files::{self, Result, failure};

pub struct Rows {
    /// Row number and text.
    pub rows: Vec<(u64, String)>,
    pub warnings: Vec<String>,
}

/// Reads `file`; the column is the configured one, or the one that looks like the text.
pub fn read(file: &Path, config: &RawConfig) -> Result<Rows> {
    let data = Config::resolve(config)?.data;
    let name = files::utf8(file)?;
    let size = files::open_file(file, name.clone())?.blob.size();
    if size > MOST_BYTES as u64 {
        return Err(failure(
            format!("{name} has {} MiB, at most {} MiB can be read", size >> 20, MOST_BYTES >> 20),
            "Split the file and classify its parts.",
        ));
    }
    let bytes = fs::read(file).map_err(|error| files::cannot("read", file, &error))?;
    let table = Table::read(&name, &bytes)?;
    // As for text generation: no label column is asked for.
    let mapping = Mapping::resolve(&table, &data, Task::TextGeneration)?;
    let column = table.column(&mapping.text).unwrap_or_default();
    let all = (0..table.len()).map(|row| (table.row_number(row), table.cell(row, column)));
    let rows: Vec<_> =
        all.filter(|(_, text)| !text.trim().is_empty()).map(|(row, text)| (row, text.to_owned())).collect();
    let mut warnings = table.warnings.clone();
    let blank = table.len() - rows.len();
    if blank > 0 {
        warnings.push(format!("{name}: {blank} rows have no text in `{}` and are left out", mapping.text));
    }
    if rows.is_empty() {
        return Err(failure(
            format!("{name}: column `{}` is empty in every row", mapping.text),
            "Name the column with the texts by --text_column.",
        ));
    }
    Ok(Rows { rows, warnings })
}
