//! Token by token over the cache against the whole sequence at once, on the CPU and, where `PADDOCK_TEST_GPU` is set, on the
//! GPU.

#![allow(clippy::disallowed_methods)]

use burn::tensor::DType;
use rand::Rng;
use serde_json::{Value, json};

use super::*;
use crate::{
    adapter,
    config::{DeviceChoice, LoraConfig},
    device,
    kernels::Packed,
    model::{HeadKind, Llama, Param},
    rng,
    weights::ggml::GgmlType,
};

fn devices() -> Vec<Device> {
    let gpu = std::env::var_os("PADDOCK_TEST_GPU").map(|_| {
        let opened = pollster::block_on(device::open(DeviceChoice::Gpu));
        opened.expect("PADDOCK_TEST_GPU is set").0.device
    });
    std::iter::once(Device::flex()).chain(gpu).collect()
}

/// A small model with some keys of its config.json changed.
fn model(changes: Value, packed: Option<GgmlType>, device: &Device) -> Llama {
    let mut raw = json!({
        "model_type": "llama", "vocab_size": 61, "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 3,
        "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 64,
    });
    let (Some(raw), Value::Object(changes)) = (raw.as_object_mut(), changes) else { unreachable!("objects") };
    raw.extend(changes);
    let config = LlamaConfig::from_map("config.json", raw.clone()).expect("a LLaMA");
    let shapes = Llama::shapes(&config, HeadKind::CausalLm, 0);
    let mut rng = rng::stream(3, 1);
    let mut weight = |name: String| -> Result<Param, ()> {
        let shape = &shapes.iter().find(|(known, _)| *known == name).expect("a weight").1;
        let [rows, columns] = if let [rows, columns] = shape[..] { [rows, columns] } else { [1, shape[0]] };
        let mut values = rng::normal(&mut rng, rows * columns, 0.2);
        if name.contains("norm") {
            values.iter_mut().for_each(|value| *value += 1.0);
        }
        Ok(match packed.filter(|kind| shape.len() == 2 && Packed::fits(*kind, columns)) {
            Some(kind) => {
                let bytes = kind.quantize(&values).expect("a type that is written");
                Param::packed(name, Packed::new(kind, [rows, columns], &bytes, device))
            }
            None => {
                Param::new(name, Tensor::from_data(TensorData::new(values, [rows, columns]), device), shape.len() == 1)
            }
        })
    };
    Llama::new(config, HeadKind::CausalLm, &mut weight).expect("a model")
}

fn adapted(mut model: Llama, device: &Device) -> Llama {
    let modules = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"];
    let config =
        LoraConfig { r: 4, lora_alpha: 8.0, lora_dropout: 0.5, target_modules: modules.map(str::to_owned).to_vec() };
    adapter::inject(&mut model, &config, &mut rng::stream(4, 1), device);
    for param in model.params_mut().into_iter().filter(|param| param.name.contains("lora_B")) {
        let [rows, columns] = param.dims();
        let values = rng::normal(&mut rng::stream(5, 1), rows * columns, 0.2);
        param.set(Tensor::from_data(TensorData::new(values, [rows, columns]), device));
    }
    model
}

fn random(rows: usize, length: usize) -> Vec<Vec<i32>> {
    let mut rng = rng::stream(6, 1);
    (0..rows).map(|_| (0..length).map(|_| rng.random_range(0..61)).collect()).collect()
}

fn ids(rows: &[Vec<i32>], device: &Device) -> Tensor<2, Int> {
    Tensor::from_data(TensorData::new(rows.concat(), [rows.len(), rows[0].len()]), device)
}

fn logits(model: &Llama, hidden: Tensor<2>) -> Vec<f32> {
    model.project(hidden, false).cast(DType::F32).into_data().try_into_vec().expect("f32")
}

/// Logits of one sequence, `vocab` a token, without a cache.
fn whole(model: &Llama, row: &[i32], device: &Device) -> Vec<f32> {
    logits(model, model.hidden(ids(&[row.to_vec()], device), None, false))
}

/// The first tokens of each row, padded on the left to `slots`.
fn prompts(rows: &[Vec<i32>], lengths: &[usize], slots: usize) -> Vec<Vec<i32>> {
    let pad = |(row, length): (&Vec<i32>, &usize)| [vec![60; slots - length], row[..*length].to_vec()].concat();
    rows.iter().zip(lengths).map(pad).collect()
}

fn columns(rows: &[Vec<i32>], range: Range<usize>) -> Vec<Vec<i32>> {
    rows.iter().map(|row| row[range.clone()].to_vec()).collect()
}

fn assert_close(name: &str, got: &[f32], expected: &[f32], tolerance: f32) {
    assert_eq!(got.len(), expected.len(), "{name}");
    let scale = expected.iter().fold(1f32, |most, value| most.max(value.abs()));
    let worst =
        got.iter().zip(expected).map(|(a, b)| (a - b).abs()).fold(0f32, |a, b| if b > a || b.is_nan() { b } else { a });
    assert!(worst <= tolerance * scale, "{name}: {worst} of {scale}");
}

/// Rows of several lengths, their prompts in pieces, then token by token: every logit of every real token.
fn check(name: &str, model: &Llama, pieces: &[usize], tolerance: f32, device: &Device) {
    let (lengths, more) = ([5, 11, 1, 8], 9);
    let slots = pieces.iter().sum::<usize>();
    let rows = random(lengths.len(), 11 + more);
    let expected: Vec<Vec<f32>> =
        rows.iter().zip(&lengths).map(|(row, length)| whole(model, &row[..length + more], device)).collect();
    let vocab = model.config.vocab_size;
    let mut cache = KvCache::new(&model.config, lengths.to_vec(), slots);
    let prompts = prompts(&rows, &lengths, slots);
    let mut feed = |new: Vec<Vec<i32>>, from: usize| {
        let count = new[0].len();
        let got = logits(model, model.extend(ids(&new, device), &mut cache));
        for (row, length) in lengths.iter().enumerate() {
            for token in 0..count {
                let Some(position) = (from + token).checked_sub(slots - length) else { continue };
                let got = &got[(row * count + token) * vocab..][..vocab];
                let name = format!("{name}: row {row}, token {position}");
                assert_close(&name, got, &expected[row][position * vocab..][..vocab], tolerance);
            }
        }
    };
    let mut from = 0;
    for piece in pieces {
        feed(columns(&prompts, from..from + piece), from);
        from += piece;
    }
    for step in 0..more {
        feed(rows.iter().zip(&lengths).map(|(row, length)| vec![row[length + step]]).collect(), from + step);
    }
}

#[test]
fn cached_tokens_have_the_logits_of_the_whole() {
    for device in devices() {
        let shapes = [
            ("grouped", json!({})),
            ("one key for all", json!({"num_key_value_heads": 1})),
            ("a key a head", json!({"num_key_value_heads": 4})),
            ("narrow heads and biases", json!({"head_dim": 6, "attention_bias": true, "mlp_bias": true})),
            ("tied", json!({"tie_word_embeddings": true})),
            ("linear", json!({"rope_scaling": {"type": "linear", "factor": 4.0}})),
            ("dynamic", json!({"rope_scaling": {"type": "dynamic", "factor": 2.0}})),
            (
                "llama3",
                json!({"rope_scaling": {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0,
                    "high_freq_factor": 4.0, "original_max_position_embeddings": 16}}),
            ),
        ];
        for (name, changes) in shapes {
            let model = model(changes, None, &device);
            for pieces in [&[11][..], &[16], &[4, 4, 8], &[1, 10, 5]] {
                check(name, &model, pieces, 1e-4, &device);
            }
            check(&format!("{name} with LoRA"), &adapted(model, &device), &[16], 1e-4, &device);
        }
    }
}

#[test]
fn packed_and_16_bit_weights_go_through_the_cache() {
    for device in devices() {
        for kind in [GgmlType::Q8_0, GgmlType::Q4_0] {
            let model = model(json!({}), Some(kind), &device);
            check(&format!("{kind:?}"), &model, &[4, 12], 1e-4, &device);
            check(&format!("{kind:?} with LoRA"), &adapted(model, &device), &[4, 12], 1e-4, &device);
        }
    }
    let device = Device::flex();
    let mut model = model(json!({}), Some(GgmlType::F16), &device);
    model.half = true;
    check("F16", &model, &[4, 12], 2e-2, &device);
}

/// Beyond what a dynamic rotary embedding was made for, keys keep the angles of their time, as in transformers' cache; a
/// prompt is turned by its own length, however it is cut.
#[test]
fn a_dynamic_embedding_turns_a_prompt_as_a_whole() {
    let device = Device::flex();
    let scaling = json!({"max_position_embeddings": 6, "rope_scaling": {"type": "dynamic", "factor": 4.0}});
    let model = model(scaling, None, &device);
    let rows = random(2, 20);
    for pieces in [&[24][..], &[8, 8, 8]] {
        let mut cache = KvCache::new(&model.config, vec![20, 9], 24);
        let prompts = prompts(&rows, &[20, 9], 24);
        let mut from = 0;
        let mut last = Vec::new();
        for piece in pieces {
            last = logits(&model, model.extend(ids(&columns(&prompts, from..from + piece), &device), &mut cache));
            from += piece;
        }
        let vocab = model.config.vocab_size;
        for (row, length) in [(0, 20), (1, 9)] {
            let end = (row + 1) * pieces[pieces.len() - 1] * vocab;
            let expected = whole(&model, &rows[row][..length], &device);
            assert_close("prompt", &last[end - vocab..end], &expected[(length - 1) * vocab..], 1e-4);
        }
    }
}

#[test]
fn rows_come_and_go() {
    for device in devices() {
        let model = model(json!({}), None, &device);
        let rows = random(5, 90);
        let vocab = model.config.vocab_size;
        let read = |rows: &[Vec<i32>], lengths: &[usize], slots: usize| {
            let mut cache = KvCache::new(&model.config, lengths.to_vec(), slots);
            model.extend(ids(&prompts(rows, lengths, slots), &device), &mut cache);
            cache
        };
        let next = |cache: &mut KvCache, at: &[(usize, usize)]| {
            let tokens: Vec<Vec<i32>> = at.iter().map(|(row, length)| vec![rows[*row][*length]]).collect();
            let got = logits(&model, model.extend(ids(&tokens, &device), cache));
            for ((row, length), got) in at.iter().zip(got.chunks(vocab)) {
                let expected = whole(&model, &rows[*row][..=*length], &device);
                assert_close(&format!("row {row}, token {length}"), got, &expected[length * vocab..], 1e-4);
            }
        };
        // Three rows; the longest leaves, and with it the slots that it alone had.
        let mut cache = read(&rows[..3], &[6, 40, 9], 48);
        next(&mut cache, &[(0, 6), (1, 40), (2, 9)]);
        let mut cache = KvCache::join(vec![(cache, vec![2, 0])]);
        assert_eq!((cache.rows(), cache.filled()), (2, 10));
        next(&mut cache, &[(2, 10), (0, 7)]);
        // Two more come, one of them longer than all that stand there; the cache grows while they go on.
        let entering = read(&rows[3..], &[70, 4], 80);
        let mut cache = KvCache::join(vec![(cache, vec![0, 1]), (entering, vec![0, 1])]);
        assert_eq!((cache.rows(), cache.filled()), (4, 70));
        for step in 0..12 {
            next(&mut cache, &[(2, 11 + step), (0, 8 + step), (3, 70 + step), (4, 4 + step)]);
        }
        let mut cache = KvCache::join(vec![(cache, vec![3])]);
        assert_eq!((cache.rows(), cache.filled()), (1, 16));
        next(&mut cache, &[(4, 16)]);
    }
}

#[test]
fn a_cache_has_few_sizes() {
    let sizes: std::collections::BTreeSet<usize> = (1..=2048).map(capacity).collect();
    assert!(sizes.len() <= 17, "{sizes:?}");
    assert!(
        (1..=4096).all(|tokens| capacity(tokens) >= tokens && capacity(tokens) <= (tokens * 5 / 4).max(tokens + 63))
    );
}
