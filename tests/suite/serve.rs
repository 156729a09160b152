//! `paddock serve` from outside: OpenAI's API, two plugins on one base, and everything that a client may do wrong.

pub mod client;

use std::{
    io::{Read, Write},
    thread,
    time::{Duration, Instant},
};

use client::{Server, chat, exchange, joined, until};
use serde_json::{Value, json};

use crate::cli::fixture::Folder;

const CHAT: &str = "/v1/chat/completions";
const COMPLETIONS: &str = "/v1/completions";

/// A server of the fixture's model, which has learnt nothing.
fn plain(folder: &Folder, args: &[&str]) -> Server {
    Server::start(folder, &[&["--model_name_or_path", "model"][..], args].concat(), &[])
}

/// One of the starter model, whose answers take a while.
fn starter(folder: &Folder, args: &[&str]) -> Server {
    Server::start(folder, &[&["--model_name_or_path", "starter"][..], args].concat(), &[])
}

/// An adapter that tells good from bad in `mood`, and one that writes in `hue`.
pub fn train_plugins(folder: &Folder) {
    let mood = ["--max_steps", "30", "--learning_rate", "0.01", "--output_dir", "mood", "--plugin_name", "mood"];
    folder.train("reviews.csv", &mood).result();
    let rows = ["sky,blue\n", "leaf,green\n", "sun,gold\n", "coal,black\n"];
    folder.write("colours.csv", format!("prompt,completion\n{}", rows.concat().repeat(20)));
    let hue = ["--task", "text-generation", "--max_steps", "12", "--learning_rate", "0.02", "--output_dir", "hue"];
    folder.train("colours.csv", &[&hue[..], &["--plugin_name", "hue"]].concat()).result();
}

fn text(reply: &Value) -> &str {
    let choice = &reply["choices"][0];
    choice["message"]["content"].as_str().or(choice["text"].as_str()).expect("an answer")
}

#[test]
fn a_chat_is_the_same_in_pieces_and_as_a_whole() {
    let folder = Folder::new();
    let server = plain(&folder, &[]);
    // Every token of this random model is a byte: drawn ones give some that are characters.
    let drawn = json!({"model": "model", "max_tokens": 20, "temperature": 1.5, "seed": 11});
    let whole = server.post(CHAT, &chat("hello", drawn.clone())).ok();
    assert_eq!((&whole["object"], &whole["model"]), (&json!("chat.completion"), &json!("model")));
    let usage = &whole["usage"];
    let counts = ["prompt_tokens", "completion_tokens", "total_tokens"].map(|key| usage[key].as_u64().unwrap());
    assert!(counts[0] == 5 && counts[1] > 0 && counts[1] <= 20 && counts[2] == counts[0] + counts[1], "{usage}");
    let reason = whole["choices"][0]["finish_reason"].as_str().unwrap();
    assert_eq!(reason == "length", counts[1] == 20, "{whole}");
    assert_eq!(text(&server.post(CHAT, &chat("hello", drawn.clone())).ok()), text(&whole), "a seed is a seed");

    let mut streamed = drawn.clone();
    streamed["stream"] = true.into();
    streamed["stream_options"] = json!({"include_usage": true});
    let events = server.post(CHAT, &chat("hello", streamed)).events();
    assert_eq!(events[0]["choices"][0]["delta"], json!({"role": "assistant", "content": ""}));
    assert_eq!(joined(&events), text(&whole));
    let last = &events[events.len() - 1];
    assert_eq!((&last["usage"], &last["choices"]), (usage, &json!([])));
    assert!(events.iter().all(|event| event["object"] == "chat.completion.chunk" && event["id"] == events[0]["id"]));
    assert_eq!(events[events.len() - 2]["choices"][0]["finish_reason"], reason);

    // What was drawn is what is drawn alone, whatever is answered beside it.
    let others = ["a", "bb", "ccc", "dddd", "hello", "ffffff"];
    let answer = |word: &str| text(&server.post(CHAT, &chat(word, drawn.clone())).ok()).to_owned();
    let together = thread::scope(|scope| {
        let asked: Vec<_> = others.iter().map(|word| scope.spawn(|| answer(word))).collect();
        asked.into_iter().map(|asked| asked.join().unwrap()).collect::<Vec<_>>()
    });
    for (word, together) in others.iter().zip(together) {
        assert_eq!(answer(word), together, "{word}");
    }

    // Several turns are one prompt, in which the model's own is one of them.
    let turns = json!([{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"},
        {"role": "user", "content": [{"type": "text", "text": "c"}]}]);
    let talked = server.post(CHAT, &json!({"messages": turns, "max_completion_tokens": 4})).ok();
    assert_eq!(talked["usage"]["prompt_tokens"], "User: a\nAssistant: b\nUser: c\nAssistant:".len());
}

#[test]
fn completions_are_those_of_predict() {
    let folder = Folder::new();
    let server = plain(&folder, &[]);
    let body = json!({"prompt": ["one", "two, longer"], "max_tokens": 9});
    let reply = server.post(COMPLETIONS, &body).ok();
    let ask = ["predict", "--model_name_or_path", "model", "--device", "cpu", "--max_new_tokens", "9"];
    let run = folder.run(&[&ask[..], &["--text", "one", "--text", "two, longer", "--log_format", "json"]].concat());
    let expected: Vec<Value> = run.events("prediction").iter().map(|row| row["label"].clone()).collect();
    let choices: Vec<Value> = reply["choices"].as_array().unwrap().iter().map(|one| one["text"].clone()).collect();
    assert_eq!((choices, reply["usage"]["prompt_tokens"].as_u64()), (expected, Some(14)));

    let streamed = json!({"prompt": ["one", "two, longer"], "max_tokens": 9, "stream": true});
    let events = server.post(COMPLETIONS, &streamed).events();
    for index in 0..2 {
        let of: Vec<Value> = events.iter().filter(|event| event["choices"][0]["index"] == index).cloned().collect();
        assert_eq!(joined(&of), reply["choices"][index]["text"].as_str().unwrap());
        assert_eq!(of[of.len() - 1]["choices"][0]["finish_reason"], reply["choices"][index]["finish_reason"]);
    }
}

#[test]
fn plugins_answer_by_their_names_on_one_base() {
    let folder = Folder::new();
    train_plugins(&folder);
    let args = ["--model_name_or_path", "model", "--plugin", "mood", "--plugin", "colours=hue"];
    let server = Server::start(&folder, &args, &[]);
    let models = server.get("/v1/models").ok();
    let of = |key: &str| models["data"].as_array().unwrap().iter().map(|one| one[key].clone()).collect::<Vec<_>>();
    assert_eq!(of("id"), ["model", "mood", "colours"]);
    assert_eq!(of("parent"), [Value::Null, json!("model"), json!("model")]);
    assert_eq!(of("task")[1..], ["text-classification", "text-generation"]);
    assert_eq!(server.get("/v1/models/mood").ok()["labels"], json!(["negative", "positive"]));
    assert_eq!(server.get("/v1/models/nobody").refusal(), (404, json!("model_not_found")));
    // The base's tensors are read for the first of them alone.
    let read = |line: &Value| (line["phase"] == "loading_weights").then(|| line["total"].as_u64().unwrap());
    let totals: Vec<u64> = server.lines("progress").iter().filter_map(read).collect();
    assert!(totals.iter().max().unwrap() > &10 && totals.last() == Some(&0), "{totals:?}");

    let texts = ["the plot, as a whole, is poor", "the cast, as a whole, is great"];
    let told = server.post("/v1/classify", &json!({"model": "mood", "input": texts})).ok();
    let predict = ["predict", "--model_name_or_path", "model", "--adapter", "mood", "--device", "cpu"];
    let more = ["--text", texts[0], "--text", texts[1], "--log_format", "json"];
    let rows = folder.run(&[&predict[..], &more].concat()).events("prediction");
    for (index, row) in rows.iter().enumerate() {
        let data = &told["data"][index];
        assert_eq!((&data["label"], &data["scores"], &data["num_classes"]), (&row["label"], &row["scores"], &json!(2)));
        assert_eq!(data["probs"], json!([data["scores"]["negative"], data["scores"]["positive"]]));
    }
    let predict = ["predict", "--model_name_or_path", "model", "--adapter", "hue", "--device", "cpu"];
    let more = ["--text", "sky", "--max_new_tokens", "8", "--log_format", "json"];
    let expected = folder.run(&[&predict[..], &more].concat()).events("prediction")[0]["label"].clone();
    let asked = json!({"model": "colours", "max_tokens": 8});
    assert_eq!(text(&server.post(CHAT, &chat("sky", asked)).ok()), expected.as_str().unwrap());
    let completed = server.post(COMPLETIONS, &json!({"model": "colours", "prompt": "sky", "max_tokens": 8})).ok();
    assert_eq!(text(&completed), expected.as_str().unwrap());

    assert!(server.post(CHAT, &chat("x", json!({"model": "mood"}))).message().contains("/v1/classify"));
    assert!(server.post("/v1/classify", &json!({"model": "model", "input": "x"})).message().contains(CHAT));
    let unknown = server.post(CHAT, &chat("x", json!({"model": "gpt-4"})));
    assert_eq!(unknown.refusal(), (404, json!("model_not_found")));
    assert!(unknown.message().contains("`colours`"), "{unknown:?}");

    // Both at once: each of many gets what is its own.
    thread::scope(|scope| {
        let classify = |text: &'static str| server.post("/v1/classify", &json!({"model": "mood", "input": text})).ok();
        let write = || server.post(CHAT, &chat("sky", json!({"model": "colours", "max_tokens": 8}))).ok();
        let classified: Vec<_> = (0..12).map(|i| scope.spawn(move || classify(texts[i % 2]))).collect();
        let written: Vec<_> = (0..12).map(|_| scope.spawn(write)).collect();
        for (i, one) in classified.into_iter().enumerate() {
            assert_eq!(one.join().unwrap()["data"][0]["label"], told["data"][i % 2]["label"]);
        }
        written.into_iter().for_each(|one| assert_eq!(text(&one.join().unwrap()), expected.as_str().unwrap()));
    });

    let uses = |model: &str| server.metric(&format!("paddock_model_uses_total{{model=\"{model}\"}}"));
    assert_eq!((uses("mood"), uses("colours")), (14.0, 14.0));
    assert_eq!(server.metric("paddock_requests_total{route=\"/v1/classify\",status=\"200\"}"), 13.0);
    assert_eq!(server.metric("paddock_requests_total{route=\"/v1/chat/completions\",status=\"404\"}"), 1.0);
    assert!(server.metric("paddock_prompt_tokens_total") > 0.0);
    assert_eq!(server.metric("paddock_queue_length"), 0.0);
    until("rest", || (server.metric("paddock_running") == 0.0).then_some(()));
    // Neither what was asked nor what was answered is anywhere.
    let asked = until("the log", || Some(server.lines("request")).filter(|asked| asked.len() > 30));
    assert!(asked.iter().all(|line| !line.to_string().contains("whole, is")), "{asked:?}");
    assert!(!server.get("/metrics").body.contains("sky"));
}

#[test]
fn an_adapter_alone_answers_where_no_model_is_named() {
    let folder = Folder::new();
    train_plugins(&folder);
    let server = Server::start(&folder, &["--adapter", "mood"], &[]);
    assert_eq!(server.post("/v1/classify", &json!({"input": "the film is great"})).ok()["model"], "mood");
    // Two of one name could not be told apart.
    let twice = ["serve", "--adapter", "mood", "--plugin", "mood", "--port", "0", "--log_format", "json"];
    assert!(folder.run(&twice).error().contains("two models would be called `mood`"));
    let nowhere = ["serve", "--adapter", "mood", "--plugin", "nobody", "--port", "0", "--log_format", "json"];
    assert!(folder.run(&nowhere).error().contains("nobody"));
    let nothing = ["serve", "--port", "0", "--log_format", "json"];
    assert!(folder.run(&nothing).error().contains("--model_name_or_path"));
    let port = server.address.rsplit(':').next().unwrap();
    let taken = ["serve", "--adapter", "mood", "--port", port, "--log_format", "json"];
    assert!(folder.run(&taken).error().contains("choose another --port"));
}

#[test]
fn what_cannot_be_answered_is_refused_by_name() {
    let folder = Folder::new();
    let server = plain(&folder, &["--max_body_bytes", "20000"]);
    let post = |body: &str| server.ask("POST", CHAT, &[], body);
    for (body, why) in [
        ("{\"messages\": [", "line 1 column 14"),
        ("", "not JSON"),
        ("[]", "object"),
        ("{\"messages\": \"hi\"}", "`messages` must be a list"),
        ("{\"messages\": [{\"role\": \"user\", \"content\": \"x\"}], \"n\": 3}", "`n` is not supported"),
        ("{\"messages\": [{\"role\": \"user\", \"content\": \"x\"}], \"max_token\": 3}", "Unknown key `max_token`"),
    ] {
        let reply = post(body);
        assert!(reply.status == 400 && reply.message().contains(why), "{reply:?} / {why}");
    }
    let deep = post(&format!("{{\"messages\": {}}}", "[".repeat(9000)));
    assert!(deep.status == 400 && deep.message().contains("recursion"), "{deep:?}");
    let long = server.post(CHAT, &chat(&"x".repeat(64), json!({})));
    assert_eq!(long.refusal(), (400, json!("context_length_exceeded")));
    let longer = server.post(CHAT, &chat(&"x ".repeat(4000), json!({"stream": true})));
    assert_eq!(longer.refusal(), (400, json!("context_length_exceeded")), "with a status, not in the stream");
    let large = server.post(CHAT, &chat(&"x".repeat(20_001), json!({})));
    assert_eq!(large.refusal(), (413, json!("request_too_large")));
    // Neither a length that is said nor one that is not gets by.
    let said = server.request("POST", CHAT, &[("Content-Length", "10000000000")], "{");
    assert_eq!(exchange(&server.address, said.as_bytes()).status, 413);
    let head = "HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n7530\r\n";
    let chunks = format!("POST {CHAT} {head}{}\r\n0\r\n\r\n", " ".repeat(0x7530)).into_bytes();
    assert_eq!(exchange(&server.address, &chunks).status, 413);
    assert_eq!(server.get("/v1/nothing").refusal(), (404, json!("unknown_url")));
    assert_eq!(server.get(CHAT).refusal(), (405, json!("method_not_allowed")));
    let rebound = server.ask("GET", "/v1/models", &[("Host", "evil.example")], "");
    assert_eq!(rebound.refusal(), (403, json!("host_not_allowed")));
    let page = server.ask("GET", "/v1/models", &[("Origin", "https://evil.example")], "");
    assert_eq!(
        (page.refusal(), page.header("access-control-allow-origin")),
        ((403, json!("origin_not_allowed")), None)
    );
    // And it answers as ever.
    server.post(CHAT, &chat("hello", json!({"max_tokens": 2}))).ok();
    assert_eq!(server.get("/health").ok(), json!({"status": "ready"}));
    assert_eq!(server.metric("paddock_requests_total{route=\"other\",status=\"404\"}"), 1.0);
}

#[test]
fn a_key_and_named_origins_let_in() {
    let folder = Folder::new();
    let args = ["--model_name_or_path", "model", "--allowed_origins", "https://page.example"];
    let server = Server::start(&folder, &args, &[("PADDOCK_API_KEY", "s3cret")]);
    assert_eq!(server.get("/v1/models").refusal(), (401, json!("invalid_api_key")));
    let with = |key: &str| server.ask("GET", "/v1/models", &[("Authorization", key)], "");
    assert_eq!((with("Bearer s3cre").status, with("Bearer s3cret").status), (401, 200));
    assert_eq!(server.get("/health").status, 200);
    let asks = [("Origin", "https://page.example"), ("Access-Control-Request-Method", "POST")];
    let preflight =
        server.ask("OPTIONS", CHAT, &[&asks[..], &[("Access-Control-Request-Headers", "x-y")]].concat(), "");
    assert_eq!((preflight.status, preflight.header("access-control-allow-headers")), (204, Some("x-y")));
    assert_eq!(preflight.header("access-control-allow-origin"), Some("https://page.example"));
    let bad = [("PADDOCK_API_KEY", "two\nlines")];
    let mut command = folder.command(["serve", "--model_name_or_path", "model", "--port", "0", "--log_format", "json"]);
    let run = crate::cli::fixture::Run::from(command.envs(bad).output().unwrap());
    assert!(run.error().contains("PADDOCK_API_KEY"), "{}", run.stdout);
}

#[test]
fn slow_clients_are_not_waited_for() {
    let folder = Folder::new();
    let server = plain(&folder, &["--read_timeout", "1", "--max_connections", "3"]);
    let half = server.request("POST", CHAT, &[("Content-Length", "1000")], "{\"messages\"");
    assert_eq!(exchange(&server.address, half.as_bytes()).refusal(), (408, json!("request_timeout")));
    // All places are taken by clients that send a byte now and then: a proper one gets in when they are put out.
    let started = Instant::now();
    thread::scope(|scope| {
        for _ in 0..3 {
            let mut stream = server.connect();
            scope.spawn(move || {
                // Until the server has ended the connection.
                while stream.write_all(b"G").is_ok() && started.elapsed() < Duration::from_secs(100) {
                    thread::sleep(Duration::from_millis(200));
                }
            });
        }
        thread::sleep(Duration::from_millis(100));
        assert_eq!(server.get("/health").status, 200);
        assert!(started.elapsed() < Duration::from_secs(60), "{:?}", started.elapsed());
    });
    // A connection that is used goes on, and ends when it is not.
    let mut stream = server.connect();
    let ask = server.request("GET", "/health", &[("Connection", "keep-alive")], "");
    for _ in 0..3 {
        stream.write_all(ask.as_bytes()).unwrap();
        let mut bytes = Vec::new();
        while !bytes.ends_with(b"}") {
            let mut byte = [0];
            stream.read_exact(&mut byte).unwrap();
            bytes.push(byte[0]);
        }
        assert!(bytes.starts_with(b"HTTP/1.1 200"));
        thread::sleep(Duration::from_millis(400));
    }
    let mut rest = Vec::new();
    let _ = stream.read_to_end(&mut rest);
    assert!(rest.is_empty());
}

#[test]
fn a_full_queue_refuses_and_those_in_it_are_answered() {
    let folder = Folder::new();
    let server = starter(&folder, &["--max_queue", "2"]);
    let body = chat("Call me", json!({"max_tokens": 200, "temperature": 1.0, "seed": 3}));
    let replies: Vec<_> = thread::scope(|scope| {
        let asked: Vec<_> = (0..40).map(|_| scope.spawn(|| server.post(CHAT, &body))).collect();
        asked.into_iter().map(|asked| asked.join().unwrap()).collect()
    });
    let refused: Vec<_> = replies.iter().filter(|reply| reply.status == 429).collect();
    assert!(!refused.is_empty(), "{:?}", replies.iter().map(|reply| reply.status).collect::<Vec<_>>());
    assert_eq!(refused[0].refusal(), (429, json!("rate_limit_exceeded")));
    assert_eq!(refused[0].header("retry-after"), Some("1"));
    let answered: Vec<_> = replies.iter().filter(|reply| reply.status != 429).map(|reply| reply.ok()).collect();
    // Those that fit into the queue; more, if the engine took some out of it before the last came.
    assert!(answered.len() >= 2, "{}", answered.len());
    // The same seed: the same beginning, however many are answered at once (rounding may part them later).
    let start = |one: &Value| text(one).chars().take(12).collect::<String>();
    assert!(answered.iter().all(|one| start(one) == start(&answered[0])), "{answered:?}");
    assert_eq!(server.metric("paddock_queue_length"), 0.0);
    assert_eq!(server.metric("paddock_queue_limit"), 2.0);
}

#[test]
fn a_client_that_goes_away_ends_its_own_answer_alone() {
    let folder = Folder::new();
    let server = starter(&folder, &[]);
    let other = chat("Call me", json!({"max_tokens": 60, "temperature": 1.0, "seed": 5}));
    let alone = server.post(CHAT, &other).ok();
    let long = |stream: bool| {
        let how = json!({"max_tokens": 450, "temperature": 1.0, "seed": 1, "stream": stream});
        let mut stream = server.connect();
        let ask = server.request("POST", CHAT, &[], &chat("The terms of the offer", how).to_string());
        stream.write_all(ask.as_bytes()).unwrap();
        stream
    };
    let gone = |count: f64| {
        until("rest", || {
            let cancelled = server.metric("paddock_cancelled_total") == count;
            (cancelled && server.metric("paddock_running") == 0.0).then_some(())
        });
    };
    thread::scope(|scope| {
        let beside = scope.spawn(|| server.post(CHAT, &other).ok());
        let mut stream = long(true);
        let mut some = vec![0; 600];
        stream.read_exact(&mut some).unwrap();
        assert!(String::from_utf8_lossy(&some).contains("chat.completion.chunk"));
        drop(stream);
        assert_eq!(text(&beside.join().unwrap()), text(&alone));
    });
    gone(1.0);
    // One that waits for the whole goes away as well.
    let stream = long(false);
    until("its beginning", || (server.metric("paddock_running") > 0.0).then_some(()));
    drop(stream);
    gone(2.0);
    let lines = || server.lines("request").into_iter().filter(|line| line["status"] == 499).collect::<Vec<_>>();
    let lines = until("their lines", || Some(lines()).filter(|lines| lines.len() == 2));
    assert!(lines.iter().all(|line| line["error"] == "client_gone" && line["model"] == "starter"), "{lines:?}");

    // The engine answers on, and ends at a text that is named.
    assert_eq!(text(&server.post(CHAT, &other).ok()), text(&alone));
    let stop: String = text(&alone).chars().skip(20).take(5).collect();
    let mut stopped = other.clone();
    stopped["stop"] = json!([&stop]);
    let stopped = server.post(CHAT, &stopped).ok();
    assert_eq!(text(&stopped), text(&alone).split(&stop).next().unwrap());
    assert_eq!(stopped["choices"][0]["finish_reason"], "stop");
}

#[cfg(unix)]
#[test]
fn ctrl_c_lets_answers_under_way_come_to_their_end() {
    let folder = Folder::new();
    let server = starter(&folder, &[]);
    let mut stream = server.connect();
    let body = chat("Call me", json!({"max_tokens": 40, "temperature": 1.0, "seed": 2, "stream": true}));
    stream.write_all(server.request("POST", CHAT, &[], &body.to_string()).as_bytes()).unwrap();
    let mut bytes = vec![0; 300];
    stream.read_exact(&mut bytes).unwrap();
    let (code, result) = server.interrupt();
    stream.read_to_end(&mut bytes).unwrap();
    let events = client::Reply::read(&bytes).events();
    assert!(joined(&events).len() > 20, "{events:?}");
    assert_eq!((code, &result["requests"]), (Some(0), &json!(1)));
}
