//! The tokenizer inside a GGUF file.

use super::{Gguf, Value};
use crate::error::{Error, Result};

/// What `tokenizer.*` of the metadata says, as it stands there.
#[derive(Debug, Clone, PartialEq)]
pub struct GgufVocab {
    /// `llama` (SentencePiece) or `gpt2` (byte-level BPE).
    pub model: String,
    /// How texts are cut before BPE: `smollm`, `llama-bpe`, …
    pub pre: Option<String>,
    pub tokens: Vec<String>,
    /// One a token; empty where the file has none.
    pub scores: Vec<f32>,
    /// One a token (1 normal, 2 unknown, 3 control, 4 user-defined, 5 unused, 6 byte); empty where the file has none.
    pub token_types: Vec<i32>,
    pub merges: Vec<String>,
    pub bos: Option<u32>,
    pub eos: Option<u32>,
    pub unk: Option<u32>,
    pub pad: Option<u32>,
    pub add_bos: Option<bool>,
    pub add_eos: Option<bool>,
    pub add_space_prefix: Option<bool>,
    pub chat_template: Option<String>,
}

impl GgufVocab {
    /// # Errors
    /// No vocabulary, or scores or types that are not one a token.
    pub fn read(gguf: &Gguf) -> Result<Self> {
        let key = |name: &str| format!("tokenizer.ggml.{name}");
        let bad = |key: &str, expected: String, got: String| Error::model(&gguf.file, key, expected, got);
        let missing = |name: &str| bad(&key(name), "the tokenizer's vocabulary in the file".into(), "none".into());
        let tokens = gguf.texts(&key("tokens")).ok_or_else(|| missing("tokens"))?.to_vec();
        let one_a_token = |name: &str, count: usize| match count {
            0 => Ok(()),
            count if count == tokens.len() => Ok(()),
            count => Err(bad(&key(name), format!("one for each of {} tokens", tokens.len()), count.to_string())),
        };
        let scores = match gguf.metadata.get(&key("scores")) {
            Some(Value::Floats(scores)) => scores.clone(),
            _ => Vec::new(),
        };
        one_a_token("scores", scores.len())?;
        let token_types = match gguf.metadata.get(&key("token_type")) {
            Some(Value::Ints(types)) => types.iter().map(|t| i32::try_from(*t).unwrap_or(0)).collect(),
            _ => Vec::new(),
        };
        one_a_token("token_type", token_types.len())?;
        let id = |name: &str| {
            let name = key(&format!("{name}_token_id"));
            match gguf.unsigned(&name) {
                None => Ok(None),
                Some(id) if id < tokens.len() as u64 => Ok(Some(id as u32)),
                Some(id) => Err(bad(&name, format!("an id below {}", tokens.len()), id.to_string())),
            }
        };
        Ok(Self {
            model: gguf.text(&key("model")).ok_or_else(|| missing("model"))?.into(),
            pre: gguf.text(&key("pre")).map(Into::into),
            scores,
            token_types,
            merges: gguf.texts(&key("merges")).map(<[String]>::to_vec).unwrap_or_default(),
            bos: id("bos")?,
            eos: id("eos")?,
            unk: id("unknown")?,
            pad: id("padding")?,
            add_bos: gguf.bool(&key("add_bos_token")),
            add_eos: gguf.bool(&key("add_eos_token")),
            add_space_prefix: gguf.bool(&key("add_space_prefix")),
            chat_template: gguf.text("tokenizer.chat_template").map(Into::into),
            tokens,
        })
    }
}
