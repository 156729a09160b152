//! One optimizer step: forward and backward over micro-batches, clipping, AdamW.

use burn::tensor::{Device, Int, Tensor, TensorData};

use super::{AdamW, AdamWConfig, Loss, clip_factor, global_norm};
use crate::{
    batch::Batch,
    error::Result,
    model::{Head, Llama},
    weights::read_f32,
};

/// Logits of a micro-batch: one row a text, or one a position under the language-model head.
pub fn forward(model: &Llama, batch: &Batch, device: &Device, training: bool) -> Tensor<2> {
    let ids = Tensor::<2, Int>::from_data(TensorData::new(batch.ids.clone(), [batch.batch, batch.seq]), device);
    match model.head {
        Head::Classification(_) => {
            // From a row's own index to the batch's.
            let last: Vec<i32> = batch.last.iter().zip(0i32..).map(|(at, row)| row * batch.seq as i32 + at).collect();
            let last = Tensor::<1, Int>::from_data(TensorData::new(last, [batch.batch]), device);
            model.classify(ids, last, training)
        }
        Head::CausalLm(_) => {
            let hidden = model.hidden(ids, training);
            model.project(hidden, training)
        }
    }
}

/// What one step came to.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Outcome {
    pub loss: f64,
    /// Before clipping.
    pub grad_norm: f64,
    pub correct: f64,
}

/// A step's numbers, still on the device.
pub struct Pending {
    numbers: Tensor<2>,
}

impl Pending {
    /// Waits for the device: the step's only readback.
    pub async fn read(self) -> Result<Outcome> {
        let numbers = read_f32(self.numbers).await?;
        let at = |i: usize| f64::from(numbers.get(i).copied().unwrap_or(f32::NAN));
        Ok(Outcome { loss: at(0), grad_norm: at(1), correct: at(2) })
    }
}

/// A model in training.
pub struct Trainer {
    pub model: Llama,
    optimizer: AdamW,
    device: Device,
    /// Sums over the micro-batches since the last step, in the order of `params_mut`.
    grads: Vec<Option<Tensor<2>>>,
    sums: Option<(Tensor<2>, Tensor<2>)>,
}

impl Trainer {
    pub fn new(model: Llama, optimizer: AdamWConfig, device: Device) -> Self {
        Self { model, optimizer: AdamW::new(optimizer), device, grads: Vec::new(), sums: None }
    }

    /// Forward and backward over one micro-batch; `share` is its part of the step's loss (1 / micro-batches).
    pub fn accumulate(&mut self, batch: &Batch, share: f64) {
        self.model.track();
        let Loss { loss, correct } =
            batch.targets.loss(forward(&self.model, batch, &self.device, true), batch.seq, &self.device);
        let loss = loss.mul_scalar(share);
        let mut grads = loss.backward();
        let loss = loss.without_autodiff();
        self.sums = Some(match self.sums.take() {
            None => (loss, correct),
            Some((l, c)) => (l + loss, c + correct),
        });
        let mut params = self.model.params_mut();
        self.grads.resize(params.len(), None);
        for (param, sum) in params.iter_mut().zip(&mut self.grads) {
            if let Some(grad) = param.take_grad(&mut grads) {
                *sum = Some(match sum.take() {
                    None => grad,
                    Some(sum) => sum + grad,
                });
            }
        }
    }

    /// The gradients summed so far, by Hugging Face's (or PEFT's) names.
    pub fn gradients(&mut self) -> Vec<(String, Tensor<2>)> {
        let params = self.model.params_mut();
        params.iter().zip(&self.grads).filter_map(|(p, g)| Some((p.name.clone(), g.clone()?))).collect()
    }

    /// Changes the weights by what was accumulated. `max_norm` 0 does not clip.
    pub fn step(&mut self, learning_rate: f64, max_norm: f64) -> Pending {
        let norm = global_norm(self.grads.iter().flatten());
        let clip = norm.clone().filter(|_| max_norm > 0.0).map(|norm| clip_factor(norm, max_norm));
        let grads = std::mem::take(&mut self.grads);
        let changes = self.model.params_mut().into_iter().zip(grads).filter_map(|(p, g)| Some((p, g?))).collect();
        self.optimizer.step(changes, learning_rate, clip);
        let zero = || Tensor::zeros([1, 1], &self.device);
        let (loss, correct) = self.sums.take().unwrap_or_else(|| (zero(), zero()));
        Pending { numbers: Tensor::cat(vec![loss, norm.unwrap_or_else(zero), correct], 1) }
    }
}
