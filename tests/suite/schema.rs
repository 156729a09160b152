//! docs/run.schema.json, by which editors complete run.yaml. It is generated: `UPDATE=1 cargo xtask test --native`.

use std::{fs, path::PathBuf};

use paddock::config::json_schema;

#[test]
fn the_schema_in_docs_is_the_engines() {
    let text = serde_json::to_string_pretty(&json_schema()).expect("plain values") + "\n";
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../docs/run.schema.json");
    if std::env::var_os("UPDATE").is_some() {
        fs::write(&path, &text).expect("writing docs/run.schema.json");
    }
    let there = fs::read_to_string(&path).expect("docs/run.schema.json");
    assert!(there == text, "docs/run.schema.json is not what the engine reads; run this test with UPDATE=1");
}
