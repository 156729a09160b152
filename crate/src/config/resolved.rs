//! The configuration as the engine uses it: every default filled in, every value checked.
//!
//! Defaults are those of Hugging Face's `TrainingArguments` and PEFT's `LoraConfig` where they have one, except the
//! learning rate (adapters of a small model want more than 5e-5) and dropout.

use serde::Serialize;

use super::raw::{DataSection, LoraSection, ModelSection, RawConfig, RecoverySection, TrainingSection};
use crate::{
    error::{Error, Result},
    event::Metrics,
    weights::{Packing, ggml::GgmlType},
};

/// The linear layers of a LLaMA block by Hugging Face's names: what LoRA can be put on.
pub const TARGET_MODULES: [&str; 7] = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"];

/// A run, fully described. Serializes to the YAML that [`RawConfig::from_yaml`] reads.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Config {
    pub task: Task,
    pub device: DeviceChoice,
    pub kernels: Kernels,
    pub model: ModelConfig,
    pub data: DataConfig,
    pub training: TrainingConfig,
    pub lora: LoraConfig,
    pub recovery: RecoveryConfig,
}

/// A closed set of words: parsed by name, and an unknown name is told the words there are.
macro_rules! words {
    ($(#[$doc:meta])* $name:ident { $($(#[$vdoc:meta])* $variant:ident = $word:literal),+ $(,)? }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
        #[allow(non_camel_case_types)]
        pub enum $name { $($(#[$vdoc])* #[serde(rename = $word)] $variant),+ }

        impl $name {
            const WORDS: &[(&str, Self)] = &[$(($word, Self::$variant)),+];

            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $word),+ }
            }

            /// `default` where `value` is absent; an error that names `key` where it is no word of the set.
            fn parse(key: &str, value: Option<&str>, default: Self) -> Result<Self> {
                let Some(value) = value else { return Ok(default) };
                Self::WORDS.iter().find(|(word, _)| *word == value).map(|(_, variant)| *variant).ok_or_else(|| {
                    let words: Vec<_> = Self::WORDS.iter().map(|(word, _)| *word).collect();
                    Error::config(key, words.join(" or "), format!("`{value}`"))
                })
            }
        }
    };
}

words! {
    Task {
        TextClassification = "text-classification",
        TextGeneration = "text-generation",
    }
}

words! {
    DeviceChoice {
        /// A hardware GPU where there is one, else the CPU.
        Auto = "auto",
        Cpu = "cpu",
        Gpu = "gpu",
    }
}

words! {
    /// Which kernels a GPU runs.
    Kernels {
        Auto = "auto",
        /// Burn's own.
        Stock = "stock",
    }
}

words! {
    ModelType { Llama = "llama" }
}

words! {
    /// How a frozen base is held on the device.
    Quantization {
        /// A GGUF file's blocks as they are, other files in numbers.
        Auto = "auto",
        /// In numbers.
        None = "none",
        Q4_0 = "q4_0",
        Q4_1 = "q4_1",
        Q8_0 = "q8_0",
    }
}

words! {
    /// What the blocks compute in (accelerate's `mixed_precision`).
    MixedPrecision {
        /// 16 bits on a hardware GPU that has them.
        Auto = "auto",
        /// 32 bits.
        No = "no",
        Fp16 = "fp16",
    }
}

words! {
    Method {
        Lora = "lora",
        /// Every parameter is trained.
        Full = "full",
    }
}

words! {
    /// How the learning rate moves after warm-up (Hugging Face's `lr_scheduler_type`).
    Schedule {
        /// Down to 0 at the last step.
        Linear = "linear",
        /// Half a cosine, down to 0 at the last step.
        Cosine = "cosine",
        Constant = "constant",
    }
}

words! {
    /// Who else is told how a run goes (Hugging Face's `report_to`).
    ReportTo {
        None = "none",
        TensorBoard = "tensorboard",
    }
}

words! {
    /// What tells the best checkpoint.
    BestMetric {
        Loss = "loss",
        Accuracy = "accuracy",
        MacroF1 = "macro_f1",
        Perplexity = "perplexity",
        Mse = "mse",
    }
}

impl BestMetric {
    pub fn greater_is_better(self) -> bool {
        matches!(self, Self::Accuracy | Self::MacroF1)
    }

    /// None where the task has no such metric.
    pub fn of(self, metrics: &Metrics) -> Option<f64> {
        match self {
            Self::Loss => Some(metrics.loss),
            Self::Accuracy => metrics.accuracy,
            Self::MacroF1 => metrics.macro_f1,
            Self::Perplexity => metrics.perplexity,
            Self::Mse => metrics.mse,
        }
    }
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ModelConfig {
    #[serde(rename = "type")]
    pub kind: ModelType,
    pub name_or_path: String,
    /// None: as many as the data has labels. 1: regression.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub num_labels: Option<usize>,
    /// In tokens, special ones included.
    pub max_seq_length: usize,
    pub quantization: Quantization,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct DataConfig {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub train_file: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub validation_file: Option<String>,
    /// Share of the training file that is held out where there is no validation file.
    pub validation_split: f64,
    /// None: the column that looks like it ([`crate::data::Mapping::resolve`]).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub text_column: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub label_column: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_train_samples: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_eval_samples: Option<usize>,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct TrainingConfig {
    pub method: Method,
    /// Rows a micro-batch; an optimizer step takes `gradient_accumulation_steps` of them.
    pub batch_size: usize,
    pub gradient_accumulation_steps: usize,
    pub gradient_checkpointing: bool,
    pub mixed_precision: MixedPrecision,
    pub learning_rate: f64,
    pub num_epochs: f64,
    /// Overrides `num_epochs`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_steps: Option<u64>,
    pub weight_decay: f64,
    pub adam_beta1: f64,
    pub adam_beta2: f64,
    pub adam_epsilon: f64,
    pub lr_scheduler_type: Schedule,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub warmup_ratio: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub warmup_steps: Option<u64>,
    /// 0 turns clipping off.
    pub max_grad_norm: f64,
    pub logging_steps: u64,
    /// None: before and after training only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub eval_steps: Option<u64>,
    /// None: by the run's length and the clock; 0: no checkpoints.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub save_steps: Option<u64>,
    pub save_total_limit: usize,
    pub metric_for_best_model: BestMetric,
    pub load_best_model_at_end: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub early_stopping_patience: Option<u64>,
    pub early_stopping_threshold: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_minutes: Option<f64>,
    pub report_to: ReportTo,
    pub seed: u64,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct RecoveryConfig {
    /// 0: trouble ends the run.
    pub max_retries: u64,
    pub max_skipped_batches: u64,
    pub learning_rate_factor: f64,
    /// 0: the loss is not watched.
    pub divergence_threshold: f64,
    pub divergence_patience: u64,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct LoraConfig {
    pub r: usize,
    /// The adapter's output is scaled by `lora_alpha / r`.
    pub lora_alpha: f64,
    pub lora_dropout: f64,
    /// Among [`TARGET_MODULES`], in their order, each once.
    pub target_modules: Vec<String>,
}

impl TrainingConfig {
    /// Warm-up steps of a run of `total_steps`, as Hugging Face's `get_warmup_steps` counts them.
    pub fn warmup(&self, total_steps: u64) -> u64 {
        match (self.warmup_steps, self.warmup_ratio) {
            (Some(steps), _) => steps,
            (None, Some(ratio)) => (total_steps as f64 * ratio).ceil() as u64,
            (None, None) => 0,
        }
    }
}

impl Config {
    /// Fills in the defaults and checks every value; the error names the key.
    pub fn resolve(raw: &RawConfig) -> Result<Self> {
        let config = Self {
            task: Task::parse("task", raw.task.as_deref(), Task::TextClassification)?,
            device: DeviceChoice::parse("device", raw.device.as_deref(), DeviceChoice::Auto)?,
            kernels: Kernels::parse("kernels", raw.kernels.as_deref(), Kernels::Auto)?,
            model: resolve_model(&raw.model)?,
            data: resolve_data(&raw.data)?,
            training: resolve_training(&raw.training)?,
            lora: resolve_lora(&raw.lora)?,
            recovery: resolve_recovery(&raw.recovery)?,
        };
        let metric = config.training.metric_for_best_model;
        if !config.metrics().contains(&metric) {
            let words: Vec<_> = config.metrics().iter().map(|metric| metric.as_str()).collect();
            let got = format!("`{}`, which this task does not have", metric.as_str());
            return Err(Error::config("training.metric_for_best_model", words.join(" or "), got));
        }
        let quantized = ![Quantization::Auto, Quantization::None].contains(&config.model.quantization);
        if quantized && config.training.method == Method::Full {
            let got = format!("`{}` with training.method full", config.model.quantization.as_str());
            return Err(Error::config("model.quantization", "auto or none, or training.method lora", got));
        }
        Ok(config)
    }

    /// What the task is measured by.
    fn metrics(&self) -> &'static [BestMetric] {
        match self.task {
            Task::TextGeneration => &[BestMetric::Loss, BestMetric::Accuracy, BestMetric::Perplexity],
            Task::TextClassification if self.model.num_labels == Some(1) => &[BestMetric::Loss, BestMetric::Mse],
            Task::TextClassification => &[BestMetric::Loss, BestMetric::Accuracy, BestMetric::MacroF1],
        }
    }

    /// How training holds the base: what is trained in full is in 32 bits.
    pub fn packing(&self) -> Packing {
        match self.training.method {
            Method::Full => Packing::Dense,
            Method::Lora => self.frozen(),
        }
    }

    /// How a model that is not trained is held.
    pub fn frozen(&self) -> Packing {
        match self.model.quantization {
            Quantization::None => Packing::Unpacked,
            Quantization::Auto => Packing::Stored,
            Quantization::Q4_0 => Packing::Quantized(GgmlType::Q4_0),
            Quantization::Q4_1 => Packing::Quantized(GgmlType::Q4_1),
            Quantization::Q8_0 => Packing::Quantized(GgmlType::Q8_0),
        }
    }
}

fn resolve_model(raw: &ModelSection) -> Result<ModelConfig> {
    // No position table of a model that this program can hold goes further.
    let longest = 1 << 20;
    Ok(ModelConfig {
        kind: ModelType::parse("model.type", raw.kind.as_deref(), ModelType::Llama)?,
        name_or_path: raw.name_or_path.clone().unwrap_or_else(|| "starter".to_owned()),
        num_labels: raw.num_labels.map(|n| whole("model.num_labels", n, 1, 1000)).transpose()?,
        max_seq_length: whole("model.max_seq_length", raw.max_seq_length.unwrap_or(128), 2, longest)?,
        quantization: Quantization::parse("model.quantization", raw.quantization.as_deref(), Quantization::Auto)?,
    })
}

fn resolve_data(raw: &DataSection) -> Result<DataConfig> {
    let split = raw.validation_split.unwrap_or(0.1);
    if !(split > 0.0 && split < 1.0) {
        return Err(Error::config("data.validation_split", "a number between 0 and 1, both excluded", split));
    }
    if raw.text_column.is_some() && raw.text_column == raw.label_column {
        let got = format!("`{}` for both", raw.text_column.as_deref().unwrap_or_default());
        return Err(Error::config("data.label_column", "another column than data.text_column", got));
    }
    let cap = |key, value: Option<usize>| value.map(|n| whole(key, n, 1, MOST_ROWS)).transpose();
    Ok(DataConfig {
        train_file: raw.train_file.clone(),
        validation_file: raw.validation_file.clone(),
        validation_split: split,
        text_column: raw.text_column.clone(),
        label_column: raw.label_column.clone(),
        max_train_samples: cap("data.max_train_samples", raw.max_train_samples)?,
        max_eval_samples: cap("data.max_eval_samples", raw.max_eval_samples)?,
    })
}

fn resolve_training(raw: &TrainingSection) -> Result<TrainingConfig> {
    let key = |name: &str| format!("training.{name}");
    let method = Method::parse("training.method", raw.method.as_deref(), Method::Lora)?;
    let learning_rate = raw.learning_rate.unwrap_or(match method {
        Method::Lora => 5e-4,
        Method::Full => 1e-4,
    });
    if !(learning_rate > 0.0 && learning_rate <= 10.0) {
        return Err(Error::config("training.learning_rate", "a number above 0 and at most 10", learning_rate));
    }
    let num_epochs = raw.num_epochs.unwrap_or(3.0);
    if !(num_epochs > 0.0 && num_epochs <= 1e6) {
        return Err(Error::config("training.num_epochs", "a number above 0 and at most 1000000", num_epochs));
    }
    if let (Some(ratio), Some(1..)) = (raw.warmup_ratio.filter(|ratio| *ratio != 0.0), raw.warmup_steps) {
        return Err(Error::config("training.warmup_ratio", "0 beside training.warmup_steps", ratio));
    }
    let warmup_ratio = raw.warmup_ratio.map(|ratio| range(&key("warmup_ratio"), ratio, 0.0, 1.0)).transpose()?;
    let beta = |name, value: Option<f64>, default| {
        let value = value.unwrap_or(default);
        if (0.0..1.0).contains(&value) {
            return Ok(value);
        }
        Err(Error::config(key(name), "a number from 0 to below 1", value))
    };
    let adam_epsilon = raw.adam_epsilon.unwrap_or(1e-8);
    if !(adam_epsilon > 0.0 && adam_epsilon <= 1.0) {
        return Err(Error::config("training.adam_epsilon", "a number above 0 and at most 1", adam_epsilon));
    }
    let accumulation = raw.gradient_accumulation_steps.unwrap_or(1);
    let steps = |name, value: Option<u64>, least| value.map(|n| whole(&key(name), n, least, MOST_STEPS)).transpose();
    let eval_steps = steps("eval_steps", raw.eval_steps, 0)?.filter(|n| *n > 0);
    let early_stopping_patience = steps("early_stopping_patience", raw.early_stopping_patience, 1)?;
    let load_best_model_at_end = raw.load_best_model_at_end.unwrap_or(early_stopping_patience.is_some());
    // Without measurements on the way there is nothing to go by.
    for (name, given) in [
        ("early_stopping_patience", early_stopping_patience.is_some()),
        ("load_best_model_at_end", load_best_model_at_end),
    ] {
        if given && eval_steps.is_none() {
            return Err(Error::config(key(name), "training.eval_steps beside it", "none"));
        }
    }
    if load_best_model_at_end && raw.save_steps == Some(0) {
        return Err(Error::config("training.load_best_model_at_end", "checkpoints (training.save_steps)", "none"));
    }
    if let Some(minutes) = raw.max_minutes.filter(|minutes| !(*minutes > 0.0 && *minutes <= 1e7)) {
        return Err(Error::config("training.max_minutes", "a number above 0 and at most 10000000", minutes));
    }
    Ok(TrainingConfig {
        method,
        batch_size: whole("training.batch_size", raw.batch_size.unwrap_or(8), 1, 65_536)?,
        gradient_accumulation_steps: whole("training.gradient_accumulation_steps", accumulation, 1, 65_536)?,
        gradient_checkpointing: raw.gradient_checkpointing.unwrap_or(false),
        mixed_precision: MixedPrecision::parse(
            "training.mixed_precision",
            raw.mixed_precision.as_deref(),
            MixedPrecision::Auto,
        )?,
        learning_rate,
        num_epochs,
        max_steps: raw.max_steps.map(|n| whole("training.max_steps", n, 1, MOST_STEPS)).transpose()?,
        weight_decay: range(&key("weight_decay"), raw.weight_decay.unwrap_or(0.0), 0.0, 1e3)?,
        adam_beta1: beta("adam_beta1", raw.adam_beta1, 0.9)?,
        adam_beta2: beta("adam_beta2", raw.adam_beta2, 0.999)?,
        adam_epsilon,
        lr_scheduler_type: Schedule::parse(
            "training.lr_scheduler_type",
            raw.lr_scheduler_type.as_deref(),
            Schedule::Linear,
        )?,
        // A zero beside the other's value says nothing: only one of the two is kept.
        warmup_ratio: warmup_ratio.filter(|_| raw.warmup_steps.is_none_or(|steps| steps == 0)),
        warmup_steps: raw
            .warmup_steps
            .filter(|steps| *steps != 0 || warmup_ratio.is_none())
            .map(|n| whole("training.warmup_steps", n, 0, MOST_STEPS))
            .transpose()?,
        max_grad_norm: range(&key("max_grad_norm"), raw.max_grad_norm.unwrap_or(1.0), 0.0, 1e6)?,
        logging_steps: whole("training.logging_steps", raw.logging_steps.unwrap_or(1), 1, MOST_STEPS)?,
        eval_steps,
        save_steps: steps("save_steps", raw.save_steps, 0)?,
        save_total_limit: whole("training.save_total_limit", raw.save_total_limit.unwrap_or(2), 1, 1000)?,
        metric_for_best_model: BestMetric::parse(
            "training.metric_for_best_model",
            raw.metric_for_best_model.as_deref(),
            BestMetric::Loss,
        )?,
        load_best_model_at_end,
        early_stopping_patience,
        early_stopping_threshold: range(
            "training.early_stopping_threshold",
            raw.early_stopping_threshold.unwrap_or(0.0),
            0.0,
            1e6,
        )?,
        max_minutes: raw.max_minutes,
        report_to: ReportTo::parse("training.report_to", raw.report_to.as_deref(), ReportTo::None)?,
        seed: raw.seed.unwrap_or(42),
    })
}

fn resolve_recovery(raw: &RecoverySection) -> Result<RecoveryConfig> {
    let factor = raw.learning_rate_factor.unwrap_or(0.3);
    if !(factor > 0.0 && factor <= 1.0) {
        return Err(Error::config("recovery.learning_rate_factor", "a number above 0 and at most 1", factor));
    }
    let threshold = raw.divergence_threshold.unwrap_or(2.0);
    if threshold != 0.0 && !(threshold > 1.0 && threshold <= 1e6) {
        return Err(Error::config("recovery.divergence_threshold", "a number above 1, or 0 for none", threshold));
    }
    Ok(RecoveryConfig {
        max_retries: whole("recovery.max_retries", raw.max_retries.unwrap_or(3), 0, 100)?,
        max_skipped_batches: whole("recovery.max_skipped_batches", raw.max_skipped_batches.unwrap_or(2), 0, 1_000_000)?,
        learning_rate_factor: factor,
        divergence_threshold: threshold,
        divergence_patience: whole(
            "recovery.divergence_patience",
            raw.divergence_patience.unwrap_or(10),
            1,
            1_000_000,
        )?,
    })
}

/// More than any file that this program reads can hold.
const MOST_ROWS: usize = 1_000_000_000;

/// JavaScript's numbers, and the event's, are exact far beyond it.
const MOST_STEPS: u64 = 1_000_000_000;

fn resolve_lora(raw: &LoraSection) -> Result<LoraConfig> {
    let modules = raw.target_modules.as_deref();
    let names: Vec<&str> = match modules {
        None => TARGET_MODULES.to_vec(),
        Some(names) => {
            let all = || format!("a list from {}", TARGET_MODULES.join(", "));
            if names.is_empty() {
                return Err(Error::config("lora.target_modules", all(), "an empty list"));
            }
            if let Some(unknown) = names.iter().find(|name| !TARGET_MODULES.contains(&name.as_str())) {
                return Err(Error::config("lora.target_modules", all(), format!("`{unknown}`")));
            }
            TARGET_MODULES.into_iter().filter(|module| names.iter().any(|name| name == module)).collect()
        }
    };
    let lora_alpha = raw.lora_alpha.unwrap_or(16.0);
    if !(lora_alpha > 0.0 && lora_alpha <= 1e6) {
        return Err(Error::config("lora.lora_alpha", "a number above 0 and at most 1000000", lora_alpha));
    }
    let lora_dropout = raw.lora_dropout.unwrap_or(0.0);
    if !(0.0..1.0).contains(&lora_dropout) {
        return Err(Error::config("lora.lora_dropout", "a number from 0 to below 1", lora_dropout));
    }
    Ok(LoraConfig {
        r: whole("lora.r", raw.r.unwrap_or(8), 1, 4096)?,
        lora_alpha,
        lora_dropout,
        target_modules: names.into_iter().map(str::to_owned).collect(),
    })
}

/// `value` where it lies within the two, both included.
fn whole<N: PartialOrd + std::fmt::Display + Copy>(key: &str, value: N, least: N, most: N) -> Result<N> {
    if value >= least && value <= most {
        return Ok(value);
    }
    Err(Error::config(key, format!("a whole number from {least} to {most}"), value))
}

fn range(key: &str, value: f64, least: f64, most: f64) -> Result<f64> {
    if value >= least && value <= most {
        return Ok(value);
    }
    Err(Error::config(key, format!("a number from {least} to {most}"), value))
}
