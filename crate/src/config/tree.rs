//! YAML as it stands, before anything is known of its keys: values with the lines they stand on.

use std::fmt::{self, Display};

use serde::{Deserialize, Deserializer, de};
use serde_saphyr::{Error as YamlError, Options, Spanned};

use crate::error::Error;

/// A configuration is a page of text; what is longer is another file, or hostile.
pub const MOST_BYTES: usize = 1 << 20;

/// A value with its line, counted from 1.
#[derive(Debug, Clone, PartialEq)]
pub struct At<T> {
    pub line: u64,
    pub value: T,
}

/// A value. What YAML takes for something else than text also has the text, as far as it is known.
#[derive(Debug, Clone, PartialEq)]
pub enum Node {
    Null,
    Flag(bool, String),
    Whole(u64, String),
    /// Negative, or with a fraction.
    Number(f64, String),
    Text(String),
    List(Vec<At<Node>>),
    Map(Vec<(At<String>, At<Node>)>),
}

impl Node {
    /// Reads one document; an empty one is [`Node::Null`].
    ///
    /// # Errors
    /// Names the line.
    pub fn parse(text: &str, file: &str) -> Result<At<Self>, Error> {
        if text.len() > MOST_BYTES {
            let message = format!("{} bytes; a configuration has at most {MOST_BYTES}", text.len());
            return Err(Error::syntax(file, message, "Choose the YAML file of a run."));
        }
        // Without a node there is no place: an empty file, or one of comments.
        let empty = text.lines().all(|line| line.trim_start().starts_with('#') || line.trim().is_empty());
        if empty {
            return Ok(At { line: 1, value: Self::Null });
        }
        match serde_saphyr::from_str_with_options::<Loose>(text, options()) {
            Ok(loose) => Ok(place(loose, text)),
            Err(error) => Err(explain(&error, text, file)),
        }
    }

    /// A scalar's text: `yes` and `5` can be names of columns.
    pub fn text(&self) -> Option<&str> {
        match self {
            Self::Text(text) | Self::Flag(_, text) | Self::Whole(_, text) | Self::Number(_, text) => Some(text),
            Self::Null | Self::List(_) | Self::Map(_) => None,
        }
    }

    /// A whole number, `1e3` included.
    pub fn whole(&self) -> Option<u64> {
        match self {
            Self::Whole(number, _) => Some(*number),
            // Up to where every whole number has its own float.
            Self::Number(number, _) if number.fract() == 0.0 && (0.0..=9e15).contains(number) => Some(*number as u64),
            _ => None,
        }
    }

    pub fn real(&self) -> Option<f64> {
        match self {
            Self::Whole(number, _) => Some(*number as f64),
            Self::Number(number, _) => Some(*number),
            _ => None,
        }
    }
}

/// What stands there, for a message.
impl Display for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Null => f.write_str("nothing"),
            Self::Flag(_, text) | Self::Whole(_, text) | Self::Number(_, text) => f.write_str(text),
            Self::Text(text) => write!(f, "`{}`", text.chars().take(80).collect::<String>().escape_debug()),
            Self::List(_) => f.write_str("a list"),
            Self::Map(_) => f.write_str("keys with values"),
        }
    }
}

/// As the parser gives it.
type Loose = Spanned<Shape>;

enum Shape {
    Null,
    Flag(bool),
    Whole(u64),
    Number(f64),
    Text(String),
    List(Vec<Loose>),
    Map(Vec<(Spanned<String>, Loose)>),
}

impl<'de> Deserialize<'de> for Shape {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ShapeVisitor)
    }
}

struct ShapeVisitor;

impl<'de> de::Visitor<'de> for ShapeVisitor {
    type Value = Shape;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_unit<E>(self) -> Result<Shape, E> {
        Ok(Shape::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Shape, E> {
        Ok(Shape::Flag(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Shape, E> {
        Ok(Shape::Whole(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Shape, E> {
        Ok(u64::try_from(value).map_or(Shape::Number(value as f64), Shape::Whole))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Shape, E> {
        Ok(Shape::Number(value))
    }

    fn visit_str<E>(self, value: &str) -> Result<Shape, E> {
        Ok(Shape::Text(value.to_owned()))
    }

    fn visit_seq<A: de::SeqAccess<'de>>(self, mut seq: A) -> Result<Shape, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = seq.next_element()? {
            items.push(item);
        }
        Ok(Shape::List(items))
    }

    fn visit_map<A: de::MapAccess<'de>>(self, mut map: A) -> Result<Shape, A::Error> {
        let mut entries = Vec::new();
        while let Some(entry) = map.next_entry()? {
            entries.push(entry);
        }
        Ok(Shape::Map(entries))
    }
}

/// Puts lines, and the text of scalars, to the values.
fn place(loose: Loose, source: &str) -> At<Node> {
    let span = loose.defined.span();
    let written = || {
        let from = usize::try_from(span.byte_offset()?).ok()?;
        let to = from.checked_add(usize::try_from(span.byte_len()?).ok()?)?;
        source.get(from..to).map(|text| text.trim().to_owned())
    };
    let or = |text: String| written().filter(|text| !text.is_empty() && !text.contains('\n')).unwrap_or(text);
    let value = match loose.value {
        Shape::Null => Node::Null,
        Shape::Flag(flag) => Node::Flag(flag, or(flag.to_string())),
        Shape::Whole(number) => Node::Whole(number, or(number.to_string())),
        Shape::Number(number) => Node::Number(number, or(number.to_string())),
        Shape::Text(text) => Node::Text(text),
        Shape::List(items) => Node::List(items.into_iter().map(|item| place(item, source)).collect()),
        Shape::Map(entries) => {
            let at = |key: Spanned<String>| At { line: key.referenced.line(), value: key.value };
            Node::Map(entries.into_iter().map(|(key, value)| (at(key), place(value, source))).collect())
        }
    };
    At { line: loose.referenced.line(), value }
}

/// Small limits: no configuration needs anchors in number, deep nesting or many nodes.
fn options() -> Options {
    serde_saphyr::options! {
        with_snippet: false,
        // No key takes them; as text they are told by their key.
        non_finite_float_policy: serde_saphyr::options::NonFiniteFloatPolicy::AsString,
        budget: serde_saphyr::budget! {
            max_aliases: 64,
            max_anchors: 64,
            max_depth: 16,
            max_documents: 1,
            max_nodes: 10_000,
            max_events: 50_000,
            max_merge_keys: 64,
        },
        alias_limits: serde_saphyr::alias_limits! { max_total_replayed_events: 10_000 },
    }
}

/// What is no YAML, by its line.
fn explain(error: &YamlError, text: &str, file: &str) -> Error {
    let error = error.without_snippet();
    let line = error.location().map(|at| at.line()).filter(|line| *line > 0);
    let place = line.map_or_else(|| file.to_owned(), |line| format!("{file} line {line}"));
    let written = line
        .and_then(|line| text.lines().nth(usize::try_from(line).ok()?.checked_sub(1)?))
        .map(|line| line.trim().chars().take(120).collect::<String>())
        .unwrap_or_default();
    let (message, advice) = match error {
        YamlError::DuplicateMappingKey { key, .. } => {
            (format!("key `{}` stands twice", key.as_deref().unwrap_or("?")), "Keep one of the two.")
        }
        YamlError::Unexpected { expected, .. } => {
            (format!("`{written}`: expected {expected} here"), "Correct the YAML at this place.")
        }
        _ => (plain(error, file), "Correct the YAML at this place."),
    };
    Error::syntax(&place, message, advice)
}

/// The parser's message on one line, without its own position.
fn plain(error: &YamlError, file: &str) -> String {
    let text = error.render_with_options(serde_saphyr::render_options! { source_name: Some(file) });
    let line = text.lines().map(str::trim).find(|line| !line.is_empty()).unwrap_or("not YAML").to_owned();
    match line.rsplit_once(" at line ") {
        Some((message, _)) => message.to_owned(),
        None => line,
    }
}
