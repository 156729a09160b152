//! Training that goes on from an adapter.

use std::io::Write;

use serde_json::{Value, json};

use super::fixture::{Folder, bytes};

const FIRST: [&str; 8] =
    ["--max_steps", "30", "--learning_rate", "0.01", "--validation_file", "held.csv", "--output_dir", "first"];
const MORE: [&str; 8] =
    ["--adapter", "first", "--max_steps", "3", "--validation_file", "held.csv", "--output_dir", "second"];

/// An adapter of rank 4 on two modules, in `first`.
fn folder() -> (Folder, Value) {
    let folder = Folder::new();
    folder.write("held.csv", super::fixture::reviews(20));
    let shape = ["--lora_r", "4", "--lora_alpha", "12", "--target_modules", "v_proj,q_proj"];
    let result = folder.train("reviews.csv", &[&FIRST[..], &shape].concat()).result();
    (folder, result)
}

#[test]
fn goes_on_where_the_adapter_stands() {
    let (folder, first) = folder();
    let before = bytes(&folder.path("first/adapter_model.safetensors"));
    // Neither the base nor the adapter's shape need be said again.
    let train = ["train", "--train_file", "reviews.csv", "--device", "cpu", "--max_seq_length", "32"];
    let more = folder.run(&[&train[..], &MORE, &["--log-format", "json"]].concat());
    let second = more.result();
    assert_eq!(second["before"], first["metrics"]);
    assert_ne!(second["metrics"], first["metrics"]);
    let config = folder.json("second/adapter_config.json");
    assert_eq!(json!([config["r"], config["lora_alpha"]]), json!([4, 12.0]));
    assert_eq!(config["target_modules"], json!(["q_proj", "v_proj"]));
    assert_eq!(config["base_model_name_or_path"], "model");
    assert_eq!(folder.json("second/metrics.json")["adapter"], "first");
    assert_eq!(bytes(&folder.path("first/adapter_model.safetensors")), before);

    // A zip of it is the same, and so is an adapter whose folder does not name the classes, which is told.
    let mut zip = zip::ZipWriter::new(std::fs::File::create(folder.path("first.zip")).unwrap());
    let stored = zip::write::SimpleFileOptions::default().compression_method(zip::CompressionMethod::Stored);
    for name in ["adapter_config.json", "adapter_model.safetensors"] {
        zip.start_file(name, stored).unwrap();
        zip.write_all(&bytes(&folder.path("first").join(name))).unwrap();
    }
    zip.finish().unwrap();
    let zipped =
        ["--adapter", "first.zip", "--max_steps", "3", "--validation_file", "held.csv", "--output_dir", "third"];
    let third = folder.train("reviews.csv", &zipped);
    assert_eq!(third.result()["metrics"], second["metrics"]);
    let told = third.events("warning");
    assert!(told.iter().any(|event| event["message"].as_str().unwrap().contains("negative, positive")), "{told:?}");
}

#[test]
fn classes_keep_the_places_that_the_adapter_gave_them() {
    let (folder, first) = folder();
    assert!(first["metrics"]["accuracy"].as_f64().unwrap() > 0.9, "{first}");
    // Its file with the names the other way round: now every answer is wrong.
    let mut config = folder.json("first/config.json");
    config["id2label"] = json!({"0": "positive", "1": "negative"});
    config["label2id"] = json!({"positive": 0, "negative": 1});
    folder.write("first/config.json", config.to_string());
    let second = folder.train("reviews.csv", &MORE);
    let wrong = 1.0 - first["metrics"]["accuracy"].as_f64().unwrap();
    assert!((second.result()["before"]["accuracy"].as_f64().unwrap() - wrong).abs() < 1e-6);
    assert_eq!(folder.json("second/config.json")["id2label"]["0"], "positive");

    folder.write("other.csv", format!("{}a film,mixed\n", super::fixture::reviews(40)));
    let refused = folder.train("other.csv", &[&MORE[..], &["--overwrite_output_dir"]].concat()).error();
    assert!(refused.contains("no label `mixed`") && refused.contains("`positive`"), "{refused}");
}

#[test]
fn keys_that_say_otherwise_are_refused_by_name() {
    let (folder, _) = folder();
    for (flags, key) in [
        (["--lora_r", "8"], "lora.r: expected 4"),
        (["--lora_alpha", "16"], "lora.lora_alpha: expected 12"),
        (["--target_modules", "q_proj"], "lora.target_modules"),
        (["--method", "full"], "training.method"),
        (["--task", "text-generation"], "task"),
        (["--num_labels", "3"], "model.num_labels: expected 2"),
    ] {
        let refused = folder.train("reviews.csv", &[&MORE[..], &flags].concat()).error();
        assert!(refused.contains(key) && refused.contains("as the adapter has it"), "{refused}");
    }
    let same = ["--lora_r", "4", "--target_modules", "q_proj,v_proj", "--lora_dropout", "0.1"];
    folder.train("reviews.csv", &[&MORE[..], &same].concat()).result();
    let refused = folder.train("reviews.csv", &["--adapter", "model", "--output_dir", "x"]).error();
    assert!(refused.contains("adapter_config.json is missing"), "{refused}");
    let refused = folder.train("reviews.csv", &["--adapter", "first", "--output_dir", "first"]).error();
    assert!(refused.contains("another folder"), "{refused}");
}
