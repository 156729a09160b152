//! Hugging Face's `config.json` of a LLaMA, checked before anything is allocated by it.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::error::{Error, Result};

/// The keys of `config.json` that the model depends on. The file's other keys are kept for writing it back.
#[derive(Debug, Clone, PartialEq)]
pub struct LlamaConfig {
    pub vocab_size: usize,
    pub hidden_size: usize,
    pub intermediate_size: usize,
    pub num_hidden_layers: usize,
    pub num_attention_heads: usize,
    pub num_key_value_heads: usize,
    pub head_dim: usize,
    pub max_position_embeddings: usize,
    pub rms_norm_eps: f64,
    pub rope_theta: f64,
    pub tie_word_embeddings: bool,
    pub initializer_range: f64,
    pub bos_token_id: Option<u32>,
    pub eos_token_id: Option<u32>,
    pub pad_token_id: Option<u32>,
    /// `LlamaForCausalLM`, `LlamaForSequenceClassification` or what else the file names.
    pub architecture: String,
    /// Class names in the order of their ids; empty where the file has none.
    pub labels: Vec<String>,
    /// The whole file, for writing it back.
    pub raw: Map<String, Value>,
}

/// What `config.json` may hold, in Hugging Face's spelling.
#[derive(Debug, Deserialize, Serialize)]
struct Keys {
    model_type: Option<String>,
    architectures: Option<Vec<String>>,
    vocab_size: usize,
    hidden_size: usize,
    intermediate_size: usize,
    num_hidden_layers: usize,
    num_attention_heads: usize,
    num_key_value_heads: Option<usize>,
    head_dim: Option<usize>,
    max_position_embeddings: Option<usize>,
    rms_norm_eps: Option<f64>,
    rope_theta: Option<f64>,
    rope_scaling: Option<Value>,
    rope_parameters: Option<Value>,
    hidden_act: Option<String>,
    tie_word_embeddings: Option<bool>,
    attention_bias: Option<bool>,
    mlp_bias: Option<bool>,
    initializer_range: Option<f64>,
    bos_token_id: Option<Value>,
    eos_token_id: Option<Value>,
    pad_token_id: Option<Value>,
    id2label: Option<Map<String, Value>>,
}

/// No LLaMA comes near; a header beyond it is a mistake or an attack on memory.
const MAX_DIMENSION: usize = 1 << 24;
const MAX_LAYERS: usize = 1024;

impl LlamaConfig {
    /// Reads and checks `config.json`.
    pub fn from_json(bytes: &[u8]) -> Result<Self> {
        let bad = |key: &str, expected: &str, got: String| Error::model("config.json", key, expected, got);
        let raw: Map<String, Value> = serde_json::from_slice(bytes)
            .map_err(|e| bad("the file", "a JSON object", format!("something else ({e})")))?;
        let kind = raw.get("model_type").unwrap_or(&Value::Null);
        if kind != "llama" {
            return Err(bad("model_type", "\"llama\"", kind.to_string()));
        }
        let keys: Keys = serde_json::from_value(Value::Object(raw.clone()))
            .map_err(|e| bad("the file", "a LLaMA's configuration", e.to_string()))?;
        // What would change the results is refused by name rather than ignored.
        if let Some(act) = keys.hidden_act.filter(|a| a != "silu") {
            return Err(bad("hidden_act", "\"silu\"", format!("{act:?}")));
        }
        for (key, value) in [("attention_bias", keys.attention_bias), ("mlp_bias", keys.mlp_bias)] {
            if value == Some(true) {
                return Err(bad(key, "false (biases are not supported yet)", "true".into()));
            }
        }
        let mut rope_theta = keys.rope_theta;
        for (key, value) in [("rope_scaling", keys.rope_scaling), ("rope_parameters", keys.rope_parameters)] {
            let Some(Value::Object(rope)) = value else { continue };
            let kind = rope.get("rope_type").or(rope.get("type"));
            if kind.is_some_and(|k| k != "default") {
                let got = Value::Object(rope).to_string();
                return Err(bad(key, "none (scaled rotary positions are not supported yet)", got));
            }
            rope_theta = rope_theta.or(rope.get("rope_theta").and_then(Value::as_f64));
        }
        for (key, size, most) in [
            ("vocab_size", keys.vocab_size, MAX_DIMENSION),
            ("hidden_size", keys.hidden_size, MAX_DIMENSION),
            ("intermediate_size", keys.intermediate_size, MAX_DIMENSION),
            ("num_hidden_layers", keys.num_hidden_layers, MAX_LAYERS),
            ("num_attention_heads", keys.num_attention_heads, MAX_DIMENSION),
        ] {
            if size == 0 || size > most {
                return Err(bad(key, &format!("1 to {most}"), size.to_string()));
            }
        }
        let heads = keys.num_attention_heads;
        let kv_heads = keys.num_key_value_heads.unwrap_or(heads);
        if kv_heads == 0 || !heads.is_multiple_of(kv_heads) {
            let expected = format!("a divisor of num_attention_heads ({heads})");
            return Err(bad("num_key_value_heads", &expected, kv_heads.to_string()));
        }
        let head_dim = match keys.head_dim {
            Some(dim) => dim,
            None if keys.hidden_size.is_multiple_of(heads) => keys.hidden_size / heads,
            None => {
                let expected = format!("a multiple of num_attention_heads ({heads})");
                return Err(bad("hidden_size", &expected, keys.hidden_size.to_string()));
            }
        };
        if head_dim == 0 || !head_dim.is_multiple_of(2) || head_dim > MAX_DIMENSION {
            return Err(bad("head_dim", "an even number", head_dim.to_string()));
        }
        let eps = keys.rms_norm_eps.unwrap_or(1e-6);
        let theta = rope_theta.unwrap_or(10_000.0);
        for (key, value) in [("rms_norm_eps", eps), ("rope_theta", theta)] {
            if !(value.is_finite() && value > 0.0) {
                return Err(bad(key, "a positive number", value.to_string()));
            }
        }
        Ok(Self {
            vocab_size: keys.vocab_size,
            hidden_size: keys.hidden_size,
            intermediate_size: keys.intermediate_size,
            num_hidden_layers: keys.num_hidden_layers,
            num_attention_heads: heads,
            num_key_value_heads: kv_heads,
            head_dim,
            max_position_embeddings: keys.max_position_embeddings.unwrap_or(2048).max(1),
            rms_norm_eps: eps,
            rope_theta: theta,
            tie_word_embeddings: keys.tie_word_embeddings.unwrap_or(false),
            initializer_range: keys.initializer_range.filter(|r| r.is_finite()).unwrap_or(0.02),
            bos_token_id: token_id(keys.bos_token_id.as_ref()),
            eos_token_id: token_id(keys.eos_token_id.as_ref()),
            pad_token_id: token_id(keys.pad_token_id.as_ref()),
            architecture: keys
                .architectures
                .and_then(|names| names.into_iter().next())
                .unwrap_or_else(|| "LlamaForCausalLM".into()),
            labels: labels(keys.id2label.as_ref()),
            raw,
        })
    }

    /// Parameters of the body and, where it stands alone, of the language-model head.
    pub fn parameters(&self) -> u64 {
        let (d, f) = (self.hidden_size as u64, self.intermediate_size as u64);
        let q = (self.num_attention_heads * self.head_dim) as u64;
        let kv = (self.num_key_value_heads * self.head_dim) as u64;
        let block = d * q * 2 + d * kv * 2 + 3 * d * f + 2 * d;
        let embedding = self.vocab_size as u64 * d;
        let head = if self.is_classifier() {
            self.labels.len() as u64 * d
        } else if self.tie_word_embeddings {
            0
        } else {
            embedding
        };
        embedding + head + d + self.num_hidden_layers as u64 * block
    }

    /// Whether the file describes a model with a classification head.
    pub fn is_classifier(&self) -> bool {
        self.architecture == "LlamaForSequenceClassification"
    }

    /// `config.json` for this model as a classifier of `labels`, other keys kept as they were.
    pub fn classifier_json(&self, labels: &[String]) -> Map<String, Value> {
        let mut raw = self.raw.clone();
        let id2label: Map<String, Value> =
            labels.iter().enumerate().map(|(id, label)| (id.to_string(), Value::from(label.as_str()))).collect();
        let label2id: Map<String, Value> =
            labels.iter().enumerate().map(|(id, label)| (label.clone(), Value::from(id))).collect();
        raw.insert("architectures".into(), vec!["LlamaForSequenceClassification"].into());
        raw.insert("id2label".into(), id2label.into());
        raw.insert("label2id".into(), label2id.into());
        raw.insert("num_labels".into(), labels.len().into());
        if labels.len() == 1 {
            raw.insert("problem_type".into(), "regression".into());
        } else {
            raw.insert("problem_type".into(), "single_label_classification".into());
        }
        raw
    }
}

/// Hugging Face allows one id or a list of them; the first one ends a text.
fn token_id(value: Option<&Value>) -> Option<u32> {
    let value = match value? {
        Value::Array(ids) => ids.first()?,
        value => value,
    };
    value.as_u64().and_then(|id| u32::try_from(id).ok())
}

/// `{"0": "a", "1": "b"}` in the order of the ids; empty when the ids are not 0, 1, 2 …
fn labels(map: Option<&Map<String, Value>>) -> Vec<String> {
    let Some(map) = map else { return Vec::new() };
    (0..map.len())
        .map(|id| Some(map.get(&id.to_string())?.as_str()?.to_string()))
        .collect::<Option<_>>()
        .unwrap_or_default()
}
