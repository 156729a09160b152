//! Classes: accuracy, balanced accuracy, F1, the confusion matrix, and whether the model knows how sure it may be.

use serde::{Deserialize, Serialize};

use super::{
    Metrics,
    calibration::Calibration,
    text::{f1, share},
};
use crate::event::{Bin, ClassScore};

/// One answer.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
struct Row {
    actual: u32,
    predicted: u32,
    /// Of the answer.
    confidence: f32,
    loss: f64,
}

/// Answers, kept row by row so that they can be counted again in a resample.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Classification {
    /// `confusion[actual][predicted]`.
    confusion: Vec<Vec<u64>>,
    counts: ClassCounts,
    rows: Vec<Row>,
}

impl Classification {
    pub fn new(labels: usize) -> Self {
        Self { confusion: vec![vec![0; labels]; labels], counts: ClassCounts::new(labels), rows: Vec::new() }
    }

    /// One row: its class, the model's answer with the probability that it gave it, its cross-entropy. A class beyond the
    /// labels is left out, as the model has no such output.
    pub fn add(&mut self, actual: usize, predicted: usize, confidence: f32, loss: f64) {
        if let Some(count) = self.confusion.get_mut(actual).and_then(|row| row.get_mut(predicted)) {
            *count += 1;
            let row = Row { actual: actual as u32, predicted: predicted as u32, confidence, loss };
            self.counts.add(row, 1);
            self.rows.push(row);
        }
    }

    pub fn rows(&self) -> u64 {
        self.rows.len() as u64
    }

    pub fn confusion(&self) -> &[Vec<u64>] {
        &self.confusion
    }

    /// All scores that need no more than the classes.
    pub fn counts(&self) -> &ClassCounts {
        &self.counts
    }

    /// The counts of a resample with these weights ([`Resampler`](super::bootstrap::Resampler)).
    pub fn resampled(&self, weights: &[u32]) -> ClassCounts {
        let mut counts = ClassCounts::new(self.confusion.len());
        self.rows.iter().zip(weights).for_each(|(row, times)| counts.add(*row, *times));
        counts
    }

    /// None where no row has a confidence.
    pub fn calibration(&self) -> Option<Calibration> {
        self.calibrated(std::iter::repeat(&1))
    }

    /// The calibration of a resample.
    pub fn resampled_calibration(&self, weights: &[u32]) -> Option<Calibration> {
        self.calibrated(weights.iter())
    }

    fn calibrated<'a>(&self, weights: impl Iterator<Item = &'a u32>) -> Option<Calibration> {
        let mut calibration = Calibration::default();
        for (row, times) in self.rows.iter().zip(weights) {
            calibration.add(row.confidence, row.actual == row.predicted, *times);
        }
        (calibration.rows() > 0).then_some(calibration)
    }

    /// Share of right answers; 0 without rows.
    pub fn accuracy(&self) -> f64 {
        self.counts.accuracy()
    }

    /// Share of the most frequent class.
    pub fn majority(&self) -> f64 {
        self.counts.majority()
    }

    /// [`ClassCounts::macro_f1`].
    pub fn macro_f1(&self) -> f64 {
        self.counts.macro_f1()
    }

    /// Of all rows, or of a resample with these weights.
    pub fn metrics(&self, weights: Option<&[u32]>) -> Metrics {
        let (counts, calibration) = match weights {
            None => (self.counts.clone(), self.calibration()),
            Some(weights) => (self.resampled(weights), self.resampled_calibration(weights)),
        };
        let weight = |i: usize| weights.map_or(1.0, |weights| f64::from(weights[i]));
        let loss: f64 = self.rows.iter().enumerate().map(|(i, row)| weight(i) * row.loss).sum();
        Metrics {
            loss: loss / self.rows.len().max(1) as f64,
            accuracy: Some(counts.accuracy()),
            macro_f1: Some(counts.macro_f1()),
            micro_f1: Some(counts.micro_f1()),
            balanced_accuracy: Some(counts.balanced_accuracy()),
            calibration_error: calibration.map(|calibration| calibration.error()),
            majority: Some(counts.majority()),
            ..Metrics::default()
        }
    }

    /// Rows by confidence, without the tenths that have none.
    pub fn bins(&self) -> Vec<Bin> {
        let bins = self.calibration().map(|calibration| calibration.bins).unwrap_or_default();
        let told = bins
            .iter()
            .filter_map(|bin| Some(Bin { rows: bin.rows, confidence: bin.confidence()?, accuracy: bin.accuracy()? }));
        told.collect()
    }
}

impl From<&ClassCount> for ClassScore {
    fn from(class: &ClassCount) -> Self {
        Self { precision: class.precision(), recall: class.recall(), f1: class.f1(), rows: class.support }
    }
}

/// How often each class is right, is the row's and is the answer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ClassCounts {
    classes: Vec<ClassCount>,
}

/// One class; its scores are 0 where they would divide by 0, as scikit-learn's.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClassCount {
    /// Rows of this class that the model answered with it.
    pub right: u64,
    /// Rows of this class.
    pub support: u64,
    /// Rows that the model answered with it.
    pub predicted: u64,
}

impl ClassCount {
    pub fn precision(&self) -> f64 {
        share(self.right, self.predicted)
    }

    pub fn recall(&self) -> f64 {
        share(self.right, self.support)
    }

    pub fn f1(&self) -> f64 {
        f1(self.right, self.support, self.predicted)
    }
}

impl ClassCounts {
    fn new(labels: usize) -> Self {
        Self { classes: vec![ClassCount::default(); labels] }
    }

    fn add(&mut self, row: Row, times: u32) {
        let (actual, predicted, times) = (row.actual as usize, row.predicted as usize, u64::from(times));
        self.classes[actual].support += times;
        self.classes[predicted].predicted += times;
        if actual == predicted {
            self.classes[actual].right += times;
        }
    }

    /// In the labels' order.
    pub fn classes(&self) -> &[ClassCount] {
        &self.classes
    }

    fn sum(&self, part: impl Fn(&ClassCount) -> u64) -> u64 {
        self.classes.iter().map(part).sum()
    }

    /// Share of right answers; 0 without rows.
    pub fn accuracy(&self) -> f64 {
        share(self.sum(|class| class.right), self.sum(|class| class.support))
    }

    /// Share of the most frequent class: what always answering it would score.
    pub fn majority(&self) -> f64 {
        let most = self.classes.iter().map(|class| class.support).max().unwrap_or(0);
        share(most, self.sum(|class| class.support))
    }

    /// Mean recall of the classes that occur among the rows: what guessing scores is 1 / classes, however unequal they
    /// are (scikit-learn's `balanced_accuracy_score`).
    pub fn balanced_accuracy(&self) -> f64 {
        mean(self.classes.iter().filter(|class| class.support > 0).map(ClassCount::recall))
    }

    /// Mean of the classes' F1 = 2·TP / (2·TP + FP + FN) over the classes that occur among the rows or the answers,
    /// as scikit-learn's `f1_score(average="macro")`.
    pub fn macro_f1(&self) -> f64 {
        mean(self.classes.iter().filter(|class| class.support + class.predicted > 0).map(ClassCount::f1))
    }

    /// F1 of all classes' counts together. With one answer a row it is the accuracy: each wrong one is a false positive
    /// of one class and a false negative of another.
    pub fn micro_f1(&self) -> f64 {
        f1(self.sum(|class| class.right), self.sum(|class| class.support), self.sum(|class| class.predicted))
    }
}

/// 0 of nothing.
fn mean(values: impl Iterator<Item = f64>) -> f64 {
    let (sum, count) = values.fold((0.0, 0_u64), |(sum, count), value| (sum + value, count + 1));
    if count == 0 { 0.0 } else { sum / count as f64 }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counted(labels: usize, pairs: &[(usize, usize)]) -> Classification {
        let mut counts = Classification::new(labels);
        for (row, (actual, predicted)) in pairs.iter().enumerate() {
            counts.add(*actual, *predicted, 0.5, row as f64);
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
        let metrics = counts.metrics(None);
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
        let metrics = Classification::new(2).metrics(None);
        assert_eq!((metrics.loss, metrics.accuracy, metrics.macro_f1), (0.0, Some(0.0), Some(0.0)));
        let mut counts = Classification::new(2);
        counts.add(5, 0, 0.5, 1.0);
        counts.add(0, 2, 0.5, 1.0);
        assert_eq!((counts.rows(), counts.calibration()), (0, None));
        assert_eq!((counts.counts().balanced_accuracy(), counts.counts().micro_f1()), (0.0, 0.0));
        assert_eq!(Classification::new(0).accuracy(), 0.0);
    }

    #[test]
    fn each_class_by_hand() {
        let counts = counted(4, &[(0, 0), (0, 0), (0, 1), (1, 1), (1, 2), (2, 2)]);
        let classes = counts.counts().classes();
        assert_eq!(classes[1], ClassCount { right: 1, support: 2, predicted: 2 });
        assert!(close(classes[0].precision(), 1.0) && close(classes[0].recall(), 2.0 / 3.0));
        assert_eq!((classes[3].precision(), classes[3].recall(), classes[3].f1()), (0.0, 0.0, 0.0));
        // Recalls 2/3, 1/2 and 1; the fourth class has no row.
        assert!(close(counts.counts().balanced_accuracy(), (2.0 / 3.0 + 0.5 + 1.0) / 3.0));
        assert!(close(counts.counts().micro_f1(), counts.accuracy()));
    }

    #[test]
    fn a_resample_counts_rows_by_their_weight() {
        let mut rows = Classification::new(2);
        rows.add(0, 0, 0.75, 0.0);
        rows.add(1, 0, 0.95, 0.0);
        rows.add(1, 1, f32::NAN, 3.0);
        assert_eq!(rows.resampled(&[0, 2, 1]), *counted(2, &[(1, 0), (1, 0), (1, 1)]).counts());
        assert_eq!(rows.resampled(&[1, 1, 1]), *rows.counts());
        let error = |calibration: Option<Calibration>| calibration.expect("confidences").error();
        assert!((error(rows.calibration()) - (0.25 + 0.95) / 2.0).abs() < 1e-7);
        assert!((error(rows.resampled_calibration(&[2, 1, 0])) - (2.0 * 0.25 + 0.95) / 3.0).abs() < 1e-7);
        assert_eq!(rows.resampled_calibration(&[0, 0, 3]), None);
        assert_eq!((rows.metrics(None).loss, rows.metrics(Some(&[1, 0, 2])).loss), (1.0, 2.0));
    }
}
