//! `plugin.json`: one table has its fields with their words, types and rules, and from it come the structure, the checks and the
//! JSON Schema.

use std::collections::{BTreeMap, HashMap};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::MANIFEST;
use crate::{
    apply::Applied,
    config::Task,
    data::Shape,
    error::{Error, Result},
    eval::Metric,
    event::Metrics,
};

/// Of its `format`.
pub const VERSION: u32 = 1;
pub(super) const LONGEST_ID: usize = 64;
const LONGEST_NAME: usize = 200;
/// Of what a manifest brings: it may come from anywhere, and what it says is shown.
const LONGEST_TEXT: usize = 1000;
const LONGEST_TEMPLATE: usize = 64 << 10;
const MOST_LABELS: usize = 10_000;
const MOST_PARTS: usize = 1000;

/// What a field may hold beyond its type.
#[derive(Clone, Copy)]
enum Rule {
    Any,
    Only(u32),
    Id,
    /// Characters.
    AtMost(usize),
    /// Texts, of at most [`LONGEST_TEXT`] characters each.
    Few(usize),
    Words(&'static [&'static str]),
}

impl Rule {
    /// What was expected and what is there instead; a missing value is none that could be wrong.
    fn check(self, value: &Value) -> std::result::Result<(), (String, String)> {
        let text = value.as_str().unwrap_or_default();
        match self {
            Self::Only(number) if value.as_u64() != Some(number.into()) => Err((number.to_string(), value.to_string())),
            Self::Id => check_id(text).map_err(|got| (EXPECTED_ID.to_owned(), got)),
            Self::AtMost(most) if text.chars().count() > most => {
                Err((format!("at most {most} characters"), text.chars().count().to_string()))
            }
            Self::Few(most) => {
                let mut texts: Vec<&str> = value.as_array().into_iter().flatten().filter_map(Value::as_str).collect();
                for (key, value) in value.as_object().into_iter().flatten() {
                    texts.extend([key.as_str()].into_iter().chain(value.as_str()));
                }
                let longest = texts.iter().map(|text| text.chars().count()).max().unwrap_or_default();
                let count = value.as_object().map_or(texts.len(), Map::len);
                if count > most {
                    return Err((format!("at most {most}"), count.to_string()));
                }
                match longest > LONGEST_TEXT {
                    true => Err((format!("at most {LONGEST_TEXT} characters each"), longest.to_string())),
                    false => Ok(()),
                }
            }
            Self::Words(words) if !value.is_null() && !words.contains(&text) => {
                Err((words.join(" or "), format!("`{}`", text.chars().take(60).collect::<String>())))
            }
            _ => Ok(()),
        }
    }

    fn schema(self) -> Vec<(&'static str, Value)> {
        match self {
            Self::Any => Vec::new(),
            Self::Only(number) => vec![("const", json!(number))],
            Self::Id => vec![("pattern", json!(ID)), ("maxLength", json!(LONGEST_ID))],
            Self::AtMost(most) => vec![("maxLength", json!(most))],
            Self::Few(most) => vec![("maxItems", json!(most)), ("maxProperties", json!(most))],
            Self::Words(words) => vec![("enum", json!(words))],
        }
    }
}

/// What JSON Schema says of a type.
trait Described {
    fn schema() -> Value;
}

impl Described for u32 {
    fn schema() -> Value {
        json!({"type": "integer", "minimum": 0})
    }
}

impl Described for String {
    fn schema() -> Value {
        json!({"type": "string"})
    }
}

impl<T: Described> Described for Option<T> {
    fn schema() -> Value {
        let mut schema = T::schema();
        let kind = schema["type"].take();
        schema["type"] = json!([kind, "null"]);
        schema
    }
}

impl<T: Described> Described for Vec<T> {
    fn schema() -> Value {
        json!({"type": "array", "items": T::schema()})
    }
}

impl<T: Described> Described for BTreeMap<String, T> {
    fn schema() -> Value {
        json!({"type": "object", "additionalProperties": T::schema()})
    }
}

impl Described for Metrics {
    fn schema() -> Value {
        let words = Metric::ALL.iter().map(|metric| metric.as_str());
        let numbers = words.map(|word| (word.to_owned(), json!({"type": "number"})));
        json!({"type": "object", "required": ["loss"], "properties": numbers.collect::<Map<_, _>>()})
    }
}

fn property<T: Described>(about: &str, rule: Rule) -> Value {
    let mut schema = T::schema();
    let optional = schema["type"].is_array();
    schema["description"] = json!(about.trim());
    for (key, value) in rule.schema() {
        schema[key] = value;
    }
    // A list of words leaves out what is not in it, whatever the type.
    if let (true, Some(words)) = (optional, schema.get_mut("enum").and_then(Value::as_array_mut)) {
        words.push(Value::Null);
    }
    schema
}

/// A structure of `plugin.json`, with the table of its fields. Optional ones may be missing; others that a later version adds are
/// passed over.
macro_rules! described {
    ($(#[doc = $doc:literal])+ $name:ident {
        required { $($(#[doc = $about:literal])+ $field:ident: $ty:ty = $rule:expr;)+ }
        optional { $($(#[doc = $more_about:literal])+ $more:ident: $more_ty:ty = $more_rule:expr;)* }
    }) => {
        $(#[doc = $doc])+
        #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
        pub struct $name {
            $($(#[doc = $about])+ pub $field: $ty,)+
            $($(#[doc = $more_about])+ #[serde(default)] pub $more: $more_ty,)*
        }

        impl $name {
            const RULES: &[(&str, Rule)] = &[$((stringify!($field), $rule),)+ $((stringify!($more), $more_rule),)*];
        }

        impl Described for $name {
            fn schema() -> Value {
                let properties = [
                    $((stringify!($field), property::<$ty>(concat!($($about),+), $rule)),)+
                    $((stringify!($more), property::<$more_ty>(concat!($($more_about),+), $more_rule)),)*
                ];
                let properties: Map<_, _> = properties.into_iter().map(|(key, value)| (key.to_owned(), value)).collect();
                let description = concat!($($doc),+).trim();
                let required = [$(stringify!($field)),+];
                json!({"type": "object", "description": description, "required": required, "properties": properties})
            }
        }
    };
}

described! {
    /// A trained adapter packed with its task: PEFT's files stand beside it.
    Manifest {
        required {
            /// The version of this description.
            format: u32 = Rule::Only(VERSION);
            /// Names it in commands and addresses: letters, digits, `.`, `_` and `-`.
            id: String = Rule::Id;
            /// For a person.
            name: String = Rule::AtMost(LONGEST_NAME);
            /// As in `task:`.
            scenario: String = Rule::Words(Task::WORDS);
            /// The model that it belongs to.
            base: Base = Rule::Any;
        }
        optional {
            /// As in `data.shape`.
            shape: Option<String> = Rule::Words(Shape::WORDS);
            /// Class names in the order of their numbers; empty outside classification.
            labels: Vec<String> = Rule::Few(MOST_LABELS);
            /// A prompt as it was put to the model, with `{role}` where a row's parts stand; for a person to read.
            template: Option<String> = Rule::AtMost(LONGEST_TEMPLATE);
            /// Held-out rows before training, where they were measured.
            before: Option<Metrics> = Rule::Any;
            /// The same after it.
            after: Option<Metrics> = Rule::Any;
        }
    }
}

described! {
    /// The model that a plugin belongs to.
    Base {
        required {
            /// For a person.
            name: String = Rule::AtMost(LONGEST_TEXT);
        }
        optional {
            /// File name and SHA-256 of each part.
            fingerprint: BTreeMap<String, String> = Rule::Few(MOST_PARTS);
        }
    }
}

/// `plugin.json` as a JSON Schema (draft 2020-12), as docs/plugin.schema.json has it.
pub fn json_schema() -> Value {
    let mut schema = Manifest::schema();
    schema["$schema"] = json!("https://json-schema.org/draft/2020-12/schema");
    schema["title"] = json!(MANIFEST);
    schema
}

impl Manifest {
    pub fn new(id: String, name: String, applied: &Applied) -> Self {
        let summary = applied.summary.as_ref();
        Self {
            format: VERSION,
            id,
            name,
            scenario: applied.config.task.as_str().to_owned(),
            shape: applied.config.data.shape.map(|shape| shape.as_str().to_owned()),
            labels: applied.labels.clone(),
            template: super::template(applied),
            before: summary.and_then(|summary| summary.before.clone()),
            after: summary.and_then(|summary| summary.after.clone()),
            base: Base {
                name: applied.folder.name.clone(),
                fingerprint: applied.fingerprint.iter().cloned().collect(),
            },
        }
    }

    /// # Errors
    /// What is wrong with which key. Nothing in it is taken for a path.
    pub fn read(bytes: &[u8]) -> Result<Self> {
        let bad = |key: &str, expected: &str, got: String| Error::model(MANIFEST, key, expected, got);
        let broken = |error: serde_json::Error| bad("the file", "a plugin's description", error.to_string());
        let json: Value = serde_json::from_slice(bytes).map_err(broken)?;
        let manifest = Self::deserialize(&json).map_err(broken)?;
        for (rules, part, place) in [(Self::RULES, &json, ""), (Base::RULES, &json["base"], "base.")] {
            for (key, rule) in rules {
                rule.check(&part[*key]).map_err(|(expected, got)| bad(&format!("{place}{key}"), &expected, got))?;
            }
        }
        Ok(manifest)
    }

    /// Whether it was trained on this base: its tokens must be the same, and its weights should be.
    ///
    /// # Errors
    /// Another vocabulary: every token would mean something else. A warning where only the weights' file is another one.
    pub fn check_base(&self, name: &str, fingerprint: &[(String, String)]) -> Result<Option<String>> {
        let there: HashMap<&str, &str> =
            fingerprint.iter().map(|(file, hash)| (file.as_str(), hash.as_str())).collect();
        let differs = |(file, hash): (&String, &String)| there.get(file.as_str()).is_some_and(|other| other != hash);
        let different: Vec<&String> =
            self.base.fingerprint.iter().filter(|entry| differs(*entry)).map(|(file, _)| file).collect();
        if different.iter().any(|file| *file == "tokenizer.json") {
            let got = format!("{name}, whose tokenizer.json is another one");
            return Err(Error::model(MANIFEST, "base", format!("the base `{}`", self.base.name), got));
        }
        let weights = different.iter().any(|file| *file != "config.json");
        Ok(weights.then(|| {
            format!(
                "`{}` was trained on other weights than {name} has (`{}`): its answers may be worse than they were.",
                self.id, self.base.name
            )
        }))
    }
}

/// [`check_id`]'s, for others.
const ID: &str = "^[A-Za-z0-9][A-Za-z0-9._-]*$";
const EXPECTED_ID: &str = "1 to 64 of the characters a-z, A-Z, 0-9, `.`, `_` and `-`, the first a letter or digit";

/// # Errors
/// The id, cut, where it is none.
pub fn check_id(id: &str) -> std::result::Result<(), String> {
    let fits = |c: char| c.is_ascii_alphanumeric() || ['.', '_', '-'].contains(&c);
    let begins = id.starts_with(|c: char| c.is_ascii_alphanumeric());
    if begins && id.len() <= LONGEST_ID && id.chars().all(fits) {
        return Ok(());
    }
    Err(format!("`{}`", id.chars().take(LONGEST_ID).collect::<String>()))
}

/// An id out of a person's words.
pub fn id_of(name: &str) -> String {
    let mut id = String::new();
    for c in name.chars().flat_map(char::to_lowercase) {
        if c.is_ascii_alphanumeric() {
            id.push(c);
        } else if !id.is_empty() && !id.ends_with('-') {
            id.push('-');
        }
    }
    id.truncate(LONGEST_ID);
    let id = id.trim_end_matches('-');
    if id.is_empty() { "plugin".to_owned() } else { id.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn json(id: &str, scenario: &str) -> Vec<u8> {
        let base =
            r#"{"name": "b", "fingerprint": {"tokenizer.json": "1", "model.safetensors": "2", "config.json": "3"}}"#;
        format!(r#"{{"format": 1, "id": "{id}", "name": "N", "scenario": "{scenario}", "base": {base}}}"#).into_bytes()
    }

    #[test]
    fn ids_are_no_paths() {
        for id in ["spam", "spam-2.1_b", "0"] {
            assert_eq!(Manifest::read(&json(id, "text-classification")).expect(id).id, id);
        }
        for id in ["", "..", "../x", "a/b", "a\\\\b", ".hidden", "-x", "é", "a b", &"x".repeat(65)] {
            let error = Manifest::read(&json(id, "text-classification")).expect_err(id).to_string();
            assert!(error.contains("plugin.json: id"), "{error}");
        }
        assert!(Manifest::read(&json("a", "poetry")).expect_err("no such task").to_string().contains("scenario"));
        assert!(Manifest::read(b"{}").is_err() && Manifest::read(b"[1").is_err());
        assert_eq!((id_of(" Spam: E-Mails!").as_str(), id_of("情感").as_str()), ("spam-e-mails", "plugin"));
        assert!(check_id(&id_of(&"x y".repeat(100))).is_ok());
    }

    #[test]
    fn what_does_not_hold_is_named() {
        let with = |key: &str, value: Value| {
            let mut json: Value = serde_json::from_slice(&json("a", "summarization")).expect("JSON");
            json[key] = value;
            Manifest::read(json.to_string().as_bytes())
        };
        for (key, value) in [
            ("format", json!(2)),
            ("name", json!("n".repeat(201))),
            ("scenario", json!("poetry")),
            ("shape", json!("round")),
            ("labels", json!(["x".repeat(1001)])),
            ("labels", json!(vec!["x"; 10_001])),
            ("template", json!("x".repeat(1 << 17))),
        ] {
            let error = with(key, value).expect_err(key).to_string();
            assert!(error.starts_with(&format!("plugin.json: {key}: expected ")), "{error}");
        }
        assert!(with("shape", Value::Null).is_ok() && with("shape", json!("text-label")).is_ok());
        assert!(with("of tomorrow", json!(1)).is_ok());
        assert!(with("base", json!({})).expect_err("no name").to_string().contains("name"));
    }

    /// What is written has every key that is required, and none that is not described.
    #[test]
    fn the_schema_describes_what_is_written() {
        let written =
            serde_json::to_value(Manifest::read(&json("a", "summarization")).expect("a manifest")).expect("JSON");
        let agrees = |schema: &Value, written: &Value| {
            let keys: Vec<&String> = written.as_object().expect("an object").keys().collect();
            let described: Vec<&String> = schema["properties"].as_object().expect("properties").keys().collect();
            assert_eq!(keys, described);
            for key in schema["required"].as_array().expect("required") {
                assert!(keys.iter().any(|there| key == there.as_str()), "{key}");
            }
        };
        let schema = json_schema();
        agrees(&schema, &written);
        agrees(&schema["properties"]["base"], &written["base"]);
        assert_eq!(schema["properties"]["format"]["const"], json!(VERSION));
        assert!(schema["properties"]["shape"]["enum"].as_array().expect("words").contains(&Value::Null));
    }

    #[test]
    fn the_base_must_have_the_same_tokens_and_should_have_the_same_weights() {
        let manifest = Manifest::read(&json("a", "summarization")).expect("a manifest");
        let parts = |tokenizer: &str, weights: &str| {
            [("tokenizer.json", tokenizer), ("model.safetensors", weights), ("config.json", "9")]
                .map(|(file, hash)| (file.to_owned(), hash.to_owned()))
        };
        assert_eq!(manifest.check_base("b", &parts("1", "2")).expect("the base"), None);
        assert!(manifest.check_base("b", &parts("1", "7")).expect("nearly the base").is_some());
        assert!(manifest.check_base("b", &parts("8", "2")).is_err());
    }
}
