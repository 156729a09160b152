//! The command from outside: what it prints, writes and answers.

mod adapter;
mod bad_input;
pub mod fixture;
mod packed;
mod recipes;
mod resume;
mod sweep;
mod tokens;
mod validate;

use std::{
    io::{BufRead, BufReader, Write},
    process::Stdio,
};

use fixture::{Folder, Run, bytes, train_args};
use serde_json::json;

const QUICK: [&str; 8] =
    ["--num_epochs", "4", "--learning_rate", "0.01", "--validation_split", "0.25", "--output_dir", "out"];

#[test]
fn trains_measures_and_predicts() {
    let folder = Folder::new();
    let before = bytes(&folder.path("model/model.safetensors"));
    let train = folder.train("reviews.csv", &QUICK);
    let result = train.result();
    assert_eq!(result["completed"], true);
    assert_eq!(result["output_dir"], "out");
    let accuracy = |metrics: &serde_json::Value| metrics["accuracy"].as_f64().unwrap();
    assert!(accuracy(&result["metrics"]) > 0.95, "{result}");
    assert!(accuracy(&result["before"]) < 0.8, "{result}");
    let losses: Vec<_> = train.events("step").iter().map(|step| step["loss"].as_f64().unwrap()).collect();
    assert!(losses[losses.len() - 1] < 0.5 * losses[0], "{losses:?}");
    assert!(train.events("step").iter().all(|step| step["run"].as_str().is_some_and(|run| !run.is_empty())));

    let states = train.events("state");
    let states: Vec<_> = states.iter().map(|line| line["state"].as_str().unwrap()).collect();
    assert_eq!(states[..5], ["preparing", "evaluating", "training", "evaluating", "succeeded"], "{states:?}");

    let names = folder.names("out");
    for name in ["adapter_config.json", "adapter_model.safetensors", "metrics.json", "run.yaml"] {
        assert!(names.iter().any(|other| other == name), "{names:?}");
    }
    assert!(names.iter().all(|name| !name.ends_with(".part")), "{names:?}");
    let metrics = folder.json("out/metrics.json");
    assert_eq!(metrics["after"], result["metrics"]);
    assert_eq!(folder.json("out/adapter_config.json")["base_model_name_or_path"], "model");
    assert_eq!(bytes(&folder.path("model/model.safetensors")), before, "the base model stays as it is");

    // The adapter names its base, its run.yaml the columns.
    let eval =
        folder.run(&["eval", "--adapter", "out", "--test_file", "reviews.csv", "--device", "cpu", "--log-format=json"]);
    let result = eval.result();
    assert_eq!(result["rows"], 120);
    let opened = &eval.events("adapter_opened")[0];
    assert_eq!(
        json!([opened["task"], opened["labels"], opened["r"]]),
        json!(["text-classification", ["negative", "positive"], 8])
    );
    assert!(accuracy(&result["metrics"]) > 0.95, "{result}");
    assert!(result["metrics"]["macro_f1"].as_f64().unwrap() > 0.95, "{result}");
    assert!(result["metrics"]["loss"].as_f64().unwrap().is_finite());

    let predict = ["predict", "--model_name_or_path", "model", "--adapter", "out", "--device", "cpu"];
    let texts = ["--text", "the plot, as a whole, is poor", "--text", "the cast, as a whole, is great"];
    let run = folder.run(&[&predict[..], &texts, &["--log-format", "json"]].concat());
    assert_eq!(run.result()["rows"], 2);
    let rows = run.events("prediction");
    assert_eq!([&rows[0]["label"], &rows[1]["label"]], ["negative", "positive"], "{rows:?}");
    assert_eq!([&rows[0]["row"], &rows[1]["row"]], [1, 2]);
    let scores = rows[0]["scores"].as_object().unwrap();
    let sum: f64 = scores.values().map(|score| score.as_f64().unwrap()).sum();
    assert!((sum - 1.0).abs() < 1e-4 && scores["negative"].as_f64().unwrap() > 0.5, "{scores:?}");

    let run = folder.run(&[&predict[..], &texts].concat());
    let lines: Vec<_> = run.stdout.lines().map(|line| line.split_once('\t').unwrap()).collect();
    assert_eq!([lines[0].0, lines[1].0], ["negative", "positive"]);
    assert!(lines[0].1.parse::<f64>().unwrap() > 0.5);

    // A file's rows go by their lines; a row without a text is told and left out.
    folder.write("new.csv", "label,text\n,\"the plot, as a whole, is poor\"\n,\n,\"the cast, as a whole, is great\"\n");
    let file = ["--test_file", "new.csv", "--output_file", "answers.jsonl", "--log-format", "json"];
    let run = folder.run(&[&predict[..], &file].concat());
    assert_eq!(run.result()["rows"], 2);
    assert!(run.events("warning")[0]["message"].as_str().unwrap().contains("new.csv"));
    let answers = folder.read("answers.jsonl");
    let answers: Vec<serde_json::Value> = answers.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(json!([answers[0]["row"], answers[0]["label"]]), json!([2, "negative"]));
    assert_eq!(json!([answers[1]["row"], answers[1]["label"]]), json!([4, "positive"]));
}

#[test]
fn full_fine_tuning_gives_a_folder_of_its_own() {
    let folder = Folder::new();
    folder.train("reviews.csv", &[&QUICK[..], &["--method", "full"]].concat()).result();
    assert!(folder.names("out").contains(&"model.safetensors".to_owned()));
    let args = ["eval", "--test_file", "reviews.csv", "--device", "cpu", "--log-format", "json"];
    let by_model = folder.run(&[&args[..], &["--model_name_or_path", "out"]].concat()).result();
    let by_adapter = folder.run(&[&args[..], &["--adapter", "out"]].concat()).result();
    assert!(by_model["metrics"]["accuracy"].as_f64().unwrap() > 0.95, "{by_model}");
    assert_eq!(by_model["metrics"], by_adapter["metrics"]);
}

#[test]
fn a_gguf_file_is_a_model() {
    let folder = Folder::new();
    folder.write("base.gguf", crate::golden::fixture("gguf/model.gguf"));
    let train = ["train", "--model_name_or_path", "base.gguf", "--train_file", "reviews.csv", "--max_steps", "3"];
    let quick = ["--device", "cpu", "--log-format", "json"];
    let eval = |flag, name| {
        let run = folder.run(&[&["eval", flag, name, "--test_file", "reviews.csv"], &quick[..]].concat()).result();
        assert_eq!(run["rows"], 120);
        run["metrics"]["loss"].as_f64().unwrap()
    };
    folder.run(&[&train[..], &quick, &["--output_dir", "adapter"]].concat()).result();
    assert_eq!(folder.json("adapter/adapter_config.json")["base_model_name_or_path"], "base.gguf");
    assert!(eval("--adapter", "adapter").is_finite());
    // All weights: the folder stands for itself, in Hugging Face's layout.
    folder.run(&[&train[..], &quick, &["--output_dir", "full", "--method", "full"]].concat()).result();
    assert_eq!(folder.json("full/config.json")["rope_scaling"]["rope_type"], "llama3");
    assert!(folder.names("full").contains(&"tokenizer.json".to_owned()));
    assert!(eval("--model_name_or_path", "full").is_finite());
}

#[test]
fn an_adapter_in_a_zip_is_the_same_adapter() {
    let folder = Folder::new();
    folder.train("reviews.csv", &QUICK).result();
    let mut zip = zip::ZipWriter::new(std::fs::File::create(folder.path("out.zip")).unwrap());
    let stored = zip::write::SimpleFileOptions::default().compression_method(zip::CompressionMethod::Stored);
    for name in folder.names("out") {
        zip.start_file(&name, stored).unwrap();
        zip.write_all(&bytes(&folder.path("out").join(&name))).unwrap();
    }
    zip.finish().unwrap();
    let predict = |adapter| {
        let text = ["--text", "the scene, as a whole, is fine", "--text=--- poor"];
        let run = folder
            .run(&[&["predict", "--adapter", adapter, "--device", "cpu", "--log_format", "json"], &text[..]].concat());
        run.result();
        run.events("prediction")
    };
    assert_eq!(predict("out"), predict("out.zip"));
}

#[test]
fn a_model_from_scratch() {
    let folder = Folder::new();
    let text: String =
        (0..200).map(|line| format!("we the people of the union, in year {line}, thank you\n")).collect();
    folder.write("speeches.txt", text);
    let init = |output: &str, seed: &str| {
        let sizes =
            ["--vocab_size", "300", "--hidden_size", "32", "--intermediate_size", "64", "--num_hidden_layers", "2"];
        let heads = ["--num_attention_heads", "4", "--num_key_value_heads", "2", "--max_position_embeddings", "64"];
        let rest = ["--seed", seed, "--output_dir", output, "--log_format", "json"];
        let run = folder.run(&[&["init", "--train_file", "speeches.txt"], &sizes[..], &heads, &rest].concat());
        run.result();
        bytes(&folder.path(output).join("model.safetensors"))
    };
    assert_eq!(init("model-a", "1"), init("model-b", "1"));
    assert_ne!(init("model-c", "2"), init("model-d", "1"));
    assert_eq!(folder.names("model-a"), ["config.json", "model.safetensors", "tokenizer.json"]);

    let args = ["train", "--model_name_or_path", "model-a", "--train_file", "speeches.txt", "--device", "cpu"];
    let how = ["--task", "text-generation", "--method", "full", "--learning_rate", "0.01", "--num_epochs", "2"];
    let run = folder.run(&[&args[..], &how, &["--output_dir", "trained", "--log_format", "json"]].concat());
    let result = run.result();
    let loss = |metrics: &serde_json::Value| metrics["loss"].as_f64().unwrap();
    assert!(loss(&result["metrics"]) < 0.5 * loss(&result["before"]), "{result}");
    // Untrained it knows nothing: every one of the 300 tokens is as likely.
    assert!((loss(&result["before"]) - 300f64.ln()).abs() < 0.2, "{result}");

    // Trained on few lines it knows how they go on.
    let ask = ["predict", "--model_name_or_path", "trained", "--text", "we ", "--max_new_tokens"];
    let answer = |most: &str| {
        let run = folder.run(&[&ask[..], &[most, "--log_format", "json"]].concat());
        run.result();
        run.events("prediction")[0]["label"].as_str().expect("an answer").to_owned()
    };
    let (short, long) = (answer("4"), answer("8"));
    assert!(long.len() > short.len() && long.starts_with(&short), "{short:?} {long:?}");
    // Drawn, by a seed; ended by a text, which may look like a flag.
    let drawn = |seed: &str| {
        let how =
            ["12", "--temperature", "2", "--top-k", "40", "--min_p", "0.001", "--seed", seed, "--log_format", "json"];
        folder.run(&[&ask[..], &how].concat()).events("prediction")[0]["label"].clone()
    };
    assert_eq!(drawn("1"), drawn("1"));
    assert_ne!(drawn("1"), drawn("2"));
    let letter = long.chars().nth(3).unwrap().to_string();
    let how = ["8", "--stop", "--log-format", "--stop", &letter, "--log_format", "json"];
    let stopped = folder.run(&[&ask[..], &how].concat());
    assert_eq!(stopped.events("prediction")[0]["label"], long[..long.find(&letter).unwrap()]);
    let error = folder.run(&[&ask[..], &["8", "--top_p", "1.5", "--log_format", "json"]].concat()).error();
    assert!(error.contains("top_p: expected a number above 0 and at most 1, got 1.5"), "{error}");
    let warned = folder.run(&[&ask[..], &["2", "--top_p", "0.5", "--log_format", "json"]].concat());
    assert!(warned.events("warning")[0]["message"].as_str().unwrap().contains("top_p has no effect"));
    // Rows keep their order, however long their answers are.
    folder.write("asked.csv", "text\nwe \nthe\nin the years\na\nof\n");
    let many = ["predict", "--model_name_or_path", "trained", "--test_file", "asked.csv", "--log_format", "json"];
    let rows: Vec<_> = folder.run(&many).events("prediction").iter().map(|row| row["row"].as_u64().unwrap()).collect();
    assert_eq!(rows, [2, 3, 4, 5, 6]);
    let chat = folder.run(&[&ask[..], &["4", "--apply_chat_template", "--log_format", "json"]].concat());
    assert!(chat.error().contains("has no chat template"), "{}", chat.error());

    // What came out is a base like another.
    let tune = ["train", "--model_name_or_path", "trained", "--train_file", "reviews.csv", "--device", "cpu"];
    folder.run(&[&tune[..], &["--max_steps", "2", "--output_dir", "tuned", "--log_format", "json"]].concat()).result();
}

#[test]
fn the_written_config_repeats_the_run_bit_for_bit() {
    let folder = Folder::new();
    let steps = |run: &Run| -> Vec<_> {
        run.result();
        run.events("step").iter().map(|step| (step["loss"].to_string(), step["grad_norm"].to_string())).collect()
    };
    let short = ["--max_steps", "5", "--seed", "3", "--output_dir"];
    let first = steps(&folder.train("reviews.csv", &[&short[..], &["one"]].concat()));
    let again = folder.run(&["train", "--config", "one/run.yaml", "--output_dir", "two", "--log_format", "json"]);
    assert_eq!(first.len(), 5);
    assert_eq!(first, steps(&again));
    let other = steps(&folder.train("reviews.csv", &["--max_steps", "5", "--seed", "4", "--output_dir", "three"]));
    assert_ne!(first, other, "the seed decides");
}

#[test]
fn flags_go_over_the_file_and_set_over_both() {
    let folder = Folder::new();
    folder.write("run.yaml", "training:\n  batch_size: 4\n  learning_rate: 0.25\n  num_epochs: 9\n");
    let more =
        ["--config", "run.yaml", "--per-device-train-batch-size=2", "--num_train_epochs", "1", "--max_steps", "1"];
    let run = folder.train("reviews.csv", &[&more[..], &["--set", "training.adam_beta2=0.95"]].concat());
    run.result();
    let yaml = folder.read("out/run.yaml");
    for line in ["batch_size: 2", "learning_rate: 0.25", "num_epochs: 1", "adam_beta2: 0.95", "max_steps: 1"] {
        assert!(yaml.contains(line), "{line} in {yaml}");
    }
}

#[test]
fn a_validation_file_is_held_out_as_it_is() {
    let folder = Folder::new();
    folder.write("held.csv", fixture::reviews(20));
    let run = folder.train("reviews.csv", &["--validation_file", "held.csv", "--max_steps", "2"]);
    assert_eq!(run.result()["rows"], 20);
    let plan = &run.events("plan")[0];
    assert_eq!([&plan["train_rows"], &plan["device"], &plan["precision"]], [&json!(120), &json!("cpu"), &json!("f32")]);
    let opened = run.events("data_opened");
    assert_eq!([&opened[0]["held_out"], &opened[1]["held_out"]], [&json!(false), &json!(true)]);
}

#[test]
fn an_output_folder_is_replaced_only_on_request_and_keeps_what_is_not_ours() {
    let folder = Folder::new();
    let short = ["--max_steps", "1", "--output_dir", "out"];
    folder.train("reviews.csv", &short).result();
    folder.write("out/notes.txt", "mine");
    let refused = folder.train("reviews.csv", &short).error();
    assert!(refused.contains("out") && refused.contains("--overwrite_output_dir"), "{refused}");

    let full = [&short[..], &["--method", "full", "--overwrite-output-dir"]].concat();
    folder.train("reviews.csv", &full).result();
    let names = folder.names("out");
    assert!(names.contains(&"model.safetensors".to_owned()), "{names:?}");
    assert!(!names.contains(&"adapter_config.json".to_owned()), "the earlier run's files are gone: {names:?}");
    assert_eq!(folder.read("out/notes.txt"), "mine");
}

#[test]
fn reports_the_environment() {
    let folder = Folder::new();
    let run = folder.run(&["env", "--log-format", "json"]);
    run.result();
    let environment = &run.events("environment")[0];
    assert!(environment["devices"].as_array().unwrap().iter().any(|device| device["id"] == "cpu"));
    assert!(!environment["reason"].as_str().unwrap().is_empty());
    assert!(folder.run(&["env"]).stdout.contains("cpu"));
}

#[cfg(unix)]
#[test]
fn ctrl_c_keeps_what_was_trained() {
    let folder = Folder::new();
    let mut child = folder
        .command(train_args("reviews.csv"))
        .args(["--max_steps", "100000", "--output_dir", "out"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
    assert!(lines.by_ref().any(|line| line.starts_with("{\"event\":\"step\"")), "a first step");
    let pid = child.id().to_string();
    assert!(std::process::Command::new("kill").args(["-INT", &pid]).status().unwrap().success());
    let last = lines.last().expect("a result");
    assert_eq!(child.wait().unwrap().code(), Some(0), "{last}");
    let last: serde_json::Value = serde_json::from_str(&last).unwrap();
    assert_eq!((&last["event"], &last["completed"]), (&json!("result"), &json!(false)));
    assert!(folder.names("out").contains(&"adapter_model.safetensors".to_owned()));
}

#[test]
fn a_reader_that_goes_away_is_no_panic() {
    let folder = Folder::new();
    let mut child = folder
        .command(train_args("reviews.csv"))
        .args(["--max_steps", "3", "--output_dir", "out"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let run = Run::from(child.wait_with_output().unwrap());
    assert_eq!(run.code, 0, "{}", run.stderr);
    assert!(folder.names("out").contains(&"adapter_model.safetensors".to_owned()), "the work is not lost");
}
