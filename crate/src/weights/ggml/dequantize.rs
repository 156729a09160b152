//! From blocks to numbers, in GGML's order of operations: the results are the same to the last bit.

use half::{bf16, f16};

use super::GgmlType;

fn half_at(bytes: &[u8], at: usize) -> f32 {
    f16::from_le_bytes([bytes[at], bytes[at + 1]]).to_f32()
}

impl GgmlType {
    /// Numbers of whole blocks. Stops at the end of the shorter of `bytes` and `out`.
    pub fn dequantize(self, bytes: &[u8], out: &mut [f32]) {
        let block: fn(&[u8], &mut [f32]) = match self {
            Self::F32 => |b, y| y[0] = f32::from_le_bytes([b[0], b[1], b[2], b[3]]),
            Self::F16 => |b, y| y[0] = half_at(b, 0),
            Self::BF16 => |b, y| y[0] = bf16::from_le_bytes([b[0], b[1]]).to_f32(),
            Self::Q8_0 => q8_0,
            Self::Q4_0 => q4_0,
            Self::Q4_1 => q4_1,
            Self::Q5_0 => q5_0,
            Self::Q5_1 => q5_1,
            Self::Q2_K => q2_k,
            Self::Q3_K => q3_k,
            Self::Q4_K => q4_k,
            Self::Q5_K => q5_k,
            Self::Q6_K => q6_k,
        };
        for (bytes, out) in bytes.chunks_exact(self.block_bytes()).zip(out.chunks_exact_mut(self.block())) {
            block(bytes, out);
        }
    }
}

// Each takes one block: its bytes, and room for its numbers.

fn q8_0(b: &[u8], y: &mut [f32]) {
    let d = half_at(b, 0);
    for (y, q) in y.iter_mut().zip(&b[2..]) {
        *y = f32::from(*q as i8) * d;
    }
}

/// The low halves of the bytes are the first 16 numbers, the high halves the last 16.
fn nibbles(qs: &[u8], y: &mut [f32], value: impl Fn(usize, u8) -> f32) {
    let (low, high) = y.split_at_mut(16);
    for (j, q) in qs.iter().enumerate() {
        low[j] = value(j, q & 15);
        high[j] = value(j + 16, q >> 4);
    }
}

fn q4_0(b: &[u8], y: &mut [f32]) {
    let d = half_at(b, 0);
    nibbles(&b[2..18], y, |_, q| f32::from(q as i8 - 8) * d);
}

fn q4_1(b: &[u8], y: &mut [f32]) {
    let (d, m) = (half_at(b, 0), half_at(b, 2));
    nibbles(&b[4..20], y, |_, q| f32::from(q) * d + m);
}

/// Bit `j` of `bits`, as the fifth bit of number `j`.
fn fifth(bits: &[u8], j: usize) -> u8 {
    (bits[j / 8] >> (j % 8) & 1) << 4
}

fn q5_0(b: &[u8], y: &mut [f32]) {
    let d = half_at(b, 0);
    nibbles(&b[6..22], y, |j, q| f32::from((q | fifth(&b[2..6], j)) as i8 - 16) * d);
}

fn q5_1(b: &[u8], y: &mut [f32]) {
    let (d, m) = (half_at(b, 0), half_at(b, 2));
    nibbles(&b[8..24], y, |j, q| f32::from(q | fifth(&b[4..8], j)) * d + m);
}

/// Two bits of number `i` of 256: each 32 bytes hold 128 numbers, the first 32 of them in the lowest bits.
fn two_bits(qs: &[u8], i: usize) -> u8 {
    qs[i / 128 * 32 + i % 32] >> (i % 128 / 32 * 2) & 3
}

/// Sixteen groups of 16, each with a scale and a minimum of 4 bits.
fn q2_k(b: &[u8], y: &mut [f32]) {
    let (scales, qs) = (&b[..16], &b[16..80]);
    let (d, dmin) = (half_at(b, 80), half_at(b, 82));
    for (i, y) in y.iter_mut().enumerate() {
        let scale = scales[i / 16];
        *y = d * f32::from(scale & 15) * f32::from(two_bits(qs, i)) - dmin * f32::from(scale >> 4);
    }
}

/// Sixteen groups of 16 with signed scales of 6 bits; the third bit of each number stands in a mask, inverted.
fn q3_k(b: &[u8], y: &mut [f32]) {
    let (mask, qs, scales) = (&b[..32], &b[32..96], &b[96..108]);
    let d = half_at(b, 108);
    for (i, y) in y.iter_mut().enumerate() {
        let g = i / 16;
        let low = if g < 8 { scales[g] & 15 } else { scales[g - 8] >> 4 };
        let high = scales[8 + g % 4] >> (g / 4 * 2) & 3;
        let scale = (low | high << 4) as i8 - 32;
        let third = if mask[i % 32] >> (i / 32) & 1 == 1 { 0 } else { 4 };
        *y = d * f32::from(scale) * f32::from(two_bits(qs, i) as i8 - third);
    }
}

/// Scale and minimum (6 bits each) of group `j` of eight.
fn scale_min(s: &[u8], j: usize) -> (f32, f32) {
    let (scale, min) = if j < 4 {
        (s[j] & 63, s[j + 4] & 63)
    } else {
        (s[j + 4] & 15 | s[j - 4] >> 6 << 4, s[j + 4] >> 4 | s[j] >> 6 << 4)
    };
    (f32::from(scale), f32::from(min))
}

/// Eight groups of 32: `value` has the four bits of each number and its place in the block.
fn groups(b: &[u8], qs: &[u8], y: &mut [f32], value: impl Fn(usize, u8) -> u8) {
    let (d, dmin) = (half_at(b, 0), half_at(b, 2));
    for (j, y) in y.chunks_exact_mut(32).enumerate() {
        let (scale, min) = scale_min(&b[4..16], j);
        let (scale, min) = (d * scale, dmin * min);
        for (l, y) in y.iter_mut().enumerate() {
            let q = qs[j / 2 * 32 + l] >> (j % 2 * 4) & 15;
            *y = scale * f32::from(value(j * 32 + l, q)) - min;
        }
    }
}

fn q4_k(b: &[u8], y: &mut [f32]) {
    groups(b, &b[16..144], y, |_, q| q);
}

fn q5_k(b: &[u8], y: &mut [f32]) {
    let high = &b[16..48];
    groups(b, &b[48..176], y, |i, q| q | (high[i % 32] >> (i / 32) & 1) << 4);
}

/// Sixteen groups of 16 with signed scales of 8 bits.
fn q6_k(b: &[u8], y: &mut [f32]) {
    let (low, high, scales) = (&b[..128], &b[128..192], &b[192..208]);
    let d = half_at(b, 208);
    for (i, y) in y.iter_mut().enumerate() {
        // Of each half's 128 numbers, the first and second 32 stand in the low bits of two runs, the others in the high.
        let (half, within) = (i / 128, i % 128);
        let q = low[half * 64 + within % 64] >> (within / 64 * 4) & 15;
        let q = q | (high[half * 32 + i % 32] >> (within / 32 * 2) & 3) << 4;
        *y = d * f32::from(scales[i / 16] as i8) * f32::from(q as i8 - 32);
    }
}
