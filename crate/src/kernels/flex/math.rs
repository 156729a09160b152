//! Arithmetic on runs of numbers in a form that becomes vector instructions: loops of known length, no branches.

use std::f32::consts::LOG2_E;

/// Sums that are kept side by side: four registers of four numbers.
const LANES: usize = 16;

/// Added to a number below 2²², it leaves the nearest integer in the last bits.
const ROUND: f32 = 12_582_912.0;

/// ln 2 in two parts; the first has so few bits that its products with an exponent are exact.
const LN_2: [f32; 2] = [0.693_359_4, -2.121_944_4e-4];

/// What one instruction does, unlike `f32::min`: `b` where either is no number.
#[inline(always)]
fn smaller(a: f32, b: f32) -> f32 {
    if a < b { a } else { b }
}

/// As [`smaller`], the larger one.
#[inline(always)]
fn larger(a: f32, b: f32) -> f32 {
    if a > b { a } else { b }
}

/// 2ⁿ for the exponents of normal numbers.
#[inline(always)]
fn power(n: i32) -> f32 {
    f32::from_bits(((n + 127) << 23) as u32)
}

/// eˣ to within one unit in the last place. The polynomial is that of Cephes' expf.
#[inline(always)]
pub fn exp(x: f32) -> f32 {
    // What lies beyond is infinite, or nothing.
    let x = larger(-104.0, smaller(89.0, x));
    let rounded = x * LOG2_E + ROUND;
    let n = rounded - ROUND;
    let r = (x - n * LN_2[0]) - n * LN_2[1];
    let p = 1.987_569_1e-4;
    let p = p * r + 1.398_199_9e-3;
    let p = p * r + 8.333_452e-3;
    let p = p * r + 4.166_579_6e-2;
    let p = p * r + 1.666_666_5e-1;
    let p = p * r + 0.5;
    let y = p * (r * r) + r + 1.0;
    let n = rounded.to_bits() as i32 - ROUND.to_bits() as i32;
    // In two steps: the result may lie beyond the normal numbers on either side.
    let half = n >> 1;
    y * power(half) * power(n - half)
}

#[inline(always)]
pub fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + exp(-x))
}

/// The sum of sums that were kept side by side, in pairs: one order, whatever their number.
#[inline(always)]
pub fn fold<const N: usize>(mut sums: [f32; N]) -> f32 {
    let mut width = N / 2;
    while width > 0 {
        for at in 0..width {
            sums[at] += sums[at + width];
        }
        width /= 2;
    }
    sums[0]
}

pub fn sum(x: &[f32]) -> f32 {
    let (runs, rest) = x.as_chunks::<LANES>();
    let mut sums = [0.0; LANES];
    for x in runs {
        for at in 0..LANES {
            sums[at] += x[at];
        }
    }
    fold(sums) + rest.iter().sum::<f32>()
}

/// `Σ exp(x − by)`
pub fn exp_sum(x: &[f32], by: f32) -> f32 {
    let (runs, rest) = x.as_chunks::<LANES>();
    let mut sums = [0.0; LANES];
    for x in runs {
        for at in 0..LANES {
            sums[at] += exp(x[at] - by);
        }
    }
    fold(sums) + rest.iter().map(|x| exp(x - by)).sum::<f32>()
}

/// `Σ x·y`
pub fn dot(x: &[f32], y: &[f32]) -> f32 {
    let ((x, x_rest), (y, y_rest)) = (x.as_chunks::<LANES>(), y.as_chunks::<LANES>());
    let mut sums = [0.0; LANES];
    for (x, y) in x.iter().zip(y) {
        for at in 0..LANES {
            sums[at] += x[at] * y[at];
        }
    }
    fold(sums) + x_rest.iter().zip(y_rest).map(|(x, y)| x * y).sum::<f32>()
}

/// `Σ x·y·z`
pub fn dot3(x: &[f32], y: &[f32], z: &[f32]) -> f32 {
    let ((x, x_rest), (y, y_rest), (z, z_rest)) =
        (x.as_chunks::<LANES>(), y.as_chunks::<LANES>(), z.as_chunks::<LANES>());
    let mut sums = [0.0; LANES];
    for ((x, y), z) in x.iter().zip(y).zip(z) {
        for at in 0..LANES {
            sums[at] += x[at] * y[at] * z[at];
        }
    }
    fold(sums) + x_rest.iter().zip(y_rest).zip(z_rest).map(|((x, y), z)| x * y * z).sum::<f32>()
}

/// The largest number; what is no number does not count.
pub fn largest(x: &[f32]) -> f32 {
    let (runs, rest) = x.as_chunks::<LANES>();
    let mut most = [f32::NEG_INFINITY; LANES];
    for x in runs {
        for at in 0..LANES {
            most[at] = larger(x[at], most[at]);
        }
    }
    most.iter().chain(rest).fold(f32::NEG_INFINITY, |most, x| larger(*x, most))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Distance from the true value, in units of the last place that f32 has there.
    fn off(x: f32) -> f64 {
        let (got, wanted) = (exp(x), f64::from(x).exp());
        if got.is_infinite() || wanted > f64::from(f32::MAX) {
            return if got.is_infinite() && wanted > 0.999_999 * f64::from(f32::MAX) { 0.0 } else { f64::INFINITY };
        }
        let place = wanted.log2().floor().max(-126.0) - 23.0;
        (f64::from(got) - wanted).abs() / place.exp2()
    }

    #[test]
    fn exp_is_within_a_unit_of_the_last_place() {
        // Every sign, exponent and 8 bits of the rest, with low bits that differ.
        let numbers = (0..1u32 << 17).map(|high| f32::from_bits(high << 15 | high.wrapping_mul(40_503) & 0x7fff));
        // All of the exponents that a softmax meets most, densely.
        let dense = (0..400_000).map(|i| i as f32 * -2.6e-4 + 0.3);
        let mut worst = (0.0, 0.0);
        for x in numbers.chain(dense).filter(|x| !x.is_nan()) {
            let off = off(x);
            if off > worst.0 || off.is_nan() {
                worst = (off, x);
            }
        }
        assert!(worst.0 <= 1.0, "{} units off at {}", worst.0, worst.1);
    }

    #[test]
    fn exp_of_what_is_no_usual_number() {
        assert_eq!(exp(f32::INFINITY), f32::INFINITY);
        assert_eq!(exp(f32::NEG_INFINITY), 0.0);
        assert_eq!([exp(0.0), exp(-0.0), exp(1e-40), exp(-f32::MIN_POSITIVE)], [1.0; 4]);
        assert_eq!(exp(88.722_84), f32::INFINITY);
        assert!(exp(88.722_83) < f32::INFINITY);
        // The smallest number that there is, and what rounds to nothing.
        assert_eq!(exp(-103.5).to_bits(), 1);
        assert_eq!(exp(-104.0), 0.0);
        assert!([f32::NAN, -f32::NAN, f32::from_bits(0x7f80_0001)].into_iter().all(|x| exp(x).is_nan()));
        assert_eq!([sigmoid(f32::NEG_INFINITY), sigmoid(0.0), sigmoid(f32::INFINITY)], [0.0, 0.5, 1.0]);
        assert!(sigmoid(f32::NAN).is_nan());
    }

    #[test]
    fn sums_of_every_length() {
        for len in (0..70).chain([1000]) {
            let x = crate::rng::normal(&mut crate::rng::stream(1, 7), 3 * len, 1.0);
            let (x, y, z) = (&x[..len], &x[len..2 * len], &x[2 * len..]);
            let exact = |f: &dyn Fn(usize) -> f64| (0..len).map(f).sum::<f64>();
            let close =
                |got: f32, wanted: f64| assert!((f64::from(got) - wanted).abs() < 1e-4, "{len}: {got} {wanted}");
            let [x64, y64, z64] = [x, y, z].map(|x| x.iter().map(|x| f64::from(*x)).collect::<Vec<_>>());
            close(sum(x), exact(&|i| x64[i]));
            close(dot(x, y), exact(&|i| x64[i] * y64[i]));
            close(exp_sum(x, 4.0), exact(&|i| (x64[i] - 4.0).exp()));
            close(dot3(x, y, z), exact(&|i| x64[i] * y64[i] * z64[i]));
            assert_eq!(largest(x), x.iter().copied().fold(f32::NEG_INFINITY, f32::max));
        }
        assert_eq!(largest(&[f32::NAN, 2.0, f32::NAN]), 2.0);
        assert_eq!(largest(&[f32::NAN; 40]), f32::NEG_INFINITY);
        assert!(sum(&[1.0, f32::NAN]).is_nan());
    }
}
