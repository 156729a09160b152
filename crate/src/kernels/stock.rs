//! The same operations in Burn's stock ones, in f32: the fallback where neither WGSL nor our loops apply.

use burn::{
    backend::{
        Backend, TensorMetadata,
        tensor::{Device, FloatTensor, IntTensor},
    },
    tensor::{DType, FloatDType, Scalar, Slice, TensorData},
};

use super::AdamWRule;

fn f32s<B: Backend>(x: FloatTensor<B>) -> FloatTensor<B> {
    B::float_cast(x, FloatDType::F32)
}

pub fn product<B: Backend>(
    lhs: FloatTensor<B>,
    rhs: FloatTensor<B>,
    ta: bool,
    tb: bool,
    scale: f32,
    dtype: DType,
) -> FloatTensor<B> {
    let (lhs, rhs) = (f32s::<B>(lhs), f32s::<B>(rhs));
    let last = lhs.shape().num_dims() - 1;
    let lhs = if ta { B::float_swap_dims(lhs, last - 1, last) } else { lhs };
    let rhs = if tb { B::float_swap_dims(rhs, last - 1, last) } else { rhs };
    let y = B::float_matmul(lhs, rhs);
    let y = if scale == 1.0 { y } else { B::float_mul_scalar(y, Scalar::from(scale)) };
    B::float_cast(y, dtype.into())
}

pub fn rotate<B: Backend>(
    x: FloatTensor<B>,
    cos: FloatTensor<B>,
    sin: FloatTensor<B>,
    inverse: bool,
) -> FloatTensor<B> {
    let (dim, dtype) = (x.shape()[2], x.dtype());
    let half = |from: usize, to: usize| [Slice::full(), Slice::full(), Slice::from(from..to)];
    let lift = |t: FloatTensor<B>| {
        let shape = t.shape();
        B::float_reshape(f32s::<B>(t), [1, shape[0], shape[1]].into())
    };
    let (x, cos, sin) = (f32s::<B>(x), lift(cos), lift(sin));
    let sin = if inverse { B::float_neg(sin) } else { sin };
    let a = B::float_slice(x.clone(), &half(0, dim / 2));
    let b = B::float_slice(x, &half(dim / 2, dim));
    let first = B::float_sub(B::float_mul(a.clone(), cos.clone()), B::float_mul(b.clone(), sin.clone()));
    let second = B::float_add(B::float_mul(b, cos), B::float_mul(a, sin));
    B::float_cast(B::float_cat(vec![first, second], 2), dtype.into())
}

fn inverse_rms<B: Backend>(x: FloatTensor<B>, eps: f32) -> FloatTensor<B> {
    let mean = B::float_mean_dim(B::float_mul(x.clone(), x), 1);
    B::float_recip(B::float_sqrt(B::float_add_scalar(mean, Scalar::from(eps))))
}

pub fn rms_scale<B: Backend>(x: FloatTensor<B>, m: FloatTensor<B>, eps: f32) -> FloatTensor<B> {
    let (dtype, x) = (x.dtype(), f32s::<B>(x));
    let r = inverse_rms::<B>(x.clone(), eps);
    B::float_cast(B::float_mul(B::float_mul(x, r), f32s::<B>(m)), dtype.into())
}

pub fn rms_norm_grad<B: Backend>(x: FloatTensor<B>, w: FloatTensor<B>, g: FloatTensor<B>, eps: f32) -> FloatTensor<B> {
    let (dtype, x) = (x.dtype(), f32s::<B>(x));
    let r = inverse_rms::<B>(x.clone(), eps);
    let h = B::float_mul(f32s::<B>(g), f32s::<B>(w));
    let mean = B::float_mean_dim(B::float_mul(h.clone(), x.clone()), 1);
    let cubed = B::float_mul(B::float_mul(r.clone(), r.clone()), r.clone());
    let to_x = B::float_sub(B::float_mul(h, r), B::float_mul(x, B::float_mul(cubed, mean)));
    B::float_cast(to_x, dtype.into())
}

pub fn causal_softmax<B: Backend>(
    scores: FloatTensor<B>,
    queries: usize,
    scale: f32,
    dtype: DType,
    device: &Device<B>,
) -> FloatTensor<B> {
    let shape = scores.shape();
    let (rows, keys) = (shape[1], shape[2]);
    let mut mask = vec![0f32; rows * keys];
    for (r, row) in mask.chunks_mut(keys).enumerate() {
        row[keys - queries + r % queries + 1..].fill(f32::MIN);
    }
    let mask = B::float_from_data(TensorData::new(mask, [1, rows, keys]), device);
    let x = B::float_add(B::float_mul_scalar(f32s::<B>(scores), Scalar::from(scale)), mask);
    let x = B::float_exp(B::float_sub(x.clone(), B::float_max_dim(x, 2)));
    B::float_cast(B::float_div(x.clone(), B::float_sum_dim(x, 2)), dtype.into())
}

/// What a hidden score is raised by: far from any score, and far from where the causal mask's own number overflows.
const HIDDEN: f32 = -1e30;

pub fn segment_softmax<B: Backend>(
    scores: FloatTensor<B>,
    first: IntTensor<B>,
    scale: f32,
    dtype: DType,
    device: &Device<B>,
) -> FloatTensor<B> {
    let (shape, of) = (scores.shape(), first.shape());
    let (matrices, rows, keys) = (shape[0], shape[1], shape[2]);
    let (lines, queries) = (of[0], of[1]);
    let first = B::float_reshape(B::int_into_float(first, FloatDType::F32), [1, lines, 1, queries].into());
    let first = B::float_expand(first, [matrices / lines, lines, rows / queries, queries].into());
    let first = B::float_reshape(first, [matrices, rows, 1].into());
    let keys: Vec<f32> = (0..keys).map(|key| key as f32).collect();
    let keys = TensorData::new(keys, [1, 1, shape[2]]);
    // 1 or more where a key stands before the first one.
    let before = B::float_sub(first, B::float_from_data(keys, device));
    let before = B::float_clamp(before, Scalar::from(0f32), Scalar::from(1f32));
    let scores = B::float_add(f32s::<B>(scores), B::float_mul_scalar(before, Scalar::from(HIDDEN)));
    causal_softmax::<B>(scores, queries, scale, dtype, device)
}

pub fn causal_softmax_grad<B: Backend>(
    p: FloatTensor<B>,
    g: FloatTensor<B>,
    scale: f32,
    dtype: DType,
) -> FloatTensor<B> {
    let (p, g) = (f32s::<B>(p), f32s::<B>(g));
    let dot = B::float_sum_dim(B::float_mul(p.clone(), g.clone()), 2);
    B::float_cast(B::float_mul_scalar(B::float_mul(p, B::float_sub(g, dot)), Scalar::from(scale)), dtype.into())
}

pub fn exp_sums<B: Backend>(x: FloatTensor<B>, top: FloatTensor<B>) -> FloatTensor<B> {
    B::float_sum_dim(B::float_exp(B::float_sub(f32s::<B>(x), f32s::<B>(top))), 1)
}

pub fn exp_scaled<B: Backend>(x: FloatTensor<B>, log_sum: FloatTensor<B>, scale: FloatTensor<B>) -> FloatTensor<B> {
    B::float_mul(B::float_exp(B::float_sub(f32s::<B>(x), f32s::<B>(log_sum))), f32s::<B>(scale))
}

/// A zero beside `x`.
pub fn zero<B: Backend>(x: &FloatTensor<B>) -> FloatTensor<B> {
    B::float_zeros([1, 1].into(), &x.device(), x.dtype().into())
}

fn sigmoid<B: Backend>(x: FloatTensor<B>) -> FloatTensor<B> {
    B::float_recip(B::float_add_scalar(B::float_exp(B::float_neg(x)), Scalar::from(1f32)))
}

pub fn swiglu<B: Backend>(gate: FloatTensor<B>, up: FloatTensor<B>) -> FloatTensor<B> {
    let (dtype, x) = (gate.dtype(), f32s::<B>(gate));
    let silu = B::float_mul(x.clone(), sigmoid::<B>(x));
    B::float_cast(B::float_mul(silu, f32s::<B>(up)), dtype.into())
}

pub fn swiglu_grad<B: Backend>(gate: FloatTensor<B>, up: FloatTensor<B>, g: FloatTensor<B>) -> FloatTensor<B> {
    let (dtype, x) = (gate.dtype(), f32s::<B>(gate));
    let s = sigmoid::<B>(x.clone());
    // s · (1 + x · (1 − s))
    let rest = B::float_add_scalar(B::float_neg(s.clone()), Scalar::from(1f32));
    let slope = B::float_mul(s, B::float_add_scalar(B::float_mul(x, rest), Scalar::from(1f32)));
    B::float_cast(B::float_mul(slope, B::float_mul(f32s::<B>(g), f32s::<B>(up))), dtype.into())
}

/// The first column takes all.
pub fn add_squares<B: Backend>(sums: FloatTensor<B>, tensors: [FloatTensor<B>; 5]) -> FloatTensor<B> {
    let lanes = sums.shape()[1];
    let first = B::float_slice(sums.clone(), &[Slice::full(), Slice::from(0..1)]);
    let rest = B::float_slice(sums, &[Slice::full(), Slice::from(1..lanes)]);
    let all = tensors.into_iter().fold(first, |sum, x| {
        let x = f32s::<B>(x);
        let squares = B::float_sum(B::float_mul(x.clone(), x));
        B::float_add(sum, B::float_reshape(squares, [1, 1].into()))
    });
    B::float_cat(vec![all, rest], 1)
}

pub fn adamw<B: Backend>(
    value: FloatTensor<B>,
    grad: FloatTensor<B>,
    moments: FloatTensor<B>,
    factor: FloatTensor<B>,
    rule: AdamWRule,
) -> (FloatTensor<B>, FloatTensor<B>) {
    let times = |x: FloatTensor<B>, by: f32| B::float_mul_scalar(x, Scalar::from(by));
    let rows = value.shape()[0];
    let grad = B::float_mul(f32s::<B>(grad), factor);
    let square = B::float_mul(grad.clone(), grad.clone());
    let half = |from: usize| B::float_slice(moments.clone(), &[Slice::from(from..from + rows), Slice::full()]);
    let first = B::float_add(times(half(0), rule.beta1), times(grad, rule.rest1));
    let second = B::float_add(times(half(rows), rule.beta2), times(square, rule.rest2));
    let root = B::float_div_scalar(B::float_sqrt(second.clone()), Scalar::from(rule.correction));
    let update = B::float_div(first.clone(), B::float_add_scalar(root, Scalar::from(rule.epsilon)));
    let value = B::float_sub(times(value, rule.keep), times(update, rule.step));
    (value, B::float_cat(vec![first, second], 0))
}
