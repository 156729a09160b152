//! A model's weights wherever they come from, read by Hugging Face's names when a run needs them.

use super::{
    Shards,
    ggml::GgmlType,
    gguf::{GgufModel, written_as},
    safetensors::DType,
};
use crate::{
    error::{Error, Result},
    model::{HeadKind, Llama, LlamaConfig},
    platform::NamedFile,
};

/// Files that hold tensors.
pub enum Source {
    Safetensors(Shards),
    Gguf(Box<GgufModel>),
}

impl From<Shards> for Source {
    fn from(shards: Shards) -> Self {
        Self::Safetensors(shards)
    }
}

impl From<GgufModel> for Source {
    fn from(model: GgufModel) -> Self {
        Self::Gguf(Box::new(model))
    }
}

/// A model's weights, checked against its configuration.
pub struct Weights {
    pub config: LlamaConfig,
    source: Source,
}

impl Weights {
    /// A model in one safetensors file.
    pub async fn open(config: LlamaConfig, file: NamedFile) -> Result<Self> {
        Self::new(config, Shards::single(file).await?)
    }

    /// Checks every tensor's shape against the configuration.
    pub fn new(config: LlamaConfig, source: impl Into<Source>) -> Result<Self> {
        let weights = Self { config, source: source.into() };
        for (tensor, shape) in Llama::shapes(&weights.config, HeadKind::CausalLm, 0) {
            let expected = format!("{shape:?}");
            let bad = |got: String| Err(Error::weights(weights.file(&tensor), Some(&tensor), expected, got));
            match weights.shape(&tensor) {
                // A classifier has none, and a missing one is told when a run wants it.
                None if tensor == "lm_head.weight" => {}
                None => return bad("no such tensor".into()),
                Some(found) if found != shape => {
                    return bad(format!("{found:?}: the configuration belongs to another model"));
                }
                Some(_) => {}
            }
        }
        Ok(weights)
    }

    /// All files.
    pub fn files(&self) -> Vec<&NamedFile> {
        match &self.source {
            Source::Safetensors(shards) => shards.files().collect(),
            Source::Gguf(model) => vec![&model.file],
        }
    }

    /// The file that holds a tensor.
    fn file(&self, name: &str) -> &str {
        match &self.source {
            Source::Safetensors(shards) => shards.file(name),
            Source::Gguf(model) => &model.file.name,
        }
    }

    pub fn shape(&self, name: &str) -> Option<&[usize]> {
        match &self.source {
            Source::Safetensors(shards) => shards.entry(name).map(|entry| entry.shape.as_slice()),
            Source::Gguf(model) => model.info(name).map(|info| info.shape.as_slice()),
        }
    }

    /// How a tensor is stored: `BF16`, `Q4_K`.
    pub fn stored_as(&self, name: &str) -> Option<&'static str> {
        match &self.source {
            Source::Safetensors(shards) => shards.entry(name).map(|entry| entry.dtype.name()),
            Source::Gguf(model) => model.info(name).map(|info| info.ggml_type.name()),
        }
    }

    /// How a tensor is stored, by GGML's types.
    pub fn ggml_type(&self, name: &str) -> Option<GgmlType> {
        match &self.source {
            Source::Safetensors(shards) => shards.entry(name).map(|entry| match entry.dtype {
                DType::F32 => GgmlType::F32,
                DType::F16 => GgmlType::F16,
                DType::Bf16 => GgmlType::BF16,
            }),
            Source::Gguf(model) => model.info(name).map(|info| info.ggml_type),
        }
    }

    /// One tensor as f32, with its shape.
    pub async fn tensor(&self, name: &str) -> Result<(Vec<f32>, Vec<usize>)> {
        match &self.source {
            Source::Safetensors(shards) => shards.tensor(name).await,
            Source::Gguf(model) => model.tensor(name).await,
        }
    }

    /// One tensor's blocks as a GGUF file has them, rows one after the other and in Hugging Face's order. `None` for
    /// other files, which have no blocks.
    pub async fn packed(&self, name: &str) -> Result<Option<(GgmlType, Vec<u8>)>> {
        match &self.source {
            Source::Safetensors(_) => Ok(None),
            Source::Gguf(model) => model.packed(name).await.map(Some),
        }
    }

    /// Whether there is a classification head with this many outputs.
    pub fn has_head(&self, outputs: usize) -> bool {
        self.shape("score.weight") == Some(&[outputs, self.config.hidden_size])
    }

    /// The type that these weights are written as after full fine-tuning.
    pub fn dtype(&self) -> DType {
        match &self.source {
            Source::Safetensors(shards) => shards.entry("model.embed_tokens.weight").map_or(DType::F32, |e| e.dtype),
            Source::Gguf(model) => written_as(model.main_type()),
        }
    }

    /// The type that most of the weights are stored as.
    pub fn main_type(&self) -> &'static str {
        match &self.source {
            Source::Safetensors(_) => self.dtype().name(),
            Source::Gguf(model) => model.main_type().name(),
        }
    }

    /// Bytes of all files.
    pub fn bytes(&self) -> u64 {
        match &self.source {
            Source::Safetensors(shards) => shards.bytes(),
            Source::Gguf(model) => model.file.blob.size(),
        }
    }
}
