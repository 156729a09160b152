//! Matrix products. Most are Burn's: the `gemm` crate packs operands of any layout into its caches, and has all threads for a
//! product of [`LARGE`] multiplications or a batch of [`SHARED`] in all. Elsewhere there is a way of our own:
//!
//! - a few rows times a matrix, which is what each token of an answer takes: `gemm` has one thread for it, or packs all of
//!   the matrix;
//! - one product between those sizes, as the thin ones of an adapter are: its rows go as a batch.

use std::array::from_fn;

use burn::{
    backend::{Flex, flex::Layout as Strides, ops::FloatTensorOps},
    tensor::{DType, FloatDType, Shape},
};

use super::{MANY, Numbers, give, math, numbers, plain, wrap};
use crate::platform;

/// Rows that are few.
pub const FEW: usize = 4;

/// Multiplications of a batch that Burn shares between threads (`BATCH_PARALLEL_THRESHOLD` of burn-flex 0.22.1).
const SHARED: usize = 128 * 128 * 128;

/// Multiplications of one product that `gemm` shares between threads (`PARALLEL_THRESHOLD` of burn-flex 0.22.1).
const LARGE: usize = 192 * 192 * 192;

/// Least rows of a part of a product: each part packs the other operand anew.
const PART: usize = 64;

/// Most rows of a result that is cut by its columns and turned around at the end.
const THIN: usize = 32;

/// Numbers of a matrix that a thread multiplies by a few rows at a time.
const RUN: usize = 1 << 14;

/// Rows of a matrix that are multiplied together.
const TOGETHER: usize = 4;

pub fn product(lhs: Numbers, rhs: Numbers, ta: bool, tb: bool, dtype: DType) -> Numbers {
    let (lhs, rhs) = (Flex::float_cast(lhs, FloatDType::F32), Flex::float_cast(rhs, FloatDType::F32));
    if tb && !ta && rhs.is_contiguous() {
        let (x, w) = (lhs.layout().shape(), rhs.layout().shape());
        let (m, n, k) = (x[1], w[1], x[2]);
        if [x[0], w[0]] == [1, 1] && (1..=FEW).contains(&m) && k > 0 {
            let lhs = plain(lhs);
            return give(wrap(few_rows(numbers(&lhs), numbers(&rhs), k), vec![1, m, n]), dtype);
        }
    }
    let a = if ta { lhs.transpose(1, 2) } else { lhs };
    let b = if tb { rhs.transpose(1, 2) } else { rhs };
    let out = in_parts(&a, &b).unwrap_or_else(|| Flex::float_matmul(a, b));
    give(out, dtype)
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

/// One product that Burn leaves to one thread although it is of some size, as a batch of its rows' parts. None where it is
/// another one, or where the rows do not come out even.
fn in_parts(a: &Numbers, b: &Numbers) -> Option<Numbers> {
    let (of_a, of_b) = (a.layout().shape(), b.layout().shape());
    let (m, k, n) = (of_a[1], of_a[2], of_b[2]);
    let size = m.saturating_mul(n).saturating_mul(k);
    if !platform::THREADS || [of_a[0], of_b[0]] != [1, 1] || !(SHARED..LARGE).contains(&size) {
        return None;
    }
    let by_parts = |a: &Numbers, b: Numbers, rows: usize, columns: usize| -> Option<Numbers> {
        let out = Flex::float_matmul(batch(a, parts(rows)?), b);
        Some(out.reshape(Shape::from(vec![1, rows, columns])))
    };
    if m > THIN {
        return by_parts(a, b.clone(), m, n);
    }
    // (A·B)ᵀ = Bᵀ·Aᵀ
    let turned = by_parts(&b.transpose(1, 2), a.transpose(1, 2), n, m)?;
    Some(turned.transpose(1, 2).to_contiguous())
}

/// How many equal parts to make of so many rows: by the rows alone, as a part's size may touch the last bit of its numbers.
fn parts(rows: usize) -> Option<usize> {
    [4, 3, 5, 2, 7].into_iter().find(|parts| rows.is_multiple_of(*parts) && rows / parts >= PART)
}

/// A matrix `[1, rows, columns]` as a batch of parts of its rows, where they stand.
fn batch(matrix: &Numbers, parts: usize) -> Numbers {
    let layout = matrix.layout();
    let rows = layout.shape()[1] / parts;
    let shape = Shape::from(vec![parts, rows, layout.shape()[2]]);
    let (row, column) = (layout.strides()[1], layout.strides()[2]);
    let layout = Strides::new(shape, vec![row * rows as isize, row, column], layout.start_offset());
    matrix.clone().with_layout(layout)
}
