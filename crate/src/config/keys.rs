//! `run.yaml`: every key there is, with its type, range and default. Names and defaults are those of Hugging Face's
//! `TrainingArguments` and PEFT's `LoraConfig` where they have one, except the learning rate (adapters of a small model
//! want more than 5e-5) and dropout.

use serde::{Deserialize, Serialize};
use ts_rs::TS;

use super::{
    resolved::{DeviceChoice, Kernels, Method, MixedPrecision, ModelType, Quantization, ReportTo, Schedule},
    rule::{
        Field, Key, Section, above, all_of, below_one, flag, one_of, section, share, text, whole, within, yes_or_no,
    },
};
use crate::{data::Shape, error::Error, eval::Metric, scenario::Task};

/// The linear layers of a LLaMA block by Hugging Face's names: what LoRA can be put on.
pub const TARGET_MODULES: [&str; 7] = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"];

/// More than any file that this program reads can hold.
const MOST_ROWS: u64 = 1_000_000_000;

/// JavaScript's numbers, and the event's, are exact far beyond it.
const MOST_STEPS: u64 = 1_000_000_000;

/// No position table of a model that this program can hold goes further.
const MOST_TOKENS: u64 = 1 << 20;

section! {
    /// A run of Paddock.
    "": RawConfig => Config {
        /// What is learnt.
        task: Task = Task::or(Task::TextClassification);
        /// Where it is computed; `auto` takes a hardware GPU where there is one, else the CPU.
        device: DeviceChoice = DeviceChoice::or(DeviceChoice::Auto);
        /// Which kernels a GPU runs. `auto` measures a card for a second, once, and takes the fastest; `registers` is for
        /// threads by themselves, `shared` for a card's shared memory, both without a measurement; `stock` takes Burn's own
        /// matrix products, which the command has and the page has not: to compare, or around a driver's fault.
        kernels: Kernels = Kernels::or(Kernels::Auto);
        sections {
            model: ModelSection => ModelConfig,
            data: DataSection => DataConfig,
            training: TrainingSection => TrainingConfig,
            evaluation: EvaluationSection => EvaluationConfig,
            lora: LoraSection => LoraConfig,
            recovery: RecoverySection => RecoveryConfig,
        }
    }
}

section! {
    /// The base.
    "model.": ModelSection => ModelConfig {
        /// The architecture.
        kind as "type": ModelType = ModelType::or(ModelType::Llama);
        /// A Hugging Face folder, a GGUF file, a repository of the hub (`org/name`), or `starter`.
        name_or_path: String = text().or_text("starter");
        /// Number of classes; as many as the data has labels when absent; 1 means regression.
        num_labels: Option<usize> = whole(1, 1000);
        /// Longer texts are cut to this many tokens, special ones included.
        max_seq_length: usize = whole(2, MOST_TOKENS).or(128.0);
        /// How a frozen base is held on the device: `auto` (a GGUF file's blocks as they are, other files in 32 bits),
        /// `none` (32 bits), or quantised to GGML's `q4_0`, `q4_1` or `q8_0` while it is read (QLoRA).
        quantization: Quantization = Quantization::or(Quantization::Auto);
    }
}

section! {
    /// The examples.
    "data.": DataSection => DataConfig {
        /// A table with a column of texts: CSV, TSV, JSON or JSON lines; plain text for text generation.
        train_file: Option<String> = text();
        /// Held-out rows of their own; otherwise `validation_split` of the training file is held out.
        validation_file: Option<String> = text();
        /// Share of the training file that is held out where there is no validation file.
        validation_split: f64 = share().or(0.1);
        /// What a row consists of; the first shape that the task understands and the columns fit when absent.
        shape: Option<Shape> = one_of(Shape::WORDS);
        /// The column that looks like the text (of a summary, the document) when absent.
        text_column: Option<String> = text();
        /// The column that looks like the label when absent.
        label_column: Option<String> = text();
        /// What is asked of the model, or the instruction; `prompt` or `instruction` when absent.
        prompt_column: Option<String> = text();
        /// What the instruction is about, after it; `input` when absent.
        input_column: Option<String> = text();
        /// What the model is to answer; `completion`, `output` or `response` when absent.
        completion_column: Option<String> = text();
        /// A conversation as JSON; `messages` or `conversations` when absent.
        messages_column: Option<String> = text();
        /// The system's turn before it; `system` when absent.
        system_column: Option<String> = text();
        /// `question` when absent.
        question_column: Option<String> = text();
        /// The text that the answer stands in; `context` when absent.
        context_column: Option<String> = text();
        /// One answer, a JSON list of accepted ones, or SQuAD's object; `answers` or `answer` when absent.
        answer_column: Option<String> = text();
        /// `summary` or `highlights` when absent.
        summary_column: Option<String> = text();
        /// Put prompts into the model's chat template; done where it has one when absent.
        apply_chat_template: Option<bool> = yes_or_no();
        /// Train on at most this many rows, drawn with the seed.
        max_train_samples: Option<usize> = whole(1, MOST_ROWS);
        /// Measure on at most this many rows, drawn with the seed.
        max_eval_samples: Option<usize> = whole(1, MOST_ROWS);
    }
}

section! {
    /// How it is trained.
    "training.": TrainingSection => TrainingConfig {
        /// `lora` trains an adapter, `full` every parameter.
        method: Method = Method::or(Method::Lora);
        /// Rows a micro-batch; an optimizer step takes `gradient_accumulation_steps` of them.
        batch_size: usize = whole(1, 65_536).or(8.0);
        /// Micro-batches an optimizer step.
        gradient_accumulation_steps: usize = whole(1, 65_536).or(1.0);
        /// Put whole prompts with their answers side by side into sequences of `model.max_seq_length` tokens, each seeing
        /// itself alone, instead of padding every one (TRL's `packing`, strategy `bfd`); plain text is in full blocks anyway.
        packing: bool = flag(false);
        /// Keep one block's activations at a time and compute the others again: less memory, a third more work.
        gradient_checkpointing: bool = flag(false);
        /// What the blocks compute in: 16 bits on a hardware GPU that has them (`auto`), in any case (`fp16`), or 32 (`no`).
        mixed_precision: MixedPrecision = MixedPrecision::or(MixedPrecision::Auto);
        /// The highest that the schedule reaches; 0.0005 for `lora` and 0.0001 for `full` when absent.
        learning_rate: f64 = above(0.0, 10.0);
        /// Passes over the training rows.
        num_epochs: f64 = above(0.0, 1e6).or(3.0);
        /// Optimizer steps; overrides `num_epochs`.
        #[ts(as = "Option<f64>")]
        max_steps: Option<u64> = whole(1, MOST_STEPS);
        /// Shrinks the weights a little at each step (decoupled, as in AdamW).
        weight_decay: f64 = within(0.0, 1e3).or(0.0);
        /// AdamW's memory of gradients.
        adam_beta1: f64 = below_one().or(0.9);
        /// AdamW's memory of squared gradients.
        adam_beta2: f64 = below_one().or(0.999);
        /// Keeps AdamW from dividing by zero.
        adam_epsilon: f64 = above(0.0, 1.0).or(1e-8);
        /// How the learning rate moves after warm-up: down to 0 in a line or along half a cosine, or not at all.
        lr_scheduler_type: Schedule = Schedule::or(Schedule::Linear);
        /// Share of the steps in which the learning rate rises from 0.
        warmup_ratio: Option<f64> = within(0.0, 1.0);
        /// Steps in which the learning rate rises from 0; in place of `warmup_ratio`.
        #[ts(as = "Option<f64>")]
        warmup_steps: Option<u64> = whole(0, MOST_STEPS);
        /// Longer gradients are scaled down to this norm; 0 turns clipping off.
        max_grad_norm: f64 = within(0.0, 1e6).or(1.0);
        /// Report every so many steps.
        #[ts(as = "Option<f64>")]
        logging_steps: u64 = whole(1, MOST_STEPS).or(1.0);
        /// Measure on the held-out rows every so many steps; only before and after training when absent.
        #[ts(as = "Option<f64>")]
        eval_steps: Option<u64> = whole(0, MOST_STEPS);
        /// A checkpoint every so many steps; when absent every tenth of the run and every minute, 0 for none.
        #[ts(as = "Option<f64>")]
        save_steps: Option<u64> = whole(0, MOST_STEPS);
        /// Checkpoints that are kept, beside the best one.
        save_total_limit: usize = whole(1, 1000).or(2.0);
        /// What tells the best checkpoint; one of the task's metrics.
        metric_for_best_model: Metric = Metric::or(Metric::Loss);
        /// End with the best checkpoint's weights instead of the last ones; when absent where training can stop early.
        load_best_model_at_end: bool = flag(false);
        /// Stop after this many measurements in a row that were no better than the best one.
        #[ts(as = "Option<f64>")]
        early_stopping_patience: Option<u64> = whole(1, MOST_STEPS);
        /// By how much a measurement must be better to count.
        early_stopping_threshold: f64 = within(0.0, 1e6).or(0.0);
        /// Stop after this many minutes of training.
        max_minutes: Option<f64> = above(0.0, 1e7);
        /// Who else is told how the run goes: `tensorboard` for event files in the run's folder.
        report_to: ReportTo = ReportTo::or(ReportTo::None);
        /// Decides everything random: order and choice of rows, first weights of adapter and head, dropout.
        #[ts(as = "Option<f64>")]
        seed: u64 = whole(0, u64::MAX).or(42.0);
    }
}

section! {
    /// How held-out rows are measured.
    "evaluation.": EvaluationSection => EvaluationConfig {
        /// Held-out rows that a language model answers before and after training, the first ones; 0 for none.
        max_generated_samples: usize = whole(0, MOST_ROWS).or(64.0);
        /// Tokens of such an answer at most; the task's own limit when absent.
        max_new_tokens: Option<usize> = whole(1, MOST_TOKENS);
        /// The metric that must get better for the run to count as a success; none when absent.
        success_metric: Option<Metric> = one_of(Metric::WORDS);
        /// By how much it must get better.
        min_gain: f64 = within(0.0, 1e6).or(0.0);
    }
}

section! {
    /// The adapter.
    "lora.": LoraSection => LoraConfig {
        /// Its rank.
        r: usize = whole(1, 4096).or(8.0);
        /// Its output is scaled by `lora_alpha / r`.
        lora_alpha: f64 = above(0.0, 1e6).or(16.0);
        /// Share of its inputs dropped at random in training.
        lora_dropout: f64 = below_one().or(0.0);
        /// The layers it is put on, by Hugging Face's names.
        target_modules: Vec<String> = all_of(&TARGET_MODULES);
    }
}

section! {
    /// What a run does about trouble before it gives up.
    "recovery.": RecoverySection => RecoveryConfig {
        /// Times that a run goes back to its last good checkpoint; 0 turns recovery off.
        #[ts(as = "Option<f64>")]
        max_retries: u64 = whole(0, 100).or(3.0);
        /// Batches in a row with a loss or gradient that is no finite number that are left out before it goes back.
        #[ts(as = "Option<f64>")]
        max_skipped_batches: u64 = whole(0, 1_000_000).or(2.0);
        /// On the learning rate after it went back because of the loss or a gradient.
        learning_rate_factor: f64 = above(0.0, 1.0).or(0.3);
        /// The loss diverges where its smoothed value is this many times its best one, and above the first; 0 turns this
        /// off.
        divergence_threshold: f64 = within(0.0, 1e6).or(2.0);
        /// For so many steps in a row.
        #[ts(as = "Option<f64>")]
        divergence_patience: u64 = whole(1, 1_000_000).or(10.0);
    }
}

/// Every key, in the order of the file.
pub fn all() -> impl Iterator<Item = &'static Key> {
    RawConfig::SECTIONS.iter().flat_map(|section| section.keys)
}

/// By its full name.
pub fn find(name: &str) -> Option<&'static Key> {
    all().find(|key| key.name == name)
}
