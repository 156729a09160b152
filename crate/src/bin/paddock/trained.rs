//! Which trained model `eval`, `predict` and `export` use: a base with an adapter, or a fully fine-tuned folder.

use std::{
    fs::File,
    io::Read,
    path::{Path, PathBuf},
};

use paddock::{config::RawConfig, event::Command, platform::NamedFile};
use serde_json::Value;

use crate::{
    args::{CommonArgs, TrainedArgs},
    driver::Driver,
    files::{self, Result, failure},
    model,
    plugins::Store,
    settings,
};

const ADAPTER_CONFIG: &str = "adapter_config.json";
const RUN: &str = "run.yaml";
/// A whole model's weights, in one file or in several with their index.
const WEIGHTS: [&str; 2] = ["model.safetensors", "model.safetensors.index.json"];

pub struct Trained {
    model: PathBuf,
    /// A folder or a zip; none for a fully fine-tuned model.
    adapter: Option<PathBuf>,
    /// The settings it was trained with, with the flags over them.
    pub config: RawConfig,
    /// The plugin that the adapter is, and its folder.
    plugin: Option<(Store, String)>,
}

impl Trained {
    pub fn find(args: &TrainedArgs, common: &CommonArgs) -> Result<Self> {
        let plugin = match &args.plugin {
            Some(id) => Some((Store::at(args.plugins_dir.as_deref())?, id.clone())),
            None => None,
        };
        let adapter = match &plugin {
            Some((store, id)) => Some(store.find(id)?),
            None => args.adapter.clone(),
        };
        let (model, adapter) = match (args.model_name_or_path.clone(), adapter) {
            // What `train` wrote can be named by either flag.
            (None, Some(folder)) if is_full_model(&folder) => (folder, None),
            (Some(folder), None) if is_adapter(&folder) => (base_of(&folder)?, Some(folder)),
            (Some(model), adapter) => (model, adapter),
            (None, Some(adapter)) => (base_of(&adapter)?, Some(adapter)),
            (None, None) => {
                return Err(failure(
                    "neither --adapter nor --model_name_or_path is given",
                    "Name what `paddock train` wrote: --adapter DIR, or a plugin: --plugin ID.",
                ));
            }
        };
        let mut config = match &common.config {
            Some(path) => settings::from_file(Some(path))?,
            None => settings_beside(&model, adapter.as_deref())?,
        };
        forget_training(&mut config);
        common.apply(&mut config);
        config.model.name_or_path = Some(files::utf8(&model)?);
        settings::set_all(&mut config, common)?;
        settings::check(&config)?;
        Ok(Self { model, adapter, config, plugin })
    }

    /// Counts texts that a plugin has answered.
    pub fn count(&self, uses: u64) -> Result<()> {
        match &self.plugin {
            Some((store, id)) if uses > 0 => store.count([(id.clone(), uses)].into()),
            _ => Ok(()),
        }
    }

    /// The folders that it is read from.
    pub fn inputs(&self) -> Vec<&Path> {
        let base = (self.model != Path::new(model::STARTER)).then_some(self.model.as_path());
        base.into_iter().chain(self.adapter.as_deref()).collect()
    }

    /// Opens base, data and adapter, in this order.
    pub fn open(&self, driver: &mut Driver<'_>, data: Option<NamedFile>) -> Result<()> {
        let (name, model) = model::open(&self.model, driver.output)?;
        let adapter = self.adapter.as_deref().map(open_adapter).transpose()?.unwrap_or_default();
        driver.send(Command::Inspect, Vec::new())?;
        driver.send(Command::OpenModel { name }, model)?;
        if let Some(file) = data {
            driver.send(Command::OpenData, vec![file])?;
        }
        let config = Box::new(self.config.clone());
        driver.send(Command::OpenAdapter { config }, adapter)?;
        Ok(())
    }
}

/// The files of an adapter's folder, or the zip of it.
pub fn open_adapter(path: &Path) -> Result<Vec<NamedFile>> {
    if path.is_dir() {
        return files::open_folder(path);
    }
    Ok(vec![files::open_file(path, files::utf8(path.file_name().map_or(path, Path::new))?)?])
}

/// Whether a folder holds an adapter, not a whole model.
pub fn is_adapter(folder: &Path) -> bool {
    folder.join(ADAPTER_CONFIG).is_file() && !has_weights(folder)
}

fn is_full_model(folder: &Path) -> bool {
    !folder.join(ADAPTER_CONFIG).exists() && has_weights(folder)
}

fn has_weights(folder: &Path) -> bool {
    WEIGHTS.iter().any(|name| folder.join(name).is_file())
}

/// Keeps what says how a text is read; the files, the device and the row limits were the training's own.
fn forget_training(config: &mut RawConfig) {
    config.device = None;
    config.data.train_file = None;
    config.data.validation_file = None;
    config.data.validation_split = None;
    config.data.max_train_samples = None;
    config.data.max_eval_samples = None;
}

/// `base_model_name_or_path` of an adapter.
pub fn base_of(adapter: &Path) -> Result<PathBuf> {
    let place = format!("{} of {}", ADAPTER_CONFIG, adapter.display());
    let text = member(adapter, ADAPTER_CONFIG)?.ok_or_else(|| {
        failure(
            format!("{} holds no {ADAPTER_CONFIG}", adapter.display()),
            "Name the folder or zip that `paddock train` or PEFT wrote.",
        )
    })?;
    let json: Value = serde_json::from_str(&text)
        .map_err(|error| failure(format!("{place} is not JSON: {error}"), "Export the adapter again."))?;
    match json["base_model_name_or_path"].as_str() {
        Some(base) if !base.is_empty() => Ok(PathBuf::from(base)),
        _ => Err(failure(
            format!("{place} names no base model (base_model_name_or_path)"),
            "Name the base model with --model_name_or_path DIR.",
        )),
    }
}

/// The settings that lie beside the weights; defaults where none do (the starter model, an adapter that PEFT wrote).
fn settings_beside(model: &Path, adapter: Option<&Path>) -> Result<RawConfig> {
    let place = match adapter {
        Some(adapter) => adapter,
        // What is wrong with it is said when it is opened.
        None if model == Path::new(model::STARTER) || !model.is_dir() => return Ok(RawConfig::default()),
        None => model,
    };
    match member(place, RUN)? {
        Some(yaml) => settings::parse(&yaml, &place.join(RUN).display().to_string()),
        None => Ok(RawConfig::default()),
    }
}

/// A small text file of a folder or a zip; none where it is not in there.
pub fn member(container: &Path, name: &str) -> Result<Option<String>> {
    if container.is_dir() {
        let path = container.join(name);
        return path.exists().then(|| files::read_text(&path)).transpose();
    }
    // Said here by its name, before a zip reader says it less well.
    files::open_file(container, String::new())?;
    let bad = |error: String| {
        failure(
            format!("{} cannot be read as a zip: {error}", container.display()),
            "Name an adapter's folder, or the zip that was exported.",
        )
    };
    let file = File::open(container).map_err(|error| files::cannot("read", container, &error))?;
    let mut archive = zip::ZipArchive::new(file).map_err(|error| bad(error.to_string()))?;
    let Some(index) = archive.index_for_path(name) else { return Ok(None) };
    let entry = archive.by_index(index).map_err(|error| bad(error.to_string()))?;
    let mut text = String::new();
    // A settings file is small; a larger one is cut and then refused by its parser.
    entry.take(1 << 20).read_to_string(&mut text).map_err(|error| bad(format!("{name}: {error}")))?;
    Ok(Some(text))
}
