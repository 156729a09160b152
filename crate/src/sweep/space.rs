//! What a key is tried with: a list, or a range that is drawn from.

use std::fmt::Display;

use rand::Rng;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use ts_rs::TS;

use crate::{
    config::{
        rule::{Key, Kind},
        tree::{At, Node},
    },
    error::{Error, Result},
};

/// The values of one key, as its configuration reads them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, TS)]
#[serde(rename_all = "snake_case")]
pub enum Values {
    List(#[ts(type = "Array<unknown>")] Vec<Value>),
    Range(Range),
}

#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, TS)]
pub struct Range {
    pub scale: Scale,
    pub least: f64,
    pub most: f64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, TS)]
#[serde(rename_all = "snake_case")]
pub enum Scale {
    Uniform,
    /// Every power of ten gets as many draws: for learning rates.
    LogUniform,
}

pub(super) const SCALES: [(&str, Scale); 2] = [("uniform", Scale::Uniform), ("log_uniform", Scale::LogUniform)];

/// More values of one key than anyone tries.
pub(super) const MOST_VALUES: usize = 1000;

impl Values {
    /// `[a, b]`, `{uniform: [a, b]}` or `{log_uniform: [a, b]}`.
    pub(super) fn read(key: &Key, node: &At<Node>) -> Result<Self> {
        let values = match &node.value {
            Node::List(items) => {
                let values = items.iter().map(|item| match item.value {
                    Node::Null => Err(key.wrong("nothing")),
                    _ => key.read(&item.value),
                });
                Self::List(values.collect::<Result<_>>()?)
            }
            Node::Map(entries) => {
                let [(name, ends)] = entries.as_slice() else {
                    return Err(wrong(key, format!("{} keys", entries.len())));
                };
                let scale = SCALES.iter().find(|(word, _)| *word == name.value).map(|(_, scale)| *scale);
                let ends = match &ends.value {
                    Node::List(ends) => ends.iter().map(|end| end.value.real()).collect::<Option<Vec<_>>>(),
                    _ => None,
                };
                match (scale, ends.as_deref()) {
                    (Some(scale), Some(&[least, most])) => Self::Range(Range { scale, least, most }),
                    _ => return Err(wrong(key, format!("`{}`", name.value.escape_debug()))),
                }
            }
            other => return Err(wrong(key, other)),
        };
        values.check(key)?;
        Ok(values)
    }

    /// Both ends of a range have to be what the key takes; the values of a list are checked with their trials.
    pub(super) fn check(&self, key: &Key) -> Result<()> {
        let Range { scale, least, most } = match self {
            Self::List(values) if values.is_empty() => return Err(wrong(key, "an empty list")),
            Self::List(values) if values.len() > MOST_VALUES => {
                return Err(wrong(key, format!("{} values", values.len())));
            }
            Self::List(_) => return Ok(()),
            Self::Range(range) => *range,
        };
        match key.rule.kind {
            Kind::Whole { .. } if least.fract() == 0.0 && most.fract() == 0.0 && least >= 0.0 => {
                key.whole(least as u64)?;
                key.whole(most as u64)?;
            }
            Kind::Real { .. } => {
                key.real(least)?;
                key.real(most)?;
            }
            _ => return Err(wrong(key, format!("a range from {least} to {most}, where it takes {}", key.expected()))),
        }
        if least >= most {
            return Err(wrong(key, format!("a range from {least} to {most}")));
        }
        if scale == Scale::LogUniform && least <= 0.0 {
            return Err(wrong(key, format!("log_uniform from {least}, which has no logarithm")));
        }
        Ok(())
    }

    pub(super) fn draw(&self, key: &Key, rng: &mut impl Rng) -> Value {
        match self {
            Self::List(values) => values[rng.random_range(0..values.len())].clone(),
            Self::Range(range) => {
                let whole = matches!(key.rule.kind, Kind::Whole { .. });
                // Whole numbers get a share of half a step beyond either end, so that the ends are as likely as the others.
                let (low, high) = if whole { (range.least - 0.5, range.most + 0.5) } else { (range.least, range.most) };
                let at = rng.random::<f64>();
                let drawn = match range.scale {
                    Scale::Uniform => low + at * (high - low),
                    Scale::LogUniform => {
                        let low = low.max(range.least * 0.5);
                        (low.ln() + at * (high.ln() - low.ln())).exp()
                    }
                };
                if whole {
                    json!(drawn.round().clamp(range.least, range.most) as u64)
                } else {
                    json!(short(drawn).clamp(range.least, range.most))
                }
            }
        }
    }
}

fn wrong(key: &Key, got: impl Display) -> Error {
    let expected = "a list of values, {uniform: [a, b]} or {log_uniform: [a, b]} with a below b";
    Error::config(format!("space.{}", key.name), expected, got)
}

/// Three digits: what a person would write, and what is tried is what is written.
fn short(value: f64) -> f64 {
    format!("{value:.2e}").parse().unwrap_or(value)
}
