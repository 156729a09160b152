//! What rouge-score, sacrebleu, SQuAD's script, scikit-learn, SciPy and NumPy compute of the same: tests/golden/metrics.py
//! made it.

use serde::Deserialize;

use super::{bootstrap, *};

const GOLDEN: &str = include_str!("../../../tests/golden/metrics.json");

#[derive(Deserialize)]
struct Golden {
    texts: Texts,
    questions: Vec<Question>,
    classes: Vec<Classes>,
    numbers: Vec<Numbers>,
    resamples: Resamples,
    entities: EntityRows,
}

#[derive(Deserialize)]
struct Texts {
    pairs: Vec<Pair>,
    corpora: Vec<Corpus>,
}

#[derive(Deserialize)]
struct Pair {
    reference: String,
    prediction: String,
    rouge: [f64; 3],
    bleu: [u64; 10],
}

#[derive(Deserialize)]
struct Corpus {
    rows: [usize; 2],
    score: f64,
}

#[derive(Deserialize)]
struct Question {
    references: Vec<String>,
    prediction: String,
    normalized: String,
    exact: u8,
    f1: f64,
}

#[derive(Deserialize)]
struct Classes {
    labels: usize,
    actual: Vec<usize>,
    predicted: Vec<usize>,
    confidence: Vec<f32>,
    accuracy: f64,
    balanced_accuracy: f64,
    macro_f1: f64,
    micro_f1: f64,
    precision: Vec<f64>,
    recall: Vec<f64>,
    f1: Vec<f64>,
    support: Vec<u64>,
    bin_rows: Vec<u64>,
    bin_accuracy: Vec<f64>,
    bin_confidence: Vec<f64>,
    calibration_error: f64,
}

#[derive(Deserialize)]
struct Numbers {
    actual: Vec<f64>,
    predicted: Vec<f64>,
    mse: f64,
    mae: f64,
    r2: f64,
    pearson: f64,
}

#[derive(Deserialize)]
struct Resamples {
    before: Vec<f64>,
    after: Vec<f64>,
    mean: [f64; 2],
    difference: [f64; 2],
    percentiles: Percentiles,
}

#[derive(Deserialize)]
struct Percentiles {
    values: Vec<f64>,
    of: [f64; 2],
}

#[derive(Deserialize)]
struct EntityRows {
    rows: Vec<EntityRow>,
    precision: f64,
    recall: f64,
    f1: f64,
}

#[derive(Deserialize)]
struct EntityRow {
    expected: String,
    prediction: String,
}

fn golden() -> Golden {
    serde_json::from_str(GOLDEN).expect("metrics.json")
}

/// Equal to 1e-9, of the value where that is above 1.
fn same(got: &[f64], want: &[f64], what: impl std::fmt::Debug) {
    let close = |(a, b): (&f64, &f64)| (a - b).abs() <= 1e-9 * b.abs().max(1.0);
    assert!(got.len() == want.len() && got.iter().zip(want).all(close), "{got:?} is not {want:?}: {what:?}");
}

#[test]
fn rouge_is_rouge_scores() {
    for Pair { reference, prediction, rouge: want, .. } in golden().texts.pairs {
        let got = rouge::score(&reference, &prediction);
        same(&[got.rouge1, got.rouge2, got.rouge_l], &want, (reference, prediction));
    }
}

#[test]
fn bleu_is_sacrebleus() {
    let Texts { pairs, corpora } = golden().texts;
    let rows: Vec<bleu::Stats> = pairs.iter().map(|pair| bleu::Stats::of(&pair.reference, &pair.prediction)).collect();
    for (got, pair) in rows.iter().zip(&pairs) {
        let counts = [&[got.hypothesis, got.reference][..], &got.matches, &got.totals].concat();
        assert_eq!(counts, pair.bleu, "{:?} {:?}", pair.reference, pair.prediction);
    }
    for Corpus { rows: [first, last], score } in corpora {
        let sum: bleu::Stats = rows[first..last].iter().copied().sum();
        same(&[sum.score()], &[score], (first, last));
    }
}

#[test]
fn answers_score_as_in_squads_script() {
    for question in golden().questions {
        let got = squad::score(&question.references, &question.prediction);
        assert_eq!(squad::normalize(&question.prediction).join(" "), question.normalized);
        let said = (&question.references, &question.prediction);
        same(&[f64::from(u8::from(got.exact)), got.f1], &[f64::from(question.exact), question.f1], said);
    }
}

#[test]
fn classes_score_as_in_scikit_learn() {
    for want in golden().classes {
        let mut got = Classification::new(want.labels);
        for ((actual, predicted), confidence) in want.actual.iter().zip(&want.predicted).zip(&want.confidence) {
            got.add(*actual, *predicted, *confidence, 0.0);
        }
        let counts = got.counts();
        same(
            &[counts.accuracy(), counts.balanced_accuracy(), counts.macro_f1(), counts.micro_f1()],
            &[want.accuracy, want.balanced_accuracy, want.macro_f1, want.micro_f1],
            want.labels,
        );
        let column = |of: fn(&ClassCount) -> f64| -> Vec<f64> { counts.classes().iter().map(of).collect() };
        same(&column(ClassCount::precision), &want.precision, "precision");
        same(&column(ClassCount::recall), &want.recall, "recall");
        same(&column(ClassCount::f1), &want.f1, "F1");
        assert_eq!(counts.classes().iter().map(|class| class.support).collect::<Vec<_>>(), want.support);

        let calibration = got.calibration().expect("confidences");
        assert_eq!(calibration.bins.map(|bin| bin.rows).to_vec(), want.bin_rows);
        let filled = |of: fn(&super::calibration::Bin) -> Option<f64>| -> Vec<f64> {
            calibration.bins.iter().filter_map(of).collect()
        };
        same(&filled(super::calibration::Bin::accuracy), &want.bin_accuracy, "bins' accuracy");
        same(&filled(super::calibration::Bin::confidence), &want.bin_confidence, "bins' confidence");
        same(&[calibration.error()], &[want.calibration_error], "calibration");
    }
}

#[test]
fn numbers_score_as_in_scikit_learn_and_scipy() {
    for want in golden().numbers {
        let mut regression = Regression::default();
        want.actual.iter().zip(&want.predicted).for_each(|(actual, predicted)| regression.add(*actual, *predicted));
        let RegressionScores { mse, mae, r2, pearson } = regression.scores();
        let (r2, pearson) = (r2.expect("R²"), pearson.expect("r"));
        same(&[mse, mae, r2, pearson], &[want.mse, want.mae, want.r2, want.pearson], want.actual);
    }
}

#[test]
fn intervals_are_scipys() {
    let Resamples { before, after, mean, difference, percentiles } = golden().resamples;
    let Interval { low, high } = Interval::of(percentiles.values).expect("values");
    same(&[low, high], &percentiles.of, "percentiles");

    // Other draws than NumPy's: of 20,000 resamples an end of the interval has a standard error of 0.005 of its width.
    let got = bootstrap::intervals(before.len(), 5, 20_000, |weights| {
        let (before, after) = (bootstrap::mean(&before, weights), bootstrap::mean(&after, weights));
        [before, after - before]
    });
    for (got, want) in got.into_iter().zip([mean, difference]) {
        let (got, width) = (got.expect("rows"), want[1] - want[0]);
        let near = |got: f64, want: f64| (got - want).abs() < 0.03 * width;
        assert!(near(got.low, want[0]) && near(got.high, want[1]), "{got:?} is not {want:?}");
    }
}

#[test]
fn entities_score_as_in_scikit_learn() {
    let want = golden().entities;
    let row = |row: &EntityRow| {
        EntityCounts::of(&entities::parse(&row.expected).expect("JSON"), entities::parse(&row.prediction).as_ref())
    };
    let got: EntityCounts = want.rows.iter().map(row).sum();
    assert_eq!((got.rows, got.unparsable), (want.rows.len() as u64, 0));
    same(&[got.precision(), got.recall(), got.f1()], &[want.precision, want.recall, want.f1], "entities");
}
