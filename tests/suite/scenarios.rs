//! Tasks that answer, from the file to the answer; and trained models that are plugins of one base.

use std::collections::BTreeMap;

use paddock::{
    config::RawConfig,
    engine::Engine,
    event::{Command, Envelope, Event, Phase, Prediction, State},
    generate::Sampling,
    platform::{Memory, NamedFile},
    plugin::PluginInfo,
};
use pollster::block_on;
use serde_json::{Value, json};

use crate::cli::fixture::{Folder, bytes};

const THINGS: [(&str, &str); 4] = [("sky", "blue"), ("leaf", "green"), ("sun", "gold"), ("coal", "black")];

/// Rows of a prompt and its completion, of which there are four.
pub fn colours(rows: usize) -> String {
    let row = |i: usize| format!("{},{}\n", THINGS[i % 4].0, THINGS[i % 4].1);
    std::iter::once("prompt,completion\n".to_owned()).chain((0..rows).map(row)).collect()
}

fn label(line: &Value) -> &str {
    line["label"].as_str().expect("a label")
}

#[test]
fn what_is_learnt_by_answering_is_measured_by_answers() {
    let folder = Folder::new();
    folder.write("colours.csv", colours(80));
    let train = ["--task", "text-generation", "--method", "full", "--learning_rate", "0.01", "--max_steps", "60"];
    let rest = ["--batch_size", "16", "--output_dir", "out", "--set", "evaluation.max_new_tokens=8"];
    let goal = ["--set", "evaluation.success_metric=rougeL", "--set", "evaluation.min_gain=0.5"];
    let run = folder.train("colours.csv", &[&train[..], &rest, &goal].concat());
    let result = run.result();
    let after = result["metrics"]["rougeL"].as_f64().expect("answers are measured");
    assert!(after > 0.9, "{result}");
    let [plan] = run.events("plan").try_into().expect("one plan");
    assert_eq!(plan["shape"], "prompt-completion");
    let learnt = plan["examples"][0]["learnt"].as_str().expect("an example");
    assert!(
        THINGS.iter().any(|(_, colour)| learnt
            == format!(
                "
{colour}</s>"
            )),
        "{learnt}"
    );
    let evaluations = run.events("evaluation");
    assert_eq!((evaluations.len(), evaluations[1]["answered"].as_u64()), (2, Some(8)));
    let sample = &evaluations[1]["samples"][0];
    assert_eq!(sample["expected"], sample["predicted"]);
    let change = &evaluations[1]["changes"]["rougeL"];
    assert!(
        change["value"].as_f64().expect("a change") > 0.5 && change["interval"][0].as_f64().expect("low") > 0.0,
        "{change}"
    );
    let finished = &run.events("finished")[0];
    assert_eq!(finished["verdict"]["met"], json!(true), "{finished}");

    // The model remembers how it was asked.
    let asked = folder.run(&[
        "predict",
        "--model_name_or_path",
        "out",
        "--device",
        "cpu",
        "--text",
        "sun",
        "--text",
        "leaf",
        "--log-format",
        "json",
    ]);
    let answers = asked.events("prediction");
    assert_eq!(answers.iter().map(label).collect::<Vec<_>>(), ["gold", "green"], "{}", asked.stderr);
    // A file is asked by the same column, whether or not it has the answers.
    folder.write("ask.csv", "prompt\ncoal\n\nsky\n");
    let asked = folder.run(&[
        "predict",
        "--model_name_or_path",
        "out",
        "--device",
        "cpu",
        "--test_file",
        "ask.csv",
        "--log-format",
        "json",
    ]);
    let answers = asked.events("prediction");
    assert_eq!(
        answers.iter().map(|line| (line["row"].as_u64(), label(line))).collect::<Vec<_>>(),
        [(Some(2), "black"), (Some(4), "blue")]
    );
    let eval = folder.run(&[
        "eval",
        "--model_name_or_path",
        "out",
        "--device",
        "cpu",
        "--test_file",
        "colours.csv",
        "--log-format",
        "json",
    ]);
    assert!(
        eval.result()["metrics"]["bleu"].as_f64().is_some() && eval.result()["answered"] == 64,
        "{}",
        eval.result()
    );
    let error = folder
        .run(&[
            "predict",
            "--model_name_or_path",
            "out",
            "--device",
            "cpu",
            "--text",
            "sun",
            "--field",
            "colour=x",
            "--log-format",
            "json",
        ])
        .error();
    assert!(error.contains("`colour` is no part of a prompt") && error.contains("prompt"), "{error}");
}

#[test]
fn questions_come_with_their_text() {
    let folder = Folder::new();
    let question = |(i, (thing, colour)): (usize, &(&str, &str))| {
        json!({"context": format!("The {thing} is {colour}."),
               "qas": [{"id": i.to_string(), "question": "Hue?", "answers": [{"text": colour, "answer_start": 8}]}]})
    };
    let paragraphs: Vec<Value> = THINGS.iter().cycle().take(40).enumerate().map(question).collect();
    folder
        .write("squad.json", json!({"version": "1.1", "data": [{"title": "t", "paragraphs": paragraphs}]}).to_string());
    let train = ["--task", "question-answering", "--max_steps", "4", "--output_dir", "out", "--max_seq_length", "64"];
    let args = [
        "train",
        "--model_name_or_path",
        "model",
        "--train_file",
        "squad.json",
        "--device",
        "cpu",
        "--log-format",
        "json",
    ];
    let run = folder.run(&[&args[..], &train, &["--set", "evaluation.max_new_tokens=4"]].concat());
    let metrics = &run.result()["metrics"];
    assert!(
        metrics["f1"].is_number() && metrics["exact_match"].is_number() && metrics["bits_per_byte"].is_number(),
        "{metrics}"
    );
    let plan = &run.events("plan")[0];
    let given = plan["examples"][0]["given"].as_str().expect("an example");
    assert!(given.starts_with("The ") && given.ends_with(".\n\nQuestion: Hue?\nAnswer:"), "{given}");
    let metrics: Vec<&str> =
        plan["metrics"].as_array().expect("metrics").iter().filter_map(|m| m["id"].as_str()).collect();
    assert_eq!(metrics, ["f1", "exact_match", "perplexity", "accuracy", "loss"]);
    assert_eq!(
        (&plan["metrics"][0]["default"], &plan["metrics"][2]["greater_is_better"]),
        (&json!(true), &json!(false))
    );
    // A row's parts come by role beside the text that the model was asked with, without the answer.
    for evaluation in run.events("evaluation") {
        for sample in evaluation["samples"].as_array().expect("samples") {
            let fields = sample["fields"].as_object().expect("fields");
            assert_eq!((fields.len(), &fields["question"]), (2, &json!("Hue?")), "{sample}");
            let context = fields["context"].as_str().expect("a context");
            assert_eq!(sample["text"].as_str(), Some(format!("{context}\n\nQuestion: Hue?").as_str()));
        }
    }
    let plugin = folder.json("out/plugin.json");
    assert_eq!((&plugin["scenario"], &plugin["shape"]), (&json!("question-answering"), &json!("question-answer")));
    assert_eq!(plugin["template"], "{context}\n\nQuestion: {question}\nAnswer:");
    let ask = [
        "predict",
        "--adapter",
        "out",
        "--device",
        "cpu",
        "--max_new_tokens",
        "3",
        "--text",
        "Hue?",
        "--log-format",
        "json",
    ];
    let with = folder.run(&[&ask[..], &["--field", "context=The sun is gold."]].concat()).result();
    assert_eq!(with["rows"], 1);
    let error = folder.train("squad.json", &["--task", "summarization", "--output_dir", "other"]).error();
    assert!(error.contains("no column looks like the text") && error.contains("data.text_column"), "{error}");
}

fn send(engine: &mut Engine, command: Command, files: Vec<NamedFile>) -> Vec<Event> {
    let mut events: Vec<Event> =
        block_on(engine.handle(command, files)).into_iter().map(|envelope| envelope.event).collect();
    while engine.busy() {
        events.extend(block_on(engine.advance()).into_iter().map(|envelope| envelope.event));
    }
    events
}

fn files(folder: &Folder, name: &str) -> Vec<NamedFile> {
    let named = |file: String| NamedFile { blob: Box::new(Memory(bytes(&folder.path(name).join(&file)))), name: file };
    folder.names(name).into_iter().filter(|file| folder.path(name).join(file).is_file()).map(named).collect()
}

fn on_cpu() -> Box<RawConfig> {
    Box::new(RawConfig { device: Some("cpu".into()), ..RawConfig::default() })
}

fn add(id: Option<&str>) -> Command {
    Command::AddPlugin { config: on_cpu(), id: id.map(str::to_owned), name: None }
}

fn ask(plugin: Option<&str>, text: &str) -> Command {
    Command::Predict {
        texts: vec![text.to_owned()],
        fields: Vec::new(),
        messages: Vec::new(),
        plugin: plugin.map(str::to_owned),
        sampling: Sampling { max_new_tokens: 8, ..Sampling::default() },
        max_new_tokens: None,
        apply_chat_template: None,
        join: false,
    }
}

fn answer(events: &[Event]) -> Prediction {
    let found =
        events.iter().find_map(|event| if let Event::Prediction(told) = event { Some(told.clone()) } else { None });
    found.unwrap_or_else(|| panic!("no answer: {events:?}"))
}

fn plugins(events: &[Event]) -> Vec<PluginInfo> {
    let found = events
        .iter()
        .rev()
        .find_map(|event| if let Event::Plugins { plugins } = event { Some(plugins.clone()) } else { None });
    found.unwrap_or_else(|| panic!("no plugins: {events:?}"))
}

fn failure(events: &[Event]) -> String {
    let found = events
        .iter()
        .find_map(|event| if let Event::Failed(failure) = event { Some(failure.message.clone()) } else { None });
    found.unwrap_or_else(|| panic!("no failure: {events:?}"))
}

/// Tensors of the base that were read.
fn read(events: &[Event]) -> u64 {
    let total = |event: &Event| match event {
        Event::Progress { phase: Phase::LoadingWeights, total, .. } => Some(*total),
        _ => None,
    };
    events.iter().filter_map(total).max().unwrap_or_default()
}

#[test]
fn plugins_share_a_base_and_answer_each_by_itself() {
    let folder = Folder::new();
    folder.write("colours.csv", colours(80));
    let sentiment =
        ["--max_steps", "20", "--learning_rate", "0.01", "--output_dir", "mood", "--plugin_name", "Film mood"];
    folder.train("reviews.csv", &sentiment).result();
    let writing = ["--task", "text-generation", "--max_steps", "12", "--learning_rate", "0.02", "--output_dir", "hue"];
    folder.train("colours.csv", &writing).result();
    assert_eq!(folder.json("mood/plugin.json")["id"], "film-mood");

    let mut engine = Engine::new();
    send(&mut engine, Command::OpenModel { name: "model".into() }, files(&folder, "model"));
    // Each by itself first.
    let alone = |engine: &mut Engine, name: &str, text: &str| {
        send(engine, Command::OpenAdapter { config: on_cpu() }, files(&folder, name));
        answer(&send(engine, ask(None, text), Vec::new()))
    };
    let (mood, hue) = (alone(&mut engine, "mood", "the film is great"), alone(&mut engine, "hue", "sky"));
    send(&mut engine, Command::OpenModel { name: "model".into() }, files(&folder, "model"));

    // One that is on its way can be broken off.
    block_on(engine.handle(add(None), files(&folder, "mood")));
    block_on(engine.advance());
    assert!(engine.busy());
    let stopped = block_on(engine.handle(Command::Stop, Vec::new()));
    assert!(matches!(stopped[..], [Envelope { event: Event::State { state: State::Idle }, .. }]) && !engine.busy());
    assert!(plugins(&send(&mut engine, Command::ListPlugins, Vec::new())).is_empty());

    let first = send(&mut engine, add(None), files(&folder, "mood"));
    let second = send(&mut engine, add(Some("hue")), files(&folder, "hue"));
    assert!(read(&first) > 10 && read(&second) == 0, "the base is read once: {} and {}", read(&first), read(&second));
    let there = plugins(&second);
    assert_eq!(
        there.iter().map(|plugin| (plugin.id.as_str(), plugin.generates)).collect::<Vec<_>>(),
        [("film-mood", false), ("hue", true)]
    );
    assert_eq!((there[0].name.as_str(), there[0].labels.len()), ("Film mood", 2));
    assert!(there[0].after.is_some());
    for _ in 0..2 {
        let told = answer(&send(&mut engine, ask(Some("film-mood"), "the film is great"), Vec::new()));
        assert_eq!((&told.label, &told.scores), (&mood.label, &mood.scores));
        assert_eq!(answer(&send(&mut engine, ask(Some("hue"), "sky"), Vec::new())).label, hue.label);
    }
    let uses: Vec<u64> =
        plugins(&send(&mut engine, Command::ListPlugins, Vec::new())).iter().map(|plugin| plugin.uses).collect();
    assert_eq!(uses, [2, 2]);

    // A run on the same base goes on from what is there, and can be kept beside the others.
    let config = RawConfig::from_yaml("device: cpu\nmodel: {max_seq_length: 32}\ntraining: {max_steps: 2}", "run.yaml")
        .expect("settings");
    send(
        &mut engine,
        Command::OpenData,
        vec![NamedFile { name: "reviews.csv".into(), blob: Box::new(Memory(bytes(&folder.path("reviews.csv")))) }],
    );
    let run = send(&mut engine, Command::Start { config: Box::new(config), resume: false, smaller: 0 }, Vec::new());
    assert!(read(&run) <= 1, "only the head is new: {}", read(&run));
    let kept = plugins(&send(&mut engine, Command::KeepPlugin { name: "Third one".into() }, Vec::new()));
    assert_eq!(kept.iter().map(|plugin| plugin.id.as_str()).collect::<Vec<_>>(), ["film-mood", "hue", "third-one"]);
    assert_eq!(answer(&send(&mut engine, ask(Some("hue"), "sky"), Vec::new())).label, hue.label);

    assert!(failure(&send(&mut engine, ask(Some("nobody"), "x"), Vec::new())).contains("`film-mood`, `hue`"));
    let left = plugins(&send(&mut engine, Command::RemovePlugin { id: "film-mood".into() }, Vec::new()));
    assert_eq!(left.len(), 2);
    assert!(
        failure(&send(&mut engine, Command::UsePlugin { id: "film-mood".into() }, Vec::new())).contains("no plugin")
    );
}

#[test]
fn what_is_no_plugin_of_this_base_is_refused() {
    let folder = Folder::new();
    folder.train("reviews.csv", &["--max_steps", "1", "--output_dir", "mood"]).result();
    let mut engine = Engine::new();
    send(&mut engine, Command::OpenModel { name: "model".into() }, files(&folder, "model"));
    let mut tried = |change: &dyn Fn(&mut Value), id: Option<&str>| {
        let mut manifest = folder.json("mood/plugin.json");
        change(&mut manifest);
        let mut files = files(&folder, "mood");
        files.retain(|file| file.name != "plugin.json");
        files.push(NamedFile { name: "plugin.json".into(), blob: Box::new(Memory(manifest.to_string().into_bytes())) });
        send(&mut engine, add(id), files)
    };
    assert!(failure(&tried(&|manifest| manifest["id"] = json!("../../etc"), None)).contains("plugin.json: id"));
    assert!(
        failure(&tried(&|manifest| manifest["scenario"] = json!("poetry"), None)).contains("plugin.json: scenario")
    );
    assert!(failure(&tried(&|_| {}, Some("a/b"))).contains("cannot name a plugin"));
    let other = tried(&|manifest| manifest["base"]["fingerprint"]["tokenizer.json"] = json!("0"), None);
    assert!(failure(&other).contains("another one"));
    let near = tried(&|manifest| manifest["base"]["fingerprint"]["model.safetensors"] = json!("0"), None);
    assert!(near.iter().any(|event| matches!(event, Event::Warning { message } if message.contains("other weights"))));
    assert_eq!(plugins(&near).len(), 1);
    assert!(failure(&send(&mut engine, add(None), Vec::new())).contains("without files"));
    let columns = BTreeMap::from([("colour".to_owned(), "text".to_owned())]);
    send(&mut engine, Command::UsePlugin { id: plugins(&near)[0].id.clone() }, Vec::new());
    assert!(failure(&send(&mut engine, Command::Evaluate { columns }, Vec::new())).contains("`colour`"));
}
