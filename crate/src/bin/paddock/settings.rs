//! From YAML and flags to one configuration.

use std::path::Path;

use paddock::config::{Config, RawConfig};

use crate::{
    args::{CommonArgs, RunArgs},
    files::{self, Result},
};

/// The YAML file that `--config` names, or the defaults.
pub fn from_file(path: Option<&Path>) -> Result<RawConfig> {
    let Some(path) = path else { return Ok(RawConfig::default()) };
    parse(&files::read_text(path)?, &path.display().to_string())
}

/// The file that `--config` names with the flags over it, checked as a whole.
pub fn configure(args: &RunArgs) -> Result<RawConfig> {
    let mut config = from_file(args.common.config.as_deref())?;
    apply(args, &mut config)?;
    check(&config)?;
    Ok(config)
}

/// Puts all flags over `config`.
pub fn apply(args: &RunArgs, config: &mut RawConfig) -> Result<()> {
    args.apply(config);
    let paths = [
        (&args.model_name_or_path, &mut config.model.name_or_path),
        (&args.train_file, &mut config.data.train_file),
        (&args.validation_file, &mut config.data.validation_file),
    ];
    for (flag, key) in paths {
        if let Some(path) = flag {
            *key = Some(files::utf8(path)?);
        }
    }
    set_all(config, &args.common)
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
