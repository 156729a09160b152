//! [`Command`] and [`Event`]: the only types that cross between the engine and a shell.
//!
//! Both travel as JSON (`{"type": "...", ...}`); the page's TypeScript declarations are generated from them.

mod run;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use ts_rs::TS;

use crate::{
    config::RawConfig,
    generate::{Finish, Sampling},
    plugin::PluginInfo,
    scenario::{MetricInfo, ScenarioInfo},
    sweep::{Sweep, SweepStep, TrialResult},
    tokenizer::Message,
};
pub use crate::{
    eval::{Change, Metrics},
    kernels::{
        Calibration, Measured,
        choice::{Choices, Class, Tile},
    },
};

pub use run::{
    Action, Bin, Cause, CheckpointInfo, ClassScore, Ended, Evaluation, Hint, HintCause, LrCurve, LrPoint, Recovery,
    Resumed, Sample, Step, Summary, Verdict, When,
};

/// What a shell asks of the engine. Files travel beside the command as handles, never inside it.
#[derive(Debug, Clone, Serialize, Deserialize, TS)]
#[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
pub enum Command {
    /// Report what this machine can do: answered by [`Event::Environment`].
    Inspect,
    /// Open a Hugging Face folder handed over beside the command (`config.json`, `model.safetensors`,
    /// `tokenizer.json`): answered by [`Event::ModelOpened`]. Weights are read when a run starts.
    OpenModel {
        /// What to call it: a folder's name, or `starter`.
        name: String,
    },
    /// Open a table of examples handed over beside the command and, where a second one is, its held-out rows: answered by
    /// one [`Event::DataOpened`] a file.
    OpenData,
    /// Read a YAML configuration handed over beside the command: answered by [`Event::Config`], and changes nothing.
    OpenConfig,
    /// Check a configuration against the opened model and data: answered by [`Event::Plan`].
    Check {
        config: Box<RawConfig>,
    },
    /// Start a run: evaluation, training, evaluation. [`Event::State`] tells how far it is. With an adapter handed over
    /// beside the command (as for [`Command::OpenAdapter`]) training goes on from it.
    Start {
        config: Box<RawConfig>,
        /// Go on from the last good checkpoint of the run's storage, where there is one.
        #[serde(default)]
        #[ts(optional, as = "Option<bool>")]
        resume: bool,
        /// How often an engine has died for want of memory since that checkpoint: micro-batches are in twice as many parts for
        /// each time.
        #[serde(default)]
        #[ts(optional, as = "Option<u32>")]
        smaller: u32,
    },
    /// Learning-rate range test: train on throw-away weights while the rate rises from `min_lr` to `max_lr`, each step
    /// by the same factor, until the loss runs away: answered by [`Event::LrCurve`]. [`Command::Stop`] ends it early.
    LrFind {
        config: Box<RawConfig>,
        min_lr: f64,
        max_lr: f64,
        #[ts(type = "number")]
        num_training_steps: u64,
    },
    /// Plan a sweep, given the results so far: answered by [`Event::SweepStep`], and changes nothing. The shell runs the
    /// trial by [`Command::Start`] and asks again with its result.
    SweepNext {
        sweep: Box<Sweep>,
        results: Vec<TrialResult>,
    },
    /// Load an adapter handed over beside the command (a PEFT folder's files, or a zip of them) onto the opened model,
    /// ready for [`Command::Predict`]: answered by [`Event::AdapterOpened`]. Without files the model's own head is taken.
    OpenAdapter {
        #[serde(default)]
        config: Box<RawConfig>,
    },
    /// Load an adapter as for [`Command::OpenAdapter`] and keep it beside the others under its id: answered by
    /// [`Event::Plugins`]. The base's weights are held once.
    AddPlugin {
        #[serde(default)]
        config: Box<RawConfig>,
        /// Those of its plugin.json when absent.
        #[serde(default)]
        #[ts(optional = nullable)]
        id: Option<String>,
        #[serde(default)]
        #[ts(optional = nullable)]
        name: Option<String>,
    },
    /// Keep the current model beside the others: answered by [`Event::Plugins`].
    KeepPlugin {
        name: String,
    },
    /// Make a plugin the current model: answered by [`Event::AdapterOpened`].
    UsePlugin {
        id: String,
    },
    RemovePlugin {
        id: String,
    },
    /// Answered by [`Event::Plugins`].
    ListPlugins,
    /// Measure the current model on the opened data (its held-out file, where there is one): answered by
    /// [`Event::Evaluation`].
    Evaluate {
        /// By role, where the opened data has other columns than the model was trained with.
        #[serde(default)]
        #[ts(as = "Option<BTreeMap<String, String>>", optional)]
        columns: BTreeMap<String, String>,
    },
    /// Take effect between two steps.
    Pause,
    Resume,
    /// End the run after the current step; what was trained so far can be used. Answers end where they are; a model on its
    /// way is not opened.
    Stop,
    /// Classify texts with the current model, or let it answer them: one [`Event::Prediction`] a text. Answers come as
    /// [`Event::TextDelta`]s too while they are made, several at once, and are finished in any order.
    Predict {
        texts: Vec<String>,
        /// Beside each text the other parts of its row, by role (a question's `context`); as many as there are texts, or none.
        #[serde(default)]
        #[ts(as = "Option<Vec<BTreeMap<String, String>>>", optional)]
        fields: Vec<BTreeMap<String, String>>,
        /// The conversation that each text ends, for text generation: all its turns are put to the model. Other tasks are
        /// asked the text alone. As many as there are texts, or none.
        #[serde(default)]
        #[ts(as = "Option<Vec<Vec<Message>>>", optional)]
        messages: Vec<Vec<Message>>,
        /// The plugin that answers; the current model when absent.
        #[serde(default)]
        #[ts(optional = nullable)]
        plugin: Option<String>,
        /// How answers are made.
        #[serde(default)]
        #[ts(optional, as = "Option<Sampling>")]
        sampling: Sampling,
        /// Over the one in `sampling`.
        #[serde(default)]
        #[ts(optional = nullable)]
        max_new_tokens: Option<usize>,
        /// Whether a language model gets the text in its chat template; by default where it has one, unless it was
        /// trained here on plain text.
        #[serde(default)]
        #[ts(optional = nullable)]
        apply_chat_template: Option<bool>,
        /// Answers beside those that the same plugin is making; their places go on from theirs. Where none is made, as
        /// without it.
        #[serde(default)]
        #[ts(optional, as = "Option<bool>")]
        join: bool,
    },
    /// Break off the answer to one text, by its place: nobody waits for it any more, and no [`Event::Prediction`] comes.
    Cancel {
        #[ts(type = "number")]
        index: u64,
    },
    /// Hand out what was trained, a piece at a time: answered by [`Event::ExportStarted`], an [`Event::ExportChunk`] a
    /// piece and [`Event::Exported`]. [`Command::Stop`] breaks it off.
    Export {
        format: ExportFormat,
        /// How numbers are stored; when absent as the base's for `merged`, F16 for `gguf`, F32 for adapters.
        #[serde(default)]
        #[ts(optional)]
        dtype: Option<ExportDType>,
        /// All files in one zip.
        #[serde(default)]
        zip: bool,
        /// What the plugin is called that an adapter is.
        #[serde(default)]
        #[ts(optional = nullable)]
        name: Option<String>,
    },
}

/// The formats a trained model leaves in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, TS)]
#[serde(rename_all = "snake_case")]
pub enum ExportFormat {
    /// PEFT's folder: `adapter_config.json`, `adapter_model.safetensors`.
    Adapter,
    /// A Hugging Face folder: the model with its adapter folded in, or as full fine-tuning left it.
    Merged,
    /// The same model as one file for llama.cpp and its kin.
    Gguf,
    /// The adapter alone for llama.cpp (`--lora`).
    GgufLora,
}

/// How an export's numbers are stored. GGUF keeps vectors in F32 whatever is chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, TS)]
#[serde(rename_all = "snake_case")]
pub enum ExportDType {
    F32,
    F16,
    Bf16,
    /// Blocks of 32 eight-bit numbers with a scale; GGUF only.
    #[serde(rename = "q8_0")]
    Q8_0,
}

/// An event and the run it belongs to (empty outside a run).
#[derive(Debug, Clone, Serialize, Deserialize, TS)]
pub struct Envelope {
    pub run: String,
    #[serde(flatten)]
    pub event: Event,
}

/// What the engine tells a shell.
#[derive(Debug, Clone, Serialize, Deserialize, TS)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Event {
    Environment(Environment),
    ModelOpened(ModelSummary),
    DataOpened(DataSummary),
    /// A configuration as it was written: absent keys are absent.
    Config {
        config: Box<RawConfig>,
    },
    Plan(Plan),
    AdapterOpened(AdapterSummary),
    /// Those of the opened base.
    Plugins {
        plugins: Vec<PluginInfo>,
    },
    /// The session's state changed.
    State {
        state: State,
    },
    /// Work that is neither a training step nor an evaluation result: loading, tokenizing, warming up, evaluating.
    Progress {
        phase: Phase,
        #[ts(type = "number")]
        done: u64,
        /// 0 when it is not known.
        #[ts(type = "number")]
        total: u64,
    },
    /// Which kernels the GPU does best: measured once, before the first run on it.
    Calibrated(Calibration),
    /// One optimizer step that was due for logging.
    Step(Step),
    SweepStep(SweepStep),
    /// The range test is over.
    LrCurve(LrCurve),
    Evaluation(Box<Evaluation>),
    /// Everything that the run needs to go on from here is stored.
    Checkpoint(CheckpointInfo),
    /// The run goes on from a checkpoint.
    Resumed(Resumed),
    /// Trouble that the run got over.
    Recovery(Recovery),
    Prediction(Prediction),
    /// An answer goes on.
    TextDelta(TextDelta),
    /// The files that an export will give; a zip's size is that of its content.
    ExportStarted {
        format: ExportFormat,
        files: Vec<FileInfo>,
    },
    /// The next piece of an export; its bytes travel beside the event. A file's pieces come in order and without gaps,
    /// and no file begins before the one before it has ended.
    ExportChunk {
        file: String,
        #[ts(type = "number")]
        offset: u64,
        #[ts(type = "number")]
        bytes: u64,
    },
    /// The export is whole.
    Exported {
        format: ExportFormat,
        files: Vec<FileInfo>,
    },
    /// Something went otherwise than asked, and work goes on.
    Warning {
        message: String,
    },
    /// A run ended well.
    Finished(Box<Summary>),
    /// A command or a run ended badly. The engine can still be used.
    Failed(Failure),
}

/// Where a session stands; [`State::next`] has the transitions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, TS)]
#[serde(rename_all = "snake_case")]
pub enum State {
    Idle,
    Preparing,
    Training,
    Paused,
    Evaluating,
    /// Back to the last good checkpoint, with something changed.
    Recovering,
    Succeeded,
    Failed,
    /// A trained or opened model is used or handed out.
    Applying,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, TS)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// Parameters read and handed to the device.
    LoadingWeights,
    /// Rows turned into tokens.
    Tokenizing,
    /// First step on a GPU: kernels are compiled.
    WarmingUp,
    Evaluating,
    /// Bytes of an export handed out.
    Exporting,
    /// Tokens of an answer.
    Generating,
    /// Bytes of a checkpoint.
    Saving,
}

/// What this machine can do.
#[derive(Debug, Clone, Serialize, Deserialize, TS)]
pub struct Environment {
    pub version: String,
    /// `native` or `browser`.
    pub platform: String,
    pub devices: Vec<DeviceInfo>,
    /// The id that `device: auto` takes.
    pub chosen: String,
    /// Why it takes that one, in a sentence.
    pub reason: String,
    /// Bytes that storage still offers (the tab's quota), where known.
    #[ts(type = "number | null")]
    pub storage_free: Option<u64>,
    /// What is missing or limited here and what to do about it.
    pub notes: Vec<String>,
    /// What a model can be made to do.
    pub scenarios: Vec<ScenarioInfo>,
}

#[derive(Debug, Clone, Serialize, Deserialize, TS)]
pub struct DeviceInfo {
    /// `cpu` or `gpu`, as in `device:`.
    pub id: String,
    pub name: String,
    /// `WebGPU`, `Vulkan`, `Metal`, `CPU` …
    pub api: String,
    /// A GPU imitated on the CPU.
    pub software: bool,
    pub features: Vec<String>,
    /// Limits by WebGPU's names, in bytes where they are sizes.
    #[ts(type = "Record<string, number>")]
    pub limits: BTreeMap<String, u64>,
}

#[derive(Debug, Clone, Serialize, Deserialize, TS)]
pub struct ModelSummary {
    pub name: String,
    pub architecture: String,
    #[ts(type = "number")]
    pub parameters: u64,
    pub hidden_size: usize,
    pub layers: usize,
    pub vocab_size: usize,
    pub max_position_embeddings: usize,
    /// As stored: `F32`, `F16`, `BF16`.
    pub dtype: String,
    #[ts(type = "number")]
    pub file_bytes: u64,
    /// Bytes of the weights on a device, while they are not trained in full.
    #[ts(type = "number")]
    pub device_bytes: u64,
}

#[derive(Debug, Clone, Serialize, Deserialize, TS)]
pub struct DataSummary {
    pub name: String,
    /// `csv`, `tsv`, `jsonl`, `json`, `txt` or `parquet`.
    pub format: String,
    pub encoding: String,
    pub columns: Vec<Column>,
    #[ts(type = "number")]
    pub rows: u64,
    /// The first rows as text, in the columns' order.
    pub preview: Vec<Vec<String>>,
    /// The columns that look like the text and the label.
    pub text_column: Option<String>,
    pub label_column: Option<String>,
    /// The tasks that these rows fit, the likeliest first, each with the columns that it would take.
    pub fits: Vec<Fit>,
    /// The second file of two: rows that are only measured with.
    pub held_out: bool,
    pub warnings: Vec<String>,
}

/// A task that a table's rows fit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, TS)]
pub struct Fit {
    /// As in `task:` and `data.shape`.
    pub task: String,
    pub shape: String,
    /// Column by role.
    pub columns: BTreeMap<String, String>,
}

/// A trained model that was opened, ready for use.
#[derive(Debug, Clone, Serialize, Deserialize, TS)]
pub struct AdapterSummary {
    /// As in `task:`.
    pub task: String,
    /// Class names; empty for regression and generation.
    pub labels: Vec<String>,
    /// LoRA's rank; none where the model came with its own head.
    pub r: Option<usize>,
}

#[derive(Debug, Clone, Serialize, Deserialize, TS)]
pub struct Column {
    pub name: String,
    /// Distinct values with their counts, most frequent first, where there are few enough to be labels.
    #[ts(type = "Array<[string, number]>")]
    pub values: Vec<(String, u64)>,
    /// Every cell that is not empty holds a number: regression can learn it.
    pub numeric: bool,
}

/// A row as the model sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, TS)]
pub struct Preview {
    #[ts(type = "number")]
    pub row: u64,
    /// What it reads, special tokens included.
    pub given: String,
    /// What it learns to answer: a class, a number, or text.
    pub learnt: String,
}

/// Numbers that a model's blocks compute with. Norms, the loss, sums and what is trained are in 32 bits with either.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, TS)]
#[serde(rename_all = "snake_case")]
pub enum Precision {
    F32,
    F16,
}

/// What a run will do, before it starts.
#[derive(Debug, Clone, Serialize, Deserialize, TS)]
pub struct Plan {
    pub device: String,
    /// What `training.mixed_precision` comes to on this device.
    pub precision: Precision,
    pub labels: Vec<String>,
    /// As in `data.shape`, with the columns taken by role.
    pub shape: String,
    pub columns: BTreeMap<String, String>,
    /// The first rows as the model reads and answers them.
    pub examples: Vec<Preview>,
    #[ts(type = "number")]
    pub train_rows: u64,
    #[ts(type = "number")]
    pub validation_rows: u64,
    /// Rows that cannot be used, with the first few named in `warnings`.
    #[ts(type = "number")]
    pub skipped_rows: u64,
    #[ts(type = "number")]
    pub total_steps: u64,
    #[ts(type = "number")]
    pub trainable_parameters: u64,
    #[ts(type = "number")]
    pub total_parameters: u64,
    /// Bytes on the device: weights, adapters and optimizer, activations.
    #[ts(type = "number")]
    pub weight_bytes: u64,
    #[ts(type = "number")]
    pub training_bytes: u64,
    #[ts(type = "number")]
    pub activation_bytes: u64,
    /// What the run is measured by, the one that tells most first.
    pub metrics: Vec<MetricInfo>,
    /// The whole configuration with every default filled in, and the same as YAML.
    pub config: Box<RawConfig>,
    pub config_yaml: String,
    pub warnings: Vec<String>,
}

#[derive(Debug, Clone, Serialize, Deserialize, TS)]
pub struct Prediction {
    /// Position in the command's list.
    #[ts(type = "number")]
    pub index: u64,
    /// A language model's answer, or the likeliest label.
    pub label: String,
    /// Probability a label, in the labels' order (the raw value where there is one output); empty for an answer.
    #[ts(type = "Array<[string, number]>")]
    pub scores: Vec<(String, f64)>,
    /// Of an answer: why it ended, and how many tokens it and its prompt have.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub finish_reason: Option<Finish>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub prompt_tokens: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub completion_tokens: Option<usize>,
}

/// A piece of an answer, to be put after those before it: whole characters, never taken back.
#[derive(Debug, Clone, Serialize, Deserialize, TS)]
pub struct TextDelta {
    /// Position in the command's list.
    #[ts(type = "number")]
    pub index: u64,
    pub text: String,
}

#[derive(Debug, Clone, Serialize, Deserialize, TS)]
pub struct FileInfo {
    pub name: String,
    #[ts(type = "number")]
    pub bytes: u64,
}

#[derive(Debug, Clone, Serialize, Deserialize, TS)]
pub struct Failure {
    /// What went wrong, naming file, row or key.
    pub message: String,
    /// What the person can change.
    pub advice: String,
    /// Where a program may do something about it.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub kind: Option<FailureKind>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, TS)]
#[serde(rename_all = "snake_case")]
pub enum FailureKind {
    /// A prompt has more tokens than the model reads.
    TooLong,
    /// The device's tensors are gone.
    DeviceLost,
    OutOfMemory,
}
