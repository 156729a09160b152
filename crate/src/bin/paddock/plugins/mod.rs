//! `paddock plugins`: adapters by their ids, in a folder of the user's.

mod source;
mod store;
mod table;
mod usage;

use std::path::PathBuf;

use clap::{Args, Subcommand};
use paddock::{event::Failure, plugin::Manifest};
use serde_json::{Value, json};

pub use store::Store;

use crate::{files::Result, output::Output};
use table::{Row, plain, table};

#[derive(Debug, Args)]
pub struct PluginsArgs {
    /// The plugin folder; paddock/plugins in the user's data folder when absent
    #[arg(long = "plugins_dir", value_name = "DIR", global = true)]
    pub plugins_dir: Option<PathBuf>,
    #[command(subcommand)]
    pub command: PluginsCommand,
}

#[derive(Debug, Subcommand)]
pub enum PluginsCommand {
    /// Show what is there, what it is worth and how often it was used
    List,
    /// Check an adapter and copy it into the plugin folder
    Add(AddArgs),
    /// Delete a plugin and its count
    Remove(RemoveArgs),
}

#[derive(Debug, Args)]
pub struct AddArgs {
    /// A PEFT folder (what `train` wrote), or a zip of one
    #[arg(value_name = "DIR|ZIP")]
    pub from: PathBuf,
    /// What names it from now on; that of its plugin.json, or of its folder, when absent
    #[arg(long = "id", value_name = "ID")]
    pub id: Option<String>,
    /// Take the place of the plugin that has this id
    #[arg(long = "overwrite")]
    pub overwrite: bool,
}

#[derive(Debug, Args)]
pub struct RemoveArgs {
    #[arg(value_name = "ID")]
    pub id: String,
}

pub fn run(args: &PluginsArgs, output: &mut Output) -> Result<()> {
    let store = Store::at(args.plugins_dir.as_deref())?;
    match &args.command {
        PluginsCommand::List => list(&store, output),
        PluginsCommand::Add(args) => {
            let manifest = store.add(&args.from, args.id.as_deref(), args.overwrite)?;
            let text = format!("{} is in {}", manifest.id, store.dir().display());
            output.result(json!({"plugin": described(&manifest), "plugins_dir": store.dir().to_string_lossy()}), &text)
        }
        PluginsCommand::Remove(args) => {
            store.remove(&args.id)?;
            output.result(json!({"removed": args.id}), &format!("{} is removed", args.id))
        }
    }
}

fn list(store: &Store, output: &mut Output) -> Result<()> {
    let entries = store.list()?;
    let uses = store.uses().or_else(|failure| output.warning(failure.message).map(|()| Default::default()))?;
    let counted = entries.iter().filter_map(|entry| uses.get(&entry.id));
    let total = counted.fold(0u64, |sum, uses| sum.saturating_add(*uses));
    let (mut rows, mut values) = (Vec::new(), Vec::new());
    for entry in &entries {
        let uses = uses.get(&entry.id).copied().unwrap_or_default();
        let share = if total > 0 { uses as f64 / total as f64 } else { 0.0 };
        let mut value = match &entry.manifest {
            Ok(manifest) => described(manifest),
            Err(Failure { message, .. }) => json!({"id": entry.id, "error": message}),
        };
        value["uses"] = uses.into();
        value["share"] = share.into();
        values.push(value);
        rows.push(match &entry.manifest {
            Ok(manifest) => Row::new(manifest, uses, share),
            Err(Failure { message, .. }) => Row::broken(&entry.id, message),
        });
    }
    let fields = json!({"plugins": values, "plugins_dir": store.dir().to_string_lossy()});
    let text = match rows.is_empty() {
        true => format!("no plugins in {}", plain(&store.dir().to_string_lossy(), usize::MAX)),
        false => table(&rows),
    };
    output.result(fields, &text)
}

/// For programs.
fn described(manifest: &Manifest) -> Value {
    json!({
        "id": manifest.id,
        "name": manifest.name,
        "task": manifest.scenario,
        "labels": manifest.labels,
        "base": manifest.base.name,
        "before": manifest.before,
        "after": manifest.after,
    })
}
