//! Against transformers' own processors: tests/golden/sampling.py.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use super::{sampling::draw, *};
use crate::rng;

pub(super) fn fixture() -> Value {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/golden/sampling.json");
    serde_json::from_slice(&std::fs::read(path).expect(path)).expect("JSON")
}

fn floats(value: &Value) -> Vec<f32> {
    serde_json::from_value(value.clone()).expect("numbers")
}

#[test]
fn probabilities_are_those_of_transformers() {
    let fixture = fixture();
    let cases = fixture["cases"].as_array().expect("cases");
    assert_eq!(cases.len(), 51);
    for case in cases {
        let mut settings = case["sampling"].clone();
        if settings.get("temperature").is_none() {
            settings["temperature"] = json!(1.0);
        }
        let sampling: Sampling = serde_json::from_value(settings).expect("settings");
        sampling.check().expect("settings that mean something");
        let row = case["row"].as_u64().expect("a row") as usize;
        let mut logits = floats(&fixture["logits"][row]);
        let seen: BTreeSet<u32> = serde_json::from_value(fixture["seen"][row].clone()).expect("tokens");
        sampling.penalise(&mut logits, &seen);
        let got: BTreeMap<u32, f64> = sampling.distribution(&logits).into_iter().collect();
        let kept = case["kept"].as_object().expect("tokens");
        let expected: BTreeMap<u32, f64> =
            kept.iter().map(|(id, p)| (id.parse().expect("a token"), p.as_f64().expect("a probability"))).collect();
        assert!(got.keys().eq(expected.keys()), "{case}: {got:?}");
        for (id, probability) in &expected {
            assert!((got[id] - probability).abs() < 1e-6, "{case}: token {id} has {}", got[id]);
        }
    }
}

#[test]
fn draws_have_their_probabilities_and_their_seed() {
    let sampling = Sampling { temperature: 0.8, top_p: 0.9, ..Sampling::default() };
    let logits = [1.0, 3.0, 2.5, -4.0, 2.0];
    let draws = |seed: u64| {
        let mut rng = rng::stream(seed, rng::GENERATE);
        let choose = |_| sampling.choose(&mut logits.clone(), &BTreeSet::new(), &mut rng).expect("a token");
        (0..20_000).map(choose).collect::<Vec<_>>()
    };
    let tokens = draws(1);
    assert_eq!(tokens, draws(1));
    assert_ne!(tokens, draws(2));
    let expected: BTreeMap<u32, f64> = sampling.distribution(&logits).into_iter().collect();
    assert!(expected.keys().eq(&[1, 2, 4]));
    for (id, probability) in expected {
        let share = tokens.iter().filter(|token| **token == id).count() as f64 / tokens.len() as f64;
        assert!((share - probability).abs() < 0.015, "token {id}: {share} for {probability}");
    }
    // The first draws of a seed are the same everywhere.
    assert_eq!(tokens[..12], [2, 1, 1, 2, 1, 1, 1, 1, 1, 1, 1, 1]);
}

#[test]
fn a_draw_takes_the_token_where_the_sum_goes_beyond() {
    let tokens = [(7, 0.5), (3, 0.25), (9, 0.25)];
    for (at, token) in [(0.0, 7), (0.4999, 7), (0.5, 3), (0.7499, 3), (0.75, 9), (0.999_999, 9), (1.0, 9)] {
        assert_eq!(draw(&tokens, at), token, "{at}");
    }
    assert_eq!(draw(&[], 0.3), 0);
    let cold = Sampling { temperature: 5e-324, ..Sampling::default() };
    let token = cold.choose(&mut [1.0, 3.0, 2.0], &BTreeSet::new(), &mut rng::stream(1, 1));
    assert_eq!(token.expect("the likeliest"), 1);
}

#[test]
fn nothing_is_drawn_at_temperature_0() {
    let mut rng = rng::stream(1, 1);
    let mut choose = |penalty: f64, seen: &[u32]| {
        let sampling = Sampling { repetition_penalty: penalty, top_k: 3, ..Sampling::default() };
        let seen = seen.iter().copied().collect();
        sampling.choose(&mut [-1.0, 2.0, 1.9, 2.0], &seen, &mut rng).expect("a token")
    };
    assert_eq!(choose(1.0, &[1]), 1);
    assert_eq!(choose(1.2, &[1, 99]), 3);
    assert_eq!(choose(1.2, &[1, 3]), 2);
    assert!(Sampling::default().plain() && !Sampling { repetition_penalty: 1.1, ..Sampling::default() }.plain());
}

#[test]
fn logits_that_are_no_numbers_are_said() {
    let choose = |logits: &mut [f32]| {
        let sampling = Sampling { temperature: 1.0, ..Sampling::default() };
        sampling.choose(logits, &BTreeSet::new(), &mut rng::stream(1, 1))
    };
    let (nan, inf) = (f32::NAN, f32::INFINITY);
    for mut logits in [vec![1.0, nan], vec![inf, 0.0], vec![-inf, -inf], Vec::new()] {
        assert!(choose(&mut logits).expect_err("no numbers").to_string().contains("no number"), "{logits:?}");
    }
    assert_eq!(choose(&mut [-inf, 0.0, -inf]).expect("one is possible"), 1);
}

#[test]
fn sampling_that_means_nothing_is_refused_by_its_name() {
    let many = vec!["x"; 65];
    for (settings, key) in [
        (json!({"max_new_tokens": 0}), "max_new_tokens"),
        (json!({"temperature": -0.1}), "temperature"),
        (json!({"top_p": 0.0}), "top_p"),
        (json!({"top_p": 1.1}), "top_p"),
        (json!({"min_p": -1}), "min_p"),
        (json!({"repetition_penalty": 0}), "repetition_penalty"),
        (json!({"repetition_penalty": 1e-30}), "repetition_penalty"),
        (json!({"stop": [""]}), "stop"),
        (json!({"stop": ["x".repeat(1025)]}), "stop"),
        (json!({"stop": many}), "stop"),
    ] {
        let sampling: Sampling = serde_json::from_value(settings.clone()).expect("of the right type");
        let error = sampling.check().expect_err(key);
        assert!(error.to_string().starts_with(&format!("{key}: expected")), "{settings}: {error}");
    }
    let nan = Sampling { temperature: f64::NAN, ..Sampling::default() };
    assert!(nan.check().is_err());
    assert!(serde_json::from_value::<Sampling>(json!({"top_n": 1})).is_err());
    assert_eq!(serde_json::from_value::<Sampling>(json!({})).expect("defaults"), Sampling::default());
    assert_eq!(Sampling { top_p: 0.5, ..Sampling::default() }.idle(), Some("top_p"));
    assert_eq!(Sampling { top_p: 0.5, temperature: 1.0, ..Sampling::default() }.idle(), None);
}
