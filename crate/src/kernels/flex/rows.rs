//! Operations on rows of numbers: one visit to memory, all threads natively.

use std::ops::Range;

use burn::{backend::TensorMetadata, tensor::DType};

use super::{MANY, Numbers, RUN, alone, give, math, numbers, over, plain, wrap};
use crate::{
    kernels::{AdamWRule, LANES},
    platform,
};

/// What `work` makes of the rows of a [`plain`] tensor: in their own place where nobody else has them, else in a copy.
/// It gets some whole rows and the place of their first number.
pub fn rewrite(mut tensor: Numbers, row: usize, work: impl Fn(usize, &mut [f32]) + Send + Sync) -> Numbers {
    if alone(&tensor)
        && let Some(values) = tensor.try_storage_mut::<f32>()
    {
        over(values, row, work);
        return tensor;
    }
    let from = numbers(&tensor);
    let mut out = vec![0.0; from.len()];
    over(&mut out, row, |at, part| {
        part.copy_from_slice(&from[at..at + part.len()]);
        work(at, part);
    });
    wrap(out, tensor.shape().to_vec())
}

/// As [`rewrite`], from two [`plain`] tensors of one shape: over the second one where nobody else has it but the first
/// one is still needed.
fn rewrite_either(
    a: Numbers,
    b: Numbers,
    row: usize,
    over_a: impl Fn(usize, &mut [f32], &[f32]) + Send + Sync,
    over_b: impl Fn(usize, &[f32], &mut [f32]) + Send + Sync,
) -> Numbers {
    if alone(&b) && !alone(&a) {
        let a = numbers(&a);
        return rewrite(b, row, |at, b| {
            let a = &a[at..at + b.len()];
            over_b(at, a, b);
        });
    }
    let b = numbers(&b);
    rewrite(a, row, |at, a| {
        let b = &b[at..at + a.len()];
        over_a(at, a, b);
    })
}

/// Every number times `by`.
pub fn scaled(x: Numbers, by: f32) -> Numbers {
    let x = plain(x);
    rewrite(x, 1, |_, part| part.iter_mut().for_each(|x| *x *= by))
}

/// The sum of two tensors of one shape.
pub fn sum(a: Numbers, b: Numbers) -> Numbers {
    let (a, b) = (plain(a), plain(b));
    let b = numbers(&b);
    rewrite(a, 1, |at, part| part.iter_mut().zip(&b[at..]).for_each(|(a, b)| *a += b))
}

/// See [`KernelOps::add_squares`](crate::kernels::KernelOps::add_squares). Each tensor is cut into as many parts as on a GPU,
/// so that its sums are as short.
pub fn add_squares(sums: Numbers, tensors: [Numbers; 5]) -> Numbers {
    let mut sums = plain(sums);
    for x in tensors {
        let x = plain(x);
        let x = numbers(&x);
        let part = x.len().div_ceil(LANES).max(1);
        sums = rewrite(sums, 1, |at, sums| {
            for (sum, x) in sums.iter_mut().zip(x.chunks(part).skip(at)) {
                *sum += math::dot(x, x);
            }
        });
    }
    sums
}

/// See [`KernelOps::adamw`](crate::kernels::KernelOps::adamw).
pub fn adamw(value: Numbers, grad: Numbers, moments: Numbers, factor: Numbers, rule: AdamWRule) -> (Numbers, Numbers) {
    let (value, grad, moments) = (plain(value), plain(grad), plain(moments));
    let factor = plain(factor);
    let factor = numbers(&factor).first().copied().unwrap_or(f32::NAN);
    let all = value.layout().num_elements();
    let grad = numbers(&grad);
    let moments = rewrite(moments, 1, |at, part| {
        // Each by itself: a loop that asks which of the two it is at does not become vectors.
        let (first, second) = part.split_at_mut(all.saturating_sub(at).min(part.len()));
        let after = (at + first.len()).saturating_sub(all);
        for (moment, grad) in first.iter_mut().zip(&grad[at.min(all)..]) {
            *moment = *moment * rule.beta1 + grad * factor * rule.rest1;
        }
        for (moment, grad) in second.iter_mut().zip(&grad[after..]) {
            let grad = grad * factor;
            *moment = *moment * rule.beta2 + grad * grad * rule.rest2;
        }
    });
    let (first, second) = numbers(&moments).split_at(all);
    let value = rewrite(value, 1, |at, part| {
        for ((value, m), v) in part.iter_mut().zip(&first[at..]).zip(&second[at..]) {
            let update = m / (v.sqrt() / rule.correction + rule.epsilon);
            *value = *value * rule.keep - update * rule.step;
        }
    });
    (value, moments)
}

pub fn rotate(x: Numbers, cos: Numbers, sin: Numbers, inverse: bool) -> Numbers {
    let dtype = x.dtype();
    let (x, cos, sin) = (plain(x), plain(cos), plain(sin));
    let (seq, dim) = (x.shape()[1], x.shape()[2]);
    let half = dim / 2;
    let sign = if inverse { -1.0f32 } else { 1.0 };
    let (cos, sin) = (numbers(&cos), numbers(&sin));
    let out = rewrite(x, dim, |at, rows| {
        for (row, x) in rows.chunks_mut(dim).enumerate() {
            let from = (at / dim + row) % seq * half;
            let (a, b) = x.split_at_mut(half);
            let turns = cos[from..from + half].iter().zip(&sin[from..from + half]);
            for ((a, b), (cos, sin)) in a.iter_mut().zip(b).zip(turns) {
                let (u, v, sin) = (*a, *b, sign * sin);
                *a = u * cos - v * sin;
                *b = v * cos + u * sin;
            }
        }
    });
    give(out, dtype)
}

fn inverse_rms(row: &[f32], eps: f32) -> f32 {
    1.0 / (math::dot(row, row) / row.len() as f32 + eps).sqrt()
}

pub fn rms_scale(x: Numbers, m: Numbers, eps: f32) -> Numbers {
    let dtype = x.dtype();
    let (x, m) = (plain(x), plain(m));
    let dim = x.shape()[1];
    let m = numbers(&m);
    // One row for all, or one for each.
    let step = if m.len() > dim { dim } else { 0 };
    let out = rewrite(x, dim, |at, rows| {
        for (row, x) in rows.chunks_mut(dim).enumerate() {
            let from = (at / dim + row) * step;
            let r = inverse_rms(x, eps);
            x.iter_mut().zip(&m[from..from + dim]).for_each(|(x, m)| *x *= r * m);
        }
    });
    give(out, dtype)
}

pub fn rms_norm_grad(x: Numbers, w: Numbers, g: Numbers, eps: f32) -> Numbers {
    let dtype = x.dtype();
    let (x, w, g) = (plain(x), plain(w), plain(g));
    let dim = x.shape()[1];
    let w = numbers(&w);
    // What a row's numbers are multiplied by: h = g ∘ w, and x.
    let factors = |x: &[f32], g: &[f32]| {
        let r = inverse_rms(x, eps);
        (r, r * r * r * math::dot3(x, g, w) / dim as f32)
    };
    let out = rewrite_either(
        x,
        g,
        dim,
        |_, x, g| {
            for (x, g) in x.chunks_mut(dim).zip(g.chunks(dim)) {
                let (r, back) = factors(x, g);
                x.iter_mut().zip(g).zip(w).for_each(|((x, g), w)| *x = r * g * w - back * *x);
            }
        },
        |_, x, g| {
            for (x, g) in x.chunks(dim).zip(g.chunks_mut(dim)) {
                let (r, back) = factors(x, g);
                x.iter().zip(g).zip(w).for_each(|((x, g), w)| *g = r * *g * w - back * x);
            }
        },
    );
    give(out, dtype)
}

/// Softmax of `scale · row` over the keys that are seen; the others get nothing.
fn softmax(row: &mut [f32], seen: Range<usize>, scale: f32) {
    row[..seen.start].fill(0.0);
    row[seen.end..].fill(0.0);
    let seen = &mut row[seen];
    let max = math::largest(seen);
    seen.iter_mut().for_each(|v| *v = math::exp((*v - max) * scale));
    let inverse = 1.0 / math::sum(seen);
    seen.iter_mut().for_each(|v| *v *= inverse);
}

/// [`softmax`] of each row of `[batch, rows, keys]`; `seen` says which keys the row of a number sees, counted through all.
pub fn masked_softmax(
    scores: Numbers,
    scale: f32,
    dtype: DType,
    seen: impl Fn(usize) -> Range<usize> + Send + Sync,
) -> Numbers {
    let scores = plain(scores);
    let keys = scores.shape()[2];
    let out = rewrite(scores, keys, |at, rows| {
        for (row, x) in rows.chunks_mut(keys).enumerate() {
            softmax(x, seen(at / keys + row), scale);
        }
    });
    give(out, dtype)
}

pub fn softmax_grad(p: Numbers, g: Numbers, scale: f32, dtype: DType) -> Numbers {
    let (p, g) = (plain(p), plain(g));
    let keys = p.shape()[2];
    let out = rewrite_either(
        p,
        g,
        keys,
        |_, p, g| {
            for (p, g) in p.chunks_mut(keys).zip(g.chunks(keys)) {
                let dot = math::dot(p, g);
                p.iter_mut().zip(g).for_each(|(p, g)| *p *= scale * (g - dot));
            }
        },
        |_, p, g| {
            for (p, g) in p.chunks(keys).zip(g.chunks_mut(keys)) {
                let dot = math::dot(p, g);
                p.iter().zip(g).for_each(|(p, g)| *g = p * (scale * (*g - dot)));
            }
        },
    );
    give(out, dtype)
}

/// See [`KernelOps::exp_sums`](crate::kernels::KernelOps::exp_sums).
pub fn exp_sums(x: Numbers, top: Numbers) -> Numbers {
    let (x, top) = (plain(x), plain(top));
    let columns = x.shape()[1].max(1);
    let (x, top) = (numbers(&x), numbers(&top));
    let mut sums = vec![0.0; top.len()];
    let work = |from: usize, sums: &mut [f32]| {
        let rows = x[from * columns..].chunks(columns).zip(&top[from..]);
        sums.iter_mut().zip(rows).for_each(|(sum, (x, top))| *sum = math::exp_sum(x, *top));
    };
    if x.len() < MANY {
        work(0, &mut sums);
    } else {
        // One number comes out of a row: the runs are of rows, not of what comes out.
        let run = (RUN / columns).max(1);
        platform::in_runs(&mut sums, run, |at, part| work(at * run, part));
    }
    wrap(sums, vec![top.len(), 1])
}

/// See [`KernelOps::exp_scaled`](crate::kernels::KernelOps::exp_scaled).
pub fn exp_scaled(x: Numbers, log_sum: Numbers, scale: Numbers) -> Numbers {
    let (x, log_sum, scale) = (plain(x), plain(log_sum), plain(scale));
    let columns = x.shape()[1].max(1);
    let (log_sum, scale) = (numbers(&log_sum), numbers(&scale));
    rewrite(x, columns, |at, rows| {
        let of = log_sum.iter().zip(scale).skip(at / columns);
        for (row, (log_sum, scale)) in rows.chunks_mut(columns).zip(of) {
            row.iter_mut().for_each(|x| *x = math::exp(*x - log_sum) * scale);
        }
    })
}

#[inline(always)]
fn gated(gate: f32, up: f32) -> f32 {
    gate * (math::sigmoid(gate) * up)
}

pub fn swiglu(gate: Numbers, up: Numbers) -> Numbers {
    let dtype = gate.dtype();
    let out = rewrite_either(
        plain(gate),
        plain(up),
        1,
        |_, gate, up| gate.iter_mut().zip(up).for_each(|(gate, up)| *gate = gated(*gate, *up)),
        |_, gate, up| gate.iter().zip(up).for_each(|(gate, up)| *up = gated(*gate, *up)),
    );
    give(out, dtype)
}

/// Gradient of [`gated`] to its gate.
#[inline(always)]
fn gated_grad(gate: f32, up: f32, g: f32) -> f32 {
    let s = math::sigmoid(gate);
    g * up * s * (1.0 + gate * (1.0 - s))
}

pub fn swiglu_grad(gate: Numbers, up: Numbers, g: Numbers) -> Numbers {
    let dtype = gate.dtype();
    let gate = plain(gate);
    let gate = numbers(&gate);
    let out = rewrite_either(
        plain(up),
        plain(g),
        1,
        |at, up, g| {
            let gate = &gate[at..at + up.len()];
            up.iter_mut().zip(gate).zip(g).for_each(|((up, gate), g)| *up = gated_grad(*gate, *up, *g));
        },
        |at, up, g| {
            let gate = &gate[at..at + up.len()];
            up.iter().zip(gate).zip(g).for_each(|((up, gate), g)| *g = gated_grad(*gate, *up, *g));
        },
    );
    give(out, dtype)
}
