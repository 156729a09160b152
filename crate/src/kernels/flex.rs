//! The CPU: Burn's product (the `gemm` crate reads transposed operands in place) and one pass over memory for the rest.

use std::ops::Range;

use burn::{
    backend::{
        Flex, TensorMetadata,
        ops::FloatTensorOps,
        tensor::{FloatTensor, IntTensor},
    },
    tensor::{DType, FloatDType, Slice, TensorData},
};

use super::{AdamWRule, KernelOps, LANES, Stored, packed, stock};
use crate::weights::ggml::GgmlType;

fn f32s(tensor: FloatTensor<Flex>) -> (Vec<f32>, Vec<usize>) {
    let shape = tensor.shape().to_vec();
    let tensor = Flex::float_cast(tensor, FloatDType::F32).to_contiguous();
    let start = tensor.layout().start_offset();
    let len = shape.iter().product::<usize>();
    (tensor.storage::<f32>()[start..start + len].to_vec(), shape)
}

fn wrap(values: Vec<f32>, shape: Vec<usize>, dtype: DType) -> FloatTensor<Flex> {
    Flex::float_cast(FloatTensor::<Flex>::from_data(TensorData::new(values, shape)), dtype.into())
}

fn inverse_rms(row: &[f32], eps: f32) -> f32 {
    let squares: f32 = row.iter().map(|v| v * v).sum();
    1.0 / (squares / row.len() as f32 + eps).sqrt()
}

/// Over the keys that are seen; the others get nothing.
fn softmax(row: &mut [f32], seen: Range<usize>, scale: f32) {
    row[..seen.start].fill(0.0);
    row[seen.end..].fill(0.0);
    let seen = &mut row[seen];
    let max = seen.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let mut sum = 0.0;
    for v in seen.iter_mut() {
        *v = ((*v - max) * scale).exp();
        sum += *v;
    }
    let inverse = 1.0 / sum;
    seen.iter_mut().for_each(|v| *v *= inverse);
}

fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + (-x).exp())
}

impl KernelOps for Flex {
    fn product(
        lhs: FloatTensor<Self>,
        rhs: FloatTensor<Self>,
        ta: bool,
        tb: bool,
        scale: f32,
        dtype: DType,
    ) -> FloatTensor<Self> {
        stock::product::<Self>(lhs, rhs, ta, tb, scale, dtype)
    }

    fn product_plus(
        lhs: FloatTensor<Self>,
        rhs: FloatTensor<Self>,
        low: FloatTensor<Self>,
        high: FloatTensor<Self>,
        tb: bool,
    ) -> FloatTensor<Self> {
        let dtype = lhs.dtype();
        let base = Self::product(lhs, rhs, false, tb, 1.0, DType::F32);
        let thin = Self::product(low, high, false, tb, 1.0, DType::F32);
        Self::float_cast(Self::float_add(base, thin), dtype.into())
    }

    fn rotate(
        x: FloatTensor<Self>,
        cos: FloatTensor<Self>,
        sin: FloatTensor<Self>,
        inverse: bool,
    ) -> FloatTensor<Self> {
        let dtype = x.dtype();
        let (mut x, shape) = f32s(x);
        let (cos, _) = f32s(cos);
        let (sin, _) = f32s(sin);
        let (dim, half) = (shape[2], shape[2] / 2);
        let sign = if inverse { -1.0 } else { 1.0 };
        for sequence in x.chunks_mut(shape[1] * dim) {
            for (position, row) in sequence.chunks_mut(dim).enumerate() {
                let (a, b) = row.split_at_mut(half);
                let at = position * half;
                let (cos, sin) = (&cos[at..at + half], &sin[at..at + half]);
                for i in 0..half {
                    let (u, v, s) = (a[i], b[i], sign * sin[i]);
                    a[i] = u * cos[i] - v * s;
                    b[i] = v * cos[i] + u * s;
                }
            }
        }
        wrap(x, shape, dtype)
    }

    fn rms_scale(x: FloatTensor<Self>, m: FloatTensor<Self>, eps: f32) -> FloatTensor<Self> {
        let dtype = x.dtype();
        let (mut x, shape) = f32s(x);
        let (m, _) = f32s(m);
        let dim = shape[1];
        for (row, m) in x.chunks_mut(dim).zip(m.chunks(dim).cycle()) {
            let r = inverse_rms(row, eps);
            row.iter_mut().zip(m).for_each(|(x, m)| *x *= r * m);
        }
        wrap(x, shape, dtype)
    }

    fn rms_norm_grad(x: FloatTensor<Self>, w: FloatTensor<Self>, g: FloatTensor<Self>, eps: f32) -> FloatTensor<Self> {
        let dtype = x.dtype();
        let (mut x, shape) = f32s(x);
        let (w, _) = f32s(w);
        let (g, _) = f32s(g);
        let dim = shape[1];
        for (row, g) in x.chunks_mut(dim).zip(g.chunks(dim)) {
            let r = inverse_rms(row, eps);
            let dot: f32 = row.iter().zip(g).zip(&w).map(|((x, g), w)| x * g * w).sum();
            let back = r * r * r * dot / dim as f32;
            row.iter_mut().zip(g).zip(&w).for_each(|((x, g), w)| *x = r * g * w - back * *x);
        }
        wrap(x, shape, dtype)
    }

    fn causal_softmax(scores: FloatTensor<Self>, queries: usize, scale: f32, dtype: DType) -> FloatTensor<Self> {
        let (mut x, shape) = f32s(scores);
        let keys = shape[2];
        for (r, row) in x.chunks_mut(keys).enumerate() {
            softmax(row, 0..keys - queries + r % queries + 1, scale);
        }
        wrap(x, shape, dtype)
    }

    fn segment_softmax(
        scores: FloatTensor<Self>,
        first: IntTensor<Self>,
        scale: f32,
        dtype: DType,
    ) -> FloatTensor<Self> {
        let (mut x, shape) = f32s(scores);
        let (lines, queries) = (first.shape()[0], first.shape()[1]);
        let (rows, keys) = (shape[1], shape[2]);
        let first = integers(first);
        for (r, row) in x.chunks_mut(keys).enumerate() {
            let (matrix, query) = (r / rows, r % rows % queries);
            let own = keys - queries + query;
            let from = first[matrix % lines * queries + query].min(own);
            softmax(row, from..own + 1, scale);
        }
        wrap(x, shape, dtype)
    }

    fn causal_softmax_grad(p: FloatTensor<Self>, g: FloatTensor<Self>, scale: f32, dtype: DType) -> FloatTensor<Self> {
        let (mut p, shape) = f32s(p);
        let (g, _) = f32s(g);
        for (p, g) in p.chunks_mut(shape[2]).zip(g.chunks(shape[2])) {
            let dot: f32 = p.iter().zip(g).map(|(p, g)| p * g).sum();
            p.iter_mut().zip(g).for_each(|(p, g)| *p *= scale * (g - dot));
        }
        wrap(p, shape, dtype)
    }

    fn swiglu(gate: FloatTensor<Self>, up: FloatTensor<Self>) -> FloatTensor<Self> {
        let dtype = gate.dtype();
        let (mut x, shape) = f32s(gate);
        let (up, _) = f32s(up);
        x.iter_mut().zip(up).for_each(|(x, up)| *x *= sigmoid(*x) * up);
        wrap(x, shape, dtype)
    }

    fn swiglu_grad(gate: FloatTensor<Self>, up: FloatTensor<Self>, g: FloatTensor<Self>) -> FloatTensor<Self> {
        let dtype = gate.dtype();
        let (mut x, shape) = f32s(gate);
        let (up, _) = f32s(up);
        let (g, _) = f32s(g);
        for ((x, up), g) in x.iter_mut().zip(up).zip(g) {
            let s = sigmoid(*x);
            *x = g * up * s * (1.0 + *x * (1.0 - s));
        }
        wrap(x, shape, dtype)
    }

    fn packed_product(x: FloatTensor<Self>, words: IntTensor<Self>, of: Stored, transposed: bool) -> FloatTensor<Self> {
        let Stored { kind, rows, columns } = of;
        let blocks = Blocks::new(words, kind, columns);
        let (lines, dtype) = (x.shape()[0], x.dtype());
        let x = Self::float_cast(x, FloatDType::F32);
        let tiles = (0..rows).step_by(blocks.tile).map(|from| from..(from + blocks.tile).min(rows));
        if transposed {
            let mut out = vec![0.0; lines * rows];
            for tile in tiles {
                let part = Self::float_matmul(x.clone(), Self::float_swap_dims(blocks.rows(tile.clone()), 0, 1));
                let (part, _) = f32s(part);
                for (out, part) in out.chunks_mut(rows).zip(part.chunks(tile.len())) {
                    out[tile.clone()].copy_from_slice(part);
                }
            }
            return wrap(out, vec![lines, rows], dtype);
        }
        let mut sum: Option<FloatTensor<Self>> = None;
        for tile in tiles {
            let part = Self::float_slice(x.clone(), &[Slice::full(), Slice::from(tile.clone())]);
            let part = Self::float_matmul(part, blocks.rows(tile));
            sum = Some(match sum {
                None => part,
                Some(sum) => Self::float_add(sum, part),
            });
        }
        let sum = sum.unwrap_or_else(|| wrap(vec![0.0; lines * columns], vec![lines, columns], DType::F32));
        Self::float_cast(sum, dtype.into())
    }

    fn packed_product_plus(
        x: FloatTensor<Self>,
        words: IntTensor<Self>,
        low: FloatTensor<Self>,
        high: FloatTensor<Self>,
        of: Stored,
        transposed: bool,
    ) -> FloatTensor<Self> {
        let dtype = x.dtype();
        let x = Self::float_cast(x, FloatDType::F32);
        let base = Self::packed_product(x, words, of, transposed);
        let thin = Self::product(low, high, false, transposed, 1.0, DType::F32);
        Self::float_cast(Self::float_add(base, thin), dtype.into())
    }

    fn add_squares(
        sums: FloatTensor<Self>,
        a: FloatTensor<Self>,
        b: FloatTensor<Self>,
        c: FloatTensor<Self>,
        d: FloatTensor<Self>,
        e: FloatTensor<Self>,
    ) -> FloatTensor<Self> {
        let (mut sums, shape) = f32s(sums);
        for x in [a, b, c, d, e] {
            // In as many parts as the GPU's, whose sums are short as well.
            let (x, _) = f32s(x);
            for (sum, part) in sums.iter_mut().zip(x.chunks(x.len().div_ceil(LANES).max(1))) {
                *sum += part.iter().map(|x| x * x).sum::<f32>();
            }
        }
        wrap(sums, shape, DType::F32)
    }

    fn adamw(
        value: FloatTensor<Self>,
        grad: FloatTensor<Self>,
        moments: FloatTensor<Self>,
        factor: FloatTensor<Self>,
        rule: AdamWRule,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        let (mut value, shape) = f32s(value);
        let (grad, _) = f32s(grad);
        let (mut moments, both) = f32s(moments);
        let (factor, _) = f32s(factor);
        let factor = factor.first().copied().unwrap_or(f32::NAN);
        let (first, second) = moments.split_at_mut(value.len());
        for (((value, grad), m), v) in value.iter_mut().zip(grad).zip(first).zip(second) {
            let grad = grad * factor;
            *m = *m * rule.beta1 + grad * rule.rest1;
            *v = *v * rule.beta2 + grad * grad * rule.rest2;
            let update = *m / (v.sqrt() / rule.correction + rule.epsilon);
            *value = *value * rule.keep - update * rule.step;
        }
        (wrap(value, shape, DType::F32), wrap(moments, both, DType::F32))
    }

    fn packed_rows(ids: IntTensor<Self>, words: IntTensor<Self>, kind: u32, columns: usize) -> FloatTensor<Self> {
        let blocks = Blocks::new(words, kind, columns);
        let ids = integers(ids);
        let mut out = vec![0.0; ids.len() * columns];
        for (row, id) in out.chunks_mut(columns).zip(&ids) {
            blocks.read(*id, row);
        }
        wrap(out, vec![ids.len(), columns], DType::F32)
    }
}

/// A packed matrix on the CPU.
struct Blocks {
    words: IntTensor<Flex>,
    /// Where its first word stands: some rows of a matrix are a view of it.
    start: usize,
    kind: GgmlType,
    columns: usize,
    /// Rows dequantised at a time: a MiB of numbers.
    tile: usize,
}

impl Blocks {
    fn new(words: IntTensor<Flex>, kind: u32, columns: usize) -> Self {
        let words = words.to_contiguous();
        let start = words.layout().start_offset();
        Self { words, start, kind: packed::kind(kind), columns, tile: ((256 << 10) / columns).max(16) }
    }

    fn rows(&self, rows: Range<usize>) -> FloatTensor<Flex> {
        let shape = vec![rows.len(), self.columns];
        let mut out = vec![0.0; rows.len() * self.columns];
        for (row, out) in rows.zip(out.chunks_mut(self.columns)) {
            self.read(row, out);
        }
        wrap(out, shape, DType::F32)
    }

    fn read(&self, row: usize, out: &mut [f32]) {
        let stride = packed::stride(self.kind, self.columns);
        let (from, to) = (row * stride, (row + 1) * stride);
        let words: &[u32] = self.words.storage();
        // A row may begin and end inside a word.
        let Some(words) = words.get(self.start + from / 4..self.start + to.div_ceil(4)) else { return };
        let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
        self.kind.dequantize(&bytes[from % 4..from % 4 + stride], out);
    }
}

fn integers(tensor: IntTensor<Flex>) -> Vec<usize> {
    let len = tensor.shape().num_elements();
    let tensor = tensor.to_contiguous();
    let start = tensor.layout().start_offset();
    match tensor.dtype() {
        DType::I32 => tensor.storage::<i32>()[start..start + len].iter().map(|id| *id as usize).collect(),
        _ => tensor.storage::<i64>()[start..start + len].iter().map(|id| *id as usize).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_stock_operations_hide_the_same_segments() {
        let (lines, group, queries, keys) = (2, 3, 4, 6);
        let shape = vec![2 * lines, group * queries, keys];
        let values = crate::rng::normal(&mut crate::rng::stream(8, 7), shape.iter().product(), 1.0);
        let scores = wrap(values, shape, DType::F32);
        let first = TensorData::new(vec![0i32, 0, 2, 2, 0, 3, 3, 5], [lines, queries]);
        let first = IntTensor::<Flex>::from_data(first);
        let (ours, _) = f32s(Flex::segment_softmax(scores.clone(), first.clone(), 0.7, DType::F32));
        let device = scores.device();
        let (stock, _) = f32s(stock::segment_softmax::<Flex>(scores, first, 0.7, DType::F32, &device));
        assert_eq!(ours.iter().filter(|p| **p == 0.0).count(), stock.iter().filter(|p| **p == 0.0).count());
        for (a, b) in ours.iter().zip(&stock) {
            assert!((a - b).abs() < 1e-6, "{ours:?}\n{stock:?}");
        }
    }
}
