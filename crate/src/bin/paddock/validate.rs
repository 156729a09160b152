//! `paddock validate` and `paddock schema`

use paddock::{
    config::{Config, RawConfig, json_schema},
    plugin, sweep,
};
use serde_json::json;

use crate::{
    args::{SchemaArgs, ValidateArgs},
    files::{self, Result, failure},
    output::Output,
    settings,
};

pub fn run(args: &ValidateArgs, output: &mut Output) -> Result<()> {
    let name = args.file.display().to_string();
    if args.run.common.config.is_some() {
        return Err(failure("two files of settings are given", "Leave --config out: the file is validate's own."));
    }
    let mut raw = match RawConfig::check_yaml(&files::read_text(&args.file)?, &name) {
        Ok(raw) => raw,
        Err(errors) => return Err(output.problems(&name, &errors)?),
    };
    settings::apply(&args.run, &mut raw)?;
    match Config::check(&raw) {
        Ok(config) => output.result(json!({"config": RawConfig::from(&config)}), config.to_yaml().trim_end()),
        Err(errors) => Err(output.problems(&name, &errors)?),
    }
}

pub fn schema(args: &SchemaArgs, output: &mut Output) -> Result<()> {
    let schema = match (args.plugin, args.sweep) {
        (true, _) => plugin::json_schema(),
        (_, true) => sweep::json_schema(),
        (false, false) => json_schema(),
    };
    let text = serde_json::to_string_pretty(&schema).unwrap_or_default();
    output.result(json!({"schema": schema}), &text)
}
