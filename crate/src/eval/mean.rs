//! Means: of losses, of squared errors, of what is lost a token.

use crate::event::Metrics;

/// A weighted mean, added up in 64 bits.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Mean {
    sum: f64,
    weight: u64,
}

impl Mean {
    /// `weight` values whose mean is `value` (a batch's mean loss with its number of rows or tokens).
    pub fn add(&mut self, value: f64, weight: u64) {
        self.sum += value * weight as f64;
        self.weight += weight;
    }

    /// 0 where nothing was added.
    pub fn value(self) -> f64 {
        if self.weight == 0 { 0.0 } else { self.sum / self.weight as f64 }
    }

    pub fn weight(self) -> u64 {
        self.weight
    }

    /// Metrics of a language model whose mean loss a predicted token this is.
    pub fn perplexity_metrics(self) -> Metrics {
        let loss = self.value();
        Metrics { loss, perplexity: Some(loss.exp()), ..Metrics::default() }
    }
}

/// Squared error, row by row; the loss is the same number, as in Hugging Face with `num_labels: 1`.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Regression {
    squares: Mean,
}

impl Regression {
    pub fn add(&mut self, actual: f64, predicted: f64) {
        self.squares.add((predicted - actual).powi(2), 1);
    }

    pub fn rows(&self) -> u64 {
        self.squares.weight()
    }

    pub fn metrics(&self) -> Metrics {
        let mse = self.squares.value();
        Metrics { loss: mse, mse: Some(mse), ..Metrics::default() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn squared_errors_by_hand() {
        let mut regression = Regression::default();
        for (actual, predicted) in [(1.0, 2.0), (0.0, 3.0)] {
            regression.add(actual, predicted);
        }
        assert_eq!((regression.metrics().mse, regression.metrics().loss), (Some(5.0), 5.0));
        assert_eq!(regression.rows(), 2);
    }

    #[test]
    fn batches_weigh_by_their_tokens() {
        let mut mean = Mean::default();
        mean.add(1.0, 3);
        mean.add(2.0, 1);
        assert_eq!(mean.value(), 1.25);
        let metrics = mean.perplexity_metrics();
        assert!((metrics.perplexity.unwrap_or_default() - 1.25_f64.exp()).abs() < 1e-12);
        assert_eq!(metrics.accuracy, None);
        assert_eq!(Mean::default().value(), 0.0);
    }
}
