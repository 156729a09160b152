//! The texts of a table to classify or to answer, with the numbers by which a person finds their rows.

use std::{collections::BTreeMap, fs, path::Path};

use paddock::{
    config::{Config, RawConfig},
    data::{MOST_BYTES, Mapping, Shape, Table},
};

use crate::files::{self, Result, failure};

/// A row that is asked.
pub struct Row {
    pub number: u64,
    pub text: String,
    /// The other parts of it, by role.
    pub fields: BTreeMap<String, String>,
}

pub struct Rows {
    pub rows: Vec<Row>,
    pub warnings: Vec<String>,
}

/// Reads `file`; the columns are the configured ones, or those that look like what the task asks with.
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
    let shape = data.shape.unwrap_or(Shape::Text);
    let mapping = Mapping::asked(&table, &data, shape)?;
    let main = shape.main();
    let text = mapping.column(main).unwrap_or_default();
    let mut rows = Vec::new();
    for row in 0..table.len() {
        let fields = mapping.fields(&table, row);
        let Some(text) = fields.get(main) else { continue };
        let others = mapping.columns().iter().map(|(role, _)| *role).filter(|role| *role != main && !role.answers());
        let others = others.filter_map(|role| Some((role.as_str().to_owned(), fields.get(role)?.to_owned())));
        rows.push(Row { number: table.row_number(row), text: text.to_owned(), fields: others.collect() });
    }
    let mut warnings = table.warnings.clone();
    let blank = table.len() - rows.len();
    if blank > 0 {
        warnings.push(format!("{name}: {blank} rows have no text in `{text}` and are left out"));
    }
    if rows.is_empty() {
        return Err(failure(
            format!("{name}: column `{text}` is empty in every row"),
            "Name the column by --text_column, or by --set data.ROLE_column=NAME.",
        ));
    }
    Ok(Rows { rows, warnings })
}
