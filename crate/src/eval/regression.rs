//! Numbers instead of classes: squared and absolute errors, R², Pearson's r.

use serde::{Deserialize, Serialize};

use super::Metrics;

/// Rows of a number to learn, kept so that they can be counted again in a resample; the loss is the mean squared error,
/// as in Hugging Face with `num_labels: 1`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Regression {
    /// Actual and predicted.
    rows: Vec<(f64, f64)>,
}

/// Without rows all are 0 or none.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct RegressionScores {
    /// Mean squared error.
    pub mse: f64,
    /// Mean absolute error.
    pub mae: f64,
    /// 1 - squared errors / squared deviations from the mean; negative where the mean would be the better answer. None
    /// where all actual values are equal.
    pub r2: Option<f64>,
    /// Correlation. None where all actual or all predicted values are equal.
    pub pearson: Option<f64>,
}

impl Regression {
    pub fn add(&mut self, actual: f64, predicted: f64) {
        self.rows.push((actual, predicted));
    }

    pub fn rows(&self) -> u64 {
        self.rows.len() as u64
    }

    pub fn scores(&self) -> RegressionScores {
        scores(self.rows.iter().map(|row| (*row, 1.0)))
    }

    /// The scores of a resample with these weights ([`Resampler`](super::bootstrap::Resampler)).
    pub fn resampled(&self, weights: &[u32]) -> RegressionScores {
        let drawn = self.rows.iter().zip(weights).filter(|(_, times)| **times > 0);
        scores(drawn.map(|(row, times)| (*row, f64::from(*times))))
    }

    /// Of all rows, or of a resample with these weights.
    pub fn metrics(&self, weights: Option<&[u32]>) -> Metrics {
        let RegressionScores { mse, mae, r2, pearson } = match weights {
            None => self.scores(),
            Some(weights) => self.resampled(weights),
        };
        Metrics { loss: mse, mse: Some(mse), mae: Some(mae), r2, pearson, ..Metrics::default() }
    }
}

/// Of actual and predicted values with their weight. Deviations are summed in a second pass: taken from sums of squares
/// they would be lost where values are large and near each other.
fn scores(rows: impl Iterator<Item = ((f64, f64), f64)> + Clone) -> RegressionScores {
    let Some(((first_x, first_y), _)) = rows.clone().next() else { return RegressionScores::default() };
    let (mut weight, mut sum_x, mut sum_y, mut squares, mut distances) = (0.0, 0.0, 0.0, 0.0, 0.0);
    let (mut equal_x, mut equal_y) = (true, true);
    for ((x, y), times) in rows.clone() {
        weight += times;
        sum_x += times * x;
        sum_y += times * y;
        squares += times * (y - x).powi(2);
        distances += times * (y - x).abs();
        equal_x &= x == first_x;
        equal_y &= y == first_y;
    }
    let (mean_x, mean_y) = (sum_x / weight, sum_y / weight);
    let (mut xx, mut yy, mut xy) = (0.0, 0.0, 0.0);
    for ((x, y), times) in rows {
        xx += times * (x - mean_x).powi(2);
        yy += times * (y - mean_y).powi(2);
        xy += times * (x - mean_x) * (y - mean_y);
    }
    let defined = |value: f64, equal: bool| (!equal && value.is_finite()).then_some(value);
    RegressionScores {
        mse: squares / weight,
        mae: distances / weight,
        r2: defined(1.0 - squares / xx, equal_x),
        pearson: defined((xy / (xx.sqrt() * yy.sqrt())).clamp(-1.0, 1.0), equal_x || equal_y),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(rows: &[(f64, f64)]) -> Regression {
        let mut regression = Regression::default();
        rows.iter().for_each(|(actual, predicted)| regression.add(*actual, *predicted));
        regression
    }

    #[test]
    fn errors_by_hand() {
        let regression = of(&[(1.0, 2.0), (0.0, 3.0)]);
        assert_eq!((regression.metrics(None).mse, regression.metrics(None).loss), (Some(5.0), 5.0));
        assert_eq!(regression.rows(), 2);
        // Squared errors 10 against squared deviations 0.5; two points lie on a line, and this one falls.
        let RegressionScores { mse, mae, r2, pearson } = regression.scores();
        assert_eq!((mse, mae, r2), (5.0, 2.0, Some(-19.0)));
        assert!((pearson.expect("r") + 1.0).abs() < 1e-12);
    }

    #[test]
    fn equal_values_have_no_correlation() {
        assert_eq!(of(&[]).scores(), RegressionScores::default());
        assert_eq!(of(&[]).metrics(None).loss, 0.0);
        for rows in [&[(0.1, 0.3)][..], &[(0.1, 0.2), (0.1, 0.3), (0.1, 0.7)]] {
            assert_eq!((of(rows).scores().r2, of(rows).scores().pearson), (None, None));
        }
        let guess = of(&[(1.0, 0.1), (2.0, 0.1), (3.0, 0.1)]).scores();
        assert!(guess.pearson.is_none() && guess.r2.is_some());
        assert_eq!(of(&[(1.0, f64::NAN), (2.0, 1.0)]).scores().pearson, None);
    }

    #[test]
    fn large_values_near_each_other_keep_their_correlation() {
        let scores = of(&[(1e9 + 1.0, 1.0), (1e9 + 2.0, 2.0), (1e9 + 3.0, 3.0)]).scores();
        assert!((scores.pearson.expect("r") - 1.0).abs() < 1e-12);
    }

    #[test]
    fn a_resample_counts_rows_by_their_weight() {
        let rows = of(&[(1.0, 2.0), (7.0, 0.0), (4.0, 3.0)]);
        let written = of(&[(1.0, 2.0), (1.0, 2.0), (4.0, 3.0)]);
        assert_eq!(rows.resampled(&[2, 0, 1]), written.scores());
        assert_eq!(rows.resampled(&[3, 0, 0]).pearson, None);
    }
}
