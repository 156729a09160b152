//! From a table to a task's examples: which columns, which labels, which rows cannot be used.

use std::cmp::Ordering;
use std::collections::{BTreeMap, HashMap};

use super::shape::{Fields, Mapping, Role};
use super::table::{Skipped, Table};
use crate::error::{Error, Result};
use crate::tokenizer::Message;

/// More classes than that are a column of another kind.
const MOST_LABELS: usize = 1000;
const LONGEST_LABEL: usize = 200;

/// What a row is to be answered with.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Target {
    /// Index into [`Examples::labels`].
    Class(usize),
    /// Regression.
    Value(f32),
    /// The text is its own target, or the exchange has it.
    None,
}

/// A prompt and its answers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Exchange {
    /// Turns up to the one that is to be answered; earlier turns of the assistant are learnt too.
    pub turns: Vec<Message>,
    /// What counts as right; the first one is learnt.
    pub answers: Vec<String>,
    /// The longest part of the last turn, which is shortened where the whole is too long.
    pub long: Option<String>,
    /// Turns behind the last answer were left out: nobody answers them.
    pub trailing: bool,
}

impl Exchange {
    /// One prompt, without an answer yet.
    pub fn ask(prompt: String) -> Self {
        Self { turns: vec![Message::new("user", prompt)], ..Self::default() }
    }

    /// `system` first, where there is one.
    #[must_use]
    pub fn system(mut self, system: Option<&str>) -> Self {
        if let Some(system) = system {
            self.turns.insert(0, Message::new("system", system));
        }
        self
    }

    #[must_use]
    pub fn long(self, long: &str) -> Self {
        Self { long: Some(long.to_owned()), ..self }
    }

    /// The turn that is to be answered.
    pub fn prompt(&self) -> &str {
        self.turns.last().map(|turn| turn.content.as_str()).unwrap_or_default()
    }
}

#[derive(Debug, Clone, PartialEq)]
pub struct Example {
    /// The row's number in its file.
    pub row: u64,
    /// What the model is given; of an exchange its last turn.
    pub text: String,
    pub target: Target,
    /// Where answers are learnt.
    pub exchange: Option<Exchange>,
    /// What the row says by role, of the few rows that are shown.
    pub fields: BTreeMap<String, String>,
}

#[derive(Debug, Clone, PartialEq, Default)]
pub struct Examples {
    pub rows: Vec<Example>,
    /// Class names in the order of their ids (Hugging Face's `id2label`); empty outside classification.
    pub labels: Vec<String>,
    pub skipped: Skipped,
    pub warnings: Vec<String>,
}

/// Where an example's target comes from.
#[derive(Debug, Clone, Copy)]
pub enum LabelSource<'a> {
    /// The label column's distinct values, which must be as many as `num_labels` says, where it says so.
    Discover { num_labels: Option<usize> },
    /// Labels of the training data: other ones make a row unusable.
    Known(&'a [String]),
    /// The label column holds numbers.
    Number,
    /// There is no label.
    None,
}

impl<'a> LabelSource<'a> {
    /// Of labels in a training file: `num_labels: 1` means regression, as in Hugging Face.
    pub fn for_training(num_labels: Option<usize>) -> Self {
        match num_labels {
            Some(1) => Self::Number,
            num_labels => Self::Discover { num_labels },
        }
    }

    /// Of those in a validation file beside training data with these labels.
    pub fn for_validation(num_labels: Option<usize>, labels: &'a [String]) -> Self {
        match Self::for_training(num_labels) {
            Self::Discover { .. } => Self::Known(labels),
            other => other,
        }
    }
}

pub(super) fn missing_column(table: &Table, role: Role, name: Option<&str>) -> Error {
    let what = role.as_str();
    const SHOWN: usize = 20;
    let mut there = table.columns.iter().take(SHOWN).map(|column| format!("`{column}`")).collect::<Vec<_>>().join(", ");
    if table.columns.len() > SHOWN {
        there += ", …";
    }
    let message = match name {
        Some(name) => format!("there is no column `{name}`; its columns are {there}"),
        None => format!("no column looks like the {what}; its columns are {there}"),
    };
    Error::data(&table.name, message, format!("Set data.{what}_column to one of the file's columns."))
}

/// The rows of a table whose answers are learnt; `exchange` makes one of a row, or says why it cannot be used.
///
/// # Errors
/// No usable row.
pub fn exchanges(
    table: &Table,
    mapping: &Mapping,
    exchange: impl Fn(&Fields<'_>) -> std::result::Result<Exchange, String>,
) -> Result<Examples> {
    let mut found = Examples::default();
    for row in 0..table.len() {
        let number = table.row_number(row);
        match exchange(&mapping.fields(table, row)) {
            Ok(exchange) => found.rows.push(Example {
                row: number,
                text: exchange.prompt().to_owned(),
                target: Target::None,
                exchange: Some(exchange),
                fields: BTreeMap::new(),
            }),
            Err(reason) => found.skipped.push(number, short_reason(&reason)),
        }
    }
    if found.rows.is_empty() {
        let why = found.skipped.sentence(&table.name).unwrap_or_default();
        let columns: Vec<String> =
            mapping.columns().iter().map(|(role, name)| format!("{} from `{name}`", role.as_str())).collect();
        let message = format!("no row can be used ({}): {why}", columns.join(", "));
        return Err(Error::data(&table.name, message, "Choose other columns, or another data.shape."));
    }
    found.warnings.extend(found.skipped.sentence(&table.name));
    let trailing =
        found.rows.iter().filter_map(|row| row.exchange.as_ref()).filter(|exchange| exchange.trailing).count();
    if trailing > 0 {
        let (name, rows) = (&table.name, found.rows.len());
        found.warnings.push(format!(
            "{name}: {trailing} of {rows} conversations go on after the assistant's last turn; what nobody answers is left out"
        ));
    }
    Ok(found)
}

/// A reason may quote a cell.
fn short_reason(reason: &str) -> String {
    reason.chars().take(200).collect()
}

/// The rows of a table as texts, with their labels where there are some.
///
/// # Errors
/// No usable row; in classification one label only, too many of them, or another number than configured.
pub fn examples(table: &Table, mapping: &Mapping, source: LabelSource<'_>) -> Result<Examples> {
    let column = |role: Role| -> Result<usize> {
        let name = mapping.column(role);
        name.and_then(|name| table.column(name)).ok_or_else(|| missing_column(table, role, name))
    };
    let text_column = column(Role::Text)?;
    let label_column = match source {
        LabelSource::None => None,
        _ => Some(column(Role::Label)?),
    };
    let text_name = mapping.column(Role::Text).unwrap_or_default();
    let label_name = mapping.column(Role::Label).unwrap_or_default();
    let usable = |row: usize| !table.cell(row, text_column).trim().is_empty();
    let mut found = Examples::default();
    match source {
        LabelSource::Discover { num_labels } => {
            let column = label_column.unwrap_or_default();
            let values = (0..table.len()).filter(|row| usable(*row)).map(|row| table.cell(row, column).trim());
            found.labels = discover(table, label_name, values, num_labels, &mut found.warnings)?;
        }
        LabelSource::Known(labels) => found.labels = labels.to_vec(),
        LabelSource::Number | LabelSource::None => {}
    }
    let ids: HashMap<&str, usize> = found.labels.iter().enumerate().map(|(id, label)| (label.as_str(), id)).collect();
    for row in 0..table.len() {
        let number = table.row_number(row);
        if !usable(row) {
            found.skipped.push(number, format!("no text in `{text_name}`"));
            continue;
        }
        let label = label_column.map(|column| table.cell(row, column).trim());
        let target = match (source, label) {
            (_, None) => Ok(Target::None),
            (_, Some("")) => Err(format!("no label in `{label_name}`")),
            (LabelSource::Number, Some(value)) => match value.parse::<f32>() {
                Ok(number) if number.is_finite() => Ok(Target::Value(number)),
                _ => Err(format!("`{}` is no number", short(value))),
            },
            (_, Some(value)) => {
                ids.get(value).map(|id| Target::Class(*id)).ok_or_else(|| format!("unknown label `{}`", short(value)))
            }
        };
        match target {
            Ok(target) => {
                let text = table.cell(row, text_column).to_owned();
                found.rows.push(Example { row: number, text, target, exchange: None, fields: BTreeMap::new() });
            }
            Err(reason) => found.skipped.push(number, reason),
        }
    }
    if found.rows.is_empty() {
        let why = found.skipped.sentence(&table.name).unwrap_or_default();
        let advice = match source {
            LabelSource::Number => "Choose a label column of numbers, or leave out model.num_labels for classes.",
            LabelSource::Known(_) => "Use the training file's labels in the validation file.",
            _ => "Choose the columns that hold the text and the label.",
        };
        return Err(Error::data(&table.name, format!("no row can be used: {why}"), advice));
    }
    found.warnings.extend(found.skipped.sentence(&table.name));
    Ok(found)
}

/// The distinct values in their natural order.
fn discover<'a>(
    table: &Table,
    column: &str,
    values: impl Iterator<Item = &'a str>,
    num_labels: Option<usize>,
    warnings: &mut Vec<String>,
) -> Result<Vec<String>> {
    let mut counts: HashMap<&str, u64> = HashMap::new();
    let mut rows = 0_u64;
    for value in values.filter(|value| !value.is_empty()) {
        rows += 1;
        *counts.entry(value).or_default() += 1;
        if value.len() > LONGEST_LABEL || counts.len() > MOST_LABELS {
            let message = if value.len() > LONGEST_LABEL {
                format!("`{column}` holds long texts (`{}`), not labels", short(value))
            } else {
                format!("`{column}` has more than {MOST_LABELS} different values")
            };
            return Err(Error::data(&table.name, message, NOT_LABELS));
        }
    }
    let mut labels: Vec<String> = counts.keys().map(|label| (*label).to_owned()).collect();
    labels.sort_by(|a, b| natural(a, b));
    match labels.as_slice() {
        [] => {
            return Err(Error::data(&table.name, format!("`{column}` has no labels: every cell is empty"), NOT_LABELS));
        }
        [one] => {
            let message = format!("`{column}` has one label only (`{}` in all {rows} rows)", short(one));
            let advice = "There is nothing to tell apart: add rows of another label, or choose another label column.";
            return Err(Error::data(&table.name, message, advice));
        }
        _ => {}
    }
    if labels.len() > 2 && labels.len() as u64 > rows / 2 {
        let message = format!("`{column}` has {} different values in {rows} rows, too many to learn", labels.len());
        return Err(Error::data(&table.name, message, NOT_LABELS));
    }
    if let Some(wanted) = num_labels
        && labels.len() != wanted
    {
        let shown = labels.iter().take(10).map(|label| format!("`{}`", short(label))).collect::<Vec<_>>().join(", ");
        let got = format!("{wanted}, while `{column}` of {} has {} labels: {shown}", table.name, labels.len());
        return Err(Error::config("model.num_labels", format!("{}", labels.len()), got));
    }
    let mut folded: HashMap<String, &str> = HashMap::new();
    for label in &labels {
        if let Some(other) = folded.insert(label.to_lowercase(), label) {
            warnings.push(format!("{}: `{other}` and `{label}` are two labels that differ by case only", table.name));
        }
    }
    if let Some(rare) = labels.iter().find(|label| counts.get(label.as_str()).is_some_and(|count| *count == 1)) {
        warnings.push(format!("{}: label `{}` stands in one row only", table.name, short(rare)));
    }
    Ok(labels)
}

const NOT_LABELS: &str =
    "Choose the column of the classes as data.label_column; for a column of scores set model.num_labels to 1.";

fn short(text: &str) -> String {
    const MOST: usize = 40;
    let mut cut: String = text.chars().take(MOST).collect();
    if cut.len() < text.len() {
        cut.push('…');
    }
    cut
}

/// Numbers by value and before words; words with the numbers in them by value (`class 2` before `class 10`).
fn natural(a: &str, b: &str) -> Ordering {
    let number = |text: &str| text.parse::<f64>().ok().filter(|number| number.is_finite());
    match (number(a), number(b)) {
        (Some(x), Some(y)) => x.total_cmp(&y).then_with(|| a.cmp(b)),
        (Some(_), None) => Ordering::Less,
        (None, Some(_)) => Ordering::Greater,
        (None, None) => natural_words(a, b).then_with(|| a.cmp(b)),
    }
}

fn natural_words(mut a: &str, mut b: &str) -> Ordering {
    let digits = |text: &str| text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    loop {
        let (x, y) = (digits(a), digits(b));
        if x > 0 && y > 0 {
            // Without leading zeros the longer number is the larger: no number is too long to compare.
            let (m, n) = (a[..x].trim_start_matches('0'), b[..y].trim_start_matches('0'));
            match m.len().cmp(&n.len()).then_with(|| m.cmp(n)) {
                Ordering::Equal => (a, b) = (&a[x..], &b[y..]),
                other => return other,
            }
            continue;
        }
        let (mut left, mut right) = (a.chars(), b.chars());
        match (left.next(), right.next()) {
            (Some(p), Some(q)) if p == q => (a, b) = (left.as_str(), right.as_str()),
            (p, q) => return p.cmp(&q),
        }
    }
}
