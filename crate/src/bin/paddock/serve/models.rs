//! Which base and which adapters are served, before any of them is loaded.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
};

use paddock::{
    config::RawConfig,
    plugin::{MANIFEST, Manifest, check_id, id_of},
};

use super::ServeArgs;
use crate::{
    args::{CommonArgs, TrainedArgs},
    files::{Result, failure},
    model::Located,
    output::Output,
    plugins::Store,
    trained::{self, Trained},
};

/// What the engine calls the base by itself.
pub const BASE: &str = "base";

pub struct Served {
    pub base: Located,
    pub config: RawConfig,
    pub plugins: Vec<Named>,
    /// The adapter that answers where a request names no model.
    pub by_default: Option<String>,
}

/// An adapter, and what requests call it.
#[derive(Debug, Clone)]
pub struct Named {
    pub id: String,
    pub name: Option<String>,
    pub path: PathBuf,
    pub config: RawConfig,
    /// It was asked for by itself: without it nothing is served.
    pub asked: bool,
    /// Its id in the plugin folder.
    pub stored: Option<String>,
}

/// An adapter before its files were looked at.
struct Wanted {
    id: Option<String>,
    path: PathBuf,
    asked: bool,
    stored: Option<String>,
}

pub fn gather(args: &ServeArgs, output: &mut Output) -> Result<Served> {
    let store = Store::at(args.plugins_dir.as_deref())?;
    let (adapter, model) = match &args.model_name_or_path {
        // What `train` wrote can be named by either flag.
        Some(folder) if args.adapter.is_none() && trained::is_adapter(folder) => (Some(folder), None),
        model => (args.adapter.as_ref(), model.as_ref()),
    };
    let by_itself = |path: &PathBuf| Wanted { id: None, path: path.clone(), asked: true, stored: None };
    let mut all: Vec<Wanted> = adapter.map(by_itself).into_iter().collect();
    for given in &args.plugin {
        all.push(wanted(given, &store)?);
    }
    if args.plugins_dir.is_some() {
        for entry in store.list()? {
            if all.iter().any(|one| one.path == entry.path) {
                continue;
            }
            if let Err(failure) = &entry.manifest {
                output.warning(format!("`{}` is not served: {}", entry.id, failure.message))?;
                continue;
            }
            all.push(Wanted { id: Some(entry.id.clone()), path: entry.path, asked: false, stored: Some(entry.id) });
        }
    }
    let base = match (model, all.first()) {
        (Some(model), _) => model.clone(),
        (None, Some(first)) => trained::base_of(&first.path)?,
        (None, None) => {
            return Err(failure(
                "neither --model_name_or_path nor an adapter is given",
                "Name a base: --model_name_or_path DIR, or an adapter: --adapter DIR.",
            ));
        }
    };
    let located = Located::find(&base, output)?;
    let config = settings(args, &base, None)?;
    let mut plugins = Vec::new();
    for one in all {
        match named(args, &base, &one) {
            Ok(plugin) => plugins.push(plugin),
            Err(failure) if !one.asked => {
                output.warning(format!("{} is not served: {}", one.path.display(), failure.message))?;
            }
            Err(failure) => return Err(failure),
        }
    }
    distinct(&located.name, &plugins)?;
    let by_default = adapter.and_then(|_| plugins.first()).map(|plugin| plugin.id.clone());
    Ok(Served { base: located, config, plugins, by_default })
}

/// `[ID=]DIR`, or the id of a plugin of the plugin folder.
fn wanted(given: &str, store: &Store) -> Result<Wanted> {
    let (id, place) = match given.split_once('=') {
        Some((id, place)) if check_id(id).is_ok() && !Path::new(given).exists() => (Some(id.to_owned()), place),
        _ => (None, given),
    };
    if !Path::new(place).exists()
        && let Some(path) = store.get(place)?
    {
        let stored = Some(place.to_owned());
        return Ok(Wanted { id: id.or(stored.clone()), path, asked: true, stored });
    }
    if !Path::new(place).exists() {
        return Err(failure(
            format!(
                "--plugin {given}: there is no such folder or zip, and no plugin of this id in {}",
                store.dir().display()
            ),
            "Name an adapter's folder as ID=DIR, or a plugin that `paddock plugins list` shows.",
        ));
    }
    Ok(Wanted { id, path: PathBuf::from(place), asked: true, stored: None })
}

fn named(args: &ServeArgs, base: &Path, wanted: &Wanted) -> Result<Named> {
    let manifest = match trained::member(&wanted.path, MANIFEST)? {
        Some(text) => Some(Manifest::read(text.as_bytes()).map_err(|error| {
            failure(
                format!("{}: {error}", wanted.path.display()),
                "Export the adapter again, or remove its plugin.json.",
            )
        })?),
        None => None,
    };
    let stem = wanted.path.file_stem().unwrap_or_default().to_string_lossy();
    let own = manifest.as_ref().map(|manifest| manifest.id.clone());
    let id = wanted.id.clone().or(own).unwrap_or_else(|| id_of(&stem));
    Ok(Named {
        id,
        name: manifest.map(|manifest| manifest.name),
        path: wanted.path.clone(),
        config: settings(args, base, Some(&wanted.path))?,
        asked: wanted.asked,
        stored: wanted.stored.clone(),
    })
}

/// As a model was trained, but held as this server holds all of them: only so do they share the base.
fn settings(args: &ServeArgs, base: &Path, adapter: Option<&Path>) -> Result<RawConfig> {
    let trained = TrainedArgs {
        model_name_or_path: Some(base.to_owned()),
        adapter: adapter.map(Path::to_owned),
        plugin: None,
        plugins_dir: None,
    };
    let auto = |given: &Option<String>| Some(given.clone().unwrap_or_else(|| "auto".to_owned()));
    let common = CommonArgs {
        device: args.device.clone(),
        max_seq_length: args.max_seq_length,
        quantization: auto(&args.quantization),
        mixed_precision: auto(&args.mixed_precision),
        ..CommonArgs::default()
    };
    Ok(Trained::find(&trained, &common)?.config)
}

/// Two models of one name could not be told apart.
fn distinct(base: &str, plugins: &[Named]) -> Result<()> {
    let mut seen = BTreeSet::from([base, BASE]);
    for plugin in plugins {
        if !seen.insert(&plugin.id) {
            return Err(failure(
                format!("two models would be called `{}`", plugin.id),
                format!("Name {} otherwise: --plugin OTHER={}.", plugin.path.display(), plugin.path.display()),
            ));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn plugin(id: &str) -> Named {
        Named {
            id: id.into(),
            name: None,
            path: "there".into(),
            config: RawConfig::default(),
            asked: true,
            stored: None,
        }
    }

    #[test]
    fn no_two_models_have_one_name() {
        assert!(distinct("model", &[plugin("a"), plugin("b")]).is_ok());
        for plugins in [vec![plugin("a"), plugin("a")], vec![plugin("model")], vec![plugin(BASE)]] {
            let error = distinct("model", &plugins).expect_err("one name twice");
            assert!(error.message.contains("would be called") && error.advice.contains("OTHER=there"));
        }
    }

    #[test]
    fn a_plugin_is_a_folder_or_one_that_is_stored() {
        let folder = temp_dir::TempDir::new().expect("a folder");
        let stored = folder.path().join("spam");
        fs::create_dir(&stored).expect("a folder");
        fs::write(stored.join("adapter_config.json"), "{}").expect("a file");
        let store = Store::at(Some(folder.path())).expect("a store");
        let by_id = wanted("spam", &store).expect("stored");
        assert_eq!((by_id.id.as_deref(), by_id.stored.as_deref(), &by_id.path), (Some("spam"), Some("spam"), &stored));
        let renamed = wanted("other=spam", &store).expect("stored");
        assert_eq!((renamed.id.as_deref(), renamed.stored.as_deref()), (Some("other"), Some("spam")));
        let place = stored.to_str().expect("a path");
        let by_path = wanted(&format!("x={place}"), &store).expect("a folder");
        assert_eq!((by_path.id.as_deref(), by_path.stored, by_path.path), (Some("x"), None, stored.clone()));
        assert_eq!(wanted(place, &store).expect("a folder").id, None);
        for nothing in ["nobody", "../x", "a=../nobody", ""] {
            assert!(wanted(nothing, &store).err().expect(nothing).message.contains("no such folder"), "{nothing}");
        }
    }
}
