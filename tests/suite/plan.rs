//! The plan's bytes against what a run holds at most: every allocation of two steps on the CPU is counted.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use burn::backend::wgpu::{AutoCompiler, WgpuDevice, WgpuRuntime};
// The trait's only public name.
use cubecl::{__private::Runtime, MemoryScope};
use paddock::{
    config::{DeviceChoice, RawConfig},
    device,
    engine::Engine,
    event::{Command, Envelope, Event, Plan},
    model::{HeadKind, Llama, LlamaConfig},
    platform::{Blob, LocalFuture, Memory, NamedFile},
    rng,
    weights::safetensors::{DType, Named, header, write},
};
use pollster::block_on;
use serde_json::{Value, json};

use crate::{
    cli::fixture,
    golden::{dropout_alone, gpu_alone},
    memory::peak,
};

/// Proportions as in SmolLM2: a feed-forward of 2.7 times the width, heads of 64.
pub fn config(layers: usize) -> Value {
    json!({
        "model_type": "llama", "vocab_size": 1024, "hidden_size": 128, "intermediate_size": 352,
        "num_hidden_layers": layers, "num_attention_heads": 2, "num_key_value_heads": 1,
        "max_position_embeddings": 2048, "tie_word_embeddings": true,
    })
}

pub fn model(config: &Value) -> Vec<NamedFile> {
    let config = config.to_string().into_bytes();
    let parsed = LlamaConfig::from_json(&config).expect("config");
    let mut rng = rng::stream(3, rng::INIT);
    let mut values = |shape: Vec<usize>| (rng::normal(&mut rng, shape.iter().product(), 0.05), shape);
    let tensors: Vec<Named> = Llama::shapes(&parsed, HeadKind::CausalLm, 0)
        .into_iter()
        .map(|(name, shape)| {
            let (values, shape) = values(shape);
            (name, shape, values)
        })
        .collect();
    let files = [
        ("config.json", config),
        ("tokenizer.json", fixture::tokenizer().to_string().into_bytes()),
        ("model.safetensors", write(&tensors, DType::F32)),
    ];
    files.map(|(name, bytes)| named(name, bytes)).into()
}

pub fn named(name: &str, bytes: Vec<u8>) -> NamedFile {
    NamedFile { name: name.into(), blob: Box::new(Memory(bytes)) }
}

fn fine(envelopes: Vec<Envelope>) -> Vec<Event> {
    let events: Vec<Event> = envelopes.into_iter().map(|envelope| envelope.event).collect();
    assert!(!events.iter().any(|event| matches!(event, Event::Failed(_))), "{events:?}");
    events
}

const PACKED: &str = "training.packing=true";

fn configured(keys: &[&str]) -> RawConfig {
    let mut raw = RawConfig::default();
    for key in keys {
        let (key, value) = key.split_once('=').expect("a value");
        raw.set(key, value).expect("a key");
    }
    raw
}

/// The plan of a run, and the most bytes that it held until its second step was done.
pub fn run(model: Vec<NamedFile>, keys: &[&str]) -> (Plan, u64) {
    let raw = configured(&[&["training.max_steps=4"][..], keys].concat());
    // Packed rows are shorter, and fill their sequences together.
    let packed = keys.contains(&PACKED);
    let (header, words, count) = if packed { ("prompt,completion", 1, 96) } else { ("text,label", 24, 48) };
    let long = |row: usize| "the film as a whole is what it is ".repeat(words + row % 3);
    let rows: String = (0..count).map(|row| format!("{},{}\n", long(row), ["good", "bad"][row % 2])).collect();
    let mut engine = Engine::new();
    fine(block_on(engine.handle(Command::OpenModel { name: "model".into() }, model)));
    let data = named("rows.csv", format!("{header}\n{rows}").into_bytes());
    fine(block_on(engine.handle(Command::OpenData, vec![data])));
    let _alone = dropout_alone();
    let (plan, most) = peak(|| {
        let start = Command::Start { config: Box::new(raw), resume: false, smaller: 0 };
        let mut events = fine(block_on(engine.handle(start, Vec::new())));
        let plan = events.iter().find_map(|event| match event {
            Event::Plan(plan) => Some(plan.clone()),
            _ => None,
        });
        while !events.iter().any(|event| matches!(event, Event::Step(step) if step.step == 2)) {
            assert!(engine.busy(), "two steps");
            events = fine(block_on(engine.advance()));
        }
        plan.expect("a plan")
    });
    (plan, most as u64)
}

#[test]
fn a_run_holds_what_its_plan_says() {
    let (cpu, generation) = (["device=cpu"], ["task=text-generation"]);
    let [short, long] =
        [["model.max_seq_length=128", "training.batch_size=4"], ["model.max_seq_length=512", "training.batch_size=1"]];
    // Too long for the scores of all queries to exist at once.
    let longest = ["model.max_seq_length=2048", "training.batch_size=1"];
    let (dense, packed) = (["model.quantization=none"], ["model.quantization=q4_0"]);
    let (full, checkpointing) = (["training.method=full"], ["training.gradient_checkpointing=true"]);
    let dropout = ["lora.lora_dropout=0.1", "lora.target_modules=q_proj,v_proj,down_proj", "lora.r=32"];
    let side_by_side = [PACKED, "evaluation.max_generated_samples=0"];
    let cases: [&[&[&str]]; 22] = [
        &[&generation, &short, &dense],
        &[&generation, &short, &dense, &checkpointing],
        &[&generation, &long, &dense],
        &[&generation, &long, &dense, &checkpointing],
        &[&generation, &longest, &dense],
        &[&generation, &longest, &dense, &checkpointing],
        &[&generation, &long, &packed],
        &[&generation, &long, &packed, &checkpointing],
        &[&generation, &short, &full],
        &[&generation, &short, &full, &checkpointing],
        &[&generation, &long, &full],
        &[&generation, &short, &full, &["training.gradient_accumulation_steps=2"]],
        &[&generation, &short, &dropout],
        &[&generation, &short, &dense, &side_by_side],
        &[&generation, &long, &dense, &side_by_side, &checkpointing],
        &[&generation, &short, &full, &side_by_side],
        &[&generation, &long, &packed, &side_by_side],
        &[&short, &dense],
        &[&short, &packed, &checkpointing],
        &[&long, &dense],
        &[&long, &full],
        &[&long, &full, &checkpointing],
    ];
    let mut off = Vec::new();
    println!(" weights training activations  planned     held      in MiB");
    for case in cases {
        let keys = [&cpu[..], &case.concat()].concat();
        let (plan, held) = run(model(&config(4)), &keys);
        let planned = plan.weight_bytes + plan.training_bytes + plan.activation_bytes;
        let mib = |bytes: u64| bytes as f64 / (1 << 20) as f64;
        let [weights, training, activations] = [plan.weight_bytes, plan.training_bytes, plan.activation_bytes].map(mib);
        let share = 100.0 * (planned as f64 / held as f64 - 1.0);
        let sums = format!("{:8.2} {:8.2} {share:+5.0} %", mib(planned), mib(held));
        println!("{weights:8.2} {training:8.2} {activations:11.2} {sums}  {}", keys.join(" "));
        if share.abs() > 15.0 {
            off.push(keys.join(" "));
        }
    }
    assert!(off.is_empty(), "more than 15 % off: {off:#?}");
}

/// A file of which only the beginning is there: as much as a plan reads.
struct Beginning(Memory, u64);

impl Blob for Beginning {
    fn size(&self) -> u64 {
        self.1
    }

    fn read(&self, offset: u64, len: usize) -> LocalFuture<'_, std::io::Result<Vec<u8>>> {
        self.0.read(offset, len)
    }
}

/// QLoRA on a base in 4 bits, 1 × 512 tokens, block by block.
pub const QLORA: [&str; 7] = [
    "device=cpu",
    "task=text-generation",
    "model.quantization=q4_0",
    "model.max_seq_length=512",
    "training.batch_size=1",
    "training.gradient_checkpointing=true",
    "training.mixed_precision=no",
];

/// The plan of such a run on a model of TinyLlama-1.1B's shape in BF16, of whose file there is the header alone.
pub fn billion() -> Plan {
    let config = json!({
        "model_type": "llama", "vocab_size": 32000, "hidden_size": 2048, "intermediate_size": 5632,
        "num_hidden_layers": 22, "num_attention_heads": 32, "num_key_value_heads": 4,
        "max_position_embeddings": 2048, "tie_word_embeddings": false,
    });
    let config = config.to_string().into_bytes();
    let shapes = Llama::shapes(&LlamaConfig::from_json(&config).expect("config"), HeadKind::CausalLm, 0);
    let beginning = header(shapes.iter().map(|(name, shape)| (name.as_str(), shape.as_slice())), DType::Bf16);
    let numbers: usize = shapes.iter().map(|(_, shape)| shape.iter().product::<usize>()).sum();
    let size = (beginning.len() + numbers * DType::Bf16.bytes()) as u64;
    let weights = NamedFile { name: "model.safetensors".into(), blob: Box::new(Beginning(Memory(beginning), size)) };
    let tokenizer = named("tokenizer.json", fixture::tokenizer().to_string().into_bytes());
    let mut engine = Engine::new();
    let open = Command::OpenModel { name: "billion".into() };
    fine(block_on(engine.handle(open, vec![named("config.json", config), tokenizer, weights])));
    let rows = "text,label\n".to_owned() + &"the film as a whole is what it is,good\n".repeat(200);
    fine(block_on(engine.handle(Command::OpenData, vec![named("rows.csv", rows.into_bytes())])));
    let check = Command::Check { config: Box::new(configured(&QLORA)) };
    let planned = fine(block_on(engine.handle(check, Vec::new()))).into_iter().find_map(|event| match event {
        Event::Plan(plan) => Some(plan),
        _ => None,
    });
    planned.expect("a plan")
}

#[test]
fn a_base_of_a_billion_is_trained_in_two_gigabytes() {
    let plan = billion();
    let (d, kv, f, blocks) = (2048, 256, 5632, 22);
    let linears = blocks * (2 * d * d + 2 * kv * d + 3 * f * d);
    // Rank 8 on all of them.
    let adapter = blocks * 8 * (2 * (d + d) + 2 * (d + kv) + 3 * (d + f));
    // Blocks of 32 numbers take 18 bytes; embedding and head stay in 16 bits, norms and adapter are in 32.
    let weights = linears / 32 * 18 + 2 * 32_000 * d * 2 + (2 * blocks + 1) * d * 4 + adapter * 4;
    assert_eq!((plan.weight_bytes, plan.trainable_parameters), (weights, adapter));
    // Gradients and two moments.
    assert_eq!(plan.training_bytes, adapter * 12);
    let planned = plan.weight_bytes + plan.training_bytes + plan.activation_bytes;
    // The states between the blocks at least.
    assert!(plan.activation_bytes > blocks * 512 * d * 4, "{}", plan.activation_bytes);
    assert!(planned < 2_000_000_000, "{planned}");
}

/// The plan of a run on the GPU, the most bytes that it used on the device, and the bytes that pools then held.
pub fn run_on_gpu(model: Vec<NamedFile>, keys: &[&str]) -> (Plan, u64, u64) {
    block_on(device::open(DeviceChoice::Gpu)).expect("a GPU");
    let client = WgpuRuntime::<AutoCompiler>::client(&WgpuDevice::default());
    let usage = move || client.memory_report(MemoryScope::Device).usage();
    let (done, before) = (Arc::new(AtomicBool::new(false)), usage().bytes_in_use);
    let watch = {
        let done = done.clone();
        // Beside the run: what is on the device in the middle of a step cannot be seen from in between.
        thread::spawn(move || {
            let mut most = (0, 0);
            while !done.load(Ordering::Relaxed) {
                let now = usage();
                most = (most.0.max(now.bytes_in_use), most.1.max(now.bytes_reserved));
                thread::sleep(Duration::from_micros(200));
            }
            most
        })
    };
    let plan = run(model, keys).0;
    done.store(true, Ordering::Relaxed);
    let (used, reserved) = watch.join().expect("a measurement");
    (plan, used.saturating_sub(before), reserved)
}

/// On any GPU; a driver that imitates one (`VK_ICD_FILENAMES`) will do. Pools hold more than is used: both are shown.
#[test]
#[ignore = "needs a GPU: a test machine has none; VK_ICD_FILENAMES names a driver that imitates one"]
fn a_gpu_holds_what_its_plan_says() {
    let _alone = gpu_alone();
    println!("planned, used at most, reserved, in MiB");
    for more in [
        &["task=text-generation", "model.quantization=none"][..],
        &["task=text-generation", "model.quantization=none", "training.gradient_checkpointing=true"],
        &["task=text-generation", "model.quantization=q4_0"],
        &["training.method=full"],
    ] {
        let keys = [&["device=gpu", "model.max_seq_length=128", "training.batch_size=4"], more].concat();
        let (plan, used, reserved) = run_on_gpu(model(&config(4)), &keys);
        let mib = |bytes: u64| bytes as f64 / (1 << 20) as f64;
        let planned = plan.weight_bytes + plan.training_bytes + plan.activation_bytes;
        println!("{:8.2} {:8.2} {:8.2}  {}", mib(planned), mib(used), mib(reserved), keys.join(" "));
    }
}
