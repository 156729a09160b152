//! Held-out rows through a model, a batch at a time.

use std::{collections::BTreeMap, rc::Rc};

use burn::tensor::Device;

use super::{forward, token_sums};
use crate::{
    batch::{Batch, IGNORE_INDEX, Targets},
    config::{Config, Task},
    error::{Error, Result},
    eval::{self, Classification, Metric, Outcomes, Regression, TokenRow},
    event::{ClassScore, Evaluation, Sample, When},
    generate::{Generation, Prompt, Sampling},
    model::Llama,
    prepare::{self, Tokenized},
    weights::{folder::Folder, read_f32},
};

/// How many held-out rows are shown with the model's answer.
const SAMPLES: usize = 6;
const SAMPLE_CHARS: usize = 2000;

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

/// Evaluation in progress.
pub struct Evaluator {
    when: When,
    step: u64,
    task: Task,
    seed: u64,
    labels: Vec<String>,
    folder: Rc<Folder>,
    held_out: Rc<Tokenized>,
    batches: Vec<Batch>,
    at: usize,
    /// By row of the held-out set; of the batch order nothing is left.
    outcomes: Vec<Option<Outcome>>,
    /// Expected, predicted and the latter's probability, of the first rows as the file has them.
    answers: BTreeMap<usize, (String, String, f64)>,
    /// The first rows' prompts, answered by a language model after all rows are measured.
    generation: Generation,
    generated: usize,
}

/// What a row came to.
#[derive(Clone, Copy)]
enum Outcome {
    Class { actual: usize, predicted: usize, confidence: f32, loss: f64 },
    Value { actual: f64, predicted: f64 },
    Tokens(TokenRow),
}

impl Evaluator {
    /// `labels` are empty for regression and for a language model.
    ///
    /// # Errors
    /// A prompt that cannot be answered.
    pub fn new(
        when: When,
        step: u64,
        config: &Config,
        labels: Vec<String>,
        folder: Rc<Folder>,
        held_out: Rc<Tokenized>,
    ) -> Result<Self> {
        let batches = prepare::evaluation(config, &folder, &held_out.sequences);
        let outcomes = vec![None; held_out.sequences.len()];
        let (task, seed, answers) = (config.task, config.training.seed, BTreeMap::new());
        let prompts = prompts(when, config, &held_out);
        let generated = prompts.len();
        let generation = Generation::new(&folder, prompts)?;
        Ok(Self {
            when,
            step,
            task,
            seed,
            labels,
            folder,
            held_out,
            batches,
            at: 0,
            outcomes,
            answers,
            generation,
            generated,
        })
    }

    /// Units of work done and in all: batches, then tokens of answers at most.
    pub fn progress(&self) -> (u64, u64) {
        let (done, total) = self.generation.progress();
        (self.at as u64 + done, self.batches.len() as u64 + total)
    }

    /// Runs the next batch, or writes the next token of the answers; true while there is more to do.
    pub async fn advance(&mut self, model: &Llama, device: &Device) -> Result<bool> {
        let Some(batch) = self.batches.get(self.at) else {
            self.generation.advance(model, &self.folder, device).await?;
            return Ok(!self.generation.done());
        };
        if let Targets::Tokens(labels) = &batch.targets {
            let sums = read_f32(token_sums(model, batch, device)).await?;
            for ((row, labels), sums) in batch.rows.iter().zip(labels.chunks(batch.seq)).zip(sums.chunks(2)) {
                // The first token is predicted from nothing.
                let learnt: Vec<u32> =
                    labels.iter().skip(1).filter(|id| **id != IGNORE_INDEX).map(|id| id.cast_unsigned()).collect();
                let bytes = self.folder.tokenizer.decode(&learnt, true)?.len() as u32;
                let row_of = TokenRow { loss: sums[0], counted: learnt.len() as u32, right: sums[1] as u32, bytes };
                self.outcomes[*row] = Some(Outcome::Tokens(row_of));
            }
        } else {
            let logits = forward(model, batch, device, false);
            let outputs = logits.dims()[1];
            let logits = read_f32(logits).await?;
            self.rows(logits.chunks(outputs));
        }
        self.at += 1;
        Ok(self.at < self.batches.len() || !self.generation.done())
    }

    /// Logits of the current batch's rows.
    fn rows<'a>(&mut self, logits: impl Iterator<Item = &'a [f32]>) {
        let name = |id: usize| self.labels.get(id).cloned().unwrap_or_default();
        let batch = &self.batches[self.at];
        for ((i, row), logits) in batch.rows.iter().enumerate().zip(logits) {
            let (outcome, answer) = match &batch.targets {
                Targets::Values(values) => {
                    let (actual, predicted) = (f64::from(values[i]), f64::from(logits[0]));
                    // Of the f32: its f64 has digits that the file has not.
                    let answer = (values[i].to_string(), format!("{predicted:.4}"), 1.0);
                    (Outcome::Value { actual, predicted }, answer)
                }
                Targets::Classes(classes) => {
                    let probabilities = softmax(logits);
                    let (actual, predicted) = (classes[i].max(0) as usize, argmax(logits));
                    let loss = -probabilities[actual].max(f64::MIN_POSITIVE).ln();
                    let loss = if logits.iter().all(|l| l.is_finite()) { loss } else { f64::NAN };
                    let confidence = probabilities[predicted];
                    let outcome = Outcome::Class { actual, predicted, confidence: confidence as f32, loss };
                    (outcome, (name(actual), name(predicted), confidence))
                }
                Targets::Tokens(_) => continue,
            };
            self.outcomes[*row] = Some(outcome);
            if *row < SAMPLES {
                self.answers.insert(*row, answer);
            }
        }
    }

    /// What the model has written for a row.
    fn answer(&self, row: usize) -> &str {
        self.generation.text(row).trim()
    }

    fn accepted(&self, row: usize) -> &[String] {
        self.held_out.asked.get(row).map(|asked| asked.answers.as_slice()).unwrap_or_default()
    }

    /// All rows, in the file's order.
    fn outcomes(&self) -> Outcomes {
        let rows = || self.outcomes.iter().flatten();
        match rows().next() {
            Some(Outcome::Tokens(_)) => {
                let row = |outcome: &Outcome| if let Outcome::Tokens(row) = outcome { Some(*row) } else { None };
                let judge = |i| self.task.scenario().judge(self.answer(i), self.accepted(i));
                let judged = (0..self.generated).map(judge).collect();
                Outcomes::Tokens { rows: rows().filter_map(row).collect(), judged }
            }
            Some(Outcome::Value { .. }) => {
                let mut regression = Regression::default();
                for outcome in rows() {
                    if let Outcome::Value { actual, predicted } = outcome {
                        regression.add(*actual, *predicted);
                    }
                }
                Outcomes::Values(regression)
            }
            _ => {
                let mut classes = Classification::new(self.labels.len());
                for outcome in rows() {
                    if let Outcome::Class { actual, predicted, confidence, loss } = outcome {
                        classes.add(*actual, *predicted, *confidence, *loss);
                    }
                }
                Outcomes::Classes(classes)
            }
        }
    }

    /// The result, and what each row came to. With `before` it says how much each metric moved.
    ///
    /// # Errors
    /// A loss that is no number.
    pub fn finish(&self, before: Option<&Outcomes>) -> Result<(Evaluation, Outcomes)> {
        let outcomes = self.outcomes();
        let metrics = outcomes.metrics(self.task);
        if !metrics.loss.is_finite() {
            return Err(Error::NotFinite { what: "the held-out loss", value: metrics.loss, step: self.step });
        }
        // On the way only the numbers themselves count.
        let intervals = match self.when {
            When::During => BTreeMap::new(),
            When::Before | When::After => eval::intervals(&outcomes, self.task, self.seed),
        };
        let changes = before.map(|before| eval::changes(before, &outcomes, self.task, self.seed)).unwrap_or_default();
        let (mut confusion, mut calibration, mut classes) = (Vec::new(), Vec::new(), Vec::new());
        if let Outcomes::Classes(counted) = &outcomes {
            confusion = counted.confusion().to_vec();
            calibration = counted.bins();
            classes = counted.counts().classes().iter().map(ClassScore::from).collect();
        }
        let asked = |row: usize| self.held_out.asked.get(row);
        let sample = |row: usize, expected: &str, predicted: &str, confidence: f64| Sample {
            text: asked(row).map(|asked| shown(&asked.text)).unwrap_or_default(),
            // On the way they would only be told again.
            fields: asked(row)
                .filter(|_| self.when != When::During)
                .map(|asked| asked.fields.clone())
                .unwrap_or_default(),
            expected: shown(expected),
            predicted: shown(predicted),
            confidence,
        };
        let samples = match self.generated {
            0 => self.answers.iter().map(|(row, (e, p, confidence))| sample(*row, e, p, *confidence)).collect(),
            generated => (0..generated.min(SAMPLES))
                .map(|row| sample(row, &self.accepted(row).join(" | "), self.answer(row), 1.0))
                .collect(),
        };
        let evaluation = Evaluation {
            when: self.when,
            step: self.step,
            rows: self.held_out.sequences.len() as u64,
            metrics,
            confusion,
            samples,
            labels: self.labels.clone(),
            answered: self.generated as u64,
            intervals,
            changes,
            calibration,
            classes,
        };
        Ok((evaluation, outcomes))
    }
}

/// The first held-out rows' prompts. On the way they are only answered where that decides which checkpoint is the best.
fn prompts(when: When, config: &Config, held_out: &Tokenized) -> Vec<Prompt> {
    let metric = config.training.metric_for_best_model;
    let by_tokens = [Metric::Loss, Metric::Perplexity, Metric::BitsPerByte, Metric::Accuracy].contains(&metric);
    let answered = held_out.asked.iter().take_while(|asked| !asked.answers.is_empty()).count();
    if answered == 0 || when == When::During && by_tokens {
        return Vec::new();
    }
    let most = config.evaluation.max_new_tokens.unwrap_or(config.task.scenario().max_new_tokens());
    let prompt = |row| Prompt {
        ids: held_out.sequences.prompt(row).iter().map(|id| id.cast_unsigned()).collect(),
        sampling: Sampling { max_new_tokens: most, ..Sampling::default() },
    };
    (0..answered.min(config.evaluation.max_generated_samples)).map(prompt).collect()
}

fn shown(text: &str) -> String {
    text.chars().take(SAMPLE_CHARS).collect()
}
