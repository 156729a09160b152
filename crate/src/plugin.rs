//! Plugins: a trained adapter packed with its task. On disk PEFT's folder (or one zip of it) with a `plugin.json` beside it;
//! in memory models that share one base's weights.

use std::collections::{BTreeMap, HashMap};

use serde::{Deserialize, Serialize};
use ts_rs::TS;

use crate::{
    apply::Applied,
    config::{Config, Task},
    data::{Fields, Role},
    device::Opened,
    error::{Error, Result},
    event::Metrics,
    model::{Llama, Param},
    prompt::Prompter,
    scenario::Learns,
    weights::Packing,
};

pub const MANIFEST: &str = "plugin.json";
const VERSION: u32 = 1;
const HEAD: &str = "score.weight";
const LONGEST_ID: usize = 64;
const LONGEST_NAME: usize = 200;
/// A base with that many is not switched by hand any more.
const MOST: usize = 100;

/// `plugin.json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    pub format: u32,
    /// Names it in commands and addresses: letters, digits, `.`, `_` and `-`.
    pub id: String,
    pub name: String,
    /// As in `task:`.
    pub scenario: String,
    /// As in `data.shape`.
    #[serde(default)]
    pub shape: Option<String>,
    #[serde(default)]
    pub labels: Vec<String>,
    /// A prompt as it was put to the model, with `{role}` where a row's parts stand; for a person to read.
    #[serde(default)]
    pub template: Option<String>,
    #[serde(default)]
    pub before: Option<Metrics>,
    #[serde(default)]
    pub after: Option<Metrics>,
    pub base: Base,
}

/// The model that it belongs to.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Base {
    pub name: String,
    /// File name and hash of each part.
    #[serde(default)]
    pub fingerprint: BTreeMap<String, String>,
}

/// What a shell shows of a plugin.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, TS)]
pub struct PluginInfo {
    pub id: String,
    pub name: String,
    /// As in `task:`.
    pub task: String,
    /// Class names; empty for regression and generation.
    pub labels: Vec<String>,
    /// It answers by writing.
    pub generates: bool,
    /// Held-out rows before and after training, where it is known.
    pub before: Option<Metrics>,
    pub after: Option<Metrics>,
    /// Texts that it has answered since it was added.
    #[ts(type = "number")]
    pub uses: u64,
}

impl Manifest {
    pub fn new(id: String, name: String, applied: &Applied) -> Self {
        let summary = applied.summary.as_ref();
        Self {
            format: VERSION,
            id,
            name,
            scenario: applied.config.task.as_str().to_owned(),
            shape: applied.config.data.shape.map(|shape| shape.as_str().to_owned()),
            labels: applied.labels.clone(),
            template: template(applied),
            before: summary.and_then(|summary| summary.before.clone()),
            after: summary.and_then(|summary| summary.after.clone()),
            base: Base {
                name: applied.folder.name.clone(),
                fingerprint: applied.fingerprint.iter().cloned().collect(),
            },
        }
    }

    /// # Errors
    /// What is wrong with which key. Nothing in it is taken for a path.
    pub fn read(bytes: &[u8]) -> Result<Self> {
        let bad = |key: &str, expected: &str, got: String| Error::model(MANIFEST, key, expected, got);
        let manifest: Self =
            serde_json::from_slice(bytes).map_err(|e| bad("the file", "a plugin's description", e.to_string()))?;
        if manifest.format != VERSION {
            return Err(bad("format", &VERSION.to_string(), manifest.format.to_string()));
        }
        check_id(&manifest.id).map_err(|got| bad("id", EXPECTED_ID, got))?;
        if manifest.name.chars().count() > LONGEST_NAME {
            return Err(bad("name", "at most 200 characters", format!("{}", manifest.name.chars().count())));
        }
        if !Task::ALL.iter().any(|task| task.as_str() == manifest.scenario) {
            let words: Vec<_> = Task::ALL.iter().map(|task| task.as_str()).collect();
            let got: String = manifest.scenario.chars().take(60).collect();
            return Err(bad("scenario", &words.join(" or "), got));
        }
        Ok(manifest)
    }

    /// Whether it was trained on this base: its tokens must be the same, and its weights should be.
    ///
    /// # Errors
    /// Another vocabulary: every token would mean something else. A warning where only the weights' file is another one.
    pub fn check_base(&self, name: &str, fingerprint: &[(String, String)]) -> Result<Option<String>> {
        let there: HashMap<&str, &str> =
            fingerprint.iter().map(|(file, hash)| (file.as_str(), hash.as_str())).collect();
        let differs = |(file, hash): (&String, &String)| there.get(file.as_str()).is_some_and(|other| other != hash);
        let different: Vec<&String> =
            self.base.fingerprint.iter().filter(|entry| differs(*entry)).map(|(file, _)| file).collect();
        if different.iter().any(|file| *file == "tokenizer.json") {
            let got = format!("{name}, whose tokenizer.json is another one");
            return Err(Error::model(MANIFEST, "base", format!("the base `{}`", self.base.name), got));
        }
        let weights = different.iter().any(|file| *file != "config.json");
        Ok(weights.then(|| {
            format!(
                "`{}` was trained on other weights than {name} has (`{}`): its answers may be worse than they were.",
                self.id, self.base.name
            )
        }))
    }
}

const EXPECTED_ID: &str = "1 to 64 of the characters a-z, A-Z, 0-9, `.`, `_` and `-`, the first a letter or digit";

/// # Errors
/// The id, cut, where it is none.
pub fn check_id(id: &str) -> std::result::Result<(), String> {
    let fits = |c: char| c.is_ascii_alphanumeric() || ['.', '_', '-'].contains(&c);
    let begins = id.starts_with(|c: char| c.is_ascii_alphanumeric());
    if begins && id.len() <= LONGEST_ID && id.chars().all(fits) {
        return Ok(());
    }
    Err(format!("`{}`", id.chars().take(LONGEST_ID).collect::<String>()))
}

/// An id out of a person's words.
pub fn id_of(name: &str) -> String {
    let mut id = String::new();
    for c in name.chars().flat_map(char::to_lowercase) {
        if c.is_ascii_alphanumeric() {
            id.push(c);
        } else if !id.is_empty() && !id.ends_with('-') {
            id.push('-');
        }
    }
    id.truncate(LONGEST_ID);
    let id = id.trim_end_matches('-');
    if id.is_empty() { "plugin".to_owned() } else { id.to_owned() }
}

/// A plugin ready for use.
pub struct Plugin {
    pub info: PluginInfo,
    pub applied: Applied,
}

/// Those of the opened base, in the order in which they came.
#[derive(Default)]
pub struct Plugins(Vec<Plugin>);

impl Plugins {
    /// Adds one behind the others, in the place of one with its id.
    ///
    /// # Errors
    /// Too many.
    pub fn add(&mut self, id: String, name: String, applied: Applied) -> Result<PluginInfo> {
        let summary = applied.summary.as_ref();
        let info = PluginInfo {
            name: if name.trim().is_empty() { id.clone() } else { name },
            id,
            task: applied.config.task.as_str().to_owned(),
            labels: applied.labels.clone(),
            generates: !applied.config.task.classifies(),
            before: summary.and_then(|summary| summary.before.clone()),
            after: summary.and_then(|summary| summary.after.clone()),
            uses: 0,
        };
        let plugin = Plugin { info: info.clone(), applied };
        // The last one is always the one that was added: that is how a shell knows it.
        self.0.retain(|other| other.info.id != info.id);
        if self.0.len() >= MOST {
            return Err(Error::session(format!("There are {MOST} plugins already."), "Remove some of them."));
        }
        self.0.push(plugin);
        Ok(info)
    }

    /// # Errors
    /// Lists those there are.
    pub fn get(&mut self, id: &str) -> Result<&mut Plugin> {
        let there: Vec<String> = self.0.iter().map(|plugin| format!("`{}`", plugin.info.id)).collect();
        self.0.iter_mut().find(|plugin| plugin.info.id == id).ok_or_else(|| {
            let asked: String = id.chars().take(LONGEST_ID).collect();
            let there =
                if there.is_empty() { "there is none".to_owned() } else { format!("there is {}", there.join(", ")) };
            Error::session(format!("There is no plugin `{asked}`; {there}."), "Add it, or name another one.")
        })
    }

    /// # Errors
    /// As [`Self::get`].
    pub fn remove(&mut self, id: &str) -> Result<()> {
        self.get(id)?;
        self.0.retain(|plugin| plugin.info.id != id);
        Ok(())
    }

    pub fn infos(&self) -> Vec<PluginInfo> {
        self.0.iter().map(|plugin| plugin.info.clone()).collect()
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn clear(&mut self) {
        self.0.clear();
    }
}

/// The weights of a base on its device, for the next model that is made of it. A tensor is a handle: a model that takes
/// one holds the same memory.
#[derive(Default)]
pub struct Shared {
    /// The device that has them, and how it holds them.
    kept: Option<(Opened, Packing, bool)>,
    params: HashMap<String, Param>,
}

impl Shared {
    /// Those that can be taken as a configuration wants its base held; none where they were held otherwise.
    pub fn take(&self, opened: &Opened, packing: Packing, half: bool) -> HashMap<String, Param> {
        if self.fits(opened, packing, half) { self.params.clone() } else { HashMap::new() }
    }

    /// A device that was lost took its tensors along, whatever was opened in its place.
    fn fits(&self, opened: &Opened, packing: Packing, half: bool) -> bool {
        self.kept.as_ref().is_some_and(|(device, kept, kept_half)| {
            device.info.id == opened.info.id && device.check().is_ok() && (*kept, *kept_half) == (packing, half)
        })
    }

    /// Remembers a model's frozen weights.
    pub fn keep(&mut self, opened: &Opened, packing: Packing, half: bool, model: &Llama) {
        if !self.fits(opened, packing, half) {
            self.params.clear();
        }
        self.kept = Some((opened.clone(), packing, half));
        let mut model = model.clone();
        for param in model.params_mut() {
            // A head belongs to one model, whoever brought it.
            if !param.trainable && param.name != HEAD {
                self.params.insert(param.name.clone(), param.clone());
            }
        }
    }

    pub fn clear(&mut self) {
        (self.kept, self.params) = (None, HashMap::new());
    }
}

/// A prompt with the parts' names in the place of a row's.
fn template(applied: &Applied) -> Option<String> {
    let task = applied.config.task;
    let shape = applied.config.data.shape?;
    if task.scenario().learns(shape) != Learns::Answers {
        return None;
    }
    let names: Vec<(Role, String)> =
        shape.roles().iter().map(|(role, _)| (*role, format!("{{{}}}", role.as_str()))).collect();
    let fields = Fields::new(names.iter().map(|(role, name)| (*role, name.as_str())).collect());
    let exchange = task.scenario().ask(shape, &fields).ok()?;
    let ids = Prompter::new(&applied.config, applied.folder.clone()).ok()?.ask(&exchange.turns).ok()?;
    applied.folder.tokenizer.decode(&ids, false).ok()
}

/// The name of a plugin that was given none: its task, and what it was trained on.
pub fn default_name(config: &Config) -> String {
    let file = config.data.train_file.as_deref().unwrap_or_default();
    let stem = file.rsplit(['/', '\\']).next().and_then(|name| name.split('.').next()).unwrap_or_default();
    if stem.is_empty() { config.task.as_str().to_owned() } else { format!("{} {stem}", config.task.as_str()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn json(id: &str, scenario: &str) -> Vec<u8> {
        let base =
            r#"{"name": "b", "fingerprint": {"tokenizer.json": "1", "model.safetensors": "2", "config.json": "3"}}"#;
        format!(r#"{{"format": 1, "id": "{id}", "name": "N", "scenario": "{scenario}", "base": {base}}}"#).into_bytes()
    }

    #[test]
    fn ids_are_no_paths() {
        for id in ["spam", "spam-2.1_b", "0"] {
            assert_eq!(Manifest::read(&json(id, "text-classification")).expect(id).id, id);
        }
        for id in ["", "..", "../x", "a/b", "a\\\\b", ".hidden", "-x", "é", "a b", &"x".repeat(65)] {
            let error = Manifest::read(&json(id, "text-classification")).expect_err(id).to_string();
            assert!(error.contains("plugin.json: id"), "{error}");
        }
        assert!(Manifest::read(&json("a", "poetry")).expect_err("no such task").to_string().contains("scenario"));
        assert!(Manifest::read(b"{}").is_err() && Manifest::read(b"[1").is_err());
        assert_eq!((id_of(" Spam: E-Mails!").as_str(), id_of("情感").as_str()), ("spam-e-mails", "plugin"));
        assert!(check_id(&id_of(&"x y".repeat(100))).is_ok());
    }

    #[test]
    fn the_base_must_have_the_same_tokens_and_should_have_the_same_weights() {
        let manifest = Manifest::read(&json("a", "summarization")).expect("a manifest");
        let parts = |tokenizer: &str, weights: &str| {
            [("tokenizer.json", tokenizer), ("model.safetensors", weights), ("config.json", "9")]
                .map(|(file, hash)| (file.to_owned(), hash.to_owned()))
        };
        assert_eq!(manifest.check_base("b", &parts("1", "2")).expect("the base"), None);
        assert!(manifest.check_base("b", &parts("1", "7")).expect("nearly the base").is_some());
        assert!(manifest.check_base("b", &parts("8", "2")).is_err());
    }
}
