//! Plugins: a trained adapter packed with its task. On disk PEFT's folder (or one zip of it) with a `plugin.json` beside it;
//! in memory models that share one base's weights.

mod manifest;

use std::collections::HashMap;

use serde::{Deserialize, Serialize};
use ts_rs::TS;

use crate::{
    apply::Applied,
    config::Config,
    data::{Fields, Role},
    device::Opened,
    error::{Error, Result},
    event::Metrics,
    model::{Llama, Param},
    prompt::Prompter,
    scenario::Learns,
    weights::Packing,
};

use manifest::LONGEST_ID;
pub use manifest::{Base, Manifest, VERSION, check_id, id_of, json_schema};

pub const MANIFEST: &str = "plugin.json";
const HEAD: &str = "score.weight";
/// A base with that many is not switched by hand any more.
const MOST: usize = 100;

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
