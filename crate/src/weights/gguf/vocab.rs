//! The tokenizer inside a GGUF file.

use super::{Gguf, Value};
use crate::error::{Error, Result};
pub use crate::tokenizer::GgufVocab;

impl GgufVocab {
    /// What `tokenizer.*` of the metadata says.
    ///
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
