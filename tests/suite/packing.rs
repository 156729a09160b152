//! Rows packed side by side (`training.packing`): each is learnt as if it were alone, on the CPU and, with
//! `PADDOCK_TEST_GPU`, on the machine's adapter.

#![allow(clippy::disallowed_methods)]

use burn::tensor::{Device, Tensor};
use paddock::{
    adapter,
    batch::{Batch, Sequences},
    config::{LoraConfig, RawConfig},
    event::{Command, Event},
    model::{HeadKind, LlamaConfig},
    rng,
    storage::MemoryStorage,
    train::{Trainer, forward},
    weights::{Packing, ggml::GgmlType, safetensors::DType},
};
use pollster::block_on;
use serde_json::{Value, json};

use crate::{
    cli::fixture::Folder,
    golden::ADAMW,
    half::{devices, load, weights},
    runs::Desk,
    scenarios::colours,
};

fn config(changes: &Value) -> LlamaConfig {
    let mut json = json!({
        "model_type": "llama", "vocab_size": 96, "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2,
        "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 64, "tie_word_embeddings": true,
    });
    for (key, value) in changes.as_object().expect("an object") {
        json[key] = value.clone();
    }
    LlamaConfig::from_json(json.to_string().as_bytes()).expect("config")
}

/// Trained in full where nothing of the base is packed, else by an adapter.
fn trainer(changes: &Value, packing: Packing, half: bool, recompute: bool, device: &Device) -> Trainer {
    let head = HeadKind::CausalLm;
    let mut model = load(&weights(config(changes), head, DType::F32, 0.3), head, packing, half, device);
    if packing == Packing::Dense {
        model.params_mut().into_iter().for_each(|param| param.trainable = true);
        return Trainer::new(model, ADAMW, device.clone(), recompute);
    }
    let target_modules = ["q_proj", "k_proj", "v_proj", "o_proj", "down_proj"].map(str::to_owned).to_vec();
    let lora = LoraConfig { r: 4, lora_alpha: 8.0, lora_dropout: 0.0, target_modules };
    adapter::inject(&mut model, &lora, &mut rng::stream(5, rng::INIT), device);
    // B begins at zero, and so would A's gradient.
    for param in model.params_mut().into_iter().filter(|param| param.name.contains("lora_B")) {
        let [rows, columns] = param.dims();
        param.set(Tensor::full([rows, columns], 0.05, device));
    }
    Trainer::new(model, ADAMW, device.clone(), recompute)
}

/// Of these lengths; the last four tokens of each are learnt, of a short one the first as well.
fn rows(lengths: &[usize]) -> Sequences {
    let mut rows = Sequences::default();
    for (row, length) in lengths.iter().enumerate() {
        let ids: Vec<u32> = (0..*length).map(|at| ((row * 31 + at * at * 7 + at * 17 + 5) % 96) as u32).collect();
        let learnt: Vec<bool> = (0..*length).map(|at| at + 4 >= *length).collect();
        assert!(rows.push_masked(row as u64 + 2, &ids, &learnt));
    }
    rows
}

/// Loss, right tokens, and the gradients by their names.
type Learnt = (f64, f64, Vec<(String, Vec<f32>)>);

fn learnt(mut trainer: Trainer, batches: &[(Batch, f64)]) -> Learnt {
    batches.iter().for_each(|(batch, share)| trainer.accumulate(batch, *share, 0));
    let values = |grad: Tensor<2>| grad.into_data().try_into_vec::<f32>().expect("f32");
    let gradients = trainer.gradients().into_iter().map(|(name, grad)| (name, values(grad))).collect();
    let outcome = block_on(trainer.outcome()).expect("a step");
    (outcome.loss, outcome.correct, gradients)
}

/// Each row in a batch of its own, with its share of all that is learnt.
fn alone(rows: &Sequences, most: usize) -> Vec<(Batch, f64)> {
    let batches: Vec<Batch> = (0..rows.len()).map(|row| Batch::new(rows, &[row], most, 0)).collect();
    let counted = |batch: &Batch| batch.targets.counted(batch.seq) as f64;
    let all: f64 = batches.iter().map(counted).sum();
    batches.into_iter().map(|batch| (counted(&batch) / all, batch)).map(|(share, batch)| (batch, share)).collect()
}

/// By how much of its size the loss or a gradient differs, and which.
fn apart(got: &Learnt, expected: &Learnt) -> (f64, String) {
    let norm = |v: &mut dyn Iterator<Item = f32>| v.map(|x| f64::from(x * x)).sum::<f64>().sqrt();
    let mut worst = ((got.0 - expected.0).abs() / expected.0, "the loss".to_owned());
    assert_eq!(got.2.len(), expected.2.len());
    for ((name, got), (other, expected)) in got.2.iter().zip(&expected.2) {
        assert_eq!((name, got.len()), (other, expected.len()));
        let size = norm(&mut expected.iter().copied());
        let share = norm(&mut got.iter().zip(expected).map(|(a, b)| a - b)) / size;
        if share > worst.0 || share.is_nan() {
            worst = (share, name.clone());
        }
    }
    worst
}

fn assert_same(case: &str, got: &Learnt, expected: &Learnt, tolerance: f64) {
    let (share, what) = apart(got, expected);
    assert!(share <= tolerance, "{case}: {what} differs by {share}");
}

#[test]
fn a_packed_batch_learns_what_its_rows_learn_alone() {
    let rows = rows(&[7, 12, 3, 2, 9, 5, 16, 4]);
    let packed = rows.packed(16);
    let lines: Vec<usize> = (0..packed.len()).collect();
    assert_eq!(lines.iter().map(|line| packed.starts(*line).count()).collect::<Vec<_>>(), [1, 2, 2, 3]);
    let whole = Batch::new(&packed, &lines, 16, 0);
    assert_eq!((whole.seq, whole.tokens), (16, 58));
    let odd = json!({"hidden_size": 42, "intermediate_size": 50, "num_attention_heads": 3, "num_key_value_heads": 1});
    let bases = [
        (json!({}), Packing::Dense),
        (json!({}), Packing::Stored),
        (json!({}), Packing::Quantized(GgmlType::Q8_0)),
        (odd, Packing::Dense),
        (json!({"num_key_value_heads": 4, "attention_bias": true}), Packing::Stored),
    ];
    for (number, device) in devices().into_iter().enumerate() {
        for (changes, packing) in &bases {
            for ((half, tolerance), recompute) in
                [(false, 1e-4), (true, 2e-2)].into_iter().flat_map(|kind| [(kind, false), (kind, true)])
            {
                let case = format!("device {number} {changes} {packing:?} half {half} recompute {recompute}");
                let of =
                    |batches: &[(Batch, f64)]| learnt(trainer(changes, *packing, half, recompute, &device), batches);
                let expected = of(&alone(&rows, 16));
                let together = of(&[(whole.clone(), 1.0)]);
                assert_same(&case, &together, &expected, tolerance);
                assert!(half || together.1 == expected.1, "{case}: {} and {} right", together.1, expected.1);
                for parts in [2, 3, 4] {
                    let case = format!("{case} in {parts} parts");
                    assert_same(&case, &of(&whole.split(parts)), &expected, tolerance);
                }
                // What rows learn that see each other is something else.
                let blind = of(&[(Batch { starts: Vec::new(), ..whole.clone() }, 1.0)]);
                assert!(apart(&blind, &expected).0 > 5.0 * tolerance, "{case}");
            }
        }
    }
}

/// A dynamic rotary embedding goes by the longest row, not by the sequence that it is packed into.
#[test]
fn rows_within_a_models_length_are_not_stretched_by_packing() {
    let changes = json!({"max_position_embeddings": 8, "rope_scaling": {"rope_type": "dynamic", "factor": 4.0}});
    let rows = rows(&[8, 7, 8, 3, 5]);
    let packed = rows.packed(16);
    let whole = Batch::new(&packed, &[0, 1], 16, 0);
    assert_eq!((packed.len(), whole.seq, whole.longest), (2, 16, 8));
    for device in devices() {
        let of = |batches: &[(Batch, f64)]| learnt(trainer(&changes, Packing::Stored, false, false, &device), batches);
        let expected = of(&alone(&rows, 8));
        assert_same("dynamic", &of(&[(whole.clone(), 1.0)]), &expected, 1e-4);
        let stretched = of(&[(Batch { longest: 16, ..whole.clone() }, 1.0)]);
        assert!(apart(&stretched, &expected).0 > 1e-3);
    }
}

/// Nor by what the rows are padded to, so that a batch learns what transformers makes of it, where rows are padded to the longest.
#[test]
fn rows_within_a_models_length_are_not_stretched_by_padding() {
    let changes = json!({"max_position_embeddings": 8, "rope_scaling": {"rope_type": "dynamic", "factor": 8.0}});
    for (lengths, longest) in [([8, 7, 3], 8), ([5, 20, 11], 20)] {
        let rows = rows(&lengths);
        let bare = Batch::new(&rows, &[0, 1, 2], longest, 0);
        let padded = Batch::new(&rows, &[0, 1, 2], 64, 0);
        assert_eq!((bare.seq, bare.longest, padded.seq, padded.longest), (longest, longest, 32, longest));
        for (device, recompute) in devices().into_iter().flat_map(|device| [(device.clone(), false), (device, true)]) {
            let of = |batch: &Batch| {
                learnt(trainer(&changes, Packing::Stored, false, recompute, &device), &[(batch.clone(), 1.0)])
            };
            let expected = of(&bare);
            assert_same("padded", &of(&padded), &expected, 1e-4);
            assert!(apart(&of(&Batch { longest: 32, ..padded.clone() }), &expected).0 > 1e-3);
            let (bare, padded) = (bare.split(2), padded.split(2));
            let parts =
                |parts: &[(Batch, f64)]| learnt(trainer(&changes, Packing::Stored, false, recompute, &device), parts);
            assert_same("in parts", &parts(&padded), &parts(&bare), 1e-4);

            let head = HeadKind::Classification;
            let model = load(&weights(config(&changes), head, DType::F32, 0.3), head, Packing::Stored, false, &device);
            let logits =
                |batch: &Batch| forward(&model, batch, &device, false).into_data().try_into_vec::<f32>().expect("f32");
            let [bare, padded] = [longest, 64].map(|most| logits(&Batch::new(&rows, &[0, 1, 2], most, 0)));
            assert_eq!(bare.len(), 9);
            bare.iter()
                .zip(&padded)
                .for_each(|(bare, padded)| assert!((bare - padded).abs() < 1e-4, "{bare} {padded}"));
        }
    }
}

const SETTINGS: &str = "
task: text-generation
device: cpu
model: {max_seq_length: 40}
data: {validation_split: 0.25}
training: {packing: true, batch_size: 2, gradient_accumulation_steps: 2, num_epochs: 2, learning_rate: 0.005, save_steps: 2}
lora: {r: 4}
evaluation: {max_generated_samples: 2, max_new_tokens: 4}
";

fn desk(storage: &MemoryStorage) -> Desk {
    Desk::with(storage, "colours.csv", colours(80), |_, _| {})
}

/// The sentence that says how many rows went into how many sequences, and the number of sequences.
fn told<'a>(warnings: impl IntoIterator<Item = &'a str>) -> (String, u64) {
    let sentence = warnings.into_iter().find(|warning| warning.contains("training.packing")).expect("a sentence");
    let number = sentence.split(" sequences").next().and_then(|before| before.rsplit(' ').next());
    (sentence.to_owned(), number.and_then(|number| number.parse().ok()).expect("a number"))
}

#[test]
fn a_packed_run_counts_sequences_and_measures_rows() {
    let mut run = desk(&MemoryStorage::default());
    run.start(SETTINGS, false);
    let plan =
        run.events.iter().find_map(|event| if let Event::Plan(plan) = event { Some(plan.clone()) } else { None });
    let plan = plan.expect("a plan");
    run.finish();
    let (planned, sequences) = told(plan.warnings.iter().map(String::as_str));
    assert!(planned.starts_with("60 rows are packed into ") && planned.contains("at most 40 tokens"), "{planned}");
    assert!(!planned.contains("estimated") && (15..=20).contains(&sequences), "{planned}");
    assert_eq!(told(run.warnings()), (planned, sequences));
    let steps = 2 * sequences.div_ceil(2).div_ceil(2);
    assert_eq!((plan.total_steps, run.summary().steps, run.losses().len() as u64), (steps, steps, steps));
    assert_eq!((plan.train_rows, plan.validation_rows), (60, 20));
    let measured: Vec<u64> = run
        .events
        .iter()
        .filter_map(|event| if let Event::Evaluation(evaluation) = event { Some(evaluation.rows) } else { None })
        .collect();
    assert_eq!(measured, [20, 20]);
    // Measured as without packing: held-out rows stay what they are.
    let mut padded = desk(&MemoryStorage::default());
    padded.start(&SETTINGS.replace("packing: true", "packing: false"), false);
    assert_eq!(padded.finish().summary().before, run.summary().before);
    assert!(padded.summary().steps > steps && padded.warnings().iter().all(|warning| !warning.contains("packing")));
}

#[test]
fn a_packed_run_that_was_cut_goes_on_bit_for_bit_and_only_packed() {
    let mut whole = desk(&MemoryStorage::default());
    whole.start(SETTINGS, false);
    let (losses, summary) = (whole.finish().losses(), whole.summary());
    for cut in (5..60).step_by(11) {
        let storage = MemoryStorage::default();
        let mut first = desk(&storage);
        first.start(SETTINGS, false);
        (0..cut).for_each(|_| first.advance());
        let before = first.losses();
        drop(first);
        let mut second = desk(&storage);
        second.start(SETTINGS, true);
        let after = second.finish().losses();
        for (step, loss) in before.iter().chain(&after) {
            assert_eq!(losses[step].to_bits(), loss.to_bits(), "step {step} of a run cut after {cut}");
        }
        assert_eq!(second.summary().after, summary.after);
    }
    let storage = MemoryStorage::default();
    let mut first = desk(&storage);
    first.start(SETTINGS, false);
    first.finish().summary();
    let mut other = desk(&storage);
    other.start(&SETTINGS.replace("packing: true", "packing: false"), true);
    let message = other.failure().expect("refused");
    assert!(message.contains("training.packing is false, this run began with true"), "{message}");
}

#[test]
fn the_range_test_packs_as_a_run_does() {
    let mut desk = desk(&MemoryStorage::default());
    let config = Box::new(RawConfig::from_yaml(SETTINGS, "run.yaml").expect("settings"));
    desk.send(Command::LrFind { config, min_lr: 1e-5, max_lr: 0.1, num_training_steps: 13 }, Vec::new());
    desk.finish();
    assert_eq!(desk.failure(), None);
    // Thirteen steps of four sequences are more than two epochs; of four rows they would be less than one.
    let mut epoch =
        desk.events.iter().filter_map(|event| if let Event::Step(step) = event { Some(step.epoch) } else { None });
    let last = epoch.next_back().expect("steps");
    assert!(last > 2.0, "{last}");
}

#[test]
fn packed_answers_are_learnt() {
    let folder = Folder::new();
    folder.write("colours.csv", colours(80));
    let train = ["--task", "text-generation", "--method", "full", "--learning_rate", "0.01", "--max_steps", "60"];
    let rest = ["--batch_size", "6", "--output_dir", "out", "--set", "evaluation.max_new_tokens=8"];
    let run = folder.train("colours.csv", &[&train[..], &rest, &["--set", "training.packing=true"]].concat());
    let result = run.result();
    assert!(result["metrics"]["rougeL"].as_f64().expect("answers are measured") > 0.9, "{result}");
    let warnings: Vec<String> = run.events("plan")[0]["warnings"]
        .as_array()
        .expect("warnings")
        .iter()
        .filter_map(|warning| warning.as_str().map(str::to_owned))
        .collect();
    assert!(told(warnings.iter().map(String::as_str)).0.contains("estimated"), "{warnings:?}");

    let error = folder.train("reviews.csv", &["--set", "training.packing=true"]).error();
    assert!(error.contains("training.packing") && error.contains("text-classification"), "{error}");
}
