//! Chat templates: the Jinja programs by which models put a conversation into one text, run so that they can do nothing
//! else. They have no files and no clock of their own; minijinja's fuel and `sandbox` bound their time and memory.

use minijinja::{
    Environment, Error as Fault, ErrorKind, State,
    syntax::SyntaxConfig,
    value::{Kwargs, Rest, Value, ValueKind},
};
use serde::{Deserialize, Serialize};
use ts_rs::TS;

use super::{TokenizerConfig, clock, sandbox};
use crate::error::{Error, Result};

const LONGEST_SOURCE: usize = 256 << 10;
/// About a million steps, or 64 MiB of text: hundreds of times what a long conversation takes.
const FUEL: u64 = 1_000_000;
/// Of macros inside each other; wasm's stack is 1 MiB.
const DEEPEST: usize = 64;
/// Of lists inside each other, for `tojson`.
const DEEPEST_JSON: usize = 64;

const NAME: &str = "template";
const ADVICE: &str = "Check the model's chat template: it must be Jinja as transformers runs it.";

/// One turn of a conversation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, TS)]
#[serde(deny_unknown_fields)]
pub struct Message {
    /// `system`, `user` or `assistant`.
    pub role: String,
    pub content: String,
}

impl Message {
    pub fn new(role: impl Into<String>, content: impl Into<String>) -> Self {
        Self { role: role.into(), content: content.into() }
    }

    fn value(&self) -> Value {
        Value::from_pairs([("role", self.role.as_str()), ("content", self.content.as_str())])
    }
}

/// A model's chat template, ready to be run as transformers' `apply_chat_template` runs it.
pub struct ChatTemplate {
    file: String,
    source: String,
    environment: Environment<'static>,
    tokens: Vec<(&'static str, Value)>,
}

impl std::fmt::Debug for ChatTemplate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ChatTemplate").field("file", &self.file).finish()
    }
}

impl ChatTemplate {
    /// `file` is the name that errors give, `config` the special tokens' source, `now` the seconds since 1970 (UTC)
    /// that a template sees which asks for the date.
    ///
    /// # Errors
    /// A source that is not such a template.
    pub fn new(file: &str, source: &str, config: &TokenizerConfig, now: u64) -> Result<Self> {
        if source.len() > LONGEST_SOURCE {
            let message =
                format!("a chat template of {} KiB; at most {} KiB", source.len() >> 10, LONGEST_SOURCE >> 10);
            return Err(Error::tokenizer(file, message, ADVICE));
        }
        let mut environment = Environment::new();
        environment.set_syntax(blocks().map_err(|error| failed(file, &error))?);
        environment.set_fuel(Some(FUEL));
        environment.set_recursion_limit(DEEPEST);
        sandbox::prepare(&mut environment);
        environment.add_filter("tojson", tojson);
        environment.add_function("raise_exception", |message: String| -> Result<Value, Fault> {
            Err(Fault::new(ErrorKind::InvalidOperation, message))
        });
        environment.add_function("strftime_now", move |format: &str| clock::strftime(now, format));
        let source = without_generation(source);
        sandbox::compile(&environment, NAME, &source).map_err(|error| failed(file, &error))?;
        let tokens = [
            ("bos_token", &config.bos_token),
            ("eos_token", &config.eos_token),
            ("unk_token", &config.unk_token),
            ("pad_token", &config.pad_token),
        ];
        let tokens =
            tokens.into_iter().filter_map(|(key, token)| Some((key, Value::from(token.as_deref()?)))).collect();
        Ok(Self { file: file.to_owned(), source, environment, tokens })
    }

    /// The conversation as the model's text, ready for [`super::Tokenizer::encode_chat`]. `add_generation_prompt` ends it
    /// with the beginning of the assistant's next turn.
    ///
    /// # Errors
    /// What the template itself refuses (two turns of one role, say), and one that would run forever.
    pub fn render(&self, messages: &[Message], add_generation_prompt: bool) -> Result<String> {
        let given = [
            ("messages", messages.iter().map(Message::value).collect::<Value>()),
            ("add_generation_prompt", Value::from(add_generation_prompt)),
        ];
        let context = Value::from_pairs(given.into_iter().chain(self.tokens.iter().cloned()));
        sandbox::render(&self.environment, NAME, &self.source, context).map_err(|error| failed(&self.file, &error))
    }
}

/// The white space rules that transformers sets.
fn blocks() -> Result<SyntaxConfig, Fault> {
    SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build()
}

fn failed(file: &str, error: &Fault) -> Error {
    if matches!(error.kind(), ErrorKind::OutOfFuel) {
        let message = "the chat template does not come to an end, or writes without bounds";
        return Error::tokenizer(file, message, ADVICE);
    }
    let line = error.line().map(|line| format!(", line {line}")).unwrap_or_default();
    let reason = error.detail().map_or_else(|| error.kind().to_string(), str::to_owned);
    let reason: String = reason.chars().take(500).collect();
    Error::tokenizer(file, format!("the chat template{line}: {reason}"), ADVICE)
}

/// `{% generation %}` marks the assistant's part for later versions of transformers; it writes nothing.
fn without_generation(source: &str) -> String {
    let mut text = String::with_capacity(source.len());
    let mut rest = source;
    while let Some(start) = rest.find("{%") {
        let (before, block) = rest.split_at(start);
        let end = block.find("%}").map_or(block.len(), |at| at + 2);
        let (block, after) = block.split_at(end);
        text.push_str(before);
        match block.trim_matches(['{', '}', '%', '-', '+']).trim() {
            "generation" => text.push_str(&block.replace("generation", "if true")),
            "endgeneration" => text.push_str(&block.replace("endgeneration", "endif")),
            _ => text.push_str(block),
        }
        rest = after;
    }
    text + rest
}

/// As transformers writes JSON: Python's spaces, no escapes for HTML, other letters than ASCII as they are.
fn tojson(state: &State<'_, '_>, value: &Value, arguments: Rest<Value>, options: Kwargs) -> Result<String, Fault> {
    let indent = match arguments.first() {
        Some(indent) => Some(indent.clone()),
        None => options.get::<Option<Value>>("indent")?,
    };
    let indent = indent.filter(|indent| !indent.is_none()).map(usize::try_from).transpose()?;
    for ignored in ["ensure_ascii", "separators", "sort_keys"] {
        options.get::<Option<Value>>(ignored)?;
    }
    options.assert_all_used()?;
    let mut text = String::new();
    write_json(state, value, indent.map(|spaces| spaces.min(16)), 0, &mut text)?;
    Ok(text)
}

fn write_json(
    state: &State<'_, '_>,
    value: &Value,
    indent: Option<usize>,
    depth: usize,
    out: &mut String,
) -> Result<(), Fault> {
    let wrong = |message: &'static str| Fault::new(ErrorKind::InvalidOperation, message);
    if depth > DEEPEST_JSON {
        return Err(wrong("tojson: lists too deep inside each other"));
    }
    state.consume_fuel(1 + indent.unwrap_or_default() as u64 * depth as u64 / 8)?;
    let line = |out: &mut String, depth: usize| {
        if let Some(spaces) = indent {
            out.push('\n');
            out.extend(std::iter::repeat_n(' ', spaces * depth));
        }
    };
    let text = |value: &Value, out: &mut String| -> Result<(), Fault> {
        let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        state.consume_fuel(text.len() as u64 / 16)?;
        let quoted = serde_json::to_string(&text).map_err(|_| wrong("tojson: not a text"))?;
        out.push_str(&quoted);
        Ok(())
    };
    let comma = if indent.is_some() { "," } else { ", " };
    match value.kind() {
        ValueKind::Undefined | ValueKind::None => out.push_str("null"),
        ValueKind::Bool => out.push_str(if value.is_true() { "true" } else { "false" }),
        ValueKind::Number => out.push_str(&value.to_string()),
        ValueKind::String => text(value, out)?,
        ValueKind::Seq | ValueKind::Iterable => {
            out.push('[');
            let mut empty = true;
            for item in value.try_iter()? {
                if !std::mem::take(&mut empty) {
                    out.push_str(comma);
                }
                line(out, depth + 1);
                write_json(state, &item, indent, depth + 1, out)?;
            }
            if !empty {
                line(out, depth);
            }
            out.push(']');
        }
        ValueKind::Map => {
            out.push('{');
            let mut empty = true;
            for key in value.try_iter()? {
                if !std::mem::take(&mut empty) {
                    out.push_str(comma);
                }
                line(out, depth + 1);
                text(&key, out)?;
                out.push_str(": ");
                write_json(state, &value.get_item(&key)?, indent, depth + 1, out)?;
            }
            if !empty {
                line(out, depth);
            }
            out.push('}');
        }
        _ => return Err(wrong("tojson: a value that JSON does not have")),
    }
    Ok(())
}
