//! What each held-out row came to: enough to compute every metric on any choice of rows, and so how sure it is and how much
//! it moved in training.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use ts_rs::TS;

use super::{
    Classification, Interval, Metric, Metrics, Regression,
    bootstrap::{RESAMPLES, Resampler},
};
use crate::scenario::{Scenario, Task};

/// Rows in the order in which they were measured, which is the same before and after training.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Outcomes {
    Classes(Classification),
    Values(Regression),
    Tokens {
        rows: Vec<TokenRow>,
        /// What [`Scenario::judge`] says of the answers to the first rows.
        judged: Vec<Vec<f64>>,
    },
}

/// A row of learnt tokens.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct TokenRow {
    /// Sum over its tokens.
    pub loss: f32,
    pub counted: u32,
    /// Right next tokens.
    pub right: u32,
    /// Of the text that the tokens write.
    pub bytes: u32,
}

/// By how much a metric moved in training, on the same rows.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, TS)]
pub struct Change {
    pub value: f64,
    /// 95 % interval of the change, by a paired bootstrap, where there are rows enough.
    pub interval: Option<(f64, f64)>,
}

impl Outcomes {
    pub fn metrics(&self, task: Task) -> Metrics {
        self.counted(task.scenario(), None, None)
    }

    fn rows(&self) -> usize {
        match self {
            Self::Classes(classes) => classes.rows() as usize,
            Self::Values(values) => values.rows() as usize,
            Self::Tokens { rows, .. } => rows.len(),
        }
    }

    fn judged(&self) -> usize {
        match self {
            Self::Tokens { judged, .. } => judged.len(),
            _ => 0,
        }
    }

    /// Of the rows as often as they are weighted; each once where no weights are given.
    fn counted(&self, scenario: &dyn Scenario, weights: Option<&[u32]>, judged_weights: Option<&[u32]>) -> Metrics {
        match self {
            Self::Classes(classes) => classes.metrics(weights),
            Self::Values(values) => values.metrics(weights),
            Self::Tokens { rows, judged } => {
                let mut metrics = token_metrics(rows, weights);
                if let Some(first) = judged.first() {
                    let (mut sums, mut count) = (vec![0.0; first.len()], 0.0);
                    for (i, numbers) in judged.iter().enumerate() {
                        let times = judged_weights.map_or(1.0, |weights| f64::from(weights[i]));
                        sums.iter_mut().zip(numbers).for_each(|(sum, number)| *sum += times * number);
                        count += times;
                    }
                    for (metric, value) in scenario.judged(&sums, count) {
                        metrics.set(metric, value);
                    }
                }
                metrics
            }
        }
    }
}

fn token_metrics(rows: &[TokenRow], weights: Option<&[u32]>) -> Metrics {
    let (mut loss, mut counted, mut right, mut bytes) = (0.0, 0.0, 0.0, 0.0);
    for (i, row) in rows.iter().enumerate() {
        let times = weights.map_or(1.0, |weights| f64::from(weights[i]));
        loss += times * f64::from(row.loss);
        counted += times * f64::from(row.counted);
        right += times * f64::from(row.right);
        bytes += times * f64::from(row.bytes);
    }
    let counted = f64::max(counted, 1.0);
    Metrics {
        loss: loss / counted,
        accuracy: Some(right / counted),
        perplexity: Some((loss / counted).exp()),
        bits_per_byte: (bytes > 0.0).then(|| loss / std::f64::consts::LN_2 / bytes),
        ..Metrics::default()
    }
}

/// 95 % intervals of all metrics.
pub fn intervals(outcomes: &Outcomes, task: Task, seed: u64) -> BTreeMap<String, (f64, f64)> {
    let scenario = task.scenario();
    let drawn = draw(outcomes, seed, |rows, judged| outcomes.counted(scenario, rows, judged));
    drawn.into_iter().map(|(metric, interval)| (metric.as_str().to_owned(), (interval.low, interval.high))).collect()
}

/// How every metric moved; empty where the two were not measured on the same rows.
pub fn changes(before: &Outcomes, after: &Outcomes, task: Task, seed: u64) -> BTreeMap<String, Change> {
    if before.rows() != after.rows() || before.judged() != after.judged() {
        return BTreeMap::new();
    }
    let scenario = task.scenario();
    let difference = |rows: Option<&[u32]>, judged: Option<&[u32]>| {
        let (before, after) = (before.counted(scenario, rows, judged), after.counted(scenario, rows, judged));
        let mut moved = Metrics::default();
        for metric in Metric::ALL {
            if let (Some(before), Some(after)) = (metric.of(&before), metric.of(&after)) {
                moved.set(*metric, after - before);
            }
        }
        moved
    };
    let drawn: BTreeMap<Metric, Interval> = draw(after, seed, difference).into_iter().collect();
    let moved = difference(None, None);
    let change = |metric: &Metric| {
        let interval = drawn.get(metric).map(|interval| (interval.low, interval.high));
        let value = metric.of(&moved).filter(|_| *metric != Metric::Majority)?;
        Some((metric.as_str().to_owned(), Change { value, interval }))
    };
    Metric::ALL.iter().filter_map(change).collect()
}

/// The intervals of what `statistic` gives of resampled rows and, drawn by themselves, answers.
fn draw(
    outcomes: &Outcomes,
    seed: u64,
    statistic: impl Fn(Option<&[u32]>, Option<&[u32]>) -> Metrics,
) -> Vec<(Metric, Interval)> {
    let mut rows = Resampler::new(outcomes.rows(), seed);
    let mut judged = Resampler::new(outcomes.judged(), seed);
    // Answers whose number is too small say nothing of how they would differ.
    let skipped = |metric: Metric| metric == Metric::Majority || rows.is_none() && outcomes.judged() == 0;
    let metrics: Vec<Metric> = Metric::ALL.iter().copied().filter(|metric| !skipped(*metric)).collect();
    if rows.is_none() && judged.is_none() {
        return Vec::new();
    }
    let mut values: BTreeMap<Metric, Vec<f64>> = BTreeMap::new();
    for _ in 0..RESAMPLES {
        let drawn = statistic(rows.as_mut().map(Resampler::draw), judged.as_mut().map(Resampler::draw));
        for metric in &metrics {
            if let Some(value) = metric.of(&drawn) {
                values.entry(*metric).or_default().push(value);
            }
        }
    }
    values.into_iter().filter_map(|(metric, values)| Some((metric, Interval::of(values)?))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tokens(losses: &[f32], judged: &[f64]) -> Outcomes {
        Outcomes::Tokens {
            rows: losses.iter().map(|loss| TokenRow { loss: *loss, counted: 2, right: 1, bytes: 4 }).collect(),
            judged: judged.iter().map(|f1| vec![0.0, *f1]).collect(),
        }
    }

    #[test]
    fn tokens_by_hand() {
        let metrics = tokens(&[1.0, 3.0], &[0.5, 1.0]).metrics(Task::QuestionAnswering);
        assert_eq!(
            (metrics.loss, metrics.accuracy, metrics.f1, metrics.exact_match),
            (1.0, Some(0.5), Some(0.75), Some(0.0))
        );
        assert!((metrics.bits_per_byte.expect("bytes") - 4.0 / std::f64::consts::LN_2 / 8.0).abs() < 1e-12);
        assert_eq!(tokens(&[1.0], &[]).metrics(Task::QuestionAnswering).f1, None);
    }

    #[test]
    fn a_change_that_every_row_shows_is_certain_and_a_mixed_one_is_not() {
        let losses: Vec<f32> = (0..40).map(|i| 2.0 + (i % 7) as f32).collect();
        let before = tokens(&losses, &[0.2; 40]);
        let lower: Vec<f32> = losses.iter().map(|loss| loss - 1.0).collect();
        let f1: Vec<f64> = (0..40).map(|i| if i % 2 == 0 { 0.0 } else { 0.4 }).collect();
        let moved = changes(&before, &tokens(&lower, &f1), Task::QuestionAnswering, 1);
        let (low, high) = moved["loss"].interval.expect("an interval");
        assert!((moved["loss"].value + 0.5).abs() < 1e-6 && (low + 0.5).abs() < 1e-6 && (high + 0.5).abs() < 1e-6);
        let (low, high) = moved["f1"].interval.expect("an interval");
        assert!(moved["f1"].value.abs() < 1e-12 && low < 0.0 && high > 0.0);
        assert!(!moved.contains_key("mse") && !moved.contains_key("majority"));
        let (low, high) = intervals(&before, Task::QuestionAnswering, 1)["loss"];
        assert!(low < 2.5 && high > 2.5 && low > 1.5 && high < 3.5, "{low} {high}");
        // Other rows say nothing of each other.
        assert!(changes(&before, &tokens(&losses[..39], &[0.2; 40]), Task::QuestionAnswering, 1).is_empty());
        assert!(intervals(&tokens(&[1.0], &[]), Task::QuestionAnswering, 1).is_empty());
    }
}
