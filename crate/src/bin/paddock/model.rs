//! `--model_name_or_path`: a folder or GGUF file on this machine, a repository of the hub, or the built-in starter model.

use std::path::{Path, PathBuf};

use paddock::platform::NamedFile;

use crate::{
    files::{self, Result, failure},
    hub::{self, Repo},
    output::Output,
    starter,
};

/// The name that stands for the model compiled into the command.
pub const STARTER: &str = "starter";

fn is_gguf(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("gguf"))
}

/// Where a model's files are on this machine.
pub struct Located {
    pub name: String,
    place: Place,
}

enum Place {
    Starter,
    Folder(PathBuf),
    Gguf(PathBuf),
}

impl Located {
    /// A folder called `starter` is reached as `./starter`; a folder goes before a repository of the same name, which is
    /// fetched where it is not there yet.
    pub fn find(path: &Path, output: &mut Output) -> Result<Self> {
        if path == Path::new(STARTER) {
            return Ok(Self { name: STARTER.to_owned(), place: Place::Starter });
        }
        if !path.exists() {
            let Some(repo) = path.to_str().and_then(Repo::parse).filter(|_| !is_gguf(path)) else {
                return Err(failure(
                    format!("--model_name_or_path {}: no such folder or file", path.display()),
                    "Give a folder on this machine with config.json, model.safetensors and tokenizer.json, a .gguf file, \
                     the name of a repository on the hub (org/name), or `starter`.",
                ));
            };
            let folder = hub::open(&repo, output)?;
            return Ok(Self { name: repo.id, place: Place::Folder(folder) });
        }
        let name = files::utf8(path.file_name().map_or(path, Path::new))?;
        if path.is_dir() {
            return Ok(Self { name, place: Place::Folder(path.to_owned()) });
        }
        if !is_gguf(path) {
            return Err(failure(
                format!("--model_name_or_path {} is a file, not a folder or a GGUF file", path.display()),
                "Give the folder that holds config.json, model.safetensors and tokenizer.json, or a .gguf file.",
            ));
        }
        Ok(Self { name, place: Place::Gguf(path.to_owned()) })
    }

    pub fn open(&self) -> Result<Vec<NamedFile>> {
        let path = match &self.place {
            Place::Starter => return Ok(starter::files()),
            Place::Folder(path) => return files::open_folder(path),
            Place::Gguf(path) => path,
        };
        let mut opened = vec![files::open_file(path, self.name.clone())?];
        // A tokenizer.json beside the file stands for the vocabulary inside.
        let tokenizer = path.with_file_name("tokenizer.json");
        if tokenizer.is_file() {
            opened.push(files::open_file(&tokenizer, "tokenizer.json".to_owned())?);
        }
        Ok(opened)
    }
}

/// The model's name and its files.
pub fn open(path: &Path, output: &mut Output) -> Result<(String, Vec<NamedFile>)> {
    let located = Located::find(path, output)?;
    let files = located.open()?;
    Ok((located.name, files))
}
