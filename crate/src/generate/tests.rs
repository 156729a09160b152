//! The starter model's answers against a loop without a cache; the small golden models' against transformers' `generate`.

#![allow(clippy::disallowed_methods)]

use std::{fs, path::Path, rc::Rc};

use burn::tensor::DType;
use pollster::block_on;
use rand::Rng;

use super::{sampling_tests::fixture, *};
use crate::{
    config::DeviceChoice,
    device,
    error::Error,
    model::{HeadKind, LlamaConfig},
    platform::{Memory, NamedFile},
    rng,
    tokenizer::{SpecialIds, TokenizerConfig, tokenizer_model_json},
    train::argmax,
    weights::{Packing, Weights, folder::Loader},
};

fn file(folder: &Path, name: &str) -> NamedFile {
    let bytes = fs::read(folder.join(name)).unwrap_or_else(|error| panic!("{}: {error}", folder.join(name).display()));
    NamedFile { name: name.into(), blob: Box::new(Memory(bytes)) }
}

fn starter() -> Folder {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("starter");
    let files = ["config.json", "model.safetensors", "tokenizer.json"].map(|name| file(&path, name));
    block_on(Folder::open("starter".into(), files.into())).expect("the starter model")
}

fn load(weights: Rc<Weights>, device: &Device) -> Llama {
    let mut loader = Loader::new(weights, HeadKind::CausalLm, 0, device.clone(), Packing::Dense);
    loop {
        if let Some(model) = block_on(loader.advance(&mut rng::stream(0, rng::INIT))).expect("weights") {
            return model;
        }
    }
}

/// The CPU and, where `PADDOCK_TEST_GPU` is set, the GPU.
fn devices() -> Vec<Device> {
    let gpu = std::env::var_os("PADDOCK_TEST_GPU").map(|_| {
        let opened = block_on(device::open(DeviceChoice::Gpu));
        opened.expect("PADDOCK_TEST_GPU is set").0.device
    });
    std::iter::once(Device::flex()).chain(gpu).collect()
}

const TEXTS: [&str; 6] = [
    "Call me",
    "The terms of the offer are free, and",
    "My dear friends, I stand here today because the work of many years has come to its end, and a new one begins. We",
    "1, 2, 3,",
    "\n",
    "Größe 犬 🐕",
];

fn prompts(folder: &Folder, texts: &[&str], sampling: &Sampling) -> Vec<Prompt> {
    let ids = |text: &&str| prompt_ids(folder, None, 0, text).expect("a short text");
    texts.iter().map(|text| Prompt { ids: ids(text), sampling: sampling.clone() }).collect()
}

/// All that came of each prompt: its text in one, its last delta.
fn answers(folder: &Folder, model: &Llama, device: &Device, prompts: Vec<Prompt>) -> Vec<(String, Delta)> {
    let mut found: Vec<(String, Option<Delta>)> = vec![Default::default(); prompts.len()];
    let mut generation = Generation::new(folder, prompts).expect("prompts that fit");
    let mut steps = 0;
    while !generation.done() {
        for delta in block_on(generation.advance(model, folder, device)).expect("a step") {
            assert!(!delta.text.contains('\u{FFFD}'), "{delta:?}");
            let (text, last) = &mut found[delta.row];
            assert!(last.as_ref().is_none_or(|last| last.finished.is_none()), "{delta:?} after the last");
            text.push_str(&delta.text);
            *last = Some(delta);
        }
        steps += 1;
        assert!(steps < 10_000);
    }
    let (done, total) = generation.progress();
    assert_eq!(done, total);
    for (row, (text, _)) in found.iter().enumerate() {
        assert_eq!(generation.text(row), text, "row {row}");
    }
    found.into_iter().map(|(text, last)| (text, last.expect("an end"))).collect()
}

/// What was there before this: the whole sequence anew for every token.
fn without_cache(folder: &Folder, model: &Llama, device: &Device, prompt: &Prompt) -> String {
    let mut row: Vec<i32> = prompt.ids.iter().map(|id| *id as i32).collect();
    let given = row.len();
    while row.len() < given + prompt.sampling.max_new_tokens && row.len() < folder.config().longest() {
        let ids = Tensor::<2, Int>::from_data(TensorData::new(row.clone(), [1, row.len()]), device);
        let hidden = model.hidden(ids, None, false).narrow(0, row.len() - 1, 1);
        let logits: Vec<f32> = model.project(hidden, false).into_data().try_into_vec().expect("f32");
        let next = argmax(&logits) as u32;
        if folder.ends().contains(&next) {
            break;
        }
        row.push(next as i32);
    }
    let answer: Vec<u32> = row[given..].iter().map(|id| *id as u32).collect();
    folder.tokenizer.decode(&answer, true).expect("text").trim_end_matches('\u{FFFD}').to_owned()
}

#[test]
fn answers_are_those_of_a_loop_without_a_cache() {
    let folder = starter();
    let sampling = Sampling { max_new_tokens: 24, ..Sampling::default() };
    for device in devices() {
        let model = load(folder.weights.clone(), &device);
        let prompts = prompts(&folder, &TEXTS, &sampling);
        let expected: Vec<String> =
            prompts.iter().map(|prompt| without_cache(&folder, &model, &device, prompt)).collect();
        let got = answers(&folder, &model, &device, prompts);
        assert_eq!(got.iter().map(|(text, _)| text).collect::<Vec<_>>(), expected.iter().collect::<Vec<_>>());
        assert!(got.iter().all(|(_, last)| match last.finished {
            Some(Finish::Length) => last.tokens == 24,
            finished => finished == Some(Finish::Stop) && last.tokens < 24,
        }));
    }
}

/// More prompts than rows, of many lengths and with many ends, greedy and drawn: each as if it were alone.
#[test]
fn an_answer_does_not_depend_on_its_neighbours() {
    let folder = starter();
    let device = Device::flex();
    let model = load(folder.weights.clone(), &device);
    let mut rng = rng::stream(8, 1);
    let mut many = Vec::new();
    for index in 0..40 {
        let temperature = if index % 3 == 0 { 0.0 } else { 1.0 };
        let repetition_penalty = if index % 4 == 1 { 1.2 } else { 1.0 };
        let max_new_tokens = rng.random_range(1..40);
        let sampling = Sampling { max_new_tokens, temperature, repetition_penalty, top_k: 50, ..Sampling::default() };
        let length = rng.random_range(1..60);
        many.push(Prompt { ids: (0..length).map(|_| rng.random_range(3..4096)).collect(), sampling });
    }
    let together = answers(&folder, &model, &device, many.clone());
    for (index, prompt) in many.iter().enumerate().step_by(3) {
        // Its place decides what is drawn for it.
        let mut alone = Generation::default();
        alone.rows.extend((0..=index).map(|place| Row::new(place, prompt.clone(), &folder).expect("a row")));
        alone.waiting.push_back(index);
        let mut text = String::new();
        while !alone.done() {
            let deltas = block_on(alone.advance(&model, &folder, &device)).expect("a step");
            text.extend(deltas.into_iter().map(|delta| delta.text));
        }
        assert_eq!(text, together[index].0, "prompt {index}");
    }
}

#[test]
fn a_seed_gives_its_answer_again_and_another_seed_another() {
    let folder = starter();
    let device = Device::flex();
    let model = load(folder.weights.clone(), &device);
    let draw = |seed| {
        let sampling = Sampling { max_new_tokens: 20, temperature: 1.0, seed, ..Sampling::default() };
        let found = answers(&folder, &model, &device, prompts(&folder, &["The dog", "The dog"], &sampling));
        found.into_iter().map(|(text, _)| text).collect::<Vec<_>>()
    };
    let first = draw(1);
    assert_eq!(first, draw(1));
    assert_ne!(first, draw(2));
    assert_ne!(first[0], first[1], "each prompt draws for itself");
}

#[test]
fn a_stop_text_ends_the_answer_wherever_it_stands() {
    let folder = starter();
    let device = Device::flex();
    let model = load(folder.weights.clone(), &device);
    let greedy = Sampling { max_new_tokens: 24, ..Sampling::default() };
    let answer =
        |sampling: &Sampling| answers(&folder, &model, &device, prompts(&folder, &TEXTS[1..2], sampling)).remove(0);
    let whole = answer(&greedy).0;
    let letters: Vec<usize> = whole.char_indices().map(|(at, _)| at).collect();
    assert!(letters.len() > 30, "{whole}");
    for from in (0..letters.len() - 6).step_by(2) {
        // Five letters lie across tokens more often than not.
        let stop = &whole[letters[from]..letters[from + 5]];
        let expected = &whole[..whole.find(stop).expect("it is there")];
        let (text, last) = answer(&Sampling { stop: vec!["zzz".into(), stop.into()], ..greedy.clone() });
        assert_eq!((text.as_str(), last.finished), (expected, Some(Finish::Stop)), "{stop:?} in {whole:?}");
    }
    // What only looks like a beginning comes in the end.
    let never = format!("{}\u{1}", &whole[letters[letters.len() - 3]..]);
    let (text, last) = answer(&Sampling { stop: vec![never], ..greedy.clone() });
    assert_eq!((text.as_str(), last.finished), (whole.as_str(), Some(Finish::Length)));
}

#[test]
fn an_end_token_ends_the_answer_and_so_does_a_special_one_that_is_named() {
    let folder = starter();
    let row = |stop: &[&str]| {
        let stop = stop.iter().map(|stop| stop.to_string()).collect();
        let sampling = Sampling { stop, max_new_tokens: 3, ..Sampling::default() };
        Row::new(0, Prompt { ids: vec![5], sampling }, &folder).expect("a row")
    };
    let tokenizer = &folder.tokenizer;
    let (bos, eos) = (tokenizer.bos_id().expect("bos"), tokenizer.eos_id().expect("eos"));
    let word = tokenizer.encode_chat("dog").expect("text")[0];
    let mut plain = row(&[]);
    assert_eq!(plain.push(bos, tokenizer).expect("text"), "");
    assert_eq!((plain.finished, plain.tokens), (None, 1));
    plain.push(eos, tokenizer).expect("text");
    assert_eq!((plain.finished, plain.tokens), (Some(Finish::Stop), 1));
    let name = tokenizer.decode(&[bos], false).expect("its name");
    let mut named = row(&[&name]);
    assert_eq!(named.push(word, tokenizer).expect("text"), tokenizer.decode(&[word], true).expect("text"));
    named.push(bos, tokenizer).expect("text");
    assert_eq!((named.finished, named.tokens), (Some(Finish::Stop), 1));
    let mut long = row(&[]);
    for _ in 0..3 {
        long.push(word, tokenizer).expect("text");
    }
    assert_eq!((long.finished, long.tokens), (Some(Finish::Length), 3));
    // A model may have more tokens than its tokenizer.
    let mut unknown = row(&[]);
    assert_eq!(unknown.push(tokenizer.vocab_size() as u32, tokenizer).expect("nothing"), "");
}

#[test]
fn an_answer_ends_where_the_model_reads_no_more() {
    let folder = starter();
    let device = Device::flex();
    let model = load(folder.weights.clone(), &device);
    let longest = folder.config().longest();
    let sampling = Sampling { max_new_tokens: 1000, ..Sampling::default() };
    let prompt = |length| Prompt { ids: vec![9; length], sampling: sampling.clone() };
    let (_, last) = answers(&folder, &model, &device, vec![prompt(longest - 5)]).remove(0);
    assert!(last.tokens <= 5 && last.finished.is_some(), "{last:?}");
    let refused = |prompt| Generation::new(&folder, vec![prompt]).err().map(|error: Error| error.to_string());
    assert!(refused(prompt(longest)).expect("an error").contains("Prompt 1 has 512 tokens; the model reads 512"));
    let strange = Prompt { ids: vec![4096], sampling: sampling.clone() };
    assert!(refused(strange).expect("an error").contains("token 4096"));
    let megabytes = "a ".repeat(5 << 20);
    let error = prompt_ids(&folder, None, 2, &megabytes).expect_err("too long").to_string();
    assert!(error.contains("Prompt 3 has 10485760 bytes; the model reads 512 tokens"), "{error}");
    // Nothing to begin with is the beginning of a text.
    assert_eq!(Generation::new(&folder, vec![prompt(0)]).expect("a row").prompt_tokens(0), 1);
}

#[test]
fn stopping_keeps_what_was_begun() {
    let folder = starter();
    let device = Device::flex();
    let model = load(folder.weights.clone(), &device);
    let sampling = Sampling { max_new_tokens: 50, ..Sampling::default() };
    let mut generation = Generation::new(&folder, prompts(&folder, &[TEXTS[1]; 20], &sampling)).expect("prompts");
    let step = |generation: &mut Generation| block_on(generation.advance(&model, &folder, &device)).expect("a step");
    // One is given up while it is answered, another while it waits.
    let first = step(&mut generation);
    assert!(first.iter().any(|delta| delta.row == 3));
    generation.cancel(3);
    generation.cancel(18);
    for _ in 0..7 {
        assert!(step(&mut generation).iter().all(|delta| delta.row != 3));
    }
    let last = generation.stop(&folder.tokenizer).expect("an end");
    assert!(generation.done());
    assert_eq!(last.len(), MOST_ROWS - 1, "the others were not begun");
    assert!(last.iter().all(|delta| delta.finished == Some(Finish::Abort) && delta.tokens == 8), "{last:?}");
    assert!(!generation.text(0).is_empty() && generation.text(19).is_empty());
}

/// Every tokenizer's tokens of texts with characters of many bytes, one by one.
#[test]
fn no_piece_of_a_text_is_broken_or_taken_back() {
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/golden/tokenizers");
    let of_model = |name: &str| {
        let bytes = fs::read(golden.join(name)).expect(name);
        let json = tokenizer_model_json(name, &bytes, &TokenizerConfig::default()).expect(name);
        Tokenizer::from_json_bytes(name, &json, SpecialIds { bos: None, eos: None, pad: None }).expect(name)
    };
    let tokenizers = [starter().tokenizer, of_model("sentencepiece.model"), of_model("tiktoken.model")];
    let texts = [
        "Größe 犬 🐕🏽 ends",
        "  two  spaces\n\n\tand é̂ more ",
        "🐕",
        "日本語のテキスト、読点。",
        "a\u{200d}b\u{FFFD}c",
        "<|x|> 12,345",
    ];
    for tokenizer in &tokenizers {
        let (before, after) = tokenizer.around();
        for text in texts {
            let ids = tokenizer.encode(text, None).expect("a text").ids;
            let ids = &ids[before.len()..ids.len() - after.len()];
            let mut stream = TextStream::new(vec!["🐕🏾".into(), "\u{1F1E9}".into()]);
            let mut pieces = Vec::new();
            for id in ids {
                pieces.push(stream.push(*id, tokenizer).expect("a piece"));
                assert!(!pieces[pieces.len() - 1].ends_with('\u{FFFD}'), "{pieces:?}");
            }
            pieces.push(stream.finish(tokenizer).expect("the rest"));
            let whole = tokenizer.decode(ids, true).expect("a text");
            assert_eq!(pieces.concat(), whole, "{tokenizer:?}");
            assert_eq!(stream.text(), whole);
            // Cut inside a character, the rest of it is left out.
            for end in 0..ids.len() {
                let mut stream = TextStream::new(Vec::new());
                let mut text = String::new();
                for id in &ids[..end] {
                    text += &stream.push(*id, tokenizer).expect("a piece");
                }
                text += &stream.finish(tokenizer).expect("the rest");
                assert!(!text.ends_with('\u{FFFD}'));
                let cut = tokenizer.decode(&ids[..end], true).expect("a text");
                assert!(whole.starts_with(&text) && text.starts_with(cut.trim_end_matches('\u{FFFD}')), "{text} {cut}");
            }
        }
    }
    // Bytes that are no character take nothing else with them.
    let tokenizer = &tokenizers[1];
    let byte = |byte: u8| tokenizer.token_to_id(&format!("<{byte:#04X}>")).expect("a byte");
    let mut ids = tokenizer.encode_chat("The").expect("a text");
    ids.extend([0xF0, 0x9F, 0x90, 0x95, 0xF0].map(byte));
    ids.extend(tokenizer.encode_chat("dog sleeps").expect("a text"));
    let mut stream = TextStream::new(Vec::new());
    let pieces: Vec<String> = ids.iter().map(|id| stream.push(*id, tokenizer).expect("a piece")).collect();
    assert_eq!(pieces.concat() + &stream.finish(tokenizer).expect("nothing"), "The🐕\u{FFFD} dog sleeps");
}

#[test]
fn greedy_answers_are_those_of_transformers() {
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/golden");
    let fixture = fixture();
    let cases = fixture["greedy"].as_array().expect("cases");
    assert_eq!(cases.len(), 20);
    for case in cases {
        let folder = golden.join(case["model"].as_str().expect("a folder"));
        let config = LlamaConfig::from_json(&fs::read(folder.join("config.json")).expect("a file")).expect("a LLaMA");
        let weights = block_on(Weights::open(config, file(&folder, "model.safetensors"))).expect("weights");
        let device = Device::flex();
        let model = load(Rc::new(weights), &device);
        let ids = |key: &str| serde_json::from_value::<Vec<u32>>(case[key].clone()).expect("tokens");
        let (prompt, expected) = (ids("prompt"), ids("answer"));
        let repetition_penalty = case["repetition_penalty"].as_f64().expect("a number");
        let sampling = Sampling { repetition_penalty, ..Sampling::default() };
        let mut seen: std::collections::BTreeSet<u32> = prompt.iter().copied().collect();
        let mut cache = KvCache::new(&model.config, vec![prompt.len()], prompt.len());
        let mut new: Vec<i32> = prompt.iter().map(|id| *id as i32).collect();
        let mut answer = Vec::new();
        while answer.len() < 40 && answer.last() != Some(&2) {
            let count = new.len();
            let ids = Tensor::<2, Int>::from_data(TensorData::new(std::mem::take(&mut new), [1, count]), &device);
            let hidden = model.extend(ids, &mut cache).narrow(0, count - 1, 1);
            let mut logits: Vec<f32> =
                model.project(hidden, false).cast(DType::F32).into_data().try_into_vec().expect("f32");
            let token = sampling.choose(&mut logits, &seen, &mut rng::stream(0, 0)).expect("a token");
            seen.insert(token);
            answer.push(token);
            new.push(token as i32);
        }
        assert_eq!(answer, expected, "{case}");
    }
}
