//! SQuAD's files (versions 1.1 and 2.0): articles of paragraphs of questions, as rows of `id`, `context`, `question` and
//! `answers`.

use serde::Deserialize;

use super::table::{Format, Table};
use crate::error::{Error, Result};

#[derive(Deserialize)]
struct File {
    data: Vec<Article>,
}

#[derive(Deserialize)]
struct Article {
    paragraphs: Vec<Paragraph>,
}

#[derive(Deserialize)]
struct Paragraph {
    context: String,
    qas: Vec<Question>,
}

#[derive(Deserialize)]
struct Question {
    #[serde(default)]
    id: serde_json::Value,
    question: String,
    #[serde(default)]
    answers: Vec<Answer>,
}

#[derive(Deserialize)]
struct Answer {
    text: String,
}

/// Whether the text begins as such a file does; cheap, and wrong at worst in the message that follows.
pub(super) fn looks_like(text: &str) -> bool {
    let mut end = text.len().min(4096);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    let head = &text[..end];
    head.trim_start().starts_with('{') && head.contains("\"data\"") && head.contains("\"paragraphs\"")
}

pub(super) fn read(name: &str, text: &str) -> Result<Table> {
    let file: File = serde_json::from_str(text).map_err(|error| {
        let message = format!("a file in SQuAD's form that cannot be read: {error}");
        Error::data(name, message, "It needs data → paragraphs → context and qas → question and answers.")
    })?;
    let columns = ["id", "context", "question", "answers"].map(str::to_owned).to_vec();
    let mut table = Table::new(name, Format::Json, columns);
    let mut number = 0;
    for paragraph in file.data.iter().flat_map(|article| &article.paragraphs) {
        for question in &paragraph.qas {
            number += 1;
            let id = question.id.as_str().map_or_else(|| question.id.to_string(), str::to_owned);
            let answers: Vec<&str> = question.answers.iter().map(|answer| answer.text.as_str()).collect();
            let answers = serde_json::to_string(&answers).unwrap_or_default();
            table.push(number, [id.as_str(), &paragraph.context, &question.question, &answers]);
        }
    }
    Ok(table)
}

/// The accepted answers of a cell: SQuAD's `{"text": […]}`, a JSON list, or one text as it is. None where it says that the
/// question has no answer.
pub fn answers(cell: &str) -> Vec<String> {
    let cell = cell.trim();
    let list = |value: &serde_json::Value| -> Option<Vec<String>> {
        let value = value.get("text").unwrap_or(value);
        match value {
            serde_json::Value::String(text) => Some(vec![text.clone()]),
            serde_json::Value::Array(items) => items
                .iter()
                .map(|item| item.as_str().or_else(|| item.get("text")?.as_str()).map(str::to_owned))
                .collect(),
            _ => None,
        }
    };
    let json = cell.starts_with(['[', '{']).then(|| serde_json::from_str(cell).ok()).flatten();
    let mut answers = json.as_ref().and_then(list).unwrap_or_else(|| vec![cell.to_owned()]);
    answers.retain(|answer| !answer.trim().is_empty());
    answers
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn articles_become_rows() {
        let text = r#"{"version": "v2.0", "data": [{"title": "T", "paragraphs": [{"context": "Ada wrote it in 1843.", "qas": [
            {"id": "a", "question": "Who?", "answers": [{"text": "Ada", "answer_start": 0}, {"text": "Ada", "answer_start": 0}]},
            {"id": 7, "question": "Where?", "answers": [], "is_impossible": true}]}]}]}"#;
        assert!(looks_like(text));
        let table = Table::read("dev.json", text.as_bytes()).expect("a table");
        assert_eq!(table.columns, ["id", "context", "question", "answers"]);
        assert_eq!((table.len(), table.cell(0, 2), table.cell(1, 0)), (2, "Who?", "7"));
        assert_eq!(answers(table.cell(0, 3)), ["Ada", "Ada"]);
        assert!(answers(table.cell(1, 3)).is_empty());
        let error = Table::read("x.json", br#"{"data": [{"paragraphs": [{"context": 1}]}]}"#).expect_err("no text");
        assert!(error.to_string().contains("SQuAD"), "{error}");
    }

    #[test]
    fn answers_in_every_form() {
        assert_eq!(answers(r#"{"text": ["a", "b"], "answer_start": [0, 4]}"#), ["a", "b"]);
        assert_eq!(answers(r#"[{"text": "a", "answer_start": 3}]"#), ["a"]);
        assert_eq!(answers("[1] is a footnote"), ["[1] is a footnote"]);
        assert_eq!(answers("[1, 2]"), ["[1, 2]"]);
        assert_eq!(answers(" plain "), ["plain"]);
        assert!(answers(r#"{"text": []}"#).is_empty());
    }
}
