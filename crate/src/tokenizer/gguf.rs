//! The vocabulary in a GGUF file's metadata.

use serde_json::{Map, Value, json};

use super::{
    SpecialIds, Tokenizer,
    build::{self, Added, Around, DAMAGED, LLAMA3_PATTERN, Spaces, Vocab},
};
use crate::error::{Error, Result};

const NORMAL: i32 = 1;
const UNKNOWN: i32 = 2;
const CONTROL: i32 = 3;
const USER_DEFINED: i32 = 4;

/// The keys `tokenizer.ggml.*` and `tokenizer.chat_template` as they stand in the file.
#[derive(Debug, Clone, Default)]
pub struct GgufVocab {
    /// `gpt2` (byte-level merges) or `llama` (SentencePiece, by scores).
    pub model: String,
    /// How `gpt2` cuts a text before it merges.
    pub pre: Option<String>,
    pub tokens: Vec<String>,
    pub scores: Vec<f32>,
    /// `token_type`; none means that all are normal.
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

/// How a `gpt2` vocabulary cuts texts, as llama.cpp knows it by name.
struct Cut {
    patterns: &'static [&'static str],
    gpt2: bool,
    /// A word that is a token as a whole is not merged from its parts.
    ignore_merges: bool,
    add_bos: bool,
}

const GPT2: Cut = Cut { patterns: &[], gpt2: true, ignore_merges: false, add_bos: false };

fn cut(pre: &str) -> Option<Cut> {
    Some(match pre {
        "default" => Cut {
            patterns: &[
                r"[\p{P}\$\+<=>\^~\|]+",
                r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)",
                r"\p{N}+",
                r"[0-9][0-9][0-9]",
            ],
            gpt2: false,
            ..GPT2
        },
        "llama-bpe" | "llama3" | "llama-v3" => {
            Cut { patterns: &[LLAMA3_PATTERN], gpt2: false, ignore_merges: true, add_bos: true }
        }
        "smollm" => Cut { patterns: &[r"\p{N}"], ..GPT2 },
        "gpt-2" => GPT2,
        _ => return None,
    })
}

/// llama.cpp's name for the way in which a byte-level tokenizer cuts a text: by each pattern in turn, and by GPT-2's in
/// the end where `gpt2` says so.
pub fn pre_name(patterns: &[&str], gpt2: bool) -> Option<&'static str> {
    let names = ["gpt-2", "smollm", "llama-bpe", "default"].into_iter();
    names
        .filter_map(|name| Some((name, cut(name)?)))
        .find(|(_, cut)| cut.patterns == patterns && cut.gpt2 == gpt2)
        .map(|(name, _)| name)
}

impl Tokenizer {
    /// `file` is the name that errors give.
    ///
    /// # Errors
    /// A vocabulary that is damaged, or of a kind that LLaMA models do not have.
    pub fn from_gguf(file: &str, vocab: &GgufVocab) -> Result<Self> {
        Self::from_json_bytes(file, &vocab.tokenizer_json(file)?, vocab.special_ids())
    }
}

impl GgufVocab {
    pub fn special_ids(&self) -> SpecialIds {
        // SentencePiece's habit, which files of that kind rely on.
        let usual = |id| (self.model == "llama").then_some(id);
        SpecialIds { bos: self.bos.or(usual(1)), eos: self.eos.or(usual(2)), pad: self.pad }
    }

    /// The same vocabulary as a `tokenizer.json`.
    ///
    /// # Errors
    /// As [`Tokenizer::from_gguf`].
    pub fn tokenizer_json(&self, file: &str) -> Result<Vec<u8>> {
        let refuse = |message: String| Error::tokenizer(file, message, DAMAGED);
        for (key, count) in [("scores", self.scores.len()), ("token_type", self.token_types.len())] {
            if count != self.tokens.len() && (count != 0 || (key == "scores" && self.model == "llama")) {
                let tokens = self.tokens.len();
                return Err(refuse(format!("tokenizer.ggml.{key} has {count} entries for {tokens} tokens")));
            }
        }
        let vocab = Vocab::new(file, &self.tokens)?;
        match self.model.as_str() {
            "gpt2" => self.byte_level(file, &vocab),
            "llama" => self.sentence_piece(file, &vocab),
            other => {
                let message = format!("tokenizer.ggml.model is `{other}`; LLaMA models have `llama` or `gpt2`");
                Err(Error::tokenizer(file, message, "Use a GGUF file of a LLaMA model."))
            }
        }
    }

    fn byte_level(&self, file: &str, vocab: &Vocab<'_>) -> Result<Vec<u8>> {
        let pre = self.pre.as_deref().unwrap_or("default");
        let cut = cut(pre).ok_or_else(|| {
            let message = format!("tokenizer.ggml.pre is `{pre}`, a way of cutting texts that is not known here");
            Error::tokenizer(file, message, "Use the model's Hugging Face folder, with its tokenizer.json.")
        })?;
        let mut merges = Vec::with_capacity(self.merges.len());
        for merge in &self.merges {
            // The first of the two may be a space itself.
            let at = merge.char_indices().skip(1).find(|(_, c)| *c == ' ').map(|(at, _)| at).ok_or_else(|| {
                let message = format!("tokenizer.ggml.merges has `{}`, which is no pair", build::shown(merge));
                Error::tokenizer(file, message, DAMAGED)
            })?;
            merges.push((&merge[..at], &merge[at + 1..]));
        }
        let mut model = vocab.bpe(&merges);
        model.insert("ignore_merges".to_owned(), json!(cut.ignore_merges));
        let around = Around {
            added: &self.added(),
            normalizer: Value::Null,
            pre_tokenizer: build::byte_level(cut.patterns, cut.gpt2),
            decoder: build::byte_level_decoder(),
            bos: self.around(file, "bos", self.add_bos.unwrap_or(cut.add_bos))?,
            eos: self.around(file, "eos", self.add_eos.unwrap_or(false))?,
        };
        Ok(build::file(model, around))
    }

    fn sentence_piece(&self, file: &str, vocab: &Vocab<'_>) -> Result<Vec<u8>> {
        let spaces = Spaces { prefix: self.add_space_prefix.unwrap_or(true), legacy: true };
        let unknown = self.unk.or_else(|| (0..).zip(&self.token_types).find(|(_, t)| **t == UNKNOWN).map(|(id, _)| id));
        let around = Around {
            added: &self.added(),
            normalizer: spaces.normalizer(),
            pre_tokenizer: spaces.pre_tokenizer(),
            decoder: spaces.decoder(),
            bos: self.around(file, "bos", self.add_bos.unwrap_or(true))?,
            eos: self.around(file, "eos", self.add_eos.unwrap_or(false))?,
        };
        let unknown = unknown.map(|id| self.token(file, "unknown", id)).transpose()?;
        Ok(build::file(by_scores(file, vocab, &self.scores, unknown)?, around))
    }

    fn added(&self) -> Vec<Added> {
        let kinds = self.token_types.iter().copied().chain(std::iter::repeat(NORMAL));
        (0..)
            .zip(self.tokens.iter().zip(kinds))
            .filter(|(_, (token, kind))| matches!(*kind, UNKNOWN | CONTROL | USER_DEFINED) && !token.is_empty())
            .map(|(id, (token, kind))| Added::new(id, token, kind != USER_DEFINED))
            .collect()
    }

    /// The special token to put around texts, where it is `wanted`.
    fn around(&self, file: &str, name: &str, wanted: bool) -> Result<Option<(&str, u32)>> {
        if !wanted {
            return Ok(None);
        }
        let special = self.special_ids();
        let id = if name == "bos" { special.bos } else { special.eos };
        let id = id.ok_or_else(|| {
            let message = format!("it has {name} tokens put around texts, but no tokenizer.ggml.{name}_token_id");
            Error::tokenizer(file, message, DAMAGED)
        })?;
        Ok(Some((self.token(file, name, id)?, id)))
    }

    fn token(&self, file: &str, name: &str, id: u32) -> Result<&str> {
        self.tokens.get(id as usize).map(String::as_str).ok_or_else(|| {
            let message = format!("tokenizer.ggml.{name}_token_id is {id}, beyond the {} tokens", self.tokens.len());
            Error::tokenizer(file, message, DAMAGED)
        })
    }

    /// The `tokenizer_config.json` that goes with [`Self::tokenizer_json`] in a Hugging Face folder.
    pub fn tokenizer_config_json(&self) -> Vec<u8> {
        let special = self.special_ids();
        let mut config = Map::new();
        config.insert("tokenizer_class".to_owned(), json!("PreTrainedTokenizerFast"));
        config.insert("clean_up_tokenization_spaces".to_owned(), json!(false));
        for (key, id) in [
            ("bos_token", special.bos),
            ("eos_token", special.eos),
            ("unk_token", self.unk),
            ("pad_token", special.pad),
        ] {
            if let Some(token) = id.and_then(|id| self.tokens.get(id as usize)) {
                config.insert(key.to_owned(), json!(token));
            }
        }
        if let Some(template) = &self.chat_template {
            config.insert("chat_template".to_owned(), json!(template));
        }
        format!("{:#}\n", Value::Object(config)).into_bytes()
    }
}

/// A SentencePiece byte-pair model as transformers converts it: of two pieces that can be joined, the pair whose piece
/// has the best score comes first.
pub(super) fn by_scores(
    file: &str,
    vocab: &Vocab<'_>,
    scores: &[f32],
    unknown: Option<&str>,
) -> Result<Map<String, Value>> {
    if let Some(id) = scores.iter().position(|score| !score.is_finite()) {
        return Err(Error::tokenizer(file, format!("the score of token {id} is {}", scores[id]), DAMAGED));
    }
    let mut order: Vec<u32> = (0..).take(scores.len()).collect();
    // Stable: of equal scores the lower id comes first. -0 and 0 are equal, unlike in total_cmp.
    order.sort_by(|a, b| {
        let score = |id: &u32| scores.get(*id as usize).copied().unwrap_or_default();
        score(b).partial_cmp(&score(a)).unwrap_or(std::cmp::Ordering::Equal)
    });
    let mut model = vocab.bpe(&vocab.merges(&order)?);
    model.insert("unk_token".to_owned(), json!(unknown));
    model.insert("fuse_unk".to_owned(), json!(true));
    model.insert("byte_fallback".to_owned(), json!(true));
    Ok(model)
}
