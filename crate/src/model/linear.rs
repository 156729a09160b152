//! A linear layer with an optional low-rank adapter beside it.

use std::ops::Range;

use burn::tensor::{Distribution, Tensor};

use super::Param;
use crate::kernels::{Layout, matmul};

/// `y = x·Wᵀ + b`, and with an adapter `+ (alpha / r) · dropout(x)·Aᵀ·Bᵀ` (LoRA, arXiv:2106.09685).
#[derive(Debug, Clone)]
pub struct Linear {
    /// `[out, in]`.
    pub weight: Param,
    /// `[1, out]`; most LLaMAs have none.
    pub bias: Option<Param>,
    pub lora: Option<Lora>,
}

#[derive(Debug, Clone)]
pub struct Lora {
    /// `[r, in]`.
    pub a: Param,
    /// `[out, r]`.
    pub b: Param,
    /// `alpha / r`.
    pub scale: f32,
    /// Share of the inputs dropped while training.
    pub dropout: f64,
}

impl Linear {
    pub fn new(weight: Param) -> Self {
        Self { weight, bias: None, lora: None }
    }

    /// # Shapes
    /// `x` `[rows, in]` → `[rows, out]`
    pub fn forward(&self, x: Tensor<2>, training: bool) -> Tensor<2> {
        let Some(lora) = &self.lora else {
            return self.base(x);
        };
        let dropped = training && lora.dropout > 0.0;
        if !dropped
            && self.bias.is_none()
            && let Some(y) = self.weight.adapted(x.clone(), lora.a.tensor(), lora.b.tensor(), lora.scale)
        {
            return y;
        }
        let base = self.base(x.clone());
        let x = if dropped {
            let keep = 1.0 - lora.dropout;
            let mask = Tensor::random(x.shape(), Distribution::Bernoulli(keep), &x.device().without_autodiff());
            let mask: Tensor<2> = mask.div_scalar(keep);
            let mask = mask.cast(x.dtype());
            x * mask
        } else {
            x
        };
        // Two thin products: the dense A·B never exists, forward or backward.
        let low = lora.a.linear(x);
        base + lora.b.linear(low).mul_scalar(lora.scale)
    }

    /// The layer without its adapter.
    fn base(&self, x: Tensor<2>) -> Tensor<2> {
        let y = self.weight.linear(x);
        match &self.bias {
            None => y,
            Some(bias) => {
                let bias = bias.tensor().cast(y.dtype());
                y + bias
            }
        }
    }

    /// Some rows of the weight with its adapter folded in: `W + scale · B·A`.
    pub fn merged(&self, rows: Range<usize>) -> Tensor<2> {
        let weight = self.weight.rows(rows.clone());
        match &self.lora {
            None => weight,
            Some(lora) => weight + matmul(lora.b.rows(rows), lora.a.value(), Layout::Nn).mul_scalar(lora.scale),
        }
    }

    pub(super) fn params_mut<'a>(&'a mut self, out: &mut Vec<&'a mut Param>) {
        out.push(&mut self.weight);
        out.extend(self.bias.as_mut());
        if let Some(lora) = &mut self.lora {
            out.push(&mut lora.a);
            out.push(&mut lora.b);
        }
    }
}
