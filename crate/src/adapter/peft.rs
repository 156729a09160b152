//! PEFT's layout of an adapter: `adapter_config.json` and `adapter_model.safetensors`.

use std::collections::BTreeSet;

use burn::tensor::{Device, Tensor, TensorData};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{PREFIX, scale, train_adapter_only};
use crate::{
    config::{LoraConfig, TARGET_MODULES},
    error::{Error, Result},
    model::{Head, Llama, Lora, Param},
    platform::Blob,
    weights::safetensors::Header,
};

/// `adapter_config.json`, the keys that PEFT needs to load a LoRA.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct PeftConfig {
    pub peft_type: String,
    /// `SEQ_CLS` or `CAUSAL_LM`.
    pub task_type: Option<String>,
    pub base_model_name_or_path: Option<String>,
    pub r: usize,
    pub lora_alpha: f64,
    #[serde(default)]
    pub lora_dropout: f64,
    pub target_modules: Targets,
    #[serde(default)]
    pub modules_to_save: Option<Vec<String>>,
    #[serde(default = "none")]
    pub bias: String,
    #[serde(default)]
    pub fan_in_fan_out: bool,
    #[serde(default)]
    pub inference_mode: bool,
    #[serde(default)]
    pub use_rslora: bool,
    #[serde(default)]
    pub use_dora: bool,
    #[serde(default)]
    pub rank_pattern: Map<String, Value>,
    #[serde(default)]
    pub alpha_pattern: Map<String, Value>,
    #[serde(default)]
    pub layers_to_transform: Option<Value>,
}

fn none() -> String {
    "none".into()
}

/// PEFT writes a list, or one string (`all-linear`, or a pattern).
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Targets {
    List(Vec<String>),
    One(String),
}

impl PeftConfig {
    pub fn new(config: &LoraConfig, base: &str, classifier: bool) -> Self {
        Self {
            peft_type: "LORA".into(),
            task_type: Some(if classifier { "SEQ_CLS" } else { "CAUSAL_LM" }.into()),
            base_model_name_or_path: Some(base.into()),
            r: config.r,
            lora_alpha: config.lora_alpha,
            lora_dropout: config.lora_dropout,
            target_modules: Targets::List(config.target_modules.clone()),
            modules_to_save: classifier.then(|| vec!["score".into()]),
            bias: none(),
            fan_in_fan_out: false,
            inference_mode: true,
            use_rslora: false,
            use_dora: false,
            rank_pattern: Map::new(),
            alpha_pattern: Map::new(),
            layers_to_transform: None,
        }
    }

    /// Reads and checks `adapter_config.json`; what would change the result is refused by the key's name.
    pub fn from_json(bytes: &[u8]) -> Result<Self> {
        let bad = |key: &str, expected: &str, got: String| Error::model("adapter_config.json", key, expected, got);
        let config: Self =
            serde_json::from_slice(bytes).map_err(|e| bad("the file", "PEFT's configuration", e.to_string()))?;
        if config.peft_type != "LORA" {
            return Err(bad("peft_type", "\"LORA\"", config.peft_type));
        }
        if config.r == 0 || config.r > 4096 {
            return Err(bad("r", "1 to 4096", config.r.to_string()));
        }
        if !config.lora_alpha.is_finite() {
            return Err(bad("lora_alpha", "a number", config.lora_alpha.to_string()));
        }
        if config.bias != "none" {
            return Err(bad("bias", "\"none\"", config.bias));
        }
        for (key, value) in [
            ("use_rslora", config.use_rslora),
            ("use_dora", config.use_dora),
            ("fan_in_fan_out", config.fan_in_fan_out),
        ] {
            if value {
                return Err(bad(key, "false", "true".into()));
            }
        }
        for (key, pattern) in [("rank_pattern", &config.rank_pattern), ("alpha_pattern", &config.alpha_pattern)] {
            if !pattern.is_empty() {
                return Err(bad(key, "none: every layer with the same rank and alpha", format!("{pattern:?}")));
            }
        }
        if let Some(layers) = config.layers_to_transform.as_ref().filter(|l| !l.is_null()) {
            return Err(bad("layers_to_transform", "none: an adapter on every layer", layers.to_string()));
        }
        config.lora()?;
        Ok(config)
    }

    /// The part that the layers need.
    pub fn lora(&self) -> Result<LoraConfig> {
        let bad = |got: String| {
            let expected = format!("some of {}", TARGET_MODULES.join(", "));
            Error::model("adapter_config.json", "target_modules", expected, got)
        };
        let target_modules = match &self.target_modules {
            Targets::One(all) if all == "all-linear" => TARGET_MODULES.map(String::from).to_vec(),
            Targets::One(pattern) => return Err(bad(format!("the pattern {pattern}"))),
            Targets::List(names) => names.clone(),
        };
        if let Some(name) = target_modules.iter().find(|n| !TARGET_MODULES.contains(&n.as_str())) {
            return Err(bad(name.clone()));
        }
        Ok(LoraConfig {
            r: self.r,
            lora_alpha: self.lora_alpha,
            lora_dropout: self.lora_dropout.clamp(0.0, 1.0),
            target_modules,
        })
    }
}

/// Puts an adapter's weights onto `model`, ready to be used or trained on. `model` must have the head that the adapter
/// was trained with; a saved `score` replaces the head's weight.
pub async fn load(model: &mut Llama, config: &LoraConfig, file: &str, blob: &dyn Blob, device: &Device) -> Result<()> {
    let header = Header::read(file, blob).await?;
    let mut unused: BTreeSet<String> = header.entries.keys().cloned().collect();
    for (name, short, linear) in model.linears_mut() {
        if !config.target_modules.iter().any(|t| t == short) {
            continue;
        }
        let [out, inputs] = linear.weight.dims();
        let mut part = async |kind: &str, shape: [usize; 2]| -> Result<Param> {
            let name = format!("{PREFIX}{name}.{kind}.weight");
            let (values, found) = header.tensor(blob, &name).await?;
            if found != shape {
                let got = format!("{found:?}: the adapter belongs to another base model");
                return Err(Error::weights(file, Some(&name), format!("{shape:?}"), got));
            }
            unused.remove(&name);
            Ok(Param::new(name, Tensor::from_data(TensorData::new(values, shape), device), false))
        };
        linear.lora = Some(Lora {
            a: part("lora_A", [config.r, inputs]).await?,
            b: part("lora_B", [out, config.r]).await?,
            scale: scale(config),
            dropout: config.lora_dropout,
        });
    }
    if let Head::Classification(score) = &mut model.head {
        let name = [format!("{PREFIX}score.weight"), format!("{PREFIX}score.modules_to_save.default.weight")]
            .into_iter()
            .find(|n| header.entries.contains_key(n))
            .ok_or_else(|| Error::weights(file, None, "a classification head (score.weight)", "none"))?;
        let (values, found) = header.tensor(blob, &name).await?;
        let shape = score.weight.dims();
        if found != shape {
            return Err(Error::weights(file, Some(&name), format!("{shape:?}"), format!("{found:?}")));
        }
        score.weight.set(Tensor::from_data(TensorData::new(values, shape), device));
        unused.remove(&name);
    }
    if let Some(name) = unused.first() {
        let got = format!("{} tensors more than this model has places for", unused.len());
        return Err(Error::weights(file, Some(name), "an adapter of the opened base model", got));
    }
    train_adapter_only(model);
    Ok(())
}

/// What an adapter's file holds: PEFT's name, the weight's own name, its shape.
pub fn names(model: &mut Llama) -> Vec<(String, String, Vec<usize>)> {
    let mut out = Vec::new();
    for param in model.params_mut() {
        let name = match param.name.as_str() {
            "score.weight" => format!("{PREFIX}score.weight"),
            name if name.starts_with(PREFIX) => name.to_string(),
            _ => continue,
        };
        out.push((name, param.name.clone(), param.shape()));
    }
    out
}
