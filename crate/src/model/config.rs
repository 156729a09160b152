//! Hugging Face's `config.json` of a LLaMA, checked before anything is allocated by it.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{RopeScaling, frequencies};
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
    pub rope_scaling: RopeScaling,
    /// On the four projections of the attention.
    pub attention_bias: bool,
    /// On the three of the feed-forward.
    pub mlp_bias: bool,
    /// Mistral's window: attention reaches no further back. Sequences are kept within it, where it changes nothing.
    pub sliding_window: Option<usize>,
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
    partial_rotary_factor: Option<f64>,
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
        const FILE: &str = "config.json";
        let raw = serde_json::from_slice(bytes)
            .map_err(|e| Error::model(FILE, "the file", "a JSON object", format!("something else ({e})")))?;
        Self::from_map(FILE, raw)
    }

    /// Checks the content of a `config.json`; `file` is where it comes from, for errors.
    pub fn from_map(file: &str, raw: Map<String, Value>) -> Result<Self> {
        let bad = |key: &str, expected: &str, got: String| Error::model(file, key, expected, got);
        let mistral = match raw.get("model_type").and_then(Value::as_str) {
            Some("llama") => false,
            Some("mistral") => true,
            _ => {
                let got = raw.get("model_type").unwrap_or(&Value::Null);
                return Err(bad("model_type", "\"llama\" or \"mistral\"", got.to_string()));
            }
        };
        let keys: Keys = serde_json::from_value(Value::Object(raw.clone()))
            .map_err(|e| bad("the file", "a LLaMA's configuration", e.to_string()))?;
        // What would change the results is refused by name rather than ignored.
        if let Some(act) = keys.hidden_act.filter(|a| a != "silu") {
            return Err(bad("hidden_act", "\"silu\"", format!("{act:?}")));
        }
        if let Some(factor) = keys.partial_rotary_factor.filter(|f| *f != 1.0) {
            return Err(bad("partial_rotary_factor", "1: every number of a head rotated", factor.to_string()));
        }
        let sliding_window = match raw.get("sliding_window") {
            _ if !mistral => None,
            // What transformers takes for a Mistral that does not say.
            None => Some(4096),
            Some(Value::Null) => None,
            Some(window) => match window.as_u64() {
                Some(window) if window > 0 => Some(window as usize),
                _ => return Err(bad("sliding_window", "a number of tokens or null", window.to_string())),
            },
        };
        let mut rope_theta = keys.rope_theta;
        let mut rope_scaling = RopeScaling::Default;
        for (key, value) in [("rope_scaling", keys.rope_scaling), ("rope_parameters", keys.rope_parameters)] {
            let Some(Value::Object(rope)) = value else { continue };
            let scaling = RopeScaling::from_json(file, key, &rope)?;
            if scaling != RopeScaling::Default {
                rope_scaling = scaling;
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
        let kv_heads = match keys.num_key_value_heads {
            Some(n) => n,
            // As transformers fills it in.
            None if mistral && !raw.contains_key("num_key_value_heads") => 8,
            None => heads,
        };
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
        if heads.checked_mul(head_dim).is_none_or(|all| all > MAX_DIMENSION) {
            let expected = format!("{heads} heads of together at most {MAX_DIMENSION}");
            return Err(bad("head_dim", &expected, head_dim.to_string()));
        }
        let most_positions = keys.max_position_embeddings.unwrap_or(if mistral { 4096 * 32 } else { 2048 });
        if most_positions == 0 || most_positions > MAX_DIMENSION {
            return Err(bad("max_position_embeddings", &format!("1 to {MAX_DIMENSION}"), most_positions.to_string()));
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
            max_position_embeddings: most_positions,
            rms_norm_eps: eps,
            rope_theta: theta,
            rope_scaling,
            attention_bias: keys.attention_bias.unwrap_or(false),
            mlp_bias: keys.mlp_bias.unwrap_or(false),
            sliding_window,
            tie_word_embeddings: keys.tie_word_embeddings.unwrap_or(false),
            initializer_range: keys.initializer_range.filter(|r| r.is_finite()).unwrap_or(0.02),
            bos_token_id: token_id(keys.bos_token_id.as_ref()),
            eos_token_id: token_id(keys.eos_token_id.as_ref()),
            pad_token_id: token_id(keys.pad_token_id.as_ref()),
            architecture: keys
                .architectures
                .and_then(|names| names.into_iter().next())
                .unwrap_or_else(|| if mistral { "MistralForCausalLM" } else { "LlamaForCausalLM" }.into()),
            labels: labels(keys.id2label.as_ref()),
            raw,
        })
    }

    /// Parameters of the body and, where it stands alone, of the language-model head.
    pub fn parameters(&self) -> u64 {
        let (d, f) = (self.hidden_size as u64, self.intermediate_size as u64);
        let q = (self.num_attention_heads * self.head_dim) as u64;
        let kv = (self.num_key_value_heads * self.head_dim) as u64;
        let biases = [(self.attention_bias, q + 2 * kv + d), (self.mlp_bias, 2 * f + d)];
        let biases: u64 = biases.iter().filter(|(has, _)| *has).map(|(_, n)| n).sum();
        let block = d * q * 2 + d * kv * 2 + 3 * d * f + 2 * d + biases;
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

    /// Tokens that a sequence may have: as many as the model was made for, more where its rotary embedding stretches, no
    /// more than a sliding window.
    pub fn longest(&self) -> usize {
        let stretch = match self.rope_scaling {
            RopeScaling::Linear { factor } | RopeScaling::Dynamic { factor } => factor,
            RopeScaling::Default | RopeScaling::Llama3 { .. } => 1.0,
        };
        let longest = (self.max_position_embeddings as f64 * stretch) as usize;
        self.sliding_window.map_or(longest, |window| longest.min(window))
    }

    /// Radians a position of each pair of a head's numbers, in a sequence of `seq` tokens.
    pub fn frequencies(&self, seq: usize) -> Vec<f32> {
        frequencies(self.rope_theta, self.head_dim, &self.rope_scaling, self.max_position_embeddings, seq)
    }

    /// Whether the file describes a model with a classification head.
    pub fn is_classifier(&self) -> bool {
        self.architecture.ends_with("ForSequenceClassification")
    }

    /// `config.json` for this model as a classifier of `labels`, other keys kept as they were.
    pub fn classifier_json(&self, labels: &[String]) -> Map<String, Value> {
        let mut raw = self.raw.clone();
        let id2label: Map<String, Value> =
            labels.iter().enumerate().map(|(id, label)| (id.to_string(), Value::from(label.as_str()))).collect();
        let label2id: Map<String, Value> =
            labels.iter().enumerate().map(|(id, label)| (label.clone(), Value::from(id))).collect();
        let family = if self.architecture.starts_with("Mistral") { "Mistral" } else { "Llama" };
        raw.insert("architectures".into(), vec![format!("{family}ForSequenceClassification")].into());
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

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// A small LLaMA with some keys changed; null takes one away.
    fn with(changes: Value) -> Result<LlamaConfig> {
        let mut raw = json!({
            "model_type": "llama", "vocab_size": 97, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2,
            "num_attention_heads": 8, "max_position_embeddings": 64,
        });
        let (Some(raw), Value::Object(changes)) = (raw.as_object_mut(), changes) else { unreachable!("objects") };
        raw.extend(changes);
        LlamaConfig::from_map("config.json", raw.clone())
    }

    #[test]
    fn what_would_change_the_results_is_refused_by_its_key() {
        for (changes, key) in [
            (json!({"model_type": "qwen2"}), "model_type"),
            (json!({"model_type": null}), "model_type"),
            (json!({"hidden_act": "gelu"}), "hidden_act"),
            (json!({"partial_rotary_factor": 0.5}), "partial_rotary_factor"),
            (json!({"rope_scaling": {"rope_type": "yarn", "factor": 4.0}}), "rope_scaling.rope_type"),
            (json!({"rope_parameters": {"rope_type": "longrope"}}), "rope_parameters.rope_type"),
            (json!({"rope_scaling": {"type": "linear"}}), "rope_scaling.factor"),
            (json!({"rope_scaling": {"type": "linear", "factor": 0.5}}), "rope_scaling.factor"),
            (json!({"rope_scaling": {"rope_type": "llama3", "factor": 8.0}}), "rope_scaling.low_freq_factor"),
            (json!({"model_type": "mistral", "sliding_window": 0}), "sliding_window"),
            (json!({"max_position_embeddings": 0}), "max_position_embeddings"),
            (json!({"head_dim": 16777216}), "head_dim"),
        ] {
            let error = with(changes.clone()).expect_err(key).to_string();
            assert!(error.contains(&format!("config.json: {key}:")), "{changes}: {error}");
        }
    }

    #[test]
    fn a_mistral_is_a_llama_within_its_window() {
        let mistral = |window: Value| {
            let mut keys = json!({"model_type": "mistral", "max_position_embeddings": 8192});
            if !window.is_boolean() {
                keys["sliding_window"] = window;
            }
            with(keys).expect("a Mistral")
        };
        assert_eq!(mistral(Value::Null).longest(), 8192);
        assert_eq!(mistral(json!(512)).longest(), 512);
        // Left out: what transformers fills in.
        let filled = mistral(json!(false));
        assert_eq!((filled.longest(), filled.num_key_value_heads), (4096, 8));
        assert_eq!(filled.architecture, "MistralForCausalLM");
        let classifier = filled.classifier_json(&["a".into(), "b".into()]);
        assert_eq!(classifier["architectures"], json!(["MistralForSequenceClassification"]));
        // A LLaMA has no window, whatever its file says.
        assert_eq!(with(json!({"sliding_window": 8})).expect("a LLaMA").longest(), 64);
    }

    #[test]
    fn stretched_positions_make_longer_sequences() {
        let longest = |rope: Value| with(json!({"rope_scaling": rope})).expect("a scaling").longest();
        assert_eq!(longest(json!({"type": "linear", "factor": 4.0})), 256);
        assert_eq!(longest(json!({"rope_type": "dynamic", "factor": 2.0})), 128);
        assert_eq!(longest(json!({"rope_type": "default"})), 64);
        let newer = json!({"rope_parameters": {"rope_type": "default", "rope_theta": 500000.0}});
        assert_eq!(with(newer).expect("newer files").rope_theta, 500_000.0);
    }

    #[test]
    fn biases_count_as_parameters() {
        let all = |changes| with(changes).expect("a LLaMA").parameters();
        // 32 for each of q, k, v, o; 48 for gate and up, 32 for down; two layers.
        let biased = all(json!({"attention_bias": true, "mlp_bias": true}));
        assert_eq!(biased - all(json!({})), 2 * (4 * 32 + 2 * 48 + 32));
    }
}
