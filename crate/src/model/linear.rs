//! A linear layer with an optional low-rank adapter beside it.

use std::ops::Range;

use burn::tensor::{Distribution, Tensor};

use super::Param;
use crate::kernels::linear;

/// `y = x·Wᵀ`, and with an adapter `+ (alpha / r) · dropout(x)·Aᵀ·Bᵀ` (LoRA, arXiv:2106.09685).
#[derive(Debug, Clone)]
pub struct Linear {
    /// `[out, in]`.
    pub weight: Param,
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
        Self { weight, lora: None }
    }

    /// # Shapes
    /// `x` `[rows, in]` → `[rows, out]`
    pub fn forward(&self, x: Tensor<2>, training: bool) -> Tensor<2> {
        let Some(lora) = &self.lora else {
            return linear(x, self.weight.tensor());
        };
        let base = linear(x.clone(), self.weight.tensor());
        let x = if training && lora.dropout > 0.0 {
            let keep = 1.0 - lora.dropout;
            let mask = Tensor::random(x.shape(), Distribution::Bernoulli(keep), &x.device().without_autodiff());
            x * mask.div_scalar(keep)
        } else {
            x
        };
        // Two thin products: the dense A·B never exists, forward or backward.
        let low = linear(x, lora.a.tensor());
        base + linear(low, lora.b.tensor()).mul_scalar(lora.scale)
    }

    /// Some rows of the weight with its adapter folded in: `W + scale · B·A`.
    pub fn merged(&self, rows: Range<usize>) -> Tensor<2> {
        let weight = self.weight.value().slice([rows.clone()]);
        match &self.lora {
            None => weight,
            Some(lora) => weight + lora.b.value().slice([rows]).matmul(lora.a.value()).mul_scalar(lora.scale),
        }
    }

    pub(super) fn params_mut<'a>(&'a mut self, out: &mut Vec<&'a mut Param>) {
        out.push(&mut self.weight);
        if let Some(lora) = &mut self.lora {
            out.push(&mut lora.a);
            out.push(&mut lora.b);
        }
    }
}
