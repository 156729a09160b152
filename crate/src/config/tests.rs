use super::super::{
    keys,
    rule::{Key, Kind},
    *,
};
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
    assert!(!config.training.packing);
    for task in ["text-generation", "question-answering", "summarization", "entity-tagging"] {
        assert!(resolve(&format!("{{task: {task}, training: {{packing: true}}}}")).expect(task).training.packing);
    }
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
        (
            b"training:\n  batch_size: many\n",
            "a.yaml line 2: training.batch_size: expected a whole number from 1 to 65536, got `many`",
        ),
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
        ("training: {packing: true}", "training.packing"),
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
    let error = raw.set("training.learning_rate", ".nan").expect_err("not a number");
    assert!(error.to_string().starts_with("training.learning_rate: expected a number above 0"), "{error}");
}

/// A value that the key takes, as YAML, other than its default.
fn good(key: &Key) -> String {
    match key.rule.kind {
        Kind::Text => "x".to_owned(),
        Kind::Flag => "true".to_owned(),
        Kind::Whole { least, .. } => (least + 1).to_string(),
        Kind::Real { least, most, .. } => (least + (most - least) / 64.0).to_string(),
        Kind::Word(words) => words[words.len() - 1].to_owned(),
        Kind::Words(words) => format!("[{}]", words[0]),
    }
}

fn document(key: &Key, value: &str) -> String {
    match key.name.split_once('.') {
        None => format!("{}: {value}\n", key.name),
        Some((section, name)) => format!("# first\n{section}:\n  {name}: {value}\n"),
    }
}

/// Keys that are refused without another one, or with another task.
const DEPENDENT: [&str; 5] = [
    "training.packing",
    "training.metric_for_best_model",
    "training.load_best_model_at_end",
    "training.early_stopping_patience",
    "evaluation.success_metric",
];

#[test]
fn what_needs_another_key_says_so() {
    for (yaml, part) in [
        ("training: {early_stopping_patience: 2}", "training.eval_steps"),
        ("training: {load_best_model_at_end: true}", "training.eval_steps"),
        ("training: {load_best_model_at_end: true, eval_steps: 5, save_steps: 0}", "training.save_steps"),
        ("training: {metric_for_best_model: perplexity}", "macro_f1 or accuracy"),
        ("{task: text-generation, training: {metric_for_best_model: macro_f1}}", "perplexity"),
        ("{model: {num_labels: 1}, training: {metric_for_best_model: accuracy}}", "mse"),
        ("{task: summarization, evaluation: {success_metric: f1}}", "rougeL"),
        ("recovery: {divergence_threshold: 0.5}", "above 1, or 0"),
    ] {
        let error = resolve(yaml).expect_err(yaml).to_string();
        assert!(error.contains(part), "{yaml}: {error}");
    }
    let config = resolve("training: {early_stopping_patience: 2, eval_steps: 5}").expect("valid");
    assert!(config.training.load_best_model_at_end, "what stops early ends with the best");
    assert_eq!(resolve("training: {eval_steps: 0}").expect("valid").training.eval_steps, None);
    resolve("{task: text-generation, training: {metric_for_best_model: perplexity}}").expect("valid");
}

#[test]
fn every_key_can_be_set_merged_and_written() {
    for key in keys::all().filter(|key| !DEPENDENT.contains(&key.name)) {
        let mut one = RawConfig::default();
        one.set(key.name, &good(key)).expect(key.name);
        assert_ne!(one, RawConfig::default(), "{}", key.name);
        assert_eq!(RawConfig::default().merge(one.clone()), one, "{}", key.name);
        assert_eq!(one.clone().merge(RawConfig::default()), one, "{}", key.name);
        assert_eq!(RawConfig::from_yaml(&document(key, &good(key)), "run.yaml").expect(key.name), one);
        // What is resolved says it again, and so does what that is written as.
        let config = Config::resolve(&one).expect(key.name);
        let written = RawConfig::from(&config);
        assert_eq!(one.merge(written.clone()), written, "{}", key.name);
        assert_eq!(RawConfig::from_yaml(&config.to_yaml(), "run.yaml").expect(key.name), written);
    }
}

#[test]
fn every_range_ends_where_it_says_and_names_the_line() {
    let line = |key: &Key| if key.name.contains('.') { 3 } else { 1 };
    for key in keys::all().filter(|key| !DEPENDENT.contains(&key.name)) {
        let (taken, refused): (Vec<String>, Vec<String>) = match key.rule.kind {
            Kind::Text => {
                (vec!["yes".into(), "5".into(), "1.50".into(), "''".into()], vec!["[a]".into(), "{a: b}".into()])
            }
            Kind::Flag => (vec!["false".into()], vec!["5".into(), "maybe".into(), "'true'".into()]),
            Kind::Whole { least, most } => {
                let beyond = [least.checked_sub(1), most.checked_add(1)].into_iter().flatten().map(|n| n.to_string());
                let odd =
                    ["1.5", "-1", "1e400", ".nan", "four", "'4'", "[1]", "18446744073709551616"].map(str::to_owned);
                (vec![least.to_string(), most.to_string()], beyond.chain(odd).collect())
            }
            Kind::Real { least, least_open, most, most_open } => {
                let mut taken = vec![((least + most) / 2.0).to_string()];
                let mut refused = [".nan", ".inf", "-.inf", "1e999", "much", "[1.0]"].map(str::to_owned).to_vec();
                refused.extend([(least - 1e-9).to_string(), (most + 1e-9).to_string()]);
                if least_open { &mut refused } else { &mut taken }.push(least.to_string());
                if most_open { &mut refused } else { &mut taken }.push(most.to_string());
                (taken, refused)
            }
            Kind::Word(words) => {
                (words.iter().map(|word| (*word).to_owned()).collect(), vec!["x".into(), "[auto]".into()])
            }
            Kind::Words(words) => {
                (vec![format!("[{}]", words.join(", "))], vec!["[]".into(), "x".into(), "[x]".into()])
            }
        };
        for value in taken {
            RawConfig::from_yaml(&document(key, &value), "run.yaml").unwrap_or_else(|error| panic!("{value}: {error}"));
        }
        for value in refused {
            let error = RawConfig::from_yaml(&document(key, &value), "run.yaml").expect_err(&value);
            let start = format!("run.yaml line {}: {}: expected {}, got ", line(key), key.name, key.expected());
            assert!(error.to_string().starts_with(&start), "{value}: {error}");
        }
        assert_eq!(RawConfig::from_yaml(&document(key, "~"), "run.yaml").expect("absent"), RawConfig::default());
    }
}

#[test]
fn all_that_is_wrong_is_told_with_its_line() {
    let yaml = "\
task: text-clasification
trainning:
  seed: 1
training:
  batch_size: many
  learningrate: 0.1
  lr_scheduler_type: cosinus
  num_epochs: 0
lora: [1]
lora_alpha: 3
";
    let errors = RawConfig::check_yaml(yaml, "run.yaml").expect_err("wrong throughout");
    let told: Vec<_> = errors.iter().map(|error| (error.to_string(), error.advice())).collect();
    let wanted = [
        (
            "run.yaml line 1: task: expected text-classification or text-generation",
            "Did you mean `text-classification`?",
        ),
        ("run.yaml line 2: unknown key `trainning`", "Did you mean `training`?"),
        (
            "run.yaml line 5: training.batch_size: expected a whole number from 1 to 65536, got `many`",
            "Set training.batch_size",
        ),
        ("run.yaml line 6: unknown key `learningrate`", "Did you mean `learning_rate`?"),
        (
            "run.yaml line 7: training.lr_scheduler_type: expected linear or cosine or constant",
            "Did you mean `cosine`?",
        ),
        ("run.yaml line 8: training.num_epochs: expected a number above 0 and at most 1000000, got 0", "Set training"),
        ("run.yaml line 9: lora: expected keys with values, got a list", "Write each key on a line of its own"),
        ("run.yaml line 10: unknown key `lora_alpha`", "Did you mean `lora.lora_alpha`?"),
    ];
    assert_eq!(told.len(), wanted.len(), "{told:#?}");
    for ((message, advice), (start, hint)) in told.iter().zip(wanted) {
        assert!(message.starts_with(start) && advice.starts_with(hint), "{message}: {advice}");
    }
}

#[test]
fn options_that_exclude_each_other_name_the_line() {
    for (yaml, line) in [
        ("model:\n  quantization: q4_0\ntraining:\n  method: full\n", 2),
        ("data: {text_column: a,\n  label_column: a}\n", 2),
        ("training:\n  warmup_steps: 3\n  warmup_ratio: 0.1\n", 3),
    ] {
        let error = RawConfig::from_yaml(yaml, "run.yaml").expect_err(yaml).to_string();
        assert!(error.starts_with(&format!("run.yaml line {line}: ")), "{error}");
    }
}

#[test]
fn aliases_and_merged_keys_are_read() {
    let yaml = "model: &a {max_seq_length: 64}\nlora: {r: &r 4, lora_alpha: *r}\ntraining:\n  <<: {seed: 9}\n  num_epochs: *r\n";
    let raw = RawConfig::from_yaml(yaml, "run.yaml").expect("aliases");
    assert_eq!((raw.lora.r, raw.lora.lora_alpha, raw.training.seed), (Some(4), Some(4.0), Some(9)));
    assert_eq!(raw.training.num_epochs, Some(4.0));
}

#[test]
fn the_schema_says_what_the_reader_does() {
    let schema = json_schema();
    for key in keys::all() {
        let section = key.name.split_once('.').map_or("", |(section, _)| section);
        let pointer = if section.is_empty() { String::new() } else { format!("/properties/{section}") };
        let place = schema.pointer(&format!("{pointer}/properties/{}", key.short())).expect(key.name);
        assert!(place["description"].as_str().is_some_and(|doc| doc.len() > 5 && !doc.contains('\n')), "{place}");
        // The default that is told is the one that is taken.
        let resolved = serde_json::to_value(Config::resolve(&RawConfig::default()).expect("defaults")).expect("plain");
        let path = format!("/{}", key.name.replace('.', "/"));
        match (place.get("default"), resolved.pointer(&path)) {
            (Some(told), Some(taken)) if told.is_number() => assert_eq!(told.as_f64(), taken.as_f64(), "{}", key.name),
            (Some(told), taken) => assert_eq!(Some(told), taken, "{}", key.name),
            // Its default depends on the method.
            (None, taken) => assert!(taken.is_none() || key.name == "training.learning_rate", "{}", key.name),
        }
    }
}
