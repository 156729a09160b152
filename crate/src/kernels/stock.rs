//! The same operations in Burn's stock ones: the fallback where neither WGSL nor our loops apply.

use burn::{
    backend::{
        Backend, TensorMetadata,
        tensor::{Device, FloatTensor},
    },
    tensor::{Scalar, Slice, TensorData},
};

pub fn product<B: Backend>(lhs: FloatTensor<B>, rhs: FloatTensor<B>, ta: bool, tb: bool) -> FloatTensor<B> {
    let lhs = if ta { B::float_swap_dims(lhs, 1, 2) } else { lhs };
    let rhs = if tb { B::float_swap_dims(rhs, 1, 2) } else { rhs };
    B::float_matmul(lhs, rhs)
}

pub fn rotate<B: Backend>(
    x: FloatTensor<B>,
    cos: FloatTensor<B>,
    sin: FloatTensor<B>,
    inverse: bool,
) -> FloatTensor<B> {
    let dim = x.shape()[2];
    let half = |from: usize, to: usize| [Slice::full(), Slice::full(), Slice::from(from..to)];
    let lift = |t: FloatTensor<B>| {
        let shape = t.shape();
        B::float_reshape(t, [1, shape[0], shape[1]].into())
    };
    let (cos, sin) = (lift(cos), lift(sin));
    let sin = if inverse { B::float_neg(sin) } else { sin };
    let a = B::float_slice(x.clone(), &half(0, dim / 2));
    let b = B::float_slice(x, &half(dim / 2, dim));
    let first = B::float_sub(B::float_mul(a.clone(), cos.clone()), B::float_mul(b.clone(), sin.clone()));
    let second = B::float_add(B::float_mul(b, cos), B::float_mul(a, sin));
    B::float_cat(vec![first, second], 2)
}

fn inverse_rms<B: Backend>(x: FloatTensor<B>, eps: f32) -> FloatTensor<B> {
    let mean = B::float_mean_dim(B::float_mul(x.clone(), x), 1);
    B::float_recip(B::float_sqrt(B::float_add_scalar(mean, Scalar::from(eps))))
}

pub fn rms_scale<B: Backend>(x: FloatTensor<B>, m: FloatTensor<B>, eps: f32) -> FloatTensor<B> {
    let r = inverse_rms::<B>(x.clone(), eps);
    B::float_mul(B::float_mul(x, r), m)
}

pub fn rms_norm_grad<B: Backend>(x: FloatTensor<B>, w: FloatTensor<B>, g: FloatTensor<B>, eps: f32) -> FloatTensor<B> {
    let r = inverse_rms::<B>(x.clone(), eps);
    let h = B::float_mul(g, w);
    let mean = B::float_mean_dim(B::float_mul(h.clone(), x.clone()), 1);
    let cubed = B::float_mul(B::float_mul(r.clone(), r.clone()), r.clone());
    B::float_sub(B::float_mul(h, r), B::float_mul(x, B::float_mul(cubed, mean)))
}

pub fn causal_softmax<B: Backend>(
    scores: FloatTensor<B>,
    queries: usize,
    scale: f32,
    device: &Device<B>,
) -> FloatTensor<B> {
    let shape = scores.shape();
    let (rows, keys) = (shape[1], shape[2]);
    let mut mask = vec![0f32; rows * keys];
    for (r, row) in mask.chunks_mut(keys).enumerate() {
        row[keys - queries + r % queries + 1..].fill(f32::MIN);
    }
    let mask = B::float_from_data(TensorData::new(mask, [1, rows, keys]), device);
    let x = B::float_add(B::float_mul_scalar(scores, Scalar::from(scale)), mask);
    let x = B::float_exp(B::float_sub(x.clone(), B::float_max_dim(x, 2)));
    B::float_div(x.clone(), B::float_sum_dim(x, 2))
}

pub fn causal_softmax_grad<B: Backend>(p: FloatTensor<B>, g: FloatTensor<B>, scale: f32) -> FloatTensor<B> {
    let dot = B::float_sum_dim(B::float_mul(p.clone(), g.clone()), 2);
    B::float_mul_scalar(B::float_mul(p, B::float_sub(g, dot)), Scalar::from(scale))
}
