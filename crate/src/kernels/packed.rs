//! Frozen weights kept in GGML's blocks on the device: the products and look-ups that QLoRA (arXiv:2305.14314) needs,
//! dequantised a few rows at a time, never as a whole.

use std::ops::Range;

use burn::{
    backend::Dispatch,
    tensor::{DType, Device, Int, Tensor, TensorData},
};

use super::{KernelOps, Stored};
use crate::weights::ggml::GgmlType;

/// A matrix `[rows, columns]` in the blocks of a GGUF file, row by row.
#[derive(Debug, Clone)]
pub struct Packed {
    kind: GgmlType,
    rows: usize,
    columns: usize,
    /// The blocks' bytes, four to a number.
    words: Tensor<1, Int>,
}

impl Packed {
    /// Whether the blocks of this type can hold rows of so many numbers: whole blocks, read four numbers at a time.
    pub fn fits(kind: GgmlType, columns: usize) -> bool {
        columns > 0 && columns.is_multiple_of(kind.block().max(4)) && kind != GgmlType::F32
    }

    /// Hands the blocks' bytes to a device. `columns` must be such that [`Self::fits`].
    pub fn new(kind: GgmlType, [rows, columns]: [usize; 2], bytes: &[u8], device: &Device) -> Self {
        // One word more than needed: an unaligned read may look beyond the last block.
        let mut words: Vec<u32> = Vec::with_capacity(bytes.len() / 4 + 2);
        words.extend(bytes.chunks(4).map(|part| {
            let mut word = [0; 4];
            word[..part.len()].copy_from_slice(part);
            u32::from_le_bytes(word)
        }));
        words.push(0);
        let size = words.len();
        let device = device.clone().without_autodiff();
        let words = Tensor::from_data(TensorData::new(words, [size]), (&device, DType::U32));
        Self { kind, rows, columns, words }
    }

    pub fn kind(&self) -> GgmlType {
        self.kind
    }

    pub fn dims(&self) -> [usize; 2] {
        [self.rows, self.columns]
    }

    /// Bytes on the device.
    pub fn bytes(&self) -> u64 {
        self.words.dims()[0] as u64 * 4
    }

    /// `x·Wᵀ` for `x` `[n, columns]`; gives `[n, rows]`. Differentiable in `x`.
    pub fn linear(&self, x: Tensor<2>) -> Tensor<2> {
        self.product(x, true)
    }

    /// `g·W` for `g` `[n, rows]`; gives `[n, columns]`.
    pub fn back(&self, g: Tensor<2>) -> Tensor<2> {
        self.product(g, false)
    }

    /// [`super::adapted`] on these numbers.
    pub fn adapted(&self, x: Tensor<2>, a: Tensor<2>, b: Tensor<2>, scale: f32) -> Tensor<2> {
        Tensor::from_dispatch(Dispatch::packed_adapted(
            x.into_dispatch(),
            self.words.clone().into_dispatch(),
            a.into_dispatch(),
            b.into_dispatch(),
            self.blocks(),
            scale,
        ))
    }

    fn blocks(&self) -> Stored {
        Stored { kind: self.kind.id(), rows: self.rows, columns: self.columns }
    }

    fn product(&self, x: Tensor<2>, transposed: bool) -> Tensor<2> {
        Tensor::from_dispatch(Dispatch::packed_product(
            x.into_dispatch(),
            self.words.clone().into_dispatch(),
            self.blocks(),
            transposed,
        ))
    }

    /// Some of the rows. The first one must be even: blocks are whole numbers of 16 bits long, words of 32.
    pub fn slice(&self, rows: Range<usize>) -> Self {
        let stride = stride(self.kind, self.columns);
        let (from, to) = (rows.start * stride / 4, (rows.end * stride).div_ceil(4) + 1);
        let words = self.words.clone().narrow(0, from, to - from);
        Self { kind: self.kind, rows: rows.len(), columns: self.columns, words }
    }

    /// The rows of these numbers as f32, `[ids, columns]`.
    pub fn select(&self, ids: Tensor<1, Int>) -> Tensor<2> {
        Tensor::from_dispatch(Dispatch::packed_rows(
            ids.into_dispatch(),
            self.words.clone().into_dispatch(),
            self.kind.id(),
            self.columns,
        ))
    }

    /// The numbers of some rows, for [`Self::select`].
    pub fn ids(&self, rows: Range<usize>) -> Tensor<1, Int> {
        Tensor::arange(rows.start as i64..rows.end as i64, &self.words.device())
    }
}

/// Bytes of one row.
pub(super) fn stride(kind: GgmlType, columns: usize) -> usize {
    columns / kind.block() * kind.block_bytes()
}

/// The type with this number; F32 never occurs, as [`Packed`] does not take it.
pub(super) fn kind(id: u32) -> GgmlType {
    GgmlType::from_id(id).unwrap_or(GgmlType::F32)
}
