//! Flags of models: trained ones in use, and new ones.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use paddock::event::{ExportDType, ExportFormat};

use super::CommonArgs;
use crate::sampling::SamplingArgs;

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
    /// An adapter of the plugin folder by its id, in place of `--adapter`
    #[arg(long = "plugin", value_name = "ID", conflicts_with = "adapter")]
    pub plugin: Option<String>,
    /// The plugin folder; paddock/plugins in the user's data folder when absent
    #[arg(long = "plugins_dir", value_name = "DIR", requires = "plugin")]
    pub plugins_dir: Option<PathBuf>,
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
