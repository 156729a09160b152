//! A model that is ready to be used: trained here, or opened with its adapter.

use std::{collections::BTreeMap, rc::Rc};

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
    generate::{Answering, Sampling},
    model::{HeadKind, Llama},
    plan,
    platform::NamedFile,
    plugin::{Manifest, Shared},
    rng,
    tokenizer::Message,
    train::{forward, softmax},
    weights::{
        folder::{Folder, Loader},
        read_f32,
    },
};

/// A model with what is needed to use it and to hand it on. A copy shares the weights.
#[derive(Clone)]
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
    /// Name and hash of the base's parts.
    pub fingerprint: Vec<(String, String)>,
    /// What a person calls it; its task and data where there is none.
    pub name: Option<String>,
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
    /// The plugin.json beside it.
    manifest: Option<Manifest>,
    fingerprint: Vec<(String, String)>,
    warnings: Vec<String>,
    rng: rand_chacha::ChaCha8Rng,
    ready: Option<Applied>,
}

impl Opening {
    /// `files` are an adapter's folder or one zip of it; none for a model that brings its own head. What the base's
    /// weights are on the device already is taken from `shared`.
    ///
    /// # Errors
    /// An adapter of another base, and files that are none.
    pub async fn new(folder: Rc<Folder>, over: RawConfig, files: Vec<NamedFile>, shared: &Shared) -> Result<Self> {
        let mut adapter = AdapterFiles::read(files).await?;
        let fingerprint = folder.fingerprint().await?;
        let mut warnings = Vec::new();
        let manifest = adapter.as_mut().and_then(|adapter| adapter.manifest.take());
        if let Some(manifest) = &manifest {
            warnings.extend(manifest.check_base(&folder.name, &fingerprint)?);
        }
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
        // Of the tasks of a language model, the one it was trained for.
        if config.task.classifies() == causal {
            config.task = if causal { Task::TextGeneration } else { Task::TextClassification };
        }
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
        let half = opened.half(&config)?;
        let loader = Loader::new(folder.weights.clone(), head, outputs, opened.device.clone(), config.frozen())
            .within(opened.binding())
            .half(half)
            .sharing(shared.take(&opened, config.frozen(), half));
        let rng = rng::stream(config.training.seed, rng::INIT);
        let adapter = adapter.map(|adapter| adapter.weights);
        let ready = None;
        Ok(Self {
            folder,
            config,
            opened,
            labels,
            loader,
            adapter,
            history,
            manifest,
            fingerprint,
            warnings,
            rng,
            ready,
        })
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
                fingerprint: std::mem::take(&mut self.fingerprint),
                name: self.manifest.as_ref().map(|manifest| manifest.name.clone()),
            });
        }
        let warnings = std::mem::take(&mut self.warnings).into_iter().map(|message| Event::Warning { message });
        Ok(warnings.chain([Event::Progress { phase: Phase::LoadingWeights, done, total }]).collect())
    }

    /// Id and name that it brings along.
    pub fn named(&self) -> Option<(String, String)> {
        self.manifest.as_ref().map(|manifest| (manifest.id.clone(), manifest.name.clone()))
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

/// What a model in use is asked.
#[derive(Debug, Clone, Default)]
pub struct Asked {
    pub texts: Vec<String>,
    /// Beside each text the other parts of its row, by role; as many as there are texts, or none.
    pub fields: Vec<BTreeMap<String, String>>,
    /// The conversation that each text ends; as many as there are texts, or none.
    pub messages: Vec<Vec<Message>>,
    /// Whether prompts are put into the model's chat template; as it was trained, or where it has one, when absent.
    pub chat: Option<bool>,
}

/// Texts through a model in use, a step a call.
pub enum Using {
    Classify(Box<Predicting>),
    Answer(Box<Answering>),
}

impl Using {
    /// With what there is to say about it.
    pub fn new(applied: &Applied, asked: &Asked, sampling: &Sampling) -> Result<(Self, Vec<Event>)> {
        if applied.config.task.classifies() {
            return Ok((Self::Classify(Box::new(Predicting::new(applied, &asked.texts)?)), Vec::new()));
        }
        Ok((Self::Answer(Box::new(Answering::new(applied, asked, sampling)?)), warnings(sampling)))
    }

    /// Further texts beside those that are being answered.
    ///
    /// # Errors
    /// As [`Self::new`]; a classifier's batches take none.
    pub fn join(&mut self, applied: &Applied, asked: &Asked, sampling: &Sampling) -> Result<Vec<Event>> {
        match self {
            Self::Classify(_) => {
                Err(Error::session("Texts are being classified: none can join them.", "Ask when they are done."))
            }
            Self::Answer(answering) => answering.join(applied, asked, sampling).map(|()| warnings(sampling)),
        }
    }

    /// Breaks the answer to one text off.
    pub fn cancel(&mut self, index: usize) {
        if let Self::Answer(answering) = self {
            answering.cancel(index);
        }
    }

    /// What came of the step, and whether there are more.
    pub async fn advance(&mut self, applied: &Applied) -> Result<(Vec<Event>, bool)> {
        match self {
            Self::Classify(predicting) => predicting.advance(applied).await,
            Self::Answer(answering) => answering.advance(applied).await,
        }
    }

    /// Ends here; answers that were begun are kept.
    pub fn stop(&mut self, applied: &Applied) -> Result<Vec<Event>> {
        match self {
            Self::Classify(_) => Ok(Vec::new()),
            Self::Answer(answering) => answering.stop(applied),
        }
    }
}

/// Of settings without effect.
fn warnings(sampling: &Sampling) -> Vec<Event> {
    let idle = |key| format!("{key} has no effect while temperature is 0: nothing is drawn.");
    sampling.idle().map(|key| Event::Warning { message: idle(key) }).into_iter().collect()
}

/// Texts through a classifier, a batch a call.
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
        return classified(index, format!("{value:.4}"), vec![("value".into(), value)]);
    }
    let scores: Vec<(String, f64)> = labels.iter().cloned().zip(softmax(logits)).collect();
    let best = scores.iter().fold(&scores[0], |best, next| if next.1 > best.1 { next } else { best });
    classified(index, best.0.clone(), scores)
}

fn classified(index: u64, label: String, scores: Vec<(String, f64)>) -> Prediction {
    Prediction { index, label, scores, finish_reason: None, prompt_tokens: None, completion_tokens: None }
}
