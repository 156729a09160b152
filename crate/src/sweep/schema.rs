//! `sweep.yaml` as a JSON Schema, by which editors complete and check it.

use serde_json::{Map, Value, json};

use super::{
    file::{SearchSection, free},
    space::{MOST_VALUES, SCALES, Scale},
};
use crate::config::{
    self, keys,
    rule::{Key, Kind},
    schema::{property, value},
};

/// Draft 2020-12, as docs/sweep.schema.json has it.
pub fn json_schema() -> Value {
    let mut properties: Map<String, Value> =
        SearchSection::KEYS.iter().map(|key| (key.short().to_owned(), property(key))).collect();
    let mut inline = config::json_schema();
    if let Some(inline) = inline.as_object_mut() {
        inline.remove("$schema");
    }
    let file = json!({"type": "string", "description": "A run.yaml, as seen from this file."});
    let base = json!({
        "description": "The settings that the space goes over; those of --config, or the defaults, when absent.",
        "anyOf": [file, inline],
    });
    let space: Map<String, Value> =
        keys::all().filter(|key| free(key).is_ok()).map(|key| (key.name.to_owned(), tried(key))).collect();
    let space = json!({
        "description": "What is tried: any keys of run.yaml by their full names, but for the data's and what all trials share.",
        "type": "object",
        "additionalProperties": false,
        "minProperties": 1,
        "properties": space,
    });
    properties.extend([("base".to_owned(), base), ("space".to_owned(), space)]);
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "sweep.yaml",
        "description": "A sweep of Paddock: settings that are tried over a base, one run each, and compared with the base's own.",
        "type": "object",
        "additionalProperties": false,
        "required": ["space"],
        "properties": properties,
    })
}

/// A list of a key's values, and of a number's a range as well.
fn tried(key: &Key) -> Value {
    let list = json!({"type": "array", "items": value(key), "minItems": 1, "maxItems": MOST_VALUES});
    let number = matches!(key.rule.kind, Kind::Whole { .. } | Kind::Real { .. });
    let ranges = SCALES.iter().filter(|_| number).map(|(word, scale)| {
        let mut end = value(key);
        if *scale == Scale::LogUniform {
            // Zero has no logarithm.
            end.entry("exclusiveMinimum").or_insert(json!(0));
        }
        let ends = json!({"type": "array", "items": end, "minItems": 2, "maxItems": 2});
        json!({"type": "object", "additionalProperties": false, "required": [word], "properties": {(*word): ends}})
    });
    let ways: Vec<Value> = std::iter::once(list).chain(ranges).collect();
    json!({"description": key.doc.trim(), "anyOf": ways})
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sweep::SweepFile;

    /// A value that the key takes, in YAML.
    fn some(key: &Key) -> String {
        match key.rule.kind {
            Kind::Text => "x".to_owned(),
            Kind::Flag => "true".to_owned(),
            Kind::Whole { least, .. } => least.to_string(),
            Kind::Real { least, most, .. } => ((least + most) / 2.0).to_string(),
            Kind::Word(words) => words[0].to_owned(),
            Kind::Words(words) => format!("[{}]", words[0]),
        }
    }

    #[test]
    fn the_schema_has_the_keys_and_the_ranges_that_are_read() {
        let schema = json_schema();
        let top: Vec<&String> = schema["properties"].as_object().expect("properties").keys().collect();
        let mut known: Vec<&str> = SearchSection::KEYS.iter().map(Key::short).chain(["base", "space"]).collect();
        known.sort_unstable();
        assert_eq!(top, known);
        let space = &schema["properties"]["space"]["properties"];
        let read = |yaml: String| SweepFile::from_yaml(&yaml, "sweep.yaml").is_ok();
        for key in keys::all() {
            let described = space.get(key.name);
            let list = format!("space: {{{}: [{}]}}\n", key.name, some(key));
            assert_eq!(described.is_some(), read(list.clone()), "{list}");
            let Some(ways) = described.and_then(|key| key["anyOf"].as_array()) else { continue };
            for (at, (word, _)) in (1usize..).zip(SCALES) {
                let ends = match key.rule.kind {
                    Kind::Whole { least, most } => format!("{}, {most}", least.max(1)),
                    Kind::Real { least, most, .. } => format!("{}, {}", (least + most) / 4.0, (least + most) / 2.0),
                    _ => "1, 2".to_owned(),
                };
                let range = format!("space: {{{}: {{{word}: [{ends}]}}}}\n", key.name);
                let told = ways.get(at).is_some_and(|way| way["properties"].get(word).is_some());
                assert_eq!(told, read(range.clone()), "{range}");
            }
        }
    }

    #[test]
    fn a_base_is_a_file_or_what_a_run_takes() {
        let schema = json_schema();
        let ways = &schema["properties"]["base"]["anyOf"];
        assert_eq!(ways[0]["type"], "string");
        assert_eq!(ways[1]["properties"], config::json_schema()["properties"]);
    }
}
