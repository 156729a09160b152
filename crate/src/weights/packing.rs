//! Which weights of a frozen base stay in blocks (QLoRA, arXiv:2305.14314) or in 16 bits on the device.

use super::{Weights, ggml::GgmlType};
use crate::kernels::Packed;

/// How a base is held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Packing {
    /// In 32-bit numbers, as what is trained must be.
    Dense,
    /// In numbers, 32-bit ones or 16-bit ones.
    Unpacked,
    /// As its GGUF file has it, where that is quantised.
    Stored,
    /// The blocks' linear layers quantised to this type while they are read, the embedding and the head as stored.
    Quantized(GgmlType),
}

impl Packing {
    /// The blocks that a weight is kept in, or none. With `half` the matrices that are in no others are in 16 bits: those
    /// of the file, or F16.
    pub fn of(self, weights: &Weights, name: &str, half: bool) -> Option<GgmlType> {
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
            Self::Stored if stored.is_quantized() => stored,
            Self::Quantized(_) if stored != GgmlType::F32 => stored,
            _ if !half => return None,
            _ if stored == GgmlType::BF16 => stored,
            _ => GgmlType::F16,
        };
        Packed::fits(kind, columns).then_some(kind)
    }

    /// Bytes that a weight of this shape takes on the device.
    pub fn bytes(self, weights: &Weights, name: &str, shape: &[usize], half: bool) -> u64 {
        let elements: u64 = shape.iter().map(|n| *n as u64).product();
        let packed = self.of(weights, name, half).and_then(|kind| kind.bytes(elements));
        packed.unwrap_or(elements * size_of::<f32>() as u64)
    }
}
