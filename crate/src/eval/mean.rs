//! Means: of losses, of what is lost a token.

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

#[cfg(test)]
mod tests {
    use super::*;

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
