use super::super::*;
use crate::error::Error;
use crate::platform::{Memory, NamedFile};

fn resolve(yaml: &str) -> Result<Config, Error> {
    Config::resolve(&RawConfig::from_yaml(yaml, "run.yaml")?)
}

#[test]
fn defaults_are_the_fields() {
    let config = resolve("").expect("defaults");
    assert_eq!(resolve("# only a comment\n").expect("defaults"), config);
    assert_eq!(config.task, Task::TextClassification);
    assert_eq!(config.device, DeviceChoice::Auto);
    assert_eq!((config.training.batch_size, config.training.gradient_accumulation_steps), (8, 1));
    assert_eq!((config.training.learning_rate, config.training.num_epochs), (5e-4, 3.0));
    assert_eq!(
        (config.training.adam_beta1, config.training.adam_beta2, config.training.adam_epsilon),
        (0.9, 0.999, 1e-8)
    );
    assert_eq!((config.training.weight_decay, config.training.max_grad_norm), (0.0, 1.0));
    assert_eq!((config.training.lr_scheduler_type, config.training.warmup(100)), (Schedule::Linear, 0));
    assert_eq!((config.lora.r, config.lora.lora_alpha, config.lora.lora_dropout), (8, 16.0, 0.0));
    assert_eq!(config.lora.target_modules, TARGET_MODULES);
    assert_eq!(config.model.max_seq_length, 128);
    assert_eq!(resolve("training: {method: full}").expect("full").training.learning_rate, 1e-4);
}

#[test]
fn yaml_goes_round() {
    let written = "
task: text-generation
device: cpu
model: {name_or_path: 'a: b #c', num_labels: 1, max_seq_length: 64}
data: {train_file: 'x.csv', text_column: 'yes', label_column: '5', validation_split: 0.25, max_train_samples: 10}
training: {method: full, mixed_precision: no, learning_rate: 3e-5, num_epochs: 0.5, max_steps: 7, warmup_ratio: 0.1, seed: 18446744073709551615, adam_epsilon: 1e-7}
lora: {r: 4, target_modules: [v_proj, q_proj]}
";
    let config = resolve(written).expect("valid");
    let yaml = config.to_yaml();
    assert_eq!(resolve(&yaml).expect(&yaml), config, "{yaml}");
    assert_eq!(config.training.seed, u64::MAX);
    assert_eq!(config.lora.target_modules, ["q_proj", "v_proj"]);
    assert_eq!(config.training.warmup(25), 3);
    let defaults = resolve("").expect("defaults");
    assert_eq!(resolve(&defaults.to_yaml()).expect("defaults"), defaults);
    assert!(yaml.starts_with("task: text-generation\ndevice: cpu\nkernels: auto\nmodel:\n"), "{yaml}");
}

#[test]
fn a_handed_over_file_is_read_or_named() {
    let read = |name: &str, bytes: &[u8]| {
        let file = NamedFile { name: name.to_owned(), blob: Box::new(Memory(bytes.to_vec())) };
        pollster::block_on(RawConfig::read(&[file]))
    };
    let config = read("run.yaml", "\u{feff}training: {max_steps: 7}".as_bytes()).expect("with a byte order mark");
    assert_eq!(config.training.max_steps, Some(7));
    assert_eq!(read("empty.yaml", b"").expect("defaults"), RawConfig::default());
    for (bytes, says) in [
        (&b"training:\n  batch_sise: 4\n"[..], "a.yaml line 2: unknown key `batch_sise`"),
        (b"training:\n  batch_size: many\n", "a.yaml line 2: `batch_size: many`"),
        (b"\xff\xfet\0", "a.yaml: not text in UTF-8"),
        (&[b'#'; (1 << 20) + 1], "a.yaml: 1048577 bytes"),
    ] {
        let error = read("a.yaml", bytes).expect_err(says).to_string();
        assert!(error.starts_with(says), "{error}");
    }
    assert!(pollster::block_on(RawConfig::read(&[])).is_err());
}

#[test]
fn bad_values_are_refused_by_key() {
    for (yaml, key) in [
        ("task: chat", "task"),
        ("device: tpu", "device"),
        ("model: {type: gpt2}", "model.type"),
        ("model: {num_labels: 0}", "model.num_labels"),
        ("model: {max_seq_length: 0}", "model.max_seq_length"),
        ("data: {validation_split: 0}", "data.validation_split"),
        ("data: {validation_split: 1.0}", "data.validation_split"),
        ("data: {validation_split: .nan}", "data.validation_split"),
        ("data: {max_train_samples: 0}", "data.max_train_samples"),
        ("data: {text_column: a, label_column: a}", "data.label_column"),
        ("training: {method: qlora}", "training.method"),
        ("training: {batch_size: 0}", "training.batch_size"),
        ("training: {gradient_accumulation_steps: 0}", "training.gradient_accumulation_steps"),
        ("training: {learning_rate: .nan}", "training.learning_rate"),
        ("training: {learning_rate: .inf}", "training.learning_rate"),
        ("training: {learning_rate: -1e-4}", "training.learning_rate"),
        ("training: {learning_rate: 0}", "training.learning_rate"),
        ("training: {num_epochs: 0}", "training.num_epochs"),
        ("training: {num_epochs: .inf}", "training.num_epochs"),
        ("training: {max_steps: 0}", "training.max_steps"),
        ("training: {weight_decay: -0.1}", "training.weight_decay"),
        ("training: {adam_beta1: 1.0}", "training.adam_beta1"),
        ("training: {adam_beta2: .nan}", "training.adam_beta2"),
        ("training: {adam_epsilon: 0}", "training.adam_epsilon"),
        ("training: {lr_scheduler_type: step}", "training.lr_scheduler_type"),
        ("training: {warmup_ratio: 1.5}", "training.warmup_ratio"),
        ("training: {warmup_ratio: 0.1, warmup_steps: 5}", "training.warmup_ratio"),
        ("training: {max_grad_norm: -1}", "training.max_grad_norm"),
        ("training: {logging_steps: 0}", "training.logging_steps"),
        ("lora: {r: 0}", "lora.r"),
        ("lora: {lora_alpha: 0}", "lora.lora_alpha"),
        ("lora: {lora_dropout: 1}", "lora.lora_dropout"),
        ("lora: {target_modules: []}", "lora.target_modules"),
        ("lora: {target_modules: [q_proj, c_attn]}", "lora.target_modules"),
    ] {
        match resolve(yaml) {
            Err(Error::Config { key: named, .. }) => assert_eq!(named, key, "{yaml}"),
            other => panic!("{yaml}: {other:?}"),
        }
    }
    let error = resolve("lora: {target_modules: [q_proj, c_attn]}").expect_err("unknown module").to_string();
    assert!(error.contains("`c_attn`") && error.contains("gate_proj"), "{error}");
}

#[test]
fn unknown_keys_name_the_line_and_the_nearest() {
    for (yaml, place, key, nearest) in [
        ("task: text-classification\ntraining:\n  batchsize: 4\n", "run.yaml line 3", "`batchsize`", "`batch_size`"),
        ("batch_size: 4\n", "run.yaml line 1", "`batch_size`", "`training.batch_size`"),
        ("lora:\n  alpha: 4\n", "run.yaml line 2", "`alpha`", "Did you mean `lora.lora_alpha`?"),
        ("lora:\n  zzzzzzzzzzzz: 4\n", "run.yaml line 2", "`zzzzzzzzzzzz`", "lora_dropout"),
    ] {
        let error = resolve(yaml).expect_err(yaml);
        let message = error.to_string();
        assert!(message.starts_with(place) && message.contains(key), "{message}");
        assert!(error.advice().contains(nearest), "{message}: {}", error.advice());
    }
}

#[test]
fn wrong_kinds_and_broken_yaml_name_the_line() {
    for (yaml, line) in [
        ("training:\n  batch_size: four\n", 2),
        ("training:\n  batch_size: -1\n", 2),
        ("training:\n  learning_rate: NaN!\n", 2),
        ("training: 5\n", 1),
        ("training:\n  batch_size: [1, 2\n", 0),
        ("a: b: c\n", 1),
        ("- a\n- b\n", 1),
        ("training:\n  seed: 1\n  seed: 2\n", 3),
        ("training:\n\tseed: 1\n", 2),
    ] {
        let error = RawConfig::from_yaml(yaml, "run.yaml").expect_err(yaml);
        let message = error.to_string();
        assert!(message.starts_with("run.yaml"), "{message}");
        assert!(!message.contains('\n') && !error.advice().is_empty(), "{message}");
        if line > 0 {
            assert!(message.starts_with(&format!("run.yaml line {line}: ")), "{yaml}: {message}");
        }
    }
}

#[test]
fn bombs_are_refused() {
    let mut bomb = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x]\n");
    for level in 1..12 {
        let refs = vec![format!("*a{}", level - 1); 9].join(", ");
        bomb += &format!("a{level}: &a{level} [{refs}]\n");
    }
    let deep = format!("lora: {}{}", "[".repeat(100_000), "]".repeat(100_000));
    for yaml in [bomb, deep, "x".repeat(2 << 20), "&a [*a]".to_owned()] {
        RawConfig::from_yaml(&yaml, "bomb.yaml").expect_err("a bomb");
    }
}

#[test]
fn random_bytes_do_not_panic() {
    let mut state = 1u32;
    let alphabet = b"training:batch_size {}[]&*!|>-'\"\\#%@`\n\t 0x.,?~<\xc3\xa9";
    for _ in 0..3000 {
        let mut text = Vec::new();
        for _ in 0..40 {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            text.push(alphabet[(state >> 16) as usize % alphabet.len()]);
        }
        let _ = resolve(&String::from_utf8_lossy(&text));
    }
}

#[test]
fn set_takes_a_key_and_a_value() {
    let mut raw = RawConfig::default();
    for (key, value) in [
        ("training.batch_size", "4"),
        ("training.learning_rate", "1e-4"),
        ("data.train_file", "my data: #1.csv"),
        ("device", "cpu"),
        ("kernels", "stock"),
        ("lora.target_modules", "[q_proj, v_proj]"),
        ("training.batch_size", "6"),
    ] {
        raw.set(key, value).expect(key);
    }
    assert_eq!((raw.training.batch_size, raw.training.learning_rate), (Some(6), Some(1e-4)));
    assert_eq!(raw.data.train_file.as_deref(), Some("my data: #1.csv"));
    raw.set("lora.target_modules", "k_proj,o_proj").expect("list");
    assert_eq!(raw.lora.target_modules, Some(vec!["k_proj".to_owned(), "o_proj".to_owned()]));

    let error = raw.set("training.batchsize", "4").expect_err("unknown");
    assert!(error.advice().contains("training.batch_size"), "{}", error.advice());
    for value in ["four", "", "4\nseed: 3", "{a: 1}", "-1", "1.5"] {
        let error = raw.set("training.batch_size", value).expect_err(value);
        assert!(error.to_string().starts_with("training.batch_size: expected"), "{error}");
    }
    // NaN comes through as a number, and is refused where every value is checked.
    raw.set("training.learning_rate", ".nan").expect("a float");
    assert!(matches!(Config::resolve(&raw), Err(Error::Config { key, .. }) if key == "training.learning_rate"));
}

#[test]
fn every_key_can_be_set_and_merged() {
    for (key, kind) in super::KEYS {
        let value = match kind {
            super::Kind::Text => "x",
            super::Kind::Number => "1",
            super::Kind::Flag => "true",
            super::Kind::List => "x",
        };
        let mut one = RawConfig::default();
        one.set(key, value).expect(key);
        assert_ne!(one, RawConfig::default(), "{key}");
        assert_eq!(RawConfig::default().merge(one.clone()), one, "{key}");
        assert_eq!(one.clone().merge(RawConfig::default()), one, "{key}");
    }
}
