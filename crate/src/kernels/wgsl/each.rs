//! A thread computes one number of the result.

/// `size` = numbers in all.
pub const SWIGLU: &str = "
@group(0) @binding(0) var<storage, read_write> X: array<T0>;
@group(0) @binding(1) var<storage, read_write> U: array<T1>;
@group(0) @binding(2) var<storage, read_write> Y: array<T2>;
@group(0) @binding(3) var<storage, read> size: array<u32>;
@compute @workgroup_size(64) fn main(@builtin(workgroup_id) wg: vec3u, @builtin(num_workgroups) wgs: vec3u, @builtin(local_invocation_index) local: u32) {
  let i = (wg.y * wgs.x + wg.x) * 64u + local;
  if (i >= size[0]) { return; }
  let x = f32(X[i]);
  // Beyond 80 the exponential would leave the numbers that WGSL promises.
  Y[i] = T2(x / (1f + exp(min(-x, 80f))) * f32(U[i]));
}
";

/// `size` = numbers in all.
pub const SWIGLU_GRAD: &str = "
@group(0) @binding(0) var<storage, read_write> X: array<T0>;
@group(0) @binding(1) var<storage, read_write> U: array<T1>;
@group(0) @binding(2) var<storage, read_write> G: array<T2>;
@group(0) @binding(3) var<storage, read_write> Y: array<T3>;
@group(0) @binding(4) var<storage, read> size: array<u32>;
@compute @workgroup_size(64) fn main(@builtin(workgroup_id) wg: vec3u, @builtin(num_workgroups) wgs: vec3u, @builtin(local_invocation_index) local: u32) {
  let i = (wg.y * wgs.x + wg.x) * 64u + local;
  if (i >= size[0]) { return; }
  let x = f32(X[i]);
  let s = 1f / (1f + exp(min(-x, 80f)));
  Y[i] = T3(f32(G[i]) * f32(U[i]) * s * (1f + x * (1f - s)));
}
";

/// `size` = rows and columns.
pub const EXP_SUMS: &str = "
@group(0) @binding(0) var<storage, read_write> X: array<T0>;
@group(0) @binding(1) var<storage, read_write> TOP: array<T1>;
@group(0) @binding(2) var<storage, read_write> Y: array<T2>;
@group(0) @binding(3) var<storage, read> size: array<u32>;
@compute @workgroup_size(64) fn main(@builtin(workgroup_id) wg: vec3u, @builtin(num_workgroups) wgs: vec3u, @builtin(local_invocation_index) local: u32) {
  let row = (wg.y * wgs.x + wg.x) * 64u + local;
  if (row >= size[0]) { return; }
  let columns = size[1]; let at = row * columns; let top = f32(TOP[row]);
  var sum = 0f;
  for (var i = 0u; i < columns; i++) { sum += exp(f32(X[at + i]) - top); }
  Y[row] = T2(sum);
}
";

/// `size` = numbers in all, and columns.
pub const EXP_SCALED: &str = "
@group(0) @binding(0) var<storage, read_write> X: array<T0>;
@group(0) @binding(1) var<storage, read_write> L: array<T1>;
@group(0) @binding(2) var<storage, read_write> S: array<T2>;
@group(0) @binding(3) var<storage, read_write> Y: array<T3>;
@group(0) @binding(4) var<storage, read> size: array<u32>;
@compute @workgroup_size(64) fn main(@builtin(workgroup_id) wg: vec3u, @builtin(num_workgroups) wgs: vec3u, @builtin(local_invocation_index) local: u32) {
  let i = (wg.y * wgs.x + wg.x) * 64u + local;
  if (i >= size[0]) { return; }
  let row = i / size[1];
  Y[i] = T3(exp(f32(X[i]) - f32(L[row])) * f32(S[row]));
}
";

/// `size` = numbers in all, unused, and the bits of [`AdamWRule`](crate::kernels::AdamWRule)'s numbers. `M` has the first moments, then the second.
pub const ADAMW: &str = "
@group(0) @binding(0) var<storage, read_write> V: array<T0>;
@group(0) @binding(1) var<storage, read_write> G: array<T1>;
@group(0) @binding(2) var<storage, read_write> M: array<T2>;
@group(0) @binding(3) var<storage, read_write> F: array<T3>;
@group(0) @binding(4) var<storage, read_write> W: array<T4>;
@group(0) @binding(5) var<storage, read_write> N: array<T5>;
@group(0) @binding(6) var<storage, read> size: array<u32>;
fn number(i: u32) -> f32 { return bitcast<f32>(size[i + 2u]); }
@compute @workgroup_size(64) fn main(@builtin(workgroup_id) wg: vec3u, @builtin(num_workgroups) wgs: vec3u, @builtin(local_invocation_index) local: u32) {
  let i = (wg.y * wgs.x + wg.x) * 64u + local;
  let all = size[0];
  if (i >= all) { return; }
  let g = f32(G[i]) * f32(F[0]);
  let m = f32(M[i]) * number(0u) + g * number(1u);
  let v = f32(M[all + i]) * number(2u) + g * g * number(3u);
  N[i] = T5(m);
  N[all + i] = T5(v);
  let update = m / (sqrt(v) / number(5u) + number(4u));
  W[i] = T4(f32(V[i]) * number(7u) - update * number(6u));
}
";
