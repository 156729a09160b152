//! Checkpoints: one safetensors file with the trained weights, the optimizer's moments and, in its metadata, everything
//! else that a run needs to go on; beside it its SHA-256 as `sha256sum` writes it, which comes last: a file without it is
//! not whole.

use std::{collections::VecDeque, fmt::Write as _, io};

use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest, Sha256};

use super::{
    Best, GradScaler, LossWatch,
    trainer::{Held, Trainer},
};
use crate::{
    batch::Cursor,
    config::Config,
    error::{Error, Result},
    eval::Outcomes,
    event::{CheckpointInfo, Evaluation, Recovery, Resumed},
    export::DataFile,
    platform::Blob,
    storage::{Storage, get, put},
    weights::{
        read_f32,
        safetensors::{DType, Header, header_with},
    },
};

/// The metadata's key.
const KEY: &str = "paddock_run";
/// Written by this version; others are refused.
const VERSION: u32 = 1;
/// Numbers read from the device at a time.
const MOST: usize = 4 << 20;
/// Bytes hashed at a time.
const PART: u64 = 4 << 20;

/// What a checkpoint must be gone on with: another file by one of these names is another run.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Fingerprints {
    /// File name and hash of the model's parts.
    pub model: Vec<(String, String)>,
    pub data: Vec<DataFile>,
}

/// Where a run stands, beside its tensors.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Progress {
    pub step: u64,
    /// Optimizer steps taken: fewer than `step` where batches were left out.
    pub optimizer_steps: i32,
    pub cursor: Cursor,
    /// Of training, over all sittings.
    pub seconds: f64,
    pub watch: LossWatch,
    pub best: Best,
    pub best_file: Option<String>,
    pub before: Option<Evaluation>,
    /// What each held-out row came to in it.
    #[serde(default)]
    pub outcomes: Option<Outcomes>,
    pub recoveries: Vec<Recovery>,
    /// On the schedule's learning rate, and parts a micro-batch is cut into: what recovery changed.
    pub learning_rate_factor: f64,
    pub split: usize,
    /// Where the model computes in 16 bits.
    pub scaler: Option<GradScaler>,
}

impl Default for Progress {
    fn default() -> Self {
        Self {
            step: 0,
            optimizer_steps: 0,
            cursor: Cursor::default(),
            seconds: 0.0,
            watch: LossWatch::default(),
            best: Best::default(),
            best_file: None,
            before: None,
            outcomes: None,
            recoveries: Vec::new(),
            learning_rate_factor: 1.0,
            split: 1,
            scaler: None,
        }
    }
}

/// A checkpoint's metadata.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Saved {
    version: u32,
    pub run: String,
    /// The resolved configuration.
    pub config: Value,
    pub fingerprints: Fingerprints,
    pub progress: Progress,
}

impl Saved {
    pub fn new(run: &str, config: &Config, fingerprints: &Fingerprints, progress: &Progress) -> Self {
        Self {
            version: VERSION,
            run: run.to_owned(),
            config: serde_json::to_value(config).unwrap_or_default(),
            fingerprints: fingerprints.clone(),
            progress: progress.clone(),
        }
    }

    /// Refuses to go on with another model, other data or other settings, by name of what differs.
    pub fn check(&self, file: &str, config: &Config, fingerprints: &Fingerprints) -> Result<()> {
        let advice = "Go on with the files and settings that the run began with, or start a new run in another folder.";
        let differs = |what: String| Err(Error::checkpoint(file, what, advice));
        let (was, is) = (&self.fingerprints, fingerprints);
        if let Some((name, _)) = is.model.iter().find(|part| !was.model.contains(part)) {
            return differs(format!("the model's {name} is another one than this run began with"));
        }
        if was.model.len() != is.model.len() {
            return differs("the model has other files than this run began with".into());
        }
        if was.data.len() != is.data.len() {
            return differs(format!("{} data files, this run began with {}", is.data.len(), was.data.len()));
        }
        if let Some((is, was)) = is.data.iter().zip(&was.data).find(|(is, was)| is.sha256 != was.sha256) {
            return differs(format!(
                "the data in {} is other than that in {} at this run's beginning",
                is.name, was.name
            ));
        }
        let now = serde_json::to_value(config).unwrap_or_default();
        match difference("", &self.config, &now) {
            None => Ok(()),
            Some((key, was, is)) => differs(format!("{key} is {is}, this run began with {was}")),
        }
    }
}

/// Keys that may change from one sitting to the next: they touch no number of the run.
const FREE: [&str; 15] = [
    "device",
    "kernels",
    "model.name_or_path",
    "data.train_file",
    "data.validation_file",
    "training.logging_steps",
    "training.eval_steps",
    "training.save_steps",
    "training.save_total_limit",
    "training.load_best_model_at_end",
    "training.early_stopping_patience",
    "training.early_stopping_threshold",
    "training.max_minutes",
    "training.report_to",
    "recovery",
];

/// The first key that differs, with both values.
fn difference(key: &str, was: &Value, is: &Value) -> Option<(String, String, String)> {
    if FREE.contains(&key) || was == is {
        return None;
    }
    let (Value::Object(a), Value::Object(b)) = (was, is) else {
        return Some((key.to_owned(), was.to_string(), is.to_string()));
    };
    let names = a.keys().chain(b.keys().filter(|name| !a.contains_key(*name)));
    names.into_iter().find_map(|name| {
        let key = if key.is_empty() { name.clone() } else { format!("{key}.{name}") };
        difference(&key, a.get(name).unwrap_or(&Value::Null), b.get(name).unwrap_or(&Value::Null))
    })
}

pub fn file_name(step: u64) -> String {
    format!("checkpoint-{step}.safetensors")
}

fn sum_name(file: &str) -> String {
    format!("{}.sha256", file.trim_end_matches(".safetensors"))
}

/// The step of a checkpoint's file name.
fn step_of(file: &str) -> Option<u64> {
    file.strip_prefix("checkpoint-")?.strip_suffix(".safetensors")?.parse().ok()
}

fn hex(digest: &[u8]) -> String {
    digest.iter().fold(String::new(), |mut hex, byte| {
        let _ = write!(hex, "{byte:02x}");
        hex
    })
}

/// What a storage says when it is full: it alone is worth freeing space for.
pub fn is_full(error: &Error) -> bool {
    matches!(error, Error::Io { source, .. } if source.kind() == io::ErrorKind::StorageFull)
}

/// A checkpoint on its way into the storage, a piece a call.
pub struct Saving {
    file: String,
    step: u64,
    header: Vec<u8>,
    tensors: Vec<Held>,
    /// What is still to be written: tensor, its part, and first row of that.
    todo: VecDeque<(usize, usize, usize)>,
    hash: Sha256,
    bytes: u64,
    total: u64,
    begun: bool,
    pub best: bool,
}

impl Saving {
    pub fn new(trainer: &mut Trainer, saved: &Saved, best: bool) -> Self {
        let step = saved.progress.step;
        let tensors = trainer.held();
        let shapes: Vec<(String, Vec<usize>)> =
            tensors.iter().map(|held| (held.name.clone(), held.dims().to_vec())).collect();
        let json = serde_json::to_string(saved).unwrap_or_default();
        let names = shapes.iter().map(|(name, shape)| (name.as_str(), shape.as_slice()));
        let header = header_with(names, DType::F32, [(KEY, json)]);
        let numbers: usize = tensors.iter().map(|held| held.dims().iter().product::<usize>()).sum();
        let total = (header.len() + numbers * size_of::<f32>()) as u64;
        let mut saving = Self {
            file: file_name(step),
            step,
            header,
            tensors,
            todo: VecDeque::new(),
            hash: Sha256::new(),
            bytes: 0,
            total,
            begun: false,
            best,
        };
        saving.restart();
        saving
    }

    /// From the first byte again, after room was made.
    pub fn restart(&mut self) {
        (self.hash, self.bytes, self.begun) = (Sha256::new(), 0, false);
        self.todo.clear();
        for (at, held) in self.tensors.iter().enumerate() {
            for (piece, value) in held.parts.iter().enumerate() {
                let [rows, columns] = value.dims();
                let step = (MOST / columns.max(1)).max(1);
                self.todo.extend((0..rows).step_by(step).map(|row| (at, piece, row)));
            }
        }
    }

    pub fn progress(&self) -> (u64, u64) {
        (self.bytes, self.total)
    }

    /// Writes the next piece; the checkpoint once it is whole.
    pub async fn advance(&mut self, storage: &dyn Storage) -> Result<Option<CheckpointInfo>> {
        let part = format!("{}.part", self.file);
        let failed = |error| Error::io(&self.file, error);
        if !self.begun {
            storage.remove(&part).await.map_err(failed)?;
            self.begun = true;
            let header = self.header.clone();
            return self.write(storage, &part, &header).await.map(|()| None);
        }
        if let Some((at, piece, row)) = self.todo.pop_front() {
            let value = self.tensors[at].parts[piece].clone();
            let [rows, columns] = value.dims();
            let some = row..rows.min(row + (MOST / columns.max(1)).max(1));
            let value = if some.len() == rows { value } else { value.slice([some]) };
            let values = read_f32(value).await?;
            let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
            return self.write(storage, &part, &bytes).await.map(|()| None);
        }
        // The sum of an earlier file of this name goes first: it is not the new one's.
        storage.remove(&sum_name(&self.file)).await.map_err(failed)?;
        storage.rename(&part, &self.file).await.map_err(failed)?;
        let sum = format!("{}  {}\n", hex(&self.hash.clone().finalize()), self.file);
        put(storage, &sum_name(&self.file), sum.as_bytes()).await.map_err(failed)?;
        Ok(Some(CheckpointInfo { step: self.step, file: self.file.clone(), bytes: self.bytes, best: self.best }))
    }

    async fn write(&mut self, storage: &dyn Storage, part: &str, bytes: &[u8]) -> Result<()> {
        storage.append(part, bytes).await.map_err(|error| Error::io(&self.file, error))?;
        self.hash.update(bytes);
        self.bytes += bytes.len() as u64;
        Ok(())
    }

    /// Leaves nothing behind.
    pub async fn abandon(&self, storage: &dyn Storage) {
        let _ = storage.remove(&format!("{}.part", self.file)).await;
    }
}

/// Steps of the checkpoints that a storage says it has, the newest first.
pub async fn steps(storage: &dyn Storage) -> Result<Vec<u64>> {
    let names = storage.list().await.map_err(|error| Error::io("the run's folder", error))?;
    let mut steps: Vec<u64> = names
        .iter()
        .filter_map(|name| step_of(name))
        .filter(|step| names.contains(&sum_name(&file_name(*step))))
        .collect();
    steps.sort_unstable_by(|a, b| b.cmp(a));
    Ok(steps)
}

/// Removes checkpoints until `keep` are left beside those that `spare` names; how many went. What a write that was cut
/// off left goes too.
pub async fn prune(storage: &dyn Storage, keep: usize, spare: &[&str]) -> Result<usize> {
    let failed = |error| Error::io("the run's folder", error);
    let whole = steps(storage).await?;
    let (mut kept, mut removed) = (0, 0);
    for step in &whole {
        let file = file_name(*step);
        if spare.contains(&file.as_str()) {
            continue;
        }
        if kept < keep {
            kept += 1;
            continue;
        }
        discard(storage, *step).await?;
        removed += 1;
    }
    for name in storage.list().await.map_err(failed)? {
        let torn = step_of(&name).is_some_and(|step| !whole.contains(&step));
        if torn || (name.starts_with("checkpoint-") && name.ends_with(".part")) {
            storage.remove(&name).await.map_err(failed)?;
        }
    }
    Ok(removed)
}

/// Removes the checkpoint of this step.
pub async fn discard(storage: &dyn Storage, step: u64) -> Result<()> {
    let file = file_name(step);
    for name in [sum_name(&file), file.clone()] {
        storage.remove(&name).await.map_err(|error| Error::io(&file, error))?;
    }
    Ok(())
}

/// Makes room by removing all but the newest checkpoint and the one called `spare`; whether there were any.
pub async fn free(storage: &dyn Storage, spare: Option<&str>) -> bool {
    let spare: Vec<&str> = spare.into_iter().collect();
    prune(storage, 1, &spare).await.is_ok_and(|removed| removed > 0)
}

/// Removes all checkpoints.
pub async fn clear(storage: &dyn Storage) -> Result<()> {
    prune(storage, 0, &[]).await.map(drop)
}

/// A checkpoint that was found whole.
pub struct Found {
    pub saved: Saved,
    pub resumed: Resumed,
    header: Header,
    blob: Box<dyn Blob>,
}

/// The newest whole checkpoint, or the one of this name; those that are damaged are passed over and named.
pub async fn latest(storage: &dyn Storage, wanted: Option<&str>) -> Result<Option<Found>> {
    let mut damaged = Vec::new();
    for step in steps(storage).await? {
        let file = file_name(step);
        if wanted.is_some_and(|wanted| wanted != file) {
            continue;
        }
        match open(storage, &file).await {
            Ok((saved, header, blob)) => {
                let resumed = Resumed { step: saved.progress.step, file, damaged };
                return Ok(Some(Found { saved, resumed, header, blob }));
            }
            Err(error) => damaged.push(error.to_string()),
        }
    }
    Ok(None)
}

async fn open(storage: &dyn Storage, file: &str) -> Result<(Saved, Header, Box<dyn Blob>)> {
    let failed = |error| Error::io(file, error);
    let advice = "Go on from the checkpoint before it.";
    let sum = get(storage, &sum_name(file), 1 << 10).await.map_err(failed)?;
    let blob = storage.open(file).await.map_err(failed)?;
    let mut hash = Sha256::new();
    let mut at = 0;
    while at < blob.size() {
        let len = PART.min(blob.size() - at);
        hash.update(blob.read(at, len as usize).await.map_err(failed)?);
        at += len;
    }
    if sum != format!("{}  {file}\n", hex(&hash.finalize())).as_bytes() {
        return Err(Error::checkpoint(file, "the file is damaged: its SHA-256 is not the one beside it", advice));
    }
    let header = Header::read(file, blob.as_ref()).await?;
    let json = header.metadata.get(KEY).map(String::as_str).unwrap_or_default();
    let saved: Saved = serde_json::from_str(json)
        .map_err(|error| Error::checkpoint(file, format!("its metadata is not a run's ({error})"), advice))?;
    if saved.version != VERSION {
        let message = format!("written in version {} of this format, this program reads {VERSION}", saved.version);
        return Err(Error::checkpoint(file, message, advice));
    }
    Ok((saved, header, blob))
}

impl Found {
    /// Puts weights and moments back.
    pub async fn restore(&self, trainer: &mut Trainer) -> Result<()> {
        let mut values = Vec::new();
        for (name, shape) in trainer.wanted() {
            let moments = name.starts_with(super::trainer::MOMENT);
            // Before the first step of a weight there are none.
            if moments && !self.header.entries.contains_key(&name) {
                continue;
            }
            let (numbers, found) = self.header.tensor(self.blob.as_ref(), &name).await?;
            if found != shape {
                let (expected, got) = (format!("{shape:?}"), format!("{found:?}"));
                return Err(Error::weights(&self.resumed.file, Some(&name), expected, got));
            }
            values.push((name, numbers, shape));
        }
        trainer.restore(values, self.saved.progress.optimizer_steps);
        if let (Some(scaler), Some(saved)) = (&mut trainer.scaler, self.saved.progress.scaler) {
            *scaler = saved;
        }
        Ok(())
    }
}

/// A model file's hash from its size, its beginning (the header) and pieces from all over it: gigabytes are not read
/// before every run.
pub async fn sampled(name: &str, blob: &dyn Blob) -> Result<String> {
    const HEAD: u64 = 1 << 20;
    const PIECE: u64 = 16 << 10;
    const PIECES: u64 = 64;
    let size = blob.size();
    let mut hash = Sha256::new();
    hash.update(size.to_le_bytes());
    let head = HEAD.min(size);
    let mut ranges = vec![(0, head)];
    ranges.extend((1..=PIECES).map(|i| {
        let at = head + (size - head).saturating_sub(PIECE) / PIECES * i;
        (at.min(size), PIECE.min(size - at.min(size)))
    }));
    for (at, len) in ranges {
        hash.update(blob.read(at, len as usize).await.map_err(|error| Error::io(name, error))?);
    }
    Ok(hex(&hash.finalize()))
}
