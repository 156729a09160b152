//! SentencePiece's `tokenizer.model`, as Llama 1 and 2 and Mistral have it.

use super::{
    build::{self, Added, Around, DAMAGED, Spaces, Vocab},
    config::TokenizerConfig,
    gguf::by_scores,
};
use crate::error::{Error, Result};

const UNKNOWN: u64 = 2;
const CONTROL: u64 = 3;
const USER_DEFINED: u64 = 4;
const MOST_PIECES: usize = 1 << 24;

const JSON: &str = "Use the model's tokenizer.json (save_pretrained of its fast tokenizer writes one).";

/// The same vocabulary as a `tokenizer.json`, as transformers' `LlamaTokenizerFast` makes it.
///
/// # Errors
/// Not such a file, or one that asks for what LLaMA tokenizers do not do.
pub(super) fn tokenizer_json(file: &str, bytes: &[u8], config: &TokenizerConfig) -> Result<Vec<u8>> {
    let damaged = |message: String| Error::tokenizer(file, message, DAMAGED);
    let proto = Proto::read(bytes).map_err(|message| damaged(format!("not a SentencePiece model: {message}")))?;
    if let Some(message) = proto.inexact() {
        return Err(Error::tokenizer(file, message, JSON));
    }
    let Proto { pieces, mut scores, kinds, .. } = proto;
    let vocab = Vocab::new(file, &pieces)?;
    // transformers ranks the first three so, whatever their scores are.
    scores.iter_mut().take(3).for_each(|score| *score = 0.0);

    let added: Vec<Added> = (0..)
        .zip(pieces.iter().zip(&kinds))
        .filter(|(_, (piece, kind))| matches!(**kind, UNKNOWN | CONTROL | USER_DEFINED) && !piece.is_empty())
        .map(|(id, (piece, kind))| Added::new(id, piece, *kind != USER_DEFINED))
        .collect();
    let added = build::put_over(added, &config.added);
    let (bos, eos) = (config.bos_token.as_deref().unwrap_or("<s>"), config.eos_token.as_deref().unwrap_or("</s>"));
    let find = |name| build::around(file, name, &vocab, &added);
    let unknown = (0..kinds.len()).find(|id| kinds[*id] == UNKNOWN).map(|id| pieces[id].as_str());
    let spaces = Spaces {
        prefix: config.add_prefix_space.unwrap_or(proto.add_dummy_prefix),
        legacy: config.legacy.unwrap_or(true),
    };
    let around = Around {
        added: &added,
        normalizer: spaces.normalizer(),
        pre_tokenizer: spaces.pre_tokenizer(),
        decoder: spaces.decoder(),
        bos: config.add_bos_token.unwrap_or(true).then(|| find(bos)).transpose()?,
        eos: config.add_eos_token.unwrap_or(false).then(|| find(eos)).transpose()?,
    };
    Ok(build::file(by_scores(file, &vocab, &scores, unknown)?, around))
}

/// The fields of a `ModelProto` that decide how a text is cut.
struct Proto {
    pieces: Vec<String>,
    scores: Vec<f32>,
    kinds: Vec<u64>,
    model_type: u64,
    spaces_after: bool,
    charsmap: bool,
    normalizer: String,
    add_dummy_prefix: bool,
    remove_extra_whitespaces: bool,
    escape_whitespaces: bool,
}

impl Proto {
    fn read(bytes: &[u8]) -> Result<Self, String> {
        // The defaults of sentencepiece_model.proto.
        let mut proto = Self {
            pieces: Vec::new(),
            scores: Vec::new(),
            kinds: Vec::new(),
            model_type: 1,
            spaces_after: false,
            charsmap: false,
            normalizer: String::new(),
            add_dummy_prefix: true,
            remove_extra_whitespaces: true,
            escape_whitespaces: true,
        };
        for field in Fields(bytes) {
            match field? {
                (1, Wire::Bytes(piece)) => proto.piece(piece)?,
                (2, Wire::Bytes(trainer)) => {
                    for field in Fields(trainer) {
                        match field? {
                            (3, Wire::Varint(kind)) => proto.model_type = kind,
                            (24, Wire::Varint(on)) => proto.spaces_after = on != 0,
                            _ => {}
                        }
                    }
                }
                (3, Wire::Bytes(normalizer)) => {
                    for field in Fields(normalizer) {
                        match field? {
                            (1, Wire::Bytes(name)) => proto.normalizer = build::shown(&String::from_utf8_lossy(name)),
                            (2, Wire::Bytes(map)) => proto.charsmap = !map.is_empty(),
                            (3, Wire::Varint(on)) => proto.add_dummy_prefix = on != 0,
                            (4, Wire::Varint(on)) => proto.remove_extra_whitespaces = on != 0,
                            (5, Wire::Varint(on)) => proto.escape_whitespaces = on != 0,
                            _ => {}
                        }
                    }
                }
                _ => {}
            }
        }
        if proto.pieces.is_empty() {
            return Err("it has no pieces".to_owned());
        }
        Ok(proto)
    }

    fn piece(&mut self, bytes: &[u8]) -> Result<(), String> {
        if self.pieces.len() == MOST_PIECES {
            return Err(format!("more than {MOST_PIECES} pieces"));
        }
        let (mut piece, mut score, mut kind) = (String::new(), 0.0, 1);
        for field in Fields(bytes) {
            match field? {
                (1, Wire::Bytes(text)) => {
                    let text = std::str::from_utf8(text);
                    piece = text.map_err(|_| format!("piece {} is not UTF-8", self.pieces.len()))?.to_owned();
                }
                (2, Wire::Fixed32(bytes)) => score = f32::from_le_bytes(bytes),
                (3, Wire::Varint(number)) => kind = number,
                _ => {}
            }
        }
        self.pieces.push(piece);
        self.scores.push(score);
        self.kinds.push(kind);
        Ok(())
    }

    /// What this model asks for that the conversion would leave out.
    fn inexact(&self) -> Option<String> {
        let kind = match self.model_type {
            2 => None,
            1 => Some("unigram"),
            3 => Some("word"),
            4 => Some("char"),
            _ => Some("unknown"),
        };
        if let Some(kind) = kind {
            return Some(format!("model_type is {kind}; LLaMA's tokenizers are bpe"));
        }
        if self.charsmap {
            return Some(format!("its normalizer `{}` rewrites characters, LLaMA's does not", self.normalizer));
        }
        let asks = [
            ("remove_extra_whitespaces", self.remove_extra_whitespaces),
            ("escape_whitespaces: false", !self.escape_whitespaces),
            ("treat_whitespace_as_suffix", self.spaces_after),
        ];
        asks.into_iter().find(|(_, on)| *on).map(|(key, _)| format!("it asks for {key}, which LLaMA's do not"))
    }
}

/// A message in protocol buffers' wire format, field by field.
struct Fields<'a>(&'a [u8]);

enum Wire<'a> {
    Varint(u64),
    Fixed32([u8; 4]),
    Bytes(&'a [u8]),
    Fixed64,
}

impl<'a> Fields<'a> {
    fn varint(&mut self) -> Option<u64> {
        let mut value = 0_u64;
        for shift in (0..64).step_by(7) {
            let (byte, rest) = self.0.split_first()?;
            self.0 = rest;
            value |= u64::from(byte & 0x7F) << shift;
            if byte & 0x80 == 0 {
                return Some(value);
            }
        }
        None
    }

    fn bytes(&mut self, count: u64) -> Option<&'a [u8]> {
        let (bytes, rest) = self.0.split_at_checked(usize::try_from(count).ok()?)?;
        self.0 = rest;
        Some(bytes)
    }

    fn field(&mut self) -> Option<(u64, Wire<'a>)> {
        let key = self.varint()?;
        let value = match key & 7 {
            0 => Wire::Varint(self.varint()?),
            1 => self.bytes(8).map(|_| Wire::Fixed64)?,
            2 => {
                let count = self.varint()?;
                Wire::Bytes(self.bytes(count)?)
            }
            5 => Wire::Fixed32(self.bytes(4)?.try_into().ok()?),
            _ => return None,
        };
        Some((key >> 3, value))
    }
}

impl<'a> Iterator for Fields<'a> {
    type Item = Result<(u64, Wire<'a>), String>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let field = self.field().ok_or_else(|| "it breaks off, or is something else".to_owned());
        if field.is_err() {
            self.0 = &[];
        }
        Some(field)
    }
}
