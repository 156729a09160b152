//! Flags of runs: a configuration file and what goes over it.

use std::path::PathBuf;

use clap::Args;
use paddock::config::RawConfig;

use super::Format;

#[derive(Debug, Args)]
pub struct TrainArgs {
    /// Where the trained adapter or model goes, with `run.yaml` and `metrics.json`
    #[arg(long = "output_dir", value_name = "DIR", default_value = "out")]
    pub output_dir: PathBuf,
    /// Replace what an earlier run left in the output folder
    #[arg(long = "overwrite_output_dir")]
    pub overwrite_output_dir: bool,
    /// Go on from the last good checkpoint in the output folder; from the beginning where there is none
    #[arg(long = "resume_from_checkpoint", conflicts_with = "overwrite_output_dir")]
    pub resume_from_checkpoint: bool,
    /// Further formats to write, each into a folder of its name in the output folder; see `paddock export`
    #[arg(long = "export_format", value_enum, value_name = "A,B", value_delimiter = ',')]
    pub export_format: Vec<Format>,
    /// What the adapter's plugin.json calls it; its task and data when absent
    #[arg(long = "plugin_name", value_name = "NAME")]
    pub plugin_name: Option<String>,
    /// Begin with an adapter: a PEFT folder (what `train` wrote), or a zip of one
    #[arg(long = "adapter", value_name = "DIR|ZIP")]
    pub adapter: Option<PathBuf>,
    #[command(flatten)]
    pub run: RunArgs,
}

#[derive(Debug, Args)]
pub struct ValidateArgs {
    /// A run's settings as YAML; flags go over them
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    #[command(flatten)]
    pub run: RunArgs,
}

#[derive(Debug, Args)]
pub struct LrFindArgs {
    /// The first step's rate
    #[arg(long = "min_lr", value_name = "RATE", default_value_t = 1e-6)]
    pub min_lr: f64,
    /// The last step's rate, where the loss has not run away before
    #[arg(long = "max_lr", value_name = "RATE", default_value_t = 1.0)]
    pub max_lr: f64,
    /// Steps from one to the other
    #[arg(long = "num_training_steps", value_name = "N", default_value_t = 100)]
    pub num_training_steps: u64,
    #[command(flatten)]
    pub run: RunArgs,
}

#[derive(Debug, Args)]
pub struct SweepArgs {
    /// What to try, as YAML: `base`, `space`, `strategy` and more; flags go over the base
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// Where the record of the trials and the best settings go
    #[arg(long = "output_dir", value_name = "DIR", default_value = "out")]
    pub output_dir: PathBuf,
    /// Begin again, in place of what an earlier sweep left in the output folder
    #[arg(long = "overwrite_output_dir")]
    pub overwrite_output_dir: bool,
    #[command(flatten)]
    pub run: RunArgs,
}

/// A run's settings: a file and what goes over it.
#[derive(Debug, Args)]
pub struct RunArgs {
    /// A Hugging Face folder (config.json, model.safetensors, tokenizer.json), a GGUF file, a repository of the hub
    /// (org/name, with @revision where it is not main), or `starter` (the default)
    #[arg(long = "model_name_or_path", value_name = "DIR|GGUF|ORG/NAME|starter")]
    pub model_name_or_path: Option<PathBuf>,
    /// The examples: CSV, TSV, JSON, JSON lines or Parquet (plain text for text generation)
    #[arg(long = "train_file", value_name = "FILE")]
    pub train_file: Option<PathBuf>,
    /// Held-out examples of their own; otherwise `validation_split` of the training file is held out
    #[arg(long = "validation_file", value_name = "FILE")]
    pub validation_file: Option<PathBuf>,
    #[command(flatten)]
    pub common: CommonArgs,

    /// Number of classes; found in the data when absent; 1 means regression
    #[arg(long = "num_labels", value_name = "N")]
    pub num_labels: Option<usize>,
    /// Steps of this many micro-batches
    #[arg(long = "gradient_accumulation_steps", value_name = "N")]
    pub gradient_accumulation_steps: Option<usize>,
    /// Less memory for a third more work: keep one block's activations at a time
    #[arg(long = "gradient_checkpointing", value_name = "true|false", num_args = 0..=1, default_missing_value = "true")]
    pub gradient_checkpointing: Option<bool>,
    /// Put short rows whose answers are learnt together into sequences, each seen by itself alone
    #[arg(long = "packing", value_name = "true|false", num_args = 0..=1, default_missing_value = "true")]
    pub packing: Option<bool>,
    #[arg(long = "learning_rate", value_name = "RATE")]
    pub learning_rate: Option<f64>,
    #[arg(long = "num_epochs", alias = "num_train_epochs", value_name = "N")]
    pub num_epochs: Option<f64>,
    /// Overrides `num_epochs`
    #[arg(long = "max_steps", value_name = "N")]
    pub max_steps: Option<u64>,
    /// Share of the steps in which the learning rate rises
    #[arg(long = "warmup_ratio", value_name = "SHARE")]
    pub warmup_ratio: Option<f64>,
    /// `linear`, `cosine` or `constant`
    #[arg(long = "lr_scheduler_type", value_name = "NAME")]
    pub lr_scheduler_type: Option<String>,
    #[arg(long = "weight_decay", value_name = "X")]
    pub weight_decay: Option<f64>,
    /// 0 turns clipping off
    #[arg(long = "max_grad_norm", value_name = "X")]
    pub max_grad_norm: Option<f64>,
    /// Report every so many steps
    #[arg(long = "logging_steps", value_name = "N")]
    pub logging_steps: Option<u64>,
    /// Measure on the held-out rows every so many steps
    #[arg(long = "eval_steps", value_name = "N")]
    pub eval_steps: Option<u64>,
    /// A checkpoint every so many steps, 0 for none; by default ten in a run, and one a minute
    #[arg(long = "save_steps", value_name = "N")]
    pub save_steps: Option<u64>,
    /// Checkpoints that are kept, beside the best one
    #[arg(long = "save_total_limit", value_name = "N")]
    pub save_total_limit: Option<usize>,
    /// `loss`, `accuracy`, `macro_f1`, `perplexity` or `mse`
    #[arg(long = "metric_for_best_model", value_name = "NAME")]
    pub metric_for_best_model: Option<String>,
    /// End with the best checkpoint's weights
    #[arg(long = "load_best_model_at_end", value_name = "true|false", num_args = 0..=1, default_missing_value = "true")]
    pub load_best_model_at_end: Option<bool>,
    /// Stop after this many measurements that were no better
    #[arg(long = "early_stopping_patience", value_name = "N")]
    pub early_stopping_patience: Option<u64>,
    /// `none` or `tensorboard`: event files in the output folder
    #[arg(long = "report_to", value_name = "NAME")]
    pub report_to: Option<String>,
    /// Stop after this many minutes of training
    #[arg(long = "max_minutes", value_name = "MINUTES")]
    pub max_minutes: Option<f64>,
    #[arg(long = "seed", value_name = "N")]
    pub seed: Option<u64>,
    /// `lora` or `full`
    #[arg(long = "method", value_name = "NAME")]
    pub method: Option<String>,
    /// The adapter's rank
    #[arg(long = "lora_r", value_name = "N")]
    pub lora_r: Option<usize>,
    #[arg(long = "lora_alpha", value_name = "X")]
    pub lora_alpha: Option<f64>,
    #[arg(long = "lora_dropout", value_name = "P")]
    pub lora_dropout: Option<f64>,
    /// Modules that get an adapter, for example `q_proj,v_proj`
    #[arg(long = "target_modules", value_name = "A,B", value_delimiter = ',')]
    pub target_modules: Option<Vec<String>>,
    /// Share of the training file that is held out
    #[arg(long = "validation_split", value_name = "SHARE")]
    pub validation_split: Option<f64>,
    /// Use at most this many training rows, drawn with the seed
    #[arg(long = "max_train_samples", value_name = "N")]
    pub max_train_samples: Option<usize>,
}

/// What training and measuring have in common.
#[derive(Debug, Default, Args)]
pub struct CommonArgs {
    /// A run's settings as YAML; flags go over them
    #[arg(long = "config", value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// `text-classification` or `text-generation`
    #[arg(long = "task", value_name = "NAME")]
    pub task: Option<String>,
    /// `auto`, `cpu` or `gpu`
    #[arg(long = "device", value_name = "NAME")]
    pub device: Option<String>,
    #[arg(long = "text_column", value_name = "NAME")]
    pub text_column: Option<String>,
    #[arg(long = "label_column", value_name = "NAME")]
    pub label_column: Option<String>,
    /// Longer texts are cut to this many tokens
    #[arg(long = "max_seq_length", value_name = "N")]
    pub max_seq_length: Option<usize>,
    /// How a frozen base is held: `auto`, `none`, or quantised to `q4_0`, `q4_1` or `q8_0`
    #[arg(long = "quantization", value_name = "NAME")]
    pub quantization: Option<String>,
    /// `auto` (16-bit products on a GPU that has them), `no` or `fp16`
    #[arg(long = "mixed_precision", value_name = "NAME")]
    pub mixed_precision: Option<String>,
    /// Rows a micro-batch
    #[arg(long = "batch_size", alias = "per_device_train_batch_size", value_name = "N")]
    pub batch_size: Option<usize>,
    /// Measure on at most this many rows, drawn with the seed
    #[arg(long = "max_eval_samples", value_name = "N")]
    pub max_eval_samples: Option<usize>,
    /// Any other key of the YAML, for example `training.adam_beta2=0.95`; can be repeated
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub set: Vec<String>,
}

impl CommonArgs {
    /// Puts the flags that were given over `config`.
    pub fn apply(&self, config: &mut RawConfig) {
        over(&mut config.task, &self.task);
        over(&mut config.device, &self.device);
        over(&mut config.data.text_column, &self.text_column);
        over(&mut config.data.label_column, &self.label_column);
        over(&mut config.data.max_eval_samples, &self.max_eval_samples);
        over(&mut config.model.max_seq_length, &self.max_seq_length);
        over(&mut config.model.quantization, &self.quantization);
        over(&mut config.training.batch_size, &self.batch_size);
        over(&mut config.training.mixed_precision, &self.mixed_precision);
    }
}

impl RunArgs {
    /// Puts the flags that were given over `config`; the paths are the caller's to place.
    pub fn apply(&self, config: &mut RawConfig) {
        self.common.apply(config);
        over(&mut config.model.num_labels, &self.num_labels);
        over(&mut config.data.validation_split, &self.validation_split);
        over(&mut config.data.max_train_samples, &self.max_train_samples);
        let training = &mut config.training;
        over(&mut training.method, &self.method);
        over(&mut training.gradient_accumulation_steps, &self.gradient_accumulation_steps);
        over(&mut training.gradient_checkpointing, &self.gradient_checkpointing);
        over(&mut training.packing, &self.packing);
        over(&mut training.learning_rate, &self.learning_rate);
        over(&mut training.num_epochs, &self.num_epochs);
        over(&mut training.max_steps, &self.max_steps);
        over(&mut training.warmup_ratio, &self.warmup_ratio);
        over(&mut training.lr_scheduler_type, &self.lr_scheduler_type);
        over(&mut training.weight_decay, &self.weight_decay);
        over(&mut training.max_grad_norm, &self.max_grad_norm);
        over(&mut training.logging_steps, &self.logging_steps);
        over(&mut training.eval_steps, &self.eval_steps);
        over(&mut training.save_steps, &self.save_steps);
        over(&mut training.save_total_limit, &self.save_total_limit);
        over(&mut training.metric_for_best_model, &self.metric_for_best_model);
        over(&mut training.load_best_model_at_end, &self.load_best_model_at_end);
        over(&mut training.early_stopping_patience, &self.early_stopping_patience);
        over(&mut training.max_minutes, &self.max_minutes);
        over(&mut training.report_to, &self.report_to);
        over(&mut training.seed, &self.seed);
        over(&mut config.lora.r, &self.lora_r);
        over(&mut config.lora.lora_alpha, &self.lora_alpha);
        over(&mut config.lora.lora_dropout, &self.lora_dropout);
        over(&mut config.lora.target_modules, &self.target_modules);
    }
}

fn over<T: Clone>(key: &mut Option<T>, flag: &Option<T>) {
    if flag.is_some() {
        key.clone_from(flag);
    }
}
