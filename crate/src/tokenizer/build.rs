//! The parts of which a vocabulary of another format becomes a `tokenizer.json`.

use std::collections::{BTreeMap, HashMap};

use serde_json::{Map, Value, json};

use crate::error::{Error, Result};

/// No real token comes near; the work on a token grows with its square.
const LONGEST_TOKEN: usize = 512;
/// Of all tokens together; Gemma's 256,000 have 3 MB.
const MOST_TEXT: usize = 16 << 20;
/// Merges have at most this many bytes for each byte of the tokens (Llama 3's: 4).
const MERGE_FACTOR: usize = 64;

pub(super) const DAMAGED: &str = "The file may be damaged: download it again, or use the model's tokenizer.json.";

/// The tokens of a vocabulary, each with the id of its place.
pub(super) struct Vocab<'a> {
    file: &'a str,
    tokens: &'a [String],
    ids: HashMap<&'a str, u32>,
}

impl<'a> Vocab<'a> {
    /// # Errors
    /// An empty vocabulary, or a token that is there twice: one of its ids would never be used.
    pub fn new(file: &'a str, tokens: &'a [String]) -> Result<Self> {
        let refuse = |message: String| Err(Error::tokenizer(file, message, DAMAGED));
        if tokens.is_empty() {
            return refuse("its vocabulary is empty".to_owned());
        }
        let mut ids = HashMap::with_capacity(tokens.len());
        for (token, id) in tokens.iter().zip(0..) {
            if let Some(first) = ids.insert(token.as_str(), id) {
                return refuse(format!("token `{}` is there twice, with the ids {first} and {id}", shown(token)));
            }
        }
        Ok(Self { file, tokens, ids })
    }

    pub fn id(&self, token: &str) -> Option<u32> {
        self.ids.get(token).copied()
    }

    /// Every way to put a token together from two others, the most wanted token first: the order in which a byte-pair
    /// encoding that knows ranks or scores, but no merges, joins its parts.
    ///
    /// # Errors
    /// Tokens of a length or number that no vocabulary has.
    pub fn merges(&self, order: &[u32]) -> Result<Vec<(&'a str, &'a str)>> {
        let refuse = |message: String| Err(Error::tokenizer(self.file, message, DAMAGED));
        let text: usize = self.tokens.iter().map(String::len).sum();
        if text > MOST_TEXT {
            return refuse(format!("its tokens have {text} bytes in all; at most {MOST_TEXT} can be read"));
        }
        if let Some((id, token)) = self.tokens.iter().enumerate().find(|(_, token)| token.len() > LONGEST_TOKEN) {
            return refuse(format!("token {id} has {} bytes; at most {LONGEST_TOKEN} can be read", token.len()));
        }
        let room = text.max(1 << 16) * MERGE_FACTOR;
        let (mut merges, mut bytes, mut local) = (Vec::new(), 0, Vec::new());
        for token in order.iter().filter_map(|id| self.tokens.get(*id as usize)) {
            for (at, _) in token.char_indices().skip(1) {
                let (left, right) = token.split_at(at);
                if let Some(pair) = self.id(left).zip(self.id(right)) {
                    local.push((pair, (left, right)));
                }
            }
            local.sort_unstable_by_key(|(pair, _)| *pair);
            bytes += local.len() * token.len();
            if bytes > room {
                return refuse("its tokens can be put together in too many ways".to_owned());
            }
            merges.extend(local.drain(..).map(|(_, parts)| parts));
        }
        Ok(merges)
    }

    /// The model of a `tokenizer.json`.
    pub fn bpe(&self, merges: &[(&str, &str)]) -> Map<String, Value> {
        // Readers before tokenizers 0.20 know only the first form.
        let spaced = merges.iter().any(|(left, right)| left.contains(' ') || right.contains(' '));
        let merges: Vec<Value> = merges
            .iter()
            .map(|(left, right)| if spaced { json!([left, right]) } else { json!(format!("{left} {right}")) })
            .collect();
        let vocab: Map<String, Value> = self.ids.iter().map(|(token, id)| ((*token).to_owned(), json!(id))).collect();
        let mut model = Map::new();
        for (key, value) in [
            ("type", json!("BPE")),
            ("dropout", Value::Null),
            ("unk_token", Value::Null),
            ("continuing_subword_prefix", Value::Null),
            ("end_of_word_suffix", Value::Null),
            ("fuse_unk", json!(false)),
            ("byte_fallback", json!(false)),
            ("ignore_merges", json!(false)),
            ("vocab", Value::Object(vocab)),
            ("merges", Value::Array(merges)),
        ] {
            model.insert(key.to_owned(), value);
        }
        model
    }
}

/// A token that is taken out of the text before the model sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Added {
    pub id: u32,
    pub content: String,
    pub special: bool,
    pub normalized: bool,
    pub lstrip: bool,
    pub rstrip: bool,
    pub single_word: bool,
}

impl Added {
    pub fn new(id: u32, content: &str, special: bool) -> Self {
        Self {
            id,
            content: content.to_owned(),
            special,
            normalized: false,
            lstrip: false,
            rstrip: false,
            single_word: false,
        }
    }

    fn json(&self) -> Value {
        json!({
            "id": self.id,
            "content": self.content,
            "single_word": self.single_word,
            "lstrip": self.lstrip,
            "rstrip": self.rstrip,
            "normalized": self.normalized,
            "special": self.special,
        })
    }
}

/// Puts the tokens that a `tokenizer_config.json` lists in the places of those with the same ids.
pub(super) fn put_over(added: Vec<Added>, listed: &[Added]) -> Vec<Added> {
    let tokens = added.into_iter().chain(listed.iter().cloned());
    tokens.map(|token| (token.id, token)).collect::<BTreeMap<_, _>>().into_values().collect()
}

/// A token that is put around texts, and its id.
pub(super) fn around<'a>(file: &str, name: &'a str, vocab: &Vocab<'_>, added: &[Added]) -> Result<(&'a str, u32)> {
    let id = added.iter().find(|added| added.content == name).map(|added| added.id).or_else(|| vocab.id(name));
    let missing = || Error::tokenizer(file, format!("there is no token `{name}`, which is put around texts"), DAMAGED);
    Ok((name, id.ok_or_else(missing)?))
}

/// What a `tokenizer.json` has beside its model.
pub(super) struct Around<'a> {
    /// In the order of their ids.
    pub added: &'a [Added],
    pub normalizer: Value,
    pub pre_tokenizer: Value,
    pub decoder: Value,
    /// Special tokens before and after every text.
    pub bos: Option<(&'a str, u32)>,
    pub eos: Option<(&'a str, u32)>,
}

/// The file. `model` as [`Vocab::bpe`] gave it.
pub(super) fn file(model: Map<String, Value>, around: Around<'_>) -> Vec<u8> {
    json!({
        "version": "1.0",
        "truncation": null,
        "padding": null,
        "added_tokens": around.added.iter().map(Added::json).collect::<Vec<_>>(),
        "normalizer": around.normalizer,
        "pre_tokenizer": around.pre_tokenizer,
        "post_processor": template(around.bos, around.eos),
        "decoder": around.decoder,
        "model": model,
    })
    .to_string()
    .into_bytes()
}

fn template(bos: Option<(&str, u32)>, eos: Option<(&str, u32)>) -> Value {
    let special = |token: Option<(&str, u32)>, text: u8| {
        token.map(|(token, _)| json!({"SpecialToken": {"id": token, "type_id": text}}))
    };
    let form = |text: u8, name: &str| {
        let sequence = json!({"Sequence": {"id": name, "type_id": text}});
        special(bos, text).into_iter().chain([sequence]).chain(special(eos, text)).collect::<Vec<_>>()
    };
    let known: Map<String, Value> = bos
        .into_iter()
        .chain(eos)
        .map(|(token, id)| (token.to_owned(), json!({"id": token, "ids": [id], "tokens": [token]})))
        .collect();
    if known.is_empty() {
        return Value::Null;
    }
    let pair: Vec<Value> = form(0, "A").into_iter().chain(form(1, "B")).collect();
    json!({"type": "TemplateProcessing", "single": form(0, "A"), "pair": pair, "special_tokens": known})
}

/// SentencePiece's way with spaces: `▁` for each and one before the text, wherever special tokens have cut it
/// (`legacy`, as most models were trained), or only at its beginning.
pub(super) struct Spaces {
    pub prefix: bool,
    pub legacy: bool,
}

impl Spaces {
    pub fn normalizer(&self) -> Value {
        let replace = json!({"type": "Replace", "pattern": {"String": " "}, "content": "▁"});
        let prepend = json!({"type": "Prepend", "prepend": "▁"});
        match (self.legacy, self.prefix) {
            (false, _) => Value::Null,
            (true, true) => json!({"type": "Sequence", "normalizers": [prepend, replace]}),
            (true, false) => json!({"type": "Sequence", "normalizers": [replace]}),
        }
    }

    pub fn pre_tokenizer(&self) -> Value {
        if self.legacy {
            return Value::Null;
        }
        let scheme = if self.prefix { "first" } else { "never" };
        json!({"type": "Metaspace", "replacement": "▁", "prepend_scheme": scheme, "split": false})
    }

    pub fn decoder(&self) -> Value {
        let mut decoders = vec![
            json!({"type": "Replace", "pattern": {"String": "▁"}, "content": " "}),
            json!({"type": "ByteFallback"}),
            json!({"type": "Fuse"}),
        ];
        if self.prefix {
            decoders.push(json!({"type": "Strip", "content": " ", "start": 1, "stop": 0}));
        }
        json!({"type": "Sequence", "decoders": decoders})
    }
}

/// Llama 3's way of cutting a text before its bytes are merged.
pub(super) const LLAMA3_PATTERN: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";

/// Byte-level tokens, of texts cut by each pattern in turn; by GPT-2's in the end, where `gpt2` says so.
pub(super) fn byte_level(patterns: &[&str], gpt2: bool) -> Value {
    let bytes = json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": gpt2});
    if patterns.is_empty() {
        return bytes;
    }
    let split = |pattern: &&str| json!({"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": false});
    let parts: Vec<Value> = patterns.iter().map(split).chain([bytes]).collect();
    json!({"type": "Sequence", "pretokenizers": parts})
}

pub(super) fn byte_level_decoder() -> Value {
    json!({"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true, "use_regex": true})
}

/// A token in a message.
pub(super) fn shown(token: &str) -> String {
    let mut text: String = token.chars().take(40).collect();
    if text.len() < token.len() {
        text.push('…');
    }
    text
}
