//! From blocks to numbers, in GGML's order of operations: the results are the same to the last bit. Blocks and runs have
//! known lengths, so that their loops become vectors: a product with packed weights spends its time here.

use super::GgmlType;

impl GgmlType {
    /// Numbers of whole blocks. Stops at the end of the shorter of `bytes` and `out`.
    pub fn dequantize(self, bytes: &[u8], out: &mut [f32]) {
        match self {
            Self::F32 => each(bytes, out, |b: &[u8; 4], y: &mut [f32; 1]| y[0] = f32::from_le_bytes(*b)),
            Self::F16 => each(bytes, out, |b: &[u8; 2], y: &mut [f32; 1]| y[0] = widened(u16::from_le_bytes(*b))),
            Self::BF16 => each(bytes, out, |b: &[u8; 2], y: &mut [f32; 1]| y[0] = bf16(u16::from_le_bytes(*b))),
            Self::Q8_0 => each(bytes, out, q8_0),
            Self::Q4_0 => each(bytes, out, q4_0),
            Self::Q4_1 => each(bytes, out, q4_1),
            Self::Q5_0 => each(bytes, out, q5_0),
            Self::Q5_1 => each(bytes, out, q5_1),
            Self::Q2_K => each(bytes, out, q2_k),
            Self::Q3_K => each(bytes, out, q3_k),
            Self::Q4_K => each(bytes, out, q4_k),
            Self::Q5_K => each(bytes, out, q5_k),
            Self::Q6_K => each(bytes, out, q6_k),
        }
    }
}

/// Block by block: `BYTES` become `NUMBERS`.
fn each<const BYTES: usize, const NUMBERS: usize>(
    bytes: &[u8],
    out: &mut [f32],
    block: impl Fn(&[u8; BYTES], &mut [f32; NUMBERS]),
) {
    let (blocks, _) = bytes.as_chunks::<BYTES>();
    let (numbers, _) = out.as_chunks_mut::<NUMBERS>();
    blocks.iter().zip(numbers).for_each(|(b, y)| block(b, y));
}

/// An f16 as f32. Without a branch, as `half` has several.
#[inline(always)]
fn widened(half: u16) -> f32 {
    let (sign, rest) = (u32::from(half & 0x8000) << 16, u32::from(half & 0x7fff));
    // Exponents count from 15 there and from 127 here; the highest, of what is infinite or no number, is the highest again.
    let normal = (rest << 13) + (112 << 23);
    let quiet = if rest > 0x7c00 { 1 << 22 } else { 0 };
    let highest = (normal + (112 << 23)) | quiet;
    // The lowest is that of whole multiples of 2⁻²⁴.
    let lowest = (rest as i32 as f32 * (1.0 / 16_777_216.0)).to_bits();
    let bits = if rest >= 0x7c00 { highest } else { normal };
    f32::from_bits(sign | if rest < 0x400 { lowest } else { bits })
}

#[inline(always)]
fn bf16(half: u16) -> f32 {
    let quiet = if half & 0x7fff > 0x7f80 { 0x40 } else { 0 };
    f32::from_bits(u32::from(half | quiet) << 16)
}

#[inline(always)]
fn half_at(bytes: &[u8], at: usize) -> f32 {
    widened(u16::from_le_bytes([bytes[at], bytes[at + 1]]))
}

// Each takes one block: its bytes, and room for its numbers.

fn q8_0(b: &[u8; 34], y: &mut [f32; 32]) {
    let d = half_at(b, 0);
    for (y, q) in y.iter_mut().zip(&b[2..]) {
        *y = f32::from(*q as i8) * d;
    }
}

/// The low halves of the bytes are the first 16 numbers, the high halves the last 16.
#[inline(always)]
fn nibbles(qs: &[u8], y: &mut [f32; 32], value: impl Fn(usize, u8) -> f32) {
    let (low, high) = y.split_at_mut(16);
    for (j, ((q, low), high)) in qs.iter().zip(low).zip(high).enumerate() {
        *low = value(j, q & 15);
        *high = value(j + 16, q >> 4);
    }
}

fn q4_0(b: &[u8; 18], y: &mut [f32; 32]) {
    let d = half_at(b, 0);
    nibbles(&b[2..18], y, |_, q| f32::from(q as i8 - 8) * d);
}

fn q4_1(b: &[u8; 20], y: &mut [f32; 32]) {
    let (d, m) = (half_at(b, 0), half_at(b, 2));
    nibbles(&b[4..20], y, |_, q| f32::from(q) * d + m);
}

/// Bit `j` of `bits`, as the fifth bit of number `j`.
#[inline(always)]
fn fifth(bits: &[u8], j: usize) -> u8 {
    (bits[j / 8] >> (j % 8) & 1) << 4
}

fn q5_0(b: &[u8; 22], y: &mut [f32; 32]) {
    let d = half_at(b, 0);
    nibbles(&b[6..22], y, |j, q| f32::from((q | fifth(&b[2..6], j)) as i8 - 16) * d);
}

fn q5_1(b: &[u8; 24], y: &mut [f32; 32]) {
    let (d, m) = (half_at(b, 0), half_at(b, 2));
    nibbles(&b[8..24], y, |j, q| f32::from(q | fifth(&b[4..8], j)) * d + m);
}

/// Sixteen groups of 16: of each its number, the 16 bytes that its numbers stand in with two bits each, and by how much
/// those are to be shifted down. Each 32 bytes hold 128 numbers, the first 32 of them in the lowest bits.
#[inline(always)]
fn two_bits(qs: &[u8], y: &mut [f32; 256], group: impl Fn(usize, &[u8], usize, &mut [f32])) {
    for (g, y) in y.chunks_exact_mut(16).enumerate() {
        let from = g / 8 * 32 + g % 2 * 16;
        group(g, &qs[from..from + 16], g % 8 / 2 * 2, y);
    }
}

/// Sixteen groups of 16, each with a scale and a minimum of 4 bits.
fn q2_k(b: &[u8; 84], y: &mut [f32; 256]) {
    let (scales, qs) = (&b[..16], &b[16..80]);
    let (d, dmin) = (half_at(b, 80), half_at(b, 82));
    two_bits(qs, y, |g, qs, shift, y| {
        let (scale, min) = (d * f32::from(scales[g] & 15), dmin * f32::from(scales[g] >> 4));
        for (y, q) in y.iter_mut().zip(qs) {
            *y = scale * f32::from(q >> shift & 3) - min;
        }
    });
}

/// Sixteen groups of 16 with signed scales of 6 bits; the third bit of each number stands in a mask, inverted.
fn q3_k(b: &[u8; 110], y: &mut [f32; 256]) {
    let (mask, qs, scales) = (&b[..32], &b[32..96], &b[96..108]);
    let d = half_at(b, 108);
    two_bits(qs, y, |g, qs, shift, y| {
        let low = if g < 8 { scales[g] & 15 } else { scales[g - 8] >> 4 };
        let high = scales[8 + g % 4] >> (g / 4 * 2) & 3;
        let scale = d * f32::from((low | high << 4) as i8 - 32);
        let mask = &mask[g % 2 * 16..][..16];
        for ((y, q), mask) in y.iter_mut().zip(qs).zip(mask) {
            let third = mask >> (g / 2) & 1;
            *y = scale * f32::from((q >> shift & 3 | third << 2) as i8 - 4);
        }
    });
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

/// Eight groups of 32: `value` has the four bits of each number, its group, and its place there.
#[inline(always)]
fn groups(b: &[u8], qs: &[u8], y: &mut [f32; 256], value: impl Fn(u8, usize, usize) -> u8) {
    let (d, dmin) = (half_at(b, 0), half_at(b, 2));
    for (j, y) in y.chunks_exact_mut(32).enumerate() {
        let (scale, min) = scale_min(&b[4..16], j);
        let (scale, min) = (d * scale, dmin * min);
        let qs = &qs[j / 2 * 32..][..32];
        for (l, (y, q)) in y.iter_mut().zip(qs).enumerate() {
            *y = scale * f32::from(value(q >> (j % 2 * 4) & 15, j, l)) - min;
        }
    }
}

fn q4_k(b: &[u8; 144], y: &mut [f32; 256]) {
    groups(b, &b[16..144], y, |q, _, _| q);
}

fn q5_k(b: &[u8; 176], y: &mut [f32; 256]) {
    let high = &b[16..48];
    groups(b, &b[48..176], y, |q, j, l| q | (high[l] >> j & 1) << 4);
}

/// Sixteen groups of 16 with signed scales of 8 bits. Of each half's 128 numbers, the first and second 32 stand in the low
/// bits of two runs, the others in the high.
fn q6_k(b: &[u8; 210], y: &mut [f32; 256]) {
    let (low, high, scales) = (&b[..128], &b[128..192], &b[192..208]);
    let d = half_at(b, 208);
    for (g, y) in y.chunks_exact_mut(16).enumerate() {
        let (half, within) = (g / 8, g % 8);
        let low = &low[half * 64 + within % 4 * 16..][..16];
        let high = &high[half * 32 + g % 2 * 16..][..16];
        let scale = d * f32::from(scales[g] as i8);
        for ((y, low), high) in y.iter_mut().zip(low).zip(high) {
            let q = low >> (within / 4 * 4) & 15 | (high >> (within / 2 * 2) & 3) << 4;
            *y = scale * f32::from(q as i8 - 32);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_number_of_16_bits_is_what_the_half_crate_makes_of_it() {
        for bits in 0..=u16::MAX {
            assert_eq!(widened(bits).to_bits(), half::f16::from_bits(bits).to_f32().to_bits(), "f16 {bits:#x}");
            assert_eq!(bf16(bits).to_bits(), half::bf16::from_bits(bits).to_f32().to_bits(), "bf16 {bits:#x}");
        }
    }
}
