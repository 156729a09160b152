//! From YAML and flags to one configuration.

use std::path::Path;

use paddock::config::{Config, RawConfig};

use crate::{
    args::CommonArgs,
    files::{self, Result},
};

/// The YAML file that `--config` names, or the defaults.
pub fn from_file(path: Option<&Path>) -> Result<RawConfig> {
    let Some(path) = path else { return Ok(RawConfig::default()) };
    parse(&files::read_text(path)?, &path.display().to_string())
}

pub fn parse(yaml: &str, name: &str) -> Result<RawConfig> {
    RawConfig::from_yaml(yaml, name).map_err(Into::into)
}

/// `--set key=value`, over everything else.
pub fn set_all(config: &mut RawConfig, args: &CommonArgs) -> Result<()> {
    for pair in &args.set {
        let Some((key, value)) = pair.split_once('=') else {
            return Err(files::failure(
                format!("--set {pair} has no value"),
                "Write it as --set section.key=value, for example --set training.adam_beta2=0.95.",
            ));
        };
        config.set(key.trim(), value.trim())?;
    }
    Ok(())
}

/// Refuses values that cannot be before anything is opened.
pub fn check(config: &RawConfig) -> Result<()> {
    Config::resolve(config)?;
    Ok(())
}
