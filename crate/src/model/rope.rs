//! Angles of the rotary embedding (arXiv:2104.09864), with the scalings that longer contexts are made by.

use std::f32::consts::TAU;

use burn::tensor::{Device, Int, Tensor, TensorData};
use serde_json::{Map, Value};

use super::LlamaConfig;
use crate::error::{Error, Result};

/// `rope_scaling` of config.json (`rope_parameters` in newer files).
#[derive(Debug, Clone, PartialEq)]
pub enum RopeScaling {
    Default,
    /// Positions divided by `factor`.
    Linear {
        factor: f64,
    },
    /// A larger base for sequences beyond `max_position_embeddings`.
    Dynamic {
        factor: f64,
    },
    /// Llama 3.1: low frequencies divided by `factor`, high ones kept, a smooth way between.
    Llama3 {
        factor: f64,
        low_freq_factor: f64,
        high_freq_factor: f64,
        original_max_position_embeddings: usize,
    },
}

impl RopeScaling {
    /// Reads the object under `key`; what is not known is refused by its name.
    pub(super) fn from_json(file: &str, key: &str, rope: &Map<String, Value>) -> Result<Self> {
        let bad = |name: &str, expected: &str, got: Option<&Value>| {
            let got = got.map_or_else(|| "none".into(), Value::to_string);
            Error::model(file, format!("{key}.{name}"), expected, got)
        };
        let number = |name: &str, least: f64| match rope.get(name).and_then(Value::as_f64) {
            Some(x) if x.is_finite() && x >= least => Ok(x),
            _ => Err(bad(name, &format!("a number of at least {least}"), rope.get(name))),
        };
        let kind = rope.get("rope_type").or(rope.get("type"));
        match kind.map(Value::as_str) {
            None | Some(Some("default")) => Ok(Self::Default),
            Some(Some("linear")) => Ok(Self::Linear { factor: number("factor", 1.0)? }),
            Some(Some("dynamic")) => Ok(Self::Dynamic { factor: number("factor", 1.0)? }),
            Some(Some("llama3")) => {
                let low = number("low_freq_factor", f64::MIN_POSITIVE)?;
                let high = number("high_freq_factor", low)?;
                let original = number("original_max_position_embeddings", 1.0)?;
                if high == low {
                    return Err(bad("high_freq_factor", "more than low_freq_factor", rope.get("high_freq_factor")));
                }
                Ok(Self::Llama3 {
                    factor: number("factor", 1.0)?,
                    low_freq_factor: low,
                    high_freq_factor: high,
                    original_max_position_embeddings: original as usize,
                })
            }
            Some(_) => Err(bad("rope_type", "default, linear, dynamic or llama3", kind)),
        }
    }
}

/// Radians a position of each pair of a head's `dim` numbers, for sequences of `seq` tokens in a model made for `most`.
/// In f32 step by step, as transformers computes them: the golden tests compare to 1e-4.
pub fn frequencies(theta: f64, dim: usize, scaling: &RopeScaling, most: usize, seq: usize) -> Vec<f32> {
    let theta = match scaling {
        RopeScaling::Dynamic { factor } if seq > most => {
            let stretch = factor * seq as f64 / most as f64 - (factor - 1.0);
            theta * stretch.powf(dim as f64 / (dim as f64 - 2.0))
        }
        _ => theta,
    };
    let plain = (0..dim / 2).map(|i| 1.0 / (theta as f32).powf((2 * i) as f32 / dim as f32));
    match *scaling {
        RopeScaling::Default | RopeScaling::Dynamic { .. } => plain.collect(),
        RopeScaling::Linear { factor } => plain.map(|f| f / factor as f32).collect(),
        RopeScaling::Llama3 { factor, low_freq_factor, high_freq_factor, original_max_position_embeddings } => {
            let (factor, low, high) = (factor as f32, low_freq_factor as f32, high_freq_factor as f32);
            let original = original_max_position_embeddings as f32;
            plain
                .map(|f| {
                    let wavelength = TAU / f;
                    if wavelength > original / low {
                        return f / factor;
                    }
                    if wavelength < original / high {
                        return f;
                    }
                    let smooth = (original / wavelength - low) / (high - low);
                    (1.0 - smooth) * f / factor + smooth * f
                })
                .collect()
        }
    }
}

/// `cos` and `sin` of `position · frequency`, each `[positions, head_dim / 2]`.
#[derive(Debug, Clone)]
pub struct Rotation {
    pub cos: Tensor<2>,
    pub sin: Tensor<2>,
}

impl Rotation {
    pub fn new(seq: usize, config: &LlamaConfig, device: &Device) -> Self {
        Self::at(seq, &config.frequencies(seq), device)
    }

    /// Of the first `seq` positions at these frequencies.
    pub fn at(seq: usize, frequencies: &[f32], device: &Device) -> Self {
        let angles = (0..seq).flat_map(|s| frequencies.iter().map(move |f| s as f32 * f));
        Self::of(angles.collect(), frequencies.len(), device)
    }

    /// The lines of these positions.
    pub fn select(&self, positions: Tensor<1, Int>) -> Self {
        Self { cos: self.cos.clone().select(0, positions.clone()), sin: self.sin.clone().select(0, positions) }
    }

    /// Of angles that are given, `half` a position.
    pub fn of(angles: Vec<f32>, half: usize, device: &Device) -> Self {
        let shape = [angles.len() / half, half];
        let (cos, sin): (Vec<f32>, Vec<f32>) = angles.into_iter().map(|a| (a.cos(), a.sin())).unzip();
        let tensor = |v| Tensor::from_data(TensorData::new(v, shape), device);
        Self { cos: tensor(cos), sin: tensor(sin) }
    }
}
