//! What Burn lacks or does slowly, as one backend extension: matrix products whose kernel we choose, rotary embedding,
//! the causal softmax and SwiGLU, each with its backward.
//!
//! An operand may be in 16 or 32 bits, whatever the others are in, and its gradient is in as many. All compute in 32.
//!
//! On wgpu devices they are WGSL ([`cube`]), on the CPU plain loops over Burn's own product ([`flex`]). On any other
//! CubeCL runtime (CUDA) they fall back to Burn's stock operations. Every one has a plain-Burn oracle in its tests.

mod autodiff;
mod cube;
mod flex;
pub mod measure;
mod packed;
mod stock;
mod wgsl;

#[cfg(test)]
mod cpu_tests;
#[cfg(test)]
mod cut_tests;
#[cfg(test)]
mod half_tests;
#[cfg(test)]
mod tests;

pub use cube::{use_card, use_stock};
pub use packed::Packed;
pub use wgsl::Card;

use burn::{
    backend::{
        Backend, Dispatch, backend_extension,
        tensor::{FloatTensor, IntTensor},
    },
    tensor::{DType, Shape, Tensor},
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

pub(crate) fn product_shape(lhs: &Shape, rhs: &Shape, ta: bool, tb: bool) -> Shape {
    Shape::from(vec![lhs[0], lhs[if ta { 2 } else { 1 }], rhs[if tb { 1 } else { 2 }]])
}

/// The operations themselves, on a backend's own tensors.
#[backend_extension(Cube, Flex, Fusion, Autodiff)]
pub trait KernelOps: Backend {
    /// Batched product of rank-3 tensors, given in `dtype`; `ta`/`tb` as in [`Layout`], never both.
    #[fusion(dtype = *dtype, shape = product_shape(lhs, rhs, *ta, *tb))]
    fn product(lhs: FloatTensor<Self>, rhs: FloatTensor<Self>, ta: bool, tb: bool, dtype: DType) -> FloatTensor<Self>;

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

    /// Gradient of [`Self::causal_softmax`] from its result `p` and the gradient `g` of that:
    /// `scale · p ∘ (g − Σ g∘p)`.
    #[fusion(dtype = *dtype, shape = p.clone())]
    fn causal_softmax_grad(p: FloatTensor<Self>, g: FloatTensor<Self>, scale: f32, dtype: DType) -> FloatTensor<Self>;

    /// `silu(gate) ∘ up` (SwiGLU, arXiv:2002.05202), both of one type. With a gradient as `up` it is the gradient to `up`.
    #[fusion(dtype = gate, shape = gate.clone())]
    fn swiglu(gate: FloatTensor<Self>, up: FloatTensor<Self>) -> FloatTensor<Self>;

    /// Gradient of [`Self::swiglu`] to `gate`, from the gradient `g` of its result:
    /// with `s = 1 / (1 + exp(−gate))` it is `g ∘ up ∘ s ∘ (1 + gate ∘ (1 − s))`.
    #[fusion(dtype = gate, shape = gate.clone())]
    fn swiglu_grad(gate: FloatTensor<Self>, up: FloatTensor<Self>, g: FloatTensor<Self>) -> FloatTensor<Self>;

    /// `x·Wᵀ` (`transposed`) or `x·W` for a frozen matrix `[rows, columns]` in GGML's blocks, see [`Packed`].
    #[fusion(dtype = x, shape = Shape::from(vec![x[0], if *transposed { *rows } else { *columns }]))]
    fn packed_product(
        x: FloatTensor<Self>,
        words: IntTensor<Self>,
        kind: u32,
        rows: usize,
        columns: usize,
        transposed: bool,
    ) -> FloatTensor<Self>;

    /// Rows of such a matrix as numbers.
    #[fusion(dtype = DType::F32, shape = Shape::from(vec![ids[0], *columns]))]
    fn packed_rows(ids: IntTensor<Self>, words: IntTensor<Self>, kind: u32, columns: usize) -> FloatTensor<Self>;
}

/// Batched matrix product of `[batch, ·, ·]` tensors in the given [`Layout`]; its numbers are of `lhs`' type.
pub fn product(lhs: Tensor<3>, rhs: Tensor<3>, layout: Layout) -> Tensor<3> {
    let dtype = lhs.dtype();
    product_as(dtype, lhs, rhs, layout)
}

/// [`product`] in another type than `lhs`'.
pub fn product_as(dtype: DType, lhs: Tensor<3>, rhs: Tensor<3>, layout: Layout) -> Tensor<3> {
    let (ta, tb) = layout.flags();
    Tensor::from_dispatch(Dispatch::product(lhs.into_dispatch(), rhs.into_dispatch(), ta, tb, dtype))
}

/// [`product`] of two matrices.
pub fn matmul(lhs: Tensor<2>, rhs: Tensor<2>, layout: Layout) -> Tensor<2> {
    let y = product(lhs.unsqueeze_dim::<3>(0), rhs.unsqueeze_dim::<3>(0), layout);
    let [_, rows, columns] = y.dims();
    y.reshape([rows, columns])
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

/// `silu(gate) ∘ up`, which keeps nothing but the two for its backward.
pub fn swiglu(gate: Tensor<2>, up: Tensor<2>) -> Tensor<2> {
    Tensor::from_dispatch(Dispatch::swiglu(gate.into_dispatch(), up.into_dispatch()))
}
