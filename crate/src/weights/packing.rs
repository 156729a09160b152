//! Which weights of a frozen base stay in blocks on the device (QLoRA, arXiv:2305.14314).

use super::{Weights, ggml::GgmlType};
use crate::kernels::Packed;

/// How a base is held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Packing {
    /// In 32-bit numbers.
    Dense,
    /// As its GGUF file has it, where that is quantised.
    Stored,
    /// The blocks' linear layers quantised to this type while they are read, the embedding and the head as stored.
    Quantized(GgmlType),
}

impl Packing {
    /// The blocks that a weight is kept in, or none.
    pub fn of(self, weights: &Weights, name: &str) -> Option<GgmlType> {
        let columns = match weights.shape(name)? {
            [_, columns] => *columns,
            _ => return None,
        };
        // A classification head is trained in full.
        if name == "score.weight" {
            return None;
        }
        let stored = weights.ggml_type(name)?;
        let kind = match self {
            Self::Dense => return None,
            Self::Quantized(kind) if name.ends_with("_proj.weight") => kind,
            Self::Stored if !stored.is_quantized() => return None,
            Self::Stored | Self::Quantized(_) => stored,
        };
        Packed::fits(kind, columns).then_some(kind)
    }

    /// Bytes that a weight of this shape takes on the device.
    pub fn bytes(self, weights: &Weights, name: &str, shape: &[usize]) -> u64 {
        let elements: u64 = shape.iter().map(|n| *n as u64).product();
        let packed = self.of(weights, name).and_then(|kind| kind.bytes(elements));
        packed.unwrap_or(elements * size_of::<f32>() as u64)
    }
}
