//! A LLaMA in a GGUF file: its configuration, its names and its layout as Hugging Face has them.

use std::collections::{BTreeMap, HashSet};

use serde_json::{Map, Value as Json, json};

use super::{Gguf, TensorInfo};
use crate::{
    error::{Error, Result},
    model::{HeadKind, Llama, LlamaConfig, RopeScaling, frequencies},
    platform::NamedFile,
    weights::{PART, ggml::GgmlType, safetensors::DType},
};

/// GGUF's names of a block's layers, and Hugging Face's.
const LAYERS: [(&str, &str); 9] = [
    ("attn_norm", "input_layernorm"),
    ("attn_q", "self_attn.q_proj"),
    ("attn_k", "self_attn.k_proj"),
    ("attn_v", "self_attn.v_proj"),
    ("attn_output", "self_attn.o_proj"),
    ("ffn_norm", "post_attention_layernorm"),
    ("ffn_gate", "mlp.gate_proj"),
    ("ffn_up", "mlp.up_proj"),
    ("ffn_down", "mlp.down_proj"),
];

const EMBEDDING: &str = "token_embd.weight";
const HEAD: &str = "output.weight";
/// What each rotary frequency is divided by: Llama 3's scaling as converted.
const ROPE_FACTORS: &str = "rope_freqs.weight";

/// GGUF's name of a tensor that Hugging Face calls `name`; `None` for one that a GGUF cannot have.
pub fn gguf_name(name: &str) -> Option<String> {
    match name {
        "model.embed_tokens.weight" => return Some(EMBEDDING.into()),
        "model.norm.weight" => return Some("output_norm.weight".into()),
        "lm_head.weight" => return Some(HEAD.into()),
        _ => {}
    }
    let (layer, rest) = name.strip_prefix("model.layers.")?.split_once('.')?;
    let (module, kind) = rest.rsplit_once('.')?;
    let (short, _) = LAYERS.iter().find(|(_, hf)| *hf == module)?;
    Some(format!("blk.{layer}.{short}.{kind}"))
}

/// llama.cpp rotates neighbouring rows of a head, Hugging Face row `i` with row `i + head_dim / 2`: the row that row
/// `row` of a query or key projection in a GGUF is in Hugging Face's order.
pub fn permuted_row(row: usize, head_dim: usize) -> usize {
    let (head, within) = (row / head_dim, row % head_dim);
    head * head_dim + within % 2 * (head_dim / 2) + within / 2
}

fn is_permuted(name: &str) -> bool {
    [".self_attn.q_proj.", ".self_attn.k_proj."].iter().any(|part| name.contains(part))
}

/// An opened file: its tensors by Hugging Face's names.
pub struct GgufModel {
    pub gguf: Gguf,
    pub file: NamedFile,
    head_dim: usize,
}

impl GgufModel {
    /// The file's model and its configuration, as `config.json` would have it.
    pub async fn open(file: NamedFile) -> Result<(LlamaConfig, Self)> {
        let gguf = Gguf::read(&file).await?;
        let mut raw = config(&gguf)?;
        let mut model = Self { gguf, file, head_dim: 2 };
        if let Some(info) = model.gguf.tensors.get(ROPE_FACTORS) {
            let factors = model.values(ROPE_FACTORS, info, None).await?;
            if factors.iter().any(|f| *f != 1.0) {
                let scaling = llama3(&model.file.name, &raw, &factors)?;
                raw.insert("rope_scaling".into(), scaling);
            }
        }
        let config = LlamaConfig::from_map(&model.file.name, raw)?;
        model.head_dim = config.head_dim;
        model.only_known(&config)?;
        Ok((config, model))
    }

    /// A tensor without a place in a LLaMA (experts, norms of queries) would change the results.
    fn only_known(&self, config: &LlamaConfig) -> Result<()> {
        let shapes = Llama::shapes(config, HeadKind::CausalLm, 0);
        let known: HashSet<String> = shapes.iter().filter_map(|(name, _)| gguf_name(name)).collect();
        let more = self.gguf.tensors.keys().find(|name| {
            // Rotary angles that old converters stored are what the configuration says.
            !known.contains(*name) && *name != ROPE_FACTORS && !name.ends_with(".attn_rot_embd.weight")
        });
        match more {
            None => Ok(()),
            Some(name) => {
                Err(Error::format(&self.file.name, format!("tensor {name} is not part of a LLaMA"), ANOTHER_MODEL))
            }
        }
    }

    pub fn info(&self, name: &str) -> Option<&TensorInfo> {
        self.gguf.tensors.get(&gguf_name(name)?)
    }

    fn expect(&self, name: &str) -> Result<&TensorInfo> {
        let wanted = gguf_name(name).unwrap_or_else(|| name.into());
        self.gguf.tensors.get(&wanted).ok_or_else(|| {
            Error::weights(&self.file.name, Some(&wanted), "this tensor in the file", "none of that name")
        })
    }

    /// A tensor's numbers, rows in Hugging Face's order.
    pub async fn tensor(&self, name: &str) -> Result<(Vec<f32>, Vec<usize>)> {
        let info = self.expect(name)?;
        let permuted = is_permuted(name).then_some(self.head_dim);
        Ok((self.values(name, info, permuted).await?, info.shape.clone()))
    }

    /// A tensor's blocks as they are, rows in Hugging Face's order.
    pub async fn packed(&self, name: &str) -> Result<(GgmlType, Vec<u8>)> {
        let info = self.expect(name)?;
        let mut out = vec![0; info.len];
        let permuted = is_permuted(name).then_some(self.head_dim);
        self.rows(name, info, permuted, |row, bytes| {
            if let Some(to) = out.get_mut(row * bytes.len()..(row + 1) * bytes.len()) {
                to.copy_from_slice(bytes);
            }
        })
        .await?;
        Ok((info.ggml_type, out))
    }

    /// `permuted` is the size of the heads whose rows are to be put back.
    async fn values(&self, name: &str, info: &TensorInfo, permuted: Option<usize>) -> Result<Vec<f32>> {
        let mut out = vec![0f32; info.shape.iter().product()];
        self.rows(name, info, permuted, |row, bytes| {
            let columns = bytes.len() / info.ggml_type.block_bytes() * info.ggml_type.block();
            if let Some(to) = out.get_mut(row * columns..(row + 1) * columns) {
                info.ggml_type.dequantize(bytes, to);
            }
        })
        .await?;
        Ok(out)
    }

    /// Reads a part of the tensor at a time and hands over each row with its number in Hugging Face's order.
    async fn rows(
        &self,
        name: &str,
        info: &TensorInfo,
        permuted: Option<usize>,
        mut each: impl FnMut(usize, &[u8]),
    ) -> Result<()> {
        // A vector is one row, unless its numbers change places.
        let rows = match info.shape.as_slice() {
            [.., rows, _] => *rows,
            [n] if permuted.is_some() => *n,
            _ => 1,
        };
        let row_bytes = info.len / rows;
        if !info.len.is_multiple_of(rows) || !row_bytes.is_multiple_of(info.ggml_type.block_bytes()) {
            let got = format!("{:?} in {}", info.shape, info.ggml_type.name());
            return Err(Error::weights(&self.file.name, Some(name), "a bias of single numbers", got));
        }
        let at_once = (PART / row_bytes).max(1);
        for first in (0..rows).step_by(at_once) {
            let count = at_once.min(rows - first);
            let from = info.offset + (first * row_bytes) as u64;
            let bytes = self.file.blob.read(from, count * row_bytes).await;
            let bytes = bytes.map_err(|e| Error::io(&self.file.name, e))?;
            for (i, bytes) in bytes.chunks_exact(row_bytes).enumerate() {
                let row = first + i;
                each(permuted.map_or(row, |head_dim| permuted_row(row, head_dim)), bytes);
            }
        }
        Ok(())
    }

    /// The type that most of the file's bytes are of.
    pub fn main_type(&self) -> GgmlType {
        main_type(&self.gguf)
    }
}

const ANOTHER_MODEL: &str = "Choose a model of the LLaMA family; the README lists what loads.";

fn main_type(gguf: &Gguf) -> GgmlType {
    let mut bytes: BTreeMap<GgmlType, u64> = BTreeMap::new();
    for info in gguf.tensors.values() {
        *bytes.entry(info.ggml_type).or_default() += info.len as u64;
    }
    bytes.into_iter().max_by_key(|(_, bytes)| *bytes).map_or(GgmlType::F32, |(t, _)| t)
}

/// The type that weights out of this file are written as: a quantised file's numbers fit f16.
pub(in crate::weights) fn written_as(t: GgmlType) -> DType {
    match t {
        GgmlType::F32 => DType::F32,
        GgmlType::BF16 => DType::Bf16,
        _ => DType::F16,
    }
}

/// `config.json` by the metadata. What would change the results is refused by its key.
fn config(gguf: &Gguf) -> Result<Map<String, Json>> {
    let bad = |key: &str, expected: &str, got: String| Error::model(&gguf.file, key, expected, got);
    let refused = |key: &str, got: &str| {
        let message = format!("{key} is {got}, which Paddock cannot train");
        Error::format(&gguf.file, message, ANOTHER_MODEL)
    };
    match gguf.text("general.architecture") {
        Some("llama") => {}
        Some(other) => return Err(refused("general.architecture", other)),
        None => return Err(bad("general.architecture", "llama", "none".into())),
    }
    if let Some(parts) = gguf.unsigned("split.count").filter(|n| *n > 1) {
        return Err(Error::format(
            &gguf.file,
            format!("this is one of {parts} parts of a model"),
            "Put the parts together first: llama-gguf-split --merge FIRST_PART MODEL.gguf",
        ));
    }
    let whole = |key: &str| {
        gguf.unsigned(key).ok_or_else(|| bad(key, "a whole number", format!("{:?}", gguf.metadata.get(key))))
    };
    for key in ["llama.expert_count", "llama.attention.key_length_mla"] {
        if let Some(n) = gguf.unsigned(key).filter(|n| *n > 0) {
            return Err(refused(key, &n.to_string()));
        }
    }
    if gguf.bool("llama.attention.causal") == Some(false) {
        return Err(refused("llama.attention.causal", "false"));
    }
    let hidden = whole("llama.embedding_length")?;
    let heads = whole("llama.attention.head_count")?;
    let kv_heads = match gguf.metadata.get("llama.attention.head_count_kv") {
        None => heads,
        Some(_) => whole("llama.attention.head_count_kv")?,
    };
    let head_dim = match gguf.unsigned("llama.attention.key_length") {
        Some(dim) => dim,
        None if heads > 0 && hidden.is_multiple_of(heads) => hidden / heads,
        None => return Err(bad("llama.attention.head_count", "a divisor of embedding_length", heads.to_string())),
    };
    for key in ["llama.attention.value_length", "llama.rope.dimension_count"] {
        if let Some(dim) = gguf.unsigned(key).filter(|dim| *dim != head_dim) {
            return Err(bad(key, &format!("the size of a head ({head_dim})"), dim.to_string()));
        }
    }
    let embedding = gguf.tensors.get(EMBEDDING).map(|info| info.shape.as_slice());
    let Some([vocab_size, _]) = embedding else {
        return Err(Error::weights(&gguf.file, Some(EMBEDDING), "a matrix", format!("{embedding:?}")));
    };
    let number = |key: &str| match gguf.number(key) {
        // JSON has no such numbers: they would become none.
        Some(x) if !x.is_finite() => Err(bad(key, "a finite number", x.to_string())),
        x => Ok(x),
    };
    let eps_key = "llama.attention.layer_norm_rms_epsilon";
    let eps = number(eps_key)?.ok_or_else(|| bad(eps_key, "a number", "none".into()))?;
    let biased = |layers: &[&str]| layers.iter().any(|l| gguf.tensors.contains_key(&format!("blk.0.{l}.bias")));
    // A SentencePiece vocabulary that names neither has them at its usual places.
    let usual = |id| (gguf.text("tokenizer.ggml.model") == Some("llama")).then_some(id);
    let id = |name: &str| gguf.unsigned(&format!("tokenizer.ggml.{name}_token_id"));
    let mut raw = json!({
        "architectures": ["LlamaForCausalLM"],
        "attention_bias": biased(&["attn_q", "attn_k", "attn_v", "attn_output"]),
        "attention_dropout": 0.0,
        "bos_token_id": id("bos").or(usual(1)),
        "eos_token_id": id("eos").or(usual(2)),
        "head_dim": head_dim,
        "hidden_act": "silu",
        "hidden_size": hidden,
        "initializer_range": 0.02,
        "intermediate_size": whole("llama.feed_forward_length")?,
        "max_position_embeddings": whole("llama.context_length")?,
        "mlp_bias": biased(&["ffn_gate", "ffn_up", "ffn_down"]),
        "model_type": "llama",
        "num_attention_heads": heads,
        "num_hidden_layers": whole("llama.block_count")?,
        "num_key_value_heads": kv_heads,
        "pad_token_id": id("padding"),
        "rms_norm_eps": eps,
        "rope_scaling": linear(gguf)?,
        "rope_theta": number("llama.rope.freq_base")?.unwrap_or(10_000.0),
        "tie_word_embeddings": !gguf.tensors.contains_key(HEAD),
        "torch_dtype": written_as(main_type(gguf)).torch_name(),
        "vocab_size": vocab_size,
    });
    // A window over the attention is what Mistral has and LLaMA has not.
    if let (Some(window), Some(raw)) = (gguf.unsigned("llama.attention.sliding_window"), raw.as_object_mut()) {
        raw.insert("model_type".into(), "mistral".into());
        raw.insert("architectures".into(), json!(["MistralForCausalLM"]));
        raw.insert("sliding_window".into(), window.into());
    }
    match raw {
        Json::Object(raw) => Ok(raw),
        _ => Ok(Map::new()),
    }
}

/// `rope_scaling` by the metadata alone.
fn linear(gguf: &Gguf) -> Result<Json> {
    let key = "llama.rope.scaling.type";
    let factor = match gguf.text(key) {
        Some("linear") => {
            let key = "llama.rope.scaling.factor";
            Some(gguf.number(key).ok_or_else(|| Error::model(&gguf.file, key, "a number", "none"))?)
        }
        None | Some("none") => gguf.number("llama.rope.scale_linear"),
        Some(other) => {
            let message = format!("{key} is {other}; read are none and linear");
            return Err(Error::format(&gguf.file, message, ANOTHER_MODEL));
        }
    };
    Ok(match factor.filter(|f| *f != 1.0) {
        None => Json::Null,
        Some(factor) => json!({"type": "linear", "rope_type": "linear", "factor": factor}),
    })
}

/// The `rope_scaling` of Llama 3 that gives these divisors. The file has only the divisors; all such models have
/// `low_freq_factor` 1 and `high_freq_factor` 4.
fn llama3(file: &str, raw: &Map<String, Json>, divisors: &[f32]) -> Result<Json> {
    let unknown = || {
        let message = format!("{ROPE_FACTORS}: rotary frequencies scaled in another way than Llama 3's");
        Error::format(file, message, ANOTHER_MODEL)
    };
    let theta = raw.get("rope_theta").and_then(Json::as_f64).unwrap_or(10_000.0);
    let factor = divisors.iter().fold(1f32, |a, b| a.max(*b));
    let dim = divisors.len() * 2;
    if raw.get("rope_scaling").is_some_and(|s| !s.is_null())
        || raw.get("head_dim").and_then(Json::as_u64) != Some(dim as u64)
    {
        return Err(unknown());
    }
    let plain = frequencies(theta, dim, &RopeScaling::Default, 1, 1);
    for power in 4..=20 {
        let original = 1usize << power;
        let scaling = RopeScaling::Llama3 {
            factor: f64::from(factor),
            low_freq_factor: 1.0,
            high_freq_factor: 4.0,
            original_max_position_embeddings: original,
        };
        let scaled = frequencies(theta, dim, &scaling, 1, 1);
        let mut ratios = plain.iter().zip(&scaled).map(|(plain, scaled)| plain / scaled).zip(divisors);
        if ratios.all(|(ours, theirs)| (ours - theirs).abs() <= 1e-4 * theirs) {
            return Ok(json!({
                "rope_type": "llama3",
                "factor": factor,
                "low_freq_factor": 1.0,
                "high_freq_factor": 4.0,
                "original_max_position_embeddings": original,
            }));
        }
    }
    Err(unknown())
}
