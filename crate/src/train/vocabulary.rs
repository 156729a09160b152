//! The language-model head with its cross-entropy, a part of the vocabulary at a time: logits of all tokens for all
//! positions never exist together. Gradients come with it, since backward needs the same parts again.

use std::ops::Range;

use burn::tensor::{Device, IndexingUpdateOp, Int, Tensor, TensorData};

use super::Loss;
use crate::{
    kernels::{Layout, exp_scaled, exp_sums, matmul},
    model::Param,
};

/// Logits that exist at once.
pub const MOST_LOGITS: usize = 1 << 22;

/// Bytes of those.
pub fn logits_bytes(tokens: usize, vocab: usize) -> u64 {
    (tokens.saturating_mul(vocab).min(MOST_LOGITS) * size_of::<f32>()) as u64
}

/// Gradients of the loss.
pub struct HeadGrads {
    /// To the hidden states.
    pub hidden: Tensor<2>,
    /// To each of the [`Param::pieces`] of the head's weight; none where it is not trained.
    pub weight: Vec<Tensor<2>>,
}

/// Loss of each row, and whether its likeliest token is the right one (1 or 0), without training; 0 where a class is negative.
///
/// # Shapes
/// `hidden` `[rows, hidden]`, `classes` `[rows]` → twice `[rows, 1]`
pub fn head_rows(weight: &Param, hidden: Tensor<2>, classes: &[i32], device: &Device) -> (Tensor<2>, Tensor<2>) {
    let (each, right, _) = in_parts(weight, hidden, classes, 1.0, false, device, MOST_LOGITS);
    (each, right)
}

/// Rows of the vocabulary that are worked on together, those of one place after the other.
fn parts(rows: usize, places: &[Range<usize>], most: usize) -> Vec<Range<usize>> {
    // Even, see `Param::linear_rows`; in fours the products read fastest.
    let step = (most / rows.max(1)).max(64) / 4 * 4;
    let of_place = |place: &Range<usize>| {
        let end = place.end;
        place.clone().step_by(step).map(move |from| from..(from + step).min(end))
    };
    places.iter().flat_map(of_place).collect()
}

/// What is added to which rows of a place, counted from its first: to rows of other places nothing.
fn within(place: &Range<usize>, classes: &Tensor<1, Int>, values: &Tensor<2>) -> (Tensor<1, Int>, Tensor<2>) {
    let at = classes.clone().sub_scalar(place.start as i64);
    let near = at.clone().clamp(0, place.len() as i64 - 1);
    let outside = at.equal(near.clone()).bool_not();
    let values = values.clone().mask_fill(outside.unsqueeze_dim::<2>(1).expand(values.shape()), 0.0);
    (near, values)
}

/// Mean of `-log softmax(hidden·Wᵀ)[class]` over the rows whose class is not negative, times `share`, and with `train`
/// its gradients. All outside autodiff.
///
/// # Shapes
/// `hidden` `[rows, hidden]`, `classes` `[rows]`
pub fn head_loss(
    weight: &Param,
    hidden: Tensor<2>,
    classes: &[i32],
    share: f64,
    train: bool,
    device: &Device,
) -> (Loss, Option<HeadGrads>) {
    let (each, right, grads) = in_parts(weight, hidden, classes, share, train, device, MOST_LOGITS);
    (mean(each, right, classes, share), grads)
}

fn mean(each: Tensor<2>, right: Tensor<2>, classes: &[i32], share: f64) -> Loss {
    let counted = classes.iter().filter(|c| **c >= 0).count().max(1);
    let loss = each.sum().reshape([1, 1]).mul_scalar(share / counted as f64);
    Loss { loss, correct: right.sum().reshape([1, 1]) }
}

fn in_parts(
    weight: &Param,
    hidden: Tensor<2>,
    classes: &[i32],
    share: f64,
    train: bool,
    device: &Device,
    most: usize,
) -> (Tensor<2>, Tensor<2>, Option<HeadGrads>) {
    let rows = classes.len();
    let places = weight.places();
    let parts = parts(rows, &places, most);
    let counted = classes.iter().filter(|c| **c >= 0).count().max(1);
    let mask: Vec<f32> = classes.iter().map(|c| if *c >= 0 { 1.0 } else { 0.0 }).collect();
    let mask = Tensor::<2>::from_data(TensorData::new(mask, [rows, 1]), device);
    let classes: Vec<i32> = classes.iter().map(|c| (*c).max(0)).collect();
    let classes = Tensor::<1, Int>::from_data(TensorData::new(classes, [rows]), device);
    let chosen = weight.select(classes.clone()).without_autodiff();

    // Highest logit so far, where it stands, and the sum of exponentials beside it.
    let mut sofar: Option<(Tensor<2>, Tensor<2, Int>, Tensor<2>)> = None;
    let mut only = None;
    for part in &parts {
        let logits = weight.linear_rows(part.clone(), hidden.clone());
        let (top, at) = logits.clone().max_dim_with_indices(1);
        let sum = exp_sums(logits.clone(), top.clone());
        let at = at.add_scalar(part.start as i64);
        sofar = Some(match sofar.take() {
            None => (top, at, sum),
            Some((old_top, old_at, old_sum)) => {
                let better = top.clone().greater(old_top.clone());
                let new = top.clone().max_pair(old_top.clone());
                let sum = old_sum * (old_top - new.clone()).exp() + sum * (top - new.clone()).exp();
                (new, old_at.mask_where(better, at), sum)
            }
        });
        // Where there is but one part, backward need not compute it again.
        only = (train && parts.len() == 1).then_some(logits);
    }
    let Some((top, at, sum)) = sofar else {
        let zeros = Tensor::<2>::zeros([rows, 1], device);
        return (zeros.clone(), zeros, None);
    };
    let log_sum = top + sum.log();
    let right = at.equal(classes.clone().unsqueeze_dim::<2>(1)).float() * mask.clone();
    let logit = (hidden.clone() * chosen.clone()).sum_dim(1);
    let each = (log_sum.clone() - logit) * mask.clone();
    if !train {
        return (each, right, None);
    }

    // With p = softmax and e the chosen token's unit vector the logits' gradient is (p - e) · share / counted.
    let scale = mask.mul_scalar(share / counted as f64);
    let mut to_hidden = (chosen * scale.clone()).neg();
    let mut to_weight = Vec::new();
    for part in parts {
        let logits = only.take().unwrap_or_else(|| weight.linear_rows(part.clone(), hidden.clone()));
        let p = exp_scaled(logits, log_sum.clone(), scale.clone());
        to_hidden = to_hidden + weight.back_rows(part.clone(), p.clone());
        if weight.trainable {
            to_weight.push((part.start, matmul(p, hidden.clone(), Layout::Tn)));
        }
    }
    let mut weight = Vec::new();
    if !to_weight.is_empty() {
        let chosen = (hidden * scale).neg();
        let mut rows = to_weight.into_iter().peekable();
        for place in &places {
            let mut own = Vec::new();
            while let Some((_, grad)) = rows.next_if(|(start, _)| place.contains(start)) {
                own.push(grad);
            }
            let (at, values) = match places.len() {
                1 => (classes.clone(), chosen.clone()),
                _ => within(place, &classes, &chosen),
            };
            weight.push(Tensor::cat(own, 0).select_assign(0, at, values, IndexingUpdateOp::Add));
        }
    }
    (each, right, Some(HeadGrads { hidden: to_hidden, weight }))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::disallowed_methods)]

    use burn::tensor::activation::log_softmax;

    use super::*;
    use crate::rng;

    fn random(shape: [usize; 2], seed: u64) -> Tensor<2> {
        let values = rng::normal(&mut rng::stream(seed, 7), shape[0] * shape[1], 1.0);
        Tensor::from_data(TensorData::new(values, shape), &Device::flex())
    }

    fn values(tensor: Tensor<2>) -> Vec<f32> {
        tensor.into_data().try_into_vec().expect("f32")
    }

    fn assert_close(got: Tensor<2>, expected: Tensor<2>) {
        for (a, b) in values(got).into_iter().zip(values(expected)) {
            assert!((a - b).abs() < 1e-5, "{a} {b}");
        }
    }

    #[test]
    fn parts_give_what_all_logits_together_give() {
        let device = Device::flex();
        let (vocab, classes) = (203, [5, -100, 202, 64, 0]);
        let (hidden, weight) = (random([5, 8], 1), random([vocab, 8], 2));
        let (h, w) = (hidden.clone().autodiff().require_grad(), weight.clone().autodiff().require_grad());
        let logits = h.clone().matmul(w.clone().transpose());
        let logs = log_softmax(logits.clone(), 1);
        let chosen: Vec<Tensor<2>> = classes
            .iter()
            .enumerate()
            .filter(|(_, class)| **class >= 0)
            .map(|(row, class)| logs.clone().slice([row..row + 1, *class as usize..*class as usize + 1]))
            .collect();
        let expected = Tensor::cat(chosen, 0).mean().mul_scalar(-0.5);
        let mut grads = expected.backward();
        let rows = |from: usize, to: usize| Param::new("w", weight.clone().slice([from..to, 0..8]), false);
        let held = Param::parts("w", vec![rows(0, 100), rows(100, 200), rows(200, vocab)]);
        for (mut param, pieces) in [(Param::new("w", weight.clone(), false), 1), (held, 3)] {
            param.trainable = true;
            // One part, and several of 64 tokens.
            for most in [1 << 20, 1] {
                let (each, right, head) = in_parts(&param, hidden.clone(), &classes, 0.5, true, &device, most);
                let loss = mean(each, right, &classes, 0.5).loss;
                assert_close(loss, expected.clone().without_autodiff().reshape([1, 1]));
                let head = head.expect("gradients");
                assert_close(head.hidden, h.grad(&grads).expect("gradient"));
                assert_eq!(head.weight.len(), pieces);
                assert_close(Tensor::cat(head.weight, 0), w.grad(&grads).expect("gradient"));
            }
        }
        let param = Param::new("w", weight, false);
        let best = logits.without_autodiff().argmax(1).into_data().try_into_vec::<i32>();
        let best = best.expect("integers");
        let right = classes.iter().zip(&best).filter(|(class, best)| **class == **best).count();
        let (_, rights, none) = in_parts(&param, hidden, &classes, 1.0, false, &device, 1);
        assert_eq!(values(rights).iter().sum::<f32>(), right as f32);
        assert!(none.is_none());
        let _ = w.grad_remove(&mut grads);
    }
}
