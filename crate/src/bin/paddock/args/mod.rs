//! The flags, by Hugging Face's names; with dashes in place of underscores they are the same flags.

mod models;
mod runs;

use std::ffi::OsString;

use clap::{Args, Parser, Subcommand, ValueEnum};

pub use models::{EvalArgs, ExportArgs, Format, InitArgs, PredictArgs, TokenizeArgs, TrainedArgs};
pub use runs::{CommonArgs, LrFindArgs, RunArgs, SweepArgs, TrainArgs, ValidateArgs};

use crate::{plugins::PluginsArgs, serve::ServeArgs};

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
    /// Answer over HTTP as OpenAI's API does: a base and the plugins that share it
    Serve(Box<ServeArgs>),
    /// List, add and remove the plugins of the plugin folder
    Plugins(PluginsArgs),
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
    /// Print the JSON Schema of run.yaml, or of another file, by which editors complete it
    Schema(SchemaArgs),
}

#[derive(Debug, Args)]
pub struct SchemaArgs {
    /// That of plugin.json, which stands beside a trained adapter
    #[arg(long)]
    pub plugin: bool,
    /// That of sweep.yaml, which `paddock sweep` takes
    #[arg(long, conflicts_with = "plugin")]
    pub sweep: bool,
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
