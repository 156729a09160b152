//! www/protocol.d.ts says in TypeScript what crosses to the page. It is generated: `UPDATE=1 cargo xtask test --native`.

use std::{fs, path::PathBuf};

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
        Preview,
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
    );
    let text = without_comments(&text);
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../www/protocol.d.ts");
    if std::env::var_os("UPDATE").is_some() {
        fs::write(&path, &text).expect("writing www/protocol.d.ts");
    }
    let there = fs::read_to_string(&path).expect("www/protocol.d.ts");
    assert!(there == text, "www/protocol.d.ts is not what the Rust types say; run this test with UPDATE=1");
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
