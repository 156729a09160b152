//! The native half of `cargo xtask bench kernels` and `memory`: measurements, which the tests leave out. Each writes one
//! JSON file, named by `PADDOCK_BENCH_OUT`.

use std::{env, fs, path::Path};

use paddock::{
    config::DeviceChoice,
    device,
    event::Plan,
    kernels::{
        ceilings::ceilings,
        measure::{LONG, Shapes, rates},
    },
    platform::NamedFile,
};
use pollster::block_on;
use serde_json::{Value, json};

use crate::plan::{QLORA, billion, config, model, named, run, run_on_gpu};

fn write(found: &Value) {
    let path = env::var_os("PADDOCK_BENCH_OUT").expect("PADDOCK_BENCH_OUT names the file to write");
    fs::write(&path, found.to_string()).unwrap_or_else(|error| panic!("{}: {error}", Path::new(&path).display()));
}

/// `PADDOCK_BENCH_SHAPES`: `[{"name": …, "shapes": …}, …]`; with `PADDOCK_BENCH_STOCK` Burn's kernels beside ours.
#[test]
#[ignore = "a benchmark: cargo xtask bench kernels"]
fn kernels() {
    let opened = match block_on(device::open(DeviceChoice::Gpu)) {
        Ok((opened, _)) => opened,
        Err(error) => return write(&json!({ "skipped": error.to_string() })),
    };
    println!("{} ({})", opened.info.name, opened.info.api);
    let ceilings = block_on(ceilings(&opened)).expect("ceilings");
    println!("{:.1} GFLOP/s, {:.1} GB/s", ceilings.flops / 1e9, ceilings.bytes / 1e9);
    let text = env::var("PADDOCK_BENCH_SHAPES").expect("PADDOCK_BENCH_SHAPES");
    let models: Vec<Value> = serde_json::from_str(&text).expect("a list of models");
    let both: &[bool] = if env::var_os("PADDOCK_BENCH_STOCK").is_some() { &[false, true] } else { &[false] };
    let mut found = Vec::new();
    for entry in models {
        let shapes: Shapes = serde_json::from_value(entry["shapes"].clone()).expect("sizes");
        for stock in both {
            println!("{}{}", entry["name"], if *stock { ", Burn's kernels" } else { "" });
            let rates = block_on(rates(&shapes, &opened.device, *stock, LONG)).expect("rates");
            found.push(json!({ "name": entry["name"], "stock": stock, "rates": rates }));
        }
    }
    write(&json!({ "device": opened.info, "ceilings": ceilings, "models": found }));
}

/// Bytes that a run's plan has, against those that it held.
fn row(kind: &str, layers: usize, [batch, seq]: [usize; 2], keys: &[&str], plan: &Plan, held: &Value) -> Value {
    let planned = plan.weight_bytes + plan.training_bytes + plan.activation_bytes;
    println!("{kind}: planned {planned}, held {held}: {}", keys.join(" "));
    json!({
        "kind": kind, "device": plan.device, "layers": layers, "seq": seq, "tokens": batch * seq, "keys": keys,
        "planned": planned, "weights": plan.weight_bytes, "training": plan.training_bytes,
        "activations": plan.activation_bytes, "held": held,
    })
}

/// Tokens a micro-batch, whatever the length of its sequences.
const TOKENS: usize = 2048;

struct Case {
    kind: &'static str,
    layers: usize,
    seq: usize,
    more: &'static [&'static str],
}

const LORA: &[&str] = &["model.quantization=none"];
const LORA_BY_BLOCKS: &[&str] = &["model.quantization=none", "training.gradient_checkpointing=true"];
const FULL: &[&str] = &["training.method=full"];
const FULL_BY_BLOCKS: &[&str] = &["training.method=full", "training.gradient_checkpointing=true"];
const PACKED: &[&str] = &["model.quantization=q4_0", "training.gradient_checkpointing=true"];

fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for more in [LORA, LORA_BY_BLOCKS] {
        for seq in [128, 256, 512, 1024, 2048] {
            cases.push(Case { kind: "length", layers: 4, seq, more });
        }
        for layers in [2, 4, 8, 16] {
            cases.push(Case { kind: "depth", layers, seq: 512, more });
        }
    }
    for more in [FULL, FULL_BY_BLOCKS, PACKED] {
        cases.push(Case { kind: "method", layers: 4, seq: 512, more });
    }
    cases
}

fn keys(device: &str, seq: usize, batch: usize, more: &[&str]) -> Vec<String> {
    let first = [
        format!("device={device}"),
        "task=text-generation".to_owned(),
        format!("model.max_seq_length={seq}"),
        format!("training.batch_size={batch}"),
        // The same arithmetic on every device.
        "training.mixed_precision=no".to_owned(),
    ];
    first.into_iter().chain(more.iter().map(|key| (*key).to_owned())).collect()
}

/// What a run held at most: counted on the CPU, seen in use on a GPU (where pools held `reserved`).
fn measured(files: Vec<NamedFile>, gpu: bool, keys: &[&str]) -> (Plan, Value) {
    if gpu {
        let (plan, used, reserved) = run_on_gpu(files, keys);
        return (plan, json!({ "bytes": used, "reserved": reserved }));
    }
    let (plan, held) = run(files, keys);
    (plan, json!({ "bytes": held }))
}

/// On the CPU, with `PADDOCK_BENCH_GPU` on the GPU too; `PADDOCK_BENCH_GGUF` names a real model in GGUF for QLoRA.
#[test]
#[ignore = "a benchmark: cargo xtask bench memory"]
fn memory() {
    let mut devices = vec![("cpu", false)];
    let mut skipped = None;
    if env::var_os("PADDOCK_BENCH_GPU").is_some() {
        match block_on(device::open(DeviceChoice::Gpu)) {
            Ok((opened, _)) => {
                println!("{} ({})", opened.info.name, opened.info.api);
                devices.push(("gpu", true));
            }
            Err(error) => skipped = Some(error.to_string()),
        }
    }
    let gguf = env::var_os("PADDOCK_BENCH_GGUF")
        .map(|path| fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", Path::new(&path).display())));
    // Its weights are nowhere: planned alone.
    let mut rows = vec![row("1.1 B, QLoRA, 1 × 512", 22, [1, 512], &QLORA, &billion(), &Value::Null)];
    for (device, gpu) in devices {
        for Case { kind, layers, seq, more } in cases() {
            let keys = keys(device, seq, TOKENS / seq, more);
            let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
            let (plan, held) = measured(model(&config(layers)), gpu, &keys);
            rows.push(row(kind, layers, [TOKENS / seq, seq], &keys, &plan, &held));
        }
        if let Some(bytes) = &gguf {
            let keys = keys(device, 512, 1, &["training.gradient_checkpointing=true"]);
            let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
            let (plan, held) = measured(vec![named("model.gguf", bytes.clone())], gpu, &keys);
            rows.push(row("SmolLM2-135M, QLoRA, 1 × 512", 30, [1, 512], &keys, &plan, &held));
        }
    }
    write(&json!({ "rows": rows, "skipped": skipped }));
}
