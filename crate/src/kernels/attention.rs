//! Attention whose scores are never all there: queries go a part at a time, each part with the keys up to its last query.
//! Backward needs queries, keys and values alone; a part's weights are computed again when their turn comes, as in
//! FlashAttention (arXiv:2205.14135), out of the backend's own products.
//!
//! So memory grows with the length of a sequence, not with its square: a part's scores are as many numbers as queries and
//! output, see [`queries_at_once`]. Short sequences keep their weights, see [`keeps_weights`]: that saves one of backward's
//! five products.

use std::ops::Range;

use burn::{
    backend::{
        Autodiff, TensorMetadata,
        autodiff::{
            checkpoint::{base::Checkpointer, strategy::CheckpointStrategy},
            grads::Gradients,
            ops::{Backward, NodeGuard, Ops, OpsKind},
        },
        tensor::{FloatTensor, IntTensor},
    },
    tensor::{DType, Slice},
};

use super::KernelOps;

/// Queries of a part at least: fewer make thin products.
pub const LEAST_QUERIES: usize = 128;

/// Queries of a sequence that go together in heads of so many numbers: their scores, `heads · part · keys`, take no more
/// than all queries and output do. By the shape alone: the same run has the same sums everywhere.
pub fn queries_at_once(dim: usize) -> usize {
    // Parts then end at multiples of 32 keys, which products read fastest.
    (2 * dim / 32 * 32).max(LEAST_QUERIES)
}

/// Whether weights are kept for backward: where they take no more than queries and output do, which is
/// `heads · queries · keys` numbers against twice `heads · queries · dim`.
pub fn keeps_weights(keys: usize, dim: usize) -> bool {
    keys <= 2 * dim
}

/// How the queries of a sequence go together.
#[derive(Debug, Clone, Copy)]
pub struct Together {
    pub queries: usize,
    /// Numbers of tensors in 32 bits that are never there with a part's scores. Where pools go by size the same memory
    /// serves both if scores have as much room, which they take if they do not need less than half of it.
    pub room: usize,
}

/// Whether a part's scores, so many, take room for as many numbers.
pub fn takes_room(scores: usize, room: usize) -> bool {
    (scores..=scores.saturating_mul(2)).contains(&room)
}

/// What attention is computed from. Row `r` of the queries stands for query `r mod queries`.
#[derive(Clone, Debug)]
pub struct Attention<B: KernelOps> {
    /// `[matrices, group · queries, dim]`.
    pub q: FloatTensor<B>,
    /// `[matrices, keys, dim]`; the last `queries` of them are the queries' own.
    pub k: FloatTensor<B>,
    /// As `k`.
    pub v: FloatTensor<B>,
    /// `[lines, queries]`, see [`KernelOps::segment_softmax`].
    pub first: Option<IntTensor<B>>,
    pub queries: usize,
    /// On the scores.
    pub scale: f32,
    pub together: Together,
}

impl<B: KernelOps> Attention<B> {
    /// Which queries go together.
    fn parts(&self) -> Vec<Range<usize>> {
        let part = self.together.queries.max(1);
        (0..self.queries.max(1)).step_by(part).map(|from| from..(from + part).min(self.queries)).collect()
    }

    /// A part's queries of `[matrices, group · queries, dim]`.
    fn rows(&self, x: &FloatTensor<B>, part: &Range<usize>) -> FloatTensor<B> {
        if part.len() == self.queries {
            return x.clone();
        }
        let shape = x.shape();
        let (matrices, group, dim) = (shape[0], shape[1] / self.queries, shape[2]);
        if group == 1 {
            return B::float_slice(x.clone(), &[Slice::full(), Slice::from(part.clone())]);
        }
        let x = B::float_reshape(x.clone(), [matrices, group, self.queries, dim].into());
        let place = [Slice::full(), Slice::full(), Slice::from(part.clone()), Slice::full()];
        B::float_reshape(B::float_slice(x, &place), [matrices, group * part.len(), dim].into())
    }

    /// The parts' rows put together again.
    fn whole(&self, parts: Vec<FloatTensor<B>>) -> FloatTensor<B> {
        if let [one] = parts.as_slice() {
            return one.clone();
        }
        let group = self.q.shape()[1] / self.queries;
        let by_heads = |x: FloatTensor<B>| {
            let shape = x.shape();
            B::float_reshape(x, [shape[0], group, shape[1] / group, shape[2]].into())
        };
        let all = B::float_cat(parts.into_iter().map(by_heads).collect(), 2);
        let shape = all.shape();
        B::float_reshape(all, [shape[0], group * self.queries, shape[3]].into())
    }

    /// Those keys, or their values, that some query of a part sees.
    fn seen(&self, x: &FloatTensor<B>, part: &Range<usize>) -> FloatTensor<B> {
        let keys = x.shape()[1];
        let seen = keys - self.queries + part.end;
        if seen == keys {
            return x.clone();
        }
        B::float_slice(x.clone(), &[Slice::full(), Slice::from(0..seen), Slice::full()])
    }

    /// Of a whole part's scores that see all keys. What is `kept` takes what it needs.
    fn room(&self, kept: bool) -> usize {
        let (q, k) = (self.q.shape(), self.k.shape());
        let Together { queries, room } = self.together;
        let least = q[0] * (q[1] / self.queries.max(1)) * queries.min(self.queries) * k[1];
        if !kept && takes_room(least, room) { room } else { least }
    }

    /// A part's weights, from its queries and the keys that it sees, in the values' type.
    fn weights(&self, q: FloatTensor<B>, k: FloatTensor<B>, part: &Range<usize>, kept: bool) -> FloatTensor<B> {
        // Scores of large heads go beyond 16 bits' range.
        let scores = B::product_in_room(q, k, false, true, DType::F32, self.room(kept));
        let dtype = self.v.dtype();
        let Some(first) = self.first.clone() else {
            return B::causal_softmax(scores, part.len(), self.scale, dtype);
        };
        let first = match part.len() == self.queries {
            true => first,
            false => B::int_slice(first, &[Slice::full(), Slice::from(part.clone())]),
        };
        B::segment_softmax(scores, first, self.scale, dtype)
    }

    /// What the queries get, shaped as they are and in the values' type, and with `keep` each part's weights.
    pub fn forward(&self, keep: bool) -> (FloatTensor<B>, Vec<FloatTensor<B>>) {
        let (mut outs, mut kept) = (Vec::new(), Vec::new());
        for part in self.parts() {
            let weights = self.weights(self.rows(&self.q, &part), self.seen(&self.k, &part), &part, keep);
            if keep {
                kept.push(weights.clone());
            }
            outs.push(B::product(weights, self.seen(&self.v, &part), false, false, 1.0, self.v.dtype()));
        }
        (self.whole(outs), kept)
    }

    /// Gradients to queries, keys and values, those that are `wanted`, each in its operand's type, from the gradient of
    /// [`Self::forward`]'s result and the weights that it kept, if any.
    ///
    /// With weights `p` and the result's gradient `g`: `dv = pᵀ·g`, `ds = scale · p ∘ (g·vᵀ − Σ p∘(g·vᵀ))`, `dq = ds·k` and
    /// `dk = dsᵀ·q`.
    pub fn backward(
        &self,
        mut kept: Vec<FloatTensor<B>>,
        g: &FloatTensor<B>,
        [to_q, to_k, to_v]: [bool; 3],
    ) -> [Option<FloatTensor<B>>; 3] {
        let parts = self.parts();
        // Sums over several parts are rounded once, at their end.
        let sums = |of: &FloatTensor<B>| if parts.len() == 1 { of.dtype() } else { DType::F32 };
        let (mut dq, mut dk, mut dv) = (Vec::new(), None, None);
        // The last part sees all keys: what earlier ones give is added to the beginning of that.
        for part in parts.iter().rev() {
            let (q, g) = (self.rows(&self.q, part), self.rows(g, part));
            let k = self.seen(&self.k, part);
            let p = kept.pop().unwrap_or_else(|| self.weights(q.clone(), k.clone(), part, false));
            if to_v {
                dv = Some(onto::<B>(dv, p.clone(), g.clone(), sums(&self.v)));
            }
            if !to_q && !to_k {
                continue;
            }
            let dp = B::product_in_room(g, self.seen(&self.v, part), false, true, p.dtype(), self.room(false));
            let ds = B::causal_softmax_grad(p, dp, self.scale, DType::F32);
            if to_k {
                dk = Some(onto::<B>(dk, ds.clone(), q, sums(&self.k)));
            }
            if to_q {
                dq.push(B::product(ds, k, false, false, 1.0, self.q.dtype()));
            }
        }
        dq.reverse();
        let rounded = |sum: FloatTensor<B>, of: &FloatTensor<B>| match of.dtype() {
            dtype if dtype == sum.dtype() => sum,
            dtype => B::float_cast(sum, dtype.into()),
        };
        [to_q.then(|| self.whole(dq)), dk.map(|dk| rounded(dk, &self.k)), dv.map(|dv| rounded(dv, &self.v))]
    }
}

/// `lhsᵀ·rhs`, or the sum of the parts so far with that added to its first keys.
fn onto<B: KernelOps>(
    sum: Option<FloatTensor<B>>,
    lhs: FloatTensor<B>,
    rhs: FloatTensor<B>,
    dtype: DType,
) -> FloatTensor<B> {
    match sum {
        None => B::product(lhs, rhs, true, false, 1.0, dtype),
        Some(sum) => B::product_onto(sum, lhs, rhs),
    }
}

/// [`KernelOps::product_onto`] out of other operations.
pub fn add<B: KernelOps>(sum: FloatTensor<B>, lhs: FloatTensor<B>, rhs: FloatTensor<B>) -> FloatTensor<B> {
    let part = B::product(lhs, rhs, true, false, 1.0, sum.dtype());
    let place = [Slice::full(), Slice::from(0..part.shape()[1]), Slice::full()];
    let part = B::float_add(part, B::float_slice(sum.clone(), &place));
    B::float_slice_assign(sum, &place, part)
}

/// As a step of autodiff, which keeps the operands and, of short sequences, the weights. `nodes` are those of queries, keys
/// and values.
pub fn tracked<B: KernelOps, C: CheckpointStrategy>(
    nodes: [NodeGuard; 3],
    of: Attention<B>,
) -> FloatTensor<Autodiff<B, C>> {
    #[derive(Debug)]
    struct Attend;

    impl<B: KernelOps> Backward<B, 3> for Attend {
        type State = (Attention<B>, Vec<FloatTensor<B>>);

        fn backward(self, ops: Ops<Self::State, 3>, grads: &mut Gradients, _checkpointer: &mut Checkpointer) {
            let (of, kept) = ops.state;
            let grad = grads.consume::<B>(&ops.node);
            let found = of.backward(kept, &grad, ops.parents.each_ref().map(Option::is_some));
            for (node, grad) in ops.parents.into_iter().zip(found) {
                if let (Some(node), Some(grad)) = (node, grad) {
                    grads.register::<B>(node.id, grad);
                }
            }
        }
    }

    match Attend.prepare::<C>(nodes).compute_bound().stateful() {
        OpsKind::Tracked(prep) => {
            let shape = of.k.shape();
            let (out, kept) = of.forward(keeps_weights(shape[1], shape[2]));
            prep.finish((of, kept), out)
        }
        OpsKind::UnTracked(prep) => prep.finish(of.forward(false).0),
    }
}
