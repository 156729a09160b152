//! Damaged and hostile files: the readers of headers and configurations answer with an error or a model, never with a
//! panic, and allocate in proportion to the file.

use paddock::{
    model::LlamaConfig,
    platform::NamedFile,
    rng,
    weights::{gguf::GgufModel, gguf::GgufVocab, safetensors::Header},
};
use pollster::block_on;
use rand::Rng;

use crate::{formats::Sparse, golden::fixture, memory::peak};

/// Of each reader. Enough that a check left out of a reader was found in every trial.
const INPUTS: usize = 100_000;

/// Bytes allocated for each byte of a file at most, and what any file may cost.
const PER_BYTE: usize = 32;
const ANY: usize = 64 << 10;

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

/// Runs `read` on inputs made from `seed`, the head of a file with `data` bytes more; it says whether the input was
/// taken for good.
fn bombard(what: &str, seed: &[u8], data: usize, mut read: impl FnMut(&[u8]) -> bool) {
    assert!(read(seed), "{what}: the input that the others are made of");
    let mut rng = rng::stream(17, what.len() as u64);
    let mut good = 0;
    for i in 0..INPUTS {
        let mut bytes = seed.to_vec();
        mutate(&mut bytes, &mut rng);
        let (taken, most) = peak(|| read(&bytes));
        good += usize::from(taken);
        let limit = PER_BYTE * (bytes.len() + data) + ANY;
        assert!(most <= limit, "{what}, input {i} of {} bytes: {most} bytes allocated", bytes.len() + data);
    }
    // Some harmless changes are taken: the inputs reach past the first check.
    eprintln!("{what}: {good} of {INPUTS} inputs were taken for good");
    assert!(good > INPUTS / 1000 && good < INPUTS, "{what}: {good} taken");
}

#[test]
fn safetensors_headers() {
    let bytes = fixture("causal/model.safetensors");
    let end = 8 + u64::from_le_bytes(bytes[..8].try_into().expect("8 bytes")) as usize;
    let data = bytes.len() - end;
    bombard("safetensors", &bytes[..end], data, |head| {
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
    bombard("GGUF", &bytes[..head], data, |head| {
        let blob = Sparse { head: head.to_vec(), size: (head.len() + data) as u64 };
        let file = NamedFile { name: "model.gguf".into(), blob: Box::new(blob) };
        let Ok((_, model)) = block_on(GgufModel::open(file)) else { return false };
        let read = ["self_attn.q_proj", "mlp.down_proj"].map(|layer| {
            let name = format!("model.layers.0.{layer}.weight");
            block_on(model.tensor(&name)).is_ok() && block_on(model.packed(&name)).is_ok()
        });
        GgufVocab::read(&model.gguf).is_ok() && read == [true; 2]
    });
}

#[test]
fn configurations() {
    for name in ["variants/llama3", "classify"] {
        bombard(name, &fixture(&format!("{name}/config.json")), 0, |json| {
            let Ok(config) = LlamaConfig::from_json(json) else { return false };
            // As many as a head has numbers: the loader has seen the weights by then.
            let angles = if config.head_dim < 256 { config.frequencies(9).len() * 2 } else { config.head_dim };
            config.parameters() > 0 && config.longest() > 0 && angles == config.head_dim
        });
    }
}
