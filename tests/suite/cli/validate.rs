//! `paddock validate` and `paddock schema`.

use serde_json::json;

use super::fixture::Folder;

#[test]
fn a_good_file_is_printed_whole_and_is_the_same_run() {
    let folder = Folder::new();
    folder.write("run.yaml", "training:\n  batch_size: 4\n");
    let run = folder.run(&["validate", "run.yaml", "--learning_rate", "0.01", "--set", "lora.r=4"]);
    assert_eq!(run.code, 0, "{}", run.stderr);
    for line in ["  batch_size: 4", "  learning_rate: 0.01", "  r: 4", "  lr_scheduler_type: linear", "device: auto"] {
        assert!(run.stdout.lines().any(|other| other == line), "{line} in {}", run.stdout);
    }
    folder.write("whole.yaml", &run.stdout);
    let again = folder.run(&["validate", "whole.yaml"]);
    assert_eq!(again.stdout, run.stdout);
    let json = folder.run(&["validate", "whole.yaml", "--log_format", "json"]).result();
    assert_eq!(json["config"]["training"]["batch_size"], 4);
}

#[test]
fn a_bad_file_is_told_all_that_is_wrong() {
    let folder = Folder::new();
    folder.write("run.yaml", "tsk: x\ntraining:\n  batch_size: 0\n  method: lore\n");
    let run = folder.run(&["validate", "run.yaml", "--log_format", "json"]);
    assert_eq!(run.code, 1);
    let problems = run.events("problem");
    let messages: Vec<_> = problems.iter().map(|problem| problem["message"].as_str().unwrap()).collect();
    assert!(messages[0].starts_with("run.yaml line 1: unknown key `tsk`"), "{messages:?}");
    assert!(messages[1].starts_with("run.yaml line 3: training.batch_size: expected"), "{messages:?}");
    assert!(messages[2].starts_with("run.yaml line 4: training.method: expected lora or full"), "{messages:?}");
    assert_eq!(json!([problems.len(), problems[2]["advice"]]), json!([3, "Did you mean `lora`?"]));
    assert!(run.error().contains("run.yaml: 3 settings"), "{}", run.error());
    let text = folder.run(&["validate", "run.yaml"]);
    assert!(text.code == 1 && text.stdout.is_empty() && text.stderr.contains("line 4"), "{}", text.stderr);

    // Flags are held against the file.
    folder.write("q.yaml", "model:\n  quantization: q4_0\n");
    let run = folder.run(&["validate", "q.yaml", "--method", "full", "--log_format", "json"]);
    assert!(run.error().contains("model.quantization: expected auto or none"), "{}", run.error());
    assert!(folder.run(&["validate", "none.yaml", "--log_format", "json"]).error().contains("none.yaml"));
}

#[test]
fn the_schema_is_printed() {
    let folder = Folder::new();
    let printed: serde_json::Value = serde_json::from_str(&folder.run(&["schema"]).stdout).unwrap();
    assert_eq!(printed, paddock::config::json_schema());
    let printed: serde_json::Value = serde_json::from_str(&folder.run(&["schema", "--plugin"]).stdout).unwrap();
    assert_eq!(printed, paddock::plugin::json_schema());
    let printed: serde_json::Value = serde_json::from_str(&folder.run(&["schema", "--sweep"]).stdout).unwrap();
    assert_eq!(printed, paddock::sweep::json_schema());
    assert_eq!(folder.run(&["schema", "--sweep", "--plugin"]).code, 2, "one at a time");
}
