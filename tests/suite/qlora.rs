//! LoRA on a base in blocks: the same run as on the base that those blocks stand for, in the memory that they take.

#![allow(clippy::disallowed_methods)]

use std::rc::Rc;

use burn::tensor::Device;
use paddock::{
    adapter,
    batch::Targets,
    config::LoraConfig,
    model::{HeadKind, Llama, LlamaConfig},
    platform::{Memory, NamedFile},
    rng,
    train::Trainer,
    weights::{
        Packing, Weights,
        folder::Loader,
        ggml::GgmlType,
        safetensors::{DType, Named, write},
    },
};
use pollster::block_on;

use crate::golden::{ADAMW, batch, dropout_alone};

fn config() -> LlamaConfig {
    let json = serde_json::json!({
        "model_type": "llama", "vocab_size": 96, "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2,
        "num_attention_heads": 4, "num_key_value_heads": 2, "tie_word_embeddings": true,
    });
    LlamaConfig::from_json(json.to_string().as_bytes()).expect("config")
}

/// Random weights; `blocks` puts what these blocks keep of them in the linear layers' place.
fn weights(blocks: Option<GgmlType>, dtype: DType) -> Rc<Weights> {
    let mut rng = rng::stream(11, rng::INIT);
    let tensors: Vec<Named> = Llama::shapes(&config(), HeadKind::CausalLm, 0)
        .into_iter()
        .map(|(name, shape)| {
            let mut values = rng::normal(&mut rng, shape.iter().product(), 0.1);
            if let Some(kind) = blocks.filter(|_| name.ends_with("_proj.weight")) {
                let bytes = kind.quantize(&values).expect("a type that is written");
                kind.dequantize(&bytes, &mut values);
            }
            (name, shape, values)
        })
        .collect();
    let blob = Box::new(Memory(write(&tensors, dtype)));
    let file = NamedFile { name: "model.safetensors".into(), blob };
    Rc::new(block_on(Weights::open(config(), file)).expect("weights"))
}

fn load(weights: &Rc<Weights>, packing: Packing) -> Llama {
    load_within(weights, packing, u64::MAX)
}

fn load_within(weights: &Rc<Weights>, packing: Packing, limit: u64) -> Llama {
    let mut loader = Loader::new(weights.clone(), HeadKind::CausalLm, 0, Device::flex(), packing).within(limit);
    let mut rng = rng::stream(0, rng::INIT);
    loop {
        if let Some(model) = block_on(loader.advance(&mut rng)).expect("weights") {
            return model;
        }
    }
}

fn losses(model: Llama, recompute: bool) -> Vec<f64> {
    train(model, recompute).0
}

/// Losses of ten steps, and the gradients of the first.
fn train(mut model: Llama, recompute: bool) -> (Vec<f64>, Vec<f32>) {
    let device = Device::flex();
    let lora = LoraConfig {
        r: 4,
        lora_alpha: 8.0,
        lora_dropout: 0.1,
        target_modules: ["q_proj", "v_proj", "down_proj"].map(str::to_owned).to_vec(),
    };
    adapter::inject(&mut model, &lora, &mut rng::stream(5, rng::INIT), &device);
    let mut trainer = Trainer::new(model, ADAMW, device, recompute);
    let ids: Vec<i32> = (0..48).map(|i| (i * 37 + 11) % 96).collect();
    let input = batch(ids.clone(), 3, 16, vec![], Targets::Tokens(ids));
    let (_alone, mut gradients) = (dropout_alone(), Vec::new());
    let mut step = |step| {
        trainer.accumulate(&input, 1.0, step);
        if step == 0 {
            let all = trainer.gradients().into_iter();
            gradients = all.flat_map(|(_, grad)| grad.into_data().try_into_vec::<f32>().expect("f32")).collect();
        }
        let outcome = block_on(trainer.outcome()).expect("step");
        trainer.apply(5e-2, 1.0);
        outcome.loss
    };
    ((0..10).map(&mut step).collect(), gradients)
}

#[test]
fn training_on_blocks_is_training_on_what_they_stand_for() {
    for kind in [GgmlType::Q4_0, GgmlType::Q4_1, GgmlType::Q8_0] {
        for recompute in [false, true] {
            let packed = losses(load(&weights(None, DType::F32), Packing::Quantized(kind)), recompute);
            let dense = losses(load(&weights(Some(kind), DType::F32), Packing::Dense), recompute);
            assert!(dense[9] < dense[0] - 0.05, "{dense:?}");
            for (packed, dense) in packed.iter().zip(&dense) {
                assert!((packed - dense).abs() < 1e-4 * dense, "{} {packed} {dense}", kind.name());
            }
        }
    }
}

/// A device that binds 8 KiB at once: the embedding, which is the head too, and the feed-forward are in parts.
#[test]
fn weights_beyond_a_binding_are_held_in_parts() {
    let limit = 8 << 10;
    for (packing, dtype) in [
        (Packing::Dense, DType::F32),
        (Packing::Quantized(GgmlType::Q8_0), DType::F16),
        (Packing::Quantized(GgmlType::Q4_0), DType::F32),
    ] {
        let weights = weights(None, dtype);
        let (mut whole, mut parts) = (load(&weights, packing), load_within(&weights, packing, limit));
        let bytes = |model: &mut Llama| model.params_mut().iter().map(|param| param.bytes()).sum::<u64>();
        assert!(bytes(&mut parts) >= bytes(&mut whole) && bytes(&mut parts) < bytes(&mut whole) + 1000);
        let largest = |model: &mut Llama| model.params_mut().iter().map(|param| param.largest()).max();
        assert!(largest(&mut whole) > Some(limit) && largest(&mut parts) <= Some(limit));
        for recompute in [false, true] {
            let (wanted, wanted_grads) = train(whole.clone(), recompute);
            let (got, grads) = train(parts.clone(), recompute);
            assert!(wanted[9] < wanted[0] - 0.05, "{wanted:?}");
            wanted.iter().zip(&got).for_each(|(a, b)| assert!((a - b).abs() < 1e-5 * a, "{wanted:?} {got:?}"));
            assert_eq!(wanted_grads.len(), grads.len());
            let scale = wanted_grads.iter().fold(0f32, |most, grad| most.max(grad.abs()));
            for (a, b) in wanted_grads.iter().zip(&grads) {
                assert!((a - b).abs() < 1e-5 * scale, "{a} {b} of {scale}");
            }
        }
    }
}

#[test]
fn a_quantised_base_takes_the_bytes_of_its_blocks() {
    // The embedding stays in the file's 16 bits, the norms are in 32.
    let weights = weights(None, DType::F16);
    let packing = Packing::Quantized(GgmlType::Q4_0);
    let mut model = load(&weights, packing);
    let linear: u64 = 2 * (64 * 64 * 2 + 64 * 32 * 2 + 3 * 64 * 96);
    let (embedding, norms) = (96 * 64 * 2, 5 * 64 * 4);
    let bytes = linear / 32 * 18 + embedding + norms;
    let planned = |(name, shape): &(String, Vec<usize>)| packing.bytes(&weights, name, shape, false);
    assert_eq!(Llama::shapes(&config(), HeadKind::CausalLm, 0).iter().map(planned).sum::<u64>(), bytes);
    let held: u64 = model.params_mut().iter().map(|param| param.bytes()).sum();
    assert!(held >= bytes && held <= bytes + 15 * 8, "{held} {bytes}");
    let dense: u64 = load(&weights, Packing::Dense).params_mut().iter().map(|param| param.bytes()).sum();
    assert_eq!(dense, (linear + 96 * 64 + 5 * 64) * 4);
}
