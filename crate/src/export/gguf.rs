//! GGUF files for llama.cpp and its kin: the merged model, or its adapter alone.

use super::{piece::Planned, vocabulary};
use crate::{
    adapter,
    apply::Applied,
    error::{Error, Result},
    event::ExportDType,
    model::{HeadKind, Llama, LlamaConfig},
    weights::gguf_write::{BLOCK, Info, Meta, header, padding},
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
    /// Vectors stay in F32, and so does what does not come in whole blocks, in F16.
    fn new(name: String, gguf_name: String, shape: Vec<usize>, dtype: ExportDType, head: Option<usize>) -> Self {
        let whole = shape.last().is_some_and(|columns| columns.is_multiple_of(BLOCK));
        let dtype = match dtype {
            _ if shape.len() < 2 => ExportDType::F32,
            ExportDType::Q8_0 if !whole => ExportDType::F16,
            dtype => dtype,
        };
        let kind = match dtype {
            ExportDType::F32 => 0,
            ExportDType::F16 => 1,
            ExportDType::Q8_0 => 8,
            ExportDType::Bf16 => 30,
        };
        let bytes = dtype.bytes(shape.iter().map(|n| *n as u64).product());
        Self { info: Info { name: gguf_name, shape, kind, bytes }, name, dtype, head }
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
    Ok(assemble(file, &meta, tensors, rotary_factors(config)?))
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
    if let Some((kind, scaling)) = scaling(config)
        && kind == "linear"
    {
        out.push(("llama.rope.scaling.type".into(), Meta::Text("linear".into())));
        out.push(float("rope.scaling.factor", scaling("factor")?));
    }
    Ok(out)
}

/// The kind of rotary scaling and its numbers by their keys, where config.json asks for one.
fn scaling(config: &LlamaConfig) -> Option<(String, impl Fn(&str) -> Result<f64>)> {
    let rope = config.raw.get("rope_scaling").or(config.raw.get("rope_parameters"))?.as_object()?.clone();
    let kind = rope.get("rope_type").or(rope.get("type"))?.as_str().filter(|kind| *kind != "default")?.to_owned();
    let number = move |key: &str| {
        let value = rope.get(key).and_then(serde_json::Value::as_f64).filter(|value| *value > 0.0);
        value.ok_or_else(|| Error::model("config.json", format!("rope_scaling.{key}"), "a positive number", "none"))
    };
    Some((kind, number))
}

/// What each rotary frequency is divided by (`rope_freqs.weight`) where the model scales them as Llama 3.1 does.
fn rotary_factors(config: &LlamaConfig) -> Result<Option<Vec<f32>>> {
    let Some((kind, scaling)) = scaling(config) else { return Ok(None) };
    match kind.as_str() {
        "linear" => return Ok(None),
        "llama3" => {}
        _ => {
            let advice = "Export the model as a merged Hugging Face folder instead.";
            return Err(Error::session(format!("GGUF has no rotary scaling of the kind `{kind}`."), advice));
        }
    }
    let (factor, context) = (scaling("factor")?, scaling("original_max_position_embeddings")?);
    let (low, high) = (scaling("low_freq_factor")?, scaling("high_freq_factor")?);
    let factors = (0..config.head_dim / 2).map(|i| {
        let wavelength = std::f64::consts::TAU * config.rope_theta.powf(2.0 * i as f64 / config.head_dim as f64);
        if wavelength < context / high {
            return 1.0;
        }
        if wavelength > context / low {
            return factor as f32;
        }
        let smooth = (context / wavelength - low) / (high - low);
        (1.0 / ((1.0 - smooth) / factor + smooth)) as f32
    });
    Ok(Some(factors.collect()))
}

/// Whether rotary positions turn this weight's output.
fn rotated(name: &str) -> bool {
    name.ends_with("q_proj.weight") || name.ends_with("k_proj.weight")
}

/// llama.cpp's name for one of Hugging Face's.
fn gguf_name(name: &str) -> Result<String> {
    let unknown = || Error::weights("the model", Some(name), "a weight that GGUF has a name for", "another");
    let top = match name {
        "model.embed_tokens.weight" => Some("token_embd.weight"),
        "model.norm.weight" => Some("output_norm.weight"),
        "lm_head.weight" => Some("output.weight"),
        _ => None,
    };
    if let Some(top) = top {
        return Ok(top.into());
    }
    let (layer, rest) = name.strip_prefix("model.layers.").and_then(|rest| rest.split_once('.')).ok_or_else(unknown)?;
    let (module, kind) = rest.rsplit_once('.').ok_or_else(unknown)?;
    let part = match module {
        "input_layernorm" => "attn_norm",
        "self_attn.q_proj" => "attn_q",
        "self_attn.k_proj" => "attn_k",
        "self_attn.v_proj" => "attn_v",
        "self_attn.o_proj" => "attn_output",
        "post_attention_layernorm" => "ffn_norm",
        "mlp.gate_proj" => "ffn_gate",
        "mlp.up_proj" => "ffn_up",
        "mlp.down_proj" => "ffn_down",
        _ => return Err(unknown()),
    };
    Ok(format!("blk.{layer}.{part}.{kind}"))
}
