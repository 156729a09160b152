//! The clients in `examples/`, each against a server, where its tool is on the machine.

use std::{
    io::Write,
    path::PathBuf,
    process::{Command, Output, Stdio},
};

use serde_json::{Value, json};

use crate::{
    cli::fixture::Folder,
    serve::{
        client::{Server, chat},
        train_plugins,
    },
};

fn example(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../examples").join(name)
}

/// What a program prints; none where there is no such program, or it fails.
fn printed(program: &str, args: &[&str]) -> Option<String> {
    let output = Command::new(program).args(args).stdin(Stdio::null()).output().ok()?;
    let text = [output.stdout, output.stderr].concat();
    output.status.success().then(|| String::from_utf8_lossy(&text).into_owned())
}

/// Says that a test did nothing here, and why.
fn skipped(test: &str, wants: &str) {
    eprintln!("skipped {test}: it wants {wants}");
}

/// Runs an example against `server` with a line on its standard input.
fn run(mut command: Command, server: &Server, key: &str, line: &str) -> Output {
    command.env("PADDOCK_URL", server.url()).env("PADDOCK_API_KEY", key).env("PYTHONIOENCODING", "utf-8");
    for name in ["HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"] {
        command.env_remove(name).env_remove(name.to_lowercase());
    }
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(line.as_bytes()).unwrap();
    child.wait_with_output().unwrap()
}

fn stdout(output: &Output) -> String {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout.clone()).unwrap()
}

/// A server of the starter model, whose chats are short.
fn talker(folder: &Folder) -> Server {
    Server::start(folder, &["--model_name_or_path", "starter", "--max_new_tokens", "24"], &[])
}

/// What the server says to the same.
fn answer(server: &Server, text: &str) -> String {
    let reply = server.post("/v1/chat/completions", &chat(text, json!({}))).ok();
    reply["choices"][0]["message"]["content"].as_str().unwrap().to_owned()
}

#[test]
fn curl() {
    // --fail-with-body came with 7.76.
    let knows = printed("curl", &["--help", "all"]).is_some_and(|help| help.contains("--fail-with-body"));
    if !knows || printed("sh", &["-c", "true"]).is_none() {
        return skipped("examples::curl", "curl 7.76 or newer");
    }
    let folder = Folder::new();
    train_plugins(&folder);
    let args = ["--model_name_or_path", "starter", "--max_new_tokens", "24"];
    let server = Server::start(&folder, &args, &[("PADDOCK_API_KEY", "k")]);
    let run_in = |server: &Server, name: &str, args: &[&str]| {
        let mut command = Command::new("sh");
        command.arg(example("curl").join(name)).args(args);
        run(command, server, "k", "")
    };
    let json = |output: &Output| serde_json::from_str::<Value>(&stdout(output)).unwrap();
    assert_eq!(json(&run_in(&server, "models.sh", &[]))["data"][0]["id"], "starter");
    let whole = json(&run_in(&server, "chat.sh", &[]));
    let text = whole["choices"][0]["message"]["content"].as_str().unwrap();
    assert!(!text.trim().is_empty(), "{whole}");
    let stream = stdout(&run_in(&server, "stream.sh", &[]));
    let events = stream.split("\n\n").filter_map(|event| event.strip_prefix("data: ")).filter(|data| *data != "[DONE]");
    let events: Vec<Value> = events.map(|data| serde_json::from_str(data).unwrap()).collect();
    assert_eq!(crate::serve::client::joined(&events), text);
    assert_eq!(events.last().unwrap()["usage"], whole["usage"]);
    assert_eq!(json(&run_in(&server, "completions.sh", &[]))["choices"].as_array().unwrap().len(), 2);
    let wrong = run_in(&server, "classify.sh", &["nobody"]);
    assert!(!wrong.status.success() && String::from_utf8_lossy(&wrong.stdout).contains("model_not_found"));
    drop(server);
    let server = Server::start(&folder, &["--adapter", "mood"], &[("PADDOCK_API_KEY", "k")]);
    let told = json(&run_in(&server, "classify.sh", &["mood"]));
    assert_eq!((told["data"].as_array().unwrap().len(), &told["model"]), (2, &json!("mood")));
}

#[test]
fn python() {
    let python = ["python3", "python"].into_iter().find(|python| printed(python, &["-c", "import openai"]).is_some());
    let Some(python) = python else { return skipped("examples::python", "Python with the package openai") };
    let folder = Folder::new();
    train_plugins(&folder);
    let server = talker(&folder);
    let start = |name: &str, args: &[&str]| {
        let mut command = Command::new(python);
        command.arg(example("python").join(name)).args(args);
        command
    };
    let told = stdout(&run(start("chat.py", &[]), &server, "", "Call me\n"));
    assert_eq!(told.trim(), answer(&server, "Call me").trim());
    let wrong = run(start("chat.py", &["nobody"]), &server, "", "Call me\n");
    assert!(!wrong.status.success() && String::from_utf8_lossy(&wrong.stderr).contains("no model `nobody`"));
    drop(server);

    let server = Server::start(&folder, &["--adapter", "mood"], &[("PADDOCK_API_KEY", "k")]);
    let texts = ["the plot, as a whole, is poor", "the cast, as a whole, is great"];
    let told = stdout(&run(start("classify.py", &["mood", texts[0], texts[1]]), &server, "k", ""));
    let ask = json!({"model": "mood", "input": texts}).to_string();
    let expected = server.ask("POST", "/v1/classify", &[("Authorization", "Bearer k")], &ask).ok();
    let lines: Vec<&str> = told.lines().collect();
    assert_eq!(lines.len(), 2);
    for (line, data) in lines.iter().zip(expected["data"].as_array().unwrap()) {
        assert_eq!(line.split('\t').next(), data["label"].as_str());
    }
}

#[test]
fn java() {
    // openjdk version "17.0.9" 2023-10-17
    let version = printed("java", &["-version"]).and_then(|text| {
        let number = text.split('"').nth(1)?.split('.').next()?.parse::<u32>().ok()?;
        Some(number)
    });
    if version.is_none_or(|version| version < 17) {
        return skipped("examples::java", "Java 17 or newer");
    }
    let folder = Folder::new();
    let server = talker(&folder);
    let start = |args: &[&str]| {
        let mut command = Command::new("java");
        command.arg("-Dfile.encoding=UTF-8").arg("-Dstdout.encoding=UTF-8").arg(example("java/Chat.java")).args(args);
        command
    };
    let told = stdout(&run(start(&[]), &server, "", "Call me\n"));
    assert_eq!(told.trim(), answer(&server, "Call me").trim());
    let wrong = run(start(&["nobody"]), &server, "", "Call me\n");
    assert!(!wrong.status.success() && String::from_utf8_lossy(&wrong.stderr).contains("no model `nobody`"));
}
