//! What trials are compared by.

use serde::Serialize;

use crate::{
    config::{Config, rule::words},
    eval::Metric,
};

words! {
    Direction {
        Maximize = "maximize",
        Minimize = "minimize",
    }
}

impl Direction {
    pub fn of(metric: Metric) -> Self {
        if metric.greater_is_better() { Self::Maximize } else { Self::Minimize }
    }

    /// How much better `value` is than `other`; below zero where it is worse.
    pub fn lead(self, value: f64, other: f64) -> f64 {
        match self {
            Self::Maximize => value - other,
            Self::Minimize => other - value,
        }
    }
}

/// The usual one of a task: what tells most and is measured on every held-out row.
pub fn usual(config: &Config) -> Metric {
    let metrics = config.task.scenario().metrics(config);
    if config.task.classifies() { metrics.first().copied().unwrap_or(Metric::Loss) } else { Metric::Loss }
}
