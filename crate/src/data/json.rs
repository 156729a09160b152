//! JSON lines and JSON arrays of objects: keys are columns, in the order in which they first appear.

use std::collections::HashMap;
use std::fmt;

use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::Value;

use super::MOST_COLUMNS;
use super::table::{Format, Skipped, Table, tidy_columns};
use crate::error::{Error, Result};

/// One element: an object's cells in its own order, or the kind of thing that stands there instead.
enum Item {
    Object(Vec<(String, String)>),
    Other(&'static str),
}

/// One JSON object a line.
pub(super) fn read_lines(name: &str, text: &str) -> Result<Table> {
    let mut rows = Rows::default();
    for (number, line) in (1..).zip(text.lines()) {
        if line.trim().is_empty() {
            continue;
        }
        match serde_json::from_str::<Item>(line) {
            Ok(item) => rows.push(name, number, item)?,
            Err(error) => rows.skipped.push(number, reason(&error)),
        }
    }
    rows.into_table(name, Format::Jsonl)
}

/// A JSON array of objects; rows are numbered by their place in it.
pub(super) fn read_array(name: &str, text: &str) -> Result<Table> {
    let items: Items = serde_json::from_str(text).map_err(|error| {
        let row = u64::try_from(error.line()).unwrap_or_default().max(1);
        let message = format!("not a JSON array of objects: {} (column {})", reason(&error), error.column());
        Error::row(name, row, message, "Correct the JSON there, or write one object a line (JSON lines).")
    })?;
    let mut rows = Rows::default();
    for (number, item) in (1..).zip(items.0) {
        rows.push(name, number, item)?;
    }
    rows.into_table(name, Format::Json)
}

/// serde_json's message without its place, which the row says.
fn reason(error: &serde_json::Error) -> String {
    let message = error.to_string();
    match message.rsplit_once(" at line ") {
        Some((message, _)) => message.to_owned(),
        None => message,
    }
}

#[derive(Default)]
struct Rows {
    columns: Vec<String>,
    index: HashMap<String, usize>,
    rows: Vec<(u64, Vec<(usize, String)>)>,
    skipped: Skipped,
}

impl Rows {
    fn push(&mut self, name: &str, number: u64, item: Item) -> Result<()> {
        let cells = match item {
            Item::Object(cells) => cells,
            Item::Other(kind) => {
                self.skipped.push(number, format!("{kind}, not an object"));
                return Ok(());
            }
        };
        let mut row = Vec::with_capacity(cells.len());
        for (key, cell) in cells {
            let column = match self.index.get(&key) {
                Some(column) => *column,
                None => {
                    if self.columns.len() == MOST_COLUMNS {
                        let message = format!("more than {MOST_COLUMNS} different keys in the objects up to here");
                        let advice = "Give every object the same keys, such as `text` and `label`.";
                        return Err(Error::row(name, number, message, advice));
                    }
                    self.columns.push(key.clone());
                    self.index.insert(key, self.columns.len() - 1);
                    self.columns.len() - 1
                }
            };
            row.push((column, cell));
        }
        self.rows.push((number, row));
        Ok(())
    }

    fn into_table(self, name: &str, format: Format) -> Result<Table> {
        let mut warnings = Vec::new();
        let columns = tidy_columns(name, self.columns, &mut warnings)?;
        let mut table = Table::new(name, format, columns);
        table.warnings = warnings;
        table.skipped = self.skipped;
        let mut cells = vec![String::new(); table.columns.len()];
        for (number, row) in self.rows {
            cells.iter_mut().for_each(String::clear);
            for (column, cell) in row {
                cells[column] = cell;
            }
            table.push(number, cells.iter().map(String::as_str));
        }
        Ok(table)
    }
}

/// Text as it is, nothing for null, numbers and booleans as written, lists and objects as compact JSON.
fn cell(value: Value) -> String {
    match value {
        Value::String(text) => text,
        Value::Null => String::new(),
        other => other.to_string(),
    }
}

struct Items(Vec<Item>);

impl<'de> Deserialize<'de> for Items {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Vec::deserialize(deserializer).map(Self)
    }
}

impl<'de> Deserialize<'de> for Item {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ItemVisitor)
    }
}

struct ItemVisitor;

impl<'de> Visitor<'de> for ItemVisitor {
    type Value = Item;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Item, A::Error> {
        let mut cells = Vec::new();
        while let Some((key, value)) = map.next_entry::<String, Value>()? {
            cells.push((key, cell(value)));
        }
        Ok(Item::Object(cells))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Item, A::Error> {
        while items.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Item::Other("a list"))
    }

    fn visit_str<E>(self, _: &str) -> Result<Item, E> {
        Ok(Item::Other("a text"))
    }

    fn visit_bool<E>(self, _: bool) -> Result<Item, E> {
        Ok(Item::Other("a boolean"))
    }

    fn visit_f64<E>(self, _: f64) -> Result<Item, E> {
        Ok(Item::Other("a number"))
    }

    fn visit_i64<E>(self, _: i64) -> Result<Item, E> {
        Ok(Item::Other("a number"))
    }

    fn visit_u64<E>(self, _: u64) -> Result<Item, E> {
        Ok(Item::Other("a number"))
    }

    fn visit_unit<E>(self) -> Result<Item, E> {
        Ok(Item::Other("null"))
    }
}
