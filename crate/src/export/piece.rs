//! Pieces of files: bytes that are ready, or rows of a weight that are read from the device when their turn comes.

use std::{collections::VecDeque, ops::Range};

use crate::{
    error::{Error, Result},
    event::ExportDType,
    model::Llama,
    weights::{ggml::GgmlType, read_f32, safetensors::DType},
};

/// Numbers a piece at most, and so 64 MiB in f32: what an export holds in memory at a time.
const MOST: usize = 16 << 20;

/// A file and what it is made of.
pub(super) struct Planned {
    pub name: String,
    pub pieces: VecDeque<Piece>,
}

pub(super) enum Piece {
    Bytes(Vec<u8>),
    Rows(Rows),
}

/// Some rows of a weight.
pub(super) struct Rows {
    /// The weight's own name.
    name: String,
    rows: Range<usize>,
    columns: usize,
    vector: bool,
    dtype: ExportDType,
    /// Rows of an attention head, where they are to stand as llama.cpp wants them.
    head: Option<usize>,
}

impl Planned {
    pub fn new(name: impl Into<String>) -> Self {
        Self { name: name.into(), pieces: VecDeque::new() }
    }

    /// A file that is ready.
    pub fn ready(name: impl Into<String>, bytes: Vec<u8>) -> Self {
        Self { name: name.into(), pieces: VecDeque::from([Piece::Bytes(bytes)]) }
    }

    /// Bytes that are still to be handed out.
    pub fn bytes(&self) -> u64 {
        self.pieces.iter().map(Piece::len).sum()
    }

    pub fn push(&mut self, bytes: Vec<u8>) {
        self.pieces.push_back(Piece::Bytes(bytes));
    }

    /// Adds the weight `name` of this shape.
    pub fn tensor(&mut self, name: &str, shape: &[usize], dtype: ExportDType, head: Option<usize>) {
        let (rows, columns) = matrix(shape);
        // Whole heads: their rows change places.
        let head_rows = head.unwrap_or(1).max(1);
        let step = (MOST / columns.max(1) / head_rows).max(1) * head_rows;
        for start in (0..rows).step_by(step) {
            let rows = start..rows.min(start + step);
            let vector = shape.len() == 1;
            self.pieces.push_back(Piece::Rows(Rows { name: name.to_owned(), rows, columns, vector, dtype, head }));
        }
    }
}

/// Rows and columns; a vector is one row.
fn matrix(shape: &[usize]) -> (usize, usize) {
    match shape {
        [rows, columns] => (*rows, *columns),
        _ => (1, shape.iter().product()),
    }
}

impl Piece {
    fn len(&self) -> u64 {
        match self {
            Self::Bytes(bytes) => bytes.len() as u64,
            Self::Rows(rows) => rows.dtype.bytes(rows.rows.len() as u64 * rows.columns as u64),
        }
    }

    pub async fn bytes(self, model: &mut Llama) -> Result<Vec<u8>> {
        let rows = match self {
            Self::Bytes(bytes) => return Ok(bytes),
            Self::Rows(rows) => rows,
        };
        let tensor = model
            .rows(&rows.name, rows.rows.clone())
            .ok_or_else(|| Error::weights("the model", Some(&rows.name), "this tensor", "none"))?;
        let mut values = read_f32(tensor).await?;
        if let Some(head) = rows.head {
            // A bias is one row here: its numbers change places as the rows of its weight do.
            values = interleaved(&values, head, if rows.vector { 1 } else { rows.columns });
        }
        let bytes = rows.dtype.ggml().quantize(&values);
        bytes.ok_or_else(|| Error::weights("the model", Some(&rows.name), "a type that is written", "another"))
    }
}

/// The rows of every head with the halves of its rotary pairs beside each other: Hugging Face pairs row `i` with
/// `i + head / 2`, llama.cpp row `2i` with `2i + 1`.
fn interleaved(values: &[f32], head: usize, columns: usize) -> Vec<f32> {
    let mut out = Vec::with_capacity(values.len());
    for head in values.chunks(head * columns) {
        let (first, second) = head.split_at(head.len() / 2);
        for (a, b) in first.chunks(columns).zip(second.chunks(columns)) {
            out.extend_from_slice(a);
            out.extend_from_slice(b);
        }
    }
    out
}

impl ExportDType {
    pub(super) fn ggml(self) -> GgmlType {
        match self {
            Self::F32 => GgmlType::F32,
            Self::F16 => GgmlType::F16,
            Self::Bf16 => GgmlType::BF16,
            Self::Q8_0 => GgmlType::Q8_0,
        }
    }

    /// As safetensors stores it, where it can.
    pub(super) fn safetensors(self) -> Option<DType> {
        match self {
            Self::F32 => Some(DType::F32),
            Self::F16 => Some(DType::F16),
            Self::Bf16 => Some(DType::Bf16),
            Self::Q8_0 => None,
        }
    }

    /// Of so many numbers, in whole blocks.
    pub(super) fn bytes(self, elements: u64) -> u64 {
        self.ggml().bytes(elements).unwrap_or_default()
    }
}

impl From<DType> for ExportDType {
    fn from(dtype: DType) -> Self {
        match dtype {
            DType::F32 => Self::F32,
            DType::F16 => Self::F16,
            DType::Bf16 => Self::Bf16,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heads_are_interleaved_as_llama_cpp_pairs_them() {
        // Two heads of four rows, two columns.
        let rows: Vec<f32> = (0..8).flat_map(|row| [row as f32, row as f32 + 0.5]).collect();
        let out: Vec<f32> = interleaved(&rows, 4, 2).chunks(2).map(|row| row[0]).collect();
        assert_eq!(out, [0.0, 2.0, 1.0, 3.0, 4.0, 6.0, 5.0, 7.0]);
    }

    #[test]
    fn a_large_tensor_is_cut_at_whole_heads() {
        let mut file = Planned::new("x");
        let shape = [96 * 1000, 576];
        file.tensor("w", &shape, ExportDType::F16, Some(64));
        assert!(file.pieces.len() > 2);
        assert_eq!(file.bytes(), 2 * shape.iter().product::<usize>() as u64);
        let mut next = 0;
        for piece in &file.pieces {
            let Piece::Rows(rows) = piece else { panic!("rows") };
            assert_eq!(rows.rows.start, next);
            assert!(rows.rows.start % 64 == 0 && rows.rows.len() * 576 <= MOST);
            next = rows.rows.end;
        }
        assert_eq!(next, shape[0]);
    }
}
