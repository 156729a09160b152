//! What Burn lacks or does slowly, as one backend extension: matrix products whose kernel we choose, rotary embedding,
//! the causal softmax, attention in parts and SwiGLU, each with its backward.
//!
//! An operand may be in 16 or 32 bits, whatever the others are in, and its gradient is in as many. All compute in 32.
//!
//! On wgpu devices they are WGSL ([`cube`]), on the CPU plain loops over Burn's own product ([`flex`]). On any other
//! CubeCL runtime (CUDA) they fall back to Burn's stock operations. Every one has a plain-Burn oracle in its tests.

mod attention;
mod autodiff;
mod calibrate;
pub mod ceilings;
pub mod choice;
mod cube;
mod flex;
pub mod measure;
mod packed;
mod stock;
mod wgsl;
mod work;

#[cfg(test)]
mod attention_tests;
#[cfg(test)]
mod cpu_tests;
#[cfg(test)]
mod cut_tests;
#[cfg(test)]
mod half_tests;
#[cfg(test)]
mod measure_tests;
#[cfg(test)]
mod tests;

pub use attention::{Together, keeps_weights, queries_at_once, takes_room};
pub use calibrate::{Calibration, Measured, calibrate};
pub use cube::{LEAST_SHARED, use_cores, use_kernels, use_stock};
pub use flex::relaxed_simd;
pub use packed::Packed;
pub use wgsl::Cores;

use burn::{
    backend::{
        Backend, Dispatch, TensorMetadata, backend_extension,
        tensor::{FloatTensor, IntTensor},
    },
    tensor::{DType, Gradients, Int, Shape, Tensor},
};

/// Which operands of a product are stored transposed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Layout {
    /// `A·B` with A `[batch, m, k]`, B `[batch, k, n]`.
    Nn,
    /// `A·Bᵀ` with B `[batch, n, k]`: how Hugging Face stores a linear layer.
    Nt,
    /// `Aᵀ·B` with A `[batch, k, m]`.
    Tn,
}

impl Layout {
    fn flags(self) -> (bool, bool) {
        (self == Self::Tn, self == Self::Nt)
    }
}

/// Of two operands with as many batches, or none.
pub(crate) fn product_shape(lhs: &Shape, rhs: &Shape, ta: bool, tb: bool) -> Shape {
    let ([.., m, k], [.., r, c]) = (lhs.as_slice(), rhs.as_slice()) else { return lhs.clone() };
    let mut shape = lhs.to_vec();
    let rank = shape.len();
    shape[rank - 2] = if ta { *k } else { *m };
    shape[rank - 1] = if tb { *r } else { *c };
    Shape::from(shape)
}

/// A matrix `[rows, columns]` in GGML's blocks of this number, see [`Packed`].
#[derive(Debug, Clone, Copy)]
pub struct Stored {
    pub kind: u32,
    pub rows: usize,
    pub columns: usize,
}

impl Stored {
    /// Columns of a product with it, or with its transpose.
    fn outputs(&self, transposed: bool) -> usize {
        if transposed { self.rows } else { self.columns }
    }

    /// And the length of that product's sums.
    fn inputs(&self, transposed: bool) -> usize {
        self.outputs(!transposed)
    }
}

/// Columns of the sums of [`KernelOps::add_squares`].
pub const LANES: usize = 64;

/// The numbers of an AdamW step, in PyTorch's order of operations.
#[derive(Debug, Clone, Copy)]
pub struct AdamWRule {
    /// What the moments are multiplied by, and what is added of the gradient and its square.
    pub beta1: f32,
    pub rest1: f32,
    pub beta2: f32,
    pub rest2: f32,
    pub epsilon: f32,
    /// `sqrt(1 − beta2ᵗ)`.
    pub correction: f32,
    /// Learning rate over `1 − beta1ᵗ`.
    pub step: f32,
    /// What the weight is multiplied by: `1 − rate · decay`.
    pub keep: f32,
}

/// The operations themselves, on a backend's own tensors.
#[backend_extension(Cube, Flex, Fusion: cfg(feature = "fusion"), Autodiff)]
pub trait KernelOps: Backend {
    /// `scale` times the product of two matrices or of as many pairs of them, given in `dtype`; `ta`/`tb` as in [`Layout`],
    /// never both.
    #[fusion(dtype = *dtype, shape = product_shape(lhs, rhs, *ta, *tb))]
    fn product(
        lhs: FloatTensor<Self>,
        rhs: FloatTensor<Self>,
        ta: bool,
        tb: bool,
        scale: f32,
        dtype: DType,
    ) -> FloatTensor<Self>;

    /// [`Self::product`] of several pairs, in a buffer that has room for so many numbers where that is of use: results of
    /// several sizes that come one after the other are then kept in the same memory.
    #[fusion(default)]
    fn product_in_room(
        lhs: FloatTensor<Self>,
        rhs: FloatTensor<Self>,
        ta: bool,
        tb: bool,
        dtype: DType,
        _room: usize,
    ) -> FloatTensor<Self> {
        Self::product(lhs, rhs, ta, tb, 1.0, dtype)
    }

    /// `sum` `[matrices, rows, columns]` with `lhsᵀ·rhs` added to each matrix's first rows, as many as `lhs` has columns.
    #[fusion(default)]
    fn product_onto(sum: FloatTensor<Self>, lhs: FloatTensor<Self>, rhs: FloatTensor<Self>) -> FloatTensor<Self> {
        attention::add::<Self>(sum, lhs, rhs)
    }

    /// `lhs·rhs + low·high` of matrices (`tb`: `lhs·rhsᵀ + low·highᵀ`), of which the second product is a thin one.
    #[fusion(dtype = lhs, shape = product_shape(lhs, rhs, false, *tb))]
    fn product_plus(
        lhs: FloatTensor<Self>,
        rhs: FloatTensor<Self>,
        low: FloatTensor<Self>,
        high: FloatTensor<Self>,
        tb: bool,
    ) -> FloatTensor<Self>;

    /// A linear layer with its adapter: `x·Wᵀ + scale · (x·Aᵀ)·Bᵀ` (LoRA, arXiv:2106.09685). `w` gets no gradient.
    #[fusion(default)]
    fn adapted(
        x: FloatTensor<Self>,
        w: FloatTensor<Self>,
        a: FloatTensor<Self>,
        b: FloatTensor<Self>,
        scale: f32,
    ) -> FloatTensor<Self> {
        let low = Self::product(x.clone(), a, false, true, scale, DType::F32);
        Self::product_plus(x, w, low, b, true)
    }

    /// Rotary embedding in Hugging Face's half-split pairing (RoFormer, arXiv:2104.09864).
    /// `x` is `[rows, seq, head_dim]`, `cos` and `sin` are `[seq, head_dim / 2]`; `inverse` turns the other way.
    #[fusion(dtype = x, shape = x.clone())]
    fn rotate(x: FloatTensor<Self>, cos: FloatTensor<Self>, sin: FloatTensor<Self>, inverse: bool)
    -> FloatTensor<Self>;

    /// `m ∘ x / sqrt(mean(x²) + eps)`, the mean over the columns of `x` `[rows, dim]`; `m` is `[rows, dim]` or `[1, dim]`.
    /// With a weight as `m` it is RMSNorm (arXiv:1910.07467); summed over the rows with a gradient as `m`, the weight's.
    #[fusion(dtype = x, shape = x.clone())]
    fn rms_scale(x: FloatTensor<Self>, m: FloatTensor<Self>, eps: f32) -> FloatTensor<Self>;

    /// Gradient of RMSNorm to its input, from the gradient `g` of its output:
    /// with `r = 1 / sqrt(mean(x²) + eps)` and `h = g ∘ w` it is `r·h − r³·x·mean(h ∘ x)`.
    #[fusion(dtype = x, shape = x.clone())]
    fn rms_norm_grad(x: FloatTensor<Self>, w: FloatTensor<Self>, g: FloatTensor<Self>, eps: f32) -> FloatTensor<Self>;

    /// `softmax(scale · scores)` over the last dimension of `[batch, rows, keys]`, where row `r` stands for query
    /// `r mod queries` and sees the keys up to `keys - queries + (r mod queries)`.
    #[fusion(dtype = *dtype, shape = scores.clone())]
    fn causal_softmax(scores: FloatTensor<Self>, queries: usize, scale: f32, dtype: DType) -> FloatTensor<Self>;

    /// As [`Self::causal_softmax`], of sequences that stand behind each other: `first` `[lines, queries]` says for each query
    /// the first key that it sees, from 0 up to its own. Matrix `m` of the scores goes by line `m mod lines`. The gradient is
    /// [`Self::causal_softmax_grad`].
    #[fusion(dtype = *dtype, shape = scores.clone())]
    fn segment_softmax(
        scores: FloatTensor<Self>,
        first: IntTensor<Self>,
        scale: f32,
        dtype: DType,
    ) -> FloatTensor<Self>;

    /// Gradient of [`Self::causal_softmax`] from its result `p` and the gradient `g` of that:
    /// `scale · p ∘ (g − Σ g∘p)`.
    #[fusion(dtype = *dtype, shape = p.clone())]
    fn causal_softmax_grad(p: FloatTensor<Self>, g: FloatTensor<Self>, scale: f32, dtype: DType) -> FloatTensor<Self>;

    /// `softmax(scale · q·kᵀ)·v` under the mask of [`Self::causal_softmax`], in the type of `v`: `q` is
    /// `[matrices, group · queries, dim]`, `k` and `v` are `[matrices, keys, dim]`. Queries go
    /// `together`, and no more scores than theirs exist at once, forward or backward.
    #[fusion(default)]
    fn attend(
        q: FloatTensor<Self>,
        k: FloatTensor<Self>,
        v: FloatTensor<Self>,
        queries: usize,
        scale: f32,
        together: Together,
    ) -> FloatTensor<Self> {
        attention::Attention::<Self> { q, k, v, first: None, queries, scale, together }.forward(false).0
    }

    /// [`Self::attend`] under the mask of [`Self::segment_softmax`].
    #[fusion(default)]
    fn attend_segments(
        q: FloatTensor<Self>,
        k: FloatTensor<Self>,
        v: FloatTensor<Self>,
        first: IntTensor<Self>,
        scale: f32,
        together: Together,
    ) -> FloatTensor<Self> {
        let queries = first.shape()[1];
        attention::Attention::<Self> { q, k, v, first: Some(first), queries, scale, together }.forward(false).0
    }

    /// `Σ exp(x − top)` over the columns of `x` `[rows, columns]` for `top` `[rows, 1]`; gives `[rows, 1]`, in 32 bits.
    #[fusion(default)]
    fn exp_sums(x: FloatTensor<Self>, top: FloatTensor<Self>) -> FloatTensor<Self> {
        stock::exp_sums::<Self>(x, top)
    }

    /// `exp(x − log_sum) ∘ scale` for `x` `[rows, columns]` and a number a row, `[rows, 1]`, of both others, in 32 bits: with
    /// `log_sum = log Σ exp(x)` the rows' softmax, each times a number.
    #[fusion(default)]
    fn exp_scaled(x: FloatTensor<Self>, log_sum: FloatTensor<Self>, scale: FloatTensor<Self>) -> FloatTensor<Self> {
        stock::exp_scaled::<Self>(x, log_sum, scale)
    }

    /// A number, `[1, 1]`, to go back from: the gradient to `x` is then `g`, which is of its shape and type. What the number
    /// is says nothing.
    #[fusion(default)]
    fn goal(x: FloatTensor<Self>, _g: FloatTensor<Self>) -> FloatTensor<Self> {
        stock::zero::<Self>(&x)
    }

    /// `silu(gate) ∘ up` (SwiGLU, arXiv:2002.05202), both of one type. With a gradient as `up` it is the gradient to `up`.
    #[fusion(dtype = gate, shape = gate.clone())]
    fn swiglu(gate: FloatTensor<Self>, up: FloatTensor<Self>) -> FloatTensor<Self>;

    /// Gradient of [`Self::swiglu`] to `gate`, from the gradient `g` of its result:
    /// with `s = 1 / (1 + exp(−gate))` it is `g ∘ up ∘ s ∘ (1 + gate ∘ (1 − s))`.
    #[fusion(dtype = gate, shape = gate.clone())]
    fn swiglu_grad(gate: FloatTensor<Self>, up: FloatTensor<Self>, g: FloatTensor<Self>) -> FloatTensor<Self>;

    /// `x·Wᵀ` (`transposed`) or `x·W` for a frozen matrix `[rows, columns]` in GGML's blocks, see [`Packed`].
    #[fusion(dtype = x, shape = Shape::from(vec![x[0], of.outputs(*transposed)]))]
    fn packed_product(x: FloatTensor<Self>, words: IntTensor<Self>, of: Stored, transposed: bool) -> FloatTensor<Self>;

    /// [`Self::packed_product`] plus `low·highᵀ` (`transposed`) or `low·high`.
    #[fusion(dtype = x, shape = Shape::from(vec![x[0], of.outputs(*transposed)]))]
    fn packed_product_plus(
        x: FloatTensor<Self>,
        words: IntTensor<Self>,
        low: FloatTensor<Self>,
        high: FloatTensor<Self>,
        of: Stored,
        transposed: bool,
    ) -> FloatTensor<Self>;

    /// [`Self::adapted`] on such a matrix.
    #[fusion(default)]
    fn packed_adapted(
        x: FloatTensor<Self>,
        words: IntTensor<Self>,
        a: FloatTensor<Self>,
        b: FloatTensor<Self>,
        of: Stored,
        scale: f32,
    ) -> FloatTensor<Self> {
        let low = Self::product(x.clone(), a, false, true, scale, DType::F32);
        Self::packed_product_plus(x, words, low, b, of, true)
    }

    /// `sums` `[1, LANES]` plus the squares of all numbers of five tensors, spread over its columns as it comes.
    #[fusion(dtype = sums, shape = sums.clone())]
    fn add_squares(
        sums: FloatTensor<Self>,
        a: FloatTensor<Self>,
        b: FloatTensor<Self>,
        c: FloatTensor<Self>,
        d: FloatTensor<Self>,
        e: FloatTensor<Self>,
    ) -> FloatTensor<Self>;

    /// A step of AdamW (arXiv:1711.05101) of a weight by its gradient times `factor` `[1, 1]`. `moments` has the first and
    /// below it the second one.
    #[fusion(meta = |value, _grad, moments, _factor, _rule| (value.clone(), moments.clone()))]
    fn adamw(
        value: FloatTensor<Self>,
        grad: FloatTensor<Self>,
        moments: FloatTensor<Self>,
        factor: FloatTensor<Self>,
        rule: AdamWRule,
    ) -> (FloatTensor<Self>, FloatTensor<Self>);

    /// Rows of such a matrix as numbers.
    #[fusion(dtype = DType::F32, shape = Shape::from(vec![ids[0], *columns]))]
    fn packed_rows(ids: IntTensor<Self>, words: IntTensor<Self>, kind: u32, columns: usize) -> FloatTensor<Self>;
}

/// Sum of the squares of all numbers of these tensors, `[1, 1]`; none of none.
pub fn squares(tensors: &[Tensor<2>]) -> Option<Tensor<2>> {
    let device = tensors.first()?.device();
    let mut sums = Tensor::<2>::zeros([1, LANES], &device);
    for five in tensors.chunks(5) {
        // Each filler is one of its own: WebGPU binds no buffer twice that could be written.
        let at = |i: usize| five.get(i).cloned().unwrap_or_else(|| Tensor::zeros([1, 1], &device)).into_dispatch();
        sums = Tensor::from_dispatch(Dispatch::add_squares(sums.into_dispatch(), at(0), at(1), at(2), at(3), at(4)));
    }
    Some(sums.sum_dim(1))
}

/// The weight and its moments after a step, see [`KernelOps::adamw`].
pub fn adamw(
    value: Tensor<2>,
    grad: Tensor<2>,
    moments: Tensor<2>,
    factor: Tensor<2>,
    rule: AdamWRule,
) -> (Tensor<2>, Tensor<2>) {
    let (value, grad, moments) = (value.into_dispatch(), grad.into_dispatch(), moments.into_dispatch());
    let (value, moments) = Dispatch::adamw(value, grad, moments, factor.into_dispatch(), rule);
    (Tensor::from_dispatch(value), Tensor::from_dispatch(moments))
}

/// Batched matrix product of `[batch, ·, ·]` tensors in the given [`Layout`]; its numbers are of `lhs`' type.
pub fn product(lhs: Tensor<3>, rhs: Tensor<3>, layout: Layout) -> Tensor<3> {
    let dtype = lhs.dtype();
    product_as(dtype, lhs, rhs, layout)
}

/// [`product`] in another type than `lhs`'.
pub fn product_as(dtype: DType, lhs: Tensor<3>, rhs: Tensor<3>, layout: Layout) -> Tensor<3> {
    let (ta, tb) = layout.flags();
    Tensor::from_dispatch(Dispatch::product(lhs.into_dispatch(), rhs.into_dispatch(), ta, tb, 1.0, dtype))
}

/// [`product`] of two matrices.
pub fn matmul(lhs: Tensor<2>, rhs: Tensor<2>, layout: Layout) -> Tensor<2> {
    let (dtype, (ta, tb)) = (lhs.dtype(), layout.flags());
    Tensor::from_dispatch(Dispatch::product(lhs.into_dispatch(), rhs.into_dispatch(), ta, tb, 1.0, dtype))
}

/// `x·Wᵀ + scale · (x·Aᵀ)·Bᵀ` for `x` `[rows, in]`, a frozen `w` `[out, in]`, `a` `[r, in]` and `b` `[out, r]`.
pub fn adapted(x: Tensor<2>, w: Tensor<2>, a: Tensor<2>, b: Tensor<2>, scale: f32) -> Tensor<2> {
    let (x, w, a, b) = (x.into_dispatch(), w.into_dispatch(), a.into_dispatch(), b.into_dispatch());
    Tensor::from_dispatch(Dispatch::adapted(x, w, a, b, scale))
}

/// `x·Wᵀ` for `x` `[rows, in]` and a weight `[out, in]` as Hugging Face stores it; gives `[rows, out]`.
pub fn linear(x: Tensor<2>, weight: Tensor<2>) -> Tensor<2> {
    matmul(x, weight, Layout::Nt)
}

/// Rotary embedding of `[batch, heads, seq, head_dim]` by `cos` and `sin` of `[seq, head_dim / 2]`.
pub fn rotate(x: Tensor<4>, cos: Tensor<2>, sin: Tensor<2>) -> Tensor<4> {
    let [batch, heads, seq, dim] = x.dims();
    let x: Tensor<3> = x.reshape([batch * heads, seq, dim]);
    let y: Tensor<3> =
        Tensor::from_dispatch(Dispatch::rotate(x.into_dispatch(), cos.into_dispatch(), sin.into_dispatch(), false));
    y.reshape([batch, heads, seq, dim])
}

/// RMSNorm of `[rows, dim]` with a weight `[1, dim]`.
pub fn rms_norm(x: Tensor<2>, weight: Tensor<2>, eps: f64) -> Tensor<2> {
    Tensor::from_dispatch(Dispatch::rms_scale(x.into_dispatch(), weight.into_dispatch(), eps as f32))
}

/// Softmax of scaled attention scores `[batch, rows, keys]` under the causal mask, given in `dtype`; see
/// [`KernelOps::causal_softmax`].
pub fn causal_softmax(scores: Tensor<3>, queries: usize, scale: f32, dtype: DType) -> Tensor<3> {
    Tensor::from_dispatch(Dispatch::causal_softmax(scores.into_dispatch(), queries, scale, dtype))
}

/// [`causal_softmax`] of sequences that stand behind each other, each of which sees itself alone: `first` `[lines, queries]`
/// is the first key of each query, and matrix `m` of the scores goes by line `m mod lines`.
pub fn segment_softmax(scores: Tensor<3>, first: Tensor<2, Int>, scale: f32, dtype: DType) -> Tensor<3> {
    Tensor::from_dispatch(Dispatch::segment_softmax(scores.into_dispatch(), first.into_dispatch(), scale, dtype))
}

/// Causal attention `softmax(scale · q·kᵀ)·v`, which keeps nothing but the three for its backward, and of short sequences
/// the weights ([`keeps_weights`]). So many queries as [`queries_at_once`] says go together: no scores of them all exist.
/// `room` is [`Together`]'s.
///
/// # Shapes
/// `q` `[matrices, group · queries, dim]`, of which row `r` stands for query `r mod queries`; `k`, `v`
/// `[matrices, keys, dim]`, of which the last `queries` stand where the queries do → as `q`
pub fn attention(q: Tensor<3>, k: Tensor<3>, v: Tensor<3>, queries: usize, scale: f32, room: usize) -> Tensor<3> {
    let together = Together { queries: queries_at_once(q.dims()[2]), room };
    let (q, k, v) = (q.into_dispatch(), k.into_dispatch(), v.into_dispatch());
    Tensor::from_dispatch(Dispatch::attend(q, k, v, queries, scale, together))
}

/// [`attention`] of sequences that stand behind each other, see [`segment_softmax`].
pub fn segment_attention(
    q: Tensor<3>,
    k: Tensor<3>,
    v: Tensor<3>,
    first: Tensor<2, Int>,
    scale: f32,
    room: usize,
) -> Tensor<3> {
    let together = Together { queries: queries_at_once(q.dims()[2]), room };
    let (q, k, v) = (q.into_dispatch(), k.into_dispatch(), v.into_dispatch());
    Tensor::from_dispatch(Dispatch::attend_segments(q, k, v, first.into_dispatch(), scale, together))
}

/// `Σ exp(x − top)` of each row of `x` `[rows, columns]`; `top` and what comes out are `[rows, 1]`.
pub fn exp_sums(x: Tensor<2>, top: Tensor<2>) -> Tensor<2> {
    Tensor::from_dispatch(Dispatch::exp_sums(x.into_dispatch(), top.into_dispatch()))
}

/// `exp(x − log_sum) ∘ scale` of `x` `[rows, columns]` with `log_sum` and `scale` `[rows, 1]`.
pub fn exp_scaled(x: Tensor<2>, log_sum: Tensor<2>, scale: Tensor<2>) -> Tensor<2> {
    let (x, log_sum, scale) = (x.into_dispatch(), log_sum.into_dispatch(), scale.into_dispatch());
    Tensor::from_dispatch(Dispatch::exp_scaled(x, log_sum, scale))
}

/// Gradients to all that `x` was made of, where the gradient to `x` is `g`. As `(x ∘ g).sum().backward()`, without the two
/// tensors of that size which this makes on its way, and their launches.
pub fn backward_from(x: Tensor<2>, g: Tensor<2>) -> Gradients {
    let goal = Dispatch::goal(x.into_dispatch(), g.autodiff().into_dispatch());
    Tensor::<2>::from_dispatch(goal).backward()
}

/// `silu(gate) ∘ up`, which keeps nothing but the two for its backward.
pub fn swiglu(gate: Tensor<2>, up: Tensor<2>) -> Tensor<2> {
    Tensor::from_dispatch(Dispatch::swiglu(gate.into_dispatch(), up.into_dispatch()))
}
