//! Angles of the rotary embedding.

use burn::tensor::{Device, Tensor, TensorData};

/// `cos` and `sin` of `position · theta^(-2i / dim)`, each `[seq, dim / 2]`.
#[derive(Debug, Clone)]
pub struct Rotation {
    pub cos: Tensor<2>,
    pub sin: Tensor<2>,
}

impl Rotation {
    pub fn new(seq: usize, dim: usize, theta: f64, device: &Device) -> Self {
        let half = dim / 2;
        // In f32 step by step, as transformers computes them: the golden tests compare to 1e-4.
        let frequencies: Vec<f32> = (0..half).map(|i| 1.0 / (theta as f32).powf((2 * i) as f32 / dim as f32)).collect();
        let angles = (0..seq).flat_map(|s| frequencies.iter().map(move |f| s as f32 * f));
        let (cos, sin): (Vec<f32>, Vec<f32>) = angles.map(|a| (a.cos(), a.sin())).unzip();
        let tensor = |v| Tensor::from_data(TensorData::new(v, [seq, half]), device);
        Self { cos: tensor(cos), sin: tensor(sin) }
    }
}
