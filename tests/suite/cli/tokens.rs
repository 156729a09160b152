//! `paddock tokenize`, on a model whose vocabulary is SentencePiece's.

use std::fs;

use serde_json::json;

use super::fixture::Folder;

const GOLDEN: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/golden/tokenizers/sentencepiece.model");

/// A model of 700 tokens without a tokenizer.json.
fn folder() -> Folder {
    let folder = Folder::new();
    let sizes = ["--vocab_size", "700", "--hidden_size", "16", "--intermediate_size", "16", "--num_hidden_layers", "1"];
    let heads =
        ["--num_attention_heads", "2", "--num_key_value_heads", "1", "--output_dir", "m", "--log_format", "json"];
    folder.run(&[&["init", "--train_file", "reviews.csv"][..], &sizes, &heads].concat()).result();
    fs::remove_file(folder.path("m/tokenizer.json")).unwrap();
    folder.write("m/tokenizer.model", fs::read(GOLDEN).unwrap());
    folder
}

#[test]
fn shows_the_ids_of_a_sentencepiece_model() {
    let folder = folder();
    let tokenize = ["tokenize", "--model_name_or_path", "m", "--log_format", "json"];
    let texts = ["--text", "The dog", "--text", "The dog sleeps"];
    let run = folder.run(&[&tokenize[..], &texts].concat());
    let rows = run.events("tokens");
    let ids = |row: usize| rows[row]["input_ids"].as_array().unwrap().clone();
    assert_eq!(run.result()["tokens"], ids(0).len() + ids(1).len());
    assert_eq!((&ids(0)[0], &ids(1)[..ids(0).len()]), (&json!(1), &ids(0)[..]));

    let error = folder.run(&[&tokenize[..], &["--text", "a", "--apply_chat_template"]].concat()).error();
    assert!(error.contains("has no chat template"), "{error}");
    let template = "{{ bos_token }}{{ messages[0].content }}{% if add_generation_prompt %} sleeps{% endif %}";
    folder.write("m/tokenizer_config.json", json!({"bos_token": "<s>", "chat_template": template}).to_string());
    let chat = folder.run(&[&tokenize[..], &["--text", "The dog", "--apply_chat_template"]].concat());
    // The template's <s> is the only one; its text begins behind it.
    assert_eq!(chat.events("tokens")[0]["input_ids"], json!(ids(1)));
    folder.write("m/chat_template.jinja", "{% for i in range(99999) %}{{ messages * 99 }}{% endfor %}");
    let error = folder.run(&[&tokenize[..], &["--text", "The dog", "--apply_chat_template"]].concat()).error();
    assert!(error.contains("chat_template.jinja: the chat template does not come to an end"), "{error}");

    folder.write("m/tokenizer.model", "hello");
    let error = folder.run(&[&tokenize[..], &["--text", "a"]].concat()).error();
    assert!(error.contains("tokenizer.model: not a SentencePiece model"), "{error}");
}
