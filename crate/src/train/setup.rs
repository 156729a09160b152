//! What every training begins with: how the base is read, and how a loaded model is trained.

use super::{AdamWConfig, Trainer};
use crate::{
    config::{Config, Method},
    device::Opened,
    error::Result,
    model::Llama,
    plan,
    weights::folder::{Folder, Loader},
};

/// Reads the base as the configuration wants it held. `outputs` is the number of classes.
pub fn loader(config: &Config, opened: &Opened, folder: &Folder, outputs: usize) -> Result<Loader> {
    // AdamW has both moments of what is trained in one tensor.
    let limit = if config.training.method == Method::Full { opened.binding() / 2 } else { opened.binding() };
    let (weights, head) = (folder.weights.clone(), plan::head(config.task));
    let loader = Loader::new(weights, head, outputs, opened.device.clone(), config.packing());
    Ok(loader.half(opened.half(config)?).within(limit))
}

/// A model with its adapter becomes one in training.
pub fn trainer(config: &Config, opened: &Opened, model: Llama) -> Trainer {
    let training = &config.training;
    let optimizer = AdamWConfig {
        beta1: training.adam_beta1,
        beta2: training.adam_beta2,
        epsilon: training.adam_epsilon,
        weight_decay: training.weight_decay,
    };
    Trainer::new(model, optimizer, opened.device.clone(), training.gradient_checkpointing)
}
