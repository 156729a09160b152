//! What a run will do and what it will hold, before it starts.

use crate::{
    config::{Config, Method, Quantization, TARGET_MODULES, Task},
    device::{Opened, POOLS_BY_SIZE},
    error::Result,
    event::{Plan, Precision},
    kernels::{keeps_weights, queries_at_once, takes_room},
    model::{HeadKind, Llama, LlamaConfig},
    prepare::{Rows, packs},
    train::{AdamW, MOST_LOGITS},
    weights::Weights,
};

/// The head that a task trains.
pub fn head(task: Task) -> HeadKind {
    if task.classifies() { HeadKind::Classification } else { HeadKind::CausalLm }
}

/// Outputs of a classification head: one for regression.
pub fn outputs(config: &Config, labels: &[String]) -> usize {
    if config.model.num_labels == Some(1) { 1 } else { labels.len() }
}

/// Tokens a row at most: the configuration's limit, or the model's where that is lower.
pub fn max_length(config: &Config, model: &LlamaConfig) -> usize {
    config.model.max_seq_length.min(model.longest())
}

/// # Errors
/// `training.mixed_precision` asks for what the device has not.
pub fn plan(config: &Config, weights: &Weights, opened: &Opened, rows: &Rows, total_steps: u64) -> Result<Plan> {
    let labels = rows.labels.as_slice();
    let float = size_of::<f32>() as u64;
    let half = opened.half(config)?;
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
    let bytes = |(name, shape): &(String, Vec<usize>)| packing.bytes(weights, name, shape, half);
    if total_steps < 10 {
        warnings.push(format!(
            "Only {} training steps: more epochs, more rows or a smaller batch may be needed to learn anything.",
            total_steps
        ));
    }
    let weight_bytes = shapes.iter().map(bytes).sum::<u64>() + (total - base) * float;
    let training_bytes = trainable * float + AdamW::bytes(trainable);
    let activation_bytes = activations(config, model, longest, trainable, half, Held::on(opened));
    let placing = if packs(config, rows.shape) { placing(config, model, longest) } else { 0 };
    let activation_bytes = activation_bytes.saturating_add(placing);
    let needed = weight_bytes.saturating_add(training_bytes).saturating_add(activation_bytes);
    warnings.extend(opened.memory().and_then(|there| too_large(config, needed, there)));
    Ok(Plan {
        device: opened.info.id.clone(),
        precision: if half { Precision::F16 } else { Precision::F32 },
        labels: labels.to_vec(),
        shape: rows.shape.as_str().to_owned(),
        columns: rows.columns.clone(),
        examples: Vec::new(),
        train_rows: rows.train.len() as u64,
        validation_rows: rows.validation.len() as u64,
        skipped_rows: rows.skipped,
        total_steps,
        trainable_parameters: trainable,
        total_parameters: total,
        weight_bytes,
        training_bytes,
        activation_bytes,
        metrics: config.task.metrics(config),
        config: Box::new(config.into()),
        config_yaml: config.to_yaml(),
        warnings,
    })
}

/// How a device's memory serves what a step makes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Held {
    /// As on the CPU: what one tensor had serves any other.
    Freely,
    /// As on a GPU: the same, and scores in 32 bits stand beside weights in 16.
    OnGpu,
    /// As in a browser's GPU: beside that, what one tensor had serves those of its size alone.
    BySize,
}

impl Held {
    fn on(opened: &Opened) -> Self {
        match (opened.is_gpu(), POOLS_BY_SIZE) {
            (false, _) => Self::Freely,
            (true, false) => Self::OnGpu,
            (true, true) => Self::BySize,
        }
    }
}

/// Bytes that a step holds at its fullest moment beside weights, gradients and moments. Of what is worked on for a moment
/// it has the largest part; tests/suite/plan.rs measures it. With `half` the blocks compute in 16 bits, see [`kept`].
fn activations(config: &Config, model: &LlamaConfig, seq: usize, trainable: u64, half: bool, held: Held) -> u64 {
    let (gpu, by_size) = (held != Held::Freely, held == Held::BySize);
    let (tokens, blocks) = (wide(config.training.batch_size) * wide(seq), wide(model.num_hidden_layers));
    let (d, f, vocab) = (wide(model.hidden_size), wide(model.intermediate_size), wide(model.vocab_size));
    let (full, trainable) = (config.training.method == Method::Full, u128::from(trainable) * FLOAT);
    let states = tokens * d * FLOAT;
    let [attention, fed] = kept(config, model, seq, half).map(|kept| tokens * kept);
    let block = attention + fed;
    // Going back through a block the feed-forward's gradients are written over what it kept; then come attention's weights
    // and their gradients, when that is gone. By size they are beside it, or in the same memory if they take its room.
    let scores = scores(config, model, seq);
    let back = match weights(model, seq, scores, half, gpu) {
        weights if !by_size => weights.saturating_sub(fed),
        _ if !half && usize::try_from(tokens * f).is_ok_and(|fed| takes_room(scores, fed)) => 0,
        weights => weights,
    };
    let head = match head(config.task) {
        HeadKind::Classification => states,
        // Logits, which their exponentials are written over, the chosen tokens' rows, gradients to states and weight.
        HeadKind::CausalLm => {
            let logits = (tokens * vocab).min(wide(MOST_LOGITS));
            let weight = if full { 2 * vocab * d } else { 0 };
            FLOAT * (logits + weight) + 3 * states
        }
    };
    // Gradients come as activations go, block by block.
    let fullest = match config.training.gradient_checkpointing {
        true => {
            // The gradients to its output and to its middle; by size that to its input stays beside.
            let one = block + back + states * if by_size { 3 } else { 2 };
            let later = if full { trainable - trainable / blocks.max(1) } else { 0 };
            (blocks * states + one.max(states + head)).max(states + one + later)
        }
        // By size, what the last step went back in is still there.
        false => blocks * block + 2 * states + if by_size { back + head } else { back.max(head) },
    };
    let earlier = if config.training.gradient_accumulation_steps > 1 { trainable } else { 0 };
    // The optimizer works on one weight at a time; where all are trained the embedding is the largest.
    let step = trainable + if full { 3 * vocab.max(f) * d * FLOAT } else { 0 };
    let beside = (fullest + earlier).max(step) - trainable;
    u64::try_from(beside).unwrap_or(u64::MAX).min(1 << 60)
}

/// Bytes that say where packed rows stand: each token has angles of its own, its position and its row's first key.
fn placing(config: &Config, model: &LlamaConfig, seq: usize) -> u64 {
    let numbers = wide(config.training.batch_size) * wide(seq) * (wide(model.head_dim) + 2);
    u64::try_from(numbers * FLOAT).unwrap_or(u64::MAX).min(1 << 60)
}

/// Bytes of a number in 32 bits.
const FLOAT: u128 = size_of::<f32>() as u128;

/// Bytes of a number inside a block.
fn number(half: bool) -> u128 {
    if half { FLOAT / 2 } else { FLOAT }
}

/// Wide enough for any configuration.
fn wide(n: usize) -> u128 {
    n as u128
}

/// What to say of a run that needs more bytes than there are: the keys that would make it smaller.
fn too_large(config: &Config, needed: u64, there: u64) -> Option<String> {
    if needed <= there {
        return None;
    }
    let training = &config.training;
    let full = training.method == Method::Full;
    let dense = matches!(config.model.quantization, Quantization::None | Quantization::Auto);
    let ways = [
        (full, "training.method: lora"),
        (!training.gradient_checkpointing, "training.gradient_checkpointing: true"),
        (training.batch_size > 1, "a smaller training.batch_size (with training.gradient_accumulation_steps)"),
        (config.model.max_seq_length > 64, "a smaller model.max_seq_length"),
        (!full && dense, "model.quantization: q4_0"),
    ];
    let ways: Vec<_> = ways.into_iter().filter(|(open, _)| *open).map(|(_, way)| way).collect();
    let ways = if ways.is_empty() { "only a smaller model helps".to_owned() } else { ways.join(", ") };
    let mib = |bytes: u64| bytes.div_ceil(1 << 20);
    Some(format!(
        "The run needs about {} MiB of memory and there are {} MiB: it may break off. What makes it smaller: {ways}.",
        mib(needed),
        mib(there)
    ))
}

/// Attention's scores of the queries that go together.
fn scores(config: &Config, model: &LlamaConfig, seq: usize) -> usize {
    let part = queries_at_once(model.head_dim).min(seq);
    [model.num_attention_heads, part, seq].into_iter().fold(config.training.batch_size, usize::saturating_mul)
}

/// Bytes of attention's weights while its backward pass works on a part of the queries: the weights, where they are not kept
/// anyway, and their gradients, which those of the scores are written over where they have as many bits.
fn weights(model: &LlamaConfig, seq: usize, scores: usize, half: bool, gpu: bool) -> u128 {
    let tensors = if keeps_weights(seq, model.head_dim) { 1 } else { 2 };
    let of_scores = if gpu && half { FLOAT } else { 0 };
    wide(scores) * (tensors * number(half) + of_scores)
}

/// Bytes a token that one block keeps for its backward pass, its attention and its feed-forward: with `half` in 16 bits but
/// for what goes into the norms. Nothing grows with the sequence but the weights of short ones, see [`keeps_weights`].
fn kept(config: &Config, model: &LlamaConfig, seq: usize, half: bool) -> [u128; 2] {
    let (d, f, heads) = (wide(model.hidden_size), wide(model.intermediate_size), wide(model.num_attention_heads));
    let (q, kv) = (heads * wide(model.head_dim), wide(model.num_key_value_heads) * wide(model.head_dim));
    let lora = config.training.method == Method::Lora;
    let trained = |modules: &[&str]| {
        modules.iter().filter(|module| !lora || config.lora.target_modules.iter().any(|name| name == *module)).count()
    };
    // What goes into a trained layer is kept: once for all that share it, or with each one's dropout and its mask.
    let input = |modules: &[&str], width: u128| match wide(trained(modules)) {
        count if lora && config.lora.lora_dropout > 0.0 => 2 * count * width,
        count => count.min(1) * width,
    };
    let low = |modules: &[&str]| if lora { wide(trained(modules) * config.lora.r) } else { 0 };
    let (of_attention, of_feed_forward) = TARGET_MODULES.split_at(4);
    let weights = if keeps_weights(seq, model.head_dim) { heads * wide(seq) } else { 0 };
    // Rotated queries and keys, values.
    let attention = input(&["q_proj", "k_proj", "v_proj"], d) + input(&["o_proj"], q) + q + 2 * kv + weights;
    // Gate and up.
    let fed = input(&["gate_proj", "up_proj"], d) + input(&["down_proj"], f) + 2 * f;
    [attention + low(of_attention), fed + low(of_feed_forward)].map(|numbers| d * FLOAT + number(half) * numbers)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::RawConfig;

    #[test]
    fn what_does_not_fit_is_told_with_the_keys_that_help() {
        let config = |keys: &[(&str, &str)]| {
            let mut raw = RawConfig::default();
            keys.iter().for_each(|(key, value)| raw.set(key, value).expect("a key"));
            Config::resolve(&raw).expect("a configuration")
        };
        assert_eq!(too_large(&config(&[]), 5 << 20, 5 << 20), None);
        let said = too_large(&config(&[]), 5 << 20, 4 << 20).expect("a warning");
        for part in ["5 MiB", "4 MiB", "gradient_checkpointing: true", "batch_size", "max_seq_length", "q4_0"] {
            assert!(said.contains(part), "{said}");
        }
        assert!(!said.contains("lora"), "{said}");
        let full = too_large(&config(&[("training.method", "full")]), 2, 1).expect("a warning");
        assert!(full.contains("training.method: lora") && !full.contains("q4_0"), "{full}");
        let least = [
            ("training.batch_size", "1"),
            ("training.gradient_checkpointing", "true"),
            ("model.max_seq_length", "32"),
            ("model.quantization", "q8_0"),
        ];
        assert!(too_large(&config(&least), 2, 1).expect("a warning").contains("smaller model"));
    }

    #[test]
    fn no_configuration_makes_the_plan_overflow() {
        let mut raw = RawConfig::default();
        raw.set("training.batch_size", "65536").expect("a key");
        let config = Config::resolve(&raw).expect("a configuration");
        let json = serde_json::json!({
            "model_type": "llama", "vocab_size": 1 << 20, "hidden_size": 1 << 16, "intermediate_size": 1 << 18,
            "num_hidden_layers": 1000, "num_attention_heads": 1 << 10, "num_key_value_heads": 1 << 10,
        });
        let model = LlamaConfig::from_json(json.to_string().as_bytes()).expect("config");
        assert_eq!(activations(&config, &model, 1 << 20, 1 << 50, false, Held::OnGpu), 1 << 60);
    }

    #[test]
    fn the_same_tokens_in_longer_sequences_take_no_more() {
        let model = |seq: usize| {
            let json = serde_json::json!({
                "model_type": "llama", "vocab_size": 512, "hidden_size": 256, "intermediate_size": 688,
                "num_hidden_layers": 4, "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": seq,
            });
            LlamaConfig::from_json(json.to_string().as_bytes()).expect("config")
        };
        let bytes = |seq: usize| {
            let mut raw = RawConfig::default();
            raw.set("training.batch_size", &(8192 / seq).to_string()).expect("a key");
            let config = Config::resolve(&raw).expect("a configuration");
            (kept(&config, &model(seq), seq, false), activations(&config, &model(seq), seq, 0, false, Held::Freely))
        };
        // Heads of 64: weights of up to 128 keys are kept.
        let [(short, _), (longer, _)] = [32, 128].map(bytes);
        assert_eq!(longer[0] - short[0], 4 * 96 * FLOAT);
        let long = [1024, 2048, 4096, 8192].map(bytes);
        assert!(long.iter().all(|(kept, all)| (kept, all) == (&long[0].0, &long[0].1)), "{long:?}");
    }
}
