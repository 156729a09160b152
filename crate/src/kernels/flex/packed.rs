//! Products with matrices in GGML's blocks. A few rows meet each row of the matrix as it is unpacked; for more of them some
//! rows at a time become a matrix, on all threads, and go through [`super::gemm`].

use std::ops::Range;

use burn::{
    backend::{Flex, TensorMetadata, ops::FloatTensorOps, tensor::IntTensor},
    tensor::{DType, FloatDType, Shape},
};

use super::{
    Numbers,
    gemm::{self, Term},
    give, numbers, one_of, over, plain,
    product::{self, FEW},
    rows, wrap,
};
use crate::{
    kernels::{Stored, packed},
    weights::ggml::GgmlType,
};

/// Numbers that are unpacked at a time: a MiB of them.
const TILE: usize = 256 << 10;

/// Rows that are unpacked together for a few rows of the other operand.
const TOGETHER: usize = 4;

/// A matrix in blocks.
struct Blocks<'a> {
    words: &'a [u32],
    kind: GgmlType,
    columns: usize,
}

impl<'a> Blocks<'a> {
    /// `words` must stand in one piece, see [`whole`].
    fn new(words: &'a IntTensor<Flex>, kind: u32, columns: usize) -> Self {
        Self { words: &words.storage::<u32>()[words.layout().start_offset()..], kind: packed::kind(kind), columns }
    }

    /// Row `row` as numbers; nothing where there is none. `bytes` is room for its blocks.
    fn read(&self, row: usize, bytes: &mut Vec<u8>, out: &mut [f32]) {
        let stride = packed::stride(self.kind, self.columns);
        let from = row.saturating_mul(stride);
        // A row may begin and end inside a word.
        let Some(words) = self.words.get(from / 4..from.saturating_add(stride).div_ceil(4)) else { return };
        bytes.resize(words.len() * 4, 0);
        bytes.as_chunks_mut::<4>().0.iter_mut().zip(words).for_each(|(to, word)| *to = word.to_le_bytes());
        self.kind.dequantize(&bytes[from % 4..from % 4 + stride], out);
    }

    /// Many rows, the `at`th of them number `row(at)`.
    fn unpack(&self, count: usize, row: impl Fn(usize) -> usize + Send + Sync) -> Vec<f32> {
        let mut out = vec![0.0; count * self.columns];
        over(&mut out, self.columns, |at, part| {
            let mut bytes = Vec::new();
            for (next, out) in part.chunks_mut(self.columns).enumerate() {
                self.read(row(at / self.columns + next), &mut bytes, out);
            }
        });
        out
    }

    /// Some rows as a batch of one matrix.
    fn matrix(&self, rows: Range<usize>) -> Numbers {
        let shape = vec![1, rows.len(), self.columns];
        wrap(self.unpack(rows.len(), |at| rows.start + at), shape)
    }

    /// `x·Wᵀ` for few rows of `x`.
    fn few_rows(&self, x: &[f32], rows: usize) -> Vec<f32> {
        let lines = x.len() / self.columns;
        product::by_rows(lines, rows, self.columns, |first, out| {
            let (mut bytes, mut matrix) = (Vec::new(), vec![0.0; TOGETHER * self.columns]);
            for (block, out) in out.chunks_mut(TOGETHER * lines).enumerate() {
                let matrix = &mut matrix[..out.len() / lines * self.columns];
                for (next, row) in matrix.chunks_mut(self.columns).enumerate() {
                    self.read(first + block * TOGETHER + next, &mut bytes, row);
                }
                product::dots(x, matrix, self.columns, out);
            }
        })
    }
}

/// Some rows of a matrix are a view of its words: that needs no copy.
fn whole(words: IntTensor<Flex>) -> IntTensor<Flex> {
    if words.is_contiguous() { words } else { words.to_contiguous() }
}

/// See [`KernelOps::packed_product_plus`](crate::kernels::KernelOps::packed_product_plus); `more` are its `low` and `high`.
pub fn product(
    x: Numbers,
    words: IntTensor<Flex>,
    of: Stored,
    transposed: bool,
    more: Option<[Numbers; 2]>,
) -> Numbers {
    let (words, lines, dtype) = (whole(words), x.shape()[0], x.dtype());
    let blocks = Blocks::new(&words, of.kind, of.columns);
    let x = Flex::float_cast(x, FloatDType::F32);
    let more = more.map(|both| both.map(|x| one_of(Flex::float_cast(x, FloatDType::F32))));
    if transposed && (1..=FEW).contains(&lines) {
        let x = plain(x);
        let out = wrap(blocks.few_rows(numbers(&x), of.rows), vec![1, lines, of.rows]);
        let out = match more {
            Some([low, high]) => rows::sum(out, product::product(low, high, false, true, 1.0)),
            None => out,
        };
        return give(out.reshape(Shape::from(vec![lines, of.rows])), dtype);
    }
    let shape = [1, lines, of.outputs(transposed)];
    let x = one_of(x);
    let mut out = vec![0.0; shape.iter().product()];
    let tile = (TILE / of.columns.max(1)).max(16);
    for from in (0..of.rows).step_by(tile) {
        let rows = from..(from + tile).min(of.rows);
        let matrix = blocks.matrix(rows.clone());
        // A tile of rows is columns of `x·Wᵀ`, and one term of all of `x·W`.
        let (a, b, first) = match transposed {
            true => (x.clone(), matrix.transpose(1, 2), from),
            false => (x.narrow(2, from, rows.len()), matrix, 0),
        };
        if let Some(term) = Term::new(&a, &b, 1.0) {
            gemm::put(&mut out, shape, first, term, !transposed && from > 0);
        }
    }
    if let Some([low, high]) = more {
        let high = if transposed { high.transpose(1, 2) } else { high };
        if let Some(term) = Term::new(&low, &high, 1.0) {
            gemm::put(&mut out, shape, 0, term, true);
        }
    }
    give(wrap(out, shape[1..].to_vec()), dtype)
}

pub fn rows(ids: IntTensor<Flex>, words: IntTensor<Flex>, kind: u32, columns: usize) -> Numbers {
    let (ids, words) = (integers(ids), whole(words));
    let out = Blocks::new(&words, kind, columns).unpack(ids.len(), |at| ids[at]);
    wrap(out, vec![ids.len(), columns])
}

pub fn integers(tensor: IntTensor<Flex>) -> Vec<usize> {
    let tensor = tensor.to_contiguous();
    match tensor.dtype() {
        DType::I32 => tensor.storage::<i32>().iter().map(|id| *id as usize).collect(),
        _ => tensor.storage::<i64>().iter().map(|id| *id as usize).collect(),
    }
}
