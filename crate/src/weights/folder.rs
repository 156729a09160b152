//! A Hugging Face folder, opened: configuration, tokenizer, and weights that are read when a run needs them.

use std::{collections::HashMap, rc::Rc};

use burn::tensor::{Device, Tensor, TensorData};
use half::f16;
use rand::Rng;
use serde_json::Value;

use super::{
    Packing, Shards, Weights,
    ggml::GgmlType,
    gguf::{GgufModel, read_vocab},
};
use crate::{
    error::{Error, Result},
    event::ModelSummary,
    kernels::Packed,
    model::{HeadKind, Llama, LlamaConfig, Param},
    platform::{Memory, NamedFile},
    rng::normal,
    tokenizer::{ChatTemplate, SpecialIds, Tokenizer, TokenizerConfig, tokenizer_model_json},
    train::checkpoint::sampled,
};

const WEIGHTS: &str = "model.safetensors";
const INDEX: &str = "model.safetensors.index.json";
const TOKENIZER: &str = "tokenizer.json";
const TOKENIZER_CONFIG: &str = "tokenizer_config.json";
const CHAT_TEMPLATE: &str = "chat_template.jinja";

/// Larger configuration and tokenizer files are refused.
const MAX_TEXT: u64 = 256 << 20;

/// A model's files, checked against each other.
pub struct Folder {
    pub name: String,
    pub weights: Rc<Weights>,
    pub tokenizer: Tokenizer,
    /// Files to hand on beside fully fine-tuned weights.
    pub texts: Vec<(String, Vec<u8>)>,
}

impl Folder {
    /// Opens the files of one folder, in any order; files of other names are ignored. One without a name (files that
    /// were chosen one by one) goes by its GGUF file's.
    pub async fn open(mut name: String, files: Vec<NamedFile>) -> Result<Self> {
        let mut files: HashMap<String, NamedFile> = files.into_iter().map(|f| (f.name.clone(), f)).collect();
        let mut texts = Vec::new();
        let weights = match gguf(&mut files)? {
            Some(file) => {
                if name.is_empty() {
                    name.clone_from(&file.name);
                }
                let (config, model) = GgufModel::open(file).await?;
                // A tokenizer.json beside the file stands for the vocabulary inside.
                if !files.contains_key(TOKENIZER) {
                    let vocab = read_vocab(&model.gguf)?;
                    texts.push((TOKENIZER.to_string(), vocab.tokenizer_json(&model.file.name)?));
                    texts.push((TOKENIZER_CONFIG.to_string(), vocab.tokenizer_config_json()));
                }
                Weights::new(config, model)?
            }
            None => {
                let config = LlamaConfig::from_json(&text(&mut files, "config.json").await?)?;
                texts.push((TOKENIZER.to_string(), tokenizer_json(&mut files).await?));
                Weights::new(config, safetensors(&mut files).await?)?
            }
        };
        for extra in [TOKENIZER, TOKENIZER_CONFIG, CHAT_TEMPLATE, "special_tokens_map.json", "generation_config.json"] {
            if files.contains_key(extra) && texts.iter().all(|(name, _)| name != extra) {
                texts.push((extra.into(), text(&mut files, extra).await?));
            }
        }
        let config = &weights.config;
        let special = SpecialIds { bos: config.bos_token_id, eos: config.eos_token_id, pad: config.pad_token_id };
        let json = texts.iter().find(|(name, _)| name == TOKENIZER).map_or(&[][..], |(_, json)| json);
        let tokenizer = Tokenizer::from_json_bytes(TOKENIZER, json, special)?;
        tokenizer.check_model_vocab(config.vocab_size)?;
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

    /// Tokens that end an answer: those of generation_config.json or config.json (one or several), and the tokenizer's.
    pub fn ends(&self) -> Vec<u32> {
        let generation = self.texts.iter().find(|(name, _)| name == "generation_config.json");
        let generation = generation.and_then(|(_, bytes)| serde_json::from_slice::<Value>(bytes).ok());
        let named =
            [generation.as_ref().and_then(|json| json.get("eos_token_id")), self.config().raw.get("eos_token_id")];
        let mut ends: Vec<u32> = named
            .into_iter()
            .flatten()
            .flat_map(|value| value.as_array().map_or_else(|| vec![value], |list| list.iter().collect()))
            .filter_map(|id| u32::try_from(id.as_u64()?).ok())
            .chain(self.tokenizer.eos_id())
            .collect();
        ends.sort_unstable();
        ends.dedup();
        ends
    }

    /// Name and hash of everything in the folder that a run depends on.
    pub async fn fingerprint(&self) -> Result<Vec<(String, String)>> {
        let config = Value::Object(self.config().raw.clone()).to_string();
        let mut parts = vec![("config.json".to_owned(), sampled("config.json", &Memory(config.into_bytes())).await?)];
        for (name, bytes) in self.texts.iter().filter(|(name, _)| name == TOKENIZER) {
            parts.push((name.clone(), sampled(name, &Memory(bytes.clone())).await?));
        }
        for file in self.weights.files() {
            parts.push((file.name.clone(), sampled(&file.name, file.blob.as_ref()).await?));
        }
        Ok(parts)
    }

    pub fn summary(&self) -> ModelSummary {
        let config = self.config();
        let shapes = Llama::shapes(config, HeadKind::CausalLm, 0);
        let held = |(name, shape): &(String, Vec<usize>)| Packing::Stored.bytes(&self.weights, name, shape, false);
        ModelSummary {
            name: self.name.clone(),
            architecture: config.architecture.clone(),
            parameters: config.parameters(),
            hidden_size: config.hidden_size,
            layers: config.num_hidden_layers,
            vocab_size: config.vocab_size,
            max_position_embeddings: config.max_position_embeddings,
            dtype: self.weights.main_type().into(),
            file_bytes: self.weights.bytes(),
            device_bytes: shapes.iter().map(held).sum(),
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

/// The folder's GGUF file, where it has no safetensors.
fn gguf(files: &mut HashMap<String, NamedFile>) -> Result<Option<NamedFile>> {
    if files.contains_key(WEIGHTS) || files.contains_key(INDEX) {
        return Ok(None);
    }
    let mut names: Vec<String> = files.keys().filter(|name| name.to_lowercase().ends_with(".gguf")).cloned().collect();
    names.sort_unstable();
    match names.as_slice() {
        [] => Ok(None),
        [name] => Ok(files.remove(name)),
        [first, second, ..] => {
            let message = format!("the folder holds {} GGUF files, among them {second}", names.len());
            Err(Error::format(first, message, "Choose one of the files instead of the folder."))
        }
    }
}

/// The folder's weights in one safetensors file or several.
async fn safetensors(files: &mut HashMap<String, NamedFile>) -> Result<Shards> {
    if let Some(file) = files.remove(WEIGHTS) {
        return Shards::single(file).await;
    }
    if files.contains_key(INDEX) {
        let index = text(files, INDEX).await?;
        return Shards::open(INDEX, &index, files).await;
    }
    let mut names: Vec<&String> = files.keys().collect();
    names.sort_unstable();
    if let Some(name) = names.iter().find(|name| name.starts_with("model-") && name.ends_with(".safetensors")) {
        let message = format!("a part of a model without the index of its parts, {INDEX}");
        return Err(Error::format(name, message, "Put the index into the folder too; it comes with the model."));
    }
    let pickled = |name: &str| [".bin", ".pt", ".pth", ".ckpt"].iter().any(|ending| name.ends_with(ending));
    if let Some(name) = names.iter().find(|name| pickled(name)) {
        return Err(Error::format(
            name,
            "PyTorch's pickled weights are not read: such a file is a program that runs when it is opened",
            "Convert the model once, where Python has transformers: python -c \"from transformers import \
             AutoModelForCausalLM as M; M.from_pretrained('FOLDER').save_pretrained('NEW_FOLDER')\", and copy the \
             tokenizer's files there.",
        ));
    }
    let got = format!("none; there is {}", listed(files));
    Err(Error::weights(WEIGHTS, None, "the model's weights in its folder", got))
}

/// Reads a model onto a device, one tensor a call.
pub struct Loader {
    weights: Rc<Weights>,
    head: HeadKind,
    outputs: usize,
    device: Device,
    packing: Packing,
    /// Bytes that a weight takes at most before it is held in parts.
    limit: u64,
    half: bool,
    /// What is still to come, last first.
    todo: Vec<(String, Vec<usize>)>,
    done: HashMap<String, Param>,
    total: usize,
}

impl Loader {
    /// `outputs` is the number of classes of a classification head.
    pub fn new(weights: Rc<Weights>, head: HeadKind, outputs: usize, device: Device, packing: Packing) -> Self {
        let mut todo = Llama::shapes(&weights.config, head, outputs);
        todo.reverse();
        let total = todo.len();
        let limit = u64::MAX;
        Self { weights, head, outputs, device, packing, limit, half: false, todo, done: HashMap::new(), total }
    }

    /// Holds matrices that take more bytes than this in parts, for a device that cannot bind them whole.
    pub fn within(self, limit: u64) -> Self {
        Self { limit, ..self }
    }

    /// Takes what is on the device already instead of reading it again.
    pub fn sharing(mut self, shared: HashMap<String, Param>) -> Self {
        self.todo.retain(|(name, _)| !shared.contains_key(name));
        self.done = shared;
        self.total = self.todo.len();
        self
    }

    /// Whether the model's blocks compute in 16 bits; see [`Packing::of`] for its weights.
    pub fn half(self, half: bool) -> Self {
        Self { half, ..self }
    }

    /// Tensors read and tensors in all.
    pub fn progress(&self) -> (u64, u64) {
        ((self.total - self.todo.len()) as u64, self.total as u64)
    }

    /// Reads the next tensor; the model once there is none left. A head that the file lacks is drawn from `rng`
    /// (normal, config.json's `initializer_range`), as transformers does.
    pub async fn advance(&mut self, rng: &mut impl Rng) -> Result<Option<Llama>> {
        if let Some((name, shape)) = self.todo.pop() {
            let param = self.read(&name, &shape, rng).await?;
            self.done.insert(name, param);
        }
        if !self.todo.is_empty() {
            return Ok(None);
        }
        let done = &mut self.done;
        let mut take = |name: String| {
            done.remove(&name).ok_or_else(|| Error::weights(WEIGHTS, Some(&name), "this tensor", "none"))
        };
        let mut model = Llama::new(self.weights.config.clone(), self.head, &mut take)?;
        model.half = self.half;
        Ok(Some(model))
    }

    async fn read(&self, name: &str, shape: &[usize], rng: &mut impl Rng) -> Result<Param> {
        let weights = &self.weights;
        let (rows, columns, vector) = match shape {
            [rows, columns] => (*rows, *columns, false),
            _ => (1, shape.iter().product(), true),
        };
        // A classification head is trained.
        let limit = if name == "score.weight" { u64::MAX } else { self.limit };
        let packed = |kind, bytes: &[u8]| {
            let part = |rows, bytes: &[u8]| Packed::new(kind, [rows, columns], bytes, &self.device);
            let part = |rows, bytes: &[u8]| Param::packed(name, part(rows, bytes));
            in_parts(name, rows, step(bytes.len(), rows, limit), bytes, part)
        };
        let kind = if vector { None } else { self.packing.of(weights, name, self.half) };
        if let Some(kind) = kind
            && let Some((stored, bytes)) = weights.packed(name).await?
            && stored == kind
        {
            return Ok(packed(kind, &bytes));
        }
        let values = if name == "score.weight" && !weights.has_head(self.outputs) {
            normal(rng, shape.iter().product(), weights.config.initializer_range as f32)
        } else {
            weights.tensor(name).await?.0
        };
        // A matrix with a number beyond F16's range stays in 32 bits.
        let fits = |kind| kind != GgmlType::F16 || values.iter().all(|v| f16::from_f32(*v).is_finite());
        if let Some(kind) = kind.filter(|kind| fits(*kind)) {
            let missing = || Error::weights(WEIGHTS, Some(name), format!("{kind:?}"), "a type that is only read");
            return Ok(packed(kind, &kind.quantize(&values).ok_or_else(missing)?));
        }
        let dense = |rows, values: Vec<f32>| {
            Param::new(name, Tensor::from_data(TensorData::new(values, [rows, columns]), &self.device), vector)
        };
        let step = step(size_of_val(values.as_slice()), rows, limit);
        Ok(match rows <= step {
            // Without a copy.
            true => dense(rows, values),
            false => in_parts(name, rows, step, &values, |rows, values| dense(rows, values.to_vec())),
        })
    }
}

/// Rows of a matrix that a binding of `limit` bytes holds, in fours (see [`Param::linear_rows`]); all where it can.
fn step(bytes: usize, rows: usize, limit: u64) -> usize {
    // Blocks take up to two words more, see `Packed::new`.
    let most = limit.saturating_sub(8);
    if bytes as u64 <= most || rows <= 4 {
        return rows;
    }
    (most as usize / bytes.div_ceil(rows) / 4 * 4).max(4)
}

/// A matrix whole, or in parts of `step` rows; `part` makes one of so many rows.
fn in_parts<T>(name: &str, rows: usize, step: usize, data: &[T], part: impl Fn(usize, &[T]) -> Param) -> Param {
    if rows <= step {
        return part(rows, data);
    }
    let row = (data.len() / rows).max(1);
    Param::parts(name, data.chunks(step * row).map(|data| part(data.len() / row, data)).collect())
}

/// `config.json` as bytes.
pub fn json_bytes(value: &impl serde::Serialize) -> Vec<u8> {
    let value = serde_json::to_value(value).unwrap_or(Value::Null);
    format!("{value:#}\n").into_bytes()
}
