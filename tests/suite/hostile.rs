//! Damaged and hostile files: the readers of headers and configurations answer with an error or a model, never with a
//! panic, and allocate in proportion to the file.

use ::parquet::{
    basic::{Compression, GzipLevel},
    file::properties::WriterVersion,
};
use paddock::{
    adapter::PeftConfig,
    config::{Config, RawConfig},
    data::Table,
    model::LlamaConfig,
    platform::NamedFile,
    rng,
    tokenizer::{SpecialIds, Tokenizer, TokenizerConfig, tokenizer_model_json},
    weights::{
        gguf::{GgufModel, read_vocab},
        safetensors::Header,
    },
};
use pollster::block_on;
use rand::Rng;

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
