//! An adapter as a person hands it over: a PEFT folder's files, or one zip of them.

use std::collections::HashMap;

use super::PeftConfig;
use crate::{
    config::{LoraConfig, Method, RawConfig, Task},
    error::{Error, Result},
    export::unzip,
    model::LlamaConfig,
    platform::{Memory, NamedFile},
    plugin::{MANIFEST, Manifest},
};

const CONFIG: &str = "adapter_config.json";
const WEIGHTS: &str = "adapter_model.safetensors";

/// Files of an adapter are small next to its base.
const MAX_BYTES: u64 = 2 << 30;

/// File names in an error.
const MOST_LISTED: usize = 8;

/// An adapter's files, read but for its weights.
pub struct AdapterFiles {
    pub peft: PeftConfig,
    pub weights: NamedFile,
    /// The config.json beside them: it names the classes. PEFT itself writes none.
    pub model: Option<LlamaConfig>,
    /// The run.yaml that Paddock wrote with it.
    pub run: Option<RawConfig>,
    /// The metrics.json of that run.
    pub metrics: Option<Vec<u8>>,
    /// The plugin.json beside them.
    pub manifest: Option<Manifest>,
}

impl AdapterFiles {
    /// None where there are no files at all.
    pub async fn read(files: Vec<NamedFile>) -> Result<Option<Self>> {
        let files = unpack(files).await?;
        let mut files: HashMap<String, NamedFile> = files.into_iter().map(|f| (f.name.clone(), f)).collect();
        let Some(config) = files.remove(CONFIG) else {
            if files.is_empty() {
                return Ok(None);
            }
            // Other files must not pass for "no adapter": the base model alone would answer.
            let mut there: Vec<_> = files.into_keys().take(MOST_LISTED).collect();
            there.sort();
            let message = format!("{CONFIG} is missing; there is {}", there.join(", "));
            return Err(Error::session(message, "Choose the folder that PEFT or Paddock wrote, or the zip of it."));
        };
        let peft = PeftConfig::from_json(&whole(&config).await?)?;
        let weights = files
            .remove(WEIGHTS)
            .ok_or_else(|| Error::weights(WEIGHTS, None, "the adapter's weights beside its config", "none"))?;
        let model = match files.remove("config.json") {
            Some(file) => Some(LlamaConfig::from_json(&whole(&file).await?)?),
            None => None,
        };
        let run = match files.remove("run.yaml") {
            Some(file) => Some(RawConfig::from_yaml(&String::from_utf8_lossy(&whole(&file).await?), "run.yaml")?),
            None => None,
        };
        let metrics = match files.remove("metrics.json") {
            Some(file) => Some(whole(&file).await?),
            None => None,
        };
        let manifest = match files.remove(MANIFEST) {
            Some(file) => Some(Manifest::read(&whole(&file).await?)?),
            None => None,
        };
        Ok(Some(Self { peft, weights, model, run, metrics, manifest }))
    }

    /// Names of the classes that its head has, one for regression; none where no file tells them.
    pub fn labels(&self, base: &LlamaConfig) -> Vec<String> {
        match self.peft.task_type.as_deref() {
            Some("CAUSAL_LM") => Vec::new(),
            _ => self.model.as_ref().unwrap_or(base).labels.clone(),
        }
    }

    /// Which of the tasks of a language model it goes on with: the one that is asked for, or the one it was trained for.
    fn writing(&self, asked: Option<&str>) -> String {
        let trained = self.run.as_ref().and_then(|run| run.task.as_deref());
        let writes = |word: &&str| Task::ALL.iter().any(|task| task.as_str() == *word && !task.classifies());
        asked.filter(writes).or(trained.filter(writes)).unwrap_or(Task::TextGeneration.as_str()).to_owned()
    }

    /// The settings of a run that goes on from this adapter: what the adapter fixes is filled in, and a key that
    /// says otherwise is refused.
    pub fn settle(&self, mut raw: RawConfig, base: &LlamaConfig) -> Result<RawConfig> {
        let LoraConfig { r, lora_alpha, lora_dropout, mut target_modules } = self.peft.lora()?;
        let task = match self.peft.task_type.as_deref() {
            Some("CAUSAL_LM") => Some(self.writing(raw.task.as_deref())),
            Some("SEQ_CLS") => Some(Task::TextClassification.as_str().to_owned()),
            _ => None,
        };
        if let Some(task) = task {
            fix("task", &mut raw.task, task)?;
        }
        fix("training.method", &mut raw.training.method, Method::Lora.as_str().to_owned())?;
        fix("lora.r", &mut raw.lora.r, r)?;
        fix("lora.lora_alpha", &mut raw.lora.lora_alpha, lora_alpha)?;
        target_modules.sort_unstable();
        if let Some(named) = &mut raw.lora.target_modules {
            named.sort_unstable();
        }
        fix("lora.target_modules", &mut raw.lora.target_modules, target_modules)?;
        // Dropout is a matter of training, not of what the adapter is.
        raw.lora.lora_dropout.get_or_insert(lora_dropout);
        match (self.labels(base).len(), raw.model.num_labels) {
            (0, _) | (2.., None) => {}
            (labels, _) => fix("model.num_labels", &mut raw.model.num_labels, labels)?,
        }
        Ok(raw)
    }
}

/// Fills `key` in with what the adapter has; an error where something else stands there.
fn fix<T: PartialEq + std::fmt::Debug>(name: &str, key: &mut Option<T>, adapter: T) -> Result<()> {
    match key {
        Some(value) if *value != adapter => {
            Err(Error::config(name, format!("{adapter:?} as the adapter has it"), format!("{value:?}")))
        }
        _ => {
            *key = Some(adapter);
            Ok(())
        }
    }
}

async fn whole(file: &NamedFile) -> Result<Vec<u8>> {
    let size = file.blob.size();
    if size > MAX_BYTES {
        let got = format!("{size} bytes");
        return Err(Error::model(&file.name, "the file", format!("at most {MAX_BYTES} bytes"), got));
    }
    file.blob.read(0, size as usize).await.map_err(|e| Error::io(&file.name, e))
}

/// One zip becomes the files inside it.
async fn unpack(files: Vec<NamedFile>) -> Result<Vec<NamedFile>> {
    match files.as_slice() {
        [one] if one.name.to_lowercase().ends_with(".zip") => {
            let inside = unzip(&one.name, whole(one).await?, MAX_BYTES)?;
            let named = |(name, bytes): (String, Vec<u8>)| NamedFile { name, blob: Box::new(Memory(bytes)) };
            Ok(inside.into_iter().map(named).collect())
        }
        _ => Ok(files),
    }
}
