//! One named weight, and the views of it that training needs.

use std::ops::Range;

use burn::tensor::{Gradients, Int, Tensor};

use crate::kernels::{Layout, Packed, adapted, linear, matmul};

/// A weight by its Hugging Face name. Vectors are kept as `[1, n]`, so that all weights are of one type.
#[derive(Debug, Clone)]
pub struct Param {
    /// Hugging Face's (or PEFT's) name, as in the safetensors file.
    pub name: String,
    /// A vector in the file: a norm's weight, never decayed.
    pub vector: bool,
    /// Changed by training.
    pub trainable: bool,
    /// Outside autodiff; what evaluation and the optimizer see.
    value: Value,
    /// Inside autodiff, while a training step runs.
    leaf: Option<Tensor<2>>,
    /// Which part of a weight it is; 0 where it is one by itself.
    part: usize,
}

#[derive(Debug, Clone)]
enum Value {
    Dense(Tensor<2>),
    /// Frozen, in blocks.
    Packed(Packed),
    /// Larger than the device binds at once: these rows each, the last one fewer. No part is in parts.
    Parts(usize, Vec<Param>),
}

impl Param {
    pub fn new(name: impl Into<String>, value: Tensor<2>, vector: bool) -> Self {
        Self::of(name.into(), vector, Value::Dense(value))
    }

    /// A weight that stays in blocks and is never trained.
    pub fn packed(name: impl Into<String>, value: Packed) -> Self {
        Self::of(name.into(), false, Value::Packed(value))
    }

    /// A matrix of several row by row, all but the last with the same even number of rows. It is trained part by part.
    pub fn parts(name: impl Into<String>, mut parts: Vec<Self>) -> Self {
        let step = parts.first().map_or(1, |part| part.dims()[0]);
        parts.iter_mut().enumerate().for_each(|(at, part)| part.part = at);
        Self::of(name.into(), false, Value::Parts(step, parts))
    }

    fn of(name: String, vector: bool, value: Value) -> Self {
        Self { name, vector, trainable: false, value, leaf: None, part: 0 }
    }

    /// Rows that are held together: all of them, or those of each part.
    pub fn places(&self) -> Vec<Range<usize>> {
        match &self.value {
            Value::Parts(step, parts) => {
                parts.iter().enumerate().map(|(at, part)| at * step..at * step + part.dims()[0]).collect()
            }
            _ => std::iter::once(0..self.dims()[0]).collect(),
        }
    }

    /// What has a tensor of its own, and a gradient where it is trained: the weight, or its parts in their order.
    pub fn pieces(&mut self) -> Vec<&mut Self> {
        if !matches!(self.value, Value::Parts(..)) {
            return vec![self];
        }
        match &mut self.value {
            Value::Parts(_, parts) => parts.iter_mut().collect(),
            _ => Vec::new(),
        }
    }

    /// Its number among the parts of its weight.
    pub fn part(&self) -> usize {
        self.part
    }

    /// What a forward pass uses of a vector or an adapter. Of a matrix it takes [`Self::linear`] or [`Self::select`],
    /// which leave a packed one in its blocks.
    pub fn tensor(&self) -> Tensor<2> {
        self.leaf.clone().unwrap_or_else(|| self.value())
    }

    /// The value outside autodiff, a packed one as numbers.
    pub fn value(&self) -> Tensor<2> {
        self.rows(0..self.dims()[0])
    }

    /// Some rows of the value outside autodiff.
    pub fn rows(&self, rows: Range<usize>) -> Tensor<2> {
        match &self.value {
            Value::Dense(value) if rows == (0..value.dims()[0]) => value.clone(),
            Value::Dense(value) => value.clone().slice([rows]),
            Value::Packed(packed) => packed.select(packed.ids(rows)),
            Value::Parts(step, parts) => {
                let rows = within(*step, parts, rows).map(|(part, rows, _)| part.rows(rows));
                Tensor::cat(rows.collect(), 0)
            }
        }
    }

    /// `x·Wᵀ`.
    pub fn linear(&self, x: Tensor<2>) -> Tensor<2> {
        match &self.value {
            Value::Dense(_) => linear(x, self.tensor()),
            Value::Packed(packed) => packed.linear(x),
            Value::Parts(_, parts) => Tensor::cat(parts.iter().map(|part| part.linear(x.clone())).collect(), 1),
        }
    }

    /// [`kernels::adapted`](adapted) on a frozen matrix; none where it is trained or in parts.
    pub fn adapted(&self, x: Tensor<2>, a: Tensor<2>, b: Tensor<2>, scale: f32) -> Option<Tensor<2>> {
        match &self.value {
            Value::Dense(_) if !self.trainable => Some(adapted(x, self.tensor(), a, b, scale)),
            Value::Packed(packed) => Some(packed.adapted(x, a, b, scale)),
            _ => None,
        }
    }

    /// `x·Wᵀ` for some rows of W, outside autodiff. The first row must be even.
    pub fn linear_rows(&self, rows: Range<usize>, x: Tensor<2>) -> Tensor<2> {
        match &self.value {
            Value::Dense(_) => linear(x, self.rows(rows)),
            Value::Packed(packed) if rows.len() == packed.dims()[0] => packed.linear(x),
            Value::Packed(packed) => packed.slice(rows).linear(x),
            Value::Parts(step, parts) => {
                let outputs = within(*step, parts, rows).map(|(part, rows, _)| part.linear_rows(rows, x.clone()));
                Tensor::cat(outputs.collect(), 1)
            }
        }
    }

    /// `g·W` for some rows of W, outside autodiff. The first row must be even.
    pub fn back_rows(&self, rows: Range<usize>, g: Tensor<2>) -> Tensor<2> {
        match &self.value {
            Value::Dense(_) => matmul(g, self.rows(rows), Layout::Nn),
            Value::Packed(packed) if rows.len() == packed.dims()[0] => packed.back(g),
            Value::Packed(packed) => packed.slice(rows).back(g),
            Value::Parts(step, parts) => {
                let [lines, columns] = [g.dims()[0], self.dims()[1]];
                within(*step, parts, rows)
                    .map(|(part, rows, place)| part.back_rows(rows, g.clone().narrow(1, place.start, place.len())))
                    .reduce(|sum, part| sum + part)
                    .unwrap_or_else(|| Tensor::zeros([lines, columns], &g.device()))
            }
        }
    }

    /// The rows of these numbers.
    pub fn select(&self, ids: Tensor<1, Int>) -> Tensor<2> {
        match &self.value {
            Value::Dense(_) => self.tensor().select(0, ids),
            Value::Packed(packed) => packed.select(ids),
            Value::Parts(step, parts) => {
                // Every part gives a row for every number: its own, or one that is not counted.
                let one = |(at, part): (usize, &Self)| {
                    let place = ids.clone().sub_scalar((at * step) as i64);
                    let last = part.dims()[0] as i64 - 1;
                    let inside = place.clone().equal(place.clone().clamp(0, last));
                    let rows = part.select(place.clamp(0, last));
                    let shape = rows.shape();
                    rows.mask_fill(inside.bool_not().unsqueeze_dim::<2>(1).expand(shape), 0.0)
                };
                let sum = parts.iter().enumerate().map(one).reduce(|sum, part| sum + part);
                sum.unwrap_or_else(|| Tensor::zeros([ids.dims()[0], 0], &ids.device()))
            }
        }
    }

    pub fn set(&mut self, value: Tensor<2>) {
        self.value = Value::Dense(value);
        self.leaf = None;
    }

    pub fn dims(&self) -> [usize; 2] {
        match &self.value {
            Value::Dense(value) => value.dims(),
            Value::Packed(packed) => packed.dims(),
            Value::Parts(step, parts) => {
                let [last, columns] = parts.last().map_or([0, 0], Self::dims);
                [step * parts.len().saturating_sub(1) + last, columns]
            }
        }
    }

    /// Bytes of the value on the device.
    pub fn bytes(&self) -> u64 {
        match &self.value {
            Value::Dense(_) => self.elements() * size_of::<f32>() as u64,
            Value::Packed(packed) => packed.bytes(),
            Value::Parts(_, parts) => parts.iter().map(Self::bytes).sum(),
        }
    }

    /// Bytes of the largest part.
    pub fn largest(&self) -> u64 {
        match &self.value {
            Value::Parts(_, parts) => parts.iter().map(Self::bytes).max().unwrap_or_default(),
            _ => self.bytes(),
        }
    }

    /// From here to [`Self::take_grads`], forward passes record what this weight's gradient needs.
    pub fn track(&mut self) {
        if !self.trainable {
            return;
        }
        match &mut self.value {
            Value::Dense(value) => self.leaf = Some(value.clone().autodiff().require_grad()),
            Value::Packed(_) => {}
            Value::Parts(_, parts) => parts.iter_mut().for_each(|part| {
                part.trainable = true;
                part.track();
            }),
        }
    }

    /// Ends tracking; the gradient of each of the [`Self::pieces`], where the loss depended on it.
    pub fn take_grads(&mut self, grads: &mut Gradients) -> Vec<Option<Tensor<2>>> {
        let take = |piece: &mut Self| piece.leaf.take()?.grad_remove(grads);
        self.pieces().into_iter().map(take).collect()
    }

    /// Shape as in the file.
    pub fn shape(&self) -> Vec<usize> {
        let [rows, columns] = self.dims();
        if self.vector { vec![columns] } else { vec![rows, columns] }
    }

    pub fn elements(&self) -> u64 {
        self.shape().iter().map(|n| *n as u64).product()
    }
}

/// Which rows of which parts `rows` are, and their places among them.
fn within(
    step: usize,
    parts: &[Param],
    rows: Range<usize>,
) -> impl Iterator<Item = (&Param, Range<usize>, Range<usize>)> {
    let first = rows.start / step;
    parts.iter().enumerate().skip(first).map_while(move |(at, part)| {
        let start = at * step;
        let (from, to) = (rows.start.max(start), rows.end.min(start + part.dims()[0]));
        (from < to).then(|| (part, from - start..to - start, from - rows.start..to - rows.start))
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::disallowed_methods)]

    use burn::tensor::{Device, TensorData};

    use super::*;
    use crate::{rng, weights::ggml::GgmlType};

    fn values(tensor: Tensor<2>) -> Vec<f32> {
        tensor.into_data().try_into_vec().expect("f32")
    }

    #[test]
    fn parts_are_the_matrix_that_they_are_parts_of() {
        let device = Device::flex();
        let (vocab, width) = (22, 64);
        let random = |rows: usize, columns: usize, seed: u64| {
            let values = rng::normal(&mut rng::stream(seed, 7), rows * columns, 1.0);
            (Tensor::<2>::from_data(TensorData::new(values.clone(), [rows, columns]), &device), values)
        };
        let (dense, numbers) = random(vocab, width, 1);
        let blocks = |from: usize, to: usize| {
            let bytes = GgmlType::Q4_0.quantize(&numbers[from * width..to * width]).expect("a type that is written");
            Param::packed("w", Packed::new(GgmlType::Q4_0, [to - from, width], &bytes, &device))
        };
        let places = [0..8, 8..16, 16..22];
        let rows = |part: &Range<usize>| Param::new("w", dense.clone().slice([part.clone()]), false);
        let both = [
            (Param::new("w", dense.clone(), false), Param::parts("w", places.iter().map(rows).collect())),
            (blocks(0, vocab), Param::parts("w", places.iter().map(|part| blocks(part.start, part.end)).collect())),
        ];
        for (whole, parts) in both {
            assert_eq!((whole.dims(), whole.elements()), (parts.dims(), parts.elements()));
            let ids = Tensor::<1, Int>::from_data(TensorData::new(vec![21i32, 0, 8, 7, 15, 16, 21], [7]), &device);
            assert_eq!(values(whole.select(ids.clone())), values(parts.select(ids)));
            let (x, g) = (random(3, width, 2).0, random(3, vocab, 3).0);
            let close = |a: Tensor<2>, b: Tensor<2>| {
                assert_eq!(a.dims(), b.dims());
                values(a).iter().zip(&values(b)).for_each(|(a, b)| assert!((a - b).abs() < 1e-4, "{a} {b}"));
            };
            close(whole.linear(x.clone()), parts.linear(x.clone()));
            for range in [0..22, 0..8, 2..8, 6..10, 4..22, 20..22] {
                let g = g.clone().narrow(1, 0, range.len());
                assert_eq!(values(whole.rows(range.clone())), values(parts.rows(range.clone())));
                close(whole.linear_rows(range.clone(), x.clone()), parts.linear_rows(range.clone(), x.clone()));
                close(whole.back_rows(range.clone(), g.clone()), parts.back_rows(range, g));
            }
        }
    }
}
