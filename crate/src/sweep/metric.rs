//! What trials are compared by.

use serde::Serialize;

use crate::{
    config::{Config, Task, rule::words},
    error::{Error, Result},
    event::Metrics,
};

words! {
    Metric {
        Accuracy = "accuracy",
        MacroF1 = "macro_f1",
        Loss = "loss",
        Perplexity = "perplexity",
        Mse = "mse",
    }
}

words! {
    Direction {
        Maximize = "maximize",
        Minimize = "minimize",
    }
}

impl Metric {
    /// The usual one of a task.
    pub fn of_task(config: &Config) -> Self {
        match (config.task, config.model.num_labels) {
            (Task::TextGeneration, _) => Self::Loss,
            (Task::TextClassification, Some(1)) => Self::Mse,
            (Task::TextClassification, _) => Self::MacroF1,
        }
    }

    /// # Errors
    /// Where the task has no such metric.
    pub fn check(self, config: &Config) -> Result<()> {
        let metrics: &[Self] = match (config.task, config.model.num_labels) {
            (Task::TextGeneration, _) => &[Self::Loss, Self::Perplexity, Self::Accuracy],
            (Task::TextClassification, Some(1)) => &[Self::Loss, Self::Mse],
            (Task::TextClassification, _) => &[Self::Loss, Self::Accuracy, Self::MacroF1],
        };
        if metrics.contains(&self) {
            return Ok(());
        }
        let words: Vec<_> = metrics.iter().map(|metric| metric.as_str()).collect();
        let got = format!("`{}`, which this task has not", self.as_str());
        Err(Error::config("metric", words.join(" or "), got))
    }

    pub fn direction(self) -> Direction {
        match self {
            Self::Accuracy | Self::MacroF1 => Direction::Maximize,
            Self::Loss | Self::Perplexity | Self::Mse => Direction::Minimize,
        }
    }

    /// None where the task has no such metric.
    pub fn of(self, metrics: &Metrics) -> Option<f64> {
        match self {
            Self::Accuracy => metrics.accuracy,
            Self::MacroF1 => metrics.macro_f1,
            Self::Loss => Some(metrics.loss),
            Self::Perplexity => metrics.perplexity,
            Self::Mse => metrics.mse,
        }
    }
}

impl Direction {
    /// How much better `value` is than `other`; below zero where it is worse.
    pub fn lead(self, value: f64, other: f64) -> f64 {
        match self {
            Self::Maximize => value - other,
            Self::Minimize => other - value,
        }
    }
}
