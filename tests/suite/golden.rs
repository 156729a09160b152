//! Against transformers and PEFT: logits, losses, every gradient, ten steps of AdamW. See tests/golden/README.md.

#![allow(clippy::disallowed_methods)]

use std::{
    path::PathBuf,
    rc::Rc,
    sync::{Mutex, MutexGuard, PoisonError},
};

use burn::tensor::{Device, Tensor};
use paddock::{
    adapter,
    adapter::PeftConfig,
    batch::{Batch, Targets},
    config::Schedule,
    model::{HeadKind, Llama, LlamaConfig},
    platform::{Memory, NamedFile},
    rng,
    train::{AdamWConfig, Trainer, factor, forward},
    weights::{Packing, Weights, folder::Loader, safetensors::Header},
};
use pollster::block_on;

pub fn fixture(path: &str) -> Vec<u8> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../tests/golden").join(path);
    std::fs::read(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// A file of named tensors; integers are read as f32.
pub struct Expected {
    pub tensors: std::collections::BTreeMap<String, (Vec<usize>, Vec<f32>)>,
}

impl Expected {
    pub fn read(folder: &str) -> Self {
        let bytes = fixture(&format!("{folder}/expected.safetensors"));
        let file = safetensors::SafeTensors::deserialize(&bytes).expect("fixture");
        let tensors = file
            .iter()
            .map(|(name, view)| {
                let values = match view.dtype() {
                    safetensors::Dtype::F32 => {
                        view.data().chunks(4).map(|b| f32::from_le_bytes(b.try_into().expect("4 bytes"))).collect()
                    }
                    safetensors::Dtype::I64 => {
                        let int = |b: &[u8]| i64::from_le_bytes(b.try_into().expect("8 bytes")) as f32;
                        view.data().chunks(8).map(int).collect()
                    }
                    other => panic!("{name} is {other:?}"),
                };
                (name.to_string(), (view.shape().to_vec(), values))
            })
            .collect();
        Self { tensors }
    }

    pub fn values(&self, name: &str) -> &[f32] {
        &self.tensors.get(name).unwrap_or_else(|| panic!("no {name}")).1
    }

    fn named(&self, prefix: &str) -> impl Iterator<Item = (&str, &[f32])> {
        self.tensors.iter().filter_map(move |(n, (_, v))| Some((n.strip_prefix(prefix)?, v.as_slice())))
    }
}

fn model(folder: &str, head: HeadKind, outputs: usize) -> Llama {
    let config = LlamaConfig::from_json(&fixture(&format!("{folder}/config.json"))).expect("config.json");
    let blob = Box::new(Memory(fixture(&format!("{folder}/model.safetensors"))));
    let file = NamedFile { name: "model.safetensors".into(), blob };
    model_of(block_on(Weights::open(config, file)).expect("weights"), head, outputs)
}

pub fn model_of(weights: Weights, head: HeadKind, outputs: usize) -> Llama {
    let mut loader = Loader::new(Rc::new(weights), head, outputs, Device::flex(), Packing::Dense);
    let mut rng = rng::stream(0, rng::INIT);
    loop {
        if let Some(model) = block_on(loader.advance(&mut rng)).expect("weights") {
            return model;
        }
    }
}

/// The fixture's batch with its targets.
fn input(expected: &Expected, causal: bool) -> Batch {
    let (shape, ids) = &expected.tensors["input_ids"];
    let (rows, seq) = (shape[0], shape[1]);
    let mask = expected.values("attention_mask");
    let length = |row: usize| mask[row * seq..(row + 1) * seq].iter().sum::<f32>() as usize;
    let labels = expected.values("labels");
    let targets = if causal {
        Targets::Tokens(labels.iter().map(|l| *l as i32).collect())
    } else if expected.values("logits").len() == rows {
        Targets::Values(labels.to_vec())
    } else {
        Targets::Classes(labels.iter().map(|l| *l as i32).collect())
    };
    let ids = ids.iter().map(|i| *i as i32).collect();
    batch(ids, rows, seq, (0..rows).map(|row| length(row) as i32 - 1).collect(), targets)
}

pub fn batch(ids: Vec<i32>, rows: usize, seq: usize, last: Vec<i32>, targets: Targets) -> Batch {
    Batch {
        tokens: rows * seq,
        ids,
        batch: rows,
        seq,
        last,
        targets,
        starts: Vec::new(),
        longest: seq,
        rows: (0..rows).collect(),
        micro: 0,
        micros: 1,
    }
}

/// Dropout draws from one generator for all threads: what is seeded and compared runs alone.
pub fn dropout_alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What is held on a GPU is counted for all threads: what counts it, or fills it, runs alone.
pub fn gpu_alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

fn values(tensor: Tensor<2>) -> Vec<f32> {
    tensor.into_data().try_into_vec().expect("f32")
}

/// Relative to the largest expected value.
fn assert_close(name: &str, got: &[f32], expected: &[f32], tolerance: f32) {
    assert_eq!(got.len(), expected.len(), "{name}: length");
    let scale = expected.iter().fold(1e-12f32, |a, b| a.max(b.abs()));
    let worst = got.iter().zip(expected).map(|(a, b)| (a - b).abs()).fold(0f32, f32::max) / scale;
    assert!(worst <= tolerance, "{name}: differs by {worst} of its largest value {scale}");
}

fn assert_norm_close(name: &str, got: &[f32], expected: &[f32], tolerance: f64) {
    let square = |v: &mut dyn Iterator<Item = f64>| v.map(|x| x * x).sum::<f64>().sqrt();
    let difference = square(&mut got.iter().zip(expected).map(|(a, b)| f64::from(a - b)));
    let norm = square(&mut expected.iter().map(|b| f64::from(*b)));
    assert!(difference <= tolerance * norm, "{name}: {difference} of {norm}");
}

/// Everything that a fixture holds, for a model as it was before the first step.
fn check(folder: &str, mut trainer: Trainer, causal: bool) {
    let expected = Expected::read(folder);
    let input = input(&expected, causal);
    if causal {
        assert_logits(folder, &trainer.model);
    } else {
        let logits = values(forward(&trainer.model, &input, &Device::flex(), false));
        assert_close(&format!("{folder} logits"), &logits, expected.values("logits"), 1e-4);
    }

    let losses = expected.values("train.losses");
    let rates = expected.values("train.learning_rates");
    assert_close(&format!("{folder} loss"), &losses[..1], expected.values("loss"), 1e-6);
    for step in 0..10 {
        trainer.accumulate(&input, 1.0, 0);
        if step == 0 {
            let mut seen = 0;
            for (name, gradient) in trainer.gradients() {
                let name = file_name(folder, &name);
                let wanted = expected.named("grad.").find(|(n, _)| *n == name).unwrap_or_else(|| panic!("no {name}"));
                assert_close(&format!("{folder} gradient of {name}"), &values(gradient), wanted.1, 1e-4);
                seen += 1;
            }
            assert_eq!(seen, expected.named("grad.").count(), "{folder}: gradients");
        }
        let rate = 1e-2 * factor(Schedule::Linear, step, 0, 10);
        assert_close("learning rate", &[rate as f32], &rates[step as usize..][..1], 1e-6);
        let outcome = block_on(trainer.outcome()).expect("step");
        trainer.apply(rate, 1.0);
        let at = step as usize;
        let norm = expected.values("train.grad_norms")[at];
        assert_close(&format!("{folder} step {step} loss"), &[outcome.loss as f32], &losses[at..][..1], 5e-4);
        assert_close(&format!("{folder} step {step} norm"), &[outcome.grad_norm as f32], &[norm], 2e-3);
    }
    for param in trainer.model.params_mut().into_iter().filter(|p| p.trainable) {
        let name = file_name(folder, &param.name);
        let wanted = expected.named("after.").find(|(n, _)| *n == name).unwrap_or_else(|| panic!("no {name}"));
        assert_norm_close(&format!("{folder} {name} after ten steps"), &values(param.value()), wanted.1, 3e-4);
    }
}

/// In PEFT's file the head that is trained beside an adapter has the adapter's prefix.
fn file_name(folder: &str, name: &str) -> String {
    if folder == "lora" && name == "score.weight" { format!("base_model.model.{name}") } else { name.to_string() }
}

pub const ADAMW: AdamWConfig = AdamWConfig { beta1: 0.9, beta2: 0.999, epsilon: 1e-8, weight_decay: 0.01 };

fn full(folder: &str, head: HeadKind, outputs: usize) {
    for recompute in [false, true] {
        let mut model = model(folder, head, outputs);
        model.params_mut().into_iter().for_each(|p| p.trainable = true);
        check(folder, Trainer::new(model, ADAMW, Device::flex(), recompute), head == HeadKind::CausalLm);
    }
}

#[test]
fn causal_language_model() {
    full("causal", HeadKind::CausalLm, 0);
}

#[test]
fn causal_language_model_with_tied_embeddings() {
    full("causal-tied", HeadKind::CausalLm, 0);
}

#[test]
fn classification() {
    full("classify", HeadKind::Classification, 3);
}

#[test]
fn regression() {
    full("regress", HeadKind::Classification, 1);
}

#[test]
fn half_precision_files_are_read_exactly() {
    for folder in ["causal-f16", "causal-bf16"] {
        assert_logits(folder, &model(folder, HeadKind::CausalLm, 0));
    }
}

/// The fixture's logits where a token stands; elsewhere they depend on how padding is masked.
pub fn assert_logits(folder: &str, model: &Llama) {
    let expected = Expected::read(folder);
    let (shape, ids) = &expected.tensors["input_ids"];
    let (rows, seq) = (shape[0], shape[1]);
    let ids = ids.iter().map(|i| *i as i32).collect();
    let input = batch(ids, rows, seq, vec![], Targets::Tokens(vec![]));
    let logits = values(forward(model, &input, &Device::flex(), false));
    let vocab = model.config.vocab_size;
    for (i, _) in expected.values("attention_mask").iter().enumerate().filter(|(_, m)| **m == 1.0) {
        let range = i * vocab..(i + 1) * vocab;
        let wanted = &expected.values("logits")[range.clone()];
        assert_close(&format!("{folder} logits at {i}"), &logits[range], wanted, 1e-4);
    }
}

#[test]
fn llama3_rotary_scaling() {
    full("variants/llama3", HeadKind::CausalLm, 0);
}

#[test]
fn linear_rotary_scaling() {
    full("variants/linear", HeadKind::CausalLm, 0);
}

/// The batch is longer than what the model was made for.
#[test]
fn dynamic_rotary_scaling() {
    full("variants/dynamic", HeadKind::CausalLm, 0);
}

#[test]
fn biases_of_attention_and_feed_forward() {
    full("variants/biases", HeadKind::CausalLm, 0);
}

#[test]
fn heads_narrower_than_the_hidden_states() {
    full("variants/head-dim", HeadKind::CausalLm, 0);
}

#[test]
fn lora_as_peft() {
    let config = PeftConfig::from_json(&fixture("lora/adapter/adapter_config.json")).expect("adapter_config.json");
    let lora = config.lora().expect("targets");
    for recompute in [false, true] {
        let mut base = model("classify", HeadKind::Classification, 3);
        let path = "lora/adapter/adapter_model.safetensors";
        block_on(adapter::load(&mut base, &lora, path, &Memory(fixture(path)), &Device::flex())).expect("adapter");
        let optimizer = AdamWConfig { weight_decay: 0.0, ..ADAMW };
        check("lora", Trainer::new(base, optimizer, Device::flex(), recompute), false);
    }
}

/// A batch of its own in every step, from a random A and B.
#[test]
fn twenty_steps_as_peft() {
    let config =
        PeftConfig::from_json(&fixture("lora-steps/adapter/adapter_config.json")).expect("adapter_config.json");
    let (lora, path) = (config.lora().expect("targets"), "lora-steps/adapter/adapter_model.safetensors");
    let expected = Expected::read("lora-steps");
    let (shape, ids) = &expected.tensors["input_ids"];
    let (rows, seq) = (shape[1], shape[2]);
    for recompute in [false, true] {
        let mut base = model("causal", HeadKind::CausalLm, 0);
        block_on(adapter::load(&mut base, &lora, path, &Memory(fixture(path)), &Device::flex())).expect("adapter");
        let optimizer = AdamWConfig { weight_decay: 0.0, ..ADAMW };
        let mut trainer = Trainer::new(base, optimizer, Device::flex(), recompute);
        for (step, ids) in ids.chunks(rows * seq).enumerate() {
            let ids: Vec<i32> = ids.iter().map(|id| *id as i32).collect();
            trainer.accumulate(&batch(ids.clone(), rows, seq, vec![], Targets::Tokens(ids)), 1.0, 0);
            let rate = 1e-2 * factor(Schedule::Linear, step as u64, 0, shape[0] as u64);
            let outcome = block_on(trainer.outcome()).expect("step");
            trainer.apply(rate, 1.0);
            let wanted = |name: &str| [expected.values(name)[step]];
            assert_close(&format!("step {step} loss"), &[outcome.loss as f32], &wanted("train.losses"), 1e-4);
            assert_close(&format!("step {step} norm"), &[outcome.grad_norm as f32], &wanted("train.grad_norms"), 2e-3);
        }
    }
}

#[test]
fn an_adapter_is_written_as_peft_reads_it() {
    let path = "lora/adapter/adapter_model.safetensors";
    let config = PeftConfig::from_json(&fixture("lora/adapter/adapter_config.json")).expect("adapter_config.json");
    let mut base = model("classify", HeadKind::Classification, 3);
    let blob = Memory(fixture(path));
    let lora = config.lora().expect("targets");
    block_on(adapter::load(&mut base, &lora, path, &blob, &Device::flex())).expect("adapter");
    let ours = adapter::names(&mut base);
    let header = block_on(Header::read(path, &blob)).expect("header");
    assert_eq!(ours.len(), header.entries.len());
    for (name, own, shape) in ours {
        let values = values(base.rows(&own, 0..shape[0]).expect("own name"));
        let theirs = block_on(header.tensor(&blob, &name)).expect("PEFT's name");
        assert_eq!((values, shape), theirs, "{name}");
    }
}

#[test]
fn schedules_as_transformers() {
    let all: serde_json::Value = serde_json::from_slice(&fixture("schedule.json")).expect("JSON");
    let total = all["max_steps"].as_u64().expect("max_steps");
    let peak = all["learning_rate"].as_f64().expect("learning_rate");
    let cases = all["cases"].as_array().expect("cases");
    assert_eq!(cases.len(), 7);
    for case in cases {
        let (schedule, warmup) = match (case["lr_scheduler_type"].as_str(), case["warmup_steps"].as_u64()) {
            // Warm-up that is asked for is done here with a constant rate too.
            (Some("constant"), _) => (Schedule::Constant, 0),
            (Some("constant_with_warmup"), Some(warmup)) => (Schedule::Constant, warmup),
            (Some("linear"), Some(warmup)) => (Schedule::Linear, warmup),
            (Some("cosine"), Some(warmup)) => (Schedule::Cosine, warmup),
            other => panic!("{other:?}"),
        };
        for (step, wanted) in case["learning_rates"].as_array().expect("rates").iter().enumerate() {
            let got = peak * factor(schedule, step as u64, warmup, total);
            let wanted = wanted.as_f64().expect("a number");
            assert!((got - wanted).abs() < 1e-12, "{schedule:?} {warmup} at {step}: {got} {wanted}");
        }
    }
}
