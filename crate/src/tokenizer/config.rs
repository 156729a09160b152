//! `tokenizer_config.json`: what a model's other tokenizer files leave open.

use serde_json::{Map, Value};

use super::build::Added;
use crate::error::{Error, Result};

const NAME: &str = "tokenizer_config.json";
const MOST_ADDED: usize = 100_000;
const ADVICE: &str = "Use the tokenizer_config.json that belongs to the model.";

/// The keys that are used here; `None` where the file lacks them.
#[derive(Debug, Clone, Default)]
pub struct TokenizerConfig {
    pub bos_token: Option<String>,
    pub eos_token: Option<String>,
    pub unk_token: Option<String>,
    pub pad_token: Option<String>,
    pub add_bos_token: Option<bool>,
    pub add_eos_token: Option<bool>,
    pub add_prefix_space: Option<bool>,
    pub legacy: Option<bool>,
    pub(super) added: Vec<Added>,
    /// Name and source; a single template is `default`.
    pub(super) templates: Vec<(String, String)>,
}

impl TokenizerConfig {
    /// # Errors
    /// Not such a file, or a value of another type than the key has.
    pub fn from_json_bytes(bytes: &[u8]) -> Result<Self> {
        let json: Value = serde_json::from_slice(bytes).map_err(|error| refuse(format!("not JSON: {error}")))?;
        let root = json.as_object().ok_or_else(|| refuse("not a JSON object"))?;
        Ok(Self {
            bos_token: token(root, "bos_token")?,
            eos_token: token(root, "eos_token")?,
            unk_token: token(root, "unk_token")?,
            pad_token: token(root, "pad_token")?,
            add_bos_token: flag(root, "add_bos_token")?,
            add_eos_token: flag(root, "add_eos_token")?,
            add_prefix_space: flag(root, "add_prefix_space")?,
            legacy: flag(root, "legacy")?,
            added: added(root)?,
            templates: templates(root)?,
        })
    }

    /// The chat template of that name; the one called `default`, or the only one, where no name is given.
    ///
    /// # Errors
    /// There is none of that name, or there are several and none is the default.
    pub fn chat_template(&self, name: Option<&str>) -> Result<Option<&str>> {
        let wanted = name.unwrap_or("default");
        if let Some((_, source)) = self.templates.iter().find(|(known, _)| known == wanted) {
            return Ok(Some(source));
        }
        match (name, self.templates.as_slice()) {
            (_, []) => Ok(None),
            (None, [(_, only)]) => Ok(Some(only)),
            _ => {
                let names: Vec<&str> = self.templates.iter().map(|(name, _)| name.as_str()).take(20).collect();
                Err(refuse(format!("there is no chat template `{wanted}`; there are {}", names.join(", "))))
            }
        }
    }
}

fn refuse(message: impl Into<String>) -> Error {
    Error::tokenizer(NAME, message, ADVICE)
}

fn flag(root: &Map<String, Value>, key: &str) -> Result<Option<bool>> {
    match root.get(key) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::Bool(value)) => Ok(Some(*value)),
        Some(_) => Err(refuse(format!("`{key}` is neither true nor false"))),
    }
}

/// A token is its text, or an object with the text in it.
fn token(root: &Map<String, Value>, key: &str) -> Result<Option<String>> {
    match root.get(key) {
        None | Some(Value::Null) => Ok(None),
        Some(value) => match value.as_str().or_else(|| value.get("content").and_then(Value::as_str)) {
            Some(text) => Ok(Some(text.to_owned())),
            None => Err(refuse(format!("`{key}` is no token"))),
        },
    }
}

fn added(root: &Map<String, Value>) -> Result<Vec<Added>> {
    const KEY: &str = "added_tokens_decoder";
    let tokens = match root.get(KEY) {
        None | Some(Value::Null) => return Ok(Vec::new()),
        Some(Value::Object(tokens)) if tokens.len() <= MOST_ADDED => tokens,
        Some(_) => return Err(refuse(format!("`{KEY}` is no object, or a very long one"))),
    };
    let one = |(id, token): (&String, &Value)| {
        let content = token.get("content").and_then(Value::as_str).filter(|content| !content.is_empty());
        let is = |key: &str| token.get(key).and_then(Value::as_bool).unwrap_or(false);
        Some(Added {
            id: id.parse().ok()?,
            content: content?.to_owned(),
            special: is("special"),
            normalized: is("normalized"),
            lstrip: is("lstrip"),
            rstrip: is("rstrip"),
            single_word: is("single_word"),
        })
    };
    tokens
        .iter()
        .map(|entry| one(entry).ok_or_else(|| refuse(format!("`{KEY}` has a bad token `{}`", entry.0))))
        .collect()
}

fn templates(root: &Map<String, Value>) -> Result<Vec<(String, String)>> {
    const KEY: &str = "chat_template";
    let bad = || refuse(format!("`{KEY}` is neither a template nor a list of named ones"));
    let list = match root.get(KEY) {
        None | Some(Value::Null) => return Ok(Vec::new()),
        Some(Value::String(source)) => return Ok(vec![("default".to_owned(), source.clone())]),
        Some(Value::Array(list)) => list,
        Some(_) => return Err(bad()),
    };
    let text = |entry: &Value, key: &str| entry.get(key).and_then(Value::as_str).map(str::to_owned);
    list.iter().map(|entry| text(entry, "name").zip(text(entry, "template")).ok_or_else(bad)).collect()
}
