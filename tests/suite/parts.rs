//! Full training of weights that a device cannot bind whole: in parts of their rows it is the same run, on the CPU and, with
//! `PADDOCK_TEST_GPU`, on the machine's adapter.

#![allow(clippy::disallowed_methods)]

use std::collections::BTreeMap;

use burn::tensor::{Device, Tensor};
use paddock::{
    batch::{Batch, Targets},
    model::{HeadKind, LlamaConfig},
    rng,
    train::{Outcome, Trainer},
    weights::{Packing, folder::Loader, safetensors::DType},
};
use pollster::block_on;

use crate::{
    golden::{ADAMW, batch},
    half::{devices, weights},
};

const WIDTH: usize = 64;
const EMBEDDING: &str = "model.embed_tokens.weight";

/// With a head of its own or the embedding as head, held in parts of at most `limit` bytes.
fn trainer(tied: bool, limit: u64, recompute: bool, device: &Device) -> Trainer {
    let json = serde_json::json!({
        "model_type": "llama", "vocab_size": 90, "hidden_size": WIDTH, "intermediate_size": 96, "num_hidden_layers": 2,
        "num_attention_heads": 4, "num_key_value_heads": 2, "tie_word_embeddings": tied,
    });
    let config = LlamaConfig::from_json(json.to_string().as_bytes()).expect("config");
    let weights = weights(config, HeadKind::CausalLm, DType::F32, 0.1);
    let mut loader = Loader::new(weights, HeadKind::CausalLm, 0, device.clone(), Packing::Dense).within(limit);
    let mut rng = rng::stream(0, rng::INIT);
    let mut model = loop {
        if let Some(model) = block_on(loader.advance(&mut rng)).expect("weights") {
            break model;
        }
    };
    model.params_mut().into_iter().for_each(|param| param.trainable = true);
    Trainer::new(model, ADAMW, device.clone(), recompute)
}

/// Three rows of which the second ends early; tokens of all parts of the vocabulary, and some that are there twice.
fn input() -> Batch {
    let ids: Vec<i32> = (0..48).map(|i| (i * 37 + 11) % 90).collect();
    let labels = ids.iter().enumerate().map(|(at, id)| if (20..32).contains(&at) { -100 } else { *id }).collect();
    batch(ids, 3, 16, vec![], Targets::Tokens(labels))
}

fn values(tensor: Tensor<2>) -> Vec<f32> {
    tensor.into_data().try_into_vec().expect("f32")
}

/// By name, whatever parts they are in.
fn gradients(trainer: &mut Trainer) -> BTreeMap<String, Vec<f32>> {
    let mut all: BTreeMap<String, Vec<f32>> = BTreeMap::new();
    for (name, grad) in trainer.gradients() {
        all.entry(name).or_default().extend(values(grad));
    }
    all
}

/// A step of two micro-batches, and the gradients it came from.
fn step(trainer: &mut Trainer, number: u64) -> (Outcome, BTreeMap<String, Vec<f32>>) {
    let input = input();
    (0..2).for_each(|micro| trainer.accumulate(&input, 0.5, 2 * number + micro));
    let gradients = gradients(trainer);
    let outcome = block_on(trainer.outcome()).expect("a step");
    trainer.apply(1e-2, 1.0);
    (outcome, gradients)
}

#[test]
fn training_in_parts_is_training() {
    let limit = 6 << 10;
    for device in devices() {
        for (tied, recompute) in [(true, false), (true, true), (false, false), (false, true)] {
            let case = format!("tied {tied} recompute {recompute}");
            let [mut whole, mut parts] = [u64::MAX, limit].map(|limit| trainer(tied, limit, recompute, &device));
            assert!(whole.model.params_mut().iter().any(|param| param.largest() > limit));
            assert!(parts.model.params_mut().iter().all(|param| param.largest() <= limit));
            assert!(parts.model.pieces_mut().len() > whole.model.pieces_mut().len() + 10);
            let mut losses = Vec::new();
            for number in 0..6 {
                let (wanted, of_whole) = step(&mut whole, number);
                let (got, of_parts) = step(&mut parts, number);
                assert!((wanted.loss - got.loss).abs() < 1e-4 * wanted.loss, "{case}, {number}: {wanted:?} {got:?}");
                assert_eq!(wanted.correct, got.correct, "{case}, {number}");
                losses.push(got.loss);
                if number > 0 {
                    continue;
                }
                assert!(
                    (wanted.grad_norm - got.grad_norm).abs() < 1e-4 * wanted.grad_norm,
                    "{case}: {wanted:?} {got:?}"
                );
                assert_eq!(of_whole.keys().collect::<Vec<_>>(), of_parts.keys().collect::<Vec<_>>(), "{case}");
                for (name, wanted) in &of_whole {
                    let got = &of_parts[name];
                    assert_eq!(wanted.len(), got.len(), "{case}: {name}");
                    let scale = wanted.iter().fold(0f32, |most, grad| most.max(grad.abs()));
                    assert!(scale > 0.0, "{case}: {name}");
                    for (a, b) in wanted.iter().zip(got) {
                        assert!((a - b).abs() <= 1e-4 * scale, "{case}: {name}: {a} {b} of {scale}");
                    }
                }
            }
            assert!(losses[5] < losses[0] - 0.1, "{case}: {losses:?}");
            // What exports read, across the borders of parts.
            let all =
                parts.model.params_mut().into_iter().find(|param| param.name == EMBEDDING).map(|param| param.value());
            let all = values(all.expect("an embedding"));
            let some = values(parts.model.rows(EMBEDDING, 15..50).expect("an embedding"));
            assert_eq!(some, all[15 * WIDTH..50 * WIDTH]);
        }
    }
}

/// A checkpoint has whole weights and moments: a device with another limit, or without one, goes on with it.
#[test]
fn a_run_in_parts_goes_on_in_others() {
    let device = Device::flex();
    let mut parts = trainer(true, 6 << 10, false, &device);
    (0..3).for_each(|number| drop(step(&mut parts, number)));
    let held: Vec<_> = parts.held().into_iter().map(|held| (held.name.clone(), held.dims(), held.parts)).collect();
    assert!(held.iter().any(|(_, _, parts)| parts.len() > 3));
    let held: Vec<(String, Vec<f32>, [usize; 2])> = held
        .into_iter()
        .map(|(name, dims, parts)| (name, parts.into_iter().flat_map(values).collect(), dims))
        .collect();
    let expected: Vec<f64> = (3..5).map(|number| step(&mut parts, number).0.loss).collect();
    for limit in [u64::MAX, 10 << 10, 6 << 10] {
        let mut other = trainer(true, limit, false, &device);
        let named = |all: Vec<(String, [usize; 2])>| all.into_iter().collect::<BTreeMap<_, _>>();
        let there = held.iter().map(|(name, _, dims)| (name.clone(), *dims)).collect();
        assert_eq!(named(other.wanted()), named(there));
        other.restore(held.clone(), 3);
        for (number, expected) in (3..5).zip(&expected) {
            let loss = step(&mut other, number).0.loss;
            assert!((loss - expected).abs() < 1e-5 * expected, "{limit}, step {number}: {loss} {expected}");
        }
        // Without the moments it is another run.
        let mut without = trainer(true, limit, false, &device);
        without.restore(held.iter().filter(|(name, ..)| !name.starts_with("optimizer.")).cloned().collect(), 3);
        let losses: Vec<f64> = (3..5).map(|number| step(&mut without, number).0.loss).collect();
        assert!((losses[0] - expected[0]).abs() < 1e-5 * expected[0] && (losses[1] - expected[1]).abs() > 1e-4);
    }
}
