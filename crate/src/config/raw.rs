//! The configuration as a person writes it: every key optional, unknown keys refused.

use serde::{Deserialize, Serialize};
use ts_rs::TS;

/// `run.yaml`. Absent keys take the defaults of [`super::Config`].
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, TS)]
#[serde(deny_unknown_fields, default)]
#[ts(optional_fields = nullable)]
pub struct RawConfig {
    /// `text-classification` (default) or `text-generation`.
    pub task: Option<String>,
    /// `auto` (default), `cpu` or `gpu`.
    pub device: Option<String>,
    /// `auto` (default), or `stock` for Burn's own matrix products on a GPU: to compare, or around a driver's fault.
    pub kernels: Option<String>,
    pub model: ModelSection,
    pub data: DataSection,
    pub training: TrainingSection,
    pub lora: LoraSection,
    pub recovery: RecoverySection,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, TS)]
#[serde(deny_unknown_fields, default)]
#[ts(optional_fields = nullable)]
pub struct ModelSection {
    /// `llama`.
    #[serde(rename = "type")]
    pub kind: Option<String>,
    /// A Hugging Face folder, or `starter`.
    pub name_or_path: Option<String>,
    /// Number of classes; found in the data when absent; 1 means regression.
    pub num_labels: Option<usize>,
    /// Longer texts are cut to this many tokens.
    pub max_seq_length: Option<usize>,
    /// How a frozen base is held on the device: `auto` (default: a GGUF file's blocks as they are, other files in
    /// numbers), `none` (in numbers), or quantised to GGML's `q4_0`, `q4_1` or `q8_0` while it is read (QLoRA).
    pub quantization: Option<String>,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, TS)]
#[serde(deny_unknown_fields, default)]
#[ts(optional_fields = nullable)]
pub struct DataSection {
    pub train_file: Option<String>,
    /// Held-out rows of their own; otherwise `validation_split` of the training file is held out.
    pub validation_file: Option<String>,
    pub validation_split: Option<f64>,
    pub text_column: Option<String>,
    pub label_column: Option<String>,
    /// Use at most this many rows, drawn with the seed.
    pub max_train_samples: Option<usize>,
    pub max_eval_samples: Option<usize>,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, TS)]
#[serde(deny_unknown_fields, default)]
#[ts(optional_fields = nullable)]
pub struct TrainingSection {
    /// `lora` (default) or `full`.
    pub method: Option<String>,
    /// Rows a micro-batch.
    pub batch_size: Option<usize>,
    pub gradient_accumulation_steps: Option<usize>,
    /// Keep one block's activations at a time and compute the others again: less memory, a third more work.
    pub gradient_checkpointing: Option<bool>,
    /// `fp16`: products in 16-bit numbers, summed in 32, with a dynamic loss scale, and a frozen base in 16 bits; `no`:
    /// everything in 32; `auto` (default): `fp16` on a hardware GPU that has 16-bit arithmetic (`shader-f16`).
    pub mixed_precision: Option<String>,
    pub learning_rate: Option<f64>,
    pub num_epochs: Option<f64>,
    /// Overrides `num_epochs`.
    #[ts(as = "Option<f64>")]
    pub max_steps: Option<u64>,
    pub weight_decay: Option<f64>,
    pub adam_beta1: Option<f64>,
    pub adam_beta2: Option<f64>,
    pub adam_epsilon: Option<f64>,
    /// `linear` (default), `cosine` or `constant`.
    pub lr_scheduler_type: Option<String>,
    pub warmup_ratio: Option<f64>,
    #[ts(as = "Option<f64>")]
    pub warmup_steps: Option<u64>,
    /// 0 turns clipping off.
    pub max_grad_norm: Option<f64>,
    #[ts(as = "Option<f64>")]
    pub logging_steps: Option<u64>,
    /// Measure on the held-out rows every so many steps; never but at the ends when absent.
    #[ts(as = "Option<f64>")]
    pub eval_steps: Option<u64>,
    /// A checkpoint every so many steps; when absent every tenth of the run and every minute, 0 for none.
    #[ts(as = "Option<f64>")]
    pub save_steps: Option<u64>,
    /// Checkpoints that are kept, beside the best one.
    pub save_total_limit: Option<usize>,
    /// What tells the best checkpoint: `loss` (default), `accuracy`, `macro_f1`, `perplexity` or `mse`.
    pub metric_for_best_model: Option<String>,
    /// End with the best checkpoint's weights instead of the last ones; the default where training can stop early.
    pub load_best_model_at_end: Option<bool>,
    /// Stop after this many measurements in a row that were no better than the best one.
    #[ts(as = "Option<f64>")]
    pub early_stopping_patience: Option<u64>,
    /// By how much a measurement must be better to count.
    pub early_stopping_threshold: Option<f64>,
    /// `none` (default), or `tensorboard` for event files in the run's folder.
    pub report_to: Option<String>,
    /// Stop after this many minutes of training.
    pub max_minutes: Option<f64>,
    #[ts(as = "Option<f64>")]
    pub seed: Option<u64>,
}

/// What a run does about trouble before it gives up.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, TS)]
#[serde(deny_unknown_fields, default)]
#[ts(optional_fields = nullable)]
pub struct RecoverySection {
    /// Times that a run goes back to its last good checkpoint; 0 turns recovery off.
    #[ts(as = "Option<f64>")]
    pub max_retries: Option<u64>,
    /// Batches in a row with a loss or gradient that is no finite number that are left out before it goes back.
    #[ts(as = "Option<f64>")]
    pub max_skipped_batches: Option<u64>,
    /// On the learning rate after it went back because of the loss or a gradient.
    pub learning_rate_factor: Option<f64>,
    /// The loss diverges where its smoothed value is this many times its best one, and above the first; 0 turns this off.
    pub divergence_threshold: Option<f64>,
    /// For so many steps in a row.
    #[ts(as = "Option<f64>")]
    pub divergence_patience: Option<u64>,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, TS)]
#[serde(deny_unknown_fields, default)]
#[ts(optional_fields = nullable)]
pub struct LoraSection {
    pub r: Option<usize>,
    pub lora_alpha: Option<f64>,
    pub lora_dropout: Option<f64>,
    /// Hugging Face's module names (`q_proj` …); all linear layers when absent.
    pub target_modules: Option<Vec<String>>,
}
