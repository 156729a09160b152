//! Which token comes next, of a row's logits: on the host, seeded, by the names and in the order of transformers' `generate`.

use std::collections::BTreeSet;

use rand::Rng;
use serde::{Deserialize, Serialize};
use ts_rs::TS;

use crate::{
    error::{Error, Result},
    train::argmax,
};

/// How answers are made. By default the likeliest token is taken each time.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, TS)]
#[serde(default, deny_unknown_fields)]
pub struct Sampling {
    /// Tokens of an answer at most.
    #[ts(optional, as = "Option<usize>")]
    pub max_new_tokens: usize,
    /// 0 takes the likeliest token; the higher, the more even is the draw.
    #[ts(optional, as = "Option<f64>")]
    pub temperature: f64,
    /// Draw among so many of the likeliest tokens; 0 means all.
    #[ts(optional, as = "Option<usize>")]
    pub top_k: usize,
    /// Draw among the likeliest tokens that together have this probability.
    #[ts(optional, as = "Option<f64>")]
    pub top_p: f64,
    /// Leave out tokens with less than this share of the likeliest one's probability.
    #[ts(optional, as = "Option<f64>")]
    pub min_p: f64,
    /// Above 1, tokens that were there before, in the prompt too, become less likely.
    #[ts(optional, as = "Option<f64>")]
    pub repetition_penalty: f64,
    #[ts(optional, as = "Option<f64>")]
    pub seed: u64,
    /// Texts that end an answer and are no part of it.
    #[ts(optional, as = "Option<Vec<String>>")]
    pub stop: Vec<String>,
}

impl Default for Sampling {
    fn default() -> Self {
        Self {
            max_new_tokens: 64,
            temperature: 0.0,
            top_k: 0,
            top_p: 1.0,
            min_p: 0.0,
            repetition_penalty: 1.0,
            seed: 42,
            stop: Vec::new(),
        }
    }
}

/// Stop texts are looked for after every token.
const MOST_STOPS: usize = 64;
const LONGEST_STOP: usize = 1024;

impl Sampling {
    /// # Errors
    /// A value that means nothing, by its field's name.
    pub fn check(&self) -> Result<()> {
        let number = |key: &str, value: f64, fits: bool, expected: &str| match fits && value.is_finite() {
            true => Ok(()),
            false => Err(Error::config(key, expected, value)),
        };
        if self.max_new_tokens == 0 {
            return Err(Error::config("max_new_tokens", "a whole number of at least 1", 0));
        }
        number("temperature", self.temperature, self.temperature >= 0.0, "a number of at least 0")?;
        number("top_p", self.top_p, self.top_p > 0.0 && self.top_p <= 1.0, "a number above 0 and at most 1")?;
        number("min_p", self.min_p, (0.0..=1.0).contains(&self.min_p), "a number from 0 to 1")?;
        let penalty = self.repetition_penalty;
        let fits = (0.01..=100.0).contains(&penalty);
        number("repetition_penalty", penalty, fits, "a number from 0.01 to 100, 1 for none")?;
        if self.stop.len() > MOST_STOPS {
            return Err(Error::config("stop", format!("at most {MOST_STOPS} texts"), self.stop.len()));
        }
        match self.stop.iter().find(|stop| stop.is_empty() || stop.len() > LONGEST_STOP) {
            Some(stop) => {
                let got = format!("one of {}", stop.len());
                Err(Error::config("stop", format!("texts of 1 to {LONGEST_STOP} bytes"), got))
            }
            None => Ok(()),
        }
    }

    /// The likeliest token as the model has it: its number is all that has to be read from the device.
    pub fn plain(&self) -> bool {
        self.temperature == 0.0 && self.repetition_penalty == 1.0
    }

    /// Settings that have no effect, as nothing is drawn.
    pub fn idle(&self) -> Option<&'static str> {
        let set = [("top_k", self.top_k != 0), ("top_p", self.top_p != 1.0), ("min_p", self.min_p != 0.0)];
        set.into_iter().find(|(_, set)| *set && self.temperature == 0.0).map(|(key, _)| key)
    }

    /// The next token; `seen` are those of prompt and answer so far.
    ///
    /// # Errors
    /// Logits that are no numbers.
    pub fn choose(&self, logits: &mut [f32], seen: &BTreeSet<u32>, rng: &mut impl Rng) -> Result<u32> {
        let top = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        if !top.is_finite() || logits.iter().any(|logit| logit.is_nan()) {
            return Err(no_number());
        }
        self.penalise(logits, seen);
        if self.temperature == 0.0 {
            return Ok(argmax(logits) as u32);
        }
        Ok(draw(&self.distribution(logits), rng.random()))
    }

    /// CTRL's repetition penalty (arXiv:1909.05858).
    pub(super) fn penalise(&self, logits: &mut [f32], seen: &BTreeSet<u32>) {
        let penalty = self.repetition_penalty as f32;
        for id in seen.iter().filter(|_| penalty != 1.0) {
            if let Some(logit) = logits.get_mut(*id as usize) {
                *logit = if *logit < 0.0 { *logit * penalty } else { *logit / penalty };
            }
        }
    }

    /// The tokens that may come, each with its probability. `temperature` is not 0.
    pub(super) fn distribution(&self, logits: &[f32]) -> Vec<(u32, f64)> {
        let mut tokens: Vec<(u32, f64)> = (0..).zip(logits).map(|(id, logit)| (id, f64::from(*logit))).collect();
        if self.top_k > 0 && self.top_k < tokens.len() {
            let (_, (_, least), _) = tokens.select_nth_unstable_by(self.top_k - 1, |a, b| b.1.total_cmp(&a.1));
            let least = *least;
            tokens.retain(|(_, logit)| *logit >= least);
        }
        let top = tokens.iter().fold(f64::NEG_INFINITY, |top, (_, logit)| top.max(*logit));
        // Weights relative to the likeliest token's from here on, which is 1, however small the temperature.
        tokens.iter_mut().for_each(|(_, weight)| *weight = ((*weight - top) / self.temperature).exp());
        let sum: f64 = tokens.iter().map(|(_, weight)| weight).sum();
        let mut least = self.min_p;
        let nucleus = self.top_p < 1.0;
        if nucleus {
            // Tokens as unlikely as this have less than the share that is left out, all together: sorting can do without.
            let tail = (1.0 - self.top_p) * sum / tokens.len() as f64;
            least = least.max(tail);
        }
        let mut kept: Vec<(u32, f64)> = tokens.into_iter().filter(|(_, weight)| *weight >= least).collect();
        if nucleus || self.top_k > 0 {
            kept.sort_unstable_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
        }
        if nucleus {
            let mut before = 0.0;
            let inside = kept.iter().take_while(|(_, weight)| {
                let inside = before < self.top_p * sum;
                before += weight;
                inside
            });
            let inside = inside.count();
            kept.truncate(inside.max(1));
        }
        let sum: f64 = kept.iter().map(|(_, weight)| weight).sum();
        kept.iter_mut().for_each(|(_, weight)| *weight /= sum);
        kept
    }
}

/// Logits of which none is the highest.
pub(super) fn no_number() -> Error {
    let advice = "If the model computes in 16 bits, set training.mixed_precision to no; else its weights are broken.";
    Error::session("The model's answer is no number.", advice)
}

/// The token where the probabilities' sum goes beyond `at`, which is in [0, 1).
pub(super) fn draw(tokens: &[(u32, f64)], at: f64) -> u32 {
    let mut sum = 0.0;
    let beyond = tokens.iter().find(|(_, probability)| {
        sum += probability;
        at < sum
    });
    // Rounding may leave the sum below 1.
    beyond.or(tokens.last()).map_or(0, |(id, _)| *id)
}
