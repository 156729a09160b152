//! AdamW (arXiv:1711.05101) in PyTorch's order of operations, and clipping by the global norm.

use std::collections::HashMap;

use burn::tensor::Tensor;

use crate::{
    kernels::{AdamWRule, adamw, squares},
    model::Param,
};

#[derive(Debug, Clone, Copy)]
pub struct AdamWConfig {
    pub beta1: f64,
    pub beta2: f64,
    pub epsilon: f64,
    pub weight_decay: f64,
}

/// Moments by weight name. Vectors (norms) are not decayed, as transformers' Trainer does.
#[derive(Debug)]
pub struct AdamW {
    config: AdamWConfig,
    steps: i32,
    /// The first moments of a weight or a part of one, by its name and number, and below them the second ones.
    moments: HashMap<(String, usize), Tensor<2>>,
}

/// What moments are kept by.
fn key(piece: &Param) -> (String, usize) {
    (piece.name.clone(), piece.part())
}

impl AdamW {
    pub fn new(config: AdamWConfig) -> Self {
        Self { config, steps: 0, moments: HashMap::new() }
    }

    /// One step over all [`Param::pieces`] that have a gradient. `clip` is a factor `[1, 1]` on every gradient, left on the device.
    pub fn step(&mut self, grads: Vec<(&mut Param, Tensor<2>)>, learning_rate: f64, clip: Option<Tensor<2>>) {
        self.steps += 1;
        let AdamWConfig { beta1, beta2, epsilon, weight_decay } = self.config;
        let correction1 = 1.0 - beta1.powi(self.steps);
        let correction2 = (1.0 - beta2.powi(self.steps)).sqrt();
        for (param, grad) in grads {
            let [rows, columns] = grad.dims();
            let device = grad.device();
            let factor = clip.clone().unwrap_or_else(|| Tensor::ones([1, 1], &device));
            let key = key(param);
            let moments = self.moments.remove(&key);
            let moments = moments.unwrap_or_else(|| Tensor::zeros([2 * rows, columns], &device));
            let decay = if param.vector { 0.0 } else { weight_decay };
            let rule = AdamWRule {
                beta1: beta1 as f32,
                rest1: (1.0 - beta1) as f32,
                beta2: beta2 as f32,
                rest2: (1.0 - beta2) as f32,
                epsilon: epsilon as f32,
                correction: correction2 as f32,
                step: (learning_rate / correction1) as f32,
                keep: (1.0 - learning_rate * decay) as f32,
            };
            let (value, moments) = adamw(param.value(), grad, moments, factor, rule);
            param.set(value);
            self.moments.insert(key, moments);
        }
    }

    /// Optimizer steps so far.
    pub fn steps(&self) -> i32 {
        self.steps
    }

    /// The two moments of a piece of a weight, once it has taken a step.
    pub fn moments(&self, piece: &Param) -> Option<(Tensor<2>, Tensor<2>)> {
        let both = self.moments.get(&key(piece))?;
        let rows = both.dims()[0] / 2;
        Some((both.clone().narrow(0, 0, rows), both.clone().narrow(0, rows, rows)))
    }

    /// Goes on where another one was; the two moments of each piece that has them.
    pub fn restore(&mut self, steps: i32, moments: Vec<(&Param, [Tensor<2>; 2])>) {
        self.steps = steps;
        self.moments = moments.into_iter().map(|(piece, both)| (key(piece), Tensor::cat(both.into(), 0))).collect();
    }

    /// Bytes of the two moments for this many trained weights.
    pub fn bytes(elements: u64) -> u64 {
        elements * 2 * size_of::<f32>() as u64
    }
}

/// Euclidean norm over all gradients together, `[1, 1]`.
pub fn global_norm(grads: &[Tensor<2>]) -> Option<Tensor<2>> {
    squares(grads).map(Tensor::sqrt)
}

/// `min(1, max_norm / (norm + 1e-6))`, as PyTorch's `clip_grad_norm_`.
pub fn clip_factor(norm: Tensor<2>, max_norm: f64) -> Tensor<2> {
    norm.add_scalar(1e-6).recip().mul_scalar(max_norm).clamp_max(1.0)
}
