//! The CPU: loops over rows, in place where nobody else has the numbers, on all threads natively. Products are the `gemm`
//! crate's, which reads transposed operands in place, see [`product`].
//!
//! Nothing depends on the number of threads: work is cut by shapes alone, and each sum has one order.

mod gemm;
mod math;
mod packed;
mod product;
mod relaxed;
mod rows;
#[cfg(test)]
pub(super) mod tests;

pub use relaxed::relaxed_simd;

use burn::{
    backend::{
        Flex, TensorMetadata,
        ops::FloatTensorOps,
        tensor::{FloatTensor, IntTensor},
    },
    tensor::{DType, FloatDType, TensorData},
};

use super::{AdamWRule, KernelOps, Stored, product_shape};
use crate::platform;

/// Floating-point numbers on this device.
type Numbers = FloatTensor<Flex>;

/// Numbers that a thread takes at a time: they stay in its first cache while it goes over them.
const RUN: usize = 1 << 12;

/// From so many numbers on, threads are worth waking.
const MANY: usize = 1 << 15;

/// The tensor in 32 bits, row by row in memory.
fn plain(tensor: Numbers) -> Numbers {
    let tensor = Flex::float_cast(tensor, FloatDType::F32);
    if tensor.is_contiguous() { tensor } else { tensor.to_contiguous() }
}

/// The numbers of a [`plain`] tensor, where they stand.
fn numbers(tensor: &Numbers) -> &[f32] {
    let from = tensor.layout().start_offset();
    &tensor.storage::<f32>()[from..from + tensor.layout().num_elements()]
}

/// Whether a [`plain`] tensor's storage is its own and holds nothing else, so that a result may go over its numbers.
fn alone(tensor: &Numbers) -> bool {
    tensor.is_unique() && tensor.bytes().len() == tensor.layout().num_elements() * size_of::<f32>()
}

fn wrap(values: Vec<f32>, shape: Vec<usize>) -> Numbers {
    Numbers::from_data(TensorData::new(values, shape))
}

/// A matrix as a batch of one.
fn one_of(tensor: Numbers) -> Numbers {
    let shape = tensor.shape();
    if shape.num_dims() == 2 { Flex::float_reshape(tensor, [1, shape[0], shape[1]].into()) } else { tensor }
}

fn give(tensor: Numbers, dtype: DType) -> Numbers {
    Flex::float_cast(tensor, dtype.into())
}

/// Calls `work` for all of `values`, some whole rows at a time, with the place of their first number.
fn over(values: &mut [f32], row: usize, work: impl Fn(usize, &mut [f32]) + Send + Sync) {
    let row = row.max(1);
    let run = (RUN / row).max(1) * row;
    if values.len() < MANY {
        values.chunks_mut(run).enumerate().for_each(|(at, part)| work(at * run, part));
    } else {
        platform::in_runs(values, run, |at, part| work(at * run, part));
    }
}

impl KernelOps for Flex {
    fn product(
        lhs: FloatTensor<Self>,
        rhs: FloatTensor<Self>,
        ta: bool,
        tb: bool,
        scale: f32,
        dtype: DType,
    ) -> FloatTensor<Self> {
        let shape = product_shape(&lhs.shape(), &rhs.shape(), ta, tb);
        let out = product::product(one_of(lhs), one_of(rhs), ta, tb, scale);
        give(Self::float_reshape(out, shape), dtype)
    }

    fn product_plus(
        lhs: FloatTensor<Self>,
        rhs: FloatTensor<Self>,
        low: FloatTensor<Self>,
        high: FloatTensor<Self>,
        tb: bool,
    ) -> FloatTensor<Self> {
        let (dtype, shape) = (lhs.dtype(), product_shape(&lhs.shape(), &rhs.shape(), false, tb));
        let out = product::sum_of_two([lhs, rhs].map(one_of), [low, high].map(one_of), tb);
        give(Self::float_reshape(out, shape), dtype)
    }

    fn rotate(
        x: FloatTensor<Self>,
        cos: FloatTensor<Self>,
        sin: FloatTensor<Self>,
        inverse: bool,
    ) -> FloatTensor<Self> {
        rows::rotate(x, cos, sin, inverse)
    }

    fn rms_scale(x: FloatTensor<Self>, m: FloatTensor<Self>, eps: f32) -> FloatTensor<Self> {
        rows::rms_scale(x, m, eps)
    }

    fn rms_norm_grad(x: FloatTensor<Self>, w: FloatTensor<Self>, g: FloatTensor<Self>, eps: f32) -> FloatTensor<Self> {
        rows::rms_norm_grad(x, w, g, eps)
    }

    fn causal_softmax(scores: FloatTensor<Self>, queries: usize, scale: f32, dtype: DType) -> FloatTensor<Self> {
        let before = scores.layout().shape()[2] - queries;
        rows::masked_softmax(scores, scale, dtype, |row| 0..before + row % queries + 1)
    }

    fn segment_softmax(
        scores: FloatTensor<Self>,
        first: IntTensor<Self>,
        scale: f32,
        dtype: DType,
    ) -> FloatTensor<Self> {
        let (of_scores, of_first) = (scores.layout().shape(), first.layout().shape());
        let (rows, keys, lines, queries) = (of_scores[1], of_scores[2], of_first[0], of_first[1]);
        let first = packed::integers(first);
        rows::masked_softmax(scores, scale, dtype, move |row| {
            let (matrix, query) = (row / rows, row % rows % queries);
            let own = keys - queries + query;
            first[matrix % lines * queries + query].min(own)..own + 1
        })
    }

    fn causal_softmax_grad(p: FloatTensor<Self>, g: FloatTensor<Self>, scale: f32, dtype: DType) -> FloatTensor<Self> {
        rows::softmax_grad(p, g, scale, dtype)
    }

    fn exp_sums(x: FloatTensor<Self>, top: FloatTensor<Self>) -> FloatTensor<Self> {
        rows::exp_sums(x, top)
    }

    fn exp_scaled(x: FloatTensor<Self>, log_sum: FloatTensor<Self>, scale: FloatTensor<Self>) -> FloatTensor<Self> {
        rows::exp_scaled(x, log_sum, scale)
    }

    fn swiglu(gate: FloatTensor<Self>, up: FloatTensor<Self>) -> FloatTensor<Self> {
        rows::swiglu(gate, up)
    }

    fn swiglu_grad(gate: FloatTensor<Self>, up: FloatTensor<Self>, g: FloatTensor<Self>) -> FloatTensor<Self> {
        rows::swiglu_grad(gate, up, g)
    }

    fn packed_product(x: FloatTensor<Self>, words: IntTensor<Self>, of: Stored, transposed: bool) -> FloatTensor<Self> {
        packed::product(x, words, of, transposed, None)
    }

    fn packed_product_plus(
        x: FloatTensor<Self>,
        words: IntTensor<Self>,
        low: FloatTensor<Self>,
        high: FloatTensor<Self>,
        of: Stored,
        transposed: bool,
    ) -> FloatTensor<Self> {
        packed::product(x, words, of, transposed, Some([low, high]))
    }

    fn add_squares(
        sums: FloatTensor<Self>,
        a: FloatTensor<Self>,
        b: FloatTensor<Self>,
        c: FloatTensor<Self>,
        d: FloatTensor<Self>,
        e: FloatTensor<Self>,
    ) -> FloatTensor<Self> {
        rows::add_squares(sums, [a, b, c, d, e])
    }

    fn adamw(
        value: FloatTensor<Self>,
        grad: FloatTensor<Self>,
        moments: FloatTensor<Self>,
        factor: FloatTensor<Self>,
        rule: AdamWRule,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        rows::adamw(value, grad, moments, factor, rule)
    }

    fn packed_rows(ids: IntTensor<Self>, words: IntTensor<Self>, kind: u32, columns: usize) -> FloatTensor<Self> {
        packed::rows(ids, words, kind, columns)
    }
}
