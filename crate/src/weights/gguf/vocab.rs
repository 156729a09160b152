//! The vocabulary inside a GGUF file.

use super::{Gguf, Value};
use crate::{
    error::{Error, Result},
    tokenizer::GgufVocab,
};

/// What `tokenizer.*` of the metadata says, as it stands there; whether it fits together shows when a tokenizer is made.
///
/// # Errors
/// No vocabulary in the file.
pub fn read_vocab(gguf: &Gguf) -> Result<GgufVocab> {
    let key = |name: &str| format!("tokenizer.ggml.{name}");
    let missing = |name: &str| Error::model(&gguf.file, key(name), "the tokenizer's vocabulary in the file", "none");
    let id = |name: &str| gguf.unsigned(&key(&format!("{name}_token_id"))).and_then(|id| u32::try_from(id).ok());
    Ok(GgufVocab {
        model: gguf.text(&key("model")).ok_or_else(|| missing("model"))?.into(),
        pre: gguf.text(&key("pre")).map(Into::into),
        tokens: gguf.texts(&key("tokens")).ok_or_else(|| missing("tokens"))?.to_vec(),
        scores: match gguf.metadata.get(&key("scores")) {
            Some(Value::Floats(scores)) => scores.clone(),
            _ => Vec::new(),
        },
        token_types: match gguf.metadata.get(&key("token_type")) {
            Some(Value::Ints(types)) => types.iter().map(|t| i32::try_from(*t).unwrap_or(0)).collect(),
            _ => Vec::new(),
        },
        merges: gguf.texts(&key("merges")).map(<[String]>::to_vec).unwrap_or_default(),
        bos: id("bos"),
        eos: id("eos"),
        unk: id("unknown"),
        pad: id("padding"),
        add_bos: gguf.bool(&key("add_bos_token")),
        add_eos: gguf.bool(&key("add_eos_token")),
        add_space_prefix: gguf.bool(&key("add_space_prefix")),
        chat_template: gguf.text("tokenizer.chat_template").map(Into::into),
    })
}
