//! Matrix products: tiles of the `gemm` crate on all threads ([`super::gemm`]), and a way of our own for a few rows times a
//! matrix, which is what each token of an answer takes: `gemm` would pack all of the matrix for it.

use std::array::from_fn;

use burn::{
    backend::{Flex, ops::FloatTensorOps},
    tensor::FloatDType,
};

use super::{
    MANY, Numbers,
    gemm::{self, Term},
    math, numbers, plain, rows, wrap,
};
use crate::platform;

/// Rows that are few.
pub const FEW: usize = 4;

/// Numbers of a matrix that a thread multiplies by a few rows at a time.
const RUN: usize = 1 << 14;

/// Rows of a matrix that are multiplied together.
const TOGETHER: usize = 4;

/// `scale` times the product of two matrices or of as many pairs of them, `[batch, ·, ·]`, in 32 bits.
pub fn product(lhs: Numbers, rhs: Numbers, ta: bool, tb: bool, scale: f32) -> Numbers {
    let (lhs, rhs) = (Flex::float_cast(lhs, FloatDType::F32), Flex::float_cast(rhs, FloatDType::F32));
    if tb && !ta && rhs.is_contiguous() {
        let (x, w) = (lhs.layout().shape(), rhs.layout().shape());
        let (m, n, k) = (x[1], w[1], x[2]);
        if [x[0], w[0]] == [1, 1] && (1..=FEW).contains(&m) && k > 0 {
            let lhs = plain(lhs);
            return scaled(wrap(few_rows(numbers(&lhs), numbers(&rhs), k), vec![1, m, n]), scale);
        }
    }
    let (a, b) = turned(lhs, rhs, ta, tb);
    let Some(term) = Term::new(&a, &b, scale) else { return scaled(Flex::float_matmul(a, b), scale) };
    let shape = term.shape();
    wrap(gemm::sum(&[term]), shape.into())
}

/// `lhs·rhs + low·high` (`tb`: `lhs·rhsᵀ + low·highᵀ`), each tile of it in one visit.
pub fn sum_of_two([lhs, rhs]: [Numbers; 2], [low, high]: [Numbers; 2], tb: bool) -> Numbers {
    let [lhs, rhs, low, high] = [lhs, rhs, low, high].map(|x| Flex::float_cast(x, FloatDType::F32));
    let few = lhs.layout().shape()[1] <= FEW;
    let ((a, b), (c, d)) = (turned(lhs.clone(), rhs.clone(), false, tb), turned(low.clone(), high.clone(), false, tb));
    if let (false, Some(one), Some(two)) = (few, Term::new(&a, &b, 1.0), Term::new(&c, &d, 1.0))
        && one.shape() == two.shape()
    {
        let shape = one.shape();
        return wrap(gemm::sum(&[one, two]), shape.into());
    }
    rows::sum(product(lhs, rhs, false, tb, 1.0), product(low, high, false, tb, 1.0))
}

fn turned(lhs: Numbers, rhs: Numbers, ta: bool, tb: bool) -> (Numbers, Numbers) {
    (if ta { lhs.transpose(1, 2) } else { lhs }, if tb { rhs.transpose(1, 2) } else { rhs })
}

fn scaled(out: Numbers, scale: f32) -> Numbers {
    if scale == 1.0 { out } else { rows::scaled(out, scale) }
}

/// `x·Wᵀ` for few rows of `x` `[m, k]` and `w` `[n, k]`; gives `[m, n]`.
fn few_rows(x: &[f32], w: &[f32], k: usize) -> Vec<f32> {
    let m = x.len() / k;
    by_rows(m, w.len() / k, k, |first, out| {
        let rows = out.len() / m;
        dots(x, &w[first * k..(first + rows) * k], k, out);
    })
}

/// A product `[m, n]` with a matrix of `n` rows of `k` numbers. `work` makes some of its columns: it gets the number of the
/// first one, and room for the `m` numbers of each.
pub fn by_rows(m: usize, n: usize, k: usize, work: impl Fn(usize, &mut [f32]) + Send + Sync) -> Vec<f32> {
    let rows = (RUN / k).max(1).next_multiple_of(TOGETHER);
    let mut columns = vec![0.0; n * m];
    if n * k < MANY {
        work(0, &mut columns);
    } else {
        platform::in_runs(&mut columns, rows * m, |at, part| work(at * rows, part));
    }
    if m == 1 {
        return columns;
    }
    let mut out = vec![0.0; n * m];
    for (i, row) in out.chunks_mut(n.max(1)).enumerate() {
        row.iter_mut().zip(columns.iter().skip(i).step_by(m)).for_each(|(to, from)| *to = *from);
    }
    out
}

/// Products of each row of `w` with each of the few rows of `x`, all `k` long: `out` is `[rows of w, rows of x]`.
pub fn dots(x: &[f32], w: &[f32], k: usize, out: &mut [f32]) {
    match x.len() / k {
        0 => {}
        1 => blocks::<1, TOGETHER, 8>(x, w, k, out),
        2 => blocks::<2, 2, 8>(x, w, k, out),
        3 => blocks::<3, 2, 4>(x, w, k, out),
        _ => blocks::<FEW, 2, 4>(x, w, k, out),
    }
}

/// The same, `R` rows of `w` at a time, each product in `L` sums side by side: all of them in the registers that there are.
fn blocks<const M: usize, const R: usize, const L: usize>(x: &[f32], w: &[f32], k: usize, out: &mut [f32]) {
    let x: [&[f32]; M] = from_fn(|i| &x[i * k..(i + 1) * k]);
    for (w, out) in w.chunks(R * k).zip(out.chunks_mut(R * M)) {
        if w.len() == R * k {
            let w: [&[f32]; R] = from_fn(|j| &w[j * k..(j + 1) * k]);
            out.copy_from_slice(block::<M, R, L>(x, w).as_flattened());
        } else {
            for (w, out) in w.chunks(k).zip(out.chunks_mut(M)) {
                out.copy_from_slice(block::<M, 1, L>(x, [w]).as_flattened());
            }
        }
    }
}

// Only loops of known length, by index, are sure to be unrolled and become vectors.
#[allow(clippy::needless_range_loop)]
#[inline(always)]
fn block<const M: usize, const R: usize, const L: usize>(x: [&[f32]; M], w: [&[f32]; R]) -> [[f32; M]; R] {
    let count = x[0].len() / L;
    let mut sums = [[[0f32; L]; M]; R];
    {
        let x: [&[[f32; L]]; M] = x.map(|row| &row.as_chunks::<L>().0[..count]);
        let w: [&[[f32; L]]; R] = w.map(|row| &row.as_chunks::<L>().0[..count]);
        for at in 0..count {
            for j in 0..R {
                for i in 0..M {
                    for l in 0..L {
                        sums[j][i][l] += x[i][at][l] * w[j][at][l];
                    }
                }
            }
        }
    }
    let rest =
        |row: &[f32], by: &[f32]| -> f32 { row[count * L..].iter().zip(&by[count * L..]).map(|(x, w)| x * w).sum() };
    from_fn(|j| from_fn(|i| math::fold(sums[j][i]) + rest(x[i], w[j])))
}
