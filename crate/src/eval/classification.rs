//! Accuracy, macro F1 and the confusion matrix.

use super::Mean;
use crate::event::Metrics;

/// Counts of answers, added up row by row.
#[derive(Debug, Clone, PartialEq)]
pub struct Classification {
    /// `confusion[actual][predicted]`.
    confusion: Vec<Vec<u64>>,
    loss: Mean,
}

impl Classification {
    pub fn new(labels: usize) -> Self {
        Self { confusion: vec![vec![0; labels]; labels], loss: Mean::default() }
    }

    /// One row: its class, the model's answer, its cross-entropy.
    ///
    /// # Panics
    /// Never: a class beyond the number of labels is left out, as the model has no such output.
    pub fn add(&mut self, actual: usize, predicted: usize, loss: f64) {
        if let Some(count) = self.confusion.get_mut(actual).and_then(|row| row.get_mut(predicted)) {
            *count += 1;
            self.loss.add(loss, 1);
        }
    }

    pub fn rows(&self) -> u64 {
        self.confusion.iter().flatten().sum()
    }

    pub fn confusion(&self) -> &[Vec<u64>] {
        &self.confusion
    }

    /// Share of right answers; 0 without rows.
    pub fn accuracy(&self) -> f64 {
        let right = (0..self.confusion.len()).map(|class| self.confusion[class][class]).sum();
        share(right, self.rows())
    }

    /// Share of the most frequent class.
    pub fn majority(&self) -> f64 {
        let most = self.confusion.iter().map(|row| row.iter().sum::<u64>()).max().unwrap_or(0);
        share(most, self.rows())
    }

    /// Mean of the classes' F1 = 2·TP / (2·TP + FP + FN) over the classes that occur among the rows or the answers,
    /// as scikit-learn's `f1_score(average="macro")`.
    pub fn macro_f1(&self) -> f64 {
        let scores: Vec<f64> = (0..self.confusion.len())
            .filter_map(|class| {
                let actual: u64 = self.confusion[class].iter().sum();
                let predicted: u64 = self.confusion.iter().map(|row| row[class]).sum();
                (actual + predicted > 0).then(|| share(2 * self.confusion[class][class], actual + predicted))
            })
            .collect();
        if scores.is_empty() { 0.0 } else { scores.iter().sum::<f64>() / scores.len() as f64 }
    }

    pub fn metrics(&self) -> Metrics {
        Metrics {
            loss: self.loss.value(),
            accuracy: Some(self.accuracy()),
            macro_f1: Some(self.macro_f1()),
            majority: Some(self.majority()),
            ..Metrics::default()
        }
    }
}

fn share(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 / whole as f64 }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counted(labels: usize, pairs: &[(usize, usize)]) -> Classification {
        let mut counts = Classification::new(labels);
        for (row, (actual, predicted)) in pairs.iter().enumerate() {
            counts.add(*actual, *predicted, row as f64);
        }
        counts
    }

    fn close(a: f64, b: f64) -> bool {
        (a - b).abs() < 1e-12
    }

    #[test]
    fn three_classes_by_hand() {
        // actual 0 0 0 1 1 2, predicted 0 0 1 1 2 2
        let counts = counted(3, &[(0, 0), (0, 0), (0, 1), (1, 1), (1, 2), (2, 2)]);
        assert_eq!(counts.confusion(), [[2, 1, 0], [0, 1, 1], [0, 0, 1]]);
        // F1: 2·2/(3+2) = 0.8, 2·1/(2+2) = 0.5, 2·1/(1+2) = 2/3
        assert!(close(counts.macro_f1(), (0.8 + 0.5 + 2.0 / 3.0) / 3.0));
        assert!(close(counts.accuracy(), 4.0 / 6.0));
        assert!(close(counts.majority(), 0.5));
        let metrics = counts.metrics();
        assert!(close(metrics.loss, 2.5));
        assert_eq!((metrics.perplexity, metrics.mse), (None, None));
        assert_eq!(counts.rows(), 6);
    }

    #[test]
    fn classes_that_do_not_occur_do_not_count() {
        // Class 2 is never seen nor answered; class 1 is answered but never right: F1 = (2·1/(2+1) + 0) / 2.
        let counts = counted(3, &[(0, 0), (0, 1)]);
        assert!(close(counts.macro_f1(), 1.0 / 3.0));
    }

    #[test]
    fn nothing_counted_is_zero_not_nan() {
        let metrics = Classification::new(2).metrics();
        assert_eq!((metrics.loss, metrics.accuracy, metrics.macro_f1), (0.0, Some(0.0), Some(0.0)));
        let mut counts = Classification::new(2);
        counts.add(5, 0, 1.0);
        assert_eq!(counts.rows(), 0);
    }
}
