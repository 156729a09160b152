//! GGUF files for llama.cpp and its kin: the merged model, or its adapter alone.

use super::{piece::Planned, vocabulary};
use crate::{
    adapter,
    apply::Applied,
    error::{Error, Result},
    event::ExportDType,
    model::{HeadKind, Llama, LlamaConfig, RopeScaling, frequencies},
    weights::{
        gguf,
        gguf_write::{Info, Meta, header, padding},
    },
};

/// A weight on its way into the file.
struct Tensor {
    info: Info,
    /// Its own name here.
    name: String,
    dtype: ExportDType,
    head: Option<usize>,
}

impl Tensor {
    /// Vectors stay in F32; where rows do not come in whole blocks, F16 takes the blocks' place.
    fn new(name: String, gguf_name: String, shape: Vec<usize>, dtype: ExportDType, head: Option<usize>) -> Self {
        let whole = shape.last().is_some_and(|columns| columns.is_multiple_of(dtype.ggml().block()));
        let dtype = match dtype {
            _ if shape.len() < 2 => ExportDType::F32,
            _ if !whole => ExportDType::F16,
            dtype => dtype,
        };
        let bytes = dtype.bytes(shape.iter().map(|n| *n as u64).product());
        Self { info: Info { name: gguf_name, shape, kind: dtype.ggml().id(), bytes }, name, dtype, head }
    }
}

/// The model with its adapter folded in.
pub(super) fn merged(applied: &Applied, file: String, dtype: ExportDType) -> Result<Planned> {
    let config = applied.folder.config();
    let mut meta = general(applied, "model", dtype);
    meta.extend(hyperparameters(config)?);
    meta.extend(vocabulary::metadata(&applied.folder.texts, config)?);
    let mut tensors = Vec::new();
    for (name, shape) in Llama::shapes(config, HeadKind::CausalLm, 0) {
        let gguf_name = gguf_name(&name)?;
        let head = rotated(&name).then_some(config.head_dim);
        tensors.push(Tensor::new(name, gguf_name, shape, dtype, head));
    }
    Ok(assemble(file, &meta, tensors, rotary_factors(config)))
}

/// The adapter alone, as llama.cpp's `--lora` takes it.
pub(super) fn adapter(applied: &mut Applied, file: String, dtype: ExportDType) -> Result<Planned> {
    let mut meta = general(applied, "adapter", dtype);
    meta.push(("adapter.type".into(), Meta::Text("lora".into())));
    meta.push(("adapter.lora.alpha".into(), Meta::F32(applied.config.lora.lora_alpha as f32)));
    let head_dim = applied.folder.config().head_dim;
    let mut tensors = Vec::new();
    for (_, name, shape) in adapter::names(&mut applied.model) {
        let inner = name.strip_prefix(adapter::PREFIX).unwrap_or(&name);
        let (layer, part) = match inner.split_once(".lora_") {
            Some((layer, part)) if part.starts_with('A') => (layer, "lora_a"),
            Some((layer, _)) => (layer, "lora_b"),
            None => return Err(Error::weights(&file, Some(&name), "a part of an adapter", "another weight")),
        };
        let layer = format!("{layer}.weight");
        // B makes the rows of Q and K that change places.
        let head = (part == "lora_b" && rotated(&layer)).then_some(head_dim);
        let gguf_name = format!("{}.{part}", gguf_name(&layer)?);
        tensors.push(Tensor::new(name, gguf_name, shape, dtype, head));
    }
    Ok(assemble(file, &meta, tensors, None))
}

fn assemble(file: String, meta: &[(String, Meta)], tensors: Vec<Tensor>, factors: Option<Vec<f32>>) -> Planned {
    let mut infos: Vec<Info> = tensors.iter().map(|tensor| tensor.info.clone()).collect();
    if let Some(factors) = &factors {
        let bytes = factors.len() as u64 * 4;
        infos.push(Info { name: "rope_freqs.weight".into(), shape: vec![factors.len()], kind: 0, bytes });
    }
    let mut planned = Planned::new(file);
    planned.push(header(meta, &infos));
    for tensor in tensors {
        planned.tensor(&tensor.name, &tensor.info.shape, tensor.dtype, tensor.head);
        let pad = padding(tensor.info.bytes);
        if !pad.is_empty() {
            planned.push(pad);
        }
    }
    if let Some(factors) = factors {
        let mut bytes: Vec<u8> = factors.iter().flat_map(|value| value.to_le_bytes()).collect();
        bytes.extend(padding(bytes.len() as u64));
        planned.push(bytes);
    }
    planned
}

fn general(applied: &Applied, kind: &str, dtype: ExportDType) -> Vec<(String, Meta)> {
    let text = |value: &str| Meta::Text(value.into());
    let file_type = match dtype {
        ExportDType::F32 => 0,
        ExportDType::F16 => 1,
        ExportDType::Q8_0 => 7,
        ExportDType::Bf16 => 32,
    };
    vec![
        ("general.architecture".into(), text("llama")),
        ("general.type".into(), text(kind)),
        ("general.name".into(), text(&applied.folder.name)),
        ("general.file_type".into(), Meta::U32(file_type)),
        ("general.quantization_version".into(), Meta::U32(2)),
    ]
}

/// `llama.*`
fn hyperparameters(config: &LlamaConfig) -> Result<Vec<(String, Meta)>> {
    let size = |key: &str, value: usize| {
        let value = u32::try_from(value).map_err(|_| Error::model("config.json", key, "a number of 32 bits", value))?;
        Ok((format!("llama.{key}"), Meta::U32(value)))
    };
    let mut out = vec![
        size("vocab_size", config.vocab_size)?,
        size("context_length", config.max_position_embeddings)?,
        size("embedding_length", config.hidden_size)?,
        size("block_count", config.num_hidden_layers)?,
        size("feed_forward_length", config.intermediate_size)?,
        size("attention.head_count", config.num_attention_heads)?,
        size("attention.head_count_kv", config.num_key_value_heads)?,
        size("attention.key_length", config.head_dim)?,
        size("attention.value_length", config.head_dim)?,
        size("rope.dimension_count", config.head_dim)?,
    ];
    let float = |key: &str, value: f64| (format!("llama.{key}"), Meta::F32(value as f32));
    out.push(float("attention.layer_norm_rms_epsilon", config.rms_norm_eps));
    out.push(float("rope.freq_base", config.rope_theta));
    match config.rope_scaling {
        RopeScaling::Default | RopeScaling::Llama3 { .. } => {}
        RopeScaling::Linear { factor } => {
            out.push(("llama.rope.scaling.type".into(), Meta::Text("linear".into())));
            out.push(float("rope.scaling.factor", factor));
        }
        RopeScaling::Dynamic { .. } => {
            let advice = "Export the model as a merged Hugging Face folder instead.";
            return Err(Error::session("GGUF has no rotary scaling of the kind `dynamic`.", advice));
        }
    }
    Ok(out)
}

/// What each rotary frequency is divided by (`rope_freqs.weight`) where the model scales them as Llama 3.1 does.
fn rotary_factors(config: &LlamaConfig) -> Option<Vec<f32>> {
    let RopeScaling::Llama3 { .. } = config.rope_scaling else { return None };
    let of = |scaling| frequencies(config.rope_theta, config.head_dim, scaling, config.max_position_embeddings, 1);
    let (plain, scaled) = (of(&RopeScaling::Default), of(&config.rope_scaling));
    Some(plain.iter().zip(scaled).map(|(plain, scaled)| plain / scaled).collect())
}

/// Whether rotary positions turn this weight's output.
fn rotated(name: &str) -> bool {
    [".self_attn.q_proj.", ".self_attn.k_proj."].iter().any(|part| name.contains(part))
}

/// llama.cpp's name for one of Hugging Face's.
fn gguf_name(name: &str) -> Result<String> {
    gguf::gguf_name(name)
        .ok_or_else(|| Error::weights("the model", Some(name), "a weight that GGUF has a name for", "another"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn rotary_scaling_is_written_as_llama_cpp_takes_it() {
        let config = |scaling| {
            let json = json!({"model_type": "llama", "vocab_size": 8, "hidden_size": 64, "intermediate_size": 8,
                "num_hidden_layers": 1, "num_attention_heads": 1, "rope_theta": 500000.0, "rope_scaling": scaling});
            LlamaConfig::from_json(json.to_string().as_bytes()).expect("config")
        };
        let llama3 = config(json!({"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0,
            "high_freq_factor": 4.0, "original_max_position_embeddings": 8192}));
        let factors = rotary_factors(&llama3).expect("factors");
        assert_eq!((factors.len(), factors[0], factors[31]), (32, 1.0, 8.0));
        assert!(factors.is_sorted() && factors.iter().any(|f| *f > 1.1 && *f < 7.9), "{factors:?}");
        let linear = config(json!({"rope_type": "linear", "factor": 2.0}));
        assert_eq!(rotary_factors(&linear), None);
        let meta = hyperparameters(&linear).expect("linear");
        assert!(meta.contains(&("llama.rope.scaling.factor".into(), Meta::F32(2.0))), "{meta:?}");
        let error = hyperparameters(&config(json!({"rope_type": "dynamic", "factor": 2.0}))).expect_err("dynamic");
        assert!(error.to_string().contains("dynamic"), "{error}");
    }
}
