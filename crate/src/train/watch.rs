//! What is watched while a run trains: a loss that diverges, and measurements that get no better.

use serde::{Deserialize, Serialize};

use crate::config::RecoveryConfig;

/// Of the smoothed loss: about the last ten steps.
const DECAY: f64 = 0.9;

/// Follows the loss. It diverges where its smoothed value stays above `threshold` times its best one and above the first
/// steps' loss: a run that only got a little worse, or that began high, is left alone.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct LossWatch {
    sum: f64,
    weight: f64,
    first: Option<f64>,
    best: Option<f64>,
    /// Steps in a row whose smoothed loss is above the threshold.
    above: u64,
    /// Whether the last step's own loss is: it shows trouble sooner.
    high: bool,
}

impl LossWatch {
    /// Takes a step's loss; the smoothed and the best value where it diverges.
    pub fn add(&mut self, loss: f64, config: &RecoveryConfig) -> Option<(f64, f64)> {
        self.sum = DECAY * self.sum + (1.0 - DECAY) * loss;
        self.weight = DECAY * self.weight + 1.0 - DECAY;
        let smoothed = self.sum / self.weight;
        let first = *self.first.get_or_insert(loss);
        let best = self.best.map_or(smoothed, |best: f64| best.min(smoothed));
        self.best = Some(best);
        let threshold = config.divergence_threshold;
        let high = |loss: f64| threshold != 0.0 && loss > threshold * best.abs() && loss > first;
        self.high = high(loss);
        if !high(smoothed) {
            self.above = 0;
            return None;
        }
        self.above += 1;
        (self.above >= config.divergence_patience).then_some((smoothed, best))
    }

    /// The first step's loss and the smoothed one of the last; none before a step.
    pub fn first_and_last(&self) -> Option<(f64, f64)> {
        Some((self.first?, self.sum / self.weight))
    }

    /// Whether the smoothed loss is at its lowest, or next to it.
    pub fn falling(&self) -> bool {
        self.best.zip(self.first_and_last()).is_some_and(|(best, (_, last))| last <= best + 0.01 * best.abs())
    }

    /// Whether the loss is high without having diverged yet: no moment for a checkpoint to come back to.
    pub fn suspicious(&self) -> bool {
        self.above > 0 || self.high
    }
}

/// The best measurement so far, and how many have not been better since (transformers' `EarlyStoppingCallback`).
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Best {
    pub value: Option<f64>,
    pub step: u64,
    pub since: u64,
}

impl Best {
    /// Whether `value`, measured at `step`, is the best so far.
    pub fn add(&mut self, value: f64, step: u64, greater_is_better: bool, threshold: f64) -> bool {
        let gain = |best: f64| if greater_is_better { value - best } else { best - value };
        let better = self.value.is_none_or(|best| gain(best) > 0.0);
        // A gain below the threshold is kept, but does not reset the patience.
        let counts = self.value.is_none_or(|best| gain(best) > threshold);
        if better {
            (self.value, self.step) = (Some(value), step);
        }
        self.since = if counts { 0 } else { self.since + 1 };
        better
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Config, RawConfig};

    fn config(threshold: f64, patience: u64) -> RecoveryConfig {
        let mut config = Config::resolve(&RawConfig::default()).expect("defaults").recovery;
        (config.divergence_threshold, config.divergence_patience) = (threshold, patience);
        config
    }

    #[test]
    fn only_a_lasting_rise_above_the_start_diverges() {
        let config = config(2.0, 5);
        let mut watch = LossWatch::default();
        // Falls, with one spike, then rises back to where it began.
        for step in 0..60 {
            let loss = if step == 30 { 9.0 } else { 1.0 - f64::from(step) / 80.0 };
            assert_eq!(watch.add(loss, &config), None, "step {step}");
            assert_eq!(watch.suspicious(), (30..32).contains(&step), "step {step}");
        }
        for _ in 0..60 {
            assert_eq!(watch.add(0.99, &config), None);
        }
        let mut steps = 0;
        while watch.add(4.0, &config).is_none() {
            steps += 1;
            assert!(steps < 10, "{watch:?}");
        }
        assert!(steps >= 4 && watch.suspicious());
    }

    #[test]
    fn a_threshold_of_zero_watches_nothing() {
        let config = config(0.0, 1);
        let mut watch = LossWatch::default();
        assert!((0..50).all(|step| watch.add(10f64.powi(step), &config).is_none() && !watch.suspicious()));
    }

    #[test]
    fn patience_counts_measurements_that_are_no_better() {
        let mut best = Best::default();
        let since = |best: &mut Best, value, step| {
            let better = best.add(value, step, false, 0.1);
            (better, best.since)
        };
        assert_eq!(since(&mut best, 1.0, 10), (true, 0));
        assert_eq!(since(&mut best, 0.95, 20), (true, 1));
        assert_eq!(since(&mut best, 0.96, 30), (false, 2));
        assert_eq!(since(&mut best, 0.5, 40), (true, 0));
        assert_eq!((best.value, best.step), (Some(0.5), 40));
        let mut best = Best::default();
        assert!(best.add(0.5, 1, true, 0.0) && !best.add(0.5, 2, true, 0.0) && best.add(0.6, 3, true, 0.0));
    }
}
