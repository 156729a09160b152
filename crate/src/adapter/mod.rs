//! Low-rank adapters: put onto a model, read and written in PEFT's layout.

mod files;
mod peft;

pub use files::AdapterFiles;
pub use peft::{PeftConfig, load, names};

use burn::tensor::{Device, Tensor, TensorData};
use rand::Rng;

use crate::{
    config::LoraConfig,
    model::{Head, Llama, Lora, Param},
};

/// Puts a fresh adapter beside every targeted layer: A uniform in ±1/√in (PEFT's Kaiming with a = √5), B zero, so that
/// the model answers as before. The base is frozen; a classification head is trained in full beside the adapter.
pub fn inject(model: &mut Llama, config: &LoraConfig, rng: &mut impl Rng, device: &Device) {
    for (name, short, linear) in model.linears_mut() {
        if !config.target_modules.iter().any(|t| t == short) {
            continue;
        }
        let [out, inputs] = linear.weight.dims();
        let bound = 1.0 / (inputs as f32).sqrt();
        let a: Vec<f32> = (0..config.r * inputs).map(|_| rng.random_range(-bound..bound)).collect();
        let param = |kind: &str, value| Param::new(format!("{PREFIX}{name}.{kind}.weight"), value, false);
        linear.lora = Some(Lora {
            a: param("lora_A", Tensor::from_data(TensorData::new(a, [config.r, inputs]), device)),
            b: param("lora_B", Tensor::zeros([out, config.r], device)),
            scale: scale(config),
            dropout: config.lora_dropout,
        });
    }
    train_adapter_only(model);
}

/// What the adapter's output is multiplied by.
fn scale(config: &LoraConfig) -> f32 {
    (config.lora_alpha / config.r as f64) as f32
}

/// What PEFT puts before a base model's own names.
pub const PREFIX: &str = "base_model.model.";

/// Marks the adapter and a classification head as trainable, everything else as frozen.
fn train_adapter_only(model: &mut Llama) {
    let classifier = matches!(model.head, Head::Classification(_));
    for param in model.params_mut() {
        param.trainable = param.name.starts_with(PREFIX) || (classifier && param.name == "score.weight");
    }
}
