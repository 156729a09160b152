//! Whether a classifier is right as often as it says: expected calibration error (Guo et al., arXiv:1706.04599).

use super::text::share;

pub const BINS: usize = 10;

/// Answers by the probability that the model gave them, in bins of equal width: of 0 to 0.1, above 0.1 to 0.2, and so
/// on. The bins are what a reliability diagram shows.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Calibration {
    pub bins: [Bin; BINS],
}

#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Bin {
    pub rows: u64,
    pub right: u64,
    /// Of the probabilities.
    pub sum: f64,
}

impl Bin {
    /// Share of right answers; none in an empty bin.
    pub fn accuracy(&self) -> Option<f64> {
        (self.rows > 0).then(|| share(self.right, self.rows))
    }

    /// Mean probability of the answers; none in an empty bin.
    pub fn confidence(&self) -> Option<f64> {
        (self.rows > 0).then(|| self.sum / self.rows as f64)
    }
}

impl Calibration {
    /// An answer that counts `times` times. One without a probability (NaN) is left out.
    pub fn add(&mut self, confidence: f32, right: bool, times: u32) {
        if !confidence.is_nan() {
            // Compared as 32 bits, where 0.3 is the edge that it looks like.
            let bin = (1..BINS).take_while(|edge| confidence > *edge as f32 / BINS as f32).count();
            let (bin, times) = (&mut self.bins[bin], u64::from(times));
            bin.rows += times;
            bin.right += times * u64::from(right);
            bin.sum += f64::from(confidence) * times as f64;
        }
    }

    pub fn rows(&self) -> u64 {
        self.bins.iter().map(|bin| bin.rows).sum()
    }

    /// The bins' mean distance between accuracy and confidence, by their rows; 0 without rows.
    pub fn error(&self) -> f64 {
        let gaps: f64 = self.bins.iter().map(|bin| (bin.right as f64 - bin.sum).abs()).sum();
        gaps / self.rows().max(1) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn by_hand() {
        let mut calibration = Calibration::default();
        // Two rows of 0.55, both right, in one bin; two bins of one row each.
        for (confidence, right) in [(0.875, true), (0.925, false)] {
            calibration.add(confidence, right, 1);
        }
        calibration.add(0.55, true, 2);
        calibration.add(f32::NAN, true, 1);
        let [.., sixth, _, _, ninth, tenth] = calibration.bins;
        assert_eq!((sixth.rows, ninth.rows, tenth.rows, calibration.rows()), (2, 1, 1, 4));
        assert!((calibration.error() - (0.125 + 0.925 + 0.9) / 4.0).abs() < 1e-7);
        assert_eq!((ninth.accuracy(), ninth.confidence()), (Some(1.0), Some(0.875)));
        assert_eq!((Bin::default().accuracy(), Bin::default().confidence()), (None, None));
    }

    #[test]
    fn an_edge_belongs_to_the_bin_below() {
        for (confidence, bin) in
            [(0.0, 0), (0.1, 0), (0.3, 2), (0.300_000_1, 3), (0.6, 5), (0.7, 6), (1.0, 9), (7.0, 9)]
        {
            let mut calibration = Calibration::default();
            calibration.add(confidence, true, 1);
            assert_eq!(
                calibration.bins.map(|bin| bin.rows).iter().position(|rows| *rows == 1),
                Some(bin),
                "{confidence}"
            );
        }
        assert_eq!(Calibration::default().error(), 0.0);
    }
}
