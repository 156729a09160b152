//! `run.yaml` as a JSON Schema, by which editors complete and check it.

use serde_json::{Map, Value, json};

use super::{
    keys::RawConfig,
    rule::{Default, Key, Kind, Section},
};

/// Draft 2020-12, as docs/run.schema.json has it.
pub fn json_schema() -> Value {
    let mut properties = Map::new();
    for section in RawConfig::SECTIONS {
        if section.name.is_empty() {
            properties.extend(keys(section));
        } else {
            let schema = json!({
                "description": section.doc.trim(),
                // A section whose keys are all comments is null.
                "type": ["object", "null"],
                "additionalProperties": false,
                "properties": keys(section),
            });
            properties.insert(section.name.to_owned(), schema);
        }
    }
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "run.yaml",
        "description": RawConfig::DOC.trim(),
        "type": ["object", "null"],
        "additionalProperties": false,
        "properties": properties,
    })
}

fn keys(section: &Section) -> Map<String, Value> {
    section.keys.iter().map(|key| (key.short().to_owned(), property(key))).collect()
}

/// A key with what it is and what it is where it is absent.
pub(crate) fn property(key: &Key) -> Value {
    let mut schema = value(key);
    schema.insert("description".to_owned(), json!(key.doc.trim()));
    let default = match (key.rule.default, key.rule.kind) {
        (Some(Default::Text(text)), _) => Some(json!(text)),
        (Some(Default::Flag(flag)), _) => Some(json!(flag)),
        (Some(Default::Number(value)), _) => Some(number(value)),
        (Some(Default::All), Kind::Words(words)) => Some(json!(words)),
        (Some(Default::All) | None, _) => None,
    };
    if let Some(default) = default {
        schema.insert("default".to_owned(), default);
    }
    Value::Object(schema)
}

/// What its value has to be.
pub(crate) fn value(key: &Key) -> Map<String, Value> {
    let mut schema = Map::new();
    let mut put = |name: &str, value: Value| schema.insert(name.to_owned(), value);
    match key.rule.kind {
        Kind::Text => put("type", json!("string")),
        Kind::Flag => put("type", json!("boolean")),
        Kind::Whole { least, most } => {
            put("type", json!("integer"));
            put("minimum", json!(least));
            put("maximum", json!(most))
        }
        Kind::Real { least, least_open, most, most_open } => {
            put("type", json!("number"));
            put(if least_open { "exclusiveMinimum" } else { "minimum" }, number(least));
            put(if most_open { "exclusiveMaximum" } else { "maximum" }, number(most))
        }
        Kind::Word(words) => put("enum", json!(words)),
        Kind::Words(words) => {
            put("type", json!("array"));
            put("items", json!({"enum": words}));
            put("minItems", json!(1))
        }
    };
    schema
}

/// Without a `.0` that nobody wrote.
fn number(value: f64) -> Value {
    if value.fract() == 0.0 && value.abs() < 1e15 { json!(value as i64) } else { json!(value) }
}
