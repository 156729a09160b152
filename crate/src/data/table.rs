//! A table of text cells, and the choice of the reader for a file.

use std::collections::HashMap;

use super::{MOST_BYTES, MOST_COLUMNS, MOST_NAMED, decode, delimited, json, parquet, squad};
use crate::error::{Error, Result};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// Delimited by commas, semicolons or bars.
    Csv,
    /// Delimited by tabs.
    Tsv,
    /// One JSON object a line.
    Jsonl,
    /// A JSON array of objects.
    Json,
    /// One text a line, in one column `text`.
    Txt,
    /// Columns with their types, packed.
    Parquet,
}

impl Format {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Csv => "csv",
            Self::Tsv => "tsv",
            Self::Jsonl => "jsonl",
            Self::Json => "json",
            Self::Txt => "txt",
            Self::Parquet => "parquet",
        }
    }
}

/// A row that cannot be used, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SkippedRow {
    pub row: u64,
    pub reason: String,
}

/// All the rows that cannot be used: counted, the first [`MOST_NAMED`] of them named.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Skipped {
    pub count: u64,
    pub named: Vec<SkippedRow>,
}

impl Skipped {
    pub fn push(&mut self, row: u64, reason: impl Into<String>) {
        self.count += 1;
        if self.named.len() < MOST_NAMED {
            self.named.push(SkippedRow { row, reason: reason.into() });
        }
    }

    pub fn extend(&mut self, other: &Self) {
        self.count += other.count;
        let room = MOST_NAMED - self.named.len().min(MOST_NAMED);
        self.named.extend(other.named.iter().take(room).cloned());
    }

    /// One sentence with the count and the first few rows; None where every row can be used.
    pub fn sentence(&self, file: &str) -> Option<String> {
        const SHOWN: usize = 5;
        if self.count == 0 {
            return None;
        }
        let shown: Vec<String> =
            self.named.iter().take(SHOWN).map(|skipped| format!("row {}: {}", skipped.row, skipped.reason)).collect();
        let more = if self.count > shown.len() as u64 { "; …" } else { "" };
        let rows = if self.count == 1 { "row" } else { "rows" };
        Some(format!("{file}: {} {rows} cannot be used ({}{more})", self.count, shown.join("; ")))
    }
}

/// A data file as text cells. The cells lie in one string, so that a file of millions of rows costs little more
/// than its own size.
#[derive(Debug, Clone)]
pub struct Table {
    pub name: String,
    pub format: Format,
    /// As detected: `UTF-8`, `UTF-16LE`, `windows-1252` …
    pub encoding: String,
    pub columns: Vec<String>,
    /// Rows of the file that are no rows of the table (wrong number of fields, not an object …).
    pub skipped: Skipped,
    pub warnings: Vec<String>,
    cells: String,
    /// Where each cell ends in `cells`, row by row.
    ends: Vec<usize>,
    lines: Vec<u64>,
}

impl Table {
    /// Reads a file; `name` decides the format where its content allows it, and is the name that errors give.
    ///
    /// # Errors
    /// Names the file, and the row where there is one.
    pub fn read(name: &str, bytes: &[u8]) -> Result<Self> {
        if bytes.len() > MOST_BYTES {
            let message = format!("{} MiB; at most {} MiB can be read", bytes.len() >> 20, MOST_BYTES >> 20);
            return Err(Error::data(name, message, "Split the file and use a part of it."));
        }
        if parquet::looks_like(bytes) {
            return parquet::read(name, bytes);
        }
        if extension(name) == "parquet" {
            return Err(no_parquet(name, bytes));
        }
        let decoded = decode::decode(name, bytes)?;
        let text = decoded.text.as_ref();
        if text.trim().is_empty() {
            return Err(Error::data(name, "the file is empty", "Choose a file with a header and rows."));
        }
        let mut table = match choose(name, text) {
            Choice::Lines => lines(name, text),
            Choice::Jsonl => json::read_lines(name, text)?,
            Choice::Json => json::read_array(name, text)?,
            Choice::Squad => squad::read(name, text)?,
            Choice::Delimited(delimiter) => delimited::read(name, text, delimiter)?,
        };
        table.encoding = decoded.encoding;
        table.warnings.splice(0..0, decoded.warning);
        if table.is_empty() {
            return Err(no_rows(&table));
        }
        table.warnings.extend(table.skipped.sentence(name));
        Ok(table)
    }

    pub(super) fn new(name: &str, format: Format, columns: Vec<String>) -> Self {
        Self {
            name: name.to_owned(),
            format,
            encoding: String::new(),
            columns,
            skipped: Skipped::default(),
            warnings: Vec::new(),
            cells: String::new(),
            ends: Vec::new(),
            lines: Vec::new(),
        }
    }

    /// Appends a row; missing cells are empty.
    pub(super) fn push<'a>(&mut self, line: u64, cells: impl IntoIterator<Item = &'a str>) {
        let mut count = 0;
        for cell in cells.into_iter().take(self.columns.len()) {
            self.cells.push_str(cell);
            self.ends.push(self.cells.len());
            count += 1;
        }
        self.ends.extend(std::iter::repeat_n(self.cells.len(), self.columns.len() - count));
        self.lines.push(line);
    }

    /// Number of rows.
    pub fn len(&self) -> usize {
        self.lines.len()
    }

    pub fn is_empty(&self) -> bool {
        self.lines.is_empty()
    }

    /// The cell as it stands in the file (quotes taken off); empty where the index is beyond the table.
    pub fn cell(&self, row: usize, column: usize) -> &str {
        if column >= self.columns.len() {
            return "";
        }
        let index = row * self.columns.len() + column;
        let end = self.ends.get(index).copied().unwrap_or_default();
        let start = index.checked_sub(1).and_then(|before| self.ends.get(before).copied()).unwrap_or_default();
        self.cells.get(start..end).unwrap_or_default()
    }

    /// The number by which a person finds the row in the file.
    pub fn row_number(&self, row: usize) -> u64 {
        self.lines.get(row).copied().unwrap_or_default()
    }

    /// The row of that number.
    pub fn find(&self, number: u64) -> Option<usize> {
        self.lines.binary_search(&number).ok()
    }

    pub fn column(&self, name: &str) -> Option<usize> {
        self.columns.iter().position(|column| column == name)
    }
}

fn no_rows(table: &Table) -> Error {
    let name = &table.name;
    match table.skipped.named.first() {
        Some(first) => {
            let message = format!("none of its {} rows can be used: {}", table.skipped.count, first.reason);
            Error::row(name, first.row, message, "Correct the rows, or choose another file.")
        }
        None => Error::data(
            name,
            "there is a header and no rows",
            "Choose a file with a header in its first line and one example in each line after it.",
        ),
    }
}

enum Choice {
    Lines,
    Jsonl,
    Json,
    Squad,
    Delimited(u8),
}

/// In small letters; empty where there is none.
fn extension(name: &str) -> String {
    name.rsplit_once('.').map(|(_, extension)| extension.to_ascii_lowercase()).unwrap_or_default()
}

/// A file that is called one and does not begin as one.
fn no_parquet(name: &str, bytes: &[u8]) -> Error {
    if bytes.starts_with(b"version https://git-lfs") {
        let message = "this is a pointer to a Parquet file in Git LFS, not the file";
        return Error::data(name, message, "Fetch the file itself: `git lfs pull`, or download it from its page.");
    }
    let message =
        if bytes.is_empty() { "the file is empty" } else { "this does not begin as a Parquet file does (PAR1)" };
    Error::data(name, message, "Download or write the file again; a file of another kind needs its own ending.")
}

/// The content decides between the JSON forms; the extension decides the rest, and for other extensions the content.
fn choose(name: &str, text: &str) -> Choice {
    let first = text.trim_start().chars().next();
    match extension(name).as_str() {
        "jsonl" | "ndjson" | "json" => match first {
            _ if squad::looks_like(text) => Choice::Squad,
            Some('[') => Choice::Json,
            _ => Choice::Jsonl,
        },
        "tsv" | "tab" => Choice::Delimited(b'\t'),
        "csv" => Choice::Delimited(delimited::detect(text).unwrap_or(b',')),
        "txt" | "text" | "md" => match delimited::detect(text) {
            // Prose has commas in every line, but not the same number of tabs.
            Some(b'\t') => Choice::Delimited(b'\t'),
            _ => Choice::Lines,
        },
        _ => match (first, delimited::detect(text)) {
            (Some('{'), _) => Choice::Jsonl,
            (Some('['), None) => Choice::Json,
            (_, Some(delimiter)) => Choice::Delimited(delimiter),
            (_, None) => Choice::Lines,
        },
    }
}

/// Every line that is not blank is a row of one column.
fn lines(name: &str, text: &str) -> Table {
    let mut table = Table::new(name, Format::Txt, vec!["text".to_owned()]);
    for (number, line) in (1..).zip(text.lines()) {
        if !line.trim().is_empty() {
            table.push(number, [line]);
        }
    }
    table
}

/// Names for the columns as a table shows them: trimmed, none empty, none twice. Changes are told in `warnings`.
pub(super) fn tidy_columns(name: &str, header: Vec<String>, warnings: &mut Vec<String>) -> Result<Vec<String>> {
    const LONGEST: usize = 1000;
    if header.len() > MOST_COLUMNS {
        let message = format!("{} columns; at most {MOST_COLUMNS} can be read", header.len());
        return Err(Error::row(name, 1, message, "Check the delimiter, or keep only the columns that are needed."));
    }
    if let Some(long) = header.iter().find(|column| column.len() > LONGEST) {
        let message = format!("the header has a column name of {} characters", long.chars().count());
        return Err(Error::row(name, 1, message, "Put a line with the columns' names first, such as `text,label`."));
    }
    let mut columns: Vec<String> = Vec::with_capacity(header.len());
    let mut copies: HashMap<String, usize> = HashMap::new();
    for (number, column) in (1..).zip(header) {
        let trimmed = column.trim();
        let wanted = if trimmed.is_empty() { format!("column_{number}") } else { trimmed.to_owned() };
        let mut free = wanted.clone();
        while copies.contains_key(&free) {
            let copy = copies.entry(wanted.clone()).or_insert(1);
            *copy += 1;
            free = format!("{wanted}_{copy}");
        }
        copies.insert(free.clone(), 1);
        if free != wanted {
            warnings.push(format!(
                "{name}: the header names `{wanted}` more than once; column {number} is called `{free}`"
            ));
        }
        columns.push(free);
    }
    Ok(columns)
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
