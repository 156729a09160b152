//! Vocabularies trained here, LLaMA-shaped files written by hand, and files that are wrong in every part.

use serde_json::{Value, json};

use super::*;

const TEXTS: [&str; 4] = [
    "the film was good and the actors were good",
    "the film was bad and the story was bad",
    "what a good story, what a bad film: 7 of 10",
    "the actors and the story of the film",
];

const SPECIAL: SpecialIds = SpecialIds { bos: Some(0), eos: Some(1), pad: Some(2) };

fn trained() -> Vec<u8> {
    train_bpe(TEXTS.iter(), 280).expect("a vocabulary")
}

fn load(json: &Value) -> Result<Tokenizer> {
    Tokenizer::from_json_bytes("tokenizer.json", json.to_string().as_bytes(), SpecialIds::default())
}

/// Llama 2's shape: spaces as ▁, bytes as a fallback, `<s>` before every text.
fn llama2(byte_fallback: bool) -> Value {
    let mut vocab: Vec<String> = ["<unk>", "<s>", "</s>"].map(str::to_owned).to_vec();
    if byte_fallback {
        vocab.extend((0..=255).map(|byte: u8| format!("<0x{byte:02X}>")));
    }
    vocab.extend(["▁", "a", "b", "c", "ab", "▁ab", "▁a"].map(str::to_owned));
    let ids: serde_json::Map<String, Value> =
        vocab.iter().zip(0..).map(|(token, id)| (token.clone(), json!(id))).collect();
    let added = |id: u32, content: &str| json!({"id": id, "content": content, "single_word": false, "lstrip": false, "rstrip": false, "normalized": false, "special": true});
    json!({
        "version": "1.0",
        "truncation": {"direction": "Right", "max_length": 2, "strategy": "LongestFirst", "stride": 0},
        "padding": null,
        "added_tokens": [added(0, "<unk>"), added(1, "<s>"), added(2, "</s>")],
        "normalizer": {"type": "Sequence", "normalizers": [
            {"type": "Prepend", "prepend": "▁"},
            {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}
        ]},
        "pre_tokenizer": null,
        "post_processor": {"type": "TemplateProcessing",
            "single": [{"SpecialToken": {"id": "<s>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}, {"SpecialToken": {"id": "</s>", "type_id": 0}}],
            "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
            "special_tokens": {"<s>": {"id": "<s>", "ids": [1], "tokens": ["<s>"]}, "</s>": {"id": "</s>", "ids": [2], "tokens": ["</s>"]}}},
        "decoder": {"type": "Sequence", "decoders": [
            {"type": "Replace", "pattern": {"String": "▁"}, "content": " "},
            {"type": "ByteFallback"}, {"type": "Fuse"}, {"type": "Strip", "content": " ", "start": 1, "stop": 0}
        ]},
        "model": {"type": "BPE", "dropout": 0.5, "unk_token": "<unk>", "continuing_subword_prefix": null, "end_of_word_suffix": null,
            "fuse_unk": true, "byte_fallback": byte_fallback, "vocab": ids, "merges": ["a b", "▁ ab", "▁ a"]}
    })
}

#[test]
fn a_trained_vocabulary_is_the_same_each_time_and_goes_round() {
    let bytes = trained();
    assert_eq!(bytes, trained());
    let tokenizer = Tokenizer::from_json_bytes("tokenizer.json", &bytes, SPECIAL).expect("a tokenizer");
    assert_eq!(tokenizer.vocab_size(), 280);
    assert_eq!([BOS, EOS, PAD].map(|(token, _)| tokenizer.token_to_id(token)), [Some(0), Some(1), Some(2)]);
    for text in ["the film was good", "Größe: 12 €, 日本\t\n 🎬", ""] {
        let encoded = tokenizer.encode(text, None).expect(text);
        assert_eq!((encoded.ids[0], encoded.truncated, encoded.unknown), (0, false, 0));
        assert_eq!(tokenizer.decode(&encoded.ids, true).expect(text), text);
    }
    assert!(tokenizer.encode(" film", None).expect("a word").ids.len() == 2, "a frequent word is one token");
    assert!(tokenizer.decode(&[0, 5], false).expect("ids").starts_with("<|begin_of_text|>"));
    assert!(tokenizer.decode(&[280], false).is_err());
    assert_eq!((tokenizer.bos_id(), tokenizer.eos_id(), tokenizer.pad_id()), (Some(0), Some(1), 2));
    assert!(train_bpe(TEXTS.iter(), 258).is_err());
}

#[test]
fn texts_are_cut_and_keep_their_special_tokens() {
    let tokenizer = load(&llama2(true)).expect("a tokenizer");
    assert_eq!(tokenizer.around(), (&[1][..], &[2][..]));
    let id = |token: &str| tokenizer.token_to_id(token).expect(token);
    let whole = tokenizer.encode("ab a c", None).expect("a text");
    // Neither the file's truncation to 2 nor its dropout is applied.
    assert_eq!(whole.ids, [1, id("▁ab"), id("▁a"), id("▁"), id("c"), 2]);
    assert_eq!(tokenizer.decode(&whole.ids, true).expect("a text"), "ab a c");
    let cut = tokenizer.encode("ab a c", Some(4)).expect("a text");
    assert_eq!((cut.ids, cut.truncated), (vec![1, id("▁ab"), id("▁a"), 2], true));
    let fits = tokenizer.encode("ab a c", Some(6)).expect("a text");
    assert_eq!((fits.ids, fits.truncated), (whole.ids, false));
    assert_eq!(tokenizer.encode("ab", Some(2)).expect("no room").ids, [1, 2]);
    assert_eq!(tokenizer.encode("ab", Some(1)).expect("no room").ids, [1]);
}

#[test]
fn a_text_of_megabytes_is_cut_early_and_encoded_in_parts() {
    let tokenizer = Tokenizer::from_json_bytes("tokenizer.json", &trained(), SPECIAL).expect("a tokenizer");
    let line = "the film was good and the story of it was bad, 10 times\n";
    let long = line.repeat((3 << 20) / line.len());
    let cut = tokenizer.encode(&long, Some(100)).expect("a long text");
    let short = tokenizer.encode(&line.repeat(20), Some(100)).expect("a text");
    assert_eq!((cut.ids.len(), cut.truncated), (100, true));
    assert_eq!(cut.ids, short.ids);
    let one = tokenizer.encode(line, None).expect("a line").ids.len() - 1;
    let whole = tokenizer.encode(&long, None).expect("a long text");
    assert_eq!(whole.ids.len(), 1 + one * ((3 << 20) / line.len()));
    assert_eq!(pieces(&long, false).collect::<String>(), long);
    assert_eq!(pieces(&long, true).collect::<Vec<_>>().join(" "), long);
    assert_eq!(pieces(&"é".repeat(2 << 20), true).map(str::len).sum::<usize>(), 4 << 20);
}

#[test]
fn characters_without_a_token_are_not_lost_in_silence() {
    let tokenizer = load(&llama2(true)).expect("bytes");
    let encoded = tokenizer.encode("abé", None).expect("bytes cover everything");
    assert_eq!((encoded.ids.len(), encoded.unknown), (2 + 3, 0));
    assert_eq!(tokenizer.decode(&encoded.ids, true).expect("a text"), "abé");

    let encoded = load(&llama2(false)).expect("unknown token").encode("ab é c", None).expect("unknown");
    assert_eq!(encoded.unknown, 1);

    let mut json = llama2(false);
    json["model"]["unk_token"] = Value::Null;
    let tokenizer = load(&json).expect("no unknown token");
    assert!(tokenizer.encode("ab c </s>", None).is_ok());
    let error = tokenizer.encode("ab é c", None).expect_err("no token for é").to_string();
    assert_eq!(error, "tokenizer.json: the vocabulary has no token for `é`, which the data needs");
}

#[test]
fn ids_must_fit_the_model() {
    let tokenizer = load(&llama2(false)).expect("a tokenizer");
    assert_eq!(tokenizer.vocab_size(), 10);
    tokenizer.check_model_vocab(10).expect("fits");
    tokenizer.check_model_vocab(16).expect("fits");
    let error = tokenizer.check_model_vocab(9).expect_err("too small");
    assert_eq!(error.to_string(), "tokenizer.json: its ids go to 9, the model's vocab_size is 9");
    let special = SpecialIds { eos: Some(10), ..SpecialIds::default() };
    let bytes = llama2(false).to_string();
    let error = Tokenizer::from_json_bytes("tokenizer.json", bytes.as_bytes(), special).expect_err("eos");
    assert!(error.to_string().contains("eos_token_id is 10"), "{error}");
}

#[test]
fn hostile_files_are_refused_with_a_reason() {
    type Change = fn(&mut Value);
    let changes: &[(&str, Change)] = &[
        ("no `model`", |json| json["model"] = Value::Null),
        ("of type \"Unigram\"", |json| json["model"]["type"] = "Unigram".into()),
        ("no `vocab`", |json| json["model"]["vocab"] = json!([["a", 1.0]])),
        ("vocabulary is empty", |json| json["model"]["vocab"] = json!({})),
        ("token `a` has the id 4294967295", |json| json["model"]["vocab"]["a"] = json!(u32::MAX)),
        ("token `a` has the id -1", |json| json["model"]["vocab"]["a"] = json!(-1)),
        ("no `merges`", |json| json["model"]["merges"] = json!("a b")),
        ("zz", |json| json["model"]["merges"] = json!(["zz a"])),
        ("tokenizer.json: ", |json| json["model"]["merges"] = json!(["a"])),
        ("tokenizer.json: ", |json| json["model"]["merges"] = json!([["a", "b", "c"]])),
        ("unknown token", |json| json["model"]["unk_token"] = "missing".into()),
        ("continuing_subword_prefix", |json| json["model"]["continuing_subword_prefix"] = "##".into()),
        ("`normalizer` has the type `Precompiled`", |json| {
            json["normalizer"] = json!({"type": "Precompiled", "precompiled_charsmap": 5});
        }),
        ("has the type `Precompiled`", |json| json["normalizer"]["normalizers"][1] = json!({"type": "Precompiled"})),
        ("without `normalizers`", |json| json["normalizer"]["normalizers"] = json!(5)),
        ("empty or very long pattern", |json| json["normalizer"]["normalizers"][1]["pattern"]["String"] = "".into()),
        ("`pre_tokenizer` is not an object", |json| json["pre_tokenizer"] = json!([])),
        ("has the type `FixedLength`", |json| json["pre_tokenizer"] = json!({"type": "FixedLength", "length": 0})),
        ("large repetitions", |json| {
            json["pre_tokenizer"] = json!({"type": "Split", "pattern": {"Regex": "((?=a){1000}){1000}"}, "behavior": "Isolated", "invert": false});
        }),
        ("tokenizer.json: ", |json| {
            json["pre_tokenizer"] =
                json!({"type": "Split", "pattern": {"Regex": "(a"}, "behavior": "Isolated", "invert": false});
        }),
        ("names a second", |json| json["post_processor"]["single"][1]["Sequence"]["id"] = "B".into()),
        ("`<s>` has no ids", |json| json["post_processor"]["special_tokens"] = json!({})),
        ("has a bad id", |json| json["post_processor"]["special_tokens"]["<s>"]["ids"] = json!([1.5])),
        ("two templates", |json| {
            let template = json["post_processor"].clone();
            json["post_processor"] = json!({"type": "Sequence", "processors": [template.clone(), template]});
        }),
        ("`stop` above 0", |json| json["decoder"]["decoders"][3]["stop"] = json!(3)),
        ("has the type `BPEDecoder`", |json| json["decoder"] = json!({"type": "BPEDecoder", "suffix": "x"})),
        ("no list", |json| json["added_tokens"] = json!(7)),
        ("bad added token", |json| json["added_tokens"][1]["content"] = "".into()),
        ("`<new>` has id 77, but its place in the vocabulary gives", |json| {
            json["added_tokens"][2]["content"] = "<new>".into();
            json["added_tokens"][2]["id"] = json!(77);
        }),
        ("version", |json| json["version"] = "9.0".into()),
    ];
    for (reason, change) in changes {
        let mut json = llama2(false);
        change(&mut json);
        let error = load(&json).expect_err(reason);
        assert!(error.to_string().contains(reason), "{reason}: {error}");
        assert!(!error.advice().is_empty());
    }
    let deep = "[".repeat(1 << 20);
    for bytes in [&b""[..], b"null", b"[]", b"{", b"{}", b"\xFF\xFE", deep.as_bytes()] {
        assert!(Tokenizer::from_json_bytes("tokenizer.json", bytes, SpecialIds::default()).is_err());
    }
}

#[test]
fn damaged_files_do_not_panic() {
    let mut state = 3_u64;
    let mut random = move |below: usize| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize % below
    };
    let good = llama2(false).to_string().into_bytes();
    for round in 0..3000 {
        let mut bytes = good.clone();
        if round % 4 == 0 {
            bytes.truncate(random(bytes.len()));
        }
        for _ in 0..=random(3) {
            if !bytes.is_empty() {
                let at = random(bytes.len());
                bytes[at] = b"0123456789\"{}[],:abcAS \xE2"[random(24)];
            }
        }
        use_it(&bytes);
    }
}

/// Parts of the file put in each other's places, and numbers and nulls in theirs.
#[test]
fn files_of_misplaced_parts_do_not_panic() {
    let mut state = 5_u64;
    let mut random = move |below: usize| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize % below
    };
    let byte_level: Value = serde_json::from_slice(&trained()).expect("JSON");
    let files = [llama2(false), byte_level].map(|json| {
        let mut paths = Vec::new();
        collect(&json, String::new(), &mut paths);
        // Most of a byte-level file is its vocabulary: the other parts shall come up too.
        let parts = paths.iter().filter(|path| !path.starts_with("/model/")).cloned().collect::<Vec<_>>();
        let copies = paths.len() / parts.len();
        paths.extend(std::iter::repeat_n(parts, copies).flatten());
        (json, paths)
    });
    for round in 0..4000 {
        let (json, paths) = &files[round % 2];
        let mut json = json.clone();
        for _ in 0..=random(2) {
            let part = match random(6) {
                0 => Value::Null,
                1 => json!(random(12)),
                2 => json!(""),
                3 => json!(["a", " ", "▁", "<s>"][random(4)]),
                _ => json.pointer(&paths[random(paths.len())]).cloned().unwrap_or_default(),
            };
            if let Some(place) = json.pointer_mut(&paths[random(paths.len())]) {
                *place = part;
            }
        }
        use_it(json.to_string().as_bytes());
    }
}

fn collect(value: &Value, path: String, paths: &mut Vec<String>) {
    match value {
        Value::Object(map) => {
            map.iter().for_each(|(key, value)| collect(value, format!("{path}/{}", key.replace('/', "~1")), paths))
        }
        Value::Array(items) => {
            items.iter().enumerate().for_each(|(at, value)| collect(value, format!("{path}/{at}"), paths))
        }
        _ => {}
    }
    paths.push(path);
}

/// A panic inside the tokenizers crate would come back as this error natively, and end the worker in wasm.
fn use_it(bytes: &[u8]) {
    let panicked =
        |error: Error| assert!(!error.to_string().contains("cannot handle"), "{}", String::from_utf8_lossy(bytes));
    match Tokenizer::from_json_bytes("tokenizer.json", bytes, SpecialIds::default()) {
        Ok(tokenizer) => {
            for text in ["ab a <s> c é", "", "  \n", "▁▁<unk></s>cab"] {
                match tokenizer.encode(text, Some(8)) {
                    Ok(encoded) => drop(tokenizer.decode(&encoded.ids, true).map_err(panicked)),
                    Err(error) => panicked(error),
                }
            }
            drop(tokenizer.decode(&[], false).map_err(panicked));
        }
        Err(error) => panicked(error),
    }
}
