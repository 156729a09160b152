//! Whether a run got as much better as was asked, and what its data and its losses say of why it did not get further.

use std::collections::{BTreeMap, HashMap};

use super::LossWatch;
use crate::{
    config::{Config, Method},
    data::Target,
    event::{Cause, Change, Evaluation, Hint, HintCause, Recovery, Verdict},
    prepare::Rows,
};

/// Fewer training rows teach little.
const FEW_ROWS: usize = 100;
/// Fewer rows of a class teach little of it.
const RARE: usize = 10;
/// A larger share of texts with two labels is noise.
const NOISE: f64 = 0.01;
/// Held-out loss over training loss where a model has learnt its rows by heart.
const OVER_FITTING: f64 = 1.5;
/// The loss hardly moved where this share of it is left.
const HARDLY: f64 = 0.95;

/// What the training rows are like.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Facts {
    rows: usize,
    /// Rows of the class that has the fewest, with its name; none without classes.
    rarest: Option<(String, usize)>,
    /// Rows whose text stands in another row with another answer.
    contradicted: usize,
}

impl Facts {
    pub fn of(rows: &Rows) -> Self {
        let mut counts = vec![0; rows.labels.len()];
        let mut seen: HashMap<&str, (String, bool, usize)> = HashMap::new();
        for row in &rows.train {
            if let Target::Class(class) = row.target
                && let Some(count) = counts.get_mut(class)
            {
                *count += 1;
            }
            let answer = match (&row.target, &row.exchange) {
                (Target::Class(class), _) => class.to_string(),
                (_, Some(exchange)) => exchange.answers.first().cloned().unwrap_or_default(),
                _ => continue,
            };
            let (first, other, count) = seen.entry(row.text.trim()).or_insert_with(|| (answer.clone(), false, 0));
            *other |= *first != answer;
            *count += 1;
        }
        // A prompt may well have several answers; a text has one class.
        let classes = !rows.labels.is_empty();
        let contradicted = seen.values().filter(|(_, other, _)| *other && classes).map(|(.., count)| count).sum();
        let rarest = rows.labels.iter().cloned().zip(counts).min_by_key(|(_, count)| *count);
        Self { rows: rows.train.len(), rarest, contradicted }
    }
}

/// What there is to judge a run by.
pub struct Seen<'a> {
    pub config: &'a Config,
    pub facts: &'a Facts,
    pub watch: &'a LossWatch,
    pub recoveries: &'a [Recovery],
    /// Of the measurements on the way, where there were some.
    pub best_step: Option<u64>,
    pub steps: u64,
    pub total_steps: u64,
    pub after: &'a Evaluation,
}

/// None where nothing is asked for, or where the metric was not measured.
pub fn verdict(seen: &Seen<'_>) -> Option<Verdict> {
    let evaluation = &seen.config.evaluation;
    let metric = evaluation.success_metric?;
    let Change { value, interval } = *seen.after.changes.get(metric.as_str())?;
    let better = |(low, high): (f64, f64)| if metric.greater_is_better() { (low, high) } else { (-high, -low) };
    let gain = if metric.greater_is_better() { value } else { -value };
    let interval = interval.map(better);
    let certain = interval.is_none_or(|(low, _)| low > 0.0);
    let met = gain >= evaluation.min_gain && gain > 0.0 && certain;
    let name = metric.as_str();
    let range = interval.map(|(low, high)| format!(" (95 % interval {low:.4} to {high:.4})")).unwrap_or_default();
    let asked = evaluation.min_gain;
    let message = match (met, gain >= asked && gain > 0.0) {
        (true, _) => format!("{name} got better by {gain:.4}{range}; at least {asked} was asked for."),
        (false, true) => format!("{name} got better by {gain:.4}, but that can be chance{range}."),
        (false, false) if gain > 0.0 => format!("{name} got better by {gain:.4} only{range}; {asked} was asked for."),
        (false, false) => format!("{name} did not get better: {gain:+.4}{range}."),
    };
    Some(Verdict { met, metric: name.to_owned(), gain, interval, message })
}

/// What may have held the run back; all of it where a verdict is not met, else what stands out.
pub fn hints(seen: &Seen<'_>, verdict: Option<&Verdict>) -> Vec<Hint> {
    let mut hints = Vec::new();
    let missed = verdict.is_some_and(|verdict| !verdict.met);
    let mut hint = |cause, message: String, changes: &[(&str, String)]| {
        let changes = changes.iter().map(|(key, value)| ((*key).to_owned(), value.clone())).collect::<BTreeMap<_, _>>();
        hints.push(Hint { cause, message, changes });
    };
    let training = &seen.config.training;
    let (facts, held_out) = (seen.facts, seen.after.metrics.loss);
    let diverged = seen.recoveries.iter().any(|r| matches!(r.cause, Cause::Diverging | Cause::NotFinite));
    if diverged {
        let rate = number(training.learning_rate * 0.3);
        hint(
            HintCause::LearningRateTooHigh,
            format!("The loss ran away on the way: a learning rate of {rate} is calmer."),
            &[("training.learning_rate", rate)],
        );
    }
    if let Some((first, last)) = seen.watch.first_and_last() {
        let learnt_by_heart = held_out > OVER_FITTING * last && last < 0.7 * first;
        let best_is_past = seen.best_step.is_some_and(|best| best + seen.steps.div_ceil(5) < seen.steps);
        if learnt_by_heart || best_is_past {
            let (key, length) = longer(seen.config, 0.5);
            let mut changes = vec![(key, length.clone())];
            if training.method == Method::Lora && seen.config.lora.lora_dropout == 0.0 {
                changes.push(("lora.lora_dropout", "0.1".to_owned()));
            }
            hint(
                HintCause::OverFitting,
                format!(
                    "The training loss went down to {last:.3} while the held-out loss is {held_out:.3}: the model learns its \
                     rows by heart. A shorter run ({key} {length}), dropout, or more rows help."
                ),
                &changes,
            );
        } else if !diverged && last > HARDLY * first && seen.steps >= 10 {
            let rate = number((training.learning_rate * 3.0).min(10.0));
            hint(
                HintCause::LearningRateTooLow,
                format!(
                    "The training loss hardly moved ({first:.3} to {last:.3}): try a learning rate of {rate}, or the \
                     learning-rate test."
                ),
                &[("training.learning_rate", rate)],
            );
        } else if missed && !diverged && seen.steps == seen.total_steps && seen.watch.falling() {
            let (key, length) = longer(seen.config, 2.0);
            hint(
                HintCause::NotEnoughSteps,
                format!("The training loss was still falling at the end ({last:.3}): train longer ({key} {length})."),
                &[(key, length.clone())],
            );
        }
    }
    if facts.contradicted as f64 > NOISE * facts.rows as f64 {
        hint(
            HintCause::LabelNoise,
            format!(
                "{} of {} training rows have a text that stands in another row with another label: one of them is wrong.",
                facts.contradicted, facts.rows
            ),
            &[],
        );
    }
    if let Some((label, rows)) = facts.rarest.as_ref().filter(|(_, rows)| *rows < RARE) {
        hint(HintCause::RareClass, format!("Only {rows} training rows are of `{label}`: add rows of it."), &[]);
    }
    if missed && facts.rows < FEW_ROWS {
        hint(HintCause::FewRows, format!("{} training rows teach little: add rows.", facts.rows), &[]);
    }
    if let Some(verdict) = verdict.filter(|verdict| !verdict.met && verdict.gain > 0.0)
        && verdict.interval.is_some_and(|(low, _)| low <= 0.0)
    {
        let message =
            format!("{} held-out rows are too few to tell this gain from chance: hold out more.", seen.after.rows);
        hint(HintCause::FewHeldOutRows, message, &[]);
    }
    hints
}

/// The key that says how long a run is, and its value for `factor` times that.
fn longer(config: &Config, factor: f64) -> (&'static str, String) {
    let training = &config.training;
    match training.max_steps {
        Some(steps) => ("training.max_steps", ((steps as f64 * factor).ceil() as u64).max(1).to_string()),
        None => ("training.num_epochs", number((training.num_epochs * factor).max(0.5))),
    }
}

/// As a person would write it.
fn number(value: f64) -> String {
    format!("{value:.2e}").parse::<f64>().unwrap_or(value).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        config::RawConfig,
        data::{Example, Shape},
        eval::Metrics,
        event::When,
    };

    fn rows(classes: &[(&str, usize)], labels: &[&str]) -> Rows {
        let example = |(text, class): &(&str, usize)| Example {
            row: 1,
            text: (*text).to_owned(),
            target: Target::Class(*class),
            exchange: None,
            fields: BTreeMap::new(),
        };
        Rows {
            shape: Shape::TextLabel,
            columns: BTreeMap::new(),
            train: classes.iter().map(example).collect(),
            validation: Vec::new(),
            labels: labels.iter().map(|label| (*label).to_owned()).collect(),
            skipped: 0,
            warnings: Vec::new(),
        }
    }

    #[test]
    fn contradictions_and_rare_classes_are_counted() {
        let facts = Facts::of(&rows(&[("a", 0), ("a ", 1), ("b", 0), ("c", 0)], &["x", "y"]));
        assert_eq!(facts, Facts { rows: 4, rarest: Some(("y".into(), 1)), contradicted: 2 });
    }

    fn evaluation(loss: f64, change: f64, interval: (f64, f64)) -> Evaluation {
        Evaluation {
            when: When::After,
            step: 100,
            rows: 20,
            metrics: Metrics { loss, ..Metrics::default() },
            changes: [("accuracy".to_owned(), Change { value: change, interval: Some(interval) })].into(),
            ..Evaluation::default()
        }
    }

    fn judged(losses: &[f64], after: &Evaluation, facts: &Facts) -> (Option<Verdict>, Vec<HintCause>) {
        let mut raw = RawConfig::default();
        raw.evaluation.success_metric = Some("accuracy".into());
        raw.evaluation.min_gain = Some(0.02);
        let config = Config::resolve(&raw).expect("a configuration");
        let mut watch = LossWatch::default();
        losses.iter().for_each(|loss| {
            watch.add(*loss, &config.recovery);
        });
        let steps = losses.len() as u64;
        let seen = Seen {
            config: &config,
            facts,
            watch: &watch,
            recoveries: &[],
            best_step: None,
            steps,
            total_steps: steps,
            after,
        };
        let verdict = verdict(&seen);
        let causes = hints(&seen, verdict.as_ref()).iter().map(|hint| hint.cause).collect();
        (verdict, causes)
    }

    #[test]
    fn each_course_of_a_run_has_its_hint() {
        let many = Facts { rows: 500, rarest: None, contradicted: 0 };
        let falling: Vec<f64> = (0..60).map(|i| 1.0 - i as f64 / 100.0).collect();
        let flat = vec![0.7; 60];
        let to_zero: Vec<f64> = (0..60).map(|i| 0.9_f64.powi(i)).collect();
        let (met, hints) = judged(&falling, &evaluation(0.45, 0.1, (0.05, 0.15)), &many);
        assert!(met.expect("a verdict").met && hints.is_empty(), "{hints:?}");
        let missed = evaluation(0.45, 0.01, (-0.02, 0.04));
        let (verdict, hints) = judged(&falling, &missed, &many);
        assert!(!verdict.expect("a verdict").met);
        assert_eq!(hints, [HintCause::NotEnoughSteps, HintCause::FewHeldOutRows]);
        assert_eq!(judged(&flat, &missed, &many).1[0], HintCause::LearningRateTooLow);
        assert_eq!(judged(&to_zero, &missed, &many).1[0], HintCause::OverFitting);
        let few = Facts { rows: 20, rarest: Some(("x".into(), 3)), contradicted: 4 };
        let (_, hints) = judged(&falling, &evaluation(0.45, -0.1, (-0.2, 0.0)), &few);
        assert!(hints.ends_with(&[HintCause::LabelNoise, HintCause::RareClass, HintCause::FewRows]), "{hints:?}");
    }
}
