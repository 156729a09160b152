//! Training in 16 bits against the same run in 32. The CPU computes in 16 bits here to be measured without a GPU; with
//! `PADDOCK_TEST_GPU` the machine's adapter does too, where it has `shader-f16`.

#![allow(clippy::disallowed_methods)]

use std::{collections::BTreeMap, rc::Rc, sync::OnceLock};

use burn::tensor::{Device, Tensor};
use paddock::{
    adapter,
    batch::{Batch, Targets},
    config::{Config, DeviceChoice, LoraConfig, RawConfig},
    data::Shape,
    device::{self, Opened},
    event::{DeviceInfo, Precision},
    model::{HeadKind, Llama, LlamaConfig},
    plan::plan,
    platform::{Memory, NamedFile},
    prepare::Rows,
    rng,
    train::{GradScaler, Trainer},
    weights::{
        Packing, Weights,
        folder::Loader,
        ggml::GgmlType,
        safetensors::{DType, Named, write},
    },
};
use pollster::block_on;

use crate::golden::{ADAMW, batch, dropout_alone};

pub fn devices() -> Vec<Device> {
    static GPU: OnceLock<Opened> = OnceLock::new();
    let gpu = std::env::var_os("PADDOCK_TEST_GPU")
        .map(|_| GPU.get_or_init(|| block_on(device::open(DeviceChoice::Gpu)).expect("PADDOCK_TEST_GPU is set").0));
    let half = gpu.filter(|gpu| gpu.info.features.iter().any(|feature| feature == "shader-f16"));
    std::iter::once(Device::flex()).chain(half.map(|gpu| gpu.device.clone())).collect()
}

/// `odd`: lengths that are no multiples of four, where the products read single numbers.
fn config(odd: bool) -> LlamaConfig {
    let (hidden, wide, heads) = if odd { (42, 50, 3) } else { (64, 96, 4) };
    let json = serde_json::json!({
        "model_type": "llama", "vocab_size": 96, "hidden_size": hidden, "intermediate_size": wide,
        "num_hidden_layers": 2, "num_attention_heads": heads, "num_key_value_heads": if odd { 1 } else { 2 },
        "tie_word_embeddings": true, "mlp_bias": odd,
    });
    LlamaConfig::from_json(json.to_string().as_bytes()).expect("config")
}

pub fn weights(config: LlamaConfig, head: HeadKind, dtype: DType, scale: f32) -> Rc<Weights> {
    let mut rng = rng::stream(11, rng::INIT);
    let tensors: Vec<Named> = Llama::shapes(&config, head, 3)
        .into_iter()
        .map(|(name, shape)| {
            let values = rng::normal(&mut rng, shape.iter().product(), scale);
            (name, shape, values)
        })
        .collect();
    let blob = Box::new(Memory(write(&tensors, dtype)));
    let file = NamedFile { name: "model.safetensors".into(), blob };
    Rc::new(block_on(Weights::open(config, file)).expect("weights"))
}

pub fn load(weights: &Rc<Weights>, head: HeadKind, packing: Packing, half: bool, device: &Device) -> Llama {
    let mut loader = Loader::new(weights.clone(), head, 3, device.clone(), packing).half(half);
    let mut rng = rng::stream(0, rng::INIT);
    loop {
        if let Some(model) = block_on(loader.advance(&mut rng)).expect("weights") {
            return model;
        }
    }
}

/// What a run is made of.
#[derive(Debug, Clone, Copy)]
struct Run {
    head: HeadKind,
    packing: Packing,
    odd: bool,
    dropout: f64,
    recompute: bool,
}

const LM: Run = Run { head: HeadKind::CausalLm, packing: Packing::Stored, odd: false, dropout: 0.0, recompute: false };

impl Run {
    fn trainer(self, half: bool, device: &Device) -> Trainer {
        let weights = weights(config(self.odd), self.head, DType::F32, 0.1);
        let mut model = load(&weights, self.head, self.packing, half, device);
        if self.packing == Packing::Dense {
            model.params_mut().into_iter().for_each(|param| param.trainable = true);
        } else {
            let lora = LoraConfig {
                r: 4,
                lora_alpha: 8.0,
                lora_dropout: self.dropout,
                target_modules: ["q_proj", "v_proj", "down_proj"].map(str::to_owned).to_vec(),
            };
            adapter::inject(&mut model, &lora, &mut rng::stream(5, rng::INIT), device);
        }
        Trainer::new(model, ADAMW, device.clone(), self.recompute)
    }

    fn input(self) -> Batch {
        let ids: Vec<i32> = (0..51).map(|i| (i * 37 + 11) % 96).collect();
        match self.head {
            HeadKind::CausalLm => batch(ids.clone(), 3, 17, vec![], Targets::Tokens(ids)),
            HeadKind::Classification => batch(ids, 3, 17, vec![16, 3, 9], Targets::Classes(vec![2, 0, 1])),
        }
    }

    /// Loss and gradient norm of each step.
    fn steps(self, half: bool, device: &Device, steps: u64) -> Vec<(f64, f64)> {
        let (mut trainer, input) = (self.trainer(half, device), self.input());
        assert_eq!(trainer.scaler.is_some(), half);
        let rate = if self.packing == Packing::Dense { 2e-3 } else { 5e-2 };
        let _alone = dropout_alone();
        (0..steps)
            .map(|step| {
                trainer.accumulate(&input, 1.0, step);
                let outcome = block_on(trainer.outcome()).expect("step");
                assert_eq!(trainer.overflowed(outcome), None, "step {step}");
                trainer.apply(rate, 1.0);
                (outcome.loss, outcome.grad_norm)
            })
            .collect()
    }
}

#[test]
fn sixteen_bits_learn_what_thirty_two_do() {
    let runs = [
        LM,
        Run { odd: true, recompute: true, dropout: 0.1, ..LM },
        Run { packing: Packing::Quantized(GgmlType::Q8_0), ..LM },
        Run { packing: Packing::Dense, ..LM },
        Run { packing: Packing::Dense, odd: true, ..LM },
        Run { head: HeadKind::Classification, ..LM },
    ];
    for device in devices() {
        for run in runs {
            let (full, half) = (run.steps(false, &device, 20), run.steps(true, &device, 20));
            assert!(full[19].0 < full[0].0 - 0.1, "{run:?} {full:?}");
            let apart = |a: f64, b: f64| (a - b).abs() / b.abs().max(1e-3);
            let worst = full.iter().zip(&half).map(|(full, half)| (half.0 - full.0).abs()).fold(0.0, f64::max);
            let norm = apart(half[0].1, full[0].1);
            println!("{run:?}: losses {:.4} to {:.4}, {worst:.1e} apart, first norm {norm:.1e}", full[0].0, full[19].0);
            assert!(worst < 1e-2, "{run:?}\n{full:?}\n{half:?}");
            assert!(norm < 1e-2, "{run:?}\n{full:?}\n{half:?}");
        }
    }
}

fn values(tensor: Tensor<2>) -> Vec<f32> {
    tensor.into_data().try_into_vec().expect("f32")
}

fn snapshot(model: &mut Llama) -> Vec<(String, Vec<f32>)> {
    model.params_mut().into_iter().map(|param| (param.name.clone(), values(param.value()))).collect()
}

#[test]
fn gradients_are_those_of_32_bits() {
    for device in devices() {
        for run in [LM, Run { odd: true, ..LM }] {
            let gradients = |half| {
                let mut trainer = run.trainer(half, &device);
                // B begins at zero, so A's first gradient is zero.
                for param in trainer.model.params_mut() {
                    if param.name.contains("lora_B") {
                        let [rows, columns] = param.dims();
                        param.set(Tensor::full([rows, columns], 0.05, &device));
                    }
                }
                trainer.accumulate(&run.input(), 1.0, 0);
                trainer.gradients()
            };
            for ((name, full), (_, half)) in gradients(false).into_iter().zip(gradients(true)) {
                let (full, half) = (values(full), values(half));
                let norm = |v: &mut dyn Iterator<Item = f32>| v.map(|x| f64::from(x * x)).sum::<f64>().sqrt();
                let apart = norm(&mut full.iter().zip(&half).map(|(a, b)| a - b)) / norm(&mut full.iter().copied());
                assert!(apart < 1e-2, "{name}: {apart}");
            }
        }
    }
}

#[test]
fn an_overflow_is_skipped_and_the_scale_halves() {
    for device in devices() {
        let (mut trainer, input) = (LM.trainer(true, &device), LM.input());
        let before = snapshot(&mut trainer.model);
        let scale = 2f64.powi(40);
        trainer.scaler = Some(GradScaler::new(scale));
        let step = |trainer: &mut Trainer| {
            trainer.accumulate(&input, 1.0, 0);
            let outcome = block_on(trainer.outcome()).expect("step");
            let overflow = trainer.overflowed(outcome);
            if overflow.is_none() {
                trainer.apply(1e-2, 1.0);
            }
            (overflow, outcome)
        };
        let (skipped, outcome) = step(&mut trainer);
        assert_eq!(skipped, Some(scale / 2.0));
        assert_eq!((outcome.grad_norm.is_finite(), outcome.loss.is_finite()), (false, true));
        assert_eq!(snapshot(&mut trainer.model), before);
        // Down to where it fits; then the step is the one that a run without the overflow begins with.
        while let (Some(_), _) = step(&mut trainer) {}
        let (mut fresh, after) = (LM.trainer(true, &device), snapshot(&mut trainer.model));
        assert_ne!(after, before);
        step(&mut fresh);
        for ((name, a), (_, b)) in after.iter().zip(&snapshot(&mut fresh.model)) {
            let worst = a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0f32, f32::max);
            // A first step of AdamW is the rate in the gradient's direction: where that is zero but for rounding, either.
            let apart = a.iter().zip(b).filter(|(a, b)| (*a - *b).abs() > 1e-4).count();
            assert!(worst <= 2.1e-2 && apart * 50 <= a.len(), "{name}: {apart} of {} apart, {worst}", a.len());
        }
    }
}

#[test]
fn an_overflow_at_the_least_scale_is_the_gradients_own() {
    let device = Device::flex();
    let (mut trainer, input) = (LM.trainer(true, &device), LM.input());
    trainer.scaler = Some(GradScaler::new(1.0));
    let before = snapshot(&mut trainer.model);
    // A share of 1e30 is a gradient beyond 16 bits at any scale.
    trainer.accumulate(&input, 1e30, 0);
    let outcome = block_on(trainer.outcome()).expect("step");
    assert_eq!(trainer.overflowed(outcome), None);
    assert!(!outcome.grad_norm.is_finite());
    assert_eq!(snapshot(&mut trainer.model), before);
}

#[test]
fn a_frozen_base_is_held_in_16_bits() {
    let head = HeadKind::CausalLm;
    let shapes = Llama::shapes(&config(false), head, 0);
    let elements: usize = shapes.iter().map(|(_, shape)| shape.iter().product::<usize>()).sum();
    let norms = 5 * 64;
    let bytes = ((elements - norms) * 2 + norms * 4) as u64;
    for dtype in [DType::F32, DType::F16, DType::Bf16] {
        let weights = weights(config(false), head, dtype, 0.1);
        let mut half = load(&weights, head, Packing::Stored, true, &Device::flex());
        let planned = |(name, shape): &(String, Vec<usize>)| Packing::Stored.bytes(&weights, name, shape, true);
        assert_eq!(shapes.iter().map(planned).sum::<u64>(), bytes);
        let held: u64 = half.params_mut().iter().map(|param| param.bytes()).sum();
        assert!(held >= bytes && held <= bytes + 15 * 8, "{held} {bytes}");
        // What was in 16 bits is as it was.
        let full = snapshot(&mut load(&weights, head, Packing::Stored, false, &Device::flex()));
        let tolerance = if dtype == DType::F32 { 5e-4 } else { 0.0 };
        for ((name, full), (_, half)) in full.iter().zip(&snapshot(&mut half)) {
            let close = |(a, b): (&f32, &f32)| (a - b).abs() <= tolerance * a.abs().max(1e-4);
            assert!(full.iter().zip(half).all(close), "{name}");
        }
    }
    // A number beyond F16's range: its matrix stays in 32 bits.
    let large = weights(config(false), head, DType::F32, 1e5);
    let mut model = load(&large, head, Packing::Stored, true, &Device::flex());
    let held: u64 = model.params_mut().iter().map(|param| param.bytes()).sum();
    assert_eq!(held, elements as u64 * 4);
}

#[test]
fn the_setting_takes_what_the_device_has() {
    let weights = weights(config(false), HeadKind::CausalLm, DType::F32, 0.05);
    let rows = Rows {
        shape: Shape::PromptCompletion,
        columns: BTreeMap::new(),
        train: Vec::new(),
        validation: Vec::new(),
        labels: Vec::new(),
        skipped: 0,
        warnings: Vec::new(),
    };
    let opened = |id: &str, software, features: &[&str]| {
        let info = DeviceInfo {
            id: id.into(),
            name: "Card".into(),
            api: "Vulkan".into(),
            software,
            features: features.iter().map(|f| f.to_string()).collect(),
            limits: Default::default(),
        };
        Opened::new(Device::flex(), info)
    };
    let config = |yaml: &str| {
        let mut raw = RawConfig::from_yaml(yaml, "run.yaml").expect("yaml");
        raw.set("task", "text-generation").expect("a key");
        Config::resolve(&raw).expect("valid")
    };
    let (cpu, card) = (opened("cpu", false, &[]), opened("gpu", false, &["shader-f16"]));
    let (soft, old) = (opened("gpu", true, &["shader-f16"]), opened("gpu", false, &["subgroups"]));
    for (yaml, expected) in [
        ("", [Some(false), Some(true), Some(false), Some(false)]),
        ("training: {mixed_precision: no}", [Some(false); 4]),
        ("training: {mixed_precision: fp16}", [None, Some(true), Some(true), None]),
        ("{kernels: stock, training: {mixed_precision: fp16}}", [None; 4]),
        ("kernels: stock", [Some(false); 4]),
    ] {
        let config = config(yaml);
        assert_eq!([&cpu, &card, &soft, &old].map(|opened| opened.half(&config).ok()), expected, "{yaml}");
        for (opened, expected) in [&cpu, &card, &soft, &old].into_iter().zip(expected) {
            let said = plan(&config, &weights, opened, &rows, 20).ok().map(|plan| plan.precision);
            let expected = expected.map(|half| if half { Precision::F16 } else { Precision::F32 });
            assert_eq!(said, expected, "{yaml} on {}", opened.info.id);
        }
    }
    let error = old.half(&config("training: {mixed_precision: fp16}")).expect_err("no shader-f16").to_string();
    assert!(error.contains("training.mixed_precision") && error.contains("shader-f16"), "{error}");
}
