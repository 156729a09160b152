//! The shapes that rows of examples come in, and which of a table's columns plays which part in one.

use std::collections::BTreeMap;

use serde::Serialize;

use super::{examples::missing_column, table::Table};
use crate::{
    config::{DataConfig, rule::words},
    error::{Error, Result},
};

words! {
    /// A shape of rows, the ones that are told by their columns' names first.
    Shape {
        /// A prompt (an instruction, with an input where there is one) and its completion: TRL's and Alpaca's.
        PromptCompletion = "prompt-completion",
        /// A conversation in one cell of JSON: `messages` of OpenAI and TRL, `conversations` of ShareGPT.
        Messages = "messages",
        /// A question, the text that answers it where there is one, and the answer: SQuAD's.
        QuestionAnswer = "question-answer",
        /// A document and its summary.
        DocumentSummary = "document-summary",
        /// A text and its class or number.
        TextLabel = "text-label",
        /// Text as it is.
        Text = "text",
    }
}

/// The table of parts: the word of each, and the key that names its column.
macro_rules! roles {
    ($($variant:ident = $word:literal => $column:ident),+ $(,)?) => {
        words! {
            /// The part that a column plays.
            Role { $($variant = $word),+ }
        }

        impl Role {
            /// The configured column.
            pub fn column(self, data: &DataConfig) -> Option<&str> {
                match self { $(Self::$variant => data.$column.as_deref()),+ }
            }

            /// Configures the column.
            pub fn set_column(self, data: &mut DataConfig, name: String) {
                match self { $(Self::$variant => data.$column = Some(name)),+ }
            }
        }
    };
}

roles! {
    Text = "text" => text_column,
    Label = "label" => label_column,
    Prompt = "prompt" => prompt_column,
    Input = "input" => input_column,
    Completion = "completion" => completion_column,
    Messages = "messages" => messages_column,
    System = "system" => system_column,
    Question = "question" => question_column,
    Context = "context" => context_column,
    Answer = "answer" => answer_column,
    Summary = "summary" => summary_column,
}

impl Role {
    /// Whether it is what a model is to say, not what it is given.
    pub fn answers(self) -> bool {
        matches!(self, Self::Label | Self::Completion | Self::Answer | Self::Summary)
    }

    /// By its word.
    pub fn find(word: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|role| role.as_str() == word)
    }

    /// Usual names in a shape, the likeliest first. Texts and labels of other shapes are guessed from the cells as well,
    /// see `summary.rs`.
    fn names(self, shape: Shape) -> &'static [&'static str] {
        match (self, shape) {
            (Self::Text, Shape::DocumentSummary) => {
                &["document", "article", "text", "dialogue", "source", "body", "content", "abstract", "report"]
            }
            (Self::Text | Self::Label, _) => &[],
            (Self::Prompt, _) => &["prompt", "instruction", "query", "request"],
            (Self::Input, _) => &["input"],
            (Self::Completion, _) => &["completion", "output", "response", "chosen", "reply", "answer", "target"],
            (Self::Messages, _) => &["messages", "conversations", "conversation"],
            (Self::System, _) => &["system", "system_prompt"],
            (Self::Question, _) => &["question", "query"],
            (Self::Context, _) => &["context", "passage", "paragraph"],
            (Self::Answer, _) => &["answers", "answer", "response"],
            (Self::Summary, _) => &["summary", "highlights", "tldr", "headline", "abstract"],
        }
    }
}

impl Shape {
    /// The parts of such a row, and whether a row needs them.
    pub fn roles(self) -> &'static [(Role, bool)] {
        match self {
            Self::TextLabel => &[(Role::Text, true), (Role::Label, true)],
            Self::PromptCompletion => {
                &[(Role::Prompt, true), (Role::Input, false), (Role::Completion, true), (Role::System, false)]
            }
            Self::Messages => &[(Role::Messages, true), (Role::System, false)],
            Self::QuestionAnswer => &[(Role::Question, true), (Role::Context, false), (Role::Answer, true)],
            Self::DocumentSummary => &[(Role::Text, true), (Role::Summary, true)],
            Self::Text => &[(Role::Text, true)],
        }
    }

    /// The part that a person asks with.
    pub fn main(self) -> Role {
        match self {
            Self::TextLabel | Self::DocumentSummary | Self::Text => Role::Text,
            Self::PromptCompletion => Role::Prompt,
            Self::Messages => Role::Messages,
            Self::QuestionAnswer => Role::Question,
        }
    }

    fn has(self, role: Role) -> bool {
        self.roles().iter().any(|(other, _)| *other == role)
    }
}

/// The columns that are used, by their names in the table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mapping {
    pub shape: Shape,
    columns: Vec<(Role, String)>,
}

impl Mapping {
    pub fn new(shape: Shape, columns: &[(Role, &str)]) -> Self {
        Self { shape, columns: columns.iter().map(|(role, name)| (*role, (*name).to_owned())).collect() }
    }

    pub fn column(&self, role: Role) -> Option<&str> {
        self.columns.iter().find(|(other, _)| *other == role).map(|(_, name)| name.as_str())
    }

    pub fn columns(&self) -> &[(Role, String)] {
        &self.columns
    }

    /// Column by role, for a shell.
    pub fn by_role(&self) -> BTreeMap<String, String> {
        self.columns.iter().map(|(role, name)| (role.as_str().to_owned(), name.clone())).collect()
    }

    /// The configured columns, or the ones that look like what a shape needs; the first of `shapes` that fits, one that
    /// has all configured columns before the others.
    ///
    /// # Errors
    /// Lists the columns there are where a named one is missing or none can be guessed.
    pub fn resolve(table: &Table, data: &DataConfig, shapes: &[Shape]) -> Result<Self> {
        let asked: Vec<Role> = Role::ALL.iter().copied().filter(|role| role.column(data).is_some()).collect();
        let mut candidates: Vec<Shape> = match data.shape {
            Some(shape) if shapes.contains(&shape) => vec![shape],
            Some(shape) => {
                let words: Vec<_> = shapes.iter().map(|shape| shape.as_str()).collect();
                let got = format!("`{}`, which this task cannot learn from", shape.as_str());
                return Err(Error::config("data.shape", words.join(" or "), got));
            }
            None => shapes.to_vec(),
        };
        candidates.sort_by_key(|shape| asked.iter().filter(|role| !shape.has(**role)).count());
        let mut first = None;
        for shape in candidates {
            match Self::fit(table, data, shape, false) {
                Ok(mapping) => return Ok(mapping),
                Err(error) => first = first.or(Some(error)),
            }
        }
        Err(first.unwrap_or_else(|| missing_column(table, Role::Text, None)))
    }

    /// The columns of rows that are only asked: answers may be missing.
    ///
    /// # Errors
    /// As [`Self::resolve`].
    pub fn asked(table: &Table, data: &DataConfig, shape: Shape) -> Result<Self> {
        Self::fit(table, data, shape, true)
    }

    fn fit(table: &Table, data: &DataConfig, shape: Shape, asked: bool) -> Result<Self> {
        let mut columns: Vec<(Role, String)> = Vec::new();
        let taken = |columns: &[(Role, String)], name: &str| columns.iter().any(|(_, other)| other == name);
        let roles = || shape.roles().iter().filter(|(role, _)| !(asked && role.answers()));
        for (role, _) in roles() {
            if let Some(name) = role.column(data) {
                if table.column(name).is_none() {
                    return Err(missing_column(table, *role, Some(name)));
                }
                if taken(&columns, name) {
                    let message = format!("`{name}` is both the {} and another column", role.as_str());
                    let advice = format!("Set data.{}_column to a column of its own.", role.as_str());
                    return Err(Error::data(&table.name, message, advice));
                }
                columns.push((*role, name.to_owned()));
            }
        }
        let summary = match shape {
            Shape::TextLabel | Shape::Text => Some(table.summary()),
            _ => None,
        };
        for (role, needed) in roles() {
            if columns.iter().any(|(other, _)| other == role) {
                continue;
            }
            let free = |name: &String| !taken(&columns, name);
            let guess = match (role, &summary) {
                (Role::Text, Some(summary)) => summary.text_column.clone().filter(free),
                (Role::Label, Some(summary)) => summary.label_column.clone().filter(free),
                _ => table.called(role.names(shape)).filter(free),
            };
            match guess {
                Some(name) => columns.push((*role, name)),
                None if *needed => return Err(missing_column(table, *role, None)),
                None => {}
            }
        }
        Ok(Self { shape, columns })
    }

    /// What a row gives the model, by role, cut to `most` characters each. A conversation is left out: JSON is nothing to show.
    pub fn given(&self, table: &Table, row: usize, most: usize) -> BTreeMap<String, String> {
        let fields = self.fields(table, row);
        let roles =
            self.columns.iter().map(|(role, _)| *role).filter(|role| !role.answers() && *role != Role::Messages);
        let cut = |cell: &str| cell.chars().take(most).collect::<String>();
        roles.filter_map(|role| Some((role.as_str().to_owned(), cut(fields.get(role)?)))).collect()
    }

    /// A row's cells.
    pub fn fields<'a>(&self, table: &'a Table, row: usize) -> Fields<'a> {
        let cells = self.columns.iter().filter_map(|(role, name)| Some((*role, table.cell(row, table.column(name)?))));
        Fields(cells.collect())
    }
}

/// What a row says in its parts.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Fields<'a>(Vec<(Role, &'a str)>);

impl<'a> Fields<'a> {
    pub fn new(cells: Vec<(Role, &'a str)>) -> Self {
        Self(cells)
    }

    /// None where it is blank.
    pub fn get(&self, role: Role) -> Option<&'a str> {
        let (_, cell) = self.0.iter().find(|(other, _)| *other == role)?;
        Some(*cell).filter(|cell| !cell.trim().is_empty())
    }

    /// # Errors
    /// Says which part is missing.
    pub fn need(&self, role: Role) -> std::result::Result<&'a str, String> {
        self.get(role).ok_or_else(|| format!("no {}", role.as_str()))
    }
}
