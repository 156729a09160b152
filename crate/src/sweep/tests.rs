use serde_json::json;

use super::super::{Base, Next, Planner, Sweep, SweepFile, SweepStep, Trial, TrialResult};
use crate::{
    config::{Config, RawConfig},
    event::Metrics,
};

fn sweep(yaml: &str) -> Sweep {
    let file = SweepFile::from_yaml(yaml, "sweep.yaml").unwrap_or_else(|errors| panic!("{errors:?}"));
    let base = match file.base.clone() {
        Some(Base::Inline(base)) => *base,
        _ => RawConfig::default(),
    };
    file.over(base)
}

fn planner(yaml: &str) -> Planner {
    Planner::new(&sweep(yaml)).unwrap_or_else(|error| panic!("{yaml}: {error}"))
}

/// Accuracy and F1 of `accuracy`, measured on 100 rows.
fn result(trial: Trial, accuracy: Option<f64>) -> TrialResult {
    let metrics = accuracy.map(|accuracy| Metrics {
        loss: 1.0 - accuracy,
        accuracy: Some(accuracy),
        macro_f1: Some(accuracy),
        ..Metrics::default()
    });
    let error = accuracy.is_none().then(|| "the loss is NaN at step 3".to_owned());
    TrialResult { trial, metrics, rows: 100, steps: 10, seconds: 1.5, error }
}

/// Runs the whole sweep with `score` in the place of training.
fn play(planner: &Planner, score: impl Fn(&Planner, &Trial) -> Option<f64>) -> Vec<TrialResult> {
    let mut results = Vec::new();
    while let Next::Run(trial) = planner.next(&results) {
        assert!(results.len() < 2000, "no end");
        let value = score(planner, &trial);
        results.push(result(trial, value));
    }
    results
}

fn rate(planner: &Planner, trial: &Trial) -> f64 {
    Config::resolve(&planner.config(trial).expect("valid")).expect("valid").training.learning_rate
}

#[test]
fn a_grid_is_every_combination_and_the_default_once() {
    let planner = planner(
        "
base: {training: {learning_rate: 0.002, batch_size: 8}}
strategy: grid
space:
  training.learning_rate: [0.001, 2e-3, 0.004]
  training.batch_size: [8, 16]
  lora.target_modules: [[q_proj, v_proj], [q_proj, k_proj, v_proj, o_proj, gate_proj, up_proj, down_proj]]
",
    );
    // The default is one of the twelve.
    assert_eq!(planner.counts(), (12, 12));
    let results = play(&planner, |_, _| Some(0.5));
    assert!(results[0].trial.settings.is_empty() && planner.check(&results).is_ok());
    let mut configs: Vec<_> =
        results.iter().map(|r| Config::resolve(&planner.config(&r.trial).unwrap()).unwrap()).collect();
    assert!(configs.iter().all(|config| config.training.max_steps.is_none()));
    while let Some(config) = configs.pop() {
        assert!(!configs.contains(&config), "twice");
    }
}

#[test]
fn draws_stay_in_their_ranges_and_come_again_with_their_seed() {
    let yaml = "
trials: 200
max_steps: 40
space:
  training.learning_rate: {log_uniform: [1e-5, 1e-1]}
  lora.r: {uniform: [1, 4]}
  lora.lora_dropout: {uniform: [0, 0.5]}
  training.lr_scheduler_type: [linear, cosine]
";
    let one = planner(yaml);
    let results = play(&one, |_, _| Some(0.5));
    assert_eq!((results.len(), one.counts()), (201, (201, 201)));
    assert_eq!(results, play(&planner(yaml), |_, _| Some(0.5)));
    assert_ne!(results, play(&planner(&format!("seed: 7\n{yaml}")), |_, _| Some(0.5)));
    let rates: Vec<f64> = results[1..].iter().map(|result| rate(&one, &result.trial)).collect();
    assert!(rates.iter().all(|rate| (1e-5..=1e-1).contains(rate)));
    // Half of them below the middle of the logarithms.
    let low = rates.iter().filter(|rate| **rate < 1e-3).count();
    assert!((70..130).contains(&low), "{low}");
    for r in 1..=4u64 {
        let drawn = results.iter().filter(|result| result.trial.settings.get("lora.r") == Some(&json!(r))).count();
        assert!((25..80).contains(&drawn), "{r}: {drawn}");
    }
    assert!(results.iter().all(|result| result.trial.max_steps == Some(40)));
    // A space of two has no more than two.
    let small = planner("space: {lora.r: [8, 16, 32]}\ntrials: 50\n");
    assert_eq!(small.counts(), (3, 3), "8 is the default");
}

#[test]
fn halving_runs_the_best_longer_and_finds_it() {
    let planner = planner(
        "
strategy: halving
trials: 9
eta: 3
max_steps: 90
space: {training.learning_rate: {log_uniform: [1e-5, 1]}}
",
    );
    assert_eq!(planner.counts(), (10, 10 + 4 + 2));
    // Best near 3e-3; the trial nearest to it must be the one that is left.
    let score = |planner: &Planner, trial: &Trial| Some(1.0 / (1.0 + (rate(planner, trial) / 3e-3).ln().abs()));
    let results = play(&planner, score);
    assert_eq!(results.len(), 16);
    let steps: Vec<_> = results.iter().map(|result| result.trial.max_steps).collect();
    assert_eq!(
        [steps[0], steps[9], steps[10], steps[13], steps[14]],
        [Some(10), Some(10), Some(30), Some(30), Some(90)]
    );
    let report = planner.report(&results);
    let best = results[..10].iter().max_by(|a, b| {
        a.metrics.as_ref().unwrap().accuracy.partial_cmp(&b.metrics.as_ref().unwrap().accuracy).unwrap()
    });
    assert_eq!(report.best, best.map(|best| best.trial.trial));

    // Whatever was finished, in whatever order, the rest is the same; and what failed goes no further.
    for cut in 0..results.len() {
        let mut some: Vec<_> = results[..cut].to_vec();
        some.reverse();
        assert_eq!(planner.next(&some), Next::Run(results[cut].trial.clone()));
    }
    let failing = play(&planner, |_, trial| (trial.trial < 3).then_some(0.5));
    assert_eq!(failing.iter().filter(|result| result.trial.rung == 1).count(), 3, "the default and the two that ended");
    let none = play(&planner, |_, _| None);
    let report = planner.report(&none);
    assert_eq!((report.best, report.verdict.as_str()), (None, "No trial came to an end: there is no best."));
}

#[test]
fn the_verdict_says_what_the_numbers_do() {
    let yaml = "space: {lora.r: [16, 32]}\nstrategy: grid\n";
    let verdict = |planner: &Planner, scores: [Option<f64>; 3]| {
        let report = planner.report(&play(planner, |_, trial| scores[trial.trial]));
        (report.best, report.verdict, report.rows)
    };
    let planner_f1 = planner(yaml);
    let (best, text, rows) = verdict(&planner_f1, [Some(0.5), Some(0.9), None]);
    assert_eq!(best, Some(1));
    assert!(
        text.starts_with("The best has macro_f1 0.9000, the default 0.5000 (r 16).") && text.contains("100 held-out"),
        "{text}"
    );
    assert_eq!([rows[0].trial, rows[1].trial, rows[2].trial], [1, 0, 2], "the failed one comes last");
    assert!(rows[2].what.contains("NaN"), "{rows:?}");
    let (_, text, _) = verdict(&planner_f1, [Some(0.85), Some(0.87), Some(0.1)]);
    assert!(text.contains("can be chance"), "{text}");
    for scores in [[Some(0.9), Some(0.9), Some(0.8)], [Some(0.9), Some(0.1), None]] {
        let (best, text, _) = verdict(&planner_f1, scores);
        assert_eq!(
            (best, text.as_str()),
            (Some(0), "No setting beat the default, which has macro_f1 0.9000: keep it.")
        );
    }
    let (best, text, _) = verdict(&planner_f1, [None, Some(0.7), None]);
    assert!(best == Some(1) && text.starts_with("The default settings failed"), "{text}");
    // Less is better.
    let planner_loss = planner(&format!("{yaml}metric: loss\n"));
    let (best, text, _) = verdict(&planner_loss, [Some(0.5), Some(0.9), Some(0.95)]);
    assert!(best == Some(2) && text.starts_with("The best has loss 0.0500, the default 0.5000"), "{text}");
    let table = planner_loss.report(&play(&planner_loss, |_, _| Some(0.5))).table();
    let lines: Vec<_> = table.lines().collect();
    assert!(lines.len() == 4 && lines[0].contains("loss") && lines[1].ends_with("default"), "{table}");
}

#[test]
fn what_is_wrong_with_a_sweep_is_told_with_its_line() {
    let yaml = "\
base:
  training: {batch_sise: 4}
strategi: grid
strategy: grit
space:
  training.learningrate: [1]
  training.batch_size: [4, many]
  lora.r: {uniform: [9, 3]}
  data.text_column: [a, b]
  training.method: {uniform: [1, 2]}
  lora.lora_alpha: {log_uniform: [0, 3]}
  lora.lora_dropout: []
  training.num_epochs: {uniform: [1, 2, 3]}
";
    let errors = SweepFile::from_yaml(yaml, "sweep.yaml").expect_err("wrong throughout");
    let told: Vec<_> = errors.iter().map(|error| format!("{error} {}", error.advice())).collect();
    let wanted = [
        (2, "unknown key `batch_sise` Did you mean `batch_size`?"),
        (3, "unknown key `strategi` Did you mean `strategy`?"),
        (4, "strategy: expected grid or random or halving, got `grit` Did you mean `grid`?"),
        (6, "space: unknown key `training.learningrate` Did you mean `training.learning_rate`?"),
        (7, "training.batch_size: expected a whole number from 1 to 65536, got `many`"),
        (8, "space.lora.r: expected a list of values, {uniform: [a, b]}"),
        (9, "space.data.text_column: expected keys that may differ between trials"),
        (10, "space.training.method: expected a list"),
        (11, "lora.lora_alpha: expected a number above 0 and at most 1000000, got 0"),
        (12, "space.lora.lora_dropout: expected a list of values"),
        (13, "space.training.num_epochs: expected a list of values"),
    ];
    assert_eq!(told.len(), wanted.len(), "{told:#?}");
    for (told, (line, start)) in told.iter().zip(wanted) {
        assert!(told.starts_with(&format!("sweep.yaml line {line}: {start}")), "{told}");
    }
    assert!(SweepFile::from_yaml("trials: 3\n", "sweep.yaml").is_err());

    for (yaml, key) in [
        ("strategy: grid\nspace: {lora.r: {uniform: [1, 4]}}", "space.lora.r"),
        ("metric: mse\nspace: {lora.r: [1, 2]}", "metric"),
        ("base: {task: text-generation}\nmetric: macro_f1\nspace: {lora.r: [1, 2]}", "metric"),
        ("strategy: halving\nspace: {lora.r: [1, 2]}", "max_steps"),
        ("strategy: halving\nmax_steps: 9\nmin_steps: 9\nspace: {lora.r: [1, 2]}", "min_steps"),
        ("base: {model: {quantization: q4_0}}\nstrategy: grid\nspace: {training.method: [full]}", "model.quantization"),
    ] {
        let error = Planner::new(&sweep(yaml)).expect_err(yaml).to_string();
        assert!(error.starts_with(&format!("{key}: expected")), "{error}");
    }
    let many =
        format!("strategy: grid\nspace: {{lora.r: {0:?}, training.batch_size: {0:?}}}", (1..40).collect::<Vec<_>>());
    assert!(Planner::new(&sweep(&many)).expect_err("1521").to_string().contains("at most 1000"), "too many");
}

#[test]
fn a_sweep_goes_through_json_and_a_hostile_one_is_refused() {
    let written = sweep(
        "base: {training: {seed: 3}}\nspace: {lora.r: [4, 16], training.learning_rate: {log_uniform: [1e-4, 1e-2]}}\n",
    );
    let text = serde_json::to_string(&written).expect("plain");
    assert_eq!(serde_json::from_str::<Sweep>(&text).expect(&text), written);
    // As the page drives it.
    let first = SweepStep::new(&written, &[]).expect("valid");
    assert!(
        first.config.is_some_and(|config| config.training.seed == Some(3)) && (first.settings, first.runs) == (9, 9)
    );
    let mut strange = result(first.trial.expect("the default"), Some(0.5));
    assert_eq!(SweepStep::new(&written, &[strange.clone()]).expect("known").trial.map(|trial| trial.trial), Some(1));
    strange.trial.trial = 77;
    SweepStep::new(&written, &[strange]).expect_err("of another sweep");
    for space in [
        json!({}),
        json!({"lora.r": {"list": []}}),
        json!({"lora.r": {"list": [0]}}),
        json!({"lora.r": {"list": ["x"]}}),
        json!({"nothing": {"list": [1]}}),
        json!({"data.train_file": {"list": ["x"]}}),
        json!({"lora.r": {"range": {"scale": "uniform", "least": 4.0, "most": 1.0}}}),
        json!({"lora.r": {"range": {"scale": "uniform", "least": -4.0, "most": 1.0}}}),
        json!({"lora.r": {"range": {"scale": "uniform", "least": 1.0, "most": 1e300}}}),
        json!({"lora.lora_dropout": {"range": {"scale": "log_uniform", "least": 0.0, "most": 0.5}}}),
        json!({"training.method": {"range": {"scale": "uniform", "least": 0.0, "most": 1.0}}}),
    ] {
        let hostile = serde_json::from_value::<Sweep>(json!({"space": space})).expect("well formed");
        Planner::new(&hostile).expect_err("hostile");
    }
}
