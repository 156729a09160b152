//! From numbers to blocks, rounding as GGML's reference code does.

use half::f16;

use super::GgmlType;

impl GgmlType {
    /// Blocks of `values` (whole blocks: a rest is left out). `None` for the types that are only read.
    pub fn quantize(self, values: &[f32]) -> Option<Vec<u8>> {
        let block: fn(&[f32], &mut Vec<u8>) = match self {
            Self::F32 => |x, out| out.extend_from_slice(&x[0].to_le_bytes()),
            Self::F16 => |x, out| push_half(out, x[0]),
            Self::BF16 => |x, out| out.extend_from_slice(&half::bf16::from_f32(x[0]).to_le_bytes()),
            Self::Q8_0 => q8_0,
            Self::Q4_0 => q4_0,
            Self::Q4_1 => q4_1,
            _ => return None,
        };
        let mut out = Vec::with_capacity(values.len() / self.block() * self.block_bytes());
        for values in values.chunks_exact(self.block()) {
            block(values, &mut out);
        }
        Some(out)
    }
}

fn push_half(out: &mut Vec<u8>, value: f32) {
    out.extend_from_slice(&f16::from_f32(value).to_le_bytes());
}

fn inverse(d: f32) -> f32 {
    if d == 0.0 { 0.0 } else { 1.0 / d }
}

/// The first 16 numbers into the low halves of the bytes, the last 16 into the high halves.
fn push_nibbles(x: &[f32], out: &mut Vec<u8>, nibble: impl Fn(f32) -> u8) {
    let (low, high) = x.split_at(16);
    out.extend(low.iter().zip(high).map(|(low, high)| nibble(*low) | nibble(*high) << 4));
}

fn q8_0(x: &[f32], out: &mut Vec<u8>) {
    let d = x.iter().fold(0f32, |most, v| most.max(v.abs())) / 127.0;
    let id = inverse(d);
    push_half(out, d);
    out.extend(x.iter().map(|v| (v * id).round() as i8 as u8));
}

/// The number farthest from zero becomes -8 exactly, so its sign decides the scale's.
fn q4_0(x: &[f32], out: &mut Vec<u8>) {
    let most = x.iter().fold(0f32, |most, v| if v.abs() > most.abs() { *v } else { most });
    let d = most / -8.0;
    let id = inverse(d);
    push_half(out, d);
    push_nibbles(x, out, |v| ((v * id + 8.5) as u8).min(15));
}

fn q4_1(x: &[f32], out: &mut Vec<u8>) {
    let min = x.iter().fold(f32::INFINITY, |a, v| a.min(*v));
    let max = x.iter().fold(f32::NEG_INFINITY, |a, v| a.max(*v));
    let d = (max - min) / 15.0;
    let id = inverse(d);
    push_half(out, d);
    push_half(out, min);
    push_nibbles(x, out, |v| (((v - min) * id + 0.5) as u8).min(15));
}
