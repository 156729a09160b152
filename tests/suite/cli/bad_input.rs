//! What a person can get wrong: each ends with an error that names the file, row or key, and what to do.

use std::fs;

use serde_json::json;

use super::fixture::{Folder, config, reviews, train_args};

/// Trains with `more` flags, expects failure, and that it says all of `words`.
fn refused(folder: &Folder, file: &str, more: &[&str], words: &[&str]) {
    let run = folder.train(file, &[&["--max_steps", "1", "--output_dir", "out"], more].concat());
    let error = run.error();
    for word in words {
        assert!(error.contains(word), "`{word}` in: {error}");
    }
    let left = if folder.path("out").exists() { folder.names("out") } else { Vec::new() };
    assert!(left.is_empty(), "a failed run leaves nothing: {left:?}");
}

fn refused_data(bytes: impl AsRef<[u8]>, more: &[&str], words: &[&str]) {
    let folder = Folder::new();
    folder.write("bad.csv", bytes);
    refused(&folder, "bad.csv", more, &[&["bad.csv"], words].concat());
}

#[test]
fn an_empty_file() {
    refused_data("", &[], &["empty"]);
    refused_data("text,label\n", &[], &["no rows"]);
}

#[test]
fn a_column_that_is_not_there() {
    refused_data(reviews(8), &["--text_column", "body"], &["body", "`text`", "`label`"]);
    refused_data(reviews(8), &["--label_column", "stars"], &["stars", "`text`", "`label`"]);
}

#[test]
fn one_label_only() {
    refused_data("text,label\ngood film,positive\nfine plot,positive\n", &[], &["label", "positive"]);
}

#[test]
fn broken_quotes() {
    refused_data("text,label\nfine,positive\n\"never closed,negative\nbad,negative\n", &[], &["row 3", "quote"]);
}

#[test]
fn a_line_of_50_mb() {
    refused_data("a".repeat(50 << 20), &[], &["row 1"]);
    // In a row of its own it is a text like another, cut to max_seq_length.
    let folder = Folder::new();
    folder.write("long.csv", format!("{}\"{}\",positive\n", reviews(8), "long ".repeat(10 << 20)));
    let run = folder.train("long.csv", &["--max_steps", "1", "--output_dir", "out"]);
    run.result();
}

#[test]
fn latin_1_is_read_and_told() {
    let folder = Folder::new();
    folder.write(
        "latin.csv",
        [b"text,label\n".as_slice(), &b"un caf\xE9 parfait,positive\nun th\xE9 mauvais,negative\n".repeat(10)].concat(),
    );
    let run = folder.train("latin.csv", &["--max_steps", "1", "--output_dir", "out"]);
    run.result();
    let data = &run.events("data_opened")[0];
    assert_eq!(data["encoding"], "windows-1252", "{data}");
    assert!(data["warnings"].to_string().contains("UTF-8"), "{data}");
    assert!(data["preview"].to_string().contains("un café parfait"), "{data}");
}

#[test]
fn nul_bytes() {
    refused_data(b"text,label\nfine,positive\nba\0d,negative\n", &[], &["row 3", "NUL"]);
}

#[test]
fn files_that_are_not_there_or_not_files() {
    let folder = Folder::new();
    refused(&folder, "absent.csv", &[], &["absent.csv", "no such file"]);
    refused(&folder, "model", &[], &["model", "folder"]);
    refused(&folder, "reviews.csv", &["--validation_file", "absent.csv"], &["absent.csv"]);
    refused(&folder, "reviews.csv", &["--validation_file", "reviews.csv"], &["reviews.csv"]);
    refused(&folder, "reviews.csv", &["--config", "absent.yaml"], &["absent.yaml"]);
    let model =
        |path| folder.run(&["train", "--model_name_or_path", path, "--train_file", "reviews.csv", "--log_format=json"]);
    assert!(model("org/name").error().contains("org/name"));
    assert!(model("reviews.csv").error().contains("not a folder"));
    let error = folder.run(&["predict", "--adapter", "absent", "--text", "x", "--log-format", "json"]).error();
    assert!(error.contains("absent"), "{error}");
    let error = folder.run(&["predict", "--adapter", "reviews.csv", "--text", "x", "--log-format", "json"]).error();
    assert!(error.contains("reviews.csv") && error.contains("zip"), "{error}");
}

#[test]
fn a_model_folder_without_its_files() {
    for name in ["config.json", "model.safetensors", "tokenizer.json"] {
        let folder = Folder::new();
        fs::remove_file(folder.path(&format!("model/{name}"))).unwrap();
        refused(&folder, "reviews.csv", &[], &[name]);
    }
}

#[test]
fn weights_that_are_not_whole() {
    let folder = Folder::new();
    let path = folder.path("model/model.safetensors");
    let whole = fs::read(&path).unwrap();
    for keep in [0, 7, 100, whole.len() / 2, whole.len() - 1] {
        fs::write(&path, &whole[..keep]).unwrap();
        refused(&folder, "reviews.csv", &[], &["model.safetensors"]);
    }
    let mut huge = (1u64 << 60).to_le_bytes().to_vec();
    huge.extend(b"{}");
    fs::write(&path, huge).unwrap();
    refused(&folder, "reviews.csv", &[], &["model.safetensors"]);
    // A tensor that claims 2^60 bytes inside a sound header.
    let header =
        r#"{"model.norm.weight":{"dtype":"F32","shape":[288230376151711744],"data_offsets":[0,1152921504606846976]}}"#;
    fs::write(&path, [&(header.len() as u64).to_le_bytes(), header.as_bytes()].concat()).unwrap();
    refused(&folder, "reviews.csv", &[], &["model.safetensors"]);
}

#[test]
fn another_architecture() {
    let folder = Folder::new();
    let mut other = config();
    other["architectures"] = json!(["GPT2LMHeadModel"]);
    other["model_type"] = json!("gpt2");
    folder.write("model/config.json", other.to_string());
    refused(&folder, "reviews.csv", &[], &["config.json", "gpt2"]);
    for broken in ["", "{", "[]", "null"] {
        folder.write("model/config.json", broken);
        refused(&folder, "reviews.csv", &[], &["config.json"]);
    }
}

#[test]
fn shapes_that_do_not_fit_the_weights() {
    for (key, value) in [("hidden_size", 48), ("num_hidden_layers", 3), ("vocab_size", 300), ("num_key_value_heads", 3)]
    {
        let folder = Folder::new();
        let mut other = config();
        other[key] = json!(value);
        folder.write("model/config.json", other.to_string());
        refused(&folder, "reviews.csv", &[], &[]);
    }
}

#[test]
fn a_vocabulary_smaller_than_the_tokenizers() {
    let folder = Folder::new();
    let mut other = folder.json("model/tokenizer.json");
    other["model"]["vocab"]["t"] = json!(4000);
    folder.write("model/tokenizer.json", other.to_string());
    refused(&folder, "reviews.csv", &[], &["tokenizer.json", "258"]);
}

#[test]
fn values_that_cannot_be() {
    let folder = Folder::new();
    for (flag, value, key) in [
        ("--batch_size", "0", "training.batch_size"),
        ("--learning_rate", "NaN", "training.learning_rate"),
        ("--learning_rate", "inf", "training.learning_rate"),
        ("--num_epochs", "0", "training.num_epochs"),
        ("--lora_r", "0", "lora.r"),
        ("--validation_split", "1.5", "data.validation_split"),
        ("--max_seq_length", "0", "model.max_seq_length"),
        ("--target_modules", "q_proj,x_proj", "lora.target_modules"),
        ("--task", "translation", "task"),
        ("--device", "tpu", "device"),
        ("--method", "magic", "training.method"),
        ("--set", "training.batch_siz=1", "training.batch_siz"),
        ("--set", "training.batch_size", "--set"),
        ("--set", "training.batch_size=many", "training.batch_size"),
    ] {
        refused(&folder, "reviews.csv", &[flag, value], &[key]);
    }
}

#[test]
fn flags_that_are_not_understood() {
    let folder = Folder::new();
    for (more, word) in [
        (&["--batch_size", "many"][..], "--batch_size"),
        (&["--batch_size=-1"], "--batch_size"),
        (&["--learning_rat", "1"], "--learning_rat"),
        (&["extra"], "extra"),
    ] {
        let run = folder.train("reviews.csv", more);
        assert_eq!(run.code, 2, "{}", run.stdout);
        let error = run.error();
        assert!(error.contains(word), "{error}");
    }
    let run = folder.run(&["predict", "--log-format", "json"]);
    assert_eq!(run.code, 2);
    assert!(run.error().contains("--text"), "{}", run.stdout);
    // A person gets it as text.
    let run = folder.run(&["trian"]);
    assert_eq!((run.code, run.stdout.as_str()), (2, ""));
    assert!(run.stderr.contains("train"), "{}", run.stderr);
}

#[test]
fn a_settings_file_that_is_wrong() {
    for (yaml, words) in [
        (
            "training:\n  batch_size: 4\n  learning_rte: 0.1\n",
            &["run.yaml", "line 3", "learning_rte", "learning_rate"][..],
        ),
        ("training:\n  batch_size: many\n", &["run.yaml", "batch_size"]),
        ("training: [1, 2\n", &["run.yaml"]),
        ("- a\n- b\n", &["run.yaml"]),
    ] {
        let folder = Folder::new();
        folder.write("run.yaml", yaml);
        refused(&folder, "reviews.csv", &["--config", "run.yaml"], words);
    }
    let folder = Folder::new();
    folder.write("run.yaml", b"task: \xFF\n");
    refused(&folder, "reviews.csv", &["--config", "run.yaml"], &["run.yaml", "UTF-8"]);
}

#[test]
fn the_base_model_is_never_written_over() {
    let folder = Folder::new();
    let before = folder.names("model");
    let run = folder.train("reviews.csv", &["--output_dir", "model", "--overwrite_output_dir"]);
    assert!(run.error().contains("base model"), "{}", run.stdout);
    let run = folder.train("reviews.csv", &["--output_dir", "reviews.csv"]);
    assert!(run.error().contains("reviews.csv"), "{}", run.stdout);
    assert_eq!(folder.names("model"), before);
}

#[test]
fn an_adapter_that_does_not_fit() {
    let folder = Folder::new();
    folder.train("reviews.csv", &["--max_steps", "1", "--output_dir", "out"]).result();
    let predict = |more: &[&str]| {
        let args = ["predict", "--adapter", "out", "--text", "x", "--device", "cpu", "--log-format", "json"];
        folder.run(&[&args, more].concat())
    };
    predict(&[]).result();

    // A base that is no longer where it was.
    fs::rename(folder.path("model"), folder.path("moved")).unwrap();
    let error = predict(&[]).error();
    assert!(error.contains("model") && error.contains("--model_name_or_path"), "{error}");
    predict(&["--model_name_or_path", "moved"]).result();
    fs::rename(folder.path("moved"), folder.path("model")).unwrap();

    // Another rank than the weights have, no base, no JSON, half the weights.
    let adapter = folder.json("out/adapter_config.json");
    let mut other = adapter.clone();
    other["r"] = json!(3);
    folder.write("out/adapter_config.json", other.to_string());
    assert!(predict(&[]).error().contains("adapter"), "{}", predict(&[]).stdout);
    other = adapter.clone();
    other["base_model_name_or_path"] = json!(null);
    folder.write("out/adapter_config.json", other.to_string());
    assert!(predict(&[]).error().contains("base_model_name_or_path"));
    folder.write("out/adapter_config.json", "{");
    assert!(predict(&[]).error().contains("adapter_config.json"));
    folder.write("out/adapter_config.json", adapter.to_string());
    let weights = fs::read(folder.path("out/adapter_model.safetensors")).unwrap();
    folder.write("out/adapter_model.safetensors", &weights[..weights.len() / 2]);
    assert!(predict(&[]).error().contains("adapter_model.safetensors"));
    // Without its config the base alone would answer.
    fs::remove_file(folder.path("out/adapter_config.json")).unwrap();
    let error = predict(&["--model_name_or_path", "model"]).error();
    assert!(error.contains("adapter_config.json is missing; there is"), "{error}");
}

#[cfg(unix)]
#[test]
fn names_and_streams_of_another_kind() {
    use std::{ffi::OsStr, os::unix::ffi::OsStrExt};
    let folder = Folder::new();
    let odd = OsStr::from_bytes(b"odd\xFF.csv");
    fs::write(folder.path("").join(odd), reviews(8)).unwrap();
    let args = train_args("reviews.csv").map(|arg| if arg == "reviews.csv" { odd } else { OsStr::new(arg) });
    let run = super::Run::from(folder.command(args).output().unwrap());
    assert!(run.error().contains("not valid UTF-8"), "{}", run.stdout);
    refused(&folder, "/dev/zero", &[], &["/dev/zero", "regular file"]);

    // Standard output that cannot be written: an error, where nobody reads it an exit status.
    let full = fs::File::create("/dev/full").unwrap();
    let output = folder.command(["env"]).stdout(full).output().unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr.contains("standard output") && !stderr.contains("panicked"), "{stderr}");
}
