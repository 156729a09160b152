//! A new, untrained model as the files of a Hugging Face folder.

use serde_json::{Value, json};

use super::{HeadKind, Llama, LlamaConfig};
use crate::{
    error::Result,
    rng::{INIT, normal, stream},
    weights::{
        folder::json_bytes,
        safetensors::{DType, Named, write},
    },
};

/// The sizes that a new model is made by, under `config.json`'s names.
#[derive(Debug, Clone)]
pub struct Sizes {
    pub vocab_size: usize,
    pub hidden_size: usize,
    pub intermediate_size: usize,
    pub num_hidden_layers: usize,
    pub num_attention_heads: usize,
    pub num_key_value_heads: usize,
    pub max_position_embeddings: usize,
}

/// `config.json` and `model.safetensors` of a causal LLaMA with tied embeddings: matrices normal with
/// `initializer_range` 0.02, norms one. `special` are the ids of the beginning, the end and the padding.
///
/// # Errors
/// Sizes that do not fit each other, by the key's name.
pub fn init(sizes: &Sizes, special: [Option<u32>; 3], dtype: DType, seed: u64) -> Result<Vec<(String, Vec<u8>)>> {
    let [bos, eos, pad] = special;
    let config: Value = json!({
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "vocab_size": sizes.vocab_size,
        "hidden_size": sizes.hidden_size,
        "intermediate_size": sizes.intermediate_size,
        "num_hidden_layers": sizes.num_hidden_layers,
        "num_attention_heads": sizes.num_attention_heads,
        "num_key_value_heads": sizes.num_key_value_heads,
        "max_position_embeddings": sizes.max_position_embeddings,
        "hidden_act": "silu",
        "rms_norm_eps": 1e-5,
        "rope_theta": 10000.0,
        "tie_word_embeddings": true,
        "attention_bias": false,
        "mlp_bias": false,
        "initializer_range": 0.02,
        "bos_token_id": bos,
        "eos_token_id": eos,
        "pad_token_id": pad,
        "torch_dtype": dtype.torch_name(),
    });
    let json = json_bytes(&config);
    let parsed = LlamaConfig::from_json(&json)?;
    let mut rng = stream(seed, INIT);
    let tensors: Vec<Named> = Llama::shapes(&parsed, HeadKind::CausalLm, 0)
        .into_iter()
        .map(|(name, shape)| {
            let n = shape.iter().product();
            let values = if shape.len() == 1 { vec![1.0; n] } else { normal(&mut rng, n, 0.02) };
            (name, shape, values)
        })
        .collect();
    Ok(vec![("config.json".into(), json), ("model.safetensors".into(), write(&tensors, dtype))])
}
