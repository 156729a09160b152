//! The flags, by Hugging Face's names; with dashes in place of underscores they are the same flags.

use std::{ffi::OsString, path::PathBuf};

use clap::{Args, Parser, Subcommand, ValueEnum};
use paddock::{
    config::RawConfig,
    event::{ExportDType, ExportFormat},
};

use crate::sampling::SamplingArgs;

/// Fine-tunes LLaMA models where the data already is.
#[derive(Debug, Parser)]
#[command(name = "paddock", version, propagate_version = true, args_override_self = true)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Command,
    /// `text` for people, `json` for programs: one JSON object a line on stdout, the last one a `result` or an `error`
    #[arg(long = "log_format", global = true, value_enum, default_value_t = LogFormat::Text, value_name = "FORMAT")]
    pub log_format: LogFormat,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    Text,
    Json,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Fine-tune a model on a table of examples; measures it before and after
    Train(Box<TrainArgs>),
    /// Measure a trained model on a labelled table
    Eval(EvalArgs),
    /// Classify texts with a trained model, or let it answer them
    Predict(Box<PredictArgs>),
    /// Write a trained model for other programs: PEFT, transformers, llama.cpp
    Export(ExportArgs),
    /// Report what this machine can do
    Env,
    /// Make a LLaMA folder with random weights and a vocabulary learnt from a text
    Init(InitArgs),
    /// Show the token ids that a model sees for a text
    Tokenize(TokenizeArgs),
    /// Check a run's settings: all that is wrong with its lines, or the whole with every default filled in
    Validate(Box<ValidateArgs>),
    /// Try settings over a base, one run each, and compare them with the base's own; goes on where it was stopped
    Sweep(Box<SweepArgs>),
    /// Learning-rate range test: raise the rate until the loss runs away, and suggest where it falls most steeply
    #[command(name = "lr_find", alias = "lr-find")]
    LrFind(Box<LrFindArgs>),
    /// Print the JSON Schema of run.yaml, by which editors complete it
    Schema(SchemaArgs),
}

#[derive(Debug, Args)]
pub struct SchemaArgs {
    /// That of plugin.json, which stands beside a trained adapter
    #[arg(long)]
    pub plugin: bool,
}

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

/// Which trained model, for `eval`, `predict` and `export`.
#[derive(Debug, Args)]
pub struct TrainedArgs {
    /// The base model's folder, GGUF file or repository, `starter`, or a fully fine-tuned model's folder; read from the
    /// adapter when absent
    #[arg(long = "model_name_or_path", value_name = "DIR|GGUF|ORG/NAME|starter")]
    pub model_name_or_path: Option<PathBuf>,
    /// An adapter: a PEFT folder (what `train` wrote), or a zip of one
    #[arg(long = "adapter", value_name = "DIR|ZIP")]
    pub adapter: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub struct EvalArgs {
    #[command(flatten)]
    pub trained: TrainedArgs,
    /// The labelled rows to measure on
    #[arg(long = "test_file", value_name = "FILE")]
    pub test_file: PathBuf,
    #[command(flatten)]
    pub common: CommonArgs,
}

#[derive(Debug, Args)]
#[command(group = clap::ArgGroup::new("input").required(true).args(["test_file", "text"]))]
pub struct PredictArgs {
    #[command(flatten)]
    pub trained: TrainedArgs,
    /// A table with a text column
    #[arg(long = "test_file", value_name = "FILE")]
    pub test_file: Option<PathBuf>,
    /// A text to classify or to answer; can be repeated
    #[arg(long = "text", value_name = "TEXT", allow_hyphen_values = true)]
    pub text: Vec<String>,
    /// Another part of what is asked with `--text`, such as `context=…` of a question; can be repeated
    #[arg(long = "field", value_name = "ROLE=TEXT", allow_hyphen_values = true)]
    pub field: Vec<String>,
    /// Write the predictions there, as JSON lines, rather than print them
    #[arg(long = "output_file", value_name = "FILE")]
    pub output_file: Option<PathBuf>,
    #[command(flatten)]
    pub sampling: SamplingArgs,
    /// Give the text to a language model in its chat template, or as it is; by default in the template where the
    /// model has one, unless it was trained on plain text
    #[arg(long = "apply_chat_template", value_name = "true|false", num_args = 0..=1, default_missing_value = "true")]
    pub apply_chat_template: Option<bool>,
    #[command(flatten)]
    pub common: CommonArgs,
}

#[derive(Debug, Args)]
pub struct ExportArgs {
    #[command(flatten)]
    pub trained: TrainedArgs,
    #[arg(long = "format", value_enum, value_name = "NAME")]
    pub format: Format,
    /// How numbers are stored; as the base's for `merged`, F16 for `gguf`, F32 for adapters when absent
    #[arg(long = "dtype", value_enum, value_name = "NAME")]
    pub dtype: Option<DType>,
    /// One zip of all files
    #[arg(long = "zip")]
    pub zip: bool,
    /// What the adapter's plugin.json calls it; its task and data when absent
    #[arg(long = "plugin_name", value_name = "NAME")]
    pub plugin_name: Option<String>,
    /// Where the files go
    #[arg(long = "output_dir", value_name = "DIR")]
    pub output_dir: PathBuf,
    /// Replace what an earlier export left in the output folder
    #[arg(long = "overwrite_output_dir")]
    pub overwrite_output_dir: bool,
    /// `auto`, `cpu` or `gpu`
    #[arg(long = "device", value_name = "NAME")]
    pub device: Option<String>,
}

/// [`ExportFormat`] as a flag has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// The adapter in PEFT's layout
    Adapter,
    /// A Hugging Face folder with the adapter folded into the base's weights
    Merged,
    /// The same model as one GGUF file, for llama.cpp and its kin
    Gguf,
    /// The adapter as a GGUF file, for llama.cpp's --lora
    #[value(name = "gguf_lora")]
    GgufLora,
}

/// [`ExportDType`] as a flag has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum DType {
    F32,
    F16,
    Bf16,
    /// 8-bit blocks, GGUF only
    #[value(name = "q8_0")]
    Q8_0,
}

impl From<Format> for ExportFormat {
    fn from(format: Format) -> Self {
        match format {
            Format::Adapter => Self::Adapter,
            Format::Merged => Self::Merged,
            Format::Gguf => Self::Gguf,
            Format::GgufLora => Self::GgufLora,
        }
    }
}

impl From<DType> for ExportDType {
    fn from(dtype: DType) -> Self {
        match dtype {
            DType::F32 => Self::F32,
            DType::F16 => Self::F16,
            DType::Bf16 => Self::Bf16,
            DType::Q8_0 => Self::Q8_0,
        }
    }
}

#[derive(Debug, Args)]
pub struct InitArgs {
    /// The text that the vocabulary is learnt from: plain text, or a table with a text column
    #[arg(long = "train_file", value_name = "FILE")]
    pub train_file: PathBuf,
    /// Tokens, the 256 bytes and 3 special ones among them
    #[arg(long = "vocab_size", value_name = "N", default_value_t = 4096)]
    pub vocab_size: usize,
    #[arg(long = "hidden_size", value_name = "N", default_value_t = 192)]
    pub hidden_size: usize,
    #[arg(long = "intermediate_size", value_name = "N", default_value_t = 512)]
    pub intermediate_size: usize,
    #[arg(long = "num_hidden_layers", value_name = "N", default_value_t = 4)]
    pub num_hidden_layers: usize,
    #[arg(long = "num_attention_heads", value_name = "N", default_value_t = 6)]
    pub num_attention_heads: usize,
    #[arg(long = "num_key_value_heads", value_name = "N", default_value_t = 2)]
    pub num_key_value_heads: usize,
    #[arg(long = "max_position_embeddings", value_name = "N", default_value_t = 512)]
    pub max_position_embeddings: usize,
    /// How the weights are stored: `float32`, `float16` or `bfloat16`
    #[arg(long = "torch_dtype", value_name = "NAME", default_value = "float32")]
    pub torch_dtype: String,
    #[arg(long = "seed", value_name = "N", default_value_t = 42)]
    pub seed: u64,
    /// Where the folder goes
    #[arg(long = "output_dir", value_name = "DIR")]
    pub output_dir: PathBuf,
    /// Replace what an earlier run left in the output folder
    #[arg(long = "overwrite_output_dir")]
    pub overwrite_output_dir: bool,
}

#[derive(Debug, Args)]
#[command(group = clap::ArgGroup::new("input").required(true).args(["test_file", "text"]))]
pub struct TokenizeArgs {
    /// A Hugging Face folder, or `starter`
    #[arg(long = "model_name_or_path", value_name = "DIR|starter")]
    pub model_name_or_path: PathBuf,
    /// A table with a text column
    #[arg(long = "test_file", value_name = "FILE")]
    pub test_file: Option<PathBuf>,
    /// Its column with the texts; found by its name when absent
    #[arg(long = "text_column", value_name = "NAME")]
    pub text_column: Option<String>,
    /// A text; can be repeated
    #[arg(long = "text", value_name = "TEXT", allow_hyphen_values = true)]
    pub text: Vec<String>,
    /// Each text is what a user says: put it into the model's chat template first
    #[arg(long = "apply_chat_template")]
    pub apply_chat_template: bool,
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

/// Spells flags with underscores (`--log-format` → `--log_format`), so that each is declared once. A text to classify
/// is left as it is.
pub fn normalise(args: impl Iterator<Item = OsString>) -> Vec<OsString> {
    let mut literal = false;
    let mut value_of_text = false;
    args.map(|arg| {
        let text = arg.to_str();
        let keep = literal || value_of_text;
        literal |= text == Some("--");
        value_of_text = !keep && matches!(text, Some("--text" | "--stop"));
        let flag = text.and_then(|text| text.strip_prefix("--")).filter(|_| !keep && !literal);
        let Some(flag) = flag else { return arg };
        let (name, value) = flag.split_at(flag.find('=').unwrap_or(flag.len()));
        OsString::from(format!("--{}{value}", name.replace('-', "_")))
    })
    .collect()
}

/// Whether the arguments ask for JSON lines, for errors that happen before they are understood.
pub fn wants_json(args: &[OsString]) -> bool {
    let is = |index: usize, value: &str| args.get(index).is_some_and(|arg| arg == value);
    (0..args.len()).any(|i| is(i, "--log_format=json") || (is(i, "--log_format") && is(i + 1, "json")))
}
