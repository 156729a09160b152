//! Randomness that is the same on every platform: ChaCha8 streams of the configured seed.

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// What a stream is used for; no two uses of a seed share numbers. Streams below are epochs of the shuffle.
pub const INIT: u64 = u64::MAX - 2;

/// The trials of a sweep, of which trial `n` has stream `SWEEP + n`.
pub const SWEEP: u64 = 1 << 62;

/// Generated answers, of which prompt `n` has stream `GENERATE + n`.
pub const GENERATE: u64 = 1 << 63;

pub fn stream(seed: u64, stream: u64) -> ChaCha8Rng {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    rng.set_stream(stream);
    rng
}

/// `n` numbers of a normal distribution around zero (Box–Muller).
pub fn normal(rng: &mut impl Rng, n: usize, std: f32) -> Vec<f32> {
    let mut out = Vec::with_capacity(n + 1);
    while out.len() < n {
        // 1 - u lies in (0, 1]: its logarithm is finite.
        let radius = (-2.0 * (1.0 - rng.random::<f64>()).ln()).sqrt();
        let angle = std::f64::consts::TAU * rng.random::<f64>();
        out.push((radius * angle.cos()) as f32 * std);
        out.push((radius * angle.sin()) as f32 * std);
    }
    out.truncate(n);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn normal_has_its_mean_and_deviation() {
        let x = normal(&mut stream(1, INIT), 100_001, 0.5);
        let mean = x.iter().sum::<f32>() / x.len() as f32;
        let variance = x.iter().map(|v| (v - mean).powi(2)).sum::<f32>() / x.len() as f32;
        assert!(mean.abs() < 0.01 && (variance.sqrt() - 0.5).abs() < 0.01, "{mean} {variance}");
        assert_eq!(x, normal(&mut stream(1, INIT), 100_001, 0.5));
        assert_ne!(x[..10], normal(&mut stream(2, INIT), 10, 0.5)[..]);
    }
}
