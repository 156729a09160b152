//! What a run tells of itself.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use ts_rs::TS;

use crate::eval::{Change, Metrics};

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, TS)]
pub struct Step {
    #[ts(type = "number")]
    pub step: u64,
    #[ts(type = "number")]
    pub total_steps: u64,
    /// Epochs done, as a fraction.
    pub epoch: f64,
    pub loss: f64,
    /// Share of right answers in this step's rows (of right next tokens in text generation).
    pub accuracy: f64,
    /// Before clipping.
    pub grad_norm: f64,
    pub learning_rate: f64,
    pub tokens_per_second: f64,
    pub seconds: f64,
}

/// Losses by learning rate.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, TS)]
pub struct LrCurve {
    /// In the order of the steps, with rising rates.
    pub points: Vec<LrPoint>,
    /// Where the loss falls most steeply; none where it does not fall.
    pub suggestion: Option<f64>,
    /// Whether the loss ran away before the highest rate.
    pub diverged: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, TS)]
pub struct LrPoint {
    pub learning_rate: f64,
    pub loss: f64,
    /// Exponential average of the losses so far.
    pub smoothed: f64,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, TS)]
#[serde(rename_all = "snake_case")]
pub enum When {
    #[default]
    Before,
    During,
    After,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize, TS)]
pub struct Evaluation {
    pub when: When,
    #[ts(type = "number")]
    pub step: u64,
    #[ts(type = "number")]
    pub rows: u64,
    pub metrics: Metrics,
    /// `confusion[actual][predicted]`, rows in the labels' order; empty outside classification.
    #[ts(type = "number[][]")]
    pub confusion: Vec<Vec<u64>>,
    pub labels: Vec<String>,
    /// A few held-out rows with the model's answer.
    pub samples: Vec<Sample>,
    /// Rows of these that a language model has answered.
    #[serde(default)]
    #[ts(type = "number")]
    pub answered: u64,
    /// 95 % bootstrap intervals by metric, where there are rows enough for one.
    #[serde(default)]
    pub intervals: BTreeMap<String, (f64, f64)>,
    /// After training: by how much each metric moved on the same rows.
    #[serde(default)]
    pub changes: BTreeMap<String, Change>,
    /// Classification: rows by confidence, to see whether it can be believed.
    #[serde(default)]
    pub calibration: Vec<Bin>,
    /// Classification: each class by itself, in the labels' order.
    #[serde(default)]
    pub classes: Vec<ClassScore>,
}

/// Rows whose confidence lies in one tenth.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, TS)]
pub struct Bin {
    #[ts(type = "number")]
    pub rows: u64,
    pub confidence: f64,
    pub accuracy: f64,
}

#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, TS)]
pub struct ClassScore {
    pub precision: f64,
    pub recall: f64,
    pub f1: f64,
    #[ts(type = "number")]
    pub rows: u64,
}

#[derive(Debug, Clone, Serialize, Deserialize, TS)]
pub struct Sample {
    pub text: String,
    /// The row's parts by role, without those that are to be answered; empty on the way, and where the row is its own text.
    #[serde(default)]
    pub fields: BTreeMap<String, String>,
    pub expected: String,
    pub predicted: String,
    pub confidence: f64,
}

#[derive(Debug, Clone, Serialize, Deserialize, TS)]
pub struct Summary {
    /// Whether all steps were taken.
    pub completed: bool,
    #[serde(default)]
    pub ended: Ended,
    #[ts(type = "number")]
    pub steps: u64,
    pub seconds: f64,
    pub before: Option<Metrics>,
    pub after: Option<Metrics>,
    #[ts(type = "number")]
    pub rows: u64,
    /// The step whose weights these are, where it is not the last one (`load_best_model_at_end`).
    #[serde(default)]
    #[ts(type = "number | null")]
    pub best_step: Option<u64>,
    #[serde(default)]
    pub recoveries: Vec<Recovery>,
    /// Whether it got as much better as was asked.
    #[serde(default)]
    pub verdict: Option<Verdict>,
    /// What could make the next run better, the likeliest first.
    #[serde(default)]
    pub hints: Vec<Hint>,
}

/// Whether a run reached what `evaluation.success_metric` and `evaluation.min_gain` ask.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, TS)]
pub struct Verdict {
    pub met: bool,
    pub metric: String,
    /// How much better it got; below zero where it got worse.
    pub gain: f64,
    /// Of the gain, where there are rows enough.
    pub interval: Option<(f64, f64)>,
    pub message: String,
}

/// What may hold a run back, and what to change.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, TS)]
pub struct Hint {
    pub cause: HintCause,
    pub message: String,
    /// Keys of run.yaml with values to try; none where it is the data's matter.
    pub changes: BTreeMap<String, String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, TS)]
#[serde(rename_all = "snake_case")]
pub enum HintCause {
    FewRows,
    RareClass,
    LabelNoise,
    CutRows,
    OverFitting,
    UnderFitting,
    LearningRateTooHigh,
    LearningRateTooLow,
    NotEnoughSteps,
    /// Better, but not beyond chance on so few held-out rows.
    FewHeldOutRows,
}

/// Why training ended.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, TS)]
#[serde(rename_all = "snake_case")]
pub enum Ended {
    #[default]
    Finished,
    /// A person stopped it.
    Stopped,
    EarlyStopping,
    /// `training.max_minutes` were over.
    TimeBudget,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, TS)]
pub struct CheckpointInfo {
    #[ts(type = "number")]
    pub step: u64,
    pub file: String,
    #[ts(type = "number")]
    pub bytes: u64,
    /// The best one so far, by `training.metric_for_best_model`.
    pub best: bool,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, TS)]
pub struct Resumed {
    #[ts(type = "number")]
    pub step: u64,
    pub file: String,
    /// Newer checkpoints that could not be used, each with the reason.
    pub damaged: Vec<String>,
}

/// Trouble, and what was done about it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, TS)]
pub struct Recovery {
    #[ts(type = "number")]
    pub step: u64,
    pub cause: Cause,
    /// What was seen, in a sentence.
    pub message: String,
    pub action: Action,
    /// The step that training went back to; none where it did not go back.
    #[ts(type = "number | null")]
    pub back_to: Option<u64>,
    /// Which try of how many this is; 0 where it takes none.
    #[ts(type = "number")]
    pub attempt: u64,
    #[ts(type = "number")]
    pub max_attempts: u64,
    /// From here on: times the schedule's learning rate, and parts that each micro-batch is cut into.
    pub learning_rate_factor: f64,
    pub split: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, TS)]
#[serde(rename_all = "snake_case")]
pub enum Cause {
    NotFinite,
    Diverging,
    OutOfMemory,
    DeviceLost,
    StorageFull,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, TS)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    SkipBatch,
    LowerLearningRate,
    SmallerMicroBatch,
    NewDevice,
    /// Older checkpoints were removed.
    FreeStorage,
}
