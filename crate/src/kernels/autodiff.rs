//! Backward passes, once for every backend.

use burn::backend::{
    Autodiff,
    autodiff::{
        NodeId,
        checkpoint::{base::Checkpointer, strategy::CheckpointStrategy},
        grads::Gradients,
        ops::{Backward, Ops, OpsKind},
    },
    tensor::{FloatTensor, IntTensor},
};
use burn::{
    backend::{TensorMetadata, ops::FloatTensorOps},
    tensor::DType,
};

use super::{
    AdamWRule, KernelOps, Stored, Together,
    attention::{self, Attention},
};

impl<B: KernelOps, C: CheckpointStrategy> KernelOps for Autodiff<B, C> {
    fn product(
        lhs: FloatTensor<Self>,
        rhs: FloatTensor<Self>,
        ta: bool,
        tb: bool,
        scale: f32,
        dtype: DType,
    ) -> FloatTensor<Self> {
        #[derive(Debug)]
        struct Product;

        impl<B: KernelOps> Backward<B, 2> for Product {
            /// The operands that are needed, how they stood, the scale, and their types, which are their gradients'.
            type State = ([Option<NodeId>; 2], [bool; 2], f32, [DType; 2]);

            // With C = A·B: dA = dC·Bᵀ and dB = Aᵀ·dC; a transposed operand takes the transpose of its gradient.
            fn backward(self, ops: Ops<Self::State, 2>, grads: &mut Gradients, checkpointer: &mut Checkpointer) {
                let [lhs_node, rhs_node] = ops.parents;
                let ([lhs, rhs], [ta, tb], scale, [lhs_type, rhs_type]) = ops.state;
                let grad = grads.consume::<B>(&ops.node);
                // The right one's first: a layer's input is then gone before the gradient to it is there.
                if let (Some(node), Some(lhs)) = (rhs_node, lhs) {
                    let lhs = checkpointer.retrieve_node_output::<FloatTensor<B>>(lhs);
                    let g = if tb {
                        B::product(grad.clone(), lhs, true, false, scale, rhs_type)
                    } else {
                        B::product(lhs, grad.clone(), !ta, false, scale, rhs_type)
                    };
                    grads.register::<B>(node.id, g);
                }
                if let (Some(node), Some(rhs)) = (lhs_node, rhs) {
                    let rhs = checkpointer.retrieve_node_output::<FloatTensor<B>>(rhs);
                    let g = if ta {
                        B::product(rhs, grad, false, true, scale, lhs_type)
                    } else {
                        B::product(grad, rhs, false, !tb, scale, lhs_type)
                    };
                    grads.register::<B>(node.id, g);
                }
            }
        }

        // An operand is kept only for the sake of the other one's gradient: a frozen weight costs no activation.
        let (keep_lhs, keep_rhs) = (rhs.is_tracked(), lhs.is_tracked());
        match Product.prepare::<C>([lhs.node(), rhs.node()]).compute_bound().stateful() {
            OpsKind::Tracked(mut prep) => {
                let kept = [keep_lhs.then(|| prep.checkpoint(&lhs)), keep_rhs.then(|| prep.checkpoint(&rhs))];
                let types = [lhs.primitive().dtype(), rhs.primitive().dtype()];
                let out = B::product(lhs.primitive().clone(), rhs.primitive().clone(), ta, tb, scale, dtype);
                prep.finish((kept, [ta, tb], scale, types), out)
            }
            OpsKind::UnTracked(prep) => {
                prep.finish(B::product(lhs.primitive().clone(), rhs.primitive().clone(), ta, tb, scale, dtype))
            }
        }
    }

    fn product_plus(
        lhs: FloatTensor<Self>,
        rhs: FloatTensor<Self>,
        low: FloatTensor<Self>,
        high: FloatTensor<Self>,
        tb: bool,
    ) -> FloatTensor<Self> {
        // Only `adapted` calls it, on the inner backend; two products keep it differentiable anyway.
        let dtype = lhs.primitive().dtype();
        let base = Self::product(lhs, rhs, false, tb, 1.0, dtype);
        Self::float_add(base, Self::product(low, high, false, tb, 1.0, dtype))
    }

    fn adapted(
        x: FloatTensor<Self>,
        w: FloatTensor<Self>,
        a: FloatTensor<Self>,
        b: FloatTensor<Self>,
        scale: f32,
    ) -> FloatTensor<Self> {
        #[derive(Debug)]
        struct Adapted;

        impl<B: KernelOps> Backward<B, 3> for Adapted {
            type State = (FloatTensor<B>, FloatTensor<B>, Low<B>);

            fn backward(self, ops: Ops<Self::State, 3>, grads: &mut Gradients, _checkpointer: &mut Checkpointer) {
                let (x, w, low) = ops.state;
                let grad = grads.consume::<B>(&ops.node);
                low.back(ops.parents.map(|node| node.map(|node| node.id)), x, grad, grads, |grad, thin, a| {
                    B::product_plus(grad, w, thin, a, false)
                });
            }
        }

        let (x_node, inner, w) = (x.node(), x.primitive().clone(), w.primitive().clone());
        match Adapted.prepare::<C>([x_node, a.node(), b.node()]).compute_bound().stateful() {
            OpsKind::Tracked(prep) => {
                let low = Low::<B>::new(inner.clone(), a.primitive().clone(), b.primitive().clone(), scale);
                let out = B::product_plus(inner.clone(), w.clone(), low.low.clone(), low.b.clone(), true);
                prep.finish((inner, w, low), out)
            }
            OpsKind::UnTracked(prep) => {
                prep.finish(B::adapted(inner, w, a.primitive().clone(), b.primitive().clone(), scale))
            }
        }
    }

    fn rotate(
        x: FloatTensor<Self>,
        cos: FloatTensor<Self>,
        sin: FloatTensor<Self>,
        inverse: bool,
    ) -> FloatTensor<Self> {
        #[derive(Debug)]
        struct Rotate;

        impl<B: KernelOps> Backward<B, 1> for Rotate {
            type State = (FloatTensor<B>, FloatTensor<B>, bool);

            // A rotation's transpose is the rotation back.
            fn backward(self, ops: Ops<Self::State, 1>, grads: &mut Gradients, _checkpointer: &mut Checkpointer) {
                let [node] = ops.parents;
                let grad = grads.consume::<B>(&ops.node);
                if let Some(node) = node {
                    let (cos, sin, inverse) = ops.state;
                    grads.register::<B>(node.id, B::rotate(grad, cos, sin, !inverse));
                }
            }
        }

        let (cos, sin) = (cos.primitive().clone(), sin.primitive().clone());
        match Rotate.prepare::<C>([x.node()]).compute_bound().stateful() {
            OpsKind::Tracked(prep) => {
                prep.finish((cos.clone(), sin.clone(), inverse), B::rotate(x.primitive().clone(), cos, sin, inverse))
            }
            OpsKind::UnTracked(prep) => prep.finish(B::rotate(x.primitive().clone(), cos, sin, inverse)),
        }
    }

    fn rms_scale(x: FloatTensor<Self>, m: FloatTensor<Self>, eps: f32) -> FloatTensor<Self> {
        #[derive(Debug)]
        struct RmsNorm;

        impl<B: KernelOps> Backward<B, 2> for RmsNorm {
            type State = (FloatTensor<B>, FloatTensor<B>, f32);

            fn backward(self, ops: Ops<Self::State, 2>, grads: &mut Gradients, _checkpointer: &mut Checkpointer) {
                let [x_node, w_node] = ops.parents;
                let (x, w, eps) = ops.state;
                let grad = grads.consume::<B>(&ops.node);
                if let Some(node) = w_node {
                    let rows = B::rms_scale(x.clone(), grad.clone(), eps);
                    grads.register::<B>(node.id, B::float_sum_dim(rows, 0));
                }
                if let Some(node) = x_node {
                    grads.register::<B>(node.id, B::rms_norm_grad(x, w, grad, eps));
                }
            }
        }

        let (inner, weight) = (x.primitive().clone(), m.primitive().clone());
        match RmsNorm.prepare::<C>([x.node(), m.node()]).compute_bound().stateful() {
            OpsKind::Tracked(prep) => {
                let out = B::rms_scale(inner.clone(), weight.clone(), eps);
                prep.finish((inner, weight, eps), out)
            }
            OpsKind::UnTracked(prep) => prep.finish(B::rms_scale(inner, weight, eps)),
        }
    }

    fn rms_norm_grad(x: FloatTensor<Self>, w: FloatTensor<Self>, g: FloatTensor<Self>, eps: f32) -> FloatTensor<Self> {
        super::stock::rms_norm_grad::<Self>(x, w, g, eps)
    }

    fn causal_softmax(scores: FloatTensor<Self>, queries: usize, scale: f32, dtype: DType) -> FloatTensor<Self> {
        #[derive(Debug)]
        struct CausalSoftmax;

        impl<B: KernelOps> Backward<B, 1> for CausalSoftmax {
            type State = (FloatTensor<B>, f32, DType);

            fn backward(self, ops: Ops<Self::State, 1>, grads: &mut Gradients, _checkpointer: &mut Checkpointer) {
                let [node] = ops.parents;
                let grad = grads.consume::<B>(&ops.node);
                if let Some(node) = node {
                    let (p, scale, dtype) = ops.state;
                    grads.register::<B>(node.id, B::causal_softmax_grad(p, grad, scale, dtype));
                }
            }
        }

        match CausalSoftmax.prepare::<C>([scores.node()]).compute_bound().stateful() {
            OpsKind::Tracked(prep) => {
                let p = B::causal_softmax(scores.primitive().clone(), queries, scale, dtype);
                prep.finish((p.clone(), scale, scores.primitive().dtype()), p)
            }
            OpsKind::UnTracked(prep) => {
                prep.finish(B::causal_softmax(scores.primitive().clone(), queries, scale, dtype))
            }
        }
    }

    fn segment_softmax(
        scores: FloatTensor<Self>,
        first: IntTensor<Self>,
        scale: f32,
        dtype: DType,
    ) -> FloatTensor<Self> {
        #[derive(Debug)]
        struct SegmentSoftmax;

        impl<B: KernelOps> Backward<B, 1> for SegmentSoftmax {
            type State = (FloatTensor<B>, f32, DType);

            // What is not seen has weight zero, so that the gradient needs to know no bounds.
            fn backward(self, ops: Ops<Self::State, 1>, grads: &mut Gradients, _checkpointer: &mut Checkpointer) {
                let [node] = ops.parents;
                let grad = grads.consume::<B>(&ops.node);
                if let Some(node) = node {
                    let (p, scale, dtype) = ops.state;
                    grads.register::<B>(node.id, B::causal_softmax_grad(p, grad, scale, dtype));
                }
            }
        }

        match SegmentSoftmax.prepare::<C>([scores.node()]).compute_bound().stateful() {
            OpsKind::Tracked(prep) => {
                let p = B::segment_softmax(scores.primitive().clone(), first, scale, dtype);
                prep.finish((p.clone(), scale, scores.primitive().dtype()), p)
            }
            OpsKind::UnTracked(prep) => {
                prep.finish(B::segment_softmax(scores.primitive().clone(), first, scale, dtype))
            }
        }
    }

    fn causal_softmax_grad(p: FloatTensor<Self>, g: FloatTensor<Self>, scale: f32, dtype: DType) -> FloatTensor<Self> {
        // Only the backward above calls it, on the inner backend; stock operations keep it differentiable anyway.
        super::stock::causal_softmax_grad::<Self>(p, g, scale, dtype)
    }

    fn attend(
        q: FloatTensor<Self>,
        k: FloatTensor<Self>,
        v: FloatTensor<Self>,
        queries: usize,
        scale: f32,
        together: Together,
    ) -> FloatTensor<Self> {
        let nodes = [q.node(), k.node(), v.node()];
        let [q, k, v] = [q, k, v].map(|t| t.primitive().clone());
        attention::tracked::<B, C>(nodes, Attention { q, k, v, first: None, queries, scale, together })
    }

    fn attend_segments(
        q: FloatTensor<Self>,
        k: FloatTensor<Self>,
        v: FloatTensor<Self>,
        first: IntTensor<Self>,
        scale: f32,
        together: Together,
    ) -> FloatTensor<Self> {
        let nodes = [q.node(), k.node(), v.node()];
        let [q, k, v] = [q, k, v].map(|t| t.primitive().clone());
        let queries = first.shape()[1];
        attention::tracked::<B, C>(nodes, Attention { q, k, v, first: Some(first), queries, scale, together })
    }

    fn swiglu(gate: FloatTensor<Self>, up: FloatTensor<Self>) -> FloatTensor<Self> {
        #[derive(Debug)]
        struct Swiglu;

        impl<B: KernelOps> Backward<B, 2> for Swiglu {
            type State = (FloatTensor<B>, FloatTensor<B>);

            fn backward(self, ops: Ops<Self::State, 2>, grads: &mut Gradients, _checkpointer: &mut Checkpointer) {
                let [gate_node, up_node] = ops.parents;
                let (gate, up) = ops.state;
                let grad = grads.consume::<B>(&ops.node);
                // Each over an operand that nobody needs any more: `up`, then `grad`.
                if let Some(node) = gate_node {
                    grads.register::<B>(node.id, B::swiglu_grad(gate.clone(), up, grad.clone()));
                }
                if let Some(node) = up_node {
                    grads.register::<B>(node.id, B::swiglu(gate, grad));
                }
            }
        }

        let (inner, by) = (gate.primitive().clone(), up.primitive().clone());
        match Swiglu.prepare::<C>([gate.node(), up.node()]).compute_bound().stateful() {
            OpsKind::Tracked(prep) => {
                let out = B::swiglu(inner.clone(), by.clone());
                prep.finish((inner, by), out)
            }
            OpsKind::UnTracked(prep) => prep.finish(B::swiglu(inner, by)),
        }
    }

    fn swiglu_grad(gate: FloatTensor<Self>, up: FloatTensor<Self>, g: FloatTensor<Self>) -> FloatTensor<Self> {
        super::stock::swiglu_grad::<Self>(gate, up, g)
    }

    fn packed_product(x: FloatTensor<Self>, words: IntTensor<Self>, of: Stored, transposed: bool) -> FloatTensor<Self> {
        #[derive(Debug)]
        struct PackedProduct;

        impl<B: KernelOps> Backward<B, 1> for PackedProduct {
            type State = (IntTensor<B>, Stored, bool);

            // The weight is frozen: only the input's gradient, through the same blocks.
            fn backward(self, ops: Ops<Self::State, 1>, grads: &mut Gradients, _checkpointer: &mut Checkpointer) {
                let [node] = ops.parents;
                let grad = grads.consume::<B>(&ops.node);
                if let Some(node) = node {
                    let (words, of, transposed) = ops.state;
                    grads.register::<B>(node.id, B::packed_product(grad, words, of, !transposed));
                }
            }
        }

        match PackedProduct.prepare::<C>([x.node()]).compute_bound().stateful() {
            OpsKind::Tracked(prep) => prep.finish(
                (words.clone(), of, transposed),
                B::packed_product(x.primitive().clone(), words, of, transposed),
            ),
            OpsKind::UnTracked(prep) => prep.finish(B::packed_product(x.primitive().clone(), words, of, transposed)),
        }
    }

    fn packed_product_plus(
        x: FloatTensor<Self>,
        words: IntTensor<Self>,
        low: FloatTensor<Self>,
        high: FloatTensor<Self>,
        of: Stored,
        transposed: bool,
    ) -> FloatTensor<Self> {
        let dtype = x.primitive().dtype();
        let base = Self::packed_product(x, words, of, transposed);
        Self::float_add(base, Self::product(low, high, false, transposed, 1.0, dtype))
    }

    fn packed_adapted(
        x: FloatTensor<Self>,
        words: IntTensor<Self>,
        a: FloatTensor<Self>,
        b: FloatTensor<Self>,
        of: Stored,
        scale: f32,
    ) -> FloatTensor<Self> {
        #[derive(Debug)]
        struct PackedAdapted;

        impl<B: KernelOps> Backward<B, 3> for PackedAdapted {
            type State = (FloatTensor<B>, IntTensor<B>, Stored, Low<B>);

            fn backward(self, ops: Ops<Self::State, 3>, grads: &mut Gradients, _checkpointer: &mut Checkpointer) {
                let (x, words, of, low) = ops.state;
                let grad = grads.consume::<B>(&ops.node);
                low.back(ops.parents.map(|node| node.map(|node| node.id)), x, grad, grads, |grad, thin, a| {
                    B::packed_product_plus(grad, words, thin, a, of, false)
                });
            }
        }

        let inner = x.primitive().clone();
        match PackedAdapted.prepare::<C>([x.node(), a.node(), b.node()]).compute_bound().stateful() {
            OpsKind::Tracked(prep) => {
                let low = Low::<B>::new(inner.clone(), a.primitive().clone(), b.primitive().clone(), scale);
                let (thin, high) = (low.low.clone(), low.b.clone());
                let out = B::packed_product_plus(inner.clone(), words.clone(), thin, high, of, true);
                prep.finish((inner, words, of, low), out)
            }
            OpsKind::UnTracked(prep) => {
                let (a, b) = (a.primitive().clone(), b.primitive().clone());
                prep.finish(B::packed_adapted(inner, words, a, b, of, scale))
            }
        }
    }

    fn goal(x: FloatTensor<Self>, g: FloatTensor<Self>) -> FloatTensor<Self> {
        #[derive(Debug)]
        struct Goal;

        impl<B: KernelOps> Backward<B, 1> for Goal {
            type State = FloatTensor<B>;

            fn backward(self, ops: Ops<Self::State, 1>, grads: &mut Gradients, _checkpointer: &mut Checkpointer) {
                // Its own gradient is one.
                grads.consume::<B>(&ops.node);
                if let [Some(node)] = ops.parents {
                    grads.register::<B>(node.id, ops.state);
                }
            }
        }

        let (node, g) = (x.node(), g.primitive().clone());
        let out = B::goal(x.primitive().clone(), g.clone());
        match Goal.prepare::<C>([node]).compute_bound().stateful() {
            OpsKind::Tracked(prep) => prep.finish(g, out),
            OpsKind::UnTracked(prep) => prep.finish(out),
        }
    }

    fn add_squares(
        sums: FloatTensor<Self>,
        a: FloatTensor<Self>,
        b: FloatTensor<Self>,
        c: FloatTensor<Self>,
        d: FloatTensor<Self>,
        e: FloatTensor<Self>,
    ) -> FloatTensor<Self> {
        let [sums, a, b, c, d, e] = [sums, a, b, c, d, e].map(|t| t.primitive().clone());
        FloatTensor::<Self>::new(B::add_squares(sums, a, b, c, d, e))
    }

    fn adamw(
        value: FloatTensor<Self>,
        grad: FloatTensor<Self>,
        moments: FloatTensor<Self>,
        factor: FloatTensor<Self>,
        rule: AdamWRule,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        let [value, grad, moments, factor] = [value, grad, moments, factor].map(|t| t.primitive().clone());
        let (value, moments) = B::adamw(value, grad, moments, factor, rule);
        (FloatTensor::<Self>::new(value), FloatTensor::<Self>::new(moments))
    }

    fn packed_rows(ids: IntTensor<Self>, words: IntTensor<Self>, kind: u32, columns: usize) -> FloatTensor<Self> {
        FloatTensor::<Self>::new(B::packed_rows(ids, words, kind, columns))
    }
}

/// An adapter's thin part in a forward pass: `low` is `scale · x·Aᵀ`.
#[derive(Clone, Debug)]
struct Low<B: KernelOps> {
    a: FloatTensor<B>,
    b: FloatTensor<B>,
    low: FloatTensor<B>,
    scale: f32,
}

impl<B: KernelOps> Low<B> {
    fn new(x: FloatTensor<B>, a: FloatTensor<B>, b: FloatTensor<B>, scale: f32) -> Self {
        let low = B::product(x, a.clone(), false, true, scale, DType::F32);
        Self { a, b, low, scale }
    }

    // With y = x·Wᵀ + low·Bᵀ and t = scale · dy·B: dx = dy·W + t·A, dA = tᵀ·x and dB = dyᵀ·low.
    fn back(
        self,
        [x_node, a_node, b_node]: [Option<NodeId>; 3],
        x: FloatTensor<B>,
        grad: FloatTensor<B>,
        grads: &mut Gradients,
        to_x: impl FnOnce(FloatTensor<B>, FloatTensor<B>, FloatTensor<B>) -> FloatTensor<B>,
    ) {
        let Self { a, b, low, scale } = self;
        if let Some(node) = b_node {
            grads.register::<B>(node, B::product(grad.clone(), low, true, false, 1.0, b.dtype()));
        }
        let thin = B::product(grad.clone(), b, false, false, scale, DType::F32);
        if let Some(node) = a_node {
            grads.register::<B>(node, B::product(thin.clone(), x, true, false, 1.0, a.dtype()));
        }
        if let Some(node) = x_node {
            grads.register::<B>(node, to_x(grad, thin, a));
        }
    }
}
