//! What a person sees of a table before they map it.

use std::collections::HashMap;

use super::table::Table;
use crate::event::{Column, DataSummary};

/// More distinct values, or longer ones, are no labels.
const MOST_VALUES: usize = 100;
const LONGEST_VALUE: usize = 100;
const PREVIEW_ROWS: usize = 8;
const PREVIEW_CHARS: usize = 300;

/// Usual names, the likeliest first.
const TEXT_NAMES: &[&str] = &[
    "text",
    "sentence",
    "review",
    "content",
    "comment",
    "message",
    "body",
    "tweet",
    "document",
    "prompt",
    "input",
    "question",
    "description",
    "title",
];
const LABEL_NAMES: &[&str] = &[
    "label",
    "labels",
    "sentiment",
    "class",
    "category",
    "target",
    "polarity",
    "rating",
    "score",
    "stars",
    "intent",
    "topic",
    "tag",
];

impl Table {
    pub fn summary(&self) -> DataSummary {
        let columns: Vec<Column> = (0..self.columns.len())
            .map(|column| Column {
                name: self.columns[column].clone(),
                values: self.values(column),
                numeric: self.numeric(column),
            })
            .collect();
        let label = self.guess_label(&columns);
        let text = self.guess_text(label);
        let name = |column: Option<usize>| column.map(|column| self.columns[column].clone());
        let cut = |cell: &str| cell.chars().take(PREVIEW_CHARS).collect::<String>();
        DataSummary {
            name: self.name.clone(),
            format: self.format.as_str().to_owned(),
            encoding: self.encoding.clone(),
            rows: self.len() as u64,
            preview: (0..self.len().min(PREVIEW_ROWS))
                .map(|row| (0..columns.len()).map(|column| cut(self.cell(row, column))).collect())
                .collect(),
            text_column: name(text),
            label_column: name(label),
            columns,
            fits: Vec::new(),
            held_out: false,
            warnings: self.warnings.clone(),
        }
    }

    /// Distinct values with their counts, most frequent first; none where there are too many to be labels.
    fn values(&self, column: usize) -> Vec<(String, u64)> {
        let most = MOST_VALUES.min((self.len() / 2).max(2));
        let mut counts: HashMap<&str, u64> = HashMap::new();
        for row in 0..self.len() {
            let cell = self.cell(row, column).trim();
            if cell.is_empty() {
                continue;
            }
            *counts.entry(cell).or_default() += 1;
            if cell.len() > LONGEST_VALUE || counts.len() > most {
                return Vec::new();
            }
        }
        let mut values: Vec<(String, u64)> =
            counts.into_iter().map(|(value, count)| (value.to_owned(), count)).collect();
        values.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
        values
    }

    /// As [`super::examples`] reads a number; the first other cell ends the search.
    fn numeric(&self, column: usize) -> bool {
        let mut cells =
            (0..self.len()).map(|row| self.cell(row, column).trim()).filter(|cell| !cell.is_empty()).peekable();
        cells.peek().is_some() && cells.all(|cell| cell.parse::<f32>().is_ok_and(f32::is_finite))
    }

    /// By its name; else the column of the fewest distinct values, of at least two.
    fn guess_label(&self, columns: &[Column]) -> Option<usize> {
        if self.columns.len() < 2 {
            return None;
        }
        self.named(LABEL_NAMES, None).or_else(|| {
            let few = columns.iter().enumerate().filter(|(_, column)| (2..=20).contains(&column.values.len()));
            few.min_by_key(|(_, column)| column.values.len()).map(|(index, _)| index)
        })
    }

    /// By its name; else the column with the longest cells.
    fn guess_text(&self, label: Option<usize>) -> Option<usize> {
        let sampled = self.len().min(1000);
        let bytes = |column: usize| (0..sampled).map(|row| self.cell(row, column).len()).sum::<usize>();
        self.named(TEXT_NAMES, label).or_else(|| {
            let others = (0..self.columns.len()).filter(|column| Some(*column) != label);
            others.max_by_key(|column| (bytes(*column), std::cmp::Reverse(*column)))
        })
    }

    /// The column of one of these names, without regard to case.
    pub(super) fn called(&self, names: &[&str]) -> Option<String> {
        names.iter().find_map(|name| self.columns.iter().find(|column| column.eq_ignore_ascii_case(name))).cloned()
    }

    /// The column of one of these names, or with one of them as a word of its name (`review_text`).
    fn named(&self, names: &[&str], except: Option<usize>) -> Option<usize> {
        let lower: Vec<String> = self.columns.iter().map(|column| column.to_lowercase()).collect();
        let free = |column: &usize| Some(*column) != except;
        let exact = names.iter().find_map(|name| lower.iter().position(|column| column == name).filter(free));
        exact.or_else(|| {
            let has_word =
                |column: &String, name| column.split(|c: char| !c.is_alphanumeric()).any(|word| word == name);
            names.iter().find_map(|name| lower.iter().position(|column| has_word(column, *name)).filter(free))
        })
    }
}
