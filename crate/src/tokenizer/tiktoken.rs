//! Llama 3's `tokenizer.model`: lines of a token in base64 and its rank, in tiktoken's manner.

use serde_json::{Value, json};

use super::{
    build::{self, Added, Around, DAMAGED, LLAMA3_PATTERN, Vocab},
    config::TokenizerConfig,
};
use crate::error::{Error, Result};

/// Llama 3 has 256 special tokens, which follow the others.
const SPECIAL: u32 = 256;
/// Its first ten; the rest are reserved, numbered in order.
const NAMED: [&str; 10] = [
    "<|begin_of_text|>",
    "<|end_of_text|>",
    "<|reserved_special_token_0|>",
    "<|reserved_special_token_1|>",
    "<|reserved_special_token_2|>",
    "<|reserved_special_token_3|>",
    "<|start_header_id|>",
    "<|end_header_id|>",
    "<|reserved_special_token_4|>",
    "<|eot_id|>",
];

/// Whether a file begins as such a one does.
pub(super) fn looks_so(bytes: &[u8]) -> bool {
    let line = bytes.split(|byte| *byte == b'\n').next().unwrap_or_default();
    line.len() < 1024 && str::from_utf8(line).is_ok_and(|line| entry(line.trim_end()).is_some())
}

/// The same vocabulary as a `tokenizer.json`, as transformers' `TikTokenConverter` makes it, with Llama 3's pattern and
/// special tokens; those that `config` lists take the place of the reserved ones.
///
/// # Errors
/// Not such a file.
pub(super) fn tokenizer_json(file: &str, bytes: &[u8], config: &TokenizerConfig) -> Result<Vec<u8>> {
    let damaged = |message: String| Error::tokenizer(file, message, DAMAGED);
    let tokens = ranked(bytes).map_err(damaged)?;
    let vocab = Vocab::new(file, &tokens)?;
    if let Some(byte) = (0..=u8::MAX).find(|byte| vocab.id(&letter(*byte).to_string()).is_none()) {
        return Err(damaged(format!("there is no token for the byte {byte:#04x}")));
    }
    let order: Vec<u32> = (0..).take(tokens.len()).collect();
    let mut model = vocab.bpe(&vocab.merges(&order)?);
    model.insert("ignore_merges".to_owned(), json!(true));

    let first = order.len() as u32;
    let added: Vec<Added> = (0..SPECIAL).map(|at| Added::new(first + at, &special(at), true)).collect();
    let added = build::put_over(added, &config.added);
    let (bos, eos) = (config.bos_token.as_deref().unwrap_or(NAMED[0]), config.eos_token.as_deref().unwrap_or(NAMED[1]));
    let find = |name| build::around(file, name, &vocab, &added);
    let around = Around {
        added: &added,
        normalizer: Value::Null,
        pre_tokenizer: build::byte_level(&[LLAMA3_PATTERN], false),
        decoder: build::byte_level_decoder(),
        bos: config.add_bos_token.unwrap_or(true).then(|| find(bos)).transpose()?,
        eos: config.add_eos_token.unwrap_or(false).then(|| find(eos)).transpose()?,
    };
    Ok(build::file(model, around))
}

fn special(at: u32) -> String {
    match NAMED.get(at as usize) {
        Some(name) => (*name).to_owned(),
        None => format!("<|reserved_special_token_{}|>", at - 5),
    }
}

/// The tokens in the order of their ranks, which are all those from 0 on.
fn ranked(bytes: &[u8]) -> Result<Vec<String>, String> {
    let text = str::from_utf8(bytes).map_err(|_| "not a list of tokens and ranks".to_owned())?;
    let lines = || text.lines().enumerate().filter(|(_, line)| !line.is_empty());
    let count = lines().count();
    let mut tokens = vec![None; count];
    for (at, line) in lines() {
        let (token, rank) = entry(line).ok_or_else(|| format!("line {} has no token and rank", at + 1))?;
        match tokens.get_mut(rank as usize) {
            None => return Err(format!("line {} has the rank {rank}, of {count} tokens", at + 1)),
            Some(Some(_)) => return Err(format!("rank {rank} is there twice, again in line {}", at + 1)),
            Some(place) => *place = Some(token.into_iter().map(letter).collect::<String>()),
        }
    }
    // As many tokens as places, and none twice.
    Ok(tokens.into_iter().flatten().collect())
}

fn entry(line: &str) -> Option<(Vec<u8>, u32)> {
    let (token, rank) = line.split_once(' ')?;
    Some((base64(token.as_bytes())?, rank.parse().ok()?))
}

/// Standard base64 with its padding.
fn base64(text: &[u8]) -> Option<Vec<u8>> {
    let body = text.strip_suffix(b"==").or_else(|| text.strip_suffix(b"=")).unwrap_or(text);
    if !text.len().is_multiple_of(4) || body.is_empty() {
        return None;
    }
    let mut bytes = Vec::with_capacity(body.len() * 3 / 4);
    let (mut bits, mut held) = (0_u32, 0);
    for c in body {
        let value = match c {
            b'A'..=b'Z' => c - b'A',
            b'a'..=b'z' => c - b'a' + 26,
            b'0'..=b'9' => c - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => return None,
        };
        bits = bits << 6 | u32::from(value);
        held += 6;
        if held >= 8 {
            held -= 8;
            bytes.push((bits >> held) as u8);
            bits &= (1 << held) - 1;
        }
    }
    (bits == 0).then_some(bytes)
}

/// The letter that stands for a byte in byte-level vocabularies: itself where it can be seen, else one from U+0100 on.
fn letter(byte: u8) -> char {
    let seen = |byte: u8| matches!(byte, b'!'..=b'~' | 0xA1..=0xAC | 0xAE..=0xFF);
    if seen(byte) {
        return char::from(byte);
    }
    let hidden = (0..byte).filter(|other| !seen(*other)).count();
    char::from_u32(0x100 + hidden as u32).unwrap_or_default()
}
