//! What [`measure`](super::measure) runs: the operations of a training step, each with the work that it is.

use std::cell::RefCell;

use burn::{
    backend::Dispatch,
    tensor::{DType, Device, Distribution, IndexingUpdateOp, Int, Tensor, TensorData},
};

use super::{KernelOps, Layout, Packed, product};
use crate::{
    error::{Error, Result},
    model::Param,
    rng,
    train::{AdamW, AdamWConfig},
    weights::ggml::GgmlType,
};

/// An operation of a training step at one shape.
#[derive(Debug, Clone, Copy)]
pub enum Op {
    /// See [`product`].
    Product {
        batch: usize,
        m: usize,
        n: usize,
        k: usize,
        layout: Layout,
    },
    /// `rows` of the input with a Q4_0 matrix `[out, inputs]`, or with its transpose on the way back.
    Packed {
        rows: usize,
        out: usize,
        inputs: usize,
        back: bool,
    },
    Rotate {
        heads: usize,
        seq: usize,
        dim: usize,
    },
    RmsNorm {
        rows: usize,
        dim: usize,
        back: bool,
    },
    /// Of attention scores `[batch, rows, keys]`, as many queries as keys.
    CausalSoftmax {
        batch: usize,
        rows: usize,
        keys: usize,
        back: bool,
    },
    Swiglu {
        rows: usize,
        dim: usize,
        back: bool,
    },
    Embedding {
        tokens: usize,
        vocab: usize,
        dim: usize,
        back: bool,
    },
    /// The optimizer's step on one matrix.
    AdamW {
        rows: usize,
        columns: usize,
    },
}

/// Does the work once and gives its result.
pub type Run = Box<dyn Fn() -> Tensor<3>>;

impl Op {
    pub fn kernel(self) -> &'static str {
        match self {
            Self::Product { layout: Layout::Nt, .. } => "product A·Bᵀ",
            Self::Product { layout: Layout::Nn, .. } => "product A·B",
            Self::Product { layout: Layout::Tn, .. } => "product Aᵀ·B",
            Self::Packed { .. } => "packed product",
            Self::Rotate { .. } => "rotary embedding",
            Self::RmsNorm { .. } => "RMSNorm",
            Self::CausalSoftmax { .. } => "causal softmax",
            Self::Swiglu { .. } => "SwiGLU",
            Self::Embedding { .. } => "embedding",
            Self::AdamW { .. } => "AdamW",
        }
    }

    pub fn shape(self) -> String {
        match self {
            Self::Product { batch: 1, m, n, k, .. } => format!("{m} × {n} × {k}"),
            Self::Product { batch, m, n, k, .. } => format!("{batch} of {m} × {n} × {k}"),
            Self::Packed { rows, out, inputs, .. } => format!("{rows} × {out} × {inputs}"),
            Self::Rotate { heads, seq, dim } => format!("{heads} × {seq} × {dim}"),
            Self::RmsNorm { rows, dim, .. } | Self::Swiglu { rows, dim, .. } => format!("{rows} × {dim}"),
            Self::CausalSoftmax { batch, rows, keys, .. } => format!("{batch} × {rows} × {keys}"),
            Self::Embedding { tokens, vocab, dim, .. } => format!("{tokens} of {vocab} × {dim}"),
            Self::AdamW { rows, columns } => format!("{rows} × {columns}"),
        }
    }

    /// Floating-point operations, and bytes that are read and written at least.
    pub fn work(self) -> (f64, f64) {
        // As floats: in a tab a product's operations go beyond `usize`.
        let all = |sizes: &[usize]| sizes.iter().map(|size| *size as f64).product::<f64>();
        let (flops, floats) = match self {
            Self::Product { batch, m, n, k, .. } => {
                (2.0 * all(&[batch, m, n, k]), all(&[batch, m, n]) + all(&[batch, m, k]) + all(&[batch, n, k]))
            }
            Self::Packed { rows, out, inputs, .. } => {
                let kind = GgmlType::Q4_0;
                let packed = kind.block_bytes() as f64 / (kind.block() * size_of::<f32>()) as f64;
                (2.0 * all(&[rows, out, inputs]), all(&[rows, out + inputs]) + packed * all(&[out, inputs]))
            }
            Self::Rotate { heads, seq, dim } => (3.0 * all(&[heads, seq, dim]), all(&[2 * heads + 1, seq, dim])),
            Self::RmsNorm { rows, dim, back: false } => (4.0 * all(&[rows, dim]), 2.0 * all(&[rows, dim])),
            Self::RmsNorm { rows, dim, back: true } => (9.0 * all(&[rows, dim]), 3.0 * all(&[rows, dim])),
            // Half of the scores stand for keys that a query does not see: they are written, but not read.
            Self::CausalSoftmax { batch, rows, keys, back } => {
                let scores = all(&[batch, rows, keys]);
                (2.0 * scores, if back { 2.0 * scores } else { 1.5 * scores })
            }
            Self::Swiglu { rows, dim, back: false } => (5.0 * all(&[rows, dim]), 3.0 * all(&[rows, dim])),
            Self::Swiglu { rows, dim, back: true } => (9.0 * all(&[rows, dim]), 4.0 * all(&[rows, dim])),
            Self::Embedding { tokens, dim, back: false, .. } => (0.0, 2.0 * all(&[tokens, dim])),
            Self::Embedding { tokens, vocab, dim, back: true } => {
                (all(&[tokens, dim]), all(&[vocab + 3 * tokens, dim]))
            }
            Self::AdamW { rows, columns } => (12.0 * all(&[rows, columns]), 7.0 * all(&[rows, columns])),
        };
        (flops, floats * size_of::<f32>() as f64)
    }

    /// Puts the operands on the device.
    pub fn prepare(self, device: &Device) -> Result<Run> {
        let random3 = |shape: [usize; 3]| Tensor::<3>::random(shape, Distribution::Uniform(-1.0, 1.0), device);
        let random = |shape: [usize; 2]| Tensor::<2>::random(shape, Distribution::Uniform(-1.0, 1.0), device);
        let flat = |x: Tensor<2>| x.unsqueeze_dim::<3>(0);
        let run: Run = match self {
            Self::Product { batch, m, n, k, layout } => {
                let (ta, tb) = layout.flags();
                let lhs = random3(if ta { [batch, k, m] } else { [batch, m, k] });
                let rhs = random3(if tb { [batch, n, k] } else { [batch, k, n] });
                Box::new(move || product(lhs.clone(), rhs.clone(), layout))
            }
            Self::Packed { rows, out, inputs, back } => {
                let values = rng::normal(&mut rng::stream(1, rng::INIT), out * inputs, 0.05);
                let blocks = GgmlType::Q4_0.quantize(&values).ok_or_else(|| {
                    Error::session("Q4_0 blocks cannot be made.", "This is a fault in paddock: please report it.")
                })?;
                let weight = Packed::new(GgmlType::Q4_0, [out, inputs], &blocks, device);
                let x = random([rows, if back { out } else { inputs }]);
                Box::new(move || flat(if back { weight.back(x.clone()) } else { weight.linear(x.clone()) }))
            }
            Self::Rotate { heads, seq, dim } => {
                let (x, cos, sin) = (random3([heads, seq, dim]), random([seq, dim / 2]), random([seq, dim / 2]));
                Box::new(move || -> Tensor<3> {
                    let [cos, sin] = [&cos, &sin].map(|table| table.clone().into_dispatch());
                    Tensor::from_dispatch(Dispatch::rotate(x.clone().into_dispatch(), cos, sin, false))
                })
            }
            Self::RmsNorm { rows, dim, back } => {
                let (x, g, w) = (random([rows, dim]), random([rows, dim]), random([1, dim]));
                Box::new(move || {
                    let [x, g, w] = [&x, &g, &w].map(|tensor| tensor.clone().into_dispatch());
                    flat(Tensor::from_dispatch(match back {
                        false => Dispatch::rms_scale(x, w, 1e-5),
                        true => Dispatch::rms_norm_grad(x, w, g, 1e-5),
                    }))
                })
            }
            Self::CausalSoftmax { batch, rows, keys, back } => {
                let (x, g) = (random3([batch, rows, keys]), random3([batch, rows, keys]));
                Box::new(move || -> Tensor<3> {
                    let [x, g] = [&x, &g].map(|tensor| tensor.clone().into_dispatch());
                    Tensor::from_dispatch(match back {
                        false => Dispatch::causal_softmax(x, keys, 0.125, DType::F32),
                        true => Dispatch::causal_softmax_grad(x, g, 0.125, DType::F32),
                    })
                })
            }
            Self::Swiglu { rows, dim, back } => {
                let [gate, up, g] = [(), (), ()].map(|()| random([rows, dim]));
                Box::new(move || {
                    let [gate, up, g] = [&gate, &up, &g].map(|tensor| tensor.clone().into_dispatch());
                    flat(Tensor::from_dispatch(match back {
                        false => Dispatch::swiglu(gate, up),
                        true => Dispatch::swiglu_grad(gate, up, g),
                    }))
                })
            }
            Self::Embedding { tokens, vocab, dim, back } => {
                let ids: Vec<i32> = (0..tokens).map(|i| (i * 7919 % vocab) as i32).collect();
                let ids = Tensor::<1, Int>::from_data(TensorData::new(ids, [tokens]), device);
                let (table, g) = (random([vocab, dim]), random([tokens, dim]));
                let place = device.clone();
                Box::new(move || {
                    flat(match back {
                        false => table.clone().select(0, ids.clone()),
                        true => Tensor::<2>::zeros([vocab, dim], &place).select_assign(
                            0,
                            ids.clone(),
                            g.clone(),
                            IndexingUpdateOp::Add,
                        ),
                    })
                })
            }
            Self::AdamW { rows, columns } => {
                let config = AdamWConfig { beta1: 0.9, beta2: 0.999, epsilon: 1e-8, weight_decay: 0.0 };
                let mut param = Param::new("weight", random([rows, columns]), false);
                param.trainable = true;
                let (state, grad) = (RefCell::new((AdamW::new(config), param)), random([rows, columns]));
                Box::new(move || {
                    let mut state = state.borrow_mut();
                    let (optimizer, param) = &mut *state;
                    optimizer.step(vec![(&mut *param, grad.clone())], 1e-6, None);
                    flat(param.value())
                })
            }
        };
        Ok(run)
    }
}
