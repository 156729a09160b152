//! Entities that a model answers as JSON: read leniently, compared as sets, counted over all rows (micro F1).

use std::collections::BTreeSet;

use serde_json::Value;

use super::text::{f1, share, words};

/// The keys of an entity's object, best first: our own, then those of Hugging Face's token classification.
const TYPE: [&str; 3] = ["type", "label", "entity_group"];
const TEXT: [&str; 2] = ["text", "word"];

/// Types with texts, white space in them as single spaces; an entity named twice is there once.
pub type Entities = BTreeSet<(String, String)>;

/// Reads `[{"type": "PER", "text": "Ada"}]`, `{"PER": ["Ada"]}`, or such a list under any key of an object. What stands
/// before and after it (a sentence, a code fence) is passed over.
///
/// None where there is no whole JSON list or object, or one that holds things but no entity: the answer is unparsable.
pub fn parse(answer: &str) -> Option<Entities> {
    // The first bracket behind which JSON can go on, so that "[note]" is none.
    let start = answer.char_indices().find(|(at, c)| {
        let inside = answer[at + c.len_utf8()..].trim_start().chars().next();
        match c {
            '[' => matches!(inside, Some('{' | '[' | ']')),
            '{' => matches!(inside, Some('"' | '}')),
            _ => false,
        }
    })?;
    let value = serde_json::Deserializer::from_str(&answer[start.0..]).into_iter::<Value>().next()?.ok()?;
    let mut found = Found::default();
    found.value(None, &value);
    (found.others == 0 || !found.entities.is_empty()).then_some(found.entities)
}

#[derive(Default)]
struct Found {
    entities: Entities,
    /// Things that are no entity.
    others: usize,
}

impl Found {
    /// A list, an object or a text, with the key that it stands under.
    fn value(&mut self, key: Option<&str>, value: &Value) {
        let field = |names: &[&str]| names.iter().find_map(|name| value.get(name)?.as_str());
        match (value, key) {
            (Value::Array(items), _) => items.iter().for_each(|item| self.value(key, item)),
            (Value::String(text), Some(key)) => self.entity(key, text),
            (Value::Object(fields), _) => match (field(&TYPE).or(key), field(&TEXT)) {
                (Some(class), Some(text)) => self.entity(class, text),
                (_, None) if key.is_none() => fields.iter().for_each(|(key, value)| self.value(Some(key), value)),
                _ => self.others += 1,
            },
            (Value::Null, Some(_)) => {}
            _ => self.others += 1,
        }
    }

    fn entity(&mut self, class: &str, text: &str) {
        let plain = |text: &str| words(text).collect::<Vec<_>>().join(" ");
        let entity = (plain(class), plain(text));
        if entity.0.is_empty() || entity.1.is_empty() {
            self.others += 1;
        } else {
            self.entities.insert(entity);
        }
    }
}

/// Counts of a row, or the sum of many.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct EntityCounts {
    /// Entities that were expected and answered.
    pub right: u64,
    pub expected: u64,
    pub predicted: u64,
    pub rows: u64,
    /// Rows whose answer could not be read: no entity was answered.
    pub unparsable: u64,
}

impl EntityCounts {
    /// One row, with what [`parse`] made of the answer.
    pub fn of(expected: &Entities, predicted: Option<&Entities>) -> Self {
        Self {
            right: predicted.map_or(0, |predicted| expected.intersection(predicted).count() as u64),
            expected: expected.len() as u64,
            predicted: predicted.map_or(0, |predicted| predicted.len() as u64),
            rows: 1,
            unparsable: u64::from(predicted.is_none()),
        }
    }

    /// Adds a row that counts `times` times (its weight in a resample).
    pub fn add(&mut self, row: &Self, times: u32) {
        let times = u64::from(times);
        self.right += row.right * times;
        self.expected += row.expected * times;
        self.predicted += row.predicted * times;
        self.rows += row.rows * times;
        self.unparsable += row.unparsable * times;
    }

    /// The rows of a resample, each counted as often as its weight says.
    pub fn resampled(rows: &[Self], weights: &[u32]) -> Self {
        let mut sum = Self::default();
        rows.iter().zip(weights).for_each(|(row, times)| sum.add(row, *times));
        sum
    }

    /// 0 where nothing was answered.
    pub fn precision(&self) -> f64 {
        share(self.right, self.predicted)
    }

    /// 0 where nothing was expected.
    pub fn recall(&self) -> f64 {
        share(self.right, self.expected)
    }

    /// 0 where nothing is right, as scikit-learn's `f1_score(average="micro")`.
    pub fn f1(&self) -> f64 {
        f1(self.right, self.expected, self.predicted)
    }
}

impl std::iter::Sum for EntityCounts {
    fn sum<I: Iterator<Item = Self>>(rows: I) -> Self {
        rows.fold(Self::default(), |mut sum, row| {
            sum.add(&row, 1);
            sum
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(entities: &[(&str, &str)]) -> Option<Entities> {
        Some(entities.iter().map(|(class, text)| ((*class).into(), (*text).into())).collect())
    }

    #[test]
    fn both_shapes_are_read_among_other_words() {
        let want = set(&[("PER", "Ada Lovelace"), ("LOC", "London")]);
        for answer in [
            r#"[{"type":"PER","text":"Ada Lovelace"},{"type":"LOC","text":"London"}]"#,
            r#"{"PER": ["Ada Lovelace"], "LOC": "London", "ORG": [], "MISC": null}"#,
            "Entities [see note]:\n```json\n[{\"label\":\"PER\",\"text\":\" Ada\\n Lovelace\"},{\"label\":\"LOC\",\"text\":\"London\"}]\n``` [1]",
            r#"{"entities":[{"entity_group":"PER","word":"Ada Lovelace"},{"entity_group":"LOC","word":"London","score":0.9}]}"#,
            r#"{"PER":[{"text":"Ada Lovelace"}],"LOC":["London","London"]} and so on"#,
        ] {
            assert_eq!(parse(answer), want, "{answer}");
        }
        assert_eq!(parse(r#"{"type":"PER","text":"Ada"}"#), set(&[("PER", "Ada")]));
        assert_eq!(parse(r#"[{"type":"PER","text":"Ada"}, 3, {"x": 1}]"#), set(&[("PER", "Ada")]));
    }

    #[test]
    fn no_entity_is_an_answer_too() {
        for answer in ["[]", "{}", "None: []", r#"{"PER":[],"LOC":[]}"#, "[ ]"] {
            assert_eq!(parse(answer), set(&[]), "{answer}");
        }
    }

    #[test]
    fn broken_answers_are_none() {
        let deep = "[".repeat(100_000);
        for answer in [
            "",
            "Ada is a person",
            "[{\"type\":\"PER\",\"text\":\"Ada\"},{\"type\":\"LO",
            "{\"PER\": [\"Ada\"",
            "[{'type': 'PER'}]",
            "[1, 2]",
            "{\"a\": 1}",
            "[[1]]",
            "[{\"type\":\"\",\"text\":\"Ada\"}]",
            "字[",
            &deep,
        ] {
            assert_eq!(parse(answer), None, "{:.40}", answer);
        }
    }

    #[test]
    fn counts_by_hand() {
        let expected = set(&[("PER", "Ada"), ("LOC", "London")]).unwrap_or_default();
        let predicted = set(&[("PER", "Ada"), ("ORG", "London"), ("PER", "Babbage")]);
        let rows = [EntityCounts::of(&expected, predicted.as_ref()), EntityCounts::of(&expected, None)];
        let sum: EntityCounts = rows.into_iter().sum();
        assert_eq!(sum, EntityCounts { right: 1, expected: 4, predicted: 3, rows: 2, unparsable: 1 });
        assert!((sum.precision() - 1.0 / 3.0).abs() < 1e-12 && (sum.recall() - 0.25).abs() < 1e-12);
        assert!((sum.f1() - 2.0 / 7.0).abs() < 1e-12);
        assert_eq!(EntityCounts::resampled(&rows, &[0, 2]).f1(), 0.0);
        assert_eq!(EntityCounts::default().f1(), 0.0);
    }
}
