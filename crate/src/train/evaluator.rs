//! Held-out rows through a model, a batch at a time.

use burn::tensor::{Device, Tensor};

use super::{forward, measure};
use crate::{
    batch::{Batch, Targets},
    error::{Error, Result},
    eval::{Classification, Mean, Regression},
    event::{Evaluation, Metrics, Sample, When},
    model::Llama,
    weights::read_f32,
};

/// How many held-out rows are shown with the model's answer.
const SAMPLES: usize = 6;
const SAMPLE_CHARS: usize = 300;

/// Probabilities of one row of logits.
pub fn softmax(logits: &[f32]) -> Vec<f64> {
    let max = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let exps: Vec<f64> = logits.iter().map(|l| f64::from(l - max).exp()).collect();
    let sum: f64 = exps.iter().sum();
    exps.into_iter().map(|e| e / sum).collect()
}

/// The highest value's index; the first of equals.
pub fn argmax(values: &[f32]) -> usize {
    let mut best = 0;
    for (i, v) in values.iter().enumerate() {
        if *v > values[best] {
            best = i;
        }
    }
    best
}

/// What the task's rows are measured by.
enum Measure {
    Classes(Classification),
    Values(Regression),
    /// Mean loss a token, and right next tokens.
    Tokens(Mean, f64),
}

/// Evaluation in progress.
pub struct Evaluator {
    when: When,
    step: u64,
    labels: Vec<String>,
    batches: Vec<Batch>,
    at: usize,
    measure: Measure,
    /// Expected, predicted and the latter's probability, of the first rows as the file has them.
    answers: Vec<(String, String, f64)>,
    rows: u64,
}

impl Evaluator {
    /// `labels` are empty for regression and for a language model.
    pub fn new(when: When, step: u64, labels: Vec<String>, batches: Vec<Batch>) -> Self {
        let measure = match batches.first().map(|b| &b.targets) {
            Some(Targets::Values(_)) => Measure::Values(Regression::default()),
            Some(Targets::Tokens(_)) => Measure::Tokens(Mean::default(), 0.0),
            _ => Measure::Classes(Classification::new(labels.len())),
        };
        Self { when, step, labels, batches, at: 0, measure, answers: vec![Default::default(); SAMPLES], rows: 0 }
    }

    /// Batches done and batches in all.
    pub fn progress(&self) -> (u64, u64) {
        (self.at as u64, self.batches.len() as u64)
    }

    /// Runs the next batch; true while there are more.
    pub async fn advance(&mut self, model: &Llama, device: &Device) -> Result<bool> {
        let Some(batch) = self.batches.get(self.at) else { return Ok(false) };
        self.rows += batch.batch as u64;
        if let Measure::Tokens(mean, right) = &mut self.measure {
            let measured = measure(model, batch, device);
            let numbers = read_f32(Tensor::cat(vec![measured.loss, measured.correct], 1)).await?;
            mean.add(f64::from(numbers[0]), batch.targets.counted(batch.seq) as u64);
            *right += f64::from(numbers[1]);
        } else {
            let logits = forward(model, batch, device, false);
            let outputs = logits.dims()[1];
            let logits = read_f32(logits).await?;
            self.rows(logits.chunks(outputs));
        }
        self.at += 1;
        Ok(self.at < self.batches.len())
    }

    /// Logits of the current batch's rows.
    fn rows<'a>(&mut self, logits: impl Iterator<Item = &'a [f32]>) {
        let name = |id: usize| self.labels.get(id).cloned().unwrap_or_default();
        let batch = &self.batches[self.at];
        for ((i, row), logits) in batch.rows.iter().enumerate().zip(logits) {
            let answer = match (&batch.targets, &mut self.measure) {
                (Targets::Values(values), Measure::Values(regression)) => {
                    let (expected, got) = (f64::from(values[i]), f64::from(logits[0]));
                    regression.add(expected, got);
                    // Of the f32: its f64 has digits that the file has not.
                    (values[i].to_string(), format!("{got:.4}"), 1.0)
                }
                (Targets::Classes(classes), Measure::Classes(classification)) => {
                    let probabilities = softmax(logits);
                    let (actual, predicted) = (classes[i].max(0) as usize, argmax(logits));
                    let loss = -probabilities[actual].max(f64::MIN_POSITIVE).ln();
                    classification.add(
                        actual,
                        predicted,
                        if logits.iter().all(|l| l.is_finite()) { loss } else { f64::NAN },
                    );
                    (name(actual), name(predicted), probabilities[predicted])
                }
                _ => continue,
            };
            if let Some(slot) = self.answers.get_mut(*row) {
                *slot = answer;
            }
        }
    }

    /// The result, with `texts` of the first rows as samples.
    pub fn finish(&self, texts: &[String]) -> Result<Evaluation> {
        let (metrics, confusion) = match &self.measure {
            Measure::Classes(c) => (c.metrics(), c.confusion().to_vec()),
            Measure::Values(r) => (r.metrics(), Vec::new()),
            Measure::Tokens(mean, right) => {
                let accuracy = right / mean.weight().max(1) as f64;
                (Metrics { accuracy: Some(accuracy), ..mean.perplexity_metrics() }, Vec::new())
            }
        };
        if !metrics.loss.is_finite() {
            return Err(Error::NotFinite { what: "the held-out loss", value: metrics.loss, step: self.step });
        }
        let shown = if matches!(self.measure, Measure::Tokens(..)) { 0 } else { SAMPLES };
        let samples =
            self.answers.iter().cloned().take(shown).zip(texts).map(|((expected, predicted, confidence), text)| {
                Sample { text: text.chars().take(SAMPLE_CHARS).collect(), expected, predicted, confidence }
            });
        Ok(Evaluation {
            when: self.when,
            step: self.step,
            rows: self.rows,
            metrics,
            confusion,
            samples: samples.collect(),
            labels: self.labels.clone(),
        })
    }
}
