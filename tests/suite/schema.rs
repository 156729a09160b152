//! docs/run.schema.json and docs/sweep.schema.json, by which editors complete run.yaml and sweep.yaml, and docs/plugin.schema.json
//! for those that write or read a plugin.json. All are generated: `UPDATE=1 cargo xtask test --native`.

use std::{fs, path::PathBuf};

use paddock::{config, plugin, sweep};
use serde_json::Value;

fn is_the_engines(name: &str, schema: &Value) {
    let text = serde_json::to_string_pretty(schema).expect("plain values") + "\n";
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../docs").join(name);
    if std::env::var_os("UPDATE").is_some() {
        fs::write(&path, &text).unwrap_or_else(|error| panic!("{name}: {error}"));
    }
    let there = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{name}: {error}"));
    assert!(there == text, "docs/{name} is not what the engine reads; run this test with UPDATE=1");
}

#[test]
fn the_schema_of_runs_in_docs_is_the_engines() {
    is_the_engines("run.schema.json", &config::json_schema());
}

#[test]
fn the_schema_of_sweeps_in_docs_is_the_engines() {
    is_the_engines("sweep.schema.json", &sweep::json_schema());
}

#[test]
fn the_schema_of_plugins_in_docs_is_the_engines() {
    is_the_engines("plugin.schema.json", &plugin::json_schema());
}
