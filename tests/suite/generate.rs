//! Answers as a shell sees them: pieces, then the whole; stopped, refused, and in the order of the protocol.

use paddock::{
    config::RawConfig,
    engine::Engine,
    event::{Command, Event, FailureKind, Prediction, State},
    generate::{Finish, Sampling},
    platform::{Memory, NamedFile},
    tokenizer::Message,
};
use pollster::block_on;

use crate::cli::fixture::{Folder, bytes};

/// An engine that has the fixture's model in use.
fn engine() -> Engine {
    let folder = Folder::new();
    let files = ["config.json", "model.safetensors", "tokenizer.json"].map(|name| {
        let blob = Box::new(Memory(bytes(&folder.path("model").join(name))));
        NamedFile { name: name.into(), blob }
    });
    let mut engine = Engine::new();
    send(&mut engine, Command::OpenModel { name: "model".into() }, files.into());
    let config = RawConfig::from_yaml("device: cpu", "run.yaml").expect("settings");
    send(&mut engine, Command::OpenAdapter { config: Box::new(config) }, Vec::new());
    finish(&mut engine);
    engine
}

fn send(engine: &mut Engine, command: Command, files: Vec<NamedFile>) -> Vec<Event> {
    block_on(engine.handle(command, files)).into_iter().map(|envelope| envelope.event).collect()
}

fn finish(engine: &mut Engine) -> Vec<Event> {
    let mut events = Vec::new();
    while engine.busy() {
        events.extend(block_on(engine.advance()).into_iter().map(|envelope| envelope.event));
    }
    events
}

fn ask(texts: &[&str], sampling: Sampling) -> Command {
    let texts = texts.iter().map(|text| text.to_string()).collect();
    Command::Predict {
        texts,
        fields: Vec::new(),
        messages: Vec::new(),
        plugin: None,
        sampling,
        max_new_tokens: None,
        apply_chat_template: None,
        join: false,
    }
}

/// The pieces of each answer in one, and what was said of the whole.
fn answers(events: &[Event], count: usize) -> Vec<(String, Option<Prediction>)> {
    let mut found = vec![(String::new(), None); count];
    for event in events {
        match event {
            Event::TextDelta(delta) => {
                let (text, whole) = &mut found[delta.index as usize];
                assert!(whole.is_none() && !delta.text.is_empty(), "{delta:?}");
                *text += &delta.text;
            }
            Event::Prediction(prediction) => {
                let (text, whole) = &mut found[prediction.index as usize];
                // A model that has learnt nothing writes bytes that are no text; what is text comes in whole characters.
                assert_eq!(text, &prediction.label);
                *whole = Some(prediction.clone());
            }
            _ => {}
        }
    }
    found
}

fn failure(events: &[Event]) -> String {
    let failed = events.iter().find_map(|event| match event {
        Event::Failed(failure) => Some(format!("{} / {}", failure.message, failure.advice)),
        _ => None,
    });
    failed.expect("a failure")
}

#[test]
fn answers_come_in_pieces_and_as_a_whole() {
    let mut engine = engine();
    // Every token of this random model is a byte: most of them are no characters by themselves.
    let sampling = Sampling { temperature: 1.0, max_new_tokens: 30, ..Sampling::default() };
    let mut events = send(&mut engine, ask(&["one", "two, longer", "Größe"], sampling), Vec::new());
    assert!(matches!(events[..], [Event::State { state: State::Applying }]), "{events:?}");
    events.extend(finish(&mut engine));
    let told = answers(&events, 3);
    for ((text, whole), tokens) in told.iter().zip([3, 11, 7]) {
        let whole = whole.as_ref().expect("an end");
        assert_eq!((&whole.label, whole.prompt_tokens), (text, Some(tokens)));
        let made = whole.completion_tokens.expect("a number");
        assert!(made == 30 && whole.finish_reason == Some(Finish::Length) || made < 30, "{whole:?}");
    }
    assert!(told.iter().any(|(text, _)| text.len() > 5));
    let last = &events[events.len() - 1];
    assert!(matches!(last, Event::State { state: State::Idle }), "{last:?}");
}

#[test]
fn a_stop_keeps_what_there_is() {
    let mut engine = engine();
    let sampling = Sampling { max_new_tokens: 50, ..Sampling::default() };
    let mut events = send(&mut engine, ask(&["one", "two"], sampling.clone()), Vec::new());
    for _ in 0..6 {
        events.extend(block_on(engine.advance()).into_iter().map(|envelope| envelope.event));
    }
    events.extend(send(&mut engine, Command::Stop, Vec::new()));
    assert!(!engine.busy());
    for (text, whole) in answers(&events, 2) {
        let whole = whole.expect("what there is");
        assert_eq!((whole.label, whole.finish_reason, whole.completion_tokens), (text, Some(Finish::Abort), Some(6)));
    }
    // And it answers again.
    let again = send(&mut engine, ask(&["one"], Sampling { max_new_tokens: 2, ..sampling }), Vec::new());
    assert!(matches!(again[..], [Event::State { state: State::Applying }]));
    assert_eq!(answers(&finish(&mut engine), 1)[0].1.as_ref().expect("an answer").completion_tokens, Some(2));
}

#[test]
fn what_cannot_be_answered_is_refused_before_anything_is_done() {
    let mut engine = engine();
    let mut refused =
        |text: &str, sampling: Sampling| failure(&send(&mut engine, ask(&["ok", text], sampling), Vec::new()));
    let megabytes = "x".repeat(10 << 20);
    let error = refused(&megabytes, Sampling::default());
    assert!(error.contains("Prompt 2 has 10485760 bytes; the model reads 64 tokens"), "{error}");
    let error = refused(&"x".repeat(64), Sampling::default());
    assert!(error.contains("Prompt 2 has 64 tokens; the model reads 64"), "{error}");
    let error = refused("x", Sampling { temperature: f64::NAN, ..Sampling::default() });
    assert!(error.contains("temperature: expected a number of at least 0"), "{error}");
    assert!(!engine.busy());
}

fn joining(texts: &[&str], sampling: Sampling) -> Command {
    let Command::Predict { texts, fields, messages, plugin, sampling, .. } = ask(texts, sampling) else { panic!() };
    let (max_new_tokens, apply_chat_template) = (None, None);
    Command::Predict { texts, fields, messages, plugin, sampling, max_new_tokens, apply_chat_template, join: true }
}

#[test]
fn answers_join_those_under_way_and_one_can_be_broken_off() {
    let mut engine = engine();
    let drawn = |seed| Sampling { temperature: 1.0, max_new_tokens: 24, seed, ..Sampling::default() };
    send(&mut engine, ask(&["one", "two"], drawn(7)), Vec::new());
    let alone = answers(&finish(&mut engine), 2);

    // Nothing is under way: as without `join`.
    send(&mut engine, joining(&["three", "four"], drawn(1)), Vec::new());
    let mut events = Vec::new();
    for _ in 0..4 {
        events.extend(block_on(engine.advance()).into_iter().map(|envelope| envelope.event));
    }
    assert!(send(&mut engine, joining(&["one", "two"], drawn(7)), Vec::new()).is_empty());
    let failed = send(&mut engine, joining(&["x", &"y".repeat(64)], drawn(7)), Vec::new());
    let [Event::Failed(failed)] = &failed[..] else { panic!("{failed:?}") };
    assert_eq!(failed.kind, Some(FailureKind::TooLong));
    assert!(failed.message.contains("Prompt 2 has 64 tokens"), "counted within the command: {}", failed.message);
    let other = Command::Predict {
        texts: vec!["x".into()],
        fields: Vec::new(),
        messages: Vec::new(),
        plugin: Some("other".into()),
        sampling: drawn(1),
        max_new_tokens: None,
        apply_chat_template: None,
        join: true,
    };
    assert!(failure(&send(&mut engine, other, Vec::new())).contains("Another plugin"));
    assert!(failure(&send(&mut engine, ask(&["x"], drawn(1)), Vec::new())).contains("under way"));
    assert!(send(&mut engine, Command::Cancel { index: 0 }, Vec::new()).is_empty());
    assert!(send(&mut engine, Command::Cancel { index: 1 << 60 }, Vec::new()).is_empty());
    let rest = finish(&mut engine);
    assert!(
        rest.iter().all(|event| !matches!(event, Event::TextDelta(delta) if delta.index == 0)),
        "nothing comes of what was broken off"
    );
    events.extend(rest);
    let told = answers(&events, 4);
    assert!(told[1].1.is_some(), "its neighbour is answered to the end");
    for (joined, alone) in told[2..].iter().zip(&alone) {
        assert_eq!(joined.0, alone.0, "what is drawn does not depend on what is answered beside it");
    }
}

#[test]
fn a_conversation_is_put_to_a_model_that_talks() {
    let mut engine = engine();
    let sampling = Sampling { max_new_tokens: 8, ..Sampling::default() };
    let turns = [("user", "a"), ("assistant", "b"), ("user", "c")].map(|(role, text)| Message::new(role, text));
    let talk = |turns: &[Message]| Command::Predict {
        texts: vec!["c".into()],
        fields: Vec::new(),
        messages: vec![turns.to_vec()],
        plugin: None,
        sampling: sampling.clone(),
        max_new_tokens: None,
        apply_chat_template: None,
        join: false,
    };
    send(&mut engine, talk(&turns), Vec::new());
    let talked = answers(&finish(&mut engine), 1)[0].1.clone().expect("an answer");
    // This model has no chat template.
    send(&mut engine, ask(&["User: a\nAssistant: b\nUser: c\nAssistant:"], sampling.clone()), Vec::new());
    let plain = answers(&finish(&mut engine), 1)[0].1.clone().expect("an answer");
    assert_eq!((talked.label.as_str(), talked.prompt_tokens), (plain.label.trim_start(), plain.prompt_tokens));
    let error = failure(&send(&mut engine, talk(&turns[..2]), Vec::new()));
    assert!(error.contains("Conversation 1 ends without a turn that is to be answered"), "{error}");
}

#[test]
fn sampling_can_be_left_out_or_given_in_part() {
    let read = |json: &str| serde_json::from_str::<Command>(json);
    let command = read(r#"{"type": "predict", "texts": ["a"], "max_new_tokens": 5}"#).expect("a command");
    let Command::Predict { sampling, max_new_tokens: Some(5), .. } = command else { panic!("{command:?}") };
    assert_eq!(sampling, Sampling::default());
    let command = read(r#"{"type": "predict", "texts": ["a"], "sampling": {"top_p": 0.9, "stop": ["\n"]}}"#);
    let Ok(Command::Predict { sampling, .. }) = command else { panic!("{command:?}") };
    assert_eq!(sampling, Sampling { top_p: 0.9, stop: vec!["\n".into()], ..Sampling::default() });
    let unknown = read(r#"{"type": "predict", "texts": ["a"], "sampling": {"topp": 0.9}}"#);
    assert!(unknown.expect_err("an unknown key").to_string().contains("topp"));
}
