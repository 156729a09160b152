//! www/protocol.d.ts says in TypeScript what crosses to the page. It is generated: `UPDATE=1 cargo xtask test --native`.

use std::{collections::BTreeSet, fs, path::PathBuf};

use paddock::{
    config::*,
    event::*,
    generate::{Finish, Sampling},
    plugin::PluginInfo,
    scenario::{MetricInfo, RoleInfo, ScenarioInfo, ShapeInfo},
    sweep::*,
    tokenizer::Message,
};
use ts_rs::{Config as TsConfig, TS};

#[test]
fn the_page_has_the_engines_types() {
    let settings = TsConfig::default();
    let mut text = String::from(
        "// Generated from crate/src/event.rs and crate/src/config/keys.rs by tests/suite/protocol.rs. Do not edit.\n",
    );
    macro_rules! types {
        ($($name:ty),+ $(,)?) => { $( text += &format!("\nexport {}\n", <$name>::decl(&settings)); )+ };
    }
    types!(
        Command,
        ExportFormat,
        ExportDType,
        Envelope,
        Event,
        State,
        Phase,
        Environment,
        DeviceInfo,
        ScenarioInfo,
        ShapeInfo,
        RoleInfo,
        MetricInfo,
        PluginInfo,
        ModelSummary,
        DataSummary,
        Fit,
        AdapterSummary,
        Column,
        Plan,
        Precision,
        Preview,
        Calibration,
        Measured,
        Choices,
        Class,
        Tile,
        Step,
        LrCurve,
        LrPoint,
        When,
        Evaluation,
        Metrics,
        Change,
        Bin,
        ClassScore,
        Sample,
        Prediction,
        Finish,
        TextDelta,
        Sampling,
        FileInfo,
        Summary,
        Verdict,
        Hint,
        HintCause,
        Ended,
        CheckpointInfo,
        Resumed,
        Recovery,
        Cause,
        Action,
        Failure,
        FailureKind,
        Message,
        RawConfig,
        ModelSection,
        DataSection,
        TrainingSection,
        EvaluationSection,
        LoraSection,
        RecoverySection,
        Sweep,
        SearchSection,
        Values,
        Range,
        Scale,
        Trial,
        TrialResult,
        SweepStep,
        Report,
        Row,
        Fit,
        Preview,
        ScenarioInfo,
        ShapeInfo,
        RoleInfo,
        PluginInfo,
        Change,
        Bin,
        ClassScore,
        Verdict,
        Hint,
        HintCause,
        EvaluationSection,
    );
    let text = without_comments(&text);
    for name in named(&text) {
        assert!(
            text.contains(&format!("export type {name} = ")),
            "{name} is named and not declared: add it to the list"
        );
    }
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../www/protocol.d.ts");
    if std::env::var_os("UPDATE").is_some() {
        fs::write(&path, &text).expect("writing www/protocol.d.ts");
    }
    let there = fs::read_to_string(&path).expect("www/protocol.d.ts");
    assert!(there == text, "www/protocol.d.ts is not what the Rust types say; run this test with UPDATE=1");
}

/// What stands where a type may: capital letters outside quotes, but for those of TypeScript itself.
fn named(text: &str) -> BTreeSet<&str> {
    let code = text.lines().filter(|line| !line.starts_with("//"));
    let plain = code.flat_map(|line| line.split('"').step_by(2));
    let words = plain.flat_map(|part| part.split(|c: char| !c.is_ascii_alphanumeric() && c != '_'));
    words
        .filter(|word| word.starts_with(|c: char| c.is_ascii_uppercase()) && !["Array", "Record"].contains(word))
        .collect()
}

/// The comments stand in the Rust files; ts-rs puts them in the middle of lines.
fn without_comments(text: &str) -> String {
    let mut out = String::new();
    let mut comment = false;
    for line in text.lines() {
        comment |= line.starts_with("/**");
        if !comment {
            out.push_str(line.trim_end());
            out.push('\n');
        }
        comment &= !line.ends_with("*/");
    }
    out
}
