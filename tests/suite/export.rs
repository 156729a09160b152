//! What a trained model leaves as: read back by readers that the exporter knows nothing of.

use std::collections::BTreeMap;

use paddock::{
    engine::Engine,
    event::{Command, Event, ExportDType, ExportFormat},
    platform::{Memory, NamedFile},
};
use pollster::block_on;
use safetensors::SafeTensors;
use serde_json::Value;

use crate::cli::fixture::{Folder, bytes};

const LORA: [&str; 8] = ["--max_steps", "6", "--learning_rate", "0.01", "--lora_r", "4", "--output_dir", "out"];

fn export(folder: &Folder, format: &str, more: &[&str]) -> Value {
    let args = ["export", "--adapter", "out", "--format", format, "--device", "cpu", "--log-format", "json"];
    folder.run(&[&args[..], more].concat()).result()
}

fn scores(folder: &Folder, which: &[&str]) -> Vec<f64> {
    let args = ["predict", "--device", "cpu", "--log-format", "json", "--text", "the plot is poor", "--text", "fine"];
    let run = folder.run(&[&args[..], which].concat());
    run.result();
    let rows = run.events("prediction");
    rows.iter()
        .flat_map(|row| row["scores"].as_object().unwrap().values())
        .map(|score| score.as_f64().unwrap())
        .collect()
}

fn close(a: &[f64], b: &[f64], tolerance: f64) -> bool {
    a.len() == b.len() && a.iter().zip(b).all(|(a, b)| (a - b).abs() <= tolerance)
}

#[test]
fn a_merged_folder_answers_as_the_adapter_on_its_base() {
    let folder = Folder::new();
    folder.train("reviews.csv", &LORA).result();
    let result = export(&folder, "merged", &["--output_dir", "merged"]);
    let names = folder.names("merged");
    for name in ["README.md", "config.json", "metrics.json", "model.safetensors", "run.yaml", "tokenizer.json"] {
        assert!(names.iter().any(|other| other == name), "{names:?}");
    }
    assert_eq!(result["files"].as_array().unwrap().len(), names.len(), "{result} {names:?}");
    let with_adapter = scores(&folder, &["--adapter", "out"]);
    let merged = scores(&folder, &["--model_name_or_path", "merged"]);
    assert!(close(&with_adapter, &merged, 1e-5), "{with_adapter:?} {merged:?}");
    let base = scores(&folder, &["--adapter", "out", "--model_name_or_path", "model"]);
    assert!(close(&with_adapter, &base, 0.0));
    // The weights are other ones than the base's.
    assert_ne!(bytes(&folder.path("merged/model.safetensors")), bytes(&folder.path("model/model.safetensors")));
    let config = folder.json("merged/config.json");
    assert_eq!(config["id2label"]["1"], "positive");
    assert_eq!(config["torch_dtype"], "float32");

    export(&folder, "merged", &["--output_dir", "half", "--dtype", "f16"]);
    let half = scores(&folder, &["--model_name_or_path", "half"]);
    assert!(close(&merged, &half, 2e-3), "{merged:?} {half:?}");
    assert_eq!(folder.json("half/config.json")["torch_dtype"], "float16");

    // A zip of the adapter is as good as its folder, and an export of an export is the same.
    export(&folder, "adapter", &["--output_dir", "zipped", "--zip"]);
    assert!(close(&with_adapter, &scores(&folder, &["--adapter", "zipped/adapter.zip"]), 0.0));
    export(&folder, "adapter", &["--output_dir", "again"]);
    let weights = |path: &str| bytes(&folder.path(path).join("adapter_model.safetensors"));
    assert_eq!(weights("again"), weights("out"));
}

#[test]
fn a_card_says_where_the_model_comes_from() {
    let folder = Folder::new();
    let csv = fixture_with_hostile_labels();
    folder.write("re|views`.csv", &csv);
    folder.train("re|views`.csv", &LORA).result();
    let card = folder.read("out/README.md");
    let (front, body) = card.strip_prefix("---\n").and_then(|rest| rest.split_once("\n---\n")).expect("front matter");
    assert!(front.contains("base_model: \"model\"") && front.contains("library_name: peft"), "{front}");
    assert!(body.contains("re\\|views\\`.csv") && body.contains("| 120 |"), "{body}");
    assert!(body.contains(env!("CARGO_PKG_VERSION")), "{body}");
    assert!(body.contains("\\<b\\>\\|x"), "a label stays text: {body}");
    let rows: Vec<&str> = body.lines().filter(|line| line.starts_with("| accuracy |")).collect();
    assert_eq!(rows.len(), 1, "{body}");
    let metrics = folder.json("out/metrics.json");
    let sha256 = metrics["data"][0]["sha256"].as_str().unwrap();
    assert!(sha256.len() == 64 && body.contains(sha256), "{metrics}");
    let accuracy = metrics["after"]["accuracy"].as_f64().unwrap();
    assert!(rows[0].ends_with(&format!("| {accuracy:.4} |")), "{rows:?}");
    // What is exported later from the adapter tells the same.
    export(&folder, "merged", &["--output_dir", "merged"]);
    let later = folder.read("merged/README.md");
    assert!(
        later.contains(sha256) && later.contains(rows[0]) && later.contains("library_name: transformers"),
        "{later}"
    );
}

fn fixture_with_hostile_labels() -> String {
    let rows = (0..120).map(|row| format!("the text {row},{}\n", if row % 2 == 0 { "<b>|x" } else { "plain" }));
    format!("text,label\n{}", rows.collect::<String>())
}

#[test]
fn what_a_format_cannot_hold_is_refused_before_anything_is_written() {
    let folder = Folder::new();
    let args = ["export", "--device", "cpu", "--log-format", "json", "--output_dir", "x", "--overwrite_output_dir"];
    let refused = |more: &[&str]| folder.run(&[&args[..], more].concat()).error();
    folder.train("reviews.csv", &LORA).result();
    for format in ["gguf", "gguf_lora"] {
        let error = refused(&["--adapter", "out", "--format", format]);
        assert!(error.contains("classif") && error.contains("merged"), "{error}");
    }
    let error = refused(&["--adapter", "out", "--format", "merged", "--dtype", "q8_0"]);
    assert!(error.contains("Q8_0") && error.contains("f16"), "{error}");
    let error = refused(&["--model_name_or_path", "model", "--format", "adapter"]);
    assert!(error.contains("adapter") && error.contains("merged"), "{error}");
    assert!(folder.names("x").is_empty());
    let own = ["export", "--device", "cpu", "--log-format", "json", "--overwrite_output_dir", "--format", "merged"];
    for place in ["out", "model"] {
        let error = folder.run(&[&own[..], &["--adapter", "out", "--output_dir", place]].concat()).error();
        assert!(error.contains(place) && error.contains("another folder"), "{error}");
    }
}

/// What a GGUF file holds: scalars as text, the lengths of lists, tensors with shape, kind and bytes.
struct Gguf<'a> {
    meta: BTreeMap<String, String>,
    tensors: BTreeMap<String, (Vec<usize>, u32, &'a [u8])>,
}

impl<'a> Gguf<'a> {
    fn read(file: &'a [u8]) -> Self {
        let mut at = 0;
        assert_eq!(&take(file, &mut at, 4), b"GGUF");
        assert_eq!(u32_at(file, &mut at), 3);
        let (tensors, keys) = (u64_at(file, &mut at), u64_at(file, &mut at));
        let meta = (0..keys).map(|_| (text_at(file, &mut at), value_at(file, &mut at))).collect();
        let infos: Vec<_> = (0..tensors)
            .map(|_| {
                let name = text_at(file, &mut at);
                let mut shape: Vec<usize> = (0..u32_at(file, &mut at)).map(|_| u64_at(file, &mut at)).collect();
                shape.reverse();
                (name, shape, u32_at(file, &mut at), u64_at(file, &mut at))
            })
            .collect();
        let start = at.next_multiple_of(32);
        let tensors = infos.into_iter().map(|(name, shape, kind, offset)| {
            let elements: usize = shape.iter().product();
            let bytes = match kind {
                0 => elements * 4,
                1 => elements * 2,
                8 => elements / 32 * 34,
                other => panic!("kind {other}"),
            };
            assert_eq!(offset % 32, 0, "{name}");
            (name, (shape, kind, &file[start + offset..start + offset + bytes]))
        });
        Self { meta, tensors: tensors.collect() }
    }

    fn f32(&self, name: &str) -> Vec<f32> {
        let (_, kind, bytes) = &self.tensors[name];
        match kind {
            0 => bytes.chunks(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect(),
            1 => bytes.chunks(2).map(|b| half::f16::from_le_bytes(b.try_into().unwrap()).to_f32()).collect(),
            _ => bytes
                .chunks(34)
                .flat_map(|block| {
                    let scale = half::f16::from_le_bytes([block[0], block[1]]).to_f32();
                    block[2..].iter().map(move |q| scale * f32::from(*q as i8))
                })
                .collect(),
        }
    }
}

fn take(file: &[u8], at: &mut usize, len: usize) -> Vec<u8> {
    *at += len;
    file[*at - len..*at].to_vec()
}

fn u32_at(file: &[u8], at: &mut usize) -> u32 {
    u32::from_le_bytes(take(file, at, 4).try_into().unwrap())
}

fn u64_at(file: &[u8], at: &mut usize) -> usize {
    u64::from_le_bytes(take(file, at, 8).try_into().unwrap()) as usize
}

fn text_at(file: &[u8], at: &mut usize) -> String {
    let len = u64_at(file, at);
    String::from_utf8(take(file, at, len)).unwrap()
}

fn value_at(file: &[u8], at: &mut usize) -> String {
    let kind = u32_at(file, at);
    scalar_at(file, at, kind)
}

fn scalar_at(file: &[u8], at: &mut usize, kind: u32) -> String {
    match kind {
        4 => u32_at(file, at).to_string(),
        5 => (u32_at(file, at) as i32).to_string(),
        6 => f32::from_bits(u32_at(file, at)).to_string(),
        7 => (take(file, at, 1)[0] == 1).to_string(),
        8 => text_at(file, at),
        9 => {
            let (kind, len) = (u32_at(file, at), u64_at(file, at));
            (0..len).for_each(|_| drop(scalar_at(file, at, kind)));
            format!("[{len}]")
        }
        other => panic!("kind {other}"),
    }
}

/// Rows `2i` and `2i + 1` of each head back to `i` and `i + head / 2`.
fn straight(values: &[f32], head: usize, columns: usize) -> Vec<f32> {
    let mut out = vec![0.0; values.len()];
    for (row, from) in values.chunks(columns).enumerate() {
        let (base, at) = (row / head * head, row % head);
        let to = base + at / 2 + at % 2 * (head / 2);
        out[to * columns..][..columns].copy_from_slice(from);
    }
    out
}

const PARTS: [(&str, &str); 9] = [
    ("attn_norm", "input_layernorm"),
    ("attn_q", "self_attn.q_proj"),
    ("attn_k", "self_attn.k_proj"),
    ("attn_v", "self_attn.v_proj"),
    ("attn_output", "self_attn.o_proj"),
    ("ffn_norm", "post_attention_layernorm"),
    ("ffn_gate", "mlp.gate_proj"),
    ("ffn_up", "mlp.up_proj"),
    ("ffn_down", "mlp.down_proj"),
];

fn hugging_face(name: &str) -> String {
    match name {
        "token_embd.weight" => "model.embed_tokens.weight".into(),
        "output_norm.weight" => "model.norm.weight".into(),
        name => {
            let (layer, rest) = name.strip_prefix("blk.").unwrap().split_once('.').unwrap();
            let (part, rest) = rest.split_once('.').unwrap();
            let module = PARTS.iter().find(|(gguf, _)| *gguf == part).unwrap().1;
            format!("model.layers.{layer}.{module}.{rest}")
        }
    }
}

fn floats(file: &SafeTensors<'_>, name: &str) -> Vec<f32> {
    let data = file.tensor(name).unwrap_or_else(|_| panic!("no {name}"));
    data.data().chunks(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect()
}

#[test]
fn gguf_holds_the_merged_weights_and_the_vocabulary() {
    let folder = Folder::new();
    let text: String = (0..300).map(|line| format!("line {line} of a text to learn from\n")).collect();
    folder.write("text.txt", text);
    let settings = folder.read("model/config.json");
    folder.write(
        "model/tokenizer_config.json",
        r#"{"bos_token": "<s>", "eos_token": {"content": "</s>"}, "chat_template": "{{ messages }}"}"#,
    );
    let task = ["--task", "text-generation", "--export_format", "merged,gguf,gguf_lora"];
    folder.train("text.txt", &[&LORA[..], &task].concat()).result();
    let merged = bytes(&folder.path("out/merged/model.safetensors"));
    let merged = SafeTensors::deserialize(&merged).unwrap();
    assert!(settings.contains("num_attention_heads"));
    let head = 8;

    export(&folder, "gguf", &["--output_dir", "full", "--dtype", "f32"]);
    let file = bytes(&folder.path("full/model-F32.gguf"));
    let gguf = Gguf::read(&file);
    for (key, value) in [
        ("general.architecture", "llama"),
        ("general.file_type", "0"),
        ("llama.block_count", "2"),
        ("llama.attention.head_count", "4"),
        ("llama.attention.head_count_kv", "2"),
        ("llama.rope.freq_base", "10000"),
        ("llama.vocab_size", "258"),
        ("tokenizer.ggml.model", "gpt2"),
        ("tokenizer.ggml.pre", "gpt-2"),
        ("tokenizer.ggml.tokens", "[258]"),
        ("tokenizer.ggml.token_type", "[258]"),
        ("tokenizer.ggml.merges", "[0]"),
        ("tokenizer.ggml.bos_token_id", "256"),
        ("tokenizer.ggml.eos_token_id", "257"),
        ("tokenizer.ggml.add_bos_token", "false"),
        ("tokenizer.chat_template", "{{ messages }}"),
    ] {
        assert_eq!(gguf.meta.get(key).map(String::as_str), Some(value), "{key}");
    }
    assert_eq!(gguf.tensors.len(), merged.len());
    let same = |gguf: &Gguf<'_>, tolerance: f32| {
        for (name, (shape, ..)) in &gguf.tensors {
            let theirs = hugging_face(name);
            assert_eq!(merged.tensor(&theirs).unwrap().shape(), shape, "{name}");
            let mut values = gguf.f32(name);
            if name.contains("attn_q.") || name.contains("attn_k.") {
                values = straight(&values, head, shape[1]);
            }
            let wanted = floats(&merged, &theirs);
            let most = wanted.iter().fold(0f32, |most, v| most.max(v.abs()));
            let worst = values.iter().zip(&wanted).fold(0f32, |worst, (a, b)| worst.max((a - b).abs()));
            assert!(worst <= tolerance * most, "{name}: {worst} of {most}");
        }
    };
    same(&gguf, 0.0);
    let half = bytes(&folder.path("out/gguf/model-F16.gguf"));
    same(&Gguf::read(&half), 6e-4);
    export(&folder, "gguf", &["--output_dir", "q8", "--dtype", "q8_0"]);
    let blocks = bytes(&folder.path("q8/model-Q8_0.gguf"));
    let blocks = Gguf::read(&blocks);
    assert!(blocks.tensors.values().all(|(shape, kind, _)| *kind == if shape.len() == 1 { 0 } else { 8 }));
    same(&blocks, 0.5 / 127.0 + 1e-3);

    // Our own reader takes it as a base, and it answers as the merged folder does.
    std::fs::copy(folder.path("model/tokenizer.json"), folder.path("full/tokenizer.json")).unwrap();
    let loss = |model: &str| {
        let args =
            ["eval", "--test_file", "text.txt", "--max_seq_length", "32", "--device", "cpu", "--log_format", "json"];
        let result = folder.run(&[&args[..], &["--model_name_or_path", model]].concat()).result();
        result["metrics"]["loss"].as_f64().unwrap()
    };
    let (merged_loss, base_loss) = (loss("out/merged"), loss("model"));
    assert!((loss("full/model-F32.gguf") - merged_loss).abs() < 1e-5, "{merged_loss}");
    assert!((merged_loss - base_loss).abs() > 0.1, "{merged_loss} and the base's {base_loss}");

    let adapter = bytes(&folder.path("out/adapter_model.safetensors"));
    let adapter = SafeTensors::deserialize(&adapter).unwrap();
    let lora = bytes(&folder.path("out/gguf_lora/model-lora-F32.gguf"));
    let lora = Gguf::read(&lora);
    assert_eq!(lora.meta["general.type"], "adapter");
    assert_eq!(lora.meta["adapter.type"], "lora");
    assert_eq!(lora.meta["adapter.lora.alpha"], "16");
    assert_eq!(lora.tensors.len(), adapter.len());
    for (name, (shape, ..)) in &lora.tensors {
        let theirs =
            hugging_face(name).replace(".weight.lora_a", ".lora_A.weight").replace(".weight.lora_b", ".lora_B.weight");
        let mut values = lora.f32(name);
        if name.ends_with("attn_q.weight.lora_b") || name.ends_with("attn_k.weight.lora_b") {
            values = straight(&values, head, shape[1]);
        }
        let wanted = floats(&adapter, &format!("base_model.model.{theirs}"));
        assert!(wanted.iter().any(|v| *v != 0.0), "{theirs} was trained");
        assert_eq!(values, wanted, "{name}");
    }
}

#[test]
fn an_export_comes_in_pieces_without_gaps_and_can_be_stopped() {
    let folder = Folder::new();
    let mut engine = Engine::new();
    let files = ["config.json", "model.safetensors", "tokenizer.json"]
        .map(|name| NamedFile { name: name.into(), blob: Box::new(Memory(bytes(&folder.path("model").join(name)))) });
    let fine = |events: Vec<paddock::event::Envelope>| -> Vec<Event> {
        let events: Vec<Event> = events.into_iter().map(|envelope| envelope.event).collect();
        assert!(!events.iter().any(|event| matches!(event, Event::Failed(_))), "{events:?}");
        events
    };
    fine(block_on(engine.handle(Command::OpenModel { name: "model".into() }, files.into())));
    fine(block_on(engine.handle(Command::OpenAdapter { config: Box::default() }, Vec::new())));
    while engine.busy() {
        fine(block_on(engine.advance()));
    }
    for zip in [false, true] {
        let command = Command::Export { format: ExportFormat::Gguf, dtype: Some(ExportDType::F16), zip, name: None };
        let started = fine(block_on(engine.handle(command.clone(), Vec::new())));
        let [Event::State { .. }, Event::ExportStarted { files, .. }] = started.as_slice() else {
            panic!("{started:?}")
        };
        let mut got: Vec<(String, u64)> = Vec::new();
        let mut exported = Vec::new();
        while engine.busy() {
            for event in fine(block_on(engine.advance())) {
                match event {
                    Event::ExportChunk { file, offset, bytes } => {
                        assert_eq!(engine.take_chunk().len() as u64, bytes);
                        match got.last_mut().filter(|(name, _)| *name == file) {
                            Some((_, end)) => {
                                assert_eq!(offset, *end);
                                *end += bytes;
                            }
                            None => {
                                assert_eq!(offset, 0);
                                got.push((file, bytes));
                            }
                        }
                    }
                    Event::Exported { files, .. } => exported = files,
                    _ => {}
                }
            }
        }
        let sizes = |files: &[paddock::event::FileInfo]| -> Vec<(String, u64)> {
            files.iter().map(|file| (file.name.clone(), file.bytes)).collect()
        };
        assert_eq!(got, sizes(&exported), "what was announced came");
        if zip {
            assert_eq!(files[0].name, "model.zip");
        } else {
            assert_eq!(got, sizes(files));
            assert_eq!(got[0].0, "model-F16.gguf");
        }
        fine(block_on(engine.handle(command, Vec::new())));
        fine(block_on(engine.advance()));
        fine(block_on(engine.handle(Command::Stop, Vec::new())));
        assert!(!engine.busy());
    }
}
