//! What a run will do and what it will hold, before it starts.

use crate::{
    config::{Config, Method, Task},
    device::Opened,
    event::Plan,
    model::{HeadKind, Llama, LlamaConfig},
    train::{AdamW, MOST_LOGITS},
    weights::Weights,
};

/// Rows and steps of a run.
pub struct Counts {
    pub train_rows: u64,
    pub validation_rows: u64,
    pub skipped_rows: u64,
    pub total_steps: u64,
}

/// The head that a task trains.
pub fn head(task: Task) -> HeadKind {
    match task {
        Task::TextClassification => HeadKind::Classification,
        Task::TextGeneration => HeadKind::CausalLm,
    }
}

/// Outputs of a classification head: one for regression.
pub fn outputs(config: &Config, labels: &[String]) -> usize {
    if config.model.num_labels == Some(1) { 1 } else { labels.len() }
}

/// Tokens a row at most: the configuration's limit, or the model's where that is lower.
pub fn max_length(config: &Config, model: &LlamaConfig) -> usize {
    config.model.max_seq_length.min(model.longest())
}

pub fn plan(config: &Config, weights: &Weights, opened: &Opened, labels: &[String], counts: Counts) -> Plan {
    let float = size_of::<f32>() as u64;
    let (model, packing) = (&weights.config, config.packing());
    let elements = |shape: &[usize]| shape.iter().map(|n| *n as u64).product::<u64>();
    let shapes = Llama::shapes(model, head(config.task), outputs(config, labels));
    let base: u64 = shapes.iter().map(|(_, shape)| elements(shape)).sum();
    let adapter: u64 = shapes
        .iter()
        .filter(|(name, _)| config.lora.target_modules.iter().any(|t| name.ends_with(&format!("{t}.weight"))))
        .map(|(_, shape)| (config.lora.r * shape.iter().sum::<usize>()) as u64)
        .sum();
    let (trainable, total) = match config.training.method {
        Method::Full => (base, base),
        Method::Lora => {
            let score = shapes.iter().find(|(name, _)| name == "score.weight").map_or(0, |(_, shape)| elements(shape));
            (adapter + score, base + adapter)
        }
    };
    let mut warnings = Vec::new();
    let longest = max_length(config, model);
    if longest < config.model.max_seq_length {
        warnings.push(format!(
            "model.max_seq_length is {}, but the model was made for {longest} tokens: longer texts are cut there.",
            config.model.max_seq_length
        ));
    }
    let bytes = |(name, shape): &(String, Vec<usize>)| packing.bytes(weights, name, shape);
    let limit = opened.binding();
    if config.training.method == Method::Full
        && let Some(weight) = shapes.iter().find(|weight| bytes(weight) > limit)
    {
        warnings.push(format!(
            "{} takes {} bytes, more than the {limit} that this GPU binds at once, and what is trained stays whole: \
             choose training.method lora, device cpu, or a smaller model.",
            weight.0,
            bytes(weight)
        ));
    }
    if counts.total_steps < 10 {
        warnings.push(format!(
            "Only {} training steps: more epochs, more rows or a smaller batch may be needed to learn anything.",
            counts.total_steps
        ));
    }
    Plan {
        device: opened.info.id.clone(),
        labels: labels.to_vec(),
        train_rows: counts.train_rows,
        validation_rows: counts.validation_rows,
        skipped_rows: counts.skipped_rows,
        total_steps: counts.total_steps,
        trainable_parameters: trainable,
        total_parameters: total,
        weight_bytes: shapes.iter().map(bytes).sum::<u64>() + (total - base) * float,
        training_bytes: trainable * float + AdamW::bytes(trainable),
        activation_bytes: activations(config, model, longest) * float,
        config_yaml: config.to_yaml(),
        warnings,
    }
}

/// Floats that one micro-batch's forward pass keeps for its backward pass, at the longest length: per token and block
/// the norms' inputs and outputs, the projections before and after rotation, the attention weights twice, and the
/// feed-forward's four wide tensors. With gradient checkpointing one block at a time, and each block's input.
fn activations(config: &Config, model: &LlamaConfig, seq: usize) -> u64 {
    let tokens = (config.training.batch_size * seq) as u64;
    let d = model.hidden_size as u64;
    let q = (model.num_attention_heads * model.head_dim) as u64;
    let kv = (model.num_key_value_heads * model.head_dim) as u64;
    let weights = (model.num_attention_heads * seq) as u64;
    let block = 10 * d + 4 * q + 4 * kv + 2 * weights + 4 * model.intermediate_size as u64;
    let blocks = match config.training.gradient_checkpointing {
        true => block + d * model.num_hidden_layers as u64,
        false => block * model.num_hidden_layers as u64,
    };
    let head = match config.task {
        Task::TextClassification => tokens * d,
        Task::TextGeneration => 3 * (tokens * model.vocab_size as u64).min(MOST_LOGITS as u64),
    };
    tokens * (blocks + 2 * d) + head
}
