//! Products with matrices in GGML's blocks. A few rows meet each row of the matrix as it is unpacked; for more of them some
//! rows at a time become a matrix, on all threads, and go through [`super::product`].

use std::ops::Range;

use burn::{
    backend::{Flex, TensorMetadata, ops::FloatTensorOps, tensor::IntTensor},
    tensor::{DType, FloatDType, Shape},
};

use super::{
    Numbers, give, numbers, over, plain,
    product::{self, FEW},
    rows::rewrite,
    wrap,
};
use crate::{kernels::packed, weights::ggml::GgmlType};

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

pub fn product(
    x: Numbers,
    words: IntTensor<Flex>,
    kind: u32,
    [rows, columns]: [usize; 2],
    transposed: bool,
) -> Numbers {
    let (words, lines, dtype) = (whole(words), x.shape()[0], x.dtype());
    let blocks = Blocks::new(&words, kind, columns);
    let x = Flex::float_cast(x, FloatDType::F32);
    let shape = vec![lines, if transposed { rows } else { columns }];
    if transposed && (1..=FEW).contains(&lines) {
        let x = plain(x);
        return give(wrap(blocks.few_rows(numbers(&x), rows), shape), dtype);
    }
    let width = x.shape()[1];
    let x = x.reshape(Shape::from(vec![1, lines, width]));
    let tile = (TILE / columns.max(1)).max(16);
    let tiles = (0..rows).step_by(tile).map(|from| from..(from + tile).min(rows));
    let out = if transposed { forward(&x, &blocks, rows, tiles) } else { back(&x, &blocks, tiles) };
    let out = out.map_or_else(
        || wrap(vec![0.0; shape.iter().product()], shape.clone()),
        |out| out.reshape(Shape::from(shape.clone())),
    );
    give(out, dtype)
}

/// `x·Wᵀ`, whose columns come tile by tile.
fn forward(
    x: &Numbers,
    blocks: &Blocks<'_>,
    rows: usize,
    mut tiles: impl Iterator<Item = Range<usize>>,
) -> Option<Numbers> {
    let times = |tile: Range<usize>| product::product(x.clone(), blocks.matrix(tile), false, true, DType::F32);
    let first = tiles.next()?;
    if first.len() == rows {
        return Some(times(first));
    }
    let lines = x.layout().shape()[1];
    let mut out = vec![0.0; lines * rows];
    for tile in std::iter::once(first).chain(tiles) {
        let part = plain(times(tile.clone()));
        let part = numbers(&part);
        over(&mut out, rows, |at, out| {
            let part = &part[at / rows * tile.len()..];
            for (out, part) in out.chunks_mut(rows).zip(part.chunks(tile.len())) {
                out[tile.clone()].copy_from_slice(part);
            }
        });
    }
    Some(wrap(out, vec![lines, rows]))
}

/// `x·W`, to which each tile adds.
fn back(x: &Numbers, blocks: &Blocks<'_>, tiles: impl Iterator<Item = Range<usize>>) -> Option<Numbers> {
    let times = |tile: Range<usize>| {
        let x = x.narrow(2, tile.start, tile.len());
        plain(product::product(x, blocks.matrix(tile), false, false, DType::F32))
    };
    tiles.map(times).reduce(|sum, part| {
        let part = numbers(&part);
        rewrite(sum, 1, |at, sum| sum.iter_mut().zip(&part[at..]).for_each(|(sum, part)| *sum += part))
    })
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
