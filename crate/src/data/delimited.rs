//! CSV and TSV: delimiter found in the content, broken quotes named where they open.

use std::borrow::Cow;

use csv::{ByteRecord, ReaderBuilder};

use super::table::{Format, Table, tidy_columns};
use crate::error::{Error, Result};

/// What the delimiter is judged by.
const SAMPLE_BYTES: usize = 1 << 16;
const SAMPLE_ROWS: usize = 100;

fn reader(text: &str, delimiter: u8) -> csv::Reader<&[u8]> {
    ReaderBuilder::new().delimiter(delimiter).flexible(true).has_headers(false).from_reader(text.as_bytes())
}

/// The delimiter that gives most rows the header's number of fields, at least two; None where none does.
pub(super) fn detect(text: &str) -> Option<u8> {
    let mut end = text.len().min(SAMPLE_BYTES);
    if end < text.len() {
        // Whole lines only: half a row has too few fields.
        end = text.as_bytes()[..end].iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
    }
    let sample = text.get(..end)?;
    let mut best: Option<(f64, usize, u8)> = None;
    for delimiter in *b"\t;,|" {
        let mut widths = reader(sample, delimiter).into_byte_records().flatten().map(|record| record.len());
        let Some(header) = widths.next().filter(|width| *width >= 2) else { continue };
        let (rows, same) = widths
            .take(SAMPLE_ROWS)
            .fold((0, 0), |(rows, same), width| (rows + 1, same + usize::from(width == header)));
        // A header alone is a table, if an empty one.
        let share = if rows == 0 { 1.0 } else { f64::from(same as u32) / f64::from(rows) };
        if share >= 0.5 && best.is_none_or(|(other, width, _)| (share, header) > (other, width)) {
            best = Some((share, header, delimiter));
        }
    }
    best.map(|(_, _, delimiter)| delimiter)
}

pub(super) fn read(name: &str, text: &str, delimiter: u8) -> Result<Table> {
    let text = unix_lines(text);
    check_quotes(name, &text, delimiter)?;
    let mut reader = reader(&text, delimiter);
    let mut record = ByteRecord::new();
    let mut warnings = Vec::new();
    let unreadable = |error: csv::Error| Error::data(name, error.to_string(), "Save the file as CSV (UTF-8).");

    reader.read_byte_record(&mut record).map_err(unreadable)?;
    if record.len() > super::MOST_COLUMNS {
        // Not collected first: a line of commas would become as many strings.
        let message = format!("{} columns; at most {} can be read", record.len(), super::MOST_COLUMNS);
        return Err(Error::row(name, 1, message, "Check the delimiter, or keep only the columns that are needed."));
    }
    let header: Vec<String> = record.iter().map(|field| String::from_utf8_lossy(field).into_owned()).collect();
    if let Some(value) = header.iter().find(|field| field.trim().parse::<f64>().is_ok()) {
        let value = value.trim();
        warnings
            .push(format!("{name}: the first line was taken as the header, though `{value}` is no usual column name"));
    }
    let columns = tidy_columns(name, header, &mut warnings)?;
    let format = if delimiter == b'\t' { Format::Tsv } else { Format::Csv };
    let mut table = Table::new(name, format, columns);
    table.warnings = warnings;

    let width = table.columns.len();
    while reader.read_byte_record(&mut record).map_err(unreadable)? {
        let line = start_line(&text, record.position());
        if record.len() != width {
            table.skipped.push(line, format!("{} fields, the header has {width}", record.len()));
            continue;
        }
        // The text was decoded before: fields cut at ASCII delimiters are UTF-8.
        let cells = record.iter().map(|field| std::str::from_utf8(field).unwrap_or_default());
        table.push(line, cells);
    }
    Ok(table)
}

/// The csv crate gives a record's position before the blank lines that precede it.
fn start_line(text: &str, position: Option<&csv::Position>) -> u64 {
    let Some(position) = position else { return 0 };
    let from = usize::try_from(position.byte()).unwrap_or(usize::MAX);
    let blank = text.as_bytes().iter().skip(from).take_while(|byte| **byte == b'\n').count();
    position.line() + blank as u64
}

/// Windows' and old Macintosh's line ends as one: line numbers would not be right otherwise.
fn unix_lines(text: &str) -> Cow<'_, str> {
    if text.contains('\r') { Cow::Owned(text.replace("\r\n", "\n").replace('\r', "\n")) } else { Cow::Borrowed(text) }
}

/// The csv crate forgives a quote that is never closed, and reads the rest of the file as one cell.
///
/// # Errors
/// Names the row where a quote opens that is not closed, or is closed on a later line with text after it, which is
/// what a stray quote looks like that met the next row's.
fn check_quotes(name: &str, text: &str, delimiter: u8) -> Result<()> {
    let bytes = text.as_bytes();
    let (mut at, mut line) = (0, 1_u64);
    let mut field_start = true;
    while let Some(&byte) = bytes.get(at) {
        if byte == b'"' && field_start {
            let opened = line;
            at += 1;
            loop {
                match (bytes.get(at), bytes.get(at + 1)) {
                    (None, _) => {
                        return Err(broken_quote(name, opened, "a quote opens here and is never closed"));
                    }
                    (Some(b'"'), Some(b'"')) => at += 2,
                    (Some(b'"'), _) => break,
                    (Some(byte), _) => {
                        line += u64::from(*byte == b'\n');
                        at += 1;
                    }
                }
            }
            at += 1;
            let closed_well = bytes.get(at).is_none_or(|byte| *byte == delimiter || *byte == b'\n');
            if line > opened && !closed_well {
                let message = format!("a quote opens here, and the next one, in line {line}, has text after it");
                return Err(broken_quote(name, opened, message));
            }
            field_start = false;
            continue;
        }
        field_start = byte == delimiter || byte == b'\n';
        line += u64::from(byte == b'\n');
        at += 1;
    }
    Ok(())
}

fn broken_quote(name: &str, row: u64, message: impl Into<String>) -> Error {
    let advice = "Close the quote, or write a quote inside a quoted cell twice (\"\").";
    Error::row(name, row, message, advice)
}
