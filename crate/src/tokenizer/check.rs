//! What a `tokenizer.json` must look like before the tokenizers crate sees it: that crate trusts its input, and in
//! wasm a panic cannot be caught. Everything that LLaMA tokenizers are made of passes.

use serde_json::{Map, Value};

use crate::error::{Error, Result};

pub(super) const ANOTHER: &str = "Use the tokenizer.json of a LLaMA model (a byte-pair tokenizer).";

/// Gemma's, the largest in use, has 33 MB.
const MOST_BYTES: usize = 128 << 20;
/// No vocabulary comes near; ids are counted on 32 bits.
const MOST_IDS: u64 = 1 << 24;
const LONGEST_PATTERN: usize = 4096;

const NORMALIZERS: &[&str] =
    &["Sequence", "Prepend", "Replace", "NFC", "NFD", "NFKC", "NFKD", "Lowercase", "StripAccents"];
const PRE_TOKENIZERS: &[&str] =
    &["Sequence", "ByteLevel", "Split", "Metaspace", "Digits", "Punctuation", "Whitespace", "WhitespaceSplit"];
const POST_PROCESSORS: &[&str] = &["Sequence", "ByteLevel", "TemplateProcessing"];
const DECODERS: &[&str] = &["Sequence", "ByteLevel", "Metaspace", "Replace", "Fuse", "Strip", "ByteFallback"];

/// A file that passed, with what is handled outside the crate taken out of it.
pub(super) struct Checked {
    pub json: Value,
    pub prefix: Vec<u32>,
    pub suffix: Vec<u32>,
    pub added: Vec<(String, u32)>,
    pub unknown: Option<String>,
    pub byte_level: bool,
    /// `▁` is put before every text.
    pub prepends: bool,
    pub byte_fallback: bool,
}

pub(super) fn check(file: &str, bytes: &[u8]) -> Result<Checked> {
    let refuse = |message: String| Error::tokenizer(file, message, ANOTHER);
    if bytes.len() > MOST_BYTES {
        return Err(refuse(format!("{} MiB; at most {} MiB can be read", bytes.len() >> 20, MOST_BYTES >> 20)));
    }
    let mut json: Value = serde_json::from_slice(bytes).map_err(|error| refuse(format!("not JSON: {error}")))?;
    let Some(root) = json.as_object_mut() else {
        return Err(refuse("not a JSON object".to_owned()));
    };
    let parts = Parts { file };
    let mut found = Found::default();
    parts.walk(root.get("normalizer"), "normalizer", "normalizers", NORMALIZERS, &mut found)?;
    parts.walk(root.get("pre_tokenizer"), "pre_tokenizer", "pretokenizers", PRE_TOKENIZERS, &mut found)?;
    parts.walk(root.get("post_processor"), "post_processor", "processors", POST_PROCESSORS, &mut found)?;
    parts.walk(root.get("decoder"), "decoder", "decoders", DECODERS, &mut found)?;

    let model =
        root.get_mut("model").and_then(Value::as_object_mut).ok_or_else(|| refuse("there is no `model`".to_owned()))?;
    let (unknown, byte_fallback) = check_model(model).map_err(refuse)?;
    let added = check_added(root.get("added_tokens")).map_err(refuse)?;
    // Special tokens are put around a text by Tokenizer::encode, which also cuts it; batches are padded elsewhere.
    for key in ["post_processor", "truncation", "padding"] {
        root.insert(key.to_owned(), Value::Null);
    }
    let (prefix, suffix) = found.template.unwrap_or_default();
    let Found { byte_level, prepends, .. } = found;
    Ok(Checked { json, prefix, suffix, added, unknown, byte_level, prepends, byte_fallback })
}

#[derive(Default)]
struct Found {
    template: Option<(Vec<u32>, Vec<u32>)>,
    byte_level: bool,
    prepends: bool,
}

struct Parts<'a> {
    file: &'a str,
}

impl Parts<'_> {
    /// Visits a part and, in a sequence (`list` is the key of its parts), all those in it.
    fn walk(&self, part: Option<&Value>, name: &str, list: &str, known: &[&str], found: &mut Found) -> Result<()> {
        let refuse = |message: String| Err(Error::tokenizer(self.file, message, ANOTHER));
        let part = match part {
            None | Some(Value::Null) => return Ok(()),
            Some(Value::Object(part)) => part,
            Some(_) => return refuse(format!("`{name}` is not an object")),
        };
        let kind = part.get("type").and_then(Value::as_str).unwrap_or_default();
        if !known.contains(&kind) {
            return refuse(format!("`{name}` has the type `{kind}`, which no LLaMA tokenizer has"));
        }
        let checked = match kind {
            "Sequence" => {
                let Some(parts) = part.get(list).and_then(Value::as_array) else {
                    return refuse(format!("`{name}` is a sequence without `{list}`"));
                };
                return parts.iter().try_for_each(|part| self.walk(Some(part), name, list, known, found));
            }
            "ByteLevel" => {
                found.byte_level |= name == "pre_tokenizer";
                Ok(())
            }
            "Prepend" => {
                found.prepends |= part.get("prepend").and_then(Value::as_str) == Some("▁");
                Ok(())
            }
            "Split" | "Replace" => check_pattern(part),
            // Counted from a token's end without asking whether it is that long.
            "Strip" if part.get("stop").and_then(Value::as_u64) != Some(0) => {
                Err("`Strip` with a `stop` above 0".to_owned())
            }
            "TemplateProcessing" if found.template.is_some() => Err("two templates".to_owned()),
            "TemplateProcessing" => template(part).map(|around| found.template = Some(around)),
            _ => Ok(()),
        };
        checked.or_else(|message| refuse(format!("`{name}`: {message}")))
    }
}

/// Regular expressions that stay small when they are compiled.
fn check_pattern(part: &Map<String, Value>) -> Result<(), String> {
    let pattern = part.get("pattern").and_then(Value::as_object).ok_or("no `pattern`")?;
    if let Some(text) = pattern.get("String").and_then(Value::as_str) {
        return if text.is_empty() || text.len() > LONGEST_PATTERN {
            Err("an empty or very long pattern".to_owned())
        } else {
            Ok(())
        };
    }
    let regex = pattern.get("Regex").and_then(Value::as_str).ok_or("no `String` or `Regex` in `pattern`")?;
    if regex.len() > LONGEST_PATTERN {
        return Err("a very long pattern".to_owned());
    }
    // Counted repetitions multiply when they are nested.
    let counts = regex.split('{').skip(1).filter_map(|rest| {
        let inner = rest.split('}').next().unwrap_or_default();
        inner.split(',').filter_map(|number| number.trim().parse::<u64>().ok()).max()
    });
    if counts.fold(1_u64, |product, count| product.saturating_mul(count.max(1))) > 10_000 {
        return Err("a pattern with large repetitions".to_owned());
    }
    Ok(())
}

/// Ids before and after the text in a template's form for one text.
fn template(part: &Map<String, Value>) -> Result<(Vec<u32>, Vec<u32>), String> {
    let single = part.get("single").and_then(Value::as_array).ok_or("no `single`")?;
    let specials = part.get("special_tokens").and_then(Value::as_object);
    let (mut prefix, mut suffix, mut texts) = (Vec::new(), Vec::new(), 0);
    for piece in single {
        if let Some(sequence) = piece.get("Sequence") {
            if sequence.get("id").and_then(Value::as_str) != Some("A") {
                return Err("the form for one text names a second".to_owned());
            }
            texts += 1;
            continue;
        }
        let name = piece.pointer("/SpecialToken/id").and_then(Value::as_str).ok_or("a piece of unknown kind")?;
        let ids = specials.and_then(|specials| specials.get(name)?.get("ids")?.as_array());
        let ids = ids.ok_or_else(|| format!("special token `{name}` has no ids"))?;
        for id in ids {
            let id = token_id(id).ok_or_else(|| format!("special token `{name}` has a bad id"))?;
            if texts == 0 { prefix.push(id) } else { suffix.push(id) }
        }
    }
    if texts != 1 || prefix.len() + suffix.len() > 64 {
        return Err("not a template for one text".to_owned());
    }
    Ok((prefix, suffix))
}

fn token_id(value: &Value) -> Option<u32> {
    value.as_u64().filter(|id| *id < MOST_IDS).and_then(|id| u32::try_from(id).ok())
}

/// The unknown token's name and whether bytes are fallen back on.
fn check_model(model: &mut Map<String, Value>) -> Result<(Option<String>, bool), String> {
    // Files of the first years have no type.
    let kind = model.entry("type").or_insert_with(|| Value::from("BPE"));
    if kind.as_str() != Some("BPE") {
        return Err(format!("the model is of type {kind}; LLaMA's are \"BPE\""));
    }
    for key in ["continuing_subword_prefix", "end_of_word_suffix"] {
        if model.get(key).is_some_and(|value| !value.is_null() && value.as_str() != Some("")) {
            return Err(format!("the model has a `{key}`, which no LLaMA tokenizer has"));
        }
        model.insert(key.to_owned(), Value::Null);
    }
    // Random while encoding: meant for training tokenizers.
    model.insert("dropout".to_owned(), Value::Null);
    let vocab = model.get("vocab").and_then(Value::as_object).ok_or("the model has no `vocab`")?;
    if vocab.is_empty() {
        return Err("the vocabulary is empty".to_owned());
    }
    if let Some((token, id)) = vocab.iter().find(|(_, id)| token_id(id).is_none()) {
        return Err(format!("token `{token}` has the id {id}"));
    }
    if !model.get("merges").is_some_and(Value::is_array) {
        return Err("the model has no `merges`".to_owned());
    }
    let unknown = match model.get("unk_token") {
        None | Some(Value::Null) => None,
        Some(Value::String(token)) if vocab.contains_key(token) => Some(token.clone()),
        Some(token) => return Err(format!("the unknown token {token} is not in the vocabulary")),
    };
    Ok((unknown, model.get("byte_fallback").and_then(Value::as_bool).unwrap_or(false)))
}

fn check_added(added: Option<&Value>) -> Result<Vec<(String, u32)>, String> {
    const MOST: usize = 100_000;
    let tokens = match added {
        None | Some(Value::Null) => return Ok(Vec::new()),
        Some(Value::Array(tokens)) if tokens.len() <= MOST => tokens,
        Some(_) => return Err("`added_tokens` is no list, or a very long one".to_owned()),
    };
    let one = |token: &Value| {
        let content = token.get("content").and_then(Value::as_str).filter(|content| !content.is_empty());
        let id = token.get("id").and_then(token_id);
        content
            .zip(id)
            .map(|(content, id)| (content.to_owned(), id))
            .ok_or_else(|| format!("a bad added token: {token}"))
    };
    tokens.iter().map(one).collect()
}
