//! How far a number depends on the rows that happened to be held out: percentile bootstrap (Efron 1979).

use rand::RngCore;
use rand_chacha::ChaCha8Rng;

use crate::rng;

/// Resamples that are drawn where nothing else is asked for.
pub const RESAMPLES: usize = 1000;
/// Share of the resamples whose values lie within the interval.
pub const LEVEL: f64 = 0.95;

/// The bootstrap's stream of a seed (rng.rs, data/split.rs have the others).
const STREAM: u64 = u64::MAX - 3;

/// Within these a number lies with a confidence of 95 %.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Interval {
    pub low: f64,
    pub high: f64,
}

impl Interval {
    /// From a statistic's values on resamples, between neighbours linearly as NumPy's `percentile`. A value that is no
    /// number (a correlation of equal values) is left out; none where no more than half are left.
    pub fn of(mut values: Vec<f64>) -> Option<Self> {
        let all = values.len();
        values.retain(|value| value.is_finite());
        if 2 * values.len() <= all {
            return None;
        }
        values.sort_unstable_by(f64::total_cmp);
        let at = |share: f64| {
            let place = share * (values.len() - 1) as f64;
            let (below, above) = (values[place.floor() as usize], values[place.ceil() as usize]);
            below + (above - below) * place.fract()
        };
        let tail = (1.0 - LEVEL) / 2.0;
        Some(Self { low: at(tail), high: at(1.0 - tail) })
    }
}

/// Draws as many rows as there are, with replacement, again and again; the same draws for the same seed.
///
/// A resample is told by how often each row is in it, so that a statistic goes once through the rows in their order:
/// sums and counts, each row's part times its weight.
pub struct Resampler {
    rng: ChaCha8Rng,
    weights: Vec<u32>,
}

impl Resampler {
    /// None of fewer than two rows, which tell nothing about how much rows differ.
    pub fn new(rows: usize, seed: u64) -> Option<Self> {
        (2..=u32::MAX as usize).contains(&rows).then(|| Self { rng: rng::stream(seed, STREAM), weights: vec![0; rows] })
    }

    /// The next resample's weights, which sum to the number of rows.
    pub fn draw(&mut self) -> &[u32] {
        self.weights.fill(0);
        let rows = self.weights.len() as u64;
        for _ in 0..rows {
            // The high half of a 32 × 32 bit product is uniform over the rows but for rows / 2³².
            let at = (u64::from(self.rng.next_u32()) * rows) >> 32;
            self.weights[at as usize] += 1;
        }
        &self.weights
    }
}

/// Intervals of one or several statistics, all on the same resamples: of the numbers before and after training and
/// their difference, for example. None of fewer than two rows.
///
/// A shell that must not be held up takes a [`Resampler`] and [`Interval::of`] itself, some draws at a time.
pub fn intervals<const N: usize>(
    rows: usize,
    seed: u64,
    resamples: usize,
    mut statistics: impl FnMut(&[u32]) -> [f64; N],
) -> [Option<Interval>; N] {
    let Some(mut resampler) = Resampler::new(rows, seed) else { return [None; N] };
    let mut values = [const { Vec::new() }; N];
    for _ in 0..resamples {
        for (all, value) in values.iter_mut().zip(statistics(resampler.draw())) {
            all.push(value);
        }
    }
    values.map(Interval::of)
}

/// One statistic's interval, from [`RESAMPLES`].
pub fn interval(rows: usize, seed: u64, mut statistic: impl FnMut(&[u32]) -> f64) -> Option<Interval> {
    let [interval] = intervals(rows, seed, RESAMPLES, |weights| [statistic(weights)]);
    interval
}

/// The interval of `after - before`, both on the same rows in the same order and the same resamples. Rows that are hard
/// for both then cancel out, so that it tells a change where the two numbers' own intervals overlap.
pub fn difference(
    rows: usize,
    seed: u64,
    mut before: impl FnMut(&[u32]) -> f64,
    mut after: impl FnMut(&[u32]) -> f64,
) -> Option<Interval> {
    interval(rows, seed, |weights| after(weights) - before(weights))
}

/// Mean of the rows' values (ROUGE, token F1, right or wrong); 0 without rows.
pub fn mean(values: &[f64], weights: &[u32]) -> f64 {
    let (mut sum, mut count) = (0.0, 0_u64);
    for (value, times) in values.iter().zip(weights) {
        sum += value * f64::from(*times);
        count += u64::from(*times);
    }
    if count == 0 { 0.0 } else { sum / count as f64 }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn close(a: f64, b: f64, by: f64) -> bool {
        (a - b).abs() <= by
    }

    #[test]
    fn an_interval_of_a_mean_is_the_normal_one() {
        // 400 answers, 300 right: 1.96 standard errors of 0.02165 to either side.
        let right: Vec<f64> = (0..400).map(|row| f64::from(u8::from(row % 4 != 0))).collect();
        let Interval { low, high } = interval(400, 7, |weights| mean(&right, weights)).expect("rows");
        assert!(close(low, 0.7076, 0.006) && close(high, 0.7924, 0.006), "{low} {high}");
    }

    #[test]
    fn the_seed_alone_decides() {
        let values: Vec<f64> = (0..50).map(f64::from).collect();
        let of = |seed| interval(50, seed, |weights| mean(&values, weights));
        assert_eq!(of(1), of(1));
        assert_ne!(of(1), of(2));
        let mut resampler = Resampler::new(50, 1).expect("rows");
        let first = resampler.draw().to_vec();
        assert_eq!(first.iter().sum::<u32>(), 50);
        assert_ne!(first, resampler.draw());
    }

    #[test]
    fn a_difference_is_taken_row_by_row() {
        let before: Vec<f64> = (0..100).map(|row| f64::from(row % 10)).collect();
        let after: Vec<f64> = before.iter().map(|value| value + 0.5).collect();
        let of = |a: &[f64], b: &[f64]| difference(100, 3, |w| mean(a, w), |w| mean(b, w)).expect("rows");
        assert_eq!(of(&before, &before), Interval { low: 0.0, high: 0.0 });
        let Interval { low, high } = of(&before, &after);
        assert!(close(low, 0.5, 1e-12) && close(high, 0.5, 1e-12), "{low} {high}");
    }

    #[test]
    fn too_little_has_no_interval() {
        for rows in [0, 1] {
            assert_eq!(interval(rows, 1, |_| 1.0), None);
        }
        assert_eq!(intervals(9, 1, 0, |_| [1.0]), [None]);
        assert_eq!(interval(9, 1, |_| f64::NAN), None);
        let mut draws = 0;
        let odd = |_: &[u32]| {
            draws += 1;
            if draws % 5 == 0 { f64::NAN } else { 2.0 }
        };
        assert_eq!(interval(9, 1, odd), Some(Interval { low: 2.0, high: 2.0 }));
    }
}
