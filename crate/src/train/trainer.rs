//! One optimizer step: forward and backward over micro-batches, clipping, AdamW.

use burn::tensor::{Device, Gradients, Int, Tensor, TensorData};

use super::{
    AdamW, AdamWConfig, GradScaler, Loss, clip_factor, global_norm,
    loss::shifted,
    vocabulary::{HeadGrads, head_loss},
};
use crate::{
    batch::{Batch, Targets},
    error::Result,
    model::{Head, Llama, Part},
    weights::read_f32,
};

/// A micro-batch's token ids on the device.
fn ids(batch: &Batch, device: &Device) -> Tensor<2, Int> {
    Tensor::from_data(TensorData::new(batch.ids.clone(), [batch.batch, batch.seq]), device)
}

/// Where each row's last token stands among the batch's.
fn last(batch: &Batch, device: &Device) -> Tensor<1, Int> {
    let last: Vec<i32> = batch.last.iter().zip(0i32..).map(|(at, row)| row * batch.seq as i32 + at).collect();
    Tensor::from_data(TensorData::new(last, [batch.batch]), device)
}

/// Logits of a micro-batch: one row a text, or one a position under the language-model head.
pub fn forward(model: &Llama, batch: &Batch, device: &Device, training: bool) -> Tensor<2> {
    match model.head {
        Head::Classification(_) => model.classify(ids(batch, device), last(batch, device), training),
        Head::CausalLm(_) => {
            let hidden = model.hidden(ids(batch, device), training);
            model.project(hidden, training)
        }
    }
}

/// Loss of a micro-batch, without training.
pub fn measure(model: &Llama, batch: &Batch, device: &Device) -> Loss {
    match &batch.targets {
        Targets::Tokens(labels) => {
            let hidden = model.hidden(ids(batch, device), false);
            head_loss(model.head_weight(), hidden, &shifted(labels, batch.seq), 1.0, false, device).0
        }
        _ => batch.targets.loss(forward(model, batch, device, false), device),
    }
}

/// What one step came to.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Outcome {
    pub loss: f64,
    /// Before clipping; 0 where the step was skipped.
    pub grad_norm: f64,
    pub correct: f64,
}

/// A step's numbers, still on the device.
pub struct Pending {
    numbers: Tensor<2>,
    /// The loss scale from here on, where the gradient overflowed: the weights are as they were.
    pub skipped: Option<f64>,
}

impl Pending {
    /// Waits for the device.
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
    recompute: bool,
    /// Where the model computes in 16 bits.
    pub scaler: Option<GradScaler>,
}

impl Trainer {
    /// `recompute` is `gradient_checkpointing`: a third more computing for activations of one block instead of all.
    pub fn new(model: Llama, optimizer: AdamWConfig, device: Device, recompute: bool) -> Self {
        let scaler = model.half.then(GradScaler::default);
        Self { model, optimizer: AdamW::new(optimizer), device, grads: Vec::new(), sums: None, recompute, scaler }
    }

    /// Forward and backward over one micro-batch; `share` is its part of the step's loss (1 / micro-batches). Dropout
    /// draws on the device, seeded here, so that its masks depend on `seed` alone.
    pub fn accumulate(&mut self, batch: &Batch, share: f64, seed: u64) {
        let loss = if self.recompute { self.by_blocks(batch, share, seed) } else { self.whole(batch, share, seed) };
        self.sums = Some(match self.sums.take() {
            None => (loss.loss, loss.correct),
            Some((l, c)) => (l + loss.loss, c + loss.correct),
        });
    }

    /// Everything that backward needs is kept.
    fn whole(&mut self, batch: &Batch, share: f64, seed: u64) -> Loss {
        self.device.seed(seed);
        self.model.track();
        let hidden = self.model.hidden(ids(batch, &self.device), true);
        let (loss, mut grads) = self.end(hidden, batch, share);
        self.collect(&mut grads);
        loss
    }

    /// Forward keeps each block's input alone; backward runs a block again before it goes through it (gradient
    /// checkpointing, arXiv:1604.06174), so that one block's activations exist at a time.
    fn by_blocks(&mut self, batch: &Batch, share: f64, seed: u64) -> Loss {
        let blocks = self.model.config.num_hidden_layers;
        let seeded = |device: &Device, index: usize| device.seed(seed.wrapping_add(index as u64));
        let tokens = ids(batch, &self.device);
        let mut x = self.model.embed(tokens.clone());
        let mut inputs = Vec::with_capacity(blocks);
        for index in 0..blocks {
            seeded(&self.device, index);
            inputs.push(x.clone());
            x = self.model.block(index, x, batch.seq, true);
        }
        let leaf = x.autodiff().require_grad();
        self.model.track_part(Part::End);
        let hidden = self.model.norm(leaf.clone());
        let (loss, mut grads) = self.end(hidden, batch, share);
        let mut grad = leaf.grad_remove(&mut grads);
        self.collect(&mut grads);
        for (index, input) in inputs.into_iter().enumerate().rev() {
            let Some(to_output) = grad else { break };
            let leaf = input.autodiff().require_grad();
            self.model.track_part(Part::Block(index));
            seeded(&self.device, index);
            let output = self.model.block(index, leaf.clone(), batch.seq, true);
            let mut grads = (output * to_output).sum().backward();
            grad = leaf.grad_remove(&mut grads);
            self.collect(&mut grads);
        }
        if self.model.track_part(Part::Embedding)
            && let Some(to_output) = grad
        {
            let mut grads = (self.model.embed(tokens) * to_output).sum().backward();
            self.collect(&mut grads);
        }
        loss
    }

    /// From the hidden states to the loss, and back from there.
    fn end(&mut self, hidden: Tensor<2>, batch: &Batch, share: f64) -> (Loss, Gradients) {
        let Targets::Tokens(labels) = &batch.targets else {
            let logits = self.model.project(hidden.select(0, last(batch, &self.device)), true);
            let Loss { loss, correct } = batch.targets.loss(logits, &self.device);
            let loss = loss.mul_scalar(share);
            let grads = self.scaled(loss.clone()).backward();
            return (Loss { loss: loss.without_autodiff(), correct }, grads);
        };
        let head = self.model.head_weight();
        let states = hidden.clone().without_autodiff();
        let (loss, grads) = head_loss(head, states, &shifted(labels, batch.seq), share, true, &self.device);
        let Some(HeadGrads { hidden: to_hidden, weight }) = grads else { return (loss, hidden.sum().backward()) };
        if let Some(grad) = weight {
            let name = head.name.clone();
            let at = self.model.params_mut().iter().position(|param| param.name == name);
            at.into_iter().for_each(|at| self.add(at, self.scaled(grad.clone())));
        }
        // Its gradient to the hidden states is `to_hidden`.
        let grads = (hidden * self.scaled(to_hidden)).sum().backward();
        (loss, grads)
    }

    /// Times the loss scale, where there is one.
    fn scaled(&self, x: Tensor<2>) -> Tensor<2> {
        match &self.scaler {
            None => x,
            Some(scaler) => x.mul_scalar(scaler.scale()),
        }
    }

    /// Takes the gradients of the weights that were tracked.
    fn collect(&mut self, grads: &mut Gradients) {
        let taken: Vec<_> = self.model.params_mut().into_iter().map(|param| param.take_grad(grads)).collect();
        for (at, grad) in taken.into_iter().enumerate() {
            if let Some(grad) = grad {
                self.add(at, grad);
            }
        }
    }

    fn add(&mut self, at: usize, grad: Tensor<2>) {
        if self.grads.len() <= at {
            self.grads.resize(at + 1, None);
        }
        self.grads[at] = Some(match self.grads[at].take() {
            None => grad,
            Some(sum) => sum + grad,
        });
    }

    /// The gradients summed so far, by Hugging Face's (or PEFT's) names.
    pub fn gradients(&mut self) -> Vec<(String, Tensor<2>)> {
        let scale = self.scaler.map_or(1.0, |scaler| scaler.scale());
        let params = self.model.params_mut();
        let named = params.iter().zip(&self.grads).filter_map(|(p, g)| Some((p.name.clone(), g.clone()?)));
        named.map(|(name, grad)| (name, grad.div_scalar(scale))).collect()
    }

    /// Changes the weights by what was accumulated. `max_norm` 0 does not clip.
    ///
    /// In 16 bits it waits for the gradient's norm, as torch does: whether the step is taken is the host's to know, which
    /// counts the optimizer's steps and keeps the scale.
    pub async fn step(&mut self, learning_rate: f64, max_norm: f64) -> Result<Pending> {
        let grads = std::mem::take(&mut self.grads);
        let device = self.device.clone();
        let zero = || Tensor::zeros([1, 1], &device);
        let (loss, correct) = self.sums.take().unwrap_or_else(|| (zero(), zero()));
        let mut norm = global_norm(grads.iter().flatten()).unwrap_or_else(zero);
        let mut unscale = None;
        let mut finite = true;
        if let Some(scaler) = &mut self.scaler {
            let factor = 1.0 / scaler.scale();
            norm = norm.mul_scalar(factor);
            unscale = Some(factor);
            finite = read_f32(norm.clone()).await?.iter().all(|norm| norm.is_finite());
            if !finite && scaler.can_shrink() {
                scaler.update(false);
                let numbers = Tensor::cat(vec![loss, zero(), correct], 1);
                return Ok(Pending { numbers, skipped: Some(scaler.scale()) });
            }
            scaler.update(finite);
        }
        if finite {
            let clip = (max_norm > 0.0).then(|| clip_factor(norm.clone(), max_norm));
            let factor = match unscale {
                None => clip,
                Some(unscale) => Some(clip.unwrap_or_else(|| Tensor::ones([1, 1], &device)).mul_scalar(unscale)),
            };
            let changes = self.model.params_mut().into_iter().zip(grads).filter_map(|(p, g)| Some((p, g?))).collect();
            self.optimizer.step(changes, learning_rate, factor);
        }
        Ok(Pending { numbers: Tensor::cat(vec![loss, norm, correct], 1), skipped: None })
    }
}
