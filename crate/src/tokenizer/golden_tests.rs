//! The ids that Hugging Face's tokenizers give to 10,000 strings, for vocabularies of every format, and the texts that
//! transformers makes of chats: tests/reference/vocabularies.py made them.

use std::{fs, path::Path};

use serde_json::Value;

use super::*;

const GOLDEN: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/golden/tokenizers");
const SPECIAL: SpecialIds = SpecialIds { bos: None, eos: None, pad: None };

fn bytes(file: &str) -> Vec<u8> {
    let path = Path::new(GOLDEN).join(file);
    fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn json(file: &str) -> Value {
    serde_json::from_slice(&bytes(file)).expect(file)
}

fn list<T>(value: &Value, item: impl Fn(&Value) -> Option<T>) -> Vec<T> {
    value.as_array().map(|list| list.iter().map(|value| item(value).expect("an item")).collect()).unwrap_or_default()
}

fn text(value: &Value) -> Option<String> {
    value.as_str().map(str::to_owned)
}

/// The strings that vocabularies.py makes, by the same steps.
fn strings() -> Vec<String> {
    let json = json("strings.json");
    let fragments = list(&json["fragments"], text);
    let spaces = list(&json["spaces"], text);
    let ranges = list(&json["ranges"], |range| Some((range[0].as_u64()?, range[1].as_u64()?)));
    let mut state = 2026_u64;
    let mut below = |limit: u64| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) % limit
    };
    let make = |_| {
        let mut text = String::new();
        for _ in 0..=below(12) {
            match below(10) {
                kind @ 0..6 => {
                    text += &fragments[below(fragments.len() as u64) as usize];
                    text += if kind < 4 { "" } else { " " };
                }
                6..8 => {
                    let (first, last) = ranges[below(ranges.len() as u64) as usize];
                    let count = 1 + below(4);
                    text.extend(
                        (0..count)
                            .map(|_| char::from_u32((first + below(last - first + 1)) as u32).expect("no surrogate")),
                    );
                }
                8 => {
                    let space = &spaces[below(spaces.len() as u64) as usize];
                    let limit = below(60) + 1;
                    text += &space.repeat(1 + below(limit) as usize);
                }
                _ => {
                    let count = 1 + below(9);
                    text.extend((0..count).map(|_| char::from(b'0' + below(10) as u8)));
                }
            }
        }
        text
    };
    (0..json["count"].as_u64().expect("a count")).map(make).collect()
}

fn fnv(ids: &[u32]) -> u16 {
    let hash = ids
        .iter()
        .flat_map(|id| id.to_le_bytes())
        .fold(0x811C_9DC5_u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193));
    (hash >> 16 ^ hash & 0xFFFF) as u16
}

fn gguf(json: &Value) -> GgufVocab {
    let id = |key: &str| json[key].as_u64().map(|id| id as u32);
    GgufVocab {
        model: text(&json["model"]).expect("a model"),
        pre: text(&json["pre"]),
        tokens: list(&json["tokens"], text),
        scores: list(&json["scores"], |score| score.as_f64().map(|score| score as f32)),
        token_types: list(&json["token_type"], |kind| kind.as_i64().map(|kind| kind as i32)),
        merges: list(&json["merges"], text),
        bos: id("bos"),
        eos: id("eos"),
        unk: id("unk"),
        ..GgufVocab::default()
    }
}

fn agrees(tokenizer: &Tokenizer, ids: &str) {
    let expected = bytes(ids);
    let strings = strings();
    assert_eq!((strings.len(), expected.len()), (10_000, 20_000));
    let wrong: Vec<String> = strings
        .iter()
        .zip(expected.chunks_exact(2))
        .map(|(text, hash)| (text, tokenizer.encode(text, None).expect("a text").ids, hash))
        .filter(|(_, got, hash)| fnv(got).to_le_bytes() != **hash)
        .map(|(text, got, _)| format!("{text:?} → {got:?}"))
        .collect();
    assert!(
        wrong.is_empty(),
        "{ids}: {} of {} strings differ:\n{}",
        wrong.len(),
        strings.len(),
        wrong[..wrong.len().min(9)].join("\n")
    );
}

fn of_model(file: &str, config: &TokenizerConfig) -> Tokenizer {
    let json = tokenizer_model_json(file, &bytes(file), config).expect("a tokenizer.model");
    Tokenizer::from_json_bytes(file, &json, SPECIAL).expect("a tokenizer.json")
}

#[test]
fn the_starters_tokenizer_json_gives_hugging_faces_ids() {
    let starter = include_bytes!(concat!(env!("CARGO_MANIFEST_DIR"), "/starter/tokenizer.json"));
    agrees(&Tokenizer::from_json_bytes("tokenizer.json", starter, SPECIAL).expect("the starter"), "starter.ids");
}

#[test]
fn sentencepiece_models_give_hugging_faces_ids() {
    agrees(&of_model("sentencepiece.model", &TokenizerConfig::default()), "sentencepiece.ids");
    let new = TokenizerConfig { legacy: Some(false), add_eos_token: Some(true), ..TokenizerConfig::default() };
    agrees(&of_model("sentencepiece.model", &new), "sentencepiece-new.ids");
    let scores = Tokenizer::from_gguf("m.gguf", &gguf(&json("gguf-llama.json"))).expect("a vocabulary");
    agrees(&scores, "sentencepiece.ids");
}

#[test]
fn tiktoken_models_give_hugging_faces_ids() {
    agrees(&of_model("tiktoken.model", &TokenizerConfig::default()), "tiktoken.ids");
}

/// The regular expressions go back over white space, and give up in silence where that takes too many steps.
#[test]
fn a_very_long_run_of_spaces_is_cut_as_a_short_one() {
    let config = TokenizerConfig { add_bos_token: Some(false), ..TokenizerConfig::default() };
    let tokenizer = of_model("tiktoken.model", &config);
    let ids = |text: &str| tokenizer.encode(text, None).expect("a text").ids;
    let run = " ".repeat(250_000);
    let rest = "12345 don't\n\n99999";
    assert_eq!(ids(&format!("{run}{rest}")), [ids(&run[1..]), ids(" "), ids(rest)].concat());
}

#[test]
fn a_text_in_parts_is_as_a_text_in_one() {
    let text = "The dog sleeps\n\n beside  the door.\tIt's 12,345 o'clock 犬は Größe\n".repeat(8000);
    let new = TokenizerConfig { legacy: Some(false), ..TokenizerConfig::default() };
    let models = [
        ("sentencepiece.model", TokenizerConfig::default()),
        ("sentencepiece.model", new),
        ("tiktoken.model", TokenizerConfig::default()),
    ];
    for (file, config) in models {
        let tokenizer = of_model(file, &config);
        assert!(pieces(&text, tokenizer.prepends).count() > 2);
        let whole = tokenizer.inner.encode_fast(text.as_str(), false).expect("a text");
        assert!(tokenizer.encode_chat(&text).expect("a text") == whole.get_ids(), "{file} {:?}", config.legacy);
    }
}

#[test]
fn gguf_merges_give_hugging_faces_ids() {
    let vocab = gguf(&json("gguf-gpt2.json"));
    for pre in ["gpt-2", "smollm", "llama-bpe", "default"] {
        let vocab = GgufVocab { pre: Some(pre.to_owned()), ..vocab.clone() };
        agrees(&Tokenizer::from_gguf("m.gguf", &vocab).expect(pre), &format!("gguf-{pre}.ids"));
    }
}

#[test]
fn chats_read_as_transformers_writes_them() {
    let json = json("chat.json");
    let config = TokenizerConfig::from_json_bytes(json.to_string().as_bytes()).expect("special tokens");
    let new = TokenizerConfig { legacy: Some(false), ..TokenizerConfig::default() };
    let tokenizer = of_model("sentencepiece.model", &new);
    let cases = json["cases"].as_array().expect("cases");
    assert_eq!(cases.len(), 40);
    for case in cases {
        let name = case["template"].as_str().expect("a name");
        let source = json["templates"][name].as_str().expect("a template");
        let template = ChatTemplate::new("tokenizer_config.json", source, &config, 0).expect(name);
        let messages = list(&case["messages"], |turn| Some(Message::new(text(&turn[0])?, text(&turn[1])?)));
        let got = template.render(&messages, case["add_generation_prompt"] == true);
        match text(&case["error"]) {
            Some(error) => {
                let got = got.expect_err(&error).to_string();
                assert!(got.contains(&error), "{name}: {got}");
            }
            None => {
                let got = got.expect(name);
                assert_eq!(Some(got.as_str()), case["text"].as_str(), "{name}");
                let ids = tokenizer.encode_chat(&got).expect("a text");
                assert_eq!(u64::from(fnv(&ids)), case["ids"], "{name}: {got:?}");
            }
        }
    }
}

/// Real vocabularies, fetched and encoded by `vocabularies.py real`.
#[test]
#[ignore = "needs what tests/reference/vocabularies.py fetches"]
fn real_vocabularies() {
    let folder = Path::new(GOLDEN).join("../../../.paddock/tokenizers");
    let read = |file: &str| fs::read(folder.join(file)).unwrap_or_else(|error| panic!("{file}: {error}"));
    let parse = |file: &str| serde_json::from_slice::<Value>(&read(file)).expect("JSON");
    let texts = list(&parse("texts.json"), text);
    let mut worst = 0;
    for name in ["mistral", "mistral-new", "mistral-gguf", "lenml", "llama2", "llama3", "llama3-js", "smollm2"] {
        let case = parse(&format!("{name}.ids.json"));
        let kind = &case["kind"];
        let file = kind["file"].as_str().expect("a file");
        let tokenizer = if kind["json"] == true {
            Tokenizer::from_json_bytes(file, &read(file), SPECIAL)
        } else if file.ends_with(".model") {
            let config = kind.get("config").cloned().unwrap_or_else(|| serde_json::json!({}));
            let config = TokenizerConfig::from_json_bytes(config.to_string().as_bytes()).expect(name);
            let json = tokenizer_model_json(file, &read(file), &config).expect(name);
            Tokenizer::from_json_bytes(file, &json, SPECIAL)
        } else {
            Tokenizer::from_gguf(file, &gguf(&parse(file)))
        };
        let tokenizer = tokenizer.expect(name);
        let expected =
            list(&case["ids"], |ids| Some(ids.as_array().map(|_| list(ids, |id| Some(id.as_u64()? as u32)))));
        let known: Vec<_> = texts.iter().zip(&expected).filter_map(|(text, ids)| Some((text, ids.as_ref()?))).collect();
        let wrong: Vec<_> = known
            .iter()
            .map(|(text, expected)| (text, tokenizer.encode(text, None).expect("a text").ids, expected))
            .filter(|(_, got, expected)| got != **expected)
            .collect();
        println!("{name}: {} of {} strings agree", known.len() - wrong.len(), known.len());
        for (text, got, expected) in wrong.iter().take(3) {
            println!("  {text:?}\n    {got:?}\n    {expected:?}");
        }
        worst = worst.max(wrong.len());
    }
    assert_eq!(worst, 0);
}
