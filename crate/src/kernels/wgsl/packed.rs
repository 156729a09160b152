//! Reading GGML's blocks in WGSL: `w4(row, column)` is four neighbouring numbers of the matrix in the words of `B`.

use crate::weights::ggml::GgmlType;

/// Blocks are whole numbers of 16 bits long, so a word may lie across two of `B`'s.
const READERS: &str = "
fn u8at(at: u32) -> u32 { return (B[at / 4u] >> ((at & 3u) * 8u)) & 255u; }
fn f16at(at: u32) -> f32 { return unpack2x16float(B[at / 4u] >> ((at & 2u) * 8u)).x; }
fn u32at(at: u32) -> u32 {
  let word = B[at / 4u];
  if ((at & 2u) == 0u) { return word; }
  return (word >> 16u) | (B[at / 4u + 1u] << 16u);
}
fn bytes(word: u32) -> vec4u { return (vec4u(word) >> vec4u(0u, 8u, 16u, 24u)) & vec4u(255u); }
fn signed(word: u32) -> vec4f { return vec4f((vec4i(i32(word)) << vec4u(24u, 16u, 8u, 0u)) >> vec4u(24u)); }
// Each of four numbers' bit, moved to place `to`.
fn bits(word: u32, places: vec4u, to: u32) -> vec4u { return ((vec4u(word) >> places) & vec4u(1u)) << vec4u(to); }
";

/// `w4` for matrices with rows of `K` numbers (`inner` names the variable in `size`).
pub fn reader(kind: GgmlType, inner: &str) -> String {
    // `at` is the block's first byte, `e` the number's place in the block.
    let body = match kind {
        GgmlType::F32 => "return vec4f(bitcast<f32>(B[at / 4u]));",
        GgmlType::F16 => "return vec4f(unpack2x16float(B[at / 4u]), unpack2x16float(B[at / 4u + 1u]));",
        GgmlType::BF16 => {
            "let w = vec2u(B[at / 4u], B[at / 4u + 1u]);
  return bitcast<vec4f>(vec4u(w.x << 16u, w.x & 0xffff0000u, w.y << 16u, w.y & 0xffff0000u));"
        }
        GgmlType::Q8_0 => "return signed(u32at(at + 2u + e)) * f16at(at);",
        GgmlType::Q4_0 => {
            "let q = bytes(u32at(at + 2u + (e & 15u)) >> (e / 16u * 4u)) & vec4u(15u);
  return (vec4f(q) - 8f) * f16at(at);"
        }
        GgmlType::Q4_1 => {
            "let q = bytes(u32at(at + 4u + (e & 15u)) >> (e / 16u * 4u)) & vec4u(15u);
  return vec4f(q) * f16at(at) + f16at(at + 2u);"
        }
        GgmlType::Q5_0 => {
            "let q = bytes(u32at(at + 6u + (e & 15u)) >> (e / 16u * 4u)) & vec4u(15u);
  return (vec4f(q | bits(u32at(at + 2u), vec4u(e) + vec4u(0u, 1u, 2u, 3u), 4u)) - 16f) * f16at(at);"
        }
        GgmlType::Q5_1 => {
            "let q = bytes(u32at(at + 8u + (e & 15u)) >> (e / 16u * 4u)) & vec4u(15u);
  return vec4f(q | bits(u32at(at + 4u), vec4u(e) + vec4u(0u, 1u, 2u, 3u), 4u)) * f16at(at) + f16at(at + 2u);"
        }
        GgmlType::Q2_K => {
            "let q = (bytes(u32at(at + 16u + e / 128u * 32u + e % 32u)) >> vec4u(e % 128u / 32u * 2u)) & vec4u(3u);
  let scale = u8at(at + e / 16u);
  return f16at(at + 80u) * f32(scale & 15u) * vec4f(q) - f16at(at + 82u) * f32(scale >> 4u);"
        }
        GgmlType::Q3_K => {
            "let q = (bytes(u32at(at + 32u + e / 128u * 32u + e % 32u)) >> vec4u(e % 128u / 32u * 2u)) & vec4u(3u);
  let third = (bytes(u32at(at + e % 32u)) >> vec4u(e / 32u)) & vec4u(1u);
  let g = e / 16u;
  let low = (u8at(at + 96u + g % 8u) >> (g / 8u * 4u)) & 15u;
  let high = (u8at(at + 104u + g % 4u) >> (g / 4u * 2u)) & 3u;
  let scale = f32(i32(low | (high << 4u)) - 32);
  return f16at(at + 108u) * scale * (vec4f(q) + 4f * vec4f(third) - 4f);"
        }
        GgmlType::Q4_K => {
            "let q = bytes(u32at(at + 16u + e / 64u * 32u + e % 32u) >> (e / 32u % 2u * 4u)) & vec4u(15u);
  let s = scale_min(at + 4u, e / 32u);
  return f16at(at) * s.x * vec4f(q) - f16at(at + 2u) * s.y;"
        }
        GgmlType::Q5_K => {
            "let q = bytes(u32at(at + 48u + e / 64u * 32u + e % 32u) >> (e / 32u % 2u * 4u)) & vec4u(15u);
  let high = ((bytes(u32at(at + 16u + e % 32u)) >> vec4u(e / 32u)) & vec4u(1u)) << vec4u(4u);
  let s = scale_min(at + 4u, e / 32u);
  return f16at(at) * s.x * vec4f(q | high) - f16at(at + 2u) * s.y;"
        }
        GgmlType::Q6_K => {
            "let half = e / 128u; let within = e % 128u;
  let low = (bytes(u32at(at + half * 64u + within % 64u)) >> vec4u(within / 64u * 4u)) & vec4u(15u);
  let high = (bytes(u32at(at + 128u + half * 32u + e % 32u)) >> vec4u(within / 32u * 2u)) & vec4u(3u);
  let scale = f32(i32(u8at(at + 192u + e / 16u) << 24u) >> 24u);
  return f16at(at + 208u) * scale * (vec4f(low | (high << vec4u(4u))) - 32f);"
        }
    };
    let scales = match kind {
        GgmlType::Q4_K | GgmlType::Q5_K => {
            "
// Six bits each of the scale and the minimum of group j of eight.
fn scale_min(s: u32, j: u32) -> vec2f {
  if (j < 4u) { return vec2f(f32(u8at(s + j) & 63u), f32(u8at(s + j + 4u) & 63u)); }
  let both = u8at(s + j + 4u);
  return vec2f(f32((both & 15u) | (u8at(s + j - 4u) >> 6u << 4u)), f32((both >> 4u) | (u8at(s + j) >> 6u << 4u)));
}"
        }
        _ => "",
    };
    // F16 and BF16 have no blocks: four numbers are one, and begin at a word.
    let (block, bytes) = match kind.block() {
        1 => (4, 4 * kind.block_bytes()),
        block => (block, kind.block_bytes()),
    };
    format!(
        "{READERS}{scales}
fn w4(row: u32, column: u32) -> vec4f {{
  let e = column % {block}u;
  let at = (row * ({inner} / {block}u) + column / {block}u) * {bytes}u;
  {body}
}}
"
    )
}

/// `size` = ids, numbers a row, rows of the matrix.
pub fn rows(kind: GgmlType) -> String {
    let reader = reader(kind, "size[1]");
    format!(
        "
@group(0) @binding(0) var<storage, read_write> IDS: array<u32>;
@group(0) @binding(1) var<storage, read_write> B: array<u32>;
@group(0) @binding(2) var<storage, read_write> Y: array<vec4f>;
@group(0) @binding(3) var<storage, read> size: array<u32>;
{reader}
@compute @workgroup_size(64) fn main(@builtin(workgroup_id) wg: vec3u, @builtin(num_workgroups) wgs: vec3u, @builtin(local_invocation_index) local: u32) {{
  let id = (wg.y * wgs.x + wg.x) * 64u + local;
  let quads = size[1] / 4u;
  if (id >= size[0] * quads) {{ return; }}
  Y[id] = w4(IDS[id / quads], id % quads * 4u);
}}
"
    )
}
