//! Damaged and hostile files: the readers of headers and configurations answer with an error or a model, never with a
//! panic, and allocate in proportion to the file.

use std::{
    collections::HashMap,
    io::{Cursor, Write},
};

use ::parquet::{
    basic::{Compression, GzipLevel},
    file::properties::WriterVersion,
};
use paddock::{
    adapter::{AdapterFiles, PeftConfig},
    config::{Config, RawConfig},
    data::Table,
    event::Metrics,
    model::LlamaConfig,
    platform::{Memory, NamedFile},
    plugin::Manifest,
    rng,
    sweep::{Base, Planner, SweepFile},
    tokenizer::{ChatTemplate, Message, SpecialIds, Tokenizer, TokenizerConfig, tokenizer_model_json},
    weights::{
        Shards,
        gguf::{GgufModel, read_vocab},
        safetensors::{DType, Header, write},
    },
};
use pollster::block_on;
use rand::Rng;
use serde_json::{Value, json};

use crate::{formats::Sparse, golden::fixture, memory::peak, parquet};

/// Of each reader; `cargo xtask fuzz` asks for more.
fn inputs() -> usize {
    std::env::var("PADDOCK_HOSTILE_INPUTS").ok().and_then(|n| n.parse().ok()).unwrap_or(5_000)
}

/// Bytes allocated for each byte of a file at most, and what any file may cost.
const PER_BYTE: usize = 32;
const ANY: usize = 64 << 10;
/// A vocabulary's tables of strings take more, and its regular expressions cost the same for any.
const PER_VOCABULARY_BYTE: usize = 64;
const ANY_VOCABULARY: usize = 3 << 20;

/// Numbers that break arithmetic which is not checked.
const NUMBERS: [u64; 10] = [0, 1, 2, 7, 255, 1 << 31, u32::MAX as u64, 1 << 60, i64::MAX as u64, u64::MAX];

/// What breaks readers of JSON.
const WORDS: [&str; 16] = [
    "null",
    "-1",
    "0",
    "1e999",
    "18446744073709551615",
    "9223372036854775808",
    "\"\"",
    "[]",
    "{}",
    "[[[[",
    "true",
    "\"F32\"",
    "\"llama3\"",
    "\"dynamic\"",
    "1.5",
    "\\u0000",
];

/// One to four changes: bits, bytes, numbers, words, parts left out, doubled or moved, the end cut off.
fn mutate(bytes: &mut Vec<u8>, rng: &mut impl Rng) {
    for _ in 0..rng.random_range(1..5) {
        if bytes.is_empty() {
            return;
        }
        let at = rng.random_range(0..bytes.len());
        let to = (at + rng.random_range(1..32)).min(bytes.len());
        match rng.random_range(0..9) {
            0 => bytes[at] ^= 1 << rng.random_range(0..8),
            1 => bytes[at] = rng.random(),
            2 | 3 => {
                let number = NUMBERS[rng.random_range(0..NUMBERS.len())].to_le_bytes();
                let width = [1, 2, 4, 8][rng.random_range(0..4)].min(bytes.len() - at);
                bytes[at..at + width].copy_from_slice(&number[..width]);
            }
            4 => drop(bytes.drain(at..to)),
            5 => {
                let part = bytes[at..to].to_vec();
                bytes.splice(at..at, part);
            }
            6 => {
                let word = WORDS[rng.random_range(0..WORDS.len())];
                // In place of a value, where one stands.
                let end = at + bytes[at..].iter().position(|b| b",}]".contains(b)).unwrap_or(0);
                bytes.splice(at..end, word.bytes());
            }
            7 => {
                let other = rng.random_range(0..bytes.len());
                bytes.swap(at, other);
            }
            _ => bytes.truncate(at),
        }
    }
}

/// A reader under fire.
struct Target<'a> {
    what: &'a str,
    /// The inputs that the others are made of: heads of files with `data` bytes more.
    seeds: &'a [Vec<u8>],
    data: usize,
    per_byte: usize,
    any: usize,
}

impl<'a> Target<'a> {
    fn new(what: &'a str, seeds: &'a [Vec<u8>]) -> Self {
        Self { what, seeds, data: 0, per_byte: PER_BYTE, any: ANY }
    }

    fn vocabulary(what: &'a str, seeds: &'a [Vec<u8>]) -> Self {
        Self { per_byte: PER_VOCABULARY_BYTE, any: ANY_VOCABULARY, ..Self::new(what, seeds) }
    }

    /// Runs `read` on damaged inputs; it says whether one was taken for good.
    fn bombard(self, mut read: impl FnMut(&[u8]) -> bool) {
        let Self { what, seeds, data, per_byte, any } = self;
        assert!(seeds.iter().all(|seed| read(seed)), "{what}: the inputs that the others are made of");
        let mut rng = rng::stream(17, what.len() as u64);
        let (mut good, mut dearest, inputs) = (0, 0.0f64, inputs());
        for i in 0..inputs {
            let mut bytes = seeds[i % seeds.len()].clone();
            mutate(&mut bytes, &mut rng);
            let (taken, most) = peak(|| read(&bytes));
            good += usize::from(taken);
            let limit = per_byte * (bytes.len() + data) + any;
            assert!(most <= limit, "{what}, input {i} of {} bytes: {most} bytes allocated", bytes.len() + data);
            dearest = dearest.max(most as f64 / limit as f64);
        }
        // Some harmless changes are taken: the inputs reach past the first check.
        let share = 100.0 * dearest;
        eprintln!("{what}: {good} of {inputs} inputs were taken for good, {share:.0} % of the allowed bytes at most");
        assert!(good > inputs / 1000 && good < inputs, "{what}: {good} taken");
    }
}

#[test]
fn safetensors_headers() {
    let bytes = fixture("causal/model.safetensors");
    let end = 8 + u64::from_le_bytes(bytes[..8].try_into().expect("8 bytes")) as usize;
    let data = bytes.len() - end;
    let seeds = [bytes[..end].to_vec()];
    Target { data, ..Target::new("safetensors", &seeds) }.bombard(|head| {
        let blob = Sparse { head: head.to_vec(), size: (head.len() + data) as u64 };
        let Ok(header) = block_on(Header::read("model.safetensors", &blob)) else { return false };
        let name = header.entries.keys().next().cloned().unwrap_or_default();
        block_on(header.tensor(&blob, &name)).is_ok()
    });
}

#[test]
fn gguf_heads() {
    // All that the reader goes through, and the first numbers after it.
    let bytes = fixture("gguf/model.gguf");
    let head = 9 << 10;
    let data = bytes.len() - head;
    let seeds = [bytes[..head].to_vec()];
    Target { data, ..Target::new("GGUF", &seeds) }.bombard(|head| {
        let blob = Sparse { head: head.to_vec(), size: (head.len() + data) as u64 };
        let file = NamedFile { name: "model.gguf".into(), blob: Box::new(blob) };
        let Ok((_, model)) = block_on(GgufModel::open(file)) else { return false };
        let read = ["self_attn.q_proj", "mlp.down_proj"].map(|layer| {
            let name = format!("model.layers.0.{layer}.weight");
            block_on(model.tensor(&name)).is_ok() && block_on(model.packed(&name)).is_ok()
        });
        // What becomes of a vocabulary is the tokenizer's business; it must not panic either.
        read_vocab(&model.gguf).is_ok_and(|vocab| vocab.tokenizer_json("model.gguf").is_ok()) && read == [true; 2]
    });
}

#[test]
fn configurations() {
    let seeds = ["variants/llama3", "classify"].map(|name| fixture(&format!("{name}/config.json")));
    Target::new("config.json", &seeds).bombard(|json| {
        let Ok(config) = LlamaConfig::from_json(json) else { return false };
        // As many as a head has numbers: the loader has seen the weights by then.
        let angles = if config.head_dim < 256 { config.frequencies(9).len() * 2 } else { config.head_dim };
        config.parameters() > 0 && config.longest() > 0 && angles == config.head_dim
    });
}

#[test]
fn adapters() {
    let seeds = ["lora", "lora-steps"].map(|name| fixture(&format!("{name}/adapter/adapter_config.json")));
    Target::new("adapter_config.json", &seeds)
        .bombard(|json| PeftConfig::from_json(json).is_ok_and(|config| config.lora().is_ok()));
}

#[test]
fn run_files() {
    let seeds = ["sentiment-lora", "starter-pretrain"].map(|name| fixture(&format!("../../crate/configs/{name}.yaml")));
    Target::new("run.yaml", &seeds).bombard(|yaml| {
        let text = String::from_utf8_lossy(yaml);
        RawConfig::from_yaml(&text, "run.yaml").is_ok_and(|raw| Config::resolve(&raw).is_ok())
    });
}

/// Its ids of a text, unless the file is refused. A panic inside is turned into this error natively.
fn tokenizes(name: &str, json: &[u8]) -> bool {
    let done = Tokenizer::from_json_bytes(name, json, SpecialIds::default())
        .and_then(|tokenizer| tokenizer.encode("The dog \u{2581} \u{e9} \u{1f44d} 12\n", Some(20)));
    if let Err(error) = &done {
        assert!(!error.to_string().contains("cannot handle"), "{error}");
    }
    done.is_ok()
}

const MODELS: [&str; 2] = ["sentencepiece", "tiktoken"];

#[test]
fn tokenizer_models() {
    for model in MODELS {
        let seeds = [fixture(&format!("tokenizers/{model}.model"))];
        Target::vocabulary(model, &seeds).bombard(|bytes| {
            tokenizer_model_json("tokenizer.model", bytes, &TokenizerConfig::default())
                .is_ok_and(|json| tokenizes("tokenizer.model", &json))
        });
    }
}

#[test]
fn tokenizer_files() {
    let seeds = MODELS.map(|model| {
        let bytes = fixture(&format!("tokenizers/{model}.model"));
        tokenizer_model_json("tokenizer.model", &bytes, &TokenizerConfig::default()).expect("a vocabulary")
    });
    Target::vocabulary("tokenizer.json", &seeds).bombard(|json| tokenizes("tokenizer.json", json));
}

#[test]
fn parquet_files() {
    let gzip = Compression::GZIP(GzipLevel::default());
    let seeds = [
        parquet::small(Compression::UNCOMPRESSED, WriterVersion::PARQUET_1_0),
        parquet::small(Compression::UNCOMPRESSED, WriterVersion::PARQUET_2_0),
        parquet::small(Compression::SNAPPY, WriterVersion::PARQUET_1_0),
        parquet::small(gzip, WriterVersion::PARQUET_2_0),
    ];
    Target::new("Parquet", &seeds).bombard(|bytes| {
        let Ok(table) = Table::read("data.parquet", bytes) else { return false };
        (0..table.len()).all(|row| table.row_number(row) > 0) && !table.columns.is_empty()
    });
}

/// What it holds at most is bounded by the sandbox, not by its length: 64 MiB of text, while it grows.
#[test]
fn chat_templates() {
    let chats: Value = serde_json::from_slice(&fixture("tokenizers/chat.json")).expect("JSON");
    let tokens =
        json!({"bos_token": chats["bos_token"], "eos_token": chats["eos_token"], "unk_token": chats["unk_token"]});
    let config = TokenizerConfig::from_json_bytes(tokens.to_string().as_bytes()).expect("tokens");
    let messages = [Message::new("user", "Hi there"), Message::new("assistant", "Hello to you.")];
    let renders = |source: &[u8]| {
        // 23 July 2024, 9:05:07.
        let template =
            ChatTemplate::new("tokenizer_config.json", &String::from_utf8_lossy(source), &config, 1_721_725_507);
        template.is_ok_and(|template| template.render(&messages, true).is_ok())
    };
    let templates = chats["templates"].as_object().expect("templates").values();
    let seeds: Vec<Vec<u8>> = templates.filter_map(|source| Some(source.as_str()?.as_bytes().to_vec())).collect();
    assert!(seeds.len() > 3);
    Target { any: 256 << 20, ..Target::new("chat template", &seeds) }.bombard(renders);
}

#[test]
fn tokenizer_configurations() {
    let template = "{% for message in messages %}{{ message.content }}{% endfor %}";
    let seeds = [
        json!({
            "bos_token": {"content": "<s>", "lstrip": false}, "eos_token": "</s>", "pad_token": null, "add_bos_token": true,
            "legacy": false, "chat_template": template,
            "added_tokens_decoder": {"0": {"content": "<unk>", "special": true}, "700": {"content": "<pad>", "normalized": false}},
        }),
        json!({"unk_token": "<unk>", "chat_template": [{"name": "default", "template": template}, {"name": "tool_use", "template": "x"}]}),
    ];
    let seeds = seeds.map(|json| json.to_string().into_bytes());
    Target::new("tokenizer_config.json", &seeds).bombard(|json| {
        TokenizerConfig::from_json_bytes(json)
            .is_ok_and(|config| config.chat_template(None).is_ok_and(|found| found.is_some()))
    });
}

/// One that has every key.
fn manifest() -> Vec<u8> {
    let json = json!({
        "format": 1, "id": "spam", "name": "Spam or not", "scenario": "text-classification", "shape": "text-label",
        "labels": ["ham", "spam"], "template": "{text}", "before": null, "after": Metrics::default(),
        "base": {"name": "starter", "fingerprint": {"config.json": "00ff", "tokenizer.json": "11ee"}},
    });
    json.to_string().into_bytes()
}

#[test]
fn plugin_manifests() {
    let base = ("tokenizer.json".to_owned(), "11ee".to_owned());
    Target::new("plugin.json", &[manifest()]).bombard(|json| {
        Manifest::read(json).is_ok_and(|manifest| manifest.check_base("starter", std::slice::from_ref(&base)).is_ok())
    });
}

#[test]
fn sweep_files() {
    let grid = "base: {training: {learning_rate: 0.002, max_steps: 40}}\nstrategy: grid\nspace:\n  \
        training.learning_rate: [0.001, 2e-3, 0.004]\n  training.batch_size: [8, 16]\n  lora.target_modules: [[q_proj, v_proj], [k_proj]]\n";
    let seeds = [fixture("../../crate/configs/spam-sweep.yaml"), grid.into()];
    // A thousand settings at most, whatever the file's length.
    Target { any: 8 << 20, ..Target::new("sweep.yaml", &seeds) }.bombard(|yaml| {
        let Ok(mut file) = SweepFile::from_yaml(&String::from_utf8_lossy(yaml), "sweep.yaml") else { return false };
        let base = match file.base.take() {
            Some(Base::Inline(base)) => *base,
            _ => RawConfig::default(),
        };
        Planner::new(&file.over(base)).is_ok()
    });
}

#[test]
fn weight_indexes() {
    let shard = |name: &str, tensors: &[&str]| {
        let tensors: Vec<_> = tensors.iter().map(|tensor| ((*tensor).to_owned(), vec![2], vec![1.0, 2.0])).collect();
        (name.to_owned(), write(&tensors, DType::F32))
    };
    let shards = [shard("model-1.safetensors", &["a", "c"]), shard("model-2.safetensors", &["b"])];
    let map = json!({"a": "model-1.safetensors", "b": "model-2.safetensors", "c": "model-1.safetensors"});
    let seeds = [json!({"metadata": {"total_size": 24}, "weight_map": map}).to_string().into_bytes()];
    Target::new("model.safetensors.index.json", &seeds).bombard(|index| {
        let file = |(name, bytes): &(String, Vec<u8>)| {
            (name.clone(), NamedFile { name: name.clone(), blob: Box::new(Memory(bytes.clone())) })
        };
        let mut files: HashMap<String, NamedFile> = shards.iter().map(file).collect();
        let opened = block_on(Shards::open("model.safetensors.index.json", index, &mut files));
        opened.is_ok_and(|shards| block_on(shards.tensor("a")).is_ok())
    });
}

#[test]
fn tables() {
    let squad = json!({"version": "1.1", "data": [{"title": "t", "paragraphs": [{"context": "Ada wrote it in 1843.", "qas": [
        {"id": "1", "question": "Who wrote it?", "answers": [{"text": "Ada", "answer_start": 0}]},
        {"id": "2", "question": "When?", "answers": [{"text": "1843", "answer_start": 16}]},
    ]}]}]});
    let chat = json!({"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello."}]});
    for (name, text) in [
        ("data.csv", "text,label\n\"a \"\"good\"\" film, they say\",good\n\"two\nlines\",bad\nplain,good\n".to_owned()),
        ("semicolons.csv", "text;label\r\na good film;good\r\na bad, bad film;bad\r\n".to_owned()),
        ("data.tsv", "text\tlabel\na good film\tgood\na bad film\tbad\n".to_owned()),
        ("data.jsonl", format!("{chat}\n{}\n{chat}\n", json!({"messages": [], "n": 1.5}))),
        (
            "data.json",
            json!([{"text": "a good film", "label": 1}, {"text": "a bad \u{e9}", "label": null}]).to_string(),
        ),
        ("squad.json", squad.to_string()),
        ("data.txt", "First line\n\nsecond \u{1f44d} line\nthird\n".to_owned()),
    ] {
        let seeds = [text.into_bytes()];
        let whole = Table::read(name, &seeds[0]).expect(name);
        let (columns, rows) = (whole.columns.clone(), whole.len());
        // Cells are texts of their own.
        Target { per_byte: 64, any: 256 << 10, ..Target::new(name, &seeds) }.bombard(|bytes| {
            Table::read(name, bytes).is_ok_and(|table| {
                // Any text is a table of some kind.
                (0..table.len()).all(|row| table.row_number(row) > 0) && table.columns == columns && table.len() >= rows
            })
        });
    }
}

#[test]
fn plugin_archives() {
    let weights = [("base_model.model.score.weight".to_owned(), vec![2, 2], vec![1.0; 4])];
    let files = [
        ("adapter_config.json", fixture("lora/adapter/adapter_config.json")),
        ("adapter_model.safetensors", write(&weights, DType::F32)),
        ("plugin.json", manifest()),
        ("run.yaml", fixture("../../crate/configs/sentiment-lora.yaml")),
        ("config.json", fixture("classify/config.json")),
    ];
    let mut zip = zip::ZipWriter::new(Cursor::new(Vec::new()));
    let stored = zip::write::SimpleFileOptions::default().compression_method(zip::CompressionMethod::Stored);
    for (name, bytes) in &files {
        zip.start_file(*name, stored).expect("a file");
        zip.write_all(bytes).expect("its content");
    }
    let seeds = [zip.finish().expect("an archive").into_inner()];
    // Its directory says how many entries there are, and room is made for them: an entry for each byte at most.
    Target { per_byte: 512, ..Target::new("a plugin's zip", &seeds) }.bombard(|bytes| {
        let file = NamedFile { name: "plugin.zip".into(), blob: Box::new(Memory(bytes.to_vec())) };
        block_on(AdapterFiles::read(vec![file])).is_ok_and(|files| files.is_some_and(|files| files.manifest.is_some()))
    });
}
