//! The whole model: embedding, blocks, final norm, head.

use std::{cell::RefCell, collections::HashMap, ops::Range};

use burn::tensor::{DType, Device, Int, Tensor};

use super::{Block, KvCache, Linear, LlamaConfig, Param, Places, RmsNorm, rope::Rotation};
use crate::device;

/// Which head a model gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HeadKind {
    /// `LlamaForCausalLM`.
    CausalLm,
    /// `LlamaForSequenceClassification`.
    Classification,
}

#[derive(Debug, Clone)]
pub enum Head {
    /// `lm_head`; `None` uses the embedding (`tie_word_embeddings`).
    CausalLm(Option<Linear>),
    /// `score`, applied at each row's last token.
    Classification(Linear),
}

/// What a backward pass can be confined to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    Embedding,
    Block(usize),
    /// The final norm and a classification head. A language-model head has a backward pass of its own.
    End,
}

/// LLaMA's decoder with its head.
#[derive(Debug, Clone)]
pub struct Llama {
    pub config: LlamaConfig,
    embed_tokens: Param,
    layers: Vec<Block>,
    norm: RmsNorm,
    pub head: Head,
    /// The blocks compute in 16 bits.
    pub half: bool,
    /// Angles by sequence length: few lengths occur, see `batch`.
    rotations: RefCell<HashMap<usize, Rotation>>,
}

impl Llama {
    /// Assembles a model from its weights; `weight` hands over one by its Hugging Face name.
    pub fn new<E>(
        config: LlamaConfig,
        head: HeadKind,
        weight: &mut impl FnMut(String) -> Result<Param, E>,
    ) -> Result<Self, E> {
        Ok(Self {
            embed_tokens: weight("model.embed_tokens.weight".into())?,
            layers: (0..config.num_hidden_layers).map(|i| Block::new(&config, i, weight)).collect::<Result<_, E>>()?,
            norm: RmsNorm { weight: weight("model.norm.weight".into())?, eps: config.rms_norm_eps },
            head: match head {
                HeadKind::CausalLm if config.tie_word_embeddings => Head::CausalLm(None),
                HeadKind::CausalLm => Head::CausalLm(Some(Linear::new(weight("lm_head.weight".into())?))),
                HeadKind::Classification => Head::Classification(Linear::new(weight("score.weight".into())?)),
            },
            config,
            half: false,
            rotations: RefCell::default(),
        })
    }

    /// Name and shape (as in the file) of every weight of a model with `outputs` classes or, for the language-model
    /// head, tokens; in the order in which [`Self::new`] asks for them.
    pub fn shapes(config: &LlamaConfig, head: HeadKind, outputs: usize) -> Vec<(String, Vec<usize>)> {
        let (d, f, v) = (config.hidden_size, config.intermediate_size, config.vocab_size);
        let q = config.num_attention_heads * config.head_dim;
        let kv = config.num_key_value_heads * config.head_dim;
        let mut all = vec![("model.embed_tokens.weight".to_string(), vec![v, d])];
        for i in 0..config.num_hidden_layers {
            let mut add = |name: &str, shape: Vec<usize>, bias: bool| {
                let bias = bias.then(|| (format!("model.layers.{i}.{name}.bias"), vec![shape[0]]));
                all.push((format!("model.layers.{i}.{name}.weight"), shape));
                all.extend(bias);
            };
            let (attention, mlp) = (config.attention_bias, config.mlp_bias);
            add("self_attn.q_proj", vec![q, d], attention);
            add("self_attn.k_proj", vec![kv, d], attention);
            add("self_attn.v_proj", vec![kv, d], attention);
            add("self_attn.o_proj", vec![d, q], attention);
            add("mlp.gate_proj", vec![f, d], mlp);
            add("mlp.up_proj", vec![f, d], mlp);
            add("mlp.down_proj", vec![d, f], mlp);
            add("input_layernorm", vec![d], false);
            add("post_attention_layernorm", vec![d], false);
        }
        all.push(("model.norm.weight".into(), vec![d]));
        match head {
            HeadKind::CausalLm if config.tie_word_embeddings => {}
            HeadKind::CausalLm => all.push(("lm_head.weight".into(), vec![v, d])),
            HeadKind::Classification => all.push(("score.weight".into(), vec![outputs, d])),
        }
        all
    }

    /// Hidden states after the final norm. Rows are padded on the right: causal attention keeps what stands before
    /// the padding free of it, so no padding mask is needed. `places`: where several rows stand in one, or how they turn;
    /// without it by the ids' own length.
    ///
    /// # Shapes
    /// `ids` `[batch, seq]` → `[batch · seq, hidden]`
    pub fn hidden(&self, ids: Tensor<2, Int>, places: Option<&Places>, training: bool) -> Tensor<2> {
        let [rows, seq] = ids.dims();
        device::works_on(rows, seq);
        let mut x = self.embed(ids);
        for index in 0..self.layers.len() {
            x = self.block(index, x, seq, places, training);
        }
        self.norm.forward(x)
    }

    /// As [`Self::hidden`], for tokens that follow those in `cache`, where they are put. Outside training.
    ///
    /// # Shapes
    /// `ids` `[batch, new]` → `[batch · new, hidden]`
    pub fn extend(&self, ids: Tensor<2, Int>, cache: &mut KvCache) -> Tensor<2> {
        let [rows, new] = ids.dims();
        device::works_on(rows, cache.filled() + new);
        let step = cache.step(&self.config, new, &ids.device());
        let mut x = self.embed(ids);
        for (block, held) in self.layers.iter().zip(&mut cache.layers) {
            x = block.extend(x, &step, held, self.dtype());
        }
        cache.advance(new);
        self.norm.forward(x)
    }

    /// What the blocks compute in.
    fn dtype(&self) -> DType {
        if self.half { DType::F16 } else { DType::F32 }
    }

    /// # Shapes
    /// `ids` `[batch, seq]` → `[batch · seq, hidden]`
    pub fn embed(&self, ids: Tensor<2, Int>) -> Tensor<2> {
        let [batch, seq] = ids.dims();
        self.embed_tokens.select(ids.reshape([batch * seq]))
    }

    /// One decoder block.
    pub fn block(&self, index: usize, x: Tensor<2>, seq: usize, places: Option<&Places>, training: bool) -> Tensor<2> {
        let (layer, dtype) = (&self.layers[index], self.dtype());
        match places {
            Some(Places::Packed(segments)) => layer.packed(x, segments, dtype, training),
            Some(Places::Padded(rope)) => layer.forward(x, rope, seq, dtype, training),
            None => {
                let rope = self.rotation(seq, &x.device());
                layer.forward(x, &rope, seq, dtype, training)
            }
        }
    }

    pub fn norm(&self, x: Tensor<2>) -> Tensor<2> {
        self.norm.forward(x)
    }

    /// The weight that turns hidden states into logits.
    pub fn head_weight(&self) -> &Param {
        match &self.head {
            Head::CausalLm(None) => &self.embed_tokens,
            Head::CausalLm(Some(head)) | Head::Classification(head) => &head.weight,
        }
    }

    /// Logits of the head for every hidden state.
    ///
    /// # Shapes
    /// `hidden` `[rows, hidden]` → `[rows, outputs]`
    pub fn project(&self, hidden: Tensor<2>, training: bool) -> Tensor<2> {
        match &self.head {
            Head::CausalLm(None) => self.embed_tokens.linear(hidden),
            Head::CausalLm(Some(head)) | Head::Classification(head) => head.forward(hidden, training),
        }
    }

    pub(super) fn rotation(&self, seq: usize, device: &Device) -> Rotation {
        let config = &self.config;
        self.rotations
            .borrow_mut()
            .entry(seq)
            .or_insert_with(|| {
                let device = device.clone().without_autodiff();
                Rotation::new(seq, config, &device)
            })
            .clone()
    }

    /// Every linear layer of the blocks with its full name (`model.layers.0.self_attn.q_proj`) and short name.
    pub fn linears_mut(&mut self) -> impl Iterator<Item = (String, &'static str, &mut Linear)> {
        self.layers.iter_mut().flat_map(|block| {
            block.linears_mut().map(|(short, linear)| {
                let name = linear.weight.name.trim_end_matches(".weight").to_string();
                (name, short, linear)
            })
        })
    }

    /// Some rows of the weight called `name`, a linear layer's with its adapter folded in. A vector is one row.
    pub fn rows(&mut self, name: &str, rows: Range<usize>) -> Option<Tensor<2>> {
        if let Some((_, _, linear)) = self.linears_mut().find(|(_, _, linear)| linear.weight.name == name) {
            return Some(linear.merged(rows));
        }
        let param = self.params_mut().into_iter().find(|param| param.name == name)?;
        Some(param.rows(rows))
    }

    /// Every weight, adapters included.
    pub fn params_mut(&mut self) -> Vec<&mut Param> {
        let mut out = vec![&mut self.embed_tokens];
        for layer in &mut self.layers {
            layer.params_mut(&mut out);
        }
        out.push(&mut self.norm.weight);
        match &mut self.head {
            Head::CausalLm(None) => {}
            Head::CausalLm(Some(head)) | Head::Classification(head) => head.params_mut(&mut out),
        }
        out
    }

    /// Every tensor of every weight: [`Self::params_mut`] with those in parts part by part.
    pub fn pieces_mut(&mut self) -> Vec<&mut Param> {
        self.params_mut().into_iter().flat_map(Param::pieces).collect()
    }

    /// Starts recording for one backward pass.
    pub fn track(&mut self) {
        self.params_mut().into_iter().for_each(Param::track);
    }

    /// Starts recording for a backward pass through one part; whether anything in it is trained.
    pub fn track_part(&mut self, part: Part) -> bool {
        let mut params = Vec::new();
        match part {
            Part::Embedding => params.push(&mut self.embed_tokens),
            Part::Block(index) => self.layers[index].params_mut(&mut params),
            Part::End => {
                params.push(&mut self.norm.weight);
                if let Head::Classification(head) = &mut self.head {
                    head.params_mut(&mut params);
                }
            }
        }
        let trained = params.iter().any(|param| param.trainable);
        params.into_iter().for_each(Param::track);
        trained
    }
}
