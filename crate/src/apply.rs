//! A model that is ready to be used: trained here, or opened with its adapter.

use std::rc::Rc;

use burn::tensor::Device;

use crate::{
    adapter::{self, AdapterFiles},
    batch::{Batch, Sequences},
    config::{Config, Method, RawConfig, Task},
    data::Target,
    device::{self, Opened},
    error::{Error, Result},
    event::{AdapterSummary, Event, Phase, Prediction, Summary},
    export::DataFile,
    model::{HeadKind, Llama},
    plan,
    platform::NamedFile,
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

/// Puts the opened model and an adapter on a device, one tensor a call.
pub struct Opening {
    folder: Rc<Folder>,
    config: Config,
    opened: Opened,
    labels: Vec<String>,
    loader: Loader,
    /// The adapter's weights.
    adapter: Option<NamedFile>,
    history: History,
    rng: rand_chacha::ChaCha8Rng,
    ready: Option<Applied>,
}

impl Opening {
    /// `files` are an adapter's folder or one zip of it; none for a model that brings its own head.
    pub async fn new(folder: Rc<Folder>, over: RawConfig, files: Vec<NamedFile>) -> Result<Self> {
        let mut adapter = AdapterFiles::read(files).await?;
        let raw = match adapter.as_mut().and_then(|adapter| adapter.run.take()) {
            Some(mut trained) => {
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
        let metrics = adapter.as_ref().and_then(|adapter| adapter.metrics.as_deref());
        let history = metrics.map(History::read).unwrap_or_default();
        let mut config = Config::resolve(&raw)?;
        let described = adapter.as_ref().and_then(|adapter| adapter.model.as_ref()).unwrap_or(folder.config());
        let causal = match &adapter {
            Some(adapter) => adapter.peft.task_type.as_deref() == Some("CAUSAL_LM"),
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
        if let Some(adapter) = &adapter {
            config.lora = adapter.peft.lora()?;
        }
        let (opened, _) = device::open(config.device).await?;
        let head = if causal { HeadKind::CausalLm } else { HeadKind::Classification };
        let loader = Loader::new(folder.weights.clone(), head, outputs, opened.device.clone(), config.frozen())
            .within(opened.binding())
            .half(opened.half(&config)?);
        let rng = rng::stream(config.training.seed, rng::INIT);
        let adapter = adapter.map(|adapter| adapter.weights);
        Ok(Self { folder, config, opened, labels, loader, adapter, history, rng, ready: None })
    }

    pub async fn advance(&mut self) -> Result<Vec<Event>> {
        let loaded = self.loader.advance(&mut self.rng).await?;
        let (done, total) = self.loader.progress();
        if let Some(mut model) = loaded {
            if let Some(file) = &self.adapter {
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
