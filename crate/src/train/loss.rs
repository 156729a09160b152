//! Losses as Hugging Face's heads compute them.

use burn::tensor::{Device, Int, Tensor, TensorData, activation::log_softmax};

use crate::batch::{IGNORE_INDEX, Targets};

/// Mean loss over the rows, and how many rows' highest logit is right (both `[1, 1]`).
pub struct Loss {
    pub loss: Tensor<2>,
    /// Right answers: outside autodiff.
    pub correct: Tensor<2>,
}

impl Targets {
    /// Rows (or positions) that count.
    pub fn counted(&self, seq: usize) -> usize {
        match self {
            Self::Classes(c) => c.len(),
            Self::Values(v) => v.len(),
            Self::Tokens(labels) => shifted(labels, seq).iter().filter(|t| **t >= 0).count(),
        }
    }

    /// Loss of a classification head. For tokens it is `vocabulary::head_loss`, which needs no logits of them all.
    ///
    /// # Shapes
    /// `logits` `[batch, outputs]`
    pub fn loss(&self, logits: Tensor<2>, device: &Device) -> Loss {
        match self {
            Self::Classes(classes) | Self::Tokens(classes) => cross_entropy(logits, classes, device),
            Self::Values(values) => {
                let rows = values.len();
                let target = Tensor::<2>::from_data(TensorData::new(values.clone(), [rows, 1]), device);
                let error = logits - target;
                Loss { loss: (error.clone() * error).mean().reshape([1, 1]), correct: Tensor::zeros([1, 1], device) }
            }
        }
    }
}

/// Each position's label is the token after it; a row's last position has none.
pub(super) fn shifted(labels: &[i32], seq: usize) -> Vec<i32> {
    let next = |i: usize| if (i + 1).is_multiple_of(seq) { IGNORE_INDEX } else { labels[i + 1] };
    (0..labels.len()).map(next).collect()
}

/// Mean of `-log softmax(logits)[class]` over the rows whose class is not negative.
fn cross_entropy(logits: Tensor<2>, classes: &[i32], device: &Device) -> Loss {
    let rows = classes.len();
    let counted = classes.iter().filter(|c| **c >= 0).count().max(1);
    let weights: Vec<f32> = classes.iter().map(|c| if *c >= 0 { 1.0 } else { 0.0 }).collect();
    let index: Vec<i32> = classes.iter().map(|c| (*c).max(0)).collect();
    let index = Tensor::<2, Int>::from_data(TensorData::new(index, [rows, 1]), device);
    let weights = Tensor::<2>::from_data(TensorData::new(weights, [rows, 1]), device);
    let right = logits.clone().without_autodiff().argmax(1).equal(index.clone()).float() * weights.clone();
    let chosen = log_softmax(logits, 1).gather(1, index);
    Loss {
        loss: (chosen * weights).sum().reshape([1, 1]).mul_scalar(-1.0 / counted as f64),
        correct: right.sum().reshape([1, 1]),
    }
}
