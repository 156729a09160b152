//! `sweep.yaml`: read, checked against the base before anything is loaded.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use ts_rs::TS;

use super::{metric::Direction, space::Values};
use crate::{
    config::{
        RawConfig, keys,
        nearest::did_you_mean,
        rule::{Field, Key, one_of, section, whole, words},
        tree::{At, Node},
        yaml::Reading,
    },
    error::{Error, Result},
    eval::Metric,
};

words! {
    Strategy {
        /// Every combination of the lists.
        Grid = "grid",
        /// As many draws as `trials` says.
        Random = "random",
        /// Successive halving (arXiv:1502.07943): many short runs, of which the best are run longer.
        Halving = "halving",
    }
}

/// More trials than anyone waits for; the plan holds all of them.
pub(super) const MOST_TRIALS: usize = 1000;

section! {
    /// How the space is searched.
    "": SearchSection => Search {
        /// `grid` tries every combination, `random` draws `trials`, `halving` draws `trials` and runs the best longer.
        strategy: Strategy = Strategy::or(Strategy::Random);
        /// Settings drawn beside the default's.
        trials: usize = whole(1, MOST_TRIALS as u64).or(8.0);
        /// Decides what is drawn.
        #[ts(as = "Option<f64>")]
        seed: u64 = whole(0, u64::MAX).or(42.0);
        /// What trials are compared by; macro_f1, mse for regression or loss for text generation when absent.
        metric: Option<Metric> = one_of(Metric::WORDS);
        /// Whether more or less of it is better; known when absent.
        direction: Option<Direction> = one_of(Direction::WORDS);
        /// Steps of each trial, of the last rung for `halving`; as the base has it when absent.
        #[ts(as = "Option<f64>")]
        max_steps: Option<u64> = whole(1, 1_000_000_000);
        /// Steps of the first rung of `halving`.
        #[ts(as = "Option<f64>")]
        min_steps: Option<u64> = whole(1, 1_000_000_000);
        /// Of a rung of `halving` one in so many goes on, with so many times the steps.
        eta: usize = whole(2, 64).or(3.0);
    }
}

/// Where the settings come from that the space goes over.
#[derive(Debug, Clone, PartialEq)]
pub enum Base {
    /// A file's name, as written.
    Path(String),
    Inline(Box<RawConfig>),
}

/// As a person writes it.
#[derive(Debug, Clone, PartialEq)]
pub struct SweepFile {
    /// Absent where the shell has it.
    pub base: Option<Base>,
    search: SearchSection,
    space: BTreeMap<String, Values>,
}

impl SweepFile {
    /// Reads YAML; `file` is the name that errors give.
    ///
    /// # Errors
    /// All there are, each with its line.
    pub fn from_yaml(text: &str, file: &str) -> std::result::Result<Self, Vec<Error>> {
        let node = Node::parse(text.trim_start_matches('\u{feff}'), file).map_err(|error| vec![error])?;
        let mut reading = Reading::new(file);
        let mut document = Map::new();
        let mut base = None;
        let mut space = BTreeMap::new();
        let here: Vec<&str> = SearchSection::KEYS.iter().map(Key::short).chain(["base", "space"]).collect();
        for (name, node) in reading.entries(&node, "a sweep") {
            match name.value.as_str() {
                "base" => match &node.value {
                    Node::Text(path) => base = Some(Base::Path(path.clone())),
                    _ => match RawConfig::from_node(node, file) {
                        Ok(config) => base = Some(Base::Inline(Box::new(config))),
                        Err(errors) => reading.errors.extend(errors),
                    },
                },
                "space" => {
                    for (name, node) in reading.entries(node, "space") {
                        read_space(&mut reading, name, node, &mut space);
                    }
                }
                _ => reading.key(SearchSection::KEYS, name, node, &here, &mut document),
            }
        }
        if reading.errors.is_empty() && space.is_empty() {
            let advice = "Add what to try, for example `space: {training.learning_rate: [0.0005, 0.001, 0.002]}`.";
            reading.refuse(node.line, "space: expected at least one key".to_owned(), advice.to_owned());
        }
        let search = serde_json::from_value(Value::Object(document)).unwrap_or_default();
        if reading.errors.is_empty() { Ok(Self { base, search, space }) } else { Err(reading.errors) }
    }

    pub fn over(self, base: RawConfig) -> Sweep {
        Sweep { base, search: self.search, space: self.space }
    }
}

fn read_space(reading: &mut Reading<'_>, name: &At<String>, node: &At<Node>, space: &mut BTreeMap<String, Values>) {
    let Some(key) = keys::find(&name.value) else {
        let message = format!("space: unknown key `{}`", name.value.escape_debug());
        return reading.refuse(name.line, message, did_you_mean(&name.value, &[]));
    };
    match free(key).and_then(|()| Values::read(key, node)) {
        Ok(values) => drop(space.insert(key.name.to_owned(), values)),
        Err(error) => reading.wrong(node.line, error),
    }
}

/// Refuses keys that change what is measured, or how long: trials with others could not be compared.
pub(super) fn free(key: &Key) -> Result<()> {
    let fixed = ["task", "model.type", "model.name_or_path", "model.num_labels", "training.max_steps"];
    if key.name.starts_with("data.") || fixed.contains(&key.name) {
        return Err(Error::config(format!("space.{}", key.name), "keys that may differ between trials", "this one"));
    }
    Ok(())
}

/// A sweep, whole: what a record is compared with, and what the page sends.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, TS)]
#[serde(deny_unknown_fields, default)]
pub struct Sweep {
    pub base: RawConfig,
    pub search: SearchSection,
    /// By the keys' full names.
    pub space: BTreeMap<String, Values>,
}
