//! The plugin folder: a folder for each plugin, by its id, and the counts beside them.

use std::{
    collections::BTreeMap,
    env, fs,
    path::{Path, PathBuf},
};

use paddock::{
    adapter::AdapterFiles,
    config::Task,
    plugin::{Base, MANIFEST, Manifest, VERSION, check_id, id_of},
};

use super::{
    source,
    usage::{self, Uses},
};
use crate::{
    files::{self, Result, failure},
    hub::variable,
};

/// What a folder of it is known by.
const CONFIG: &str = "adapter_config.json";

#[derive(Debug, Clone)]
pub struct Store {
    dir: PathBuf,
}

/// A folder of the plugin folder.
pub struct Entry {
    pub id: String,
    pub path: PathBuf,
    /// What its plugin.json says, or what is wrong with it.
    pub manifest: Result<Manifest>,
}

impl Store {
    /// The named folder, or the one in the user's data folder (`XDG_DATA_HOME`). It need not be there yet.
    pub fn at(dir: Option<&Path>) -> Result<Self> {
        if let Some(dir) = dir {
            return Ok(Self { dir: dir.to_owned() });
        }
        // One that is not absolute is to be ignored, says the XDG specification.
        let data = variable("XDG_DATA_HOME").filter(|data| data.is_absolute());
        let data = data.or_else(|| env::home_dir().map(|home| home.join(".local/share")));
        let data =
            data.ok_or_else(|| failure("there is no home folder for plugins", "Name one: --plugins_dir DIR."))?;
        Ok(Self { dir: data.join("paddock").join("plugins") })
    }

    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// All that are there, by their ids.
    pub fn list(&self) -> Result<Vec<Entry>> {
        if !self.dir.exists() {
            return Ok(Vec::new());
        }
        let cannot = |error| files::cannot("read", &self.dir, &error);
        let mut entries = Vec::new();
        for entry in fs::read_dir(&self.dir).map_err(cannot)? {
            let path = entry.map_err(cannot)?.path();
            let id = path.file_name().and_then(|name| name.to_str()).filter(|name| check_id(name).is_ok());
            if let Some(id) = id.filter(|_| path.join(CONFIG).is_file()) {
                entries.push(Entry { id: id.to_owned(), manifest: manifest(&path, id), path: path.clone() });
            }
        }
        entries.sort_by(|a, b| a.id.cmp(&b.id));
        Ok(entries)
    }

    /// A plugin's folder.
    pub fn find(&self, id: &str) -> Result<PathBuf> {
        self.get(id)?.ok_or_else(|| {
            let shown: String = id.chars().filter(|c| !c.is_control()).take(64).collect();
            let there = self.list().unwrap_or_default();
            let there: Vec<String> = there.iter().map(|entry| format!("`{}`", entry.id)).collect();
            let there =
                if there.is_empty() { "there is none".to_owned() } else { format!("there is {}", there.join(", ")) };
            failure(
                format!("no plugin `{shown}` in {}; {there}", self.dir.display()),
                "See `paddock plugins list`; add one by `paddock plugins add DIR`.",
            )
        })
    }

    /// The same; none where there is no such plugin.
    pub fn get(&self, id: &str) -> Result<Option<PathBuf>> {
        let path = self.dir.join(id);
        Ok((check_id(id).is_ok() && path.join(CONFIG).is_file()).then_some(path))
    }

    /// Copies an adapter in; what stands there is whole at any time.
    pub fn add(&self, from: &Path, id: Option<&str>, overwrite: bool) -> Result<Manifest> {
        if let Some(id) = id {
            check_name(id)?;
        }
        fs::create_dir_all(&self.dir).map_err(|error| files::cannot("write to", &self.dir, &error))?;
        let staging = Staging::new(&self.dir)?;
        source::copy(from, &staging.0)?;
        let manifest = {
            let mut adapter = source::check(&staging.0, from)?;
            let own = adapter.manifest.take();
            let stem = from.file_stem().unwrap_or_default().to_string_lossy();
            let id = match (id, &own) {
                (Some(id), _) => id.to_owned(),
                (None, Some(own)) => own.id.clone(),
                (None, None) => id_of(&stem),
            };
            check_name(&id)?;
            let manifest = own.unwrap_or_else(|| described(&id, &adapter));
            Manifest { id, ..manifest }
        };
        let mut text = serde_json::to_string_pretty(&manifest).unwrap_or_default();
        text.push('\n');
        files::write_file(&staging.0.join(MANIFEST), text.as_bytes())?;
        self.put(&staging, &manifest.id, overwrite)?;
        Ok(manifest)
    }

    /// Moves what was checked to its place.
    fn put(&self, staging: &Staging, id: &str, overwrite: bool) -> Result<()> {
        let place = self.dir.join(id);
        let cannot = |error| files::cannot("write", &place, &error);
        let old = self.dir.join(format!(".old-{}-{id}", std::process::id()));
        if place.symlink_metadata().is_ok() {
            if !overwrite {
                return Err(failure(
                    format!("{} is there already", place.display()),
                    format!("Name this one otherwise (--id ID), or add --overwrite to replace `{id}`."),
                ));
            }
            fs::rename(&place, &old).map_err(cannot)?;
        }
        let moved = fs::rename(&staging.0, &place);
        if moved.is_err() && old.exists() {
            // What was there is better than nothing.
            let _ = fs::rename(&old, &place);
        }
        moved.map_err(cannot)?;
        let _ = fs::remove_dir_all(&old);
        Ok(())
    }

    pub fn remove(&self, id: &str) -> Result<()> {
        let place = self.find(id)?;
        let cannot = |error| files::cannot("remove", &place, &error);
        // Out of the way at once: a half-deleted folder is no plugin.
        let gone = self.dir.join(format!(".removed-{}-{id}", std::process::id()));
        fs::rename(&place, &gone).map_err(cannot)?;
        fs::remove_dir_all(&gone).map_err(cannot)?;
        usage::change(&self.dir, |uses| {
            uses.remove(id);
        })
    }

    /// Texts that each plugin has answered.
    pub fn uses(&self) -> Result<Uses> {
        usage::read(&self.dir)
    }

    /// Adds to the counts.
    pub fn count(&self, more: BTreeMap<String, u64>) -> Result<()> {
        usage::change(&self.dir, |uses| {
            for (id, count) in more {
                let uses = uses.entry(id).or_default();
                *uses = uses.saturating_add(count);
            }
        })
    }
}

/// The plugin.json of a folder, as of the plugin `id`.
fn manifest(folder: &Path, id: &str) -> Result<Manifest> {
    let path = folder.join(MANIFEST);
    let text = files::read_text(&path)?;
    let manifest = Manifest::read(text.as_bytes())
        .map_err(|error| failure(format!("{}: {error}", path.display()), "Add the adapter anew."))?;
    Ok(Manifest { id: id.to_owned(), ..manifest })
}

/// What the files of an adapter say that came without a plugin.json.
fn described(id: &str, adapter: &AdapterFiles) -> Manifest {
    let run = adapter.run.as_ref();
    let causal = adapter.peft.task_type.as_deref() == Some("CAUSAL_LM");
    let task = run.and_then(|run| run.task.as_deref()).and_then(Task::find);
    let task = task.filter(|task| task.classifies() != causal);
    let task = task.unwrap_or(if causal { Task::TextGeneration } else { Task::TextClassification });
    Manifest {
        format: VERSION,
        id: id.to_owned(),
        name: id.to_owned(),
        scenario: task.as_str().to_owned(),
        shape: run.and_then(|run| run.data.shape.clone()),
        labels: adapter.model.as_ref().filter(|_| !causal).map(|model| model.labels.clone()).unwrap_or_default(),
        template: None,
        before: None,
        after: None,
        base: Base {
            name: adapter.peft.base_model_name_or_path.clone().unwrap_or_default(),
            fingerprint: BTreeMap::new(),
        },
    }
}

/// Whether an id can name a folder here.
fn check_name(id: &str) -> Result<()> {
    check_id(id).map_err(|got| {
        failure(format!("{got} cannot name a plugin"), "Take letters, digits, `.`, `_` and `-`: --id ID.")
    })?;
    // Windows drops a dot at the end of a name.
    if id.eq_ignore_ascii_case(usage::FILE) || id.ends_with('.') {
        return Err(failure(format!("`{id}` cannot name a plugin's folder"), "Choose another one: --id ID."));
    }
    Ok(())
}

/// A folder for what is not checked yet; removed with whatever is left in it.
struct Staging(PathBuf);

impl Staging {
    fn new(dir: &Path) -> Result<Self> {
        let path = dir.join(format!(".adding-{}", std::process::id()));
        // Of a command that was killed and had the same number.
        let _ = fs::remove_dir_all(&path);
        fs::create_dir(&path).map_err(|error| files::cannot("write to", dir, &error))?;
        Ok(Self(path))
    }
}

impl Drop for Staging {
    fn drop(&mut self) {
        // Fails for what was moved, which is as it should be.
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_id_leads_out_of_the_folder() {
        let folder = temp_dir::TempDir::new().expect("a folder");
        fs::write(folder.path().join(CONFIG), "{}").expect("a file");
        let store = Store::at(Some(&folder.path().join("plugins"))).expect("a store");
        fs::create_dir(store.dir()).expect("a folder");
        for id in ["..", "../plugins", ".", "", "a/../..", "/", "x"] {
            assert!(store.find(id).expect_err(id).message.contains("no plugin"), "{id}");
            assert!(store.remove(id).is_err() && folder.path().join(CONFIG).exists());
        }
        for id in ["usage.json", "Usage.JSON", "a.", "..", "a b"] {
            assert!(check_name(id).is_err(), "{id}");
        }
        assert!(check_name("spam-2.1_b").is_ok() && store.list().expect("none").is_empty());
    }
}
