//! A model that is ready to be used: trained here, or opened with its adapter.

use std::{collections::HashMap, rc::Rc};

use burn::tensor::Device;

use crate::{
    adapter::{self, PeftConfig},
    batch::{Batch, Sequences},
    config::{Config, Method, RawConfig, Task},
    data::Target,
    device::{self, Opened},
    error::{Error, Result},
    event::{AdapterSummary, Event, Phase, Prediction, Summary},
    export::{DataFile, unzip},
    model::{HeadKind, Llama, LlamaConfig},
    plan,
    platform::{Memory, NamedFile},
    rng,
    train::{forward, softmax},
    weights::{
        folder::{Folder, Loader},
        read_f32,
    },
};

/// A model with what is needed to use it and to hand it on.
pub struct Applied {
    pub model: Llama,
    pub folder: Rc<Folder>,
    pub config: Config,
    pub opened: Opened,
    /// Class names; empty for regression and generation.
    pub labels: Vec<String>,
    /// Of the run that trained it, where it is known.
    pub summary: Option<Summary>,
    /// What it was trained on.
    pub data: Vec<DataFile>,
}

impl Applied {
    /// What it can be used for.
    pub fn describe(&self) -> AdapterSummary {
        AdapterSummary {
            task: self.config.task.as_str().into(),
            labels: self.labels.clone(),
            r: (self.config.training.method == Method::Lora).then_some(self.config.lora.r),
        }
    }
}

const ADAPTER_CONFIG: &str = "adapter_config.json";

/// Files of an adapter are small next to its base.
const MAX_ADAPTER: u64 = 2 << 30;

/// File names in an error.
const MOST_LISTED: usize = 8;

/// Puts the opened model and an adapter on a device, one tensor a call.
pub struct Opening {
    folder: Rc<Folder>,
    config: Config,
    opened: Opened,
    labels: Vec<String>,
    loader: Loader,
    /// `adapter_config.json` read, and the adapter's weights.
    adapter: Option<(PeftConfig, NamedFile)>,
    history: History,
    rng: rand_chacha::ChaCha8Rng,
    ready: Option<Applied>,
}

impl Opening {
    /// `files` are an adapter's folder or one zip of it; none for a model that brings its own head.
    pub async fn new(folder: Rc<Folder>, over: RawConfig, files: Vec<NamedFile>) -> Result<Self> {
        let files = unpack(files).await?;
        let mut files: HashMap<String, NamedFile> = files.into_iter().map(|f| (f.name.clone(), f)).collect();
        // Other files must not pass for "no adapter": the base model alone would answer.
        if !files.is_empty() && !files.contains_key(ADAPTER_CONFIG) {
            let mut there: Vec<_> = files.into_keys().take(MOST_LISTED).collect();
            there.sort();
            let message = format!("{ADAPTER_CONFIG} is missing; there is {}", there.join(", "));
            return Err(Error::session(message, "Choose the folder that PEFT or Paddock wrote, or the zip of it."));
        }
        let raw = match files.remove("run.yaml") {
            Some(file) => {
                let text = String::from_utf8_lossy(&whole(&file).await?).into_owned();
                let mut trained = RawConfig::from_yaml(&text, "run.yaml")?;
                // Device, precision, files and row limits were the training's own.
                trained.device = None;
                trained.training.mixed_precision = None;
                trained.data.train_file = None;
                trained.data.validation_file = None;
                trained.data.max_train_samples = None;
                trained.data.max_eval_samples = None;
                trained.merge(over)
            }
            None => over,
        };
        let adapter = match files.remove(ADAPTER_CONFIG) {
            None => None,
            Some(file) => {
                let peft = PeftConfig::from_json(&whole(&file).await?)?;
                let weights = files.remove("adapter_model.safetensors").ok_or_else(|| {
                    Error::weights("adapter_model.safetensors", None, "the adapter's weights beside its config", "none")
                })?;
                Some((peft, weights))
            }
        };
        let history = match files.remove("metrics.json") {
            Some(file) => History::read(&whole(&file).await?),
            None => History::default(),
        };
        let mut config = Config::resolve(&raw)?;
        let described = match files.remove("config.json") {
            Some(file) => LlamaConfig::from_json(&whole(&file).await?)?,
            None => folder.config().clone(),
        };
        let causal = match &adapter {
            Some((peft, _)) => peft.task_type.as_deref() == Some("CAUSAL_LM"),
            None => !described.is_classifier(),
        };
        config.task = if causal { Task::TextGeneration } else { Task::TextClassification };
        config.training.method = if adapter.is_some() { Method::Lora } else { Method::Full };
        let mut labels = if causal { Vec::new() } else { described.labels.clone() };
        if !causal && labels.is_empty() {
            let got = "none: the adapter's folder needs the config.json that was written with it";
            return Err(Error::model("config.json", "id2label", "the names of the classes", got));
        }
        if labels.len() == 1 {
            config.model.num_labels = Some(1);
            labels.clear();
        }
        let outputs = plan::outputs(&config, &labels);
        if adapter.is_none() && !causal && !folder.weights.has_head(outputs) {
            let got = "none; give the adapter that was trained for it";
            return Err(Error::weights("model.safetensors", Some("score.weight"), "a classification head", got));
        }
        if let Some((peft, _)) = &adapter {
            config.lora = peft.lora()?;
        }
        let (opened, _) = device::open(config.device).await?;
        let head = if causal { HeadKind::CausalLm } else { HeadKind::Classification };
        let loader = Loader::new(folder.weights.clone(), head, outputs, opened.device.clone(), config.frozen())
            .half(opened.half(&config)?);
        let rng = rng::stream(config.training.seed, rng::INIT);
        Ok(Self { folder, config, opened, labels, loader, adapter, history, rng, ready: None })
    }

    pub async fn advance(&mut self) -> Result<Vec<Event>> {
        let loaded = self.loader.advance(&mut self.rng).await?;
        let (done, total) = self.loader.progress();
        if let Some(mut model) = loaded {
            if let Some((_, file)) = &self.adapter {
                let device: &Device = &self.opened.device;
                adapter::load(&mut model, &self.config.lora, &file.name, file.blob.as_ref(), device).await?;
            }
            self.ready = Some(Applied {
                model,
                folder: self.folder.clone(),
                config: self.config.clone(),
                opened: self.opened.clone(),
                labels: std::mem::take(&mut self.labels),
                summary: self.history.summary.take(),
                data: std::mem::take(&mut self.history.data),
            });
        }
        Ok(vec![Event::Progress { phase: Phase::LoadingWeights, done, total }])
    }

    /// The model, once it is whole.
    pub fn take(&mut self) -> Option<Applied> {
        self.ready.take()
    }
}

/// What `metrics.json` tells of the run that made an adapter. It is only handed on, so what cannot be read is left out.
#[derive(Default)]
struct History {
    summary: Option<Summary>,
    data: Vec<DataFile>,
}

impl History {
    fn read(bytes: &[u8]) -> Self {
        let json: serde_json::Value = serde_json::from_slice(bytes).unwrap_or_default();
        let data = serde_json::from_value(json["data"].clone()).unwrap_or_default();
        Self { summary: serde_json::from_value(json).ok(), data }
    }
}

async fn whole(file: &NamedFile) -> Result<Vec<u8>> {
    let size = file.blob.size();
    if size > MAX_ADAPTER {
        let got = format!("{size} bytes");
        return Err(Error::model(&file.name, "the file", format!("at most {MAX_ADAPTER} bytes"), got));
    }
    file.blob.read(0, size as usize).await.map_err(|e| Error::io(&file.name, e))
}

/// One zip becomes the files inside it.
async fn unpack(files: Vec<NamedFile>) -> Result<Vec<NamedFile>> {
    match files.as_slice() {
        [one] if one.name.to_lowercase().ends_with(".zip") => {
            let inside = unzip(&one.name, whole(one).await?, MAX_ADAPTER)?;
            let named = |(name, bytes): (String, Vec<u8>)| NamedFile { name, blob: Box::new(Memory(bytes)) };
            Ok(inside.into_iter().map(named).collect())
        }
        _ => Ok(files),
    }
}

/// Texts a batch; batches keep the command's order.
const BATCH: usize = 16;

/// Texts through the model, a batch a call.
pub struct Predicting {
    texts: Sequences,
    at: usize,
}

impl Predicting {
    pub fn new(applied: &Applied, texts: &[String]) -> Result<Self> {
        let max = plan::max_length(&applied.config, applied.folder.config());
        let mut sequences = Sequences::default();
        for (i, text) in texts.iter().enumerate() {
            let encoded = applied.folder.tokenizer.encode(text, Some(max))?;
            // A text without a token still gets an answer, so that answers stay one a text.
            let ids = if encoded.ids.is_empty() { vec![applied.folder.tokenizer.pad_id()] } else { encoded.ids };
            sequences.push(i as u64, &ids, Target::Class(0));
        }
        Ok(Self { texts: sequences, at: 0 })
    }

    /// The next batch's predictions, and whether there are more.
    pub async fn advance(&mut self, applied: &Applied) -> Result<(Vec<Event>, bool)> {
        let end = (self.at + BATCH).min(self.texts.len());
        let mut events = Vec::new();
        if self.at < end {
            let max = plan::max_length(&applied.config, applied.folder.config());
            let rows: Vec<usize> = (self.at..end).collect();
            let batch = Batch::new(&self.texts, &rows, max, applied.folder.tokenizer.pad_id());
            let logits = forward(&applied.model, &batch, &applied.opened.device, false);
            let outputs = logits.dims()[1];
            let logits = read_f32(logits).await?;
            for (row, logits) in rows.iter().zip(logits.chunks(outputs)) {
                events.push(Event::Prediction(prediction(*row as u64, logits, &applied.labels)));
            }
        }
        self.at = end;
        Ok((events, self.at < self.texts.len()))
    }
}

fn prediction(index: u64, logits: &[f32], labels: &[String]) -> Prediction {
    if labels.is_empty() {
        let value = f64::from(logits.first().copied().unwrap_or(f32::NAN));
        return Prediction { index, label: format!("{value:.4}"), scores: vec![("value".into(), value)] };
    }
    let scores: Vec<(String, f64)> = labels.iter().cloned().zip(softmax(logits)).collect();
    let best = scores.iter().fold(&scores[0], |best, next| if next.1 > best.1 { next } else { best });
    Prediction { index, label: best.0.clone(), scores }
}
