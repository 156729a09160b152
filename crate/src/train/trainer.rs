//! One optimizer step: forward and backward over micro-batches, clipping, AdamW.

use std::collections::HashMap;

use burn::tensor::{Device, Gradients, Int, Tensor, TensorData};

use super::{
    AdamW, AdamWConfig, GradScaler, Loss, clip_factor, global_norm,
    loss::shifted,
    vocabulary::{HeadGrads, head_loss, head_rows, logits_bytes},
};
use crate::{
    batch::{Batch, Targets},
    device,
    error::Result,
    kernels::backward_from,
    model::{Head, Llama, Part, Places},
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

/// Where packed rows stand, and how padded ones turn; none where the batch's length tells it.
fn places(model: &Llama, batch: &Batch, device: &Device) -> Option<Places> {
    if batch.starts.is_empty() {
        return model.padded(batch.seq, batch.longest, device);
    }
    let shape = [batch.batch, batch.seq];
    Some(Places::Packed(Box::new(model.segments(
        batch.starts.clone(),
        batch.positions(),
        shape,
        batch.longest,
        device,
    ))))
}

/// Logits of a micro-batch: one row a text, or one a position under the language-model head.
pub fn forward(model: &Llama, batch: &Batch, device: &Device, training: bool) -> Tensor<2> {
    let places = places(model, batch, device);
    let hidden = model.hidden(ids(batch, device), places.as_ref(), training);
    match model.head {
        Head::Classification(_) => model.project(hidden.select(0, last(batch, device)), training),
        Head::CausalLm(_) => model.project(hidden, training),
    }
}

/// Sum of the losses and number of right next tokens of each line of a language model's batch, without training.
///
/// # Shapes
/// → `[batch, 2]`
pub fn token_sums(model: &Llama, batch: &Batch, device: &Device) -> Tensor<2> {
    let Targets::Tokens(labels) = &batch.targets else { return Tensor::zeros([batch.batch, 2], device) };
    let places = places(model, batch, device);
    let hidden = model.hidden(ids(batch, device), places.as_ref(), false);
    let (losses, right) = head_rows(model.head_weight(), hidden, &shifted(labels, batch.seq), device);
    let by_row = |each: Tensor<2>| each.reshape([batch.batch, batch.seq]).sum_dim(1);
    Tensor::cat(vec![by_row(losses), by_row(right)], 1)
}

/// What one step came to.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Outcome {
    pub loss: f64,
    /// Before clipping.
    pub grad_norm: f64,
    pub correct: f64,
}

/// A model in training.
pub struct Trainer {
    pub model: Llama,
    optimizer: AdamW,
    device: Device,
    /// Sums over the micro-batches since the last step, in the order of `pieces_mut`.
    grads: Vec<Option<Tensor<2>>>,
    sums: Option<(Tensor<2>, Tensor<2>)>,
    /// Of the gradients, between `outcome` and `apply`.
    norm: Option<Tensor<2>>,
    recompute: bool,
    /// Whether anything draws on the device: its generator is one for all that runs there.
    dropout: bool,
    /// Where the model computes in 16 bits.
    pub scaler: Option<GradScaler>,
}

impl Trainer {
    /// `recompute` is `gradient_checkpointing`: a third more computing for activations of one block instead of all.
    pub fn new(mut model: Llama, optimizer: AdamWConfig, device: Device, recompute: bool) -> Self {
        let scaler = model.half.then(GradScaler::default);
        let dropout =
            model.linears_mut().any(|(_, _, linear)| linear.lora.as_ref().is_some_and(|lora| lora.dropout > 0.0));
        let optimizer = AdamW::new(optimizer);
        Self { model, optimizer, device, grads: Vec::new(), sums: None, norm: None, recompute, dropout, scaler }
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

    fn seed(&self, seed: u64) {
        if self.dropout {
            self.device.seed(seed);
        }
    }

    /// Everything that backward needs is kept.
    fn whole(&mut self, batch: &Batch, share: f64, seed: u64) -> Loss {
        self.seed(seed);
        self.model.track();
        let places = places(&self.model, batch, &self.device);
        let hidden = self.model.hidden(ids(batch, &self.device), places.as_ref(), true);
        let (loss, mut grads) = self.end(hidden, batch, share);
        self.collect(&mut grads);
        loss
    }

    /// Forward keeps each block's input alone; backward runs a block again before it goes through it (gradient
    /// checkpointing, arXiv:1604.06174), so that one block's activations exist at a time.
    fn by_blocks(&mut self, batch: &Batch, share: f64, seed: u64) -> Loss {
        let blocks = self.model.config.num_hidden_layers;
        let tokens = ids(batch, &self.device);
        let places = places(&self.model, batch, &self.device);
        let places = places.as_ref();
        let mut x = self.model.embed(tokens.clone());
        let mut inputs = Vec::with_capacity(blocks);
        for index in 0..blocks {
            self.seed(seed.wrapping_add(index as u64));
            inputs.push(x.clone());
            x = self.model.block(index, x, batch.seq, places, true);
        }
        let leaf = x.autodiff().require_grad();
        self.model.track_part(Part::End);
        let hidden = self.model.norm(leaf.clone());
        let (loss, mut grads) = self.end(hidden, batch, share);
        let mut grad = leaf.grad_remove(&mut grads);
        // The last state is not held while the blocks go back.
        drop(leaf);
        self.collect(&mut grads);
        for (index, input) in inputs.into_iter().enumerate().rev() {
            let Some(to_output) = grad else { break };
            let leaf = input.autodiff().require_grad();
            self.model.track_part(Part::Block(index));
            self.seed(seed.wrapping_add(index as u64));
            let output = self.model.block(index, leaf.clone(), batch.seq, places, true);
            let mut grads = backward_from(output, to_output);
            grad = leaf.grad_remove(&mut grads);
            self.collect(&mut grads);
        }
        if self.model.track_part(Part::Embedding)
            && let Some(to_output) = grad
        {
            let mut grads = backward_from(self.model.embed(tokens), to_output);
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
        if self.recompute {
            device::turns(true);
        }
        let head = self.model.head_weight();
        let states = hidden.clone().without_autodiff();
        let (loss, grads) = head_loss(head, states, &shifted(labels, batch.seq), share, true, &self.device);
        if self.recompute || logits_bytes(batch.ids.len(), self.model.config.vocab_size) > device::TURN_SPARE {
            device::turns(self.recompute);
        }
        let name = head.name.clone();
        let Some(HeadGrads { hidden: to_hidden, weight }) = grads else { return (loss, hidden.sum().backward()) };
        let first = self.model.pieces_mut().iter().position(|piece| piece.name == name);
        if let Some(first) = first {
            for (part, grad) in weight.into_iter().enumerate() {
                let grad = self.scaled(grad);
                self.add(first + part, grad);
            }
        }
        let grads = backward_from(hidden, self.scaled(to_hidden));
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
        let taken: Vec<_> = self.model.params_mut().into_iter().flat_map(|param| param.take_grads(grads)).collect();
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

    /// The gradients summed so far, by Hugging Face's (or PEFT's) names; of a weight in parts one for each, in their order.
    pub fn gradients(&mut self) -> Vec<(String, Tensor<2>)> {
        let scale = self.scale();
        let pieces = self.model.pieces_mut();
        let named = pieces.iter().zip(&self.grads).filter_map(|(p, g)| Some((p.name.clone(), g.clone()?)));
        named.map(|(name, grad)| (name, grad.div_scalar(scale))).collect()
    }

    /// What was accumulated since the last step; waits for the device. Nothing has changed yet: a loss or gradient that is
    /// no number can still be left out by [`Self::discard`].
    pub async fn outcome(&mut self) -> Result<Outcome> {
        let zero = || Tensor::zeros([1, 1], &self.device);
        let norm = global_norm(&self.grads.iter().flatten().cloned().collect::<Vec<_>>())
            .unwrap_or_else(zero)
            .mul_scalar(1.0 / self.scale());
        let (loss, correct) = self.sums.take().unwrap_or_else(|| (zero(), zero()));
        self.norm = Some(norm.clone());
        let numbers = read_f32(Tensor::cat(vec![loss, norm, correct], 1)).await?;
        let at = |i: usize| f64::from(numbers.get(i).copied().unwrap_or(f32::NAN));
        Ok(Outcome { loss: at(0), grad_norm: at(1), correct: at(2) })
    }

    /// The next loss scale, where the gradient went beyond 16 bits alone: what was accumulated is dropped.
    pub fn overflowed(&mut self, outcome: Outcome) -> Option<f64> {
        let scaler = self.scaler.as_mut().filter(|scaler| scaler.can_shrink())?;
        if !outcome.loss.is_finite() || outcome.grad_norm.is_finite() {
            return None;
        }
        scaler.update(false);
        let scale = scaler.scale();
        self.discard();
        Some(scale)
    }

    /// Changes the weights by what was accumulated, after [`Self::outcome`]. `max_norm` 0 does not clip.
    pub fn apply(&mut self, learning_rate: f64, max_norm: f64) {
        let clip = self.norm.take().filter(|_| max_norm > 0.0).map(|norm| clip_factor(norm, max_norm));
        let factor = match self.scaler.is_some() {
            false => clip,
            true => {
                let clip = clip.unwrap_or_else(|| Tensor::ones([1, 1], &self.device));
                Some(clip.mul_scalar(1.0 / self.scale()))
            }
        };
        if let Some(scaler) = &mut self.scaler {
            scaler.update(true);
        }
        let grads = std::mem::take(&mut self.grads);
        let changes = self.model.pieces_mut().into_iter().zip(grads).filter_map(|(p, g)| Some((p, g?))).collect();
        self.optimizer.step(changes, learning_rate, factor);
    }

    /// What the loss is multiplied by before it goes back.
    fn scale(&self) -> f64 {
        self.scaler.map_or(1.0, |scaler| scaler.scale())
    }

    /// Drops what was accumulated.
    pub fn discard(&mut self) {
        self.grads.clear();
        (self.sums, self.norm) = (None, None);
    }

    pub fn optimizer_steps(&self) -> i32 {
        self.optimizer.steps()
    }

    /// Trained weights and their moments, for a checkpoint.
    pub fn held(&mut self) -> Vec<Held> {
        let mut held = Vec::new();
        for param in self.model.params_mut().into_iter().filter(|param| param.trainable) {
            let (name, [first, second]) = (param.name.clone(), moment_names(&param.name));
            let pieces = param.pieces();
            held.push(Held { name, parts: pieces.iter().map(|piece| piece.value()).collect() });
            let moments: Option<Vec<_>> = pieces.iter().map(|piece| self.optimizer.moments(piece)).collect();
            if let Some(moments) = moments {
                let (a, b): (Vec<_>, Vec<_>) = moments.into_iter().unzip();
                held.push(Held { name: first, parts: a });
                held.push(Held { name: second, parts: b });
            }
        }
        held
    }

    /// Names and shapes of what [`Self::restore`] takes.
    pub fn wanted(&mut self) -> Vec<(String, [usize; 2])> {
        let trained = self.model.params_mut().into_iter().filter(|param| param.trainable);
        trained
            .flat_map(|param| {
                let [a, b] = moment_names(&param.name);
                [param.name.clone(), a, b].map(|name| (name, param.dims()))
            })
            .collect()
    }

    /// Weights and moments as [`Self::held`] gave them, whole: this device may hold them in other parts, or in none.
    pub fn restore(&mut self, values: Vec<(String, Vec<f32>, [usize; 2])>, optimizer_steps: i32) {
        self.discard();
        let device = &self.device;
        let mut numbers: HashMap<String, Vec<f32>> =
            values.into_iter().map(|(name, numbers, _)| (name, numbers)).collect();
        let mut moments = Vec::new();
        for param in self.model.params_mut().into_iter().filter(|param| param.trainable) {
            let both = moment_names(&param.name).map(|name| numbers.remove(&name));
            let value = numbers.remove(&param.name);
            let mut from = 0;
            for piece in param.pieces() {
                let [rows, columns] = piece.dims();
                let place = from..from + rows * columns;
                from = place.end;
                let of_piece = |whole: &Option<Vec<f32>>| {
                    let part = whole.as_ref()?.get(place.clone())?.to_vec();
                    Some(Tensor::<2>::from_data(TensorData::new(part, [rows, columns]), device))
                };
                if let Some(value) = of_piece(&value) {
                    piece.set(value);
                }
                if let [Some(first), Some(second)] = both.each_ref().map(of_piece) {
                    moments.push((&*piece, [first, second]));
                }
            }
        }
        self.optimizer.restore(optimizer_steps, moments);
    }
}

/// A tensor of a checkpoint.
pub struct Held {
    pub name: String,
    /// Rows below each other; one tensor, but where a weight is held in parts.
    pub parts: Vec<Tensor<2>>,
}

impl Held {
    /// Of all parts together.
    pub fn dims(&self) -> [usize; 2] {
        let columns = self.parts.first().map_or(0, |part| part.dims()[1]);
        [self.parts.iter().map(|part| part.dims()[0]).sum(), columns]
    }
}

/// What the moments' names begin with.
pub const MOMENT: &str = "optimizer.";

/// By PyTorch's names for AdamW's state.
fn moment_names(name: &str) -> [String; 2] {
    ["exp_avg", "exp_avg_sq"].map(|kind| format!("{MOMENT}{kind}.{name}"))
}
