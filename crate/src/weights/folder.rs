//! A Hugging Face folder, opened: configuration, tokenizer, and weights that are read when a run needs them.

use std::{collections::HashMap, rc::Rc};

use burn::tensor::{Device, Tensor, TensorData};
use rand::Rng;
use serde_json::Value;

use super::safetensors::{DType, Header};
use crate::{
    error::{Error, Result},
    event::ModelSummary,
    model::{HeadKind, Llama, LlamaConfig, Param},
    platform::NamedFile,
    rng::normal,
    tokenizer::{ChatTemplate, SpecialIds, Tokenizer, TokenizerConfig, tokenizer_model_json},
};

const WEIGHTS: &str = "model.safetensors";
const TOKENIZER_CONFIG: &str = "tokenizer_config.json";
const CHAT_TEMPLATE: &str = "chat_template.jinja";

/// Larger configuration and tokenizer files are refused.
const MAX_TEXT: u64 = 256 << 20;

/// A model's weights: read by name when a run needs them.
pub struct Weights {
    pub config: LlamaConfig,
    header: Header,
    file: NamedFile,
}

impl Weights {
    /// Checks the file's header against the configuration.
    pub async fn open(config: LlamaConfig, file: NamedFile) -> Result<Self> {
        let name = file.name.as_str();
        let header = Header::read(name, file.blob.as_ref()).await?;
        for (tensor, shape) in Llama::shapes(&config, HeadKind::CausalLm, 0) {
            match header.entries.get(&tensor) {
                // A classifier has none, and a missing one is told when a run wants it.
                None if tensor == "lm_head.weight" => {}
                None => return Err(Error::weights(name, Some(&tensor), format!("{shape:?}"), "no such tensor")),
                Some(entry) if entry.shape != shape => {
                    let got = format!("{:?}: config.json belongs to another model", entry.shape);
                    return Err(Error::weights(name, Some(&tensor), format!("{shape:?}"), got));
                }
                Some(_) => {}
            }
        }
        Ok(Self { config, header, file })
    }

    /// Whether the file holds a classification head with this many outputs.
    pub fn has_head(&self, outputs: usize) -> bool {
        let shape = [outputs, self.config.hidden_size];
        self.header.entries.get("score.weight").is_some_and(|e| e.shape == shape)
    }

    /// How the numbers are stored.
    pub fn dtype(&self) -> DType {
        self.header.entries.get("model.embed_tokens.weight").map_or(DType::F32, |e| e.dtype)
    }
}

/// A model's files, checked against each other.
pub struct Folder {
    pub name: String,
    pub weights: Rc<Weights>,
    pub tokenizer: Tokenizer,
    /// Files to hand on beside fully fine-tuned weights.
    pub texts: Vec<(String, Vec<u8>)>,
}

impl Folder {
    /// Opens the files of one folder, in any order; files of other names are ignored.
    pub async fn open(name: String, files: Vec<NamedFile>) -> Result<Self> {
        let mut files: HashMap<String, NamedFile> = files.into_iter().map(|f| (f.name.clone(), f)).collect();
        let config = LlamaConfig::from_json(&text(&mut files, "config.json").await?)?;
        let json = tokenizer_json(&mut files).await?;
        let weights = match files.remove(WEIGHTS) {
            Some(file) => Weights::open(config, file).await?,
            None => return Err(no_weights(&files)),
        };
        let config = &weights.config;
        let special = SpecialIds { bos: config.bos_token_id, eos: config.eos_token_id, pad: config.pad_token_id };
        let tokenizer = Tokenizer::from_json_bytes("tokenizer.json", &json, special)?;
        tokenizer.check_model_vocab(config.vocab_size)?;
        let mut texts = vec![("tokenizer.json".to_string(), json)];
        for extra in [TOKENIZER_CONFIG, CHAT_TEMPLATE, "special_tokens_map.json", "generation_config.json"] {
            if files.contains_key(extra) {
                texts.push((extra.into(), text(&mut files, extra).await?));
            }
        }
        Ok(Self { name, weights: Rc::new(weights), tokenizer, texts })
    }

    pub fn config(&self) -> &LlamaConfig {
        &self.weights.config
    }

    /// How the model wants conversations written, where its files say so. `now` is what [`ChatTemplate::new`] wants.
    pub fn chat_template(&self, now: u64) -> Result<Option<ChatTemplate>> {
        let file = |name: &str| self.texts.iter().find(|(known, _)| known == name).map(|(_, bytes)| bytes.as_slice());
        let config = file(TOKENIZER_CONFIG).map(TokenizerConfig::from_json_bytes).transpose()?.unwrap_or_default();
        if let Some(source) = file(CHAT_TEMPLATE) {
            return ChatTemplate::new(CHAT_TEMPLATE, &String::from_utf8_lossy(source), &config, now).map(Some);
        }
        let source = config.chat_template(None)?;
        source.map(|source| ChatTemplate::new(TOKENIZER_CONFIG, source, &config, now)).transpose()
    }

    pub fn summary(&self) -> ModelSummary {
        let config = self.config();
        ModelSummary {
            name: self.name.clone(),
            architecture: config.architecture.clone(),
            parameters: config.parameters(),
            hidden_size: config.hidden_size,
            layers: config.num_hidden_layers,
            vocab_size: config.vocab_size,
            max_position_embeddings: config.max_position_embeddings,
            dtype: self.weights.dtype().name().into(),
            file_bytes: self.weights.file.blob.size(),
        }
    }
}

async fn text(files: &mut HashMap<String, NamedFile>, name: &str) -> Result<Vec<u8>> {
    let file = files.remove(name).ok_or_else(|| {
        let there = if files.is_empty() { "no file at all".into() } else { listed(files) };
        Error::model(name, "the file", "one in the model's folder", format!("none; there is {there}"))
    })?;
    whole(&file).await
}

async fn whole(NamedFile { name, blob }: &NamedFile) -> Result<Vec<u8>> {
    let size = blob.size();
    if size > MAX_TEXT {
        return Err(Error::model(name, "the file", format!("at most {MAX_TEXT} bytes"), format!("{size} bytes")));
    }
    blob.read(0, size as usize).await.map_err(|e| Error::io(name, e))
}

/// The folder's tokenizer.json, or one made of its tokenizer.model.
async fn tokenizer_json(files: &mut HashMap<String, NamedFile>) -> Result<Vec<u8>> {
    const MODEL: &str = "tokenizer.model";
    if files.contains_key("tokenizer.json") || !files.contains_key(MODEL) {
        return text(files, "tokenizer.json").await;
    }
    let bytes = text(files, MODEL).await?;
    let config = match files.get(TOKENIZER_CONFIG) {
        Some(file) => TokenizerConfig::from_json_bytes(&whole(file).await?)?,
        None => TokenizerConfig::default(),
    };
    tokenizer_model_json(MODEL, &bytes, &config)
}

fn listed(files: &HashMap<String, NamedFile>) -> String {
    let mut names: Vec<&str> = files.keys().map(String::as_str).take(20).collect();
    names.sort_unstable();
    names.join(", ")
}

fn no_weights(files: &HashMap<String, NamedFile>) -> Error {
    let got = if files.keys().any(|n| n.ends_with(".safetensors") || n.ends_with(".index.json")) {
        "a model in several parts, which Paddock does not read yet: save it as one file \
         (save_pretrained(…, max_shard_size=\"100GB\"))"
            .to_string()
    } else if files.keys().any(|n| n.ends_with(".bin") || n.ends_with(".pt") || n.ends_with(".gguf")) {
        "weights in another format: save the model as safetensors (save_pretrained(…, safe_serialization=True))".into()
    } else {
        format!("none; there is {}", listed(files))
    };
    Error::weights(WEIGHTS, None, "the model's weights in its folder", got)
}

/// Reads a model onto a device, one tensor a call.
pub struct Loader {
    weights: Rc<Weights>,
    head: HeadKind,
    outputs: usize,
    device: Device,
    /// What is still to come, last first.
    todo: Vec<(String, Vec<usize>)>,
    done: HashMap<String, Param>,
    total: usize,
}

impl Loader {
    /// `outputs` is the number of classes of a classification head.
    pub fn new(weights: Rc<Weights>, head: HeadKind, outputs: usize, device: Device) -> Self {
        let mut todo = Llama::shapes(&weights.config, head, outputs);
        todo.reverse();
        let total = todo.len();
        Self { weights, head, outputs, device, todo, done: HashMap::new(), total }
    }

    /// Tensors read and tensors in all.
    pub fn progress(&self) -> (u64, u64) {
        (self.done.len() as u64, self.total as u64)
    }

    /// Reads the next tensor; the model once there is none left. A head that the file lacks is drawn from `rng`
    /// (normal, config.json's `initializer_range`), as transformers does.
    pub async fn advance(&mut self, rng: &mut impl Rng) -> Result<Option<Llama>> {
        if let Some((name, shape)) = self.todo.pop() {
            let weights = &self.weights;
            let values = if name == "score.weight" && !weights.has_head(self.outputs) {
                normal(rng, shape.iter().product(), weights.config.initializer_range as f32)
            } else {
                weights.header.tensor(weights.file.blob.as_ref(), &name).await?.0
            };
            let (rows, columns, vector) = match shape.as_slice() {
                [rows, columns] => (*rows, *columns, false),
                _ => (1, values.len(), true),
            };
            let tensor = Tensor::from_data(TensorData::new(values, [rows, columns]), &self.device);
            self.done.insert(name.clone(), Param::new(name, tensor, vector));
        }
        if !self.todo.is_empty() {
            return Ok(None);
        }
        let done = &mut self.done;
        let mut take = |name: String| {
            done.remove(&name).ok_or_else(|| Error::weights(WEIGHTS, Some(&name), "this tensor", "none"))
        };
        Llama::new(self.weights.config.clone(), self.head, &mut take).map(Some)
    }
}

/// `config.json` as bytes.
pub fn json_bytes(value: &impl serde::Serialize) -> Vec<u8> {
    let value = serde_json::to_value(value).unwrap_or(Value::Null);
    format!("{value:#}\n").into_bytes()
}
