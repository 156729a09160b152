//! Vocabularies of other formats: small ones written by hand, and damaged ones.

use super::*;

fn strings(list: &[&str]) -> Vec<String> {
    list.iter().map(|text| (*text).to_owned()).collect()
}

/// Llama 2's kind: `ab` has a better score than `bc`.
fn scored() -> GgufVocab {
    let mut tokens = strings(&["<unk>", "<s>", "</s>"]);
    tokens.extend((0..=255).map(|byte: u8| format!("<0x{byte:02X}>")));
    let mut token_types = vec![2, 3, 3];
    token_types.resize(tokens.len(), 6);
    let mut scores = vec![0.0; tokens.len()];
    for (token, score) in [("bc", -2.0), ("ab", -1.0), ("▁a", -3.0), ("a", -4.0), ("b", -5.0), ("c", -6.0), ("▁", -7.0)]
    {
        tokens.push(token.to_owned());
        scores.push(score);
        token_types.push(1);
    }
    tokens.push("<|user|>".to_owned());
    scores.push(-8.0);
    token_types.push(4);
    GgufVocab { model: "llama".into(), tokens, scores, token_types, unk: Some(0), ..GgufVocab::default() }
}

/// Every byte, then a few merges of them.
fn byte_level(pre: Option<&str>) -> GgufVocab {
    let mut tokens: Vec<String> =
        tokenizers::pre_tokenizers::byte_level::ByteLevel::alphabet().iter().map(char::to_string).collect();
    tokens.sort();
    tokens.extend(strings(&["12", "ab", "abc", "Ġab", "<|end|>"]));
    let mut token_types = vec![1; tokens.len()];
    token_types[260] = 3;
    GgufVocab {
        model: "gpt2".into(),
        pre: pre.map(str::to_owned),
        tokens,
        token_types,
        merges: strings(&["1 2", "a b", "Ġ ab"]),
        bos: Some(260),
        eos: Some(260),
        ..GgufVocab::default()
    }
}

fn text_of(vocab: &GgufVocab, text: &str) -> Vec<String> {
    let tokenizer = Tokenizer::from_gguf("m.gguf", vocab).expect("a tokenizer");
    let ids = tokenizer.encode(text, None).expect("a text").ids;
    // Llama 2's kind puts a space behind each special token.
    let plain = |text: &str| text.replace("<|end|>", "").replace(' ', "");
    assert_eq!(plain(&tokenizer.decode(&ids, true).expect("ids")), plain(text));
    ids.iter().map(|id| vocab.tokens[*id as usize].clone()).collect()
}

#[test]
fn gguf_scores_become_merges() {
    let vocab = scored();
    assert_eq!(text_of(&vocab, "abc"), ["<s>", "▁", "ab", "c"]);
    assert_eq!(text_of(&vocab, "a bc"), ["<s>", "▁a", "▁", "bc"]);
    assert_eq!(text_of(&vocab, "é"), ["<s>", "▁", "<0xC3>", "<0xA9>"]);
    assert_eq!(text_of(&vocab, "a<|user|>a"), ["<s>", "▁a", "<|user|>", "▁a"]);
    let vocab = GgufVocab { add_bos: Some(false), add_eos: Some(true), add_space_prefix: Some(false), ..vocab };
    assert_eq!(text_of(&vocab, "abc"), ["ab", "c", "</s>"]);
    let tokenizer = Tokenizer::from_gguf("m.gguf", &vocab).expect("a tokenizer");
    assert_eq!((tokenizer.bos_id(), tokenizer.eos_id()), (Some(1), Some(2)));
}

#[test]
fn gguf_merges_are_cut_as_their_name_says() {
    let smollm = byte_level(Some("smollm"));
    assert_eq!(text_of(&smollm, "ab 12<|end|>"), ["ab", "Ġ", "1", "2", "<|end|>"]);
    assert_eq!(text_of(&byte_level(Some("gpt-2")), " ab12"), ["Ġab", "12"]);
    assert_eq!(text_of(&byte_level(None), "abc12"), ["ab", "c", "12"]);
    // Llama 3 takes a whole word before it merges, and begins with the special token.
    assert_eq!(text_of(&byte_level(Some("llama-bpe")), "abc 12")[1..], ["abc", "Ġ", "12"]);
    assert_eq!(text_of(&byte_level(Some("llama-bpe")), "")[..], ["<|end|>"]);
    let error = Tokenizer::from_gguf("m.gguf", &byte_level(Some("tekken"))).expect_err("unknown").to_string();
    assert_eq!(error, "m.gguf: tokenizer.ggml.pre is `tekken`, a way of cutting texts that is not known here");
}

/// SmolLM2's vocabulary lacks some control characters: they are left out, as Hugging Face's tokenizers leave them out.
#[test]
fn bytes_without_a_token_are_told_unless_they_are_control_characters() {
    let mut vocab = byte_level(Some("gpt-2"));
    for (hidden, place) in [("z", "<unused 1>"), ("ĝ", "<unused 2>")] {
        let token = vocab.tokens.iter_mut().find(|token| *token == hidden).expect("every byte");
        *token = place.to_owned();
    }
    let tokenizer = Tokenizer::from_gguf("m.gguf", &vocab).expect("a tokenizer");
    let ids = |text: &str| tokenizer.encode(text, None).map(|encoded| encoded.ids);
    assert_eq!(ids("1\u{1d}2").expect("left out"), ids("12").expect("a text"));
    let error = ids("1z2").expect_err("no token").to_string();
    assert_eq!(error, "m.gguf: the vocabulary has no token for `z`, which the data needs");
}

#[test]
fn damaged_gguf_vocabularies_are_refused_with_a_reason() {
    type Change = fn(&mut GgufVocab);
    let changes: &[(&str, Change)] = &[
        ("vocabulary is empty", |v| {
            v.tokens.clear();
            v.scores.clear();
            v.token_types.clear();
        }),
        ("`bert`; LLaMA models have", |v| v.model = "bert".into()),
        ("scores has 1 entries", |v| v.scores.truncate(1)),
        ("scores has 0 entries", |v| v.scores.clear()),
        ("token_type has 1 entries", |v| v.token_types.truncate(1)),
        ("score of token 7 is NaN", |v| v.scores[7] = f32::NAN),
        ("`a` is there twice, with the ids 262 and 264", |v| v.tokens[264] = "a".into()),
        ("token 262 has 600 bytes", |v| v.tokens[262] = "a".repeat(600)),
        ("bos_token_id is 9999, beyond the 267 tokens", |v| v.bos = Some(9999)),
        ("unknown_token_id is 9999", |v| v.unk = Some(9999)),
        ("eos_token_id is 9999", |v| {
            v.eos = Some(9999);
            v.add_eos = Some(true);
        }),
    ];
    for (reason, change) in changes {
        let mut vocab = scored();
        change(&mut vocab);
        let error = Tokenizer::from_gguf("m.gguf", &vocab).expect_err(reason);
        assert!(error.to_string().contains(reason), "{reason}: {error}");
    }
    for (reason, merge) in [("`ab`, which is no pair", "ab"), ("zz", "zz a"), ("m.gguf: ", "")] {
        let mut vocab = byte_level(None);
        vocab.merges.push(merge.into());
        let error = Tokenizer::from_gguf("m.gguf", &vocab).expect_err(reason);
        assert!(error.to_string().contains(reason), "{reason}: {error}");
    }
    let vocab = GgufVocab { add_bos: Some(true), bos: None, ..byte_level(None) };
    let error = Tokenizer::from_gguf("m.gguf", &vocab).expect_err("no bos").to_string();
    assert!(error.contains("no tokenizer.ggml.bos_token_id"), "{error}");
}

/// All of a^i b^j: each is put together from others at every place.
#[test]
fn a_vocabulary_of_countless_merges_is_refused() {
    let tokens: Vec<String> = (0..=140_usize)
        .flat_map(|a| (0..=140_usize).map(move |b| "a".repeat(a) + &"b".repeat(b)))
        .filter(|token| !token.is_empty())
        .collect();
    let vocab = GgufVocab { model: "llama".into(), scores: vec![0.0; tokens.len()], tokens, ..GgufVocab::default() };
    let error = Tokenizer::from_gguf("m.gguf", &vocab).expect_err("too many").to_string();
    assert!(error.contains("too many ways"), "{error}");
}
