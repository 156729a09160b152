//! [`RawConfig`] from YAML and from `--set key=value`; [`Config`] back to YAML.

use serde_json::{Map, Value};

use super::{
    keys::{self, Config, RawConfig},
    nearest::did_you_mean,
    rule::{Key, Kind},
    tree::{At, MOST_BYTES, Node},
};
use crate::error::{Error, Result};
use crate::platform::NamedFile;

impl RawConfig {
    /// Reads the one file handed over.
    ///
    /// # Errors
    /// As [`Self::from_yaml`], and where there is another number of files or the file is no text.
    pub async fn read(files: &[NamedFile]) -> Result<Self> {
        let [NamedFile { name, blob }] = files else {
            let message = format!("{} files were handed over as a configuration", files.len());
            return Err(Error::session(message, "Choose one YAML file."));
        };
        let refused = |message| Error::syntax(name, message, "Choose the YAML file of a run.");
        let size = blob.size();
        if size > MOST_BYTES as u64 {
            return Err(refused(format!("{size} bytes; a configuration has at most {MOST_BYTES}")));
        }
        let bytes = blob.read(0, size as usize).await.map_err(|error| Error::io(name, error))?;
        let text = String::from_utf8(bytes).map_err(|_| refused("not text in UTF-8".to_owned()))?;
        Self::from_yaml(&text, name)
    }

    /// Reads YAML (of which JSON is a part). `file` is the name that errors give.
    ///
    /// # Errors
    /// The first of [`Self::check_yaml`]'s.
    pub fn from_yaml(text: &str, file: &str) -> Result<Self> {
        Self::check_yaml(text, file).map_err(|errors| {
            let nothing = || Error::syntax(file, "not a configuration", "Choose the YAML file of a run.");
            errors.into_iter().next().unwrap_or_else(nothing)
        })
    }

    /// Reads YAML and checks every key by itself, and how they go together.
    ///
    /// # Errors
    /// All there are, in the order of the file: each names its line, its key, what that takes and the nearest key or word
    /// there is. What is no YAML is told alone.
    pub fn check_yaml(text: &str, file: &str) -> std::result::Result<Self, Vec<Error>> {
        let node = Node::parse(text.trim_start_matches('\u{feff}'), file).map_err(|error| vec![error])?;
        Self::from_node(&node, file)
    }

    /// The same from YAML that is a part of another file.
    pub(crate) fn from_node(node: &At<Node>, file: &str) -> std::result::Result<Self, Vec<Error>> {
        let mut reading = Reading::new(file);
        let read = reading.top(node);
        let raw: Self = match serde_json::from_value(Value::Object(read)) {
            Ok(raw) => raw,
            // Only where the tables do not describe the fields, which a test excludes.
            Err(error) => return Err(vec![Error::syntax(file, error.to_string(), "")]),
        };
        if reading.errors.is_empty()
            && let Err(errors) = Config::check(&raw)
        {
            for error in errors {
                let place = match reading.line_of(&error) {
                    Some(line) => format!("{file} line {line}"),
                    None => file.to_owned(),
                };
                reading.errors.push(error.at(place));
            }
        }
        if reading.errors.is_empty() { Ok(raw) } else { Err(reading.errors) }
    }

    /// `--set key=value`: `set("training.batch_size", "4")`. A list is written `[q_proj, v_proj]` or `q_proj,v_proj`.
    ///
    /// # Errors
    /// Names the nearest key where there is none of that name, or the value where it does not fit.
    pub fn set(&mut self, key: &str, value: &str) -> Result<()> {
        let value = value.trim();
        let Some(key) = keys::find(key) else {
            return Err(Error::syntax("--set", format!("unknown key `{key}`"), did_you_mean(key, &[])));
        };
        let node = match key.rule.kind {
            Kind::Text | Kind::Word(_) => Node::Text(value.to_owned()),
            Kind::Words(_) => {
                let inner = value.strip_prefix('[').and_then(|v| v.strip_suffix(']')).unwrap_or(value);
                let items = inner.split(',').map(str::trim).filter(|item| !item.is_empty());
                Node::List(items.map(|item| At { line: 0, value: Node::Text(item.to_owned()) }).collect())
            }
            // Only what a number or a flag is written with: nothing that YAML could take for structure.
            Kind::Flag | Kind::Whole { .. } | Kind::Real { .. } => {
                let plain = !value.is_empty() && value.chars().all(|c| c.is_ascii_alphanumeric() || "+-._".contains(c));
                let parsed = if plain { Node::parse(value, "--set").ok() } else { None };
                parsed.map_or_else(|| Node::Text(value.to_owned()), |node| node.value)
            }
        };
        if node == Node::Null {
            return Err(key.wrong("nothing"));
        }
        self.put(key, key.read(&node)?)
    }

    /// Sets one key to a value that [`Key::read`] gave; `null` leaves it as it is.
    pub(crate) fn put(&mut self, key: &Key, value: Value) -> Result<()> {
        let mut document = Map::new();
        let shown = value.to_string();
        insert(&mut document, key, value);
        let one: Self = serde_json::from_value(Value::Object(document)).map_err(|_| key.wrong(shown))?;
        *self = std::mem::take(self).merge(one);
        Ok(())
    }
}

impl Config {
    /// The whole configuration, every default filled in, in a stable order; [`RawConfig::from_yaml`] reads it back.
    pub fn to_yaml(&self) -> String {
        // Plain structs of numbers and strings: there is nothing in them that YAML cannot hold.
        serde_saphyr::to_string(self).unwrap_or_default()
    }
}

/// Puts a key's value into its section.
fn insert(document: &mut Map<String, Value>, key: &Key, value: Value) {
    let into = match key.name.split_once('.') {
        None => document,
        Some((section, _)) => match document.entry(section).or_insert_with(|| Value::Object(Map::new())) {
            Value::Object(section) => section,
            _ => return,
        },
    };
    into.insert(key.short().to_owned(), value);
}

/// One file on its way to keys and values; what is wrong with it is gathered.
pub(crate) struct Reading<'a> {
    file: &'a str,
    pub errors: Vec<Error>,
    /// Where the keys stand.
    lines: Vec<(&'static str, u64)>,
}

impl<'a> Reading<'a> {
    pub fn new(file: &'a str) -> Self {
        Self { file, errors: Vec::new(), lines: Vec::new() }
    }

    fn top(&mut self, node: &At<Node>) -> Map<String, Value> {
        let mut document = Map::new();
        let Some((top, sections)) = RawConfig::SECTIONS.split_first() else { return document };
        for (name, value) in self.entries(node, "a run") {
            match sections.iter().find(|section| section.name == name.value) {
                Some(section) => {
                    let here: Vec<&str> = section.keys.iter().map(Key::short).collect();
                    for (name, value) in self.entries(value, section.name) {
                        self.key(section.keys, name, value, &here, &mut document);
                    }
                }
                None => {
                    let sections = sections.iter().map(|section| section.name);
                    let here: Vec<&str> = top.keys.iter().map(Key::short).chain(sections).collect();
                    self.key(top.keys, name, value, &here, &mut document);
                }
            }
        }
        document
    }

    pub fn entries<'n>(&mut self, node: &'n At<Node>, what: &str) -> &'n [(At<String>, At<Node>)] {
        match &node.value {
            Node::Map(entries) => entries,
            Node::Null => &[],
            other => {
                let message = format!("{what}: expected keys with values, got {other}");
                self.refuse(node.line, message, "Write each key on a line of its own, as `key: value`.".to_owned());
                &[]
            }
        }
    }

    /// Reads one key of those that stand `here` into the document.
    pub fn key(
        &mut self,
        keys: &'static [Key],
        name: &At<String>,
        node: &At<Node>,
        here: &[&str],
        document: &mut Map<String, Value>,
    ) {
        let Some(key) = keys.iter().find(|key| key.short() == name.value) else {
            let shown: String = name.value.chars().take(80).collect();
            let message = format!("unknown key `{}`", shown.escape_debug());
            return self.refuse(name.line, message, did_you_mean(&name.value, here));
        };
        self.lines.push((key.name, node.line));
        match key.read(&node.value) {
            Ok(value) => insert(document, key, value),
            Err(error) => self.wrong(node.line, error),
        }
    }

    pub fn refuse(&mut self, line: u64, message: String, advice: String) {
        let place = format!("{} line {line}", self.file);
        self.errors.push(Error::syntax(&place, message, advice));
    }

    /// An error about a key, where its value stands.
    pub fn wrong(&mut self, line: u64, error: Error) {
        self.errors.push(error.at(format!("{} line {line}", self.file)));
    }

    /// Where the key that an error names was written.
    fn line_of(&self, error: &Error) -> Option<u64> {
        let Error::Config { key, .. } = error else { return None };
        self.lines.iter().find(|(name, _)| name == key).map(|(_, line)| *line)
    }
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
