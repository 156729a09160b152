//! AdamW (arXiv:1711.05101) in PyTorch's order of operations, and clipping by the global norm.

use std::collections::HashMap;

use burn::tensor::Tensor;

use crate::model::Param;

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
    moments: HashMap<String, (Tensor<2>, Tensor<2>)>,
}

impl AdamW {
    pub fn new(config: AdamWConfig) -> Self {
        Self { config, steps: 0, moments: HashMap::new() }
    }

    /// One step over all weights that have a gradient. `clip` is a factor `[1, 1]` on every gradient, left on the device.
    pub fn step(&mut self, grads: Vec<(&mut Param, Tensor<2>)>, learning_rate: f64, clip: Option<Tensor<2>>) {
        self.steps += 1;
        let AdamWConfig { beta1, beta2, epsilon, weight_decay } = self.config;
        let correction1 = 1.0 - beta1.powi(self.steps);
        let correction2 = (1.0 - beta2.powi(self.steps)).sqrt();
        for (param, grad) in grads {
            let grad = match &clip {
                Some(factor) => grad * factor.clone(),
                None => grad,
            };
            let square = grad.clone() * grad.clone();
            let (m, v) = match self.moments.remove(&param.name) {
                Some((m, v)) => (
                    m.mul_scalar(beta1) + grad.mul_scalar(1.0 - beta1),
                    v.mul_scalar(beta2) + square.mul_scalar(1.0 - beta2),
                ),
                None => (grad.mul_scalar(1.0 - beta1), square.mul_scalar(1.0 - beta2)),
            };
            let update = m.clone() / v.clone().sqrt().div_scalar(correction2).add_scalar(epsilon);
            let decay = if param.vector { 0.0 } else { weight_decay };
            let value = param.value();
            let value = if decay == 0.0 { value } else { value.mul_scalar(1.0 - learning_rate * decay) };
            param.set(value - update.mul_scalar(learning_rate / correction1));
            self.moments.insert(param.name.clone(), (m, v));
        }
    }

    /// Optimizer steps so far.
    pub fn steps(&self) -> i32 {
        self.steps
    }

    /// The two moments of the weight `name`, once it has taken a step.
    pub fn moments(&self, name: &str) -> Option<&(Tensor<2>, Tensor<2>)> {
        self.moments.get(name)
    }

    /// Goes on where another one was.
    pub fn restore(&mut self, steps: i32, moments: HashMap<String, (Tensor<2>, Tensor<2>)>) {
        (self.steps, self.moments) = (steps, moments);
    }

    /// Bytes of the two moments for this many trained weights.
    pub fn bytes(elements: u64) -> u64 {
        elements * 2 * size_of::<f32>() as u64
    }
}

/// Euclidean norm over all gradients together, `[1, 1]`.
pub fn global_norm<'a>(grads: impl Iterator<Item = &'a Tensor<2>>) -> Option<Tensor<2>> {
    grads.map(|g| (g.clone() * g.clone()).sum().reshape([1, 1])).reduce(|a, b| a + b).map(Tensor::sqrt)
}

/// `min(1, max_norm / (norm + 1e-6))`, as PyTorch's `clip_grad_norm_`.
pub fn clip_factor(norm: Tensor<2>, max_norm: f64) -> Tensor<2> {
    norm.add_scalar(1e-6).recip().mul_scalar(max_norm).clamp_max(1.0)
}
