//! What a model can be made to do. A scenario says which rows it understands, how a row becomes a prompt and its answer, and
//! what an answer is worth; it works on host data only. A new one is a file beside this one and a line in the table below
//! (see "Adding a scenario" in ARCHITECTURE.md).

mod classification;
mod entities;
mod generation;
mod question_answering;
mod summarization;

use serde::{Deserialize, Serialize};
use ts_rs::TS;

use crate::{
    config::{Config, DataConfig, RawConfig, rule::words},
    data::{Exchange, Fields, Mapping, Shape, Table},
    error::{Error, Result},
    eval::Metric,
    event::Fit,
};

/// One scenario.
pub trait Scenario: Sync {
    /// For a person who chooses.
    fn name(&self) -> &'static str;

    /// What it makes of a model, in a sentence.
    fn about(&self) -> &'static str;

    /// The shapes of rows that it can learn from, the likeliest first.
    fn shapes(&self) -> &'static [Shape];

    /// What it learns from rows of a shape.
    fn learns(&self, shape: Shape) -> Learns;

    /// What a row asks of the model, without an answer. For [`Learns::Answers`], as the next one.
    ///
    /// # Errors
    /// Why it cannot be asked.
    fn ask(&self, shape: Shape, row: &Fields<'_>) -> std::result::Result<Exchange, String> {
        let _ = (shape, row);
        Err("this task has no prompts".to_owned())
    }

    /// What counts as right for a row; the first one is learnt.
    ///
    /// # Errors
    /// Why the row cannot be used.
    fn answers(&self, shape: Shape, row: &Fields<'_>) -> std::result::Result<Vec<String>, String> {
        let _ = (shape, row);
        Ok(Vec::new())
    }

    /// A row as it is learnt.
    ///
    /// # Errors
    /// Why it cannot be used.
    fn exchange(&self, shape: Shape, row: &Fields<'_>) -> std::result::Result<Exchange, String> {
        Ok(Exchange { answers: self.answers(shape, row)?, ..self.ask(shape, row)? })
    }

    /// What stands between prompt and answer where the model has no chat template.
    fn lead(&self) -> &'static str {
        ""
    }

    /// What it is measured by, the one that tells most first.
    fn metrics(&self, config: &Config) -> &'static [Metric];

    /// What a generated answer comes to, as numbers that can be added over rows.
    fn judge(&self, answer: &str, expected: &[String]) -> Vec<f64> {
        let _ = (answer, expected);
        Vec::new()
    }

    /// The metrics that such sums over `rows` rows make.
    fn judged(&self, sums: &[f64], rows: f64) -> Vec<(Metric, f64)> {
        let _ = (sums, rows);
        Vec::new()
    }

    /// Tokens of an answer at most, where none are configured.
    fn max_new_tokens(&self) -> usize {
        64
    }
}

/// What a model learns from a row: its head, its loss, and what it is measured by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Learns {
    /// The class of a text, or a number (`num_labels: 1`), by a head of its own.
    Label,
    /// The text itself, every next token; texts are packed into blocks.
    Text,
    /// What is answered, not what is asked.
    Answers,
}

/// The registry: the word of `task:` and what answers to it.
macro_rules! scenarios {
    ($($(#[$doc:meta])* $variant:ident = $word:literal => $scenario:path),+ $(,)?) => {
        words! {
            Task { $($(#[$doc])* $variant = $word),+ }
        }

        impl Task {
            pub fn scenario(self) -> &'static dyn Scenario {
                match self { $(Self::$variant => &$scenario),+ }
            }
        }
    };
}

scenarios! {
    /// Sentiment, topics, spam; with `num_labels: 1` a number.
    TextClassification = "text-classification" => classification::TextClassification,
    TextGeneration = "text-generation" => generation::TextGeneration,
    QuestionAnswering = "question-answering" => question_answering::QuestionAnswering,
    Summarization = "summarization" => summarization::Summarization,
    /// Named entities as JSON: an example of a scenario beyond the four.
    EntityTagging = "entity-tagging" => entities::EntityTagging,
}

impl Task {
    /// By its word.
    pub fn find(word: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|task| task.as_str() == word)
    }

    /// With a classification head; otherwise a language model.
    pub fn classifies(self) -> bool {
        self.scenario().shapes().iter().all(|shape| self.scenario().learns(*shape) == Learns::Label)
    }

    /// A row as it is learnt.
    ///
    /// # Errors
    /// Why it cannot be used.
    pub fn exchange(self, shape: Shape, row: &Fields<'_>) -> std::result::Result<Exchange, String> {
        self.scenario().exchange(shape, row)
    }

    /// The shape and the columns that it takes of a table.
    ///
    /// # Errors
    /// As [`Mapping::resolve`].
    pub fn mapping(self, table: &Table, data: &DataConfig) -> Result<Mapping> {
        Mapping::resolve(table, data, self.scenario().shapes())
    }

    /// What it is measured by, the loss last.
    pub fn metrics(self, config: &Config) -> Vec<MetricInfo> {
        let metrics = self.scenario().metrics(config).iter().copied().chain([Metric::Loss]);
        let info = |(place, metric): (usize, Metric)| MetricInfo {
            id: metric.as_str().into(),
            greater_is_better: metric.greater_is_better(),
            share: metric.is_share(),
            default: place == 0,
        };
        metrics.enumerate().map(info).collect()
    }

    /// # Errors
    /// Where it has no such metric; the key is named.
    pub fn check_metric(self, key: &str, metric: Metric, config: &Config) -> Result<()> {
        let metrics = self.scenario().metrics(config);
        if metric == Metric::Loss || metrics.contains(&metric) {
            return Ok(());
        }
        let words: Vec<_> = metrics.iter().map(|metric| metric.as_str()).chain(["loss"]).collect();
        let got = format!("`{}`, which this task does not have", metric.as_str());
        Err(Error::config(key, words.join(" or "), got))
    }
}

/// Rows that are looked at to see whether a task can read them.
const LOOKED_AT: usize = 20;

/// Whether the cells are what the task reads, where only they can tell.
fn reads(task: Task, table: &Table, mapping: &Mapping) -> bool {
    task.scenario().learns(mapping.shape) != Learns::Answers
        || (0..table.len().min(LOOKED_AT)).any(|row| task.exchange(mapping.shape, &mapping.fields(table, row)).is_ok())
}

/// What a shell shows of a scenario.
#[derive(Debug, Clone, Serialize, Deserialize, TS)]
pub struct ScenarioInfo {
    /// The word of `task:`.
    pub id: String,
    pub name: String,
    pub about: String,
    pub shapes: Vec<ShapeInfo>,
    /// A model of it answers by writing.
    pub generates: bool,
    /// What it is measured by, the one that tells most first.
    pub metrics: Vec<MetricInfo>,
    /// The same with `model.num_labels: 1`, where that makes others of them.
    pub number_metrics: Vec<MetricInfo>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, TS)]
pub struct MetricInfo {
    /// The word of `evaluation.success_metric` and its kin.
    pub id: String,
    pub greater_is_better: bool,
    /// From 0 to 1, as a person reads a percentage.
    pub share: bool,
    /// The one to judge a run by where none is asked for.
    pub default: bool,
}

#[derive(Debug, Clone, Serialize, Deserialize, TS)]
pub struct ShapeInfo {
    pub id: String,
    pub roles: Vec<RoleInfo>,
}

#[derive(Debug, Clone, Serialize, Deserialize, TS)]
pub struct RoleInfo {
    /// `data.ROLE_column` is its key.
    pub id: String,
    pub required: bool,
}

/// All of them.
pub fn all() -> Vec<ScenarioInfo> {
    let Ok(config) = Config::resolve(&RawConfig::default()) else { return Vec::new() };
    let mut number = config.clone();
    number.model.num_labels = Some(1);
    Task::ALL
        .iter()
        .map(|task| {
            let scenario = task.scenario();
            let roles = |shape: &Shape| {
                let roles = shape.roles().iter();
                roles.map(|(role, required)| RoleInfo { id: role.as_str().into(), required: *required }).collect()
            };
            let shapes = scenario.shapes().iter();
            let (metrics, of_number) = (task.metrics(&config), task.metrics(&number));
            ScenarioInfo {
                id: task.as_str().into(),
                name: scenario.name().into(),
                about: scenario.about().into(),
                shapes: shapes.map(|shape| ShapeInfo { id: shape.as_str().into(), roles: roles(shape) }).collect(),
                generates: !task.classifies(),
                number_metrics: if of_number == metrics { Vec::new() } else { of_number },
                metrics,
            }
        })
        .collect()
}

/// The tasks that a table's rows fit, without configuration: those whose shape says most about a row first.
pub fn fits(table: &Table) -> Vec<Fit> {
    let data = match Config::resolve(&RawConfig::default()) {
        Ok(config) => config.data,
        Err(_) => return Vec::new(),
    };
    let mut fits: Vec<(usize, Fit)> = Vec::new();
    for task in Task::ALL {
        if let Ok(mapping) = task.mapping(table, &data)
            && reads(*task, table, &mapping)
        {
            let place = Shape::ALL.iter().position(|shape| *shape == mapping.shape).unwrap_or_default();
            let (task, shape) = (task.as_str().to_owned(), mapping.shape.as_str().to_owned());
            fits.push((place, Fit { task, shape, columns: mapping.by_role() }));
        }
    }
    fits.sort_by_key(|(place, _)| *place);
    fits.into_iter().map(|(_, fit)| fit).collect()
}

#[cfg(test)]
mod tests;
