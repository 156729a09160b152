//! Text to token ids and back, by a Hugging Face `tokenizer.json`.

mod build;
mod chat;
mod check;
mod clock;
mod config;
mod gguf;
mod sandbox;
mod sentencepiece;
mod tiktoken;
mod train;

use std::panic::{AssertUnwindSafe, catch_unwind};

use tokenizers::{NormalizedString, Normalizer, OffsetReferential, OffsetType, PreTokenizedString, PreTokenizer};

use crate::error::{Error, Result};
pub use chat::{ChatTemplate, Message};
pub use config::TokenizerConfig;
pub use gguf::{GgufVocab, pre_name};
pub use train::{BOS, EOS, PAD, train_bpe};

/// Special ids as the model's `config.json` or `tokenizer_config.json` gives them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SpecialIds {
    pub bos: Option<u32>,
    pub eos: Option<u32>,
    pub pad: Option<u32>,
}

/// One text in tokens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Encoded {
    pub ids: Vec<u32>,
    /// The text was longer than `max_len`.
    pub truncated: bool,
    /// How many of the ids are the unknown token's.
    pub unknown: usize,
}

/// A byte-pair tokenizer with the special tokens that its post-processor puts around a text.
pub struct Tokenizer {
    inner: tokenizers::Tokenizer,
    file: String,
    special: SpecialIds,
    /// Ids before and after every text (`<|begin_of_text|>` …).
    prefix: Vec<u32>,
    suffix: Vec<u32>,
    vocab_size: usize,
    unknown: Option<u32>,
    byte_level: bool,
    /// A space is put before every text.
    prepends: bool,
    /// Not every byte has a token, nor is there an unknown token: some texts cannot be written in it.
    lossy: bool,
    /// Bytes of the longest token.
    longest: usize,
}

impl std::fmt::Debug for Tokenizer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tokenizer").field("file", &self.file).field("vocab_size", &self.vocab_size).finish()
    }
}

impl Tokenizer {
    /// Reads a `tokenizer.json` with a BPE model, as all LLaMA models have. `file` is the name that errors give.
    ///
    /// The post-processor's template is applied; its own truncation, padding and dropout are not.
    ///
    /// # Errors
    /// Not such a file, parts that LLaMA tokenizers do not have, or special ids beyond its vocabulary.
    pub fn from_json_bytes(file: &str, bytes: &[u8], special: SpecialIds) -> Result<Self> {
        let checked = check::check(file, bytes)?;
        let inner: tokenizers::Tokenizer = guarded(file, || serde_json::from_value(checked.json))?
            .map_err(|error| Error::tokenizer(file, error.to_string(), check::ANOTHER))?;
        for (token, id) in &checked.added {
            let got = inner.token_to_id(token);
            if got != Some(*id) {
                let got = got.map_or_else(|| "none".to_owned(), |got| got.to_string());
                let message = format!("added token `{token}` has id {id}, but its place in the vocabulary gives {got}");
                return Err(Error::tokenizer(file, message, check::ANOTHER));
            }
        }
        let vocab = inner.get_vocab(true);
        let vocab_size = vocab.values().max().map_or(0, |most| *most as usize + 1);
        for (name, id) in [("bos", special.bos), ("eos", special.eos), ("pad", special.pad)] {
            if let Some(id) = id.filter(|id| *id as usize >= vocab_size) {
                let message = format!("{name}_token_id is {id}, its ids end at {}", vocab_size.saturating_sub(1));
                return Err(Error::tokenizer(file, message, BELONGS));
            }
        }
        let unknown = checked.unknown.and_then(|token| inner.token_to_id(&token));
        let longest = vocab.keys().map(String::len).max().unwrap_or(1);
        let complete = if checked.byte_level {
            tokenizers::pre_tokenizers::byte_level::ByteLevel::alphabet()
                .iter()
                .all(|c| vocab.contains_key(&c.to_string()))
        } else {
            checked.byte_fallback && (0..=u8::MAX).all(|byte| vocab.contains_key(&format!("<{byte:#04X}>")))
        };
        Ok(Self {
            inner,
            file: file.to_owned(),
            special,
            prefix: checked.prefix,
            suffix: checked.suffix,
            vocab_size,
            unknown,
            byte_level: checked.byte_level,
            prepends: checked.prepends,
            lossy: !complete && unknown.is_none(),
            longest,
        })
    }

    /// The ids of `text` between the special tokens. Cut to `max_len` in all, special tokens kept, as Hugging Face's
    /// `truncation=True` does.
    ///
    /// # Errors
    /// A character for which there is no token, not even an unknown one.
    pub fn encode(&self, text: &str, max_len: Option<usize>) -> Result<Encoded> {
        let around = self.prefix.len() + self.suffix.len();
        let room = max_len.map(|most| most.saturating_sub(around));
        let part = room.map_or(text, |room| self.enough(text, room));
        let mut body = Vec::new();
        for piece in pieces(part, self.prepends) {
            self.encode_piece(piece, &mut body)?;
        }
        let truncated = part.len() < text.len() || room.is_some_and(|room| body.len() > room);
        body.truncate(room.unwrap_or(usize::MAX));
        let unknown = self.unknown.map_or(0, |unknown| body.iter().filter(|id| **id == unknown).count());
        let mut ids = Vec::with_capacity(body.len() + around);
        ids.extend_from_slice(&self.prefix);
        ids.append(&mut body);
        ids.extend_from_slice(&self.suffix);
        // Only where not even the special tokens have room.
        ids.truncate(max_len.unwrap_or(usize::MAX));
        Ok(Encoded { ids, truncated, unknown })
    }

    /// The ids of a conversation that a [`ChatTemplate`] has rendered, as `apply_chat_template` gives them: the special
    /// tokens are those that the template wrote, and none is put around them.
    ///
    /// # Errors
    /// As [`Self::encode`].
    pub fn encode_chat(&self, rendered: &str) -> Result<Vec<u32>> {
        let mut ids = Vec::new();
        for piece in pieces(rendered, self.prepends) {
            self.encode_piece(piece, &mut ids)?;
        }
        Ok(ids)
    }

    /// A beginning of the text that is sure to hold `room` tokens: a cell of megabytes need not be read to its end.
    fn enough<'a>(&self, text: &'a str, room: usize) -> &'a str {
        let mut end = (room + 16).saturating_mul(self.longest).max(1 << 12);
        if end >= text.len() {
            return text;
        }
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        &text[..end]
    }

    fn encode_piece(&self, text: &str, ids: &mut Vec<u32>) -> Result<()> {
        // A BPE leaves out characters without a token in silence.
        if self.lossy && self.loses(text)? {
            let mut lost = '?';
            for c in text.chars() {
                if self.loses(c.encode_utf8(&mut [0; 4]))? {
                    lost = c;
                    break;
                }
            }
            let message = format!("the vocabulary has no token for `{lost}`, which the data needs");
            return Err(Error::tokenizer(&self.file, message, "Choose a model whose tokenizer covers the data."));
        }
        let encoding =
            guarded(&self.file, || self.inner.encode_fast(text, false))?.map_err(|error| self.failed(&error))?;
        ids.extend_from_slice(encoding.get_ids());
        Ok(())
    }

    /// Whether a character of `text`, in the form in which the model sees it, has no token of its own, where a BPE
    /// begins. White space and control characters may get lost.
    fn loses(&self, text: &str) -> Result<bool> {
        let splits = guarded(&self.file, || {
            let mut normalized = NormalizedString::from(text);
            if let Some(normalizer) = self.inner.get_normalizer() {
                normalizer.normalize(&mut normalized)?;
            }
            let mut pretokenized = PreTokenizedString::from(normalized);
            if let Some(pre_tokenizer) = self.inner.get_pre_tokenizer() {
                pre_tokenizer.pre_tokenize(&mut pretokenized)?;
            }
            Ok(pretokenized)
        })?
        .map_err(|error: tokenizers::Error| self.failed(&error))?;
        let added = self.inner.get_added_vocabulary().get_vocab();
        Ok(splits.get_splits(OffsetReferential::Normalized, OffsetType::None).into_iter().any(|(part, ..)| {
            let known = |c: char| {
                c.is_whitespace()
                    || c.is_control()
                    || self.byte_level && HIDDEN.contains(&c)
                    || self.inner.token_to_id(c.encode_utf8(&mut [0; 4])).is_some()
            };
            // Added tokens are taken out before the model sees the rest.
            !part.chars().all(known)
                && !added.keys().fold(part.to_owned(), |rest, token| rest.replace(token, "")).chars().all(known)
        }))
    }

    fn failed(&self, error: &tokenizers::Error) -> Error {
        Error::tokenizer(&self.file, error.to_string(), check::ANOTHER)
    }

    /// The text of `ids`, without the special tokens where `skip_special` says so.
    ///
    /// # Errors
    /// An id beyond the vocabulary.
    pub fn decode(&self, ids: &[u32], skip_special: bool) -> Result<String> {
        if let Some(id) = ids.iter().find(|id| **id as usize >= self.vocab_size) {
            let message = format!("id {id} is beyond the vocabulary of {}", self.vocab_size);
            return Err(Error::tokenizer(&self.file, message, BELONGS));
        }
        guarded(&self.file, || self.inner.decode(ids, skip_special))?.map_err(|error| self.failed(&error))
    }

    /// One more than the largest id.
    pub fn vocab_size(&self) -> usize {
        self.vocab_size
    }

    /// # Errors
    /// The tokenizer has ids for which the model has no embedding.
    pub fn check_model_vocab(&self, model_vocab_size: usize) -> Result<()> {
        if self.vocab_size <= model_vocab_size {
            return Ok(());
        }
        let message = format!("its ids go to {}, the model's vocab_size is {model_vocab_size}", self.vocab_size - 1);
        Err(Error::tokenizer(&self.file, message, BELONGS))
    }

    pub fn bos_id(&self) -> Option<u32> {
        self.special.bos
    }

    pub fn eos_id(&self) -> Option<u32> {
        self.special.eos
    }

    /// What padding is filled with; its value never reaches a result, as padding is masked.
    pub fn pad_id(&self) -> u32 {
        self.special.pad.or(self.special.eos).unwrap_or(0)
    }

    pub fn token_to_id(&self, token: &str) -> Option<u32> {
        self.inner.token_to_id(token)
    }

    /// Special ids that the template puts before and after a text.
    pub fn around(&self) -> (&[u32], &[u32]) {
        (&self.prefix, &self.suffix)
    }
}

/// A `tokenizer.model`, SentencePiece's or Llama 3's, as the `tokenizer.json` that it stands for.
///
/// # Errors
/// A file that is neither, or one that asks for what LLaMA tokenizers do not do.
pub fn tokenizer_model_json(file: &str, bytes: &[u8], config: &TokenizerConfig) -> Result<Vec<u8>> {
    if tiktoken::looks_so(bytes) {
        tiktoken::tokenizer_json(file, bytes, config)
    } else {
        sentencepiece::tokenizer_json(file, bytes, config)
    }
}

/// The letters that stand for ASCII's control characters in byte-level vocabularies.
const HIDDEN: std::ops::RangeInclusive<char> = '\u{100}'..='\u{121}';

const BELONGS: &str = "Use the tokenizer.json that belongs to the model.";

/// The tokenizer needs some forty bytes for each byte of a text, and its regular expressions give up in silence on
/// white space of half a million characters: long texts go through it in parts. They are cut before a space between two
/// letters, where no token goes across; `prepends` says that the tokenizer itself puts that space before a part.
fn pieces(mut text: &str, prepends: bool) -> impl Iterator<Item = &str> {
    const LONG: usize = 1 << 18;
    std::iter::from_fn(move || {
        if text.is_empty() {
            return None;
        }
        if text.len() <= LONG {
            return Some(std::mem::take(&mut text));
        }
        let between = |window: &[u8]| matches!(window, [a, b' ', b] if a.is_ascii_graphic() && b.is_ascii_graphic());
        if let Some(at) = text.as_bytes()[..LONG].windows(3).rposition(between) {
            let (piece, rest) = text.split_at(at + 1);
            text = &rest[usize::from(prepends)..];
            return Some(piece);
        }
        let mut end = text.as_bytes()[..LONG].iter().rposition(|byte| *byte == b'\n').map_or(LONG, |at| at + 1);
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        let (piece, rest) = text.split_at(end);
        text = rest;
        Some(piece)
    })
}

/// What `check` lets through does not make the tokenizers crate panic as far as is known; should it, the run fails
/// with an error instead (natively: in wasm a panic ends the worker).
fn guarded<T>(file: &str, work: impl FnOnce() -> T) -> Result<T> {
    catch_unwind(AssertUnwindSafe(work))
        .map_err(|_| Error::tokenizer(file, "the tokenizer cannot handle this file or text", check::ANOTHER))
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;

#[cfg(test)]
#[path = "foreign_tests.rs"]
mod foreign_tests;

#[cfg(test)]
#[path = "golden_tests.rs"]
mod golden_tests;

#[cfg(test)]
#[path = "hostile_tests.rs"]
mod hostile_tests;
