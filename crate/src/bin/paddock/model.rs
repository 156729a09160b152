//! `--model_name_or_path`: a folder on this machine, or the built-in starter model.

use std::path::Path;

use paddock::platform::NamedFile;

use crate::{
    files::{self, Result, failure},
    starter,
};

/// The name that stands for the model compiled into the command.
pub const STARTER: &str = "starter";

/// The folder's name and its files. A folder called `starter` is reached as `./starter`.
pub fn open(path: &Path) -> Result<(String, Vec<NamedFile>)> {
    if path == Path::new(STARTER) {
        return Ok((STARTER.to_owned(), starter::files()));
    }
    if !path.exists() {
        return Err(failure(
            format!("--model_name_or_path {}: no such folder", path.display()),
            "Give a folder on this machine with config.json, model.safetensors and tokenizer.json, or `starter`; \
             models are not downloaded from the hub.",
        ));
    }
    if !path.is_dir() {
        return Err(failure(
            format!("--model_name_or_path {} is a file, not a folder", path.display()),
            "Give the folder that holds config.json, model.safetensors and tokenizer.json.",
        ));
    }
    let name = files::utf8(path.file_name().map_or(path, Path::new))?;
    Ok((name, files::open_folder(path)?))
}
