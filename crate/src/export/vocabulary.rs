//! A `tokenizer.json` as GGUF's metadata.

use serde_json::Value;

use crate::{
    error::{Error, Result},
    model::LlamaConfig,
    tokenizer::pre_name,
    weights::gguf_write::Meta,
};

const FILE: &str = "tokenizer.json";

/// GGUF's kinds of tokens.
const NORMAL: i32 = 1;
const UNKNOWN: i32 = 2;
const CONTROL: i32 = 3;
const USER_DEFINED: i32 = 4;
const UNUSED: i32 = 5;
const BYTE: i32 = 6;

/// `tokenizer.*` for the tokenizer of these files (`tokenizer.json`, `tokenizer_config.json` and what else there is).
///
/// # Errors
/// A tokenizer that GGUF's readers have no name for.
pub(super) fn metadata(files: &[(String, Vec<u8>)], config: &LlamaConfig) -> Result<Vec<(String, Meta)>> {
    let json = read(files, FILE).ok_or_else(|| refuse("a GGUF file needs it, and this model came without one"))?;
    let settings = read(files, "tokenizer_config.json").unwrap_or_default();
    let vocabulary = Vocabulary::new(&json, config.vocab_size)?;
    let mut out: Vec<(String, Meta)> = Vec::new();
    let mut add = |key: &str, value| out.push((format!("tokenizer.{key}"), value));
    let text = |value: &str| Meta::Text(value.into());
    match byte_level(&json)? {
        Some(pre) => {
            add("ggml.model", text("gpt2"));
            add("ggml.pre", text(pre));
            add("ggml.merges", Meta::Texts(vocabulary.merges.clone()));
        }
        None => {
            add("ggml.model", text("llama"));
            add("ggml.pre", text("default"));
            add("ggml.scores", Meta::F32s(vocabulary.scores()));
            add("ggml.add_space_prefix", Meta::Bool(space_prefix(&json)));
        }
    }
    let id = |token: &str| vocabulary.tokens.iter().position(|t| t == token).map(|id| id as u32);
    let named = |key: &str| {
        let token = settings.get(key)?;
        id(token.as_str().or(token.get("content").and_then(Value::as_str))?)
    };
    for (key, name, other) in [
        ("bos", "bos_token", config.bos_token_id),
        ("eos", "eos_token", config.eos_token_id),
        ("unknown", "unk_token", None),
        ("padding", "pad_token", config.pad_token_id),
    ] {
        if let Some(id) = named(name).or(other) {
            add(&format!("ggml.{key}_token_id"), Meta::U32(id));
        }
    }
    let (first, last) = template(&json, &vocabulary);
    add("ggml.add_bos_token", Meta::Bool(first));
    add("ggml.add_eos_token", Meta::Bool(last));
    let jinja = files.iter().find(|(name, _)| name == "chat_template.jinja");
    let jinja = jinja.and_then(|(_, bytes)| String::from_utf8(bytes.clone()).ok());
    match (jinja, settings.get("chat_template")) {
        (Some(template), _) => add("chat_template", Meta::Text(template)),
        (None, Some(Value::String(template))) => add("chat_template", text(template)),
        (None, Some(Value::Array(list))) => {
            let part = |entry: &Value, key: &str| Some(entry.get(key)?.as_str()?.to_owned());
            let named = list.iter().filter_map(|entry| Some((part(entry, "name")?, part(entry, "template")?)));
            for (name, template) in named {
                let key = if name == "default" { "chat_template".into() } else { format!("chat_template.{name}") };
                add(&key, Meta::Text(template));
            }
        }
        _ => {}
    }
    add("ggml.tokens", Meta::Texts(vocabulary.tokens));
    add("ggml.token_type", Meta::I32s(vocabulary.kinds));
    Ok(out)
}

fn read(files: &[(String, Vec<u8>)], name: &str) -> Option<Value> {
    let (_, bytes) = files.iter().find(|(file, _)| file == name)?;
    serde_json::from_slice(bytes).ok()
}

fn refuse(message: impl Into<String>) -> Error {
    Error::tokenizer(FILE, message, "Export the model as a merged Hugging Face folder instead.")
}

/// Tokens by their ids.
struct Vocabulary {
    tokens: Vec<String>,
    kinds: Vec<i32>,
    /// `left right`, in the order of their ranks.
    merges: Vec<String>,
}

impl Vocabulary {
    fn new(json: &Value, size: usize) -> Result<Self> {
        let model = json.get("model").unwrap_or(&Value::Null);
        let vocab = model.get("vocab").and_then(Value::as_object).ok_or_else(|| refuse("there is no vocabulary"))?;
        let byte_fallback = model["byte_fallback"] == true;
        let unknown = model["unk_token"].as_str();
        // What no token is given for is there for the embedding's sake.
        let mut tokens: Vec<String> = (0..size).map(|id| format!("[PAD{id}]")).collect();
        let mut kinds = vec![UNUSED; size];
        let mut put = |id: Option<u64>, token: &str, kind| {
            let id = id.and_then(|id| usize::try_from(id).ok()).filter(|id| *id < size);
            let id =
                id.ok_or_else(|| refuse(format!("token `{token}` has no id below the model's vocab_size {size}")))?;
            tokens[id] = token.to_owned();
            kinds[id] = kind;
            Ok(())
        };
        for (token, id) in vocab {
            let kind = match token.as_str() {
                token if Some(token) == unknown => UNKNOWN,
                token if byte_fallback && is_byte(token) => BYTE,
                _ => NORMAL,
            };
            put(id.as_u64(), token, kind)?;
        }
        for added in json["added_tokens"].as_array().into_iter().flatten() {
            let token = added["content"].as_str().unwrap_or_default();
            let kind = match added["special"].as_bool() {
                _ if Some(token) == unknown && byte_fallback => UNKNOWN,
                Some(true) => CONTROL,
                _ => USER_DEFINED,
            };
            put(added["id"].as_u64(), token, kind)?;
        }
        let merges = model["merges"].as_array().into_iter().flatten().map(|merge| match merge {
            Value::String(pair) => Ok(pair.clone()),
            pair => match (pair[0].as_str(), pair[1].as_str()) {
                (Some(left), Some(right)) if !left.contains(' ') && !right.contains(' ') => {
                    Ok(format!("{left} {right}"))
                }
                _ => Err(refuse(format!("the merge {pair} cannot be written in GGUF"))),
            },
        });
        Ok(Self { merges: merges.collect::<Result<_>>()?, tokens, kinds })
    }

    /// SentencePiece merges the pair whose token has the highest score first: the earlier a merge, the higher. What no
    /// merge makes is never merged, and its score is never looked at.
    fn scores(&self) -> Vec<f32> {
        let mut ranks = std::collections::HashMap::new();
        for (rank, merge) in self.merges.iter().enumerate() {
            ranks.entry(merge.replacen(' ', "", 1)).or_insert(rank);
        }
        self.tokens.iter().map(|token| ranks.get(token).map_or(-1e6, |rank| -(*rank as f32))).collect()
    }
}

/// `<0x0A>`
fn is_byte(token: &str) -> bool {
    let digits = token.strip_prefix("<0x").and_then(|rest| rest.strip_suffix('>'));
    digits.is_some_and(|digits| digits.len() == 2 && u8::from_str_radix(digits, 16).is_ok())
}

/// llama.cpp's name for the way in which a byte-level tokenizer cuts a text; none for a tokenizer of SentencePiece's
/// kind.
fn byte_level(json: &Value) -> Result<Option<&'static str>> {
    let steps = match &json["pre_tokenizer"] {
        Value::Null => Vec::new(),
        Value::Object(one) if one.get("type") == Some(&"Sequence".into()) => {
            one.get("pretokenizers").and_then(Value::as_array).cloned().unwrap_or_default()
        }
        one => vec![one.clone()],
    };
    let kind = |step: &Value| step["type"].as_str().unwrap_or_default().to_owned();
    let kinds: Vec<String> = steps.iter().map(kind).collect();
    let kinds: Vec<&str> = kinds.iter().map(String::as_str).collect();
    let byte_fallback = json["model"]["byte_fallback"] == true;
    if byte_fallback && matches!(kinds.as_slice(), [] | ["Metaspace"]) {
        return Ok(None);
    }
    let unknown = || refuse("GGUF's readers have no name for the way in which it cuts a text (pre_tokenizer)");
    let Some(last) = steps.last().filter(|step| kind(step) == "ByteLevel") else { return Err(unknown()) };
    if !json["normalizer"].is_null() || last["add_prefix_space"] == true {
        return Err(unknown());
    }
    let pattern = |step: &Value| match kind(step).as_str() {
        "Digits" if step["individual_digits"] == true => Some(r"\p{N}".to_owned()),
        "Split" if step["behavior"] == "Isolated" && step["invert"] != true => {
            step["pattern"]["Regex"].as_str().map(str::to_owned)
        }
        _ => None,
    };
    let patterns: Option<Vec<String>> = steps[..steps.len() - 1].iter().map(pattern).collect();
    let patterns = patterns.ok_or_else(unknown)?;
    let patterns: Vec<&str> = patterns.iter().map(String::as_str).collect();
    // Absent means true.
    pre_name(&patterns, last["use_regex"] != false).map(Some).ok_or_else(unknown)
}

/// Whether a tokenizer of SentencePiece's kind puts a space before a text.
fn space_prefix(json: &Value) -> bool {
    let prepends = |step: &Value| step["type"] == "Prepend";
    let normalizer = &json["normalizer"];
    prepends(normalizer)
        || normalizer["normalizers"].as_array().is_some_and(|steps| steps.iter().any(prepends))
        || (json["pre_tokenizer"]["type"] == "Metaspace" && json["pre_tokenizer"]["prepend_scheme"] != "never")
}

/// Whether the template for one text begins, and whether it ends, with a special token.
fn template(json: &Value, vocabulary: &Vocabulary) -> (bool, bool) {
    let post = &json["post_processor"];
    let steps = post["processors"].as_array().cloned().unwrap_or_else(|| vec![post.clone()]);
    let Some(template) = steps.iter().find_map(|step| step["single"].as_array()) else { return (false, false) };
    let special = |item: Option<&Value>| {
        let token = item.and_then(|item| item["SpecialToken"]["id"].as_str());
        token.is_some_and(|token| vocabulary.tokens.iter().any(|t| t == token))
    };
    (special(template.first()), special(template.last()))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn pre(pre_tokenizer: Value) -> Result<Option<&'static str>> {
        byte_level(&json!({"pre_tokenizer": pre_tokenizer, "model": {"byte_fallback": false}}))
    }

    #[test]
    fn ways_to_cut_a_text_have_llama_cpps_names() {
        let level = |regex: bool| json!({"type": "ByteLevel", "add_prefix_space": false, "use_regex": regex});
        let sequence = |first: Value, regex| json!({"type": "Sequence", "pretokenizers": [first, level(regex)]});
        let split = |regex: &str| json!({"type": "Split", "pattern": {"Regex": regex}, "behavior": "Isolated", "invert": false});
        let digits = json!({"type": "Digits", "individual_digits": true});
        let llama3 = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
        assert_eq!(pre(level(true)).ok(), Some(Some("gpt-2")));
        assert_eq!(pre(sequence(digits, true)).ok(), Some(Some("smollm")));
        assert_eq!(pre(sequence(split(r"\p{N}"), true)).ok(), Some(Some("smollm")));
        assert_eq!(pre(sequence(split(llama3), false)).ok(), Some(Some("llama-bpe")));
        assert!(pre(sequence(split(r"\w+"), false)).is_err(), "a pattern of its own");
        assert!(pre(json!({"type": "Whitespace"})).is_err());
        assert!(pre(Value::Null).is_err());
        assert_eq!(byte_level(&json!({"pre_tokenizer": null, "model": {"byte_fallback": true}})).ok(), Some(None));
    }

    #[test]
    fn tokens_have_their_kinds_and_holes_are_filled() {
        let json = json!({
            "model": {"vocab": {"<unk>": 0, "<0x0A>": 1, "a": 2, "b": 3, "ab": 4}, "merges": [["a", "b"]],
                      "byte_fallback": true, "unk_token": "<unk>"},
            "added_tokens": [{"id": 0, "content": "<unk>", "special": true}, {"id": 6, "content": "</s>", "special": true}],
        });
        let vocabulary = Vocabulary::new(&json, 7).expect("fits");
        assert_eq!(vocabulary.tokens, ["<unk>", "<0x0A>", "a", "b", "ab", "[PAD5]", "</s>"]);
        assert_eq!(vocabulary.kinds, [UNKNOWN, BYTE, NORMAL, NORMAL, NORMAL, UNUSED, CONTROL]);
        assert_eq!(vocabulary.merges, ["a b"]);
        assert_eq!(vocabulary.scores()[4], 0.0);
        assert!(Vocabulary::new(&json, 6).is_err(), "an id beyond the embedding");
    }
}
