//! `paddock plugins` from outside, and the plugins of its folder in use.

use std::{fs, io::Write};

use serde_json::{Value, json};

use crate::{
    cli::fixture::{Folder, bytes},
    serve::{
        client::{Server, until},
        train_plugins,
    },
};

const STORE: [&str; 4] = ["--plugins_dir", "store", "--log_format", "json"];

fn add(folder: &Folder, args: &[&str]) -> Result<Value, String> {
    let run = folder.run(&[&["plugins", "add"][..], args, &STORE].concat());
    if run.code == 0 { Ok(run.result()["plugin"].clone()) } else { Err(run.error()) }
}

fn list(folder: &Folder) -> Vec<Value> {
    folder.run(&[&["plugins", "list"][..], &STORE].concat()).result()["plugins"].as_array().unwrap().clone()
}

/// Which ids there are, and how often each was used.
fn uses(folder: &Folder) -> Vec<(String, u64)> {
    let used = |plugin: &Value| (plugin["id"].as_str().unwrap().to_owned(), plugin["uses"].as_u64().unwrap());
    list(folder).iter().map(used).collect()
}

fn zip(folder: &Folder, name: &str, files: &[(&str, Vec<u8>)]) {
    let mut zip = zip::ZipWriter::new(fs::File::create(folder.path(name)).unwrap());
    let stored = zip::write::SimpleFileOptions::default().compression_method(zip::CompressionMethod::Stored);
    for (name, bytes) in files {
        zip.start_file(*name, stored).unwrap();
        zip.write_all(bytes).unwrap();
    }
    zip.finish().unwrap();
}

#[test]
fn plugins_are_added_listed_used_and_removed() {
    let folder = Folder::new();
    train_plugins(&folder);
    assert!(list(&folder).is_empty());
    let added = add(&folder, &["mood"]).expect("a plugin");
    assert_eq!((&added["id"], &added["labels"]), (&json!("mood"), &json!(["negative", "positive"])));
    assert_eq!((&added["base"], added["after"]["macro_f1"].is_number()), (&json!("model"), true));
    let kept = ["README.md", "adapter_config.json", "adapter_model.safetensors", "config.json", "metrics.json"];
    assert_eq!(folder.names("store/mood"), [&kept[..], &["plugin.json", "run.yaml"]].concat());
    let weights = |place: &str| bytes(&folder.path(place).join("adapter_model.safetensors"));
    assert!(weights("store/mood") == weights("mood"));
    let inside = |name: &str| bytes(&folder.path("hue").join(name));
    let names = ["adapter_config.json", "adapter_model.safetensors", "run.yaml"];
    let files: Vec<_> = names.iter().map(|name| (format!("hue/{name}"), inside(name))).collect();
    zip(&folder, "hue.zip", &files.iter().map(|(name, bytes)| (name.as_str(), bytes.clone())).collect::<Vec<_>>());
    // Without a plugin.json the other files say what it is.
    let added = add(&folder, &["hue.zip", "--id", "colours"]).expect("a plugin");
    assert_eq!((&added["task"], &added["id"]), (&json!("text-generation"), &json!("colours")));
    assert_eq!(folder.json("store/colours/plugin.json")["id"], "colours");

    let again = add(&folder, &["mood"]).expect_err("it is there");
    assert!(again.contains("mood is there already") && again.contains("--overwrite"), "{again}");
    add(&folder, &["hue", "--id", "mood", "--overwrite"]).expect("another one");
    assert!(weights("store/mood") == weights("hue"));
    add(&folder, &["mood", "--overwrite"]).expect("the first one again");
    assert!(folder.names("store").iter().all(|name| !name.starts_with(".adding") && !name.starts_with(".old")));

    // In use by its id, and counted.
    let store = ["--plugins_dir", "store", "--device", "cpu", "--log_format", "json"];
    let texts = ["--text", "the film is great", "--text", "the plot is poor", "--text", "fine"];
    let predict = ["predict", "--plugin", "mood"];
    let told = folder.run(&[&predict[..], &texts, &store].concat());
    assert_eq!(told.result()["rows"], 3);
    let same = ["predict", "--adapter", "mood", "--device", "cpu", "--log_format", "json"];
    assert_eq!(told.events("prediction"), folder.run(&[&same[..], &texts].concat()).events("prediction"));
    let eval = ["eval", "--plugin", "mood", "--test_file", "reviews.csv"];
    assert_eq!(folder.run(&[&eval[..], &store].concat()).result()["rows"], 120);
    let nobody = folder.run(&[&["predict", "--plugin", "nobody", "--text", "x"][..], &store].concat()).error();
    assert!(nobody.contains("no plugin `nobody`") && nobody.contains("`colours`, `mood`"), "{nobody}");
    assert_eq!(uses(&folder), [("colours".to_owned(), 0), ("mood".to_owned(), 3)]);

    // A server has all of them, but for one of another base, and counts as well.
    fs::create_dir(folder.path("store/other")).unwrap();
    for name in folder.names("store/mood") {
        folder.write(&format!("store/other/{name}"), bytes(&folder.path("store/mood").join(&name)));
    }
    let mut manifest = folder.json("store/other/plugin.json");
    manifest["base"]["fingerprint"]["tokenizer.json"] = json!("0");
    folder.write("store/other/plugin.json", manifest.to_string());
    let server = Server::start(&folder, &["--model_name_or_path", "model", "--plugins_dir", "store"], &[]);
    assert_eq!(server.line("ready")["models"], json!(["model", "colours", "mood"]));
    let warned = server.lines("warning");
    assert!(
        warned.iter().any(|line| line["message"].as_str().unwrap().contains("`other` is not served")),
        "{warned:?}"
    );
    server.post("/v1/classify", &json!({"model": "mood", "input": ["a", "b"]})).ok();
    let chat = json!({"model": "colours", "messages": [{"role": "user", "content": "sky"}], "max_tokens": 2});
    server.post("/v1/chat/completions", &chat).ok();
    until("the counts", || (folder.json("store/usage.json") == json!({"mood": 5, "colours": 1})).then_some(()));
    drop(server);

    let table = folder.run(&["plugins", "list", "--plugins_dir", "store"]).stdout;
    let line = table.lines().find(|line| line.starts_with("mood")).expect("its line");
    assert!(line.contains("5 (83 %) ██████████") && line.contains("macro_f1 ") && line.contains(" → "), "{table}");
    let removed = folder.run(&[&["plugins", "remove", "mood"][..], &STORE].concat());
    assert_eq!(removed.result()["removed"], "mood");
    assert!(!folder.path("store/mood").exists());
    assert_eq!(folder.json("store/usage.json"), json!({"colours": 1}));
    assert!(folder.run(&[&["plugins", "remove", "mood"][..], &STORE].concat()).error().contains("no plugin `mood`"));
    let up = folder.run(&[&["plugins", "remove", "../model"][..], &STORE].concat()).error();
    assert!(up.contains("no plugin") && folder.path("model").exists(), "{up}");
}

#[test]
fn what_is_no_adapter_is_not_added() {
    let folder = Folder::new();
    folder.train("reviews.csv", &["--max_steps", "1", "--output_dir", "mood"]).result();
    let refused = |args: &[&str]| {
        let error = add(&folder, args).expect_err("no plugin");
        // Nothing is left of it.
        let left = if folder.path("store").exists() { folder.names("store") } else { Vec::new() };
        assert!(left.is_empty(), "{left:?}");
        error
    };
    let manifest = |change: &dyn Fn(&mut Value)| {
        let mut manifest = folder.json("mood/plugin.json");
        change(&mut manifest);
        manifest.to_string().into_bytes()
    };
    let original = bytes(&folder.path("mood/plugin.json"));
    for (bytes, why) in [
        (manifest(&|json| json["id"] = json!("../../etc/passwd")), "plugin.json: id"),
        (manifest(&|json| json["id"] = json!("a/b")), "plugin.json: id"),
        (manifest(&|json| json["scenario"] = json!("poetry")), "plugin.json: scenario"),
        (manifest(&|json| json["format"] = json!(2)), "plugin.json: format"),
        (manifest(&|json| json["labels"] = json!(vec!["x"; 20_000])), "plugin.json: labels"),
        (manifest(&|json| json["name"] = json!("x".repeat(300))), "plugin.json: name"),
        (b"[".repeat(5000), "plugin.json"),
        (vec![b' '; (1 << 20) + 1], "more than 1048576 bytes"),
    ] {
        folder.write("mood/plugin.json", bytes);
        let error = refused(&["mood"]);
        assert!(error.contains(why), "{error} / {why}");
    }
    folder.write("mood/plugin.json", original);
    for id in ["..", "a/b", "a b", "usage.json", ""] {
        assert!(refused(&["mood", "--id", id]).contains("cannot name a plugin"), "{id}");
    }

    let inside = |name: &str| bytes(&folder.path("mood").join(name));
    let (config, weights) = (inside("adapter_config.json"), inside("adapter_model.safetensors"));
    let zipped = |files: &[(&str, Vec<u8>)]| {
        zip(&folder, "bad.zip", files);
        refused(&["bad.zip"])
    };
    let up = zipped(&[("../adapter_config.json", config.clone()), ("adapter_model.safetensors", weights.clone())]);
    assert!(up.contains("`../adapter_config.json`, a path that leads out of it"), "{up}");
    assert!(!folder.path("adapter_config.json").exists());
    let root = zipped(&[("/adapter_config.json", config.clone())]);
    assert!(root.contains("leads out"), "{root}");
    let twice = zipped(&[("a/adapter_config.json", config.clone()), ("b/adapter_config.json", config.clone())]);
    assert!(twice.contains("two files named adapter_config.json"), "{twice}");
    let missing = zipped(&[("adapter_config.json", config.clone())]);
    assert!(missing.contains("adapter_model.safetensors"), "{missing}");
    let short = zipped(&[("adapter_config.json", config), ("adapter_model.safetensors", weights[..100].to_vec())]);
    assert!(short.contains("adapter_model.safetensors"), "{short}");
    folder.write("bad.zip", "no zip");
    assert!(refused(&["bad.zip"]).contains("cannot be read as a zip"));
    assert!(refused(&["model"]).contains("adapter_config.json"));
    assert!(refused(&["nowhere"]).contains("no such file or folder"));
    fs::create_dir(folder.path("empty")).unwrap();
    assert!(refused(&["empty"]).contains("holds no adapter"));
}

#[cfg(unix)]
#[test]
fn the_plugin_folder_is_the_users_own() {
    let folder = Folder::new();
    folder.train("reviews.csv", &["--max_steps", "1", "--output_dir", "mood"]).result();
    let run = |args: &[&str], variable: &str| {
        let mut command = folder.command([args, &["--log_format", "json"]].concat());
        command.env("XDG_DATA_HOME", variable).env("HOME", folder.path("home"));
        crate::cli::fixture::Run::from(command.output().unwrap()).result()
    };
    let data = folder.path("data");
    let added = run(&["plugins", "add", "mood", "--id", "m"], data.to_str().unwrap());
    assert_eq!(added["plugins_dir"], data.join("paddock/plugins").to_str().unwrap());
    assert!(folder.path("data/paddock/plugins/m/plugin.json").exists());
    // One that is not absolute does not count.
    let listed = run(&["plugins", "list"], "data");
    assert_eq!(listed["plugins_dir"], folder.path("home/.local/share/paddock/plugins").to_str().unwrap());
    assert_eq!(listed["plugins"], json!([]));
}
