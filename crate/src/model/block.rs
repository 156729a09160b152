//! One decoder block: attention and the gated feed-forward, each behind its norm and a residual.

use burn::tensor::{DType, Tensor};

use super::{
    Linear, LlamaConfig, Param, Segments,
    cache::{Held, Hidden, Step, hide},
    rope::Rotation,
};
use crate::{
    device::POOLS_BY_SIZE,
    kernels::{Layout, attention, causal_softmax, product, product_as, rms_norm, rotate, segment_attention, swiglu},
};

/// `x ↦ w · x / sqrt(mean(x²) + eps)` (RMSNorm, arXiv:1910.07467).
#[derive(Debug, Clone)]
pub struct RmsNorm {
    /// `[1, hidden]`.
    pub weight: Param,
    pub eps: f64,
}

impl RmsNorm {
    /// # Shapes
    /// `x` `[rows, hidden]` → `[rows, hidden]`
    pub fn forward(&self, x: Tensor<2>) -> Tensor<2> {
        rms_norm(x, self.weight.tensor(), self.eps)
    }
}

/// Grouped-query attention (arXiv:2305.13245) with rotary positions, causal.
#[derive(Debug, Clone)]
pub struct Attention {
    pub q_proj: Linear,
    pub k_proj: Linear,
    pub v_proj: Linear,
    pub o_proj: Linear,
    heads: usize,
    kv_heads: usize,
    head_dim: usize,
    /// Numbers a token of the feed-forward's wide tensors.
    fed: usize,
}

impl Attention {
    /// # Shapes
    /// `x` `[batch · seq, hidden]` → `[batch · seq, hidden]`
    pub fn forward(&self, x: Tensor<2>, rope: &Rotation, seq: usize, training: bool) -> Tensor<2> {
        let (batch, room) = (x.dims()[0] / seq, self.room(&x));
        let dim = self.head_dim;
        let split = |t: Tensor<2>, heads: usize| -> Tensor<4> { t.reshape([batch, seq, heads, dim]).swap_dims(1, 2) };
        let q = split(self.q_proj.forward(x.clone(), training), self.heads);
        let k = split(self.k_proj.forward(x.clone(), training), self.kv_heads);
        let v = split(self.v_proj.forward(x, training), self.kv_heads);
        let q = rotate(q, rope.cos.clone(), rope.sin.clone());
        let k = rotate(k, rope.cos.clone(), rope.sin.clone());
        // The query heads of a group stand one below the other, so no key or value is ever repeated.
        let group = self.heads / self.kv_heads;
        let q: Tensor<3> = q.reshape([batch * self.kv_heads, group * seq, dim]);
        let k: Tensor<3> = k.reshape([batch * self.kv_heads, seq, dim]);
        let v: Tensor<3> = v.reshape([batch * self.kv_heads, seq, dim]);
        let out: Tensor<4> = attention(q, k, v, seq, self.scale(), room).reshape([batch, self.heads, seq, dim]);
        let out: Tensor<2> = out.swap_dims(1, 2).reshape([batch * seq, self.heads * dim]);
        self.o_proj.forward(out, training)
    }

    /// As [`Self::forward`], for tokens that follow those in `held`.
    ///
    /// # Shapes
    /// `x` `[batch · new, hidden]` → `[batch · new, hidden]`
    pub(super) fn extend(&self, x: Tensor<2>, step: &Step, held: &mut Held) -> Tensor<2> {
        let shape = [step.batch, step.new];
        let (q, [k, v]) = self.heads_first(x, &step.rope, shape, false);
        // Keys go into the cache as they are.
        let [k, v] = step.put(held, [k, v]);
        let out = match &step.hidden {
            Hidden::Nothing => attention(q, k, v, step.new, self.scale(), 0),
            Hidden::Before(first) => segment_attention(q, k, v, first.clone(), self.scale(), 0),
            Hidden::Slots(mask) => {
                let scores = hide(product_as(DType::F32, q, k, Layout::Nt), mask);
                let weights = causal_softmax(scores, step.new, self.scale(), v.dtype());
                product(weights, v, Layout::Nn)
            }
        };
        self.tokens_first(out, shape, false)
    }

    /// As [`Self::forward`], for rows that stand behind each other.
    ///
    /// # Shapes
    /// `x` `[batch · seq, hidden]` → `[batch · seq, hidden]`
    pub(super) fn packed(&self, x: Tensor<2>, segments: &Segments, training: bool) -> Tensor<2> {
        let (shape, room) = (segments.first.dims(), self.room(&x));
        let (q, keys_values) = self.heads_first(x, &segments.rope, shape, training);
        let [batch, seq] = shape;
        let [k, v]: [Tensor<3>; 2] = keys_values.map(|t| t.reshape([self.kv_heads * batch, seq, self.head_dim]));
        // Of the matrices every `batch`-th one is of the same row.
        let out = segment_attention(q, k, v, segments.first.clone(), self.scale(), room);
        self.tokens_first(out, shape, training)
    }

    /// Heads before rows, so that each token turns by angles of its own: queries `[kv_heads · batch, group · seq, head_dim]`,
    /// keys and values `[kv_heads, batch, seq, head_dim]`.
    fn heads_first(
        &self,
        x: Tensor<2>,
        rope: &Rotation,
        [batch, seq]: [usize; 2],
        training: bool,
    ) -> (Tensor<3>, [Tensor<4>; 2]) {
        let (heads, group, dim) = (self.kv_heads, self.heads / self.kv_heads, self.head_dim);
        let split = |t: Tensor<2>| -> Tensor<4> {
            let heads = t.dims()[1] / dim;
            t.reshape([1, batch * seq, heads, dim]).swap_dims(1, 2)
        };
        let turn = |t: Tensor<4>| rotate(t, rope.cos.clone(), rope.sin.clone());
        let q: Tensor<5> =
            turn(split(self.q_proj.forward(x.clone(), training))).reshape([heads, group, batch, seq, dim]);
        let k = turn(split(self.k_proj.forward(x.clone(), training)));
        let v = split(self.v_proj.forward(x, training));
        let q = q.swap_dims(1, 2).reshape([heads * batch, group * seq, dim]);
        (q, [k, v].map(|t| t.reshape([heads, batch, seq, dim])))
    }

    /// What attention gives by heads, `[kv_heads · batch, group · seq, head_dim]`, back to `[batch · seq, hidden]`.
    fn tokens_first(&self, out: Tensor<3>, [batch, seq]: [usize; 2], training: bool) -> Tensor<2> {
        let (heads, group, dim) = (self.kv_heads, self.heads / self.kv_heads, self.head_dim);
        let out: Tensor<5> = out.reshape([heads, batch, group, seq, dim]);
        let out: Tensor<2> = out.permute([1, 3, 0, 2, 4]).reshape([batch * seq, self.heads * dim]);
        self.o_proj.forward(out, training)
    }

    /// See [`kernels::Together`](crate::kernels::Together): the feed-forward's tensors come after attention, and their
    /// gradients before its own. Where pools do not go by size scores take what they need.
    fn room(&self, x: &Tensor<2>) -> usize {
        if POOLS_BY_SIZE && x.dtype() == DType::F32 { x.dims()[0] * self.fed } else { 0 }
    }

    /// On the scores.
    fn scale(&self) -> f32 {
        1.0 / (self.head_dim as f32).sqrt()
    }
}

/// `x ↦ W_down (silu(W_gate x) ∘ W_up x)` (SwiGLU, arXiv:2002.05202).
#[derive(Debug, Clone)]
pub struct Mlp {
    pub gate_proj: Linear,
    pub up_proj: Linear,
    pub down_proj: Linear,
}

impl Mlp {
    /// # Shapes
    /// `x` `[rows, hidden]` → `[rows, hidden]`
    pub fn forward(&self, x: Tensor<2>, training: bool) -> Tensor<2> {
        let gate = self.gate_proj.forward(x.clone(), training);
        let up = self.up_proj.forward(x, training);
        self.down_proj.forward(swiglu(gate, up), training)
    }
}

#[derive(Debug, Clone)]
pub struct Block {
    pub input_layernorm: RmsNorm,
    pub attention: Attention,
    pub post_attention_layernorm: RmsNorm,
    pub mlp: Mlp,
}

impl Block {
    /// Takes the weights of layer `index` by their names from `weight`.
    pub(super) fn new<E>(
        config: &LlamaConfig,
        index: usize,
        weight: &mut impl FnMut(String) -> Result<Param, E>,
    ) -> Result<Self, E> {
        let prefix = format!("model.layers.{index}");
        let mut linear = |name: &str, bias: bool| {
            let mut linear = Linear::new(weight(format!("{prefix}.{name}.weight"))?);
            if bias {
                linear.bias = Some(weight(format!("{prefix}.{name}.bias"))?);
            }
            Ok(linear)
        };
        let bias = config.attention_bias;
        let attention = Attention {
            q_proj: linear("self_attn.q_proj", bias)?,
            k_proj: linear("self_attn.k_proj", bias)?,
            v_proj: linear("self_attn.v_proj", bias)?,
            o_proj: linear("self_attn.o_proj", bias)?,
            heads: config.num_attention_heads,
            kv_heads: config.num_key_value_heads,
            head_dim: config.head_dim,
            fed: config.intermediate_size,
        };
        let bias = config.mlp_bias;
        let mlp = Mlp {
            gate_proj: linear("mlp.gate_proj", bias)?,
            up_proj: linear("mlp.up_proj", bias)?,
            down_proj: linear("mlp.down_proj", bias)?,
        };
        let mut norm = |name: &str| {
            weight(format!("{prefix}.{name}.weight")).map(|weight| RmsNorm { weight, eps: config.rms_norm_eps })
        };
        Ok(Self {
            input_layernorm: norm("input_layernorm")?,
            attention,
            post_attention_layernorm: norm("post_attention_layernorm")?,
            mlp,
        })
    }

    /// Attention and feed-forward compute in `dtype`; the norms and the sum over the blocks are in 32 bits.
    ///
    /// # Shapes
    /// `x` `[batch · seq, hidden]` → `[batch · seq, hidden]`
    pub fn forward(&self, x: Tensor<2>, rope: &Rotation, seq: usize, dtype: DType, training: bool) -> Tensor<2> {
        self.around(x, dtype, training, |h| self.attention.forward(h, rope, seq, training))
    }

    /// As [`Self::forward`], for tokens that follow those in `held`.
    pub(super) fn extend(&self, x: Tensor<2>, step: &Step, held: &mut Held, dtype: DType) -> Tensor<2> {
        self.around(x, dtype, false, |h| self.attention.extend(h, step, held))
    }

    /// As [`Self::forward`], for rows that stand behind each other.
    pub(super) fn packed(&self, x: Tensor<2>, segments: &Segments, dtype: DType, training: bool) -> Tensor<2> {
        self.around(x, dtype, training, |h| self.attention.packed(h, segments, training))
    }

    fn around(
        &self,
        x: Tensor<2>,
        dtype: DType,
        training: bool,
        attention: impl FnOnce(Tensor<2>) -> Tensor<2>,
    ) -> Tensor<2> {
        let h = self.input_layernorm.forward(x.clone()).cast(dtype);
        let x = x + attention(h).cast(DType::F32);
        let h = self.post_attention_layernorm.forward(x.clone()).cast(dtype);
        x + self.mlp.forward(h, training).cast(DType::F32)
    }

    /// The linear layers by Hugging Face's module names.
    pub fn linears_mut(&mut self) -> [(&'static str, &mut Linear); 7] {
        [
            ("q_proj", &mut self.attention.q_proj),
            ("k_proj", &mut self.attention.k_proj),
            ("v_proj", &mut self.attention.v_proj),
            ("o_proj", &mut self.attention.o_proj),
            ("gate_proj", &mut self.mlp.gate_proj),
            ("up_proj", &mut self.mlp.up_proj),
            ("down_proj", &mut self.mlp.down_proj),
        ]
    }

    pub(super) fn params_mut<'a>(&'a mut self, out: &mut Vec<&'a mut Param>) {
        out.push(&mut self.input_layernorm.weight);
        out.push(&mut self.post_attention_layernorm.weight);
        let attention = &mut self.attention;
        for linear in [
            &mut attention.q_proj,
            &mut attention.k_proj,
            &mut attention.v_proj,
            &mut attention.o_proj,
            &mut self.mlp.gate_proj,
            &mut self.mlp.up_proj,
            &mut self.mlp.down_proj,
        ] {
            linear.params_mut(out);
        }
    }
}
