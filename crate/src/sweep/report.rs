//! What came of a sweep: a table, and a sentence that says no more than the numbers do.

use serde::{Deserialize, Serialize};
use ts_rs::TS;

use super::planner::{Planner, TrialResult};
use crate::eval::Metric;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, TS)]
pub struct Report {
    pub metric: String,
    /// The last rung's, the best first; then the rungs before.
    pub rows: Vec<Row>,
    /// The best trial's number; 0 is the default.
    pub best: Option<usize>,
    pub verdict: String,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, TS)]
pub struct Row {
    pub trial: usize,
    pub rung: usize,
    /// None where it failed.
    pub value: Option<f64>,
    pub loss: Option<f64>,
    #[ts(type = "number")]
    pub steps: u64,
    pub seconds: f64,
    /// `learning_rate 0.002, r 8`, `default`, or what went wrong.
    pub what: String,
}

impl Planner {
    /// What the results say.
    pub fn report(&self, results: &[TrialResult]) -> Report {
        let rungs = (0..=self.last_rung()).rev();
        let ranked = rungs.flat_map(|rung| self.ranked(rung, results));
        let rows = ranked.map(|result| Row {
            trial: result.trial.trial,
            rung: result.trial.rung,
            value: self.value(result),
            loss: result.metrics.as_ref().map(|metrics| metrics.loss),
            steps: result.steps,
            seconds: result.seconds,
            what: match &result.error {
                Some(error) => format!("{}: {error}", what(result)),
                None => what(result),
            },
        });
        let last = self.ranked(self.last_rung(), results);
        let best = last.first().copied().filter(|result| self.value(result).is_some());
        let default = last.iter().copied().find(|result| result.trial.trial == 0);
        Report {
            metric: self.metric.as_str().to_owned(),
            rows: rows.collect(),
            best: best.map(|best| best.trial.trial),
            verdict: self.verdict(best, default),
        }
    }

    fn verdict(&self, best: Option<&TrialResult>, default: Option<&TrialResult>) -> String {
        let metric = self.metric.as_str();
        let Some(best) = best else { return "No trial came to an end: there is no best.".to_owned() };
        let Some(value) = self.value(best) else { return String::new() };
        let Some(default) = default.and_then(|default| self.value(default).map(|value| (default, value))) else {
            return format!(
                "The default settings failed; the best of the others has {metric} {value:.4} ({}).",
                what(best)
            );
        };
        let (default, reference) = default;
        let lead = self.direction.lead(value, reference);
        if best.trial.trial == 0 || lead <= 0.0 {
            return format!("No setting beat the default, which has {metric} {reference:.4}: keep it.");
        }
        let found = format!("The best has {metric} {value:.4}, the default {reference:.4} ({}).", what(best));
        match self.chance(best, default) {
            Some(chance) if lead < chance => format!(
                "{found} A lead of {lead:.4} on {} held-out rows can be chance, which gives up to {chance:.4}: measure \
                 both on more rows before you believe it.",
                best.rows
            ),
            _ => format!(
                "{found} It was chosen by the {} held-out rows that it is measured on: expect a little less of new rows.",
                best.rows
            ),
        }
    }

    /// Two standard errors of the difference of two shares of right answers; taken for macro-F1 as well. None for other
    /// metrics, whose spread is not known.
    fn chance(&self, a: &TrialResult, b: &TrialResult) -> Option<f64> {
        if !matches!(self.metric, Metric::Accuracy | Metric::MacroF1) || a.rows == 0 {
            return None;
        }
        let variance = |result: &TrialResult| {
            let metrics = result.metrics.as_ref()?;
            // Without it the accuracy is one of tokens, which are not independent and not counted here.
            metrics.macro_f1?;
            let p = metrics.accuracy?;
            Some(p * (1.0 - p) / result.rows.max(1) as f64)
        };
        Some(2.0 * (variance(a)? + variance(b)?).sqrt())
    }
}

/// A trial's settings in a few words.
fn what(result: &TrialResult) -> String {
    if result.trial.settings.is_empty() {
        return "default".to_owned();
    }
    let short = |name: &str| name.rsplit_once('.').map_or(name, |(_, short)| short).to_owned();
    let settings = result.trial.settings.iter().map(|(name, value)| match value.as_str() {
        Some(word) => format!("{} {word}", short(name)),
        None => format!("{} {value}", short(name)),
    });
    settings.collect::<Vec<_>>().join(", ")
}

impl Report {
    /// For a terminal.
    pub fn table(&self) -> String {
        let number = |value: Option<f64>| value.map_or("-".to_owned(), |value| format!("{value:.4}"));
        let head = ["trial", &self.metric, "loss", "steps", "seconds", "settings"].map(str::to_owned);
        let mut lines = vec![head];
        let mut breaks = Vec::new();
        for (at, row) in self.rows.iter().enumerate() {
            if at > 0 && row.rung != self.rows[at - 1].rung {
                breaks.push(lines.len());
            }
            lines.push([
                row.trial.to_string(),
                number(row.value),
                number(row.loss),
                row.steps.to_string(),
                format!("{:.1}", row.seconds),
                row.what.clone(),
            ]);
        }
        let width = |column: usize| lines.iter().map(|line| line[column].chars().count()).max().unwrap_or(0);
        let widths: Vec<usize> = (0..5).map(width).collect();
        let mut text = String::new();
        for (at, line) in lines.iter().enumerate() {
            if breaks.contains(&at) {
                text.push('\n');
            }
            for (cell, width) in line.iter().zip(&widths) {
                text += &format!("{cell:>width$}  ");
            }
            text += &line[5];
            text.push('\n');
        }
        text
    }
}
