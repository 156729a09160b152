//! Requests in the form of OpenAI's API: chats, completions, texts to classify.

use std::{
    collections::BTreeMap,
    hash::{BuildHasher, Hasher, RandomState},
};

use paddock::{error::Error, generate::Sampling, tokenizer::Message};
use serde_json::{Map, Value};

use super::{
    keys::{Keys, wrong},
    refusal::Refusal,
};

type Result<T> = std::result::Result<T, Refusal>;

/// Texts of a request at most.
const MOST_TEXTS: usize = 256;
const MOST_TURNS: usize = 1000;
const MOST_STOPS: usize = 64;
/// Tokens of a completion that says nothing of them, as OpenAI's.
const COMPLETION_TOKENS: usize = 16;

/// What is to be answered, and how.
#[derive(Debug, PartialEq)]
pub struct Request {
    pub model: Option<String>,
    /// Prompts; of a chat what the user said last.
    pub texts: Vec<String>,
    /// A chat's turns; none of prompts.
    pub messages: Vec<Vec<Message>>,
    /// Beside each text the other parts of what is asked, by role.
    pub fields: Vec<BTreeMap<String, String>>,
    pub sampling: Sampling,
    pub stream: bool,
    pub include_usage: bool,
}

/// What is to be classified.
#[derive(Debug, PartialEq)]
pub struct Classification {
    pub model: Option<String>,
    pub texts: Vec<String>,
}

/// `POST /v1/chat/completions`
///
/// # Errors
/// What is wrong with which key; what cannot be done is told rather than left out.
pub fn chat(body: &[u8], max_new_tokens: usize) -> Result<Request> {
    let mut keys = Keys::read(body)?;
    let turns = turns(keys.take("messages"))?;
    let asked = turns.last().map(|turn| turn.content.clone()).unwrap_or_default();
    keys.only("functions", is_empty, "a model here answers in text")?;
    keys.only("function_call", |value| value == "none", "a model here answers in text")?;
    keys.only("tools", is_empty, "a model here answers in text")?;
    keys.only("tool_choice", |value| value == "none", "a model here answers in text")?;
    keys.only("logprobs", |value| *value == false, "probabilities are not given out")?;
    keys.only("top_logprobs", is_zero, "probabilities are not given out")?;
    keys.only(
        "modalities",
        |value| value.as_array().is_some_and(|list| list.iter().all(|kind| kind == "text")),
        "a model here answers in text",
    )?;
    keys.only("response_format", |value| value["type"] == "text", "answers are plain text")?;
    let tokens = (keys.whole("max_tokens")?, keys.whole("max_completion_tokens")?);
    let most = match tokens {
        (_, Some(0)) => return Err(no_tokens("max_completion_tokens")),
        (Some(0), None) => return Err(no_tokens("max_tokens")),
        (_, Some(most)) | (Some(most), None) => most,
        (None, None) => max_new_tokens,
    };
    request(keys, vec![asked], vec![turns], most)
}

/// `POST /v1/completions`
///
/// # Errors
/// As [`chat`].
pub fn completion(body: &[u8]) -> Result<Request> {
    let mut keys = Keys::read(body)?;
    let texts = some("prompt", keys.texts("prompt", MOST_TEXTS)?)?;
    keys.only("echo", |value| *value == false, "an answer does not repeat its prompt")?;
    keys.only("suffix", |value| value == "", "a model here reads forwards")?;
    keys.only("best_of", is_one, "one answer a prompt is made")?;
    keys.only("logprobs", is_zero, "probabilities are not given out")?;
    let most = keys.whole("max_tokens")?.unwrap_or(COMPLETION_TOKENS);
    if most == 0 {
        return Err(no_tokens("max_tokens"));
    }
    request(keys, texts, Vec::new(), most)
}

/// `POST /v1/classify`
///
/// # Errors
/// As [`chat`].
pub fn classification(body: &[u8]) -> Result<Classification> {
    let mut keys = Keys::read(body)?;
    let model = keys.text("model")?;
    let texts = some("input", keys.texts("input", MOST_TEXTS)?)?;
    keys.ignore(&["user"]);
    keys.finish()?;
    Ok(Classification { model, texts })
}

/// What chats and completions have in common.
fn request(mut keys: Keys, texts: Vec<String>, messages: Vec<Vec<Message>>, most: usize) -> Result<Request> {
    let model = keys.text("model")?;
    keys.only("n", is_one, "one answer a prompt is made")?;
    keys.only("presence_penalty", is_zero, "`repetition_penalty` is there in its place")?;
    keys.only("frequency_penalty", is_zero, "`repetition_penalty` is there in its place")?;
    keys.only("logit_bias", is_empty, "no token is favoured")?;
    let by_default = Sampling::default();
    let sampling = Sampling {
        max_new_tokens: most,
        temperature: keys.number("temperature")?.unwrap_or(by_default.temperature),
        top_k: keys.whole("top_k")?.unwrap_or(by_default.top_k),
        top_p: keys.number("top_p")?.unwrap_or(by_default.top_p),
        min_p: keys.number("min_p")?.unwrap_or(by_default.min_p),
        repetition_penalty: keys.number("repetition_penalty")?.unwrap_or(by_default.repetition_penalty),
        seed: keys.bits("seed")?.unwrap_or_else(random),
        stop: keys.texts("stop", MOST_STOPS)?,
    };
    sampling.check().map_err(|error| match &error {
        Error::Config { key, .. } => Refusal::bad(Some(key.as_str()), format!("{error}.")),
        _ => Refusal::bad(None, error.to_string()),
    })?;
    let parts: BTreeMap<String, String> = keys.strings("fields")?.into_iter().collect();
    let fields = if parts.is_empty() { Vec::new() } else { vec![parts; texts.len()] };
    let stream = keys.flag("stream")?;
    let mut include_usage = false;
    if let Some(mut options) = keys.keys("stream_options")? {
        if !stream {
            return Err(Refusal::bad(Some("stream_options"), "`stream_options` goes with `stream: true` alone."));
        }
        include_usage = options.flag("include_usage")?;
        options.ignore(&["include_obfuscation"]);
        options.finish()?;
    }
    keys.ignore(&[
        "user",
        "metadata",
        "store",
        "service_tier",
        "safety_identifier",
        "prompt_cache_key",
        "prompt_cache_retention",
        "parallel_tool_calls",
    ]);
    keys.finish()?;
    Ok(Request { model, texts, messages, fields, sampling, stream, include_usage })
}

fn some(key: &str, texts: Vec<String>) -> Result<Vec<String>> {
    match texts.is_empty() {
        true => Err(Refusal::bad(Some(key), format!("`{key}` is missing: a string, or a list of strings."))),
        false => Ok(texts),
    }
}

fn no_tokens(key: &str) -> Refusal {
    Refusal::bad(Some(key), format!("`{key}` must be at least 1."))
}

fn is_empty(value: &Value) -> bool {
    value.as_array().is_some_and(Vec::is_empty) || value.as_object().is_some_and(Map::is_empty)
}

fn is_zero(value: &Value) -> bool {
    value.as_f64() == Some(0.0)
}

fn is_one(value: &Value) -> bool {
    value.as_f64() == Some(1.0)
}

/// A draw that nobody can repeat who was not told its seed.
pub fn random() -> u64 {
    RandomState::new().build_hasher().finish()
}

/// A chat's turns; the last one is the user's.
fn turns(messages: Option<Value>) -> Result<Vec<Message>> {
    let messages = match messages {
        Some(Value::Array(messages)) if !messages.is_empty() => messages,
        None | Some(Value::Array(_)) => {
            return Err(Refusal::bad(Some("messages"), "`messages` is missing: a list of at least one turn."));
        }
        Some(other) => return Err(wrong("messages", "a list of turns", &other)),
    };
    if messages.len() > MOST_TURNS {
        let message = format!("`messages` has {} turns; at most {MOST_TURNS} are read.", messages.len());
        return Err(Refusal::bad(Some("messages"), message));
    }
    let turns = messages.into_iter().enumerate().map(|(index, turn)| message(&format!("messages[{index}]"), turn));
    let turns = turns.collect::<Result<Vec<_>>>()?;
    match turns.last() {
        Some(turn) if turn.role == "user" => Ok(turns),
        _ => Err(Refusal::bad(Some("messages"), "The last of `messages` must be what the user says.")),
    }
}

fn message(place: &str, turn: Value) -> Result<Message> {
    let mut turn = match turn {
        Value::Object(turn) => turn,
        other => return Err(wrong(place, "an object", &other)),
    };
    let role = match turn.get("role").and_then(Value::as_str) {
        Some("system" | "developer") => "system",
        Some("user") => "user",
        Some("assistant") => "assistant",
        Some(other) => {
            let other: String = other.chars().filter(|c| !c.is_control()).take(40).collect();
            let message = format!("`{place}.role` is `{other}`; system, developer, user and assistant are known.");
            return Err(Refusal::bad(Some(format!("{place}.role").as_str()), message));
        }
        None => return Err(wrong(&format!("{place}.role"), "a string", turn.get("role").unwrap_or(&Value::Null))),
    };
    for key in ["tool_calls", "function_call", "audio"] {
        if turn.get(key).is_some_and(|value| !value.is_null() && !is_empty(value)) {
            let message = format!("`{place}.{key}` is not supported: a model here reads text.");
            return Err(Refusal::bad(Some(format!("{place}.{key}").as_str()), message));
        }
    }
    let content = content(&format!("{place}.content"), turn.remove("content").unwrap_or_default())?;
    Ok(Message::new(role, content))
}

/// A turn's text, or its parts that are text, one after the other.
fn content(place: &str, value: Value) -> Result<String> {
    let parts = match value {
        Value::String(text) => return Ok(text),
        Value::Array(parts) => parts,
        other => return Err(wrong(place, "a string or a list of parts", &other)),
    };
    let mut text = String::new();
    for (index, part) in parts.iter().enumerate() {
        let place = format!("{place}[{index}]");
        match (part["type"].as_str(), part["text"].as_str()) {
            (Some("text"), Some(part)) => text += part,
            (Some("text"), None) => return Err(wrong(&format!("{place}.text"), "a string", &part["text"])),
            _ => {
                return Err(Refusal::bad(
                    Some(place.as_str()),
                    format!("`{place}` is no text: a model here reads nothing else."),
                ));
            }
        }
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn ask(more: Value) -> Result<Request> {
        let mut body = json!({"model": "m", "messages": [{"role": "user", "content": "q"}]});
        body.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
        chat(body.to_string().as_bytes(), 77)
    }

    fn refused<T>(result: Result<T>) -> String {
        result.err().expect("a refusal").message
    }

    #[test]
    fn a_chat_is_read_with_its_sampling() {
        let more = json!({"messages": [{"role": "developer", "content": "S"}, {"role": "user", "content": "q"},
            {"role": "assistant", "content": "a", "tool_calls": [], "refusal": null},
            {"role": "user", "content": [{"type": "text", "text": "r"}, {"type": "text", "text": "s"}]}],
            "temperature": 0.5, "top_p": 0.9, "top_k": 40, "min_p": 0.1, "repetition_penalty": 1.1, "seed": -1,
            "stop": "END", "max_tokens": 5, "max_completion_tokens": 6, "n": 1, "tools": [], "user": "u", "stream": true,
            "stream_options": {"include_usage": true}, "fields": {"context": "c"}});
        let request = ask(more).expect("a request");
        let turns: Vec<_> =
            request.messages[0].iter().map(|turn| (turn.role.as_str(), turn.content.as_str())).collect();
        assert_eq!(turns, [("system", "S"), ("user", "q"), ("assistant", "a"), ("user", "rs")]);
        assert_eq!((request.texts, request.model.as_deref()), (vec!["rs".to_owned()], Some("m")));
        let sampling = Sampling {
            max_new_tokens: 6,
            temperature: 0.5,
            top_k: 40,
            top_p: 0.9,
            min_p: 0.1,
            repetition_penalty: 1.1,
            seed: u64::MAX,
            stop: vec!["END".into()],
        };
        assert_eq!(request.sampling, sampling);
        assert!(request.stream && request.include_usage);
        assert_eq!(request.fields, [BTreeMap::from([("context".to_owned(), "c".to_owned())])]);
    }

    #[test]
    fn what_is_left_out_has_a_default() {
        let (one, other) = (ask(json!({})).expect("a request"), ask(json!({"stop": null})).expect("a request"));
        assert_eq!((one.sampling.max_new_tokens, one.sampling.temperature, one.stream), (77, 0.0, false));
        assert_ne!(one.sampling.seed, other.sampling.seed, "a draw of its own each time");
        let texts = completion(br#"{"prompt": ["a", "b"]}"#).expect("prompts");
        assert_eq!((texts.texts.len(), texts.messages.len(), texts.sampling.max_new_tokens), (2, 0, 16));
        assert_eq!(classification(br#"{"input": "a"}"#), Ok(Classification { model: None, texts: vec!["a".into()] }));
    }

    #[test]
    fn what_cannot_be_done_is_refused_by_its_key() {
        for (more, why) in [
            (json!({"n": 2}), "`n` is not supported"),
            (json!({"tools": [{}]}), "`tools` is not supported"),
            (json!({"tool_choice": "auto"}), "`tool_choice`"),
            (json!({"logprobs": true}), "`logprobs`"),
            (json!({"response_format": {"type": "json_object"}}), "`response_format`"),
            (json!({"presence_penalty": 0.5}), "`repetition_penalty`"),
            (json!({"temperature": -1}), "temperature: expected"),
            (json!({"temperature": "hot"}), "`temperature` must be a number"),
            (json!({"top_p": 0}), "top_p"),
            (json!({"max_tokens": 0}), "`max_tokens` must be at least 1"),
            (json!({"max_completion_tokens": 0}), "`max_completion_tokens` must be at least 1"),
            (json!({"max_tokens": -3}), "`max_tokens` must be a whole number"),
            (json!({"stop": [""]}), "stop"),
            (json!({"stream_options": {"include_usage": true}}), "`stream: true`"),
            (json!({"stream": true, "stream_options": {"usage": true}}), "Unknown key `usage`"),
            (json!({"temprature": 1}), "Unknown key `temprature`"),
            (json!({"model": 5}), "`model` must be a string"),
            (json!({"messages": []}), "`messages` is missing"),
            (json!({"messages": "hi"}), "`messages` must be a list"),
            (json!({"messages": ["hi"]}), "`messages[0]` must be an object"),
            (json!({"messages": [{"role": "user"}]}), "`messages[0].content`"),
            (json!({"messages": [{"role": "tool", "content": "x"}]}), "`messages[0].role` is `tool`"),
            (json!({"messages": [{"content": "x"}]}), "`messages[0].role`"),
            (json!({"messages": [{"role": "assistant", "content": "x"}]}), "must be what the user says"),
            (
                json!({"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}]}),
                "`messages[0].content[0]` is no text",
            ),
            (json!({"fields": {"context": 1}}), "`fields.context`"),
        ] {
            let told = refused(ask(more));
            assert!(told.contains(why), "{told} / {why}");
        }
        let many = json!({"messages": vec![json!({"role": "user", "content": "x"}); 1001]});
        assert!(refused(ask(many)).contains("1001 turns"));
        assert!(refused(completion(b"{}")).contains("`prompt` is missing"));
        assert!(refused(completion(br#"{"prompt": [[1, 2]]}"#)).contains("`prompt[0]` must be a string"));
        assert!(refused(completion(br#"{"prompt": "a", "echo": true}"#)).contains("`echo`"));
        assert!(refused(classification(br#"{"input": "a", "x": 1}"#)).contains("Unknown key `x`"));
    }
}
