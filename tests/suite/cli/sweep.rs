//! `paddock sweep`: what it tries, records, goes on after and says.

use std::{
    fs,
    process::Stdio,
    thread,
    time::{Duration, Instant},
};

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::{Value, json};

use super::fixture::{Folder, Run, reviews};
use crate::serve::client::until;

const BASE: &str = "base:
  device: cpu
  model: {name_or_path: model, max_seq_length: 32}
  data: {train_file: reviews.csv, validation_split: 0.25}
  training: {learning_rate: 0.000001, max_steps: 12, logging_steps: 100}
";
const GRID: &str = "strategy: grid\nspace:\n  training.learning_rate: [0.000001, 0.02]\n  lora.r: [8, 4]\n";

const HALVING: &str = "strategy: halving
trials: 3
eta: 2
min_steps: 3
space:
  training.learning_rate: {log_uniform: [0.0001, 0.03]}
  lora.r: [2, 4, 8]
";
const SWEEP: [&str; 6] = ["sweep", "sweep.yaml", "--output_dir", "out", "--log_format", "json"];

fn sweep(folder: &Folder) -> Run {
    folder.run(&SWEEP)
}

fn lines(folder: &Folder) -> Vec<Value> {
    folder.read("out/sweep.jsonl").lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// What does not depend on the clock.
fn timeless(mut lines: Vec<Value>) -> Vec<Value> {
    lines.iter_mut().for_each(|line| drop(line.as_object_mut().unwrap().remove("seconds")));
    lines
}

#[test]
fn a_grid_finds_what_learns_and_goes_on_where_it_was_killed() {
    let folder = Folder::new();
    folder.write("sweep.yaml", format!("{BASE}{GRID}"));
    let run = sweep(&folder);
    let result = run.result();
    assert_eq!(run.events("trial").len(), 4, "{}", run.stderr);
    assert_eq!(run.events("model_opened").len(), 1, "opened once");
    let trials = result["trials"].as_array().unwrap();
    assert_eq!((trials.len(), result["metric"].as_str()), (4, Some("macro_f1")));
    let best = lines(&folder).into_iter().find(|line| line["trial"] == result["best"]).unwrap();
    assert_eq!(best["settings"]["training.learning_rate"], 0.02, "{result}");
    assert!(result["verdict"].as_str().unwrap().starts_with("The best has macro_f1"), "{result}");
    // The best settings are a run of their own, with the same end.
    let again = folder.run(&["train", "--config", "out/run.yaml", "--output_dir", "best", "--log_format", "json"]);
    assert_eq!(again.result()["metrics"], best["metrics"]);

    // Killed in the middle of a line: two trials are left, and the rest comes out the same.
    let whole = lines(&folder);
    let text = folder.read("out/sweep.jsonl");
    let cut = text.match_indices('\n').nth(2).unwrap().0 + 40;
    folder.write("out/sweep.jsonl", &text[..cut]);
    let run = sweep(&folder);
    assert_eq!(run.result()["best"], result["best"]);
    assert_eq!(run.events("trial").len(), 2);
    assert_eq!(timeless(lines(&folder)), timeless(whole));
    // With all of them there is nothing left to run.
    assert_eq!(sweep(&folder).events("trial").len(), 0);

    let text = folder.run(&["sweep", "sweep.yaml", "--output_dir", "out"]);
    assert!(text.stdout.contains("trial") && text.stdout.contains("default"), "{}", text.stdout);
    assert!(text.stdout.contains("The best settings are in out"), "{}", text.stdout);
}

/// Trials that stand in the record.
fn recorded(folder: &Folder) -> usize {
    let text = fs::read_to_string(folder.path("out/sweep.jsonl")).unwrap_or_default();
    text.matches('\n').count().saturating_sub(1)
}

#[test]
fn killed_at_random_moments_a_sweep_ends_with_the_same_table() {
    let begin = || {
        let folder = Folder::new();
        folder.write("sweep.yaml", format!("{BASE}{HALVING}"));
        folder
    };
    let whole = begin();
    let begun = Instant::now();
    let expected = sweep(&whole).result();
    let latest = (begun.elapsed().as_millis() as u64 / 2).max(40);
    // The default and three settings, the better two, the best.
    assert_eq!(recorded(&whole), 4 + 3 + 2);

    let folder = begin();
    let mut rng = ChaCha8Rng::seed_from_u64(5);
    let (mut killed, mut finished) = (0, 0);
    while killed < 8 {
        let mut child = folder.command(SWEEP).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        // The first one surely comes in the middle of a trial, behind others.
        match killed {
            0 => until("two trials", || (recorded(&folder) >= 2).then_some(())),
            _ => thread::sleep(Duration::from_millis(rng.random_range(20..latest))),
        }
        // Once it has ended there is nothing left to kill.
        if child.try_wait().unwrap().is_some() {
            break;
        }
        child.kill().unwrap();
        child.wait().unwrap();
        killed += 1;
        let now = recorded(&folder);
        assert!(now >= finished, "{finished} trials, then {now}: lost");
        finished = now;
    }
    assert!(killed > 0);
    let before = recorded(&folder);
    let run = sweep(&folder);
    let result = run.result();
    assert_eq!(run.events("trial").len(), recorded(&whole) - before, "after {killed} kills");
    // Each trial once, with the same numbers.
    assert_eq!(timeless(lines(&folder)), timeless(lines(&whole)));
    let table = |result: &Value| timeless(result["trials"].as_array().unwrap().clone());
    assert_eq!(table(&result), table(&expected));
    assert_eq!(json!([result["best"], result["verdict"]]), json!([expected["best"], expected["verdict"]]));
    assert_eq!(folder.read("out/run.yaml"), whole.read("out/run.yaml"));
}

#[test]
fn another_sweep_or_other_data_are_refused_by_name() {
    let folder = Folder::new();
    let one = format!("{BASE}strategy: grid\nspace: {{lora.r: [4]}}\n").replace("max_steps: 12", "max_steps: 1");
    folder.write("sweep.yaml", &one);
    sweep(&folder).result();
    let record = folder.read("out/sweep.jsonl");
    for (yaml, named) in [
        (one.replace("lora.r: [4]", "lora.r: [4, 2]"), "sweep.space.lora.r.list"),
        (one.replace("0.000001", "0.1"), "sweep.base.training.learning_rate"),
        (one.replace("grid", "random"), "sweep.search.strategy"),
    ] {
        folder.write("sweep.yaml", yaml);
        let error = sweep(&folder).error();
        assert!(error.contains("sweep.jsonl") && error.contains(named), "{error}");
    }
    folder.write("sweep.yaml", &one);
    folder.write("reviews.csv", reviews(100));
    assert!(sweep(&folder).error().contains("data is not the same"));
    folder.write("reviews.csv", reviews(120));
    for damage in ["x\n".to_owned(), String::new(), record.replace("\"trial\":1", "\"trial\":7")] {
        folder.write("out/sweep.jsonl", damage);
        assert!(sweep(&folder).error().contains("sweep.jsonl"));
    }
    let again = ["sweep", "sweep.yaml", "--output_dir", "out", "--overwrite_output_dir", "--log_format", "json"];
    assert_eq!(folder.run(&again).events("trial").len(), 2);
    assert_eq!(
        timeless(lines(&folder))[2]["metrics"],
        serde_json::from_str::<Value>(record.lines().nth(2).unwrap()).unwrap()["metrics"]
    );
}

#[test]
fn a_trial_that_fails_is_recorded_and_the_others_run() {
    let folder = Folder::new();
    folder.write("base.yaml", "device: cpu\nmodel: {max_seq_length: 32}\ntraining: {max_steps: 20}\n");
    folder.write(
        "sweep.yaml",
        "base: base.yaml\nstrategy: grid\nspace: {training.weight_decay: [1000], training.learning_rate: [10]}\n",
    );
    let files = ["--model_name_or_path", "model", "--train_file", "reviews.csv"];
    let run = folder.run(&[&["sweep", "sweep.yaml", "--log_format", "json"], &files[..]].concat());
    let result = run.result();
    assert_eq!(json!([result["best"], result["trials"][1]["trial"]]), json!([0, 1]));
    assert!(result["trials"][1]["what"].as_str().unwrap().contains("at step"), "{result}");
    assert!(result["verdict"].as_str().unwrap().starts_with("No setting beat the default"), "{result}");

    folder.write("sweep.yaml", "base: base.yaml\nspace: {lora.rr: [1]}\n");
    assert!(
        folder
            .run(&["sweep", "sweep.yaml", "--log_format", "json"])
            .error()
            .contains("line 2: space: unknown key `lora.rr`")
    );
}

#[test]
fn the_starter_model_is_swept_on_the_sample_data() {
    let sample = concat!(env!("CARGO_MANIFEST_DIR"), "/../.paddock/data/spam.csv");
    let table = fs::read(sample).unwrap_or_else(|error| panic!("{sample}: {error}; run `cargo xtask data spam` first"));
    let folder = Folder::new();
    folder.write("spam.csv", table);
    folder.write(
        "sweep.yaml",
        "base:
  device: cpu
  model: {name_or_path: starter, max_seq_length: 64}
  data: {train_file: spam.csv, max_eval_samples: 60}
  training: {max_steps: 12}
strategy: grid
space: {training.learning_rate: [0.00001, 0.005]}
",
    );
    let result = sweep(&folder).result();
    let rows = result["trials"].as_array().unwrap();
    assert_eq!((rows.len(), result["metric"].as_str()), (3, Some("macro_f1")), "{result}");
    let value = |trial: &Value| rows.iter().find(|row| row["trial"] == *trial).unwrap()["value"].as_f64().unwrap();
    let (best, verdict) = (&result["best"], result["verdict"].as_str().unwrap());
    let (reached, default) = (value(best), value(&json!(0)));
    assert!(rows.iter().all(|row| row["value"].as_f64().unwrap() <= reached), "{result}");
    // It beats the default, or the report says that it does not.
    match verdict.starts_with("No setting beat the default") {
        true => assert_eq!(reached, default, "{result}"),
        false => assert!(verdict.starts_with("The best has macro_f1") && reached > default, "{result}"),
    }
    let text = folder.run(&["sweep", "sweep.yaml", "--output_dir", "out"]).stdout;
    for part in ["macro_f1", "default", "learning_rate 0.005", verdict, "The best settings are in out"] {
        assert!(text.contains(part), "{part} in {text}");
    }
}

#[test]
fn the_range_test_suggests_a_rate_that_learns() {
    let folder = Folder::new();
    let args = ["lr_find", "--model_name_or_path", "model", "--train_file", "reviews.csv", "--device", "cpu"];
    let more = ["--max_seq_length", "32", "--max_lr", "10", "--num_training_steps", "60"];
    let run = folder.run(&[&args[..], &more, &["--log_format", "json"]].concat());
    let result = run.result();
    let curve = &run.events("lr_curve")[0];
    let points = curve["points"].as_array().unwrap();
    assert_eq!(run.events("step").len(), points.len());
    let rates: Vec<_> = points.iter().map(|point| point["learning_rate"].as_f64().unwrap()).collect();
    assert!(rates.windows(2).all(|pair| pair[0] < pair[1]) && (rates[0] - 1e-6).abs() < 1e-12, "{rates:?}");
    let suggestion = result["suggestion"].as_f64().unwrap();
    // Rates of 0.01 teach this model its two words in a few steps (see QUICK); 1e-6 and 10 teach nothing.
    assert!((1e-4..1.0).contains(&suggestion), "{suggestion}");

    let text = folder.run(&[&args[..], &more].concat());
    assert!(text.stdout.contains('*') && text.stdout.contains("falls most steeply at"), "{}", text.stdout);
    let error = folder.run(&[&args[..], &["--min_lr", "2", "--log_format", "json"]].concat()).error();
    assert!(error.contains("max_lr"), "{error}");
}
