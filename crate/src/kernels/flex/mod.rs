//! The CPU: loops over rows, in place where nobody else has the numbers, on all threads natively. Products are Burn's (the
//! `gemm` crate reads transposed operands in place) but for the shapes that it is slow at, see [`product`].
//!
//! Nothing depends on the number of threads: work is cut by shapes alone, and each sum has one order.

mod math;
mod packed;
mod product;
mod rows;
#[cfg(test)]
pub(super) mod tests;

use burn::{
    backend::{
        Flex,
        ops::FloatTensorOps,
        tensor::{FloatTensor, IntTensor},
    },
    tensor::{DType, FloatDType, TensorData},
};

use super::KernelOps;
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
    fn product(lhs: FloatTensor<Self>, rhs: FloatTensor<Self>, ta: bool, tb: bool, dtype: DType) -> FloatTensor<Self> {
        product::product(lhs, rhs, ta, tb, dtype)
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

    fn causal_softmax_grad(p: FloatTensor<Self>, g: FloatTensor<Self>, scale: f32, dtype: DType) -> FloatTensor<Self> {
        rows::softmax_grad(p, g, scale, dtype)
    }

    fn swiglu(gate: FloatTensor<Self>, up: FloatTensor<Self>) -> FloatTensor<Self> {
        rows::swiglu(gate, up)
    }

    fn swiglu_grad(gate: FloatTensor<Self>, up: FloatTensor<Self>, g: FloatTensor<Self>) -> FloatTensor<Self> {
        rows::swiglu_grad(gate, up, g)
    }

    fn packed_product(
        x: FloatTensor<Self>,
        words: IntTensor<Self>,
        kind: u32,
        rows: usize,
        columns: usize,
        transposed: bool,
    ) -> FloatTensor<Self> {
        packed::product(x, words, kind, [rows, columns], transposed)
    }

    fn packed_rows(ids: IntTensor<Self>, words: IntTensor<Self>, kind: u32, columns: usize) -> FloatTensor<Self> {
        packed::rows(ids, words, kind, columns)
    }
}
